package submission

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/lib/sim"
)

// commands is the most that a session says beside text, in octets: EHLO, MAIL, RCPT, some BDAT and QUIT.
const commands = 300

// farAway is a submission server behind a link whose connections are cut, one after the other.
type farAway struct {
	server  *smtp.Server
	link    sim.Path        // of each connection, but for its cut
	cuts    []int64         // octets of the client; 0: nobody is there
	losses  []time.Duration // after which what is under way is lost
	written atomic.Int64
}

func (f *farAway) dial(context.Context, string, string) (net.Conn, error) {
	path := f.link
	if len(f.cuts) > 0 {
		at := f.cuts[0]
		f.cuts = f.cuts[1:]
		if at == 0 {
			return nil, syscall.ECONNREFUSED
		}
		path.Cut = &sim.Cut{Side: sim.Dialer, After: at, How: sim.Reset}
	}
	near, far := sim.Pipe(path)
	if len(f.losses) > 0 {
		time.AfterFunc(f.losses[0], func() { near.Break(sim.Lost) })
		f.losses = f.losses[1:]
	}
	go func() {
		defer far.Close()
		_ = f.server.Serve(context.Background(), smtp.NewConn(far)) // how it ends is the cut's doing
		f.written.Add(near.Left())
	}()
	return near, nil
}

// all keeps every message, and remembers none: the replies are heard here.
type all []string

func (a *all) Accept(_ context.Context, _ *message.Envelope, body io.Reader) error {
	text, err := io.ReadAll(body)
	if err == nil {
		*a = append(*a, string(text))
	}
	return err
}

func far(next smtp.Acceptor, cuts ...int64) (*farAway, *Sender) {
	a := agent(home, Config{Plaintext: true}, next)
	f := &farAway{server: a.Server(nil, keeperOnly{}), cuts: cuts}
	return f, &Sender{Hostname: "desk.light.example", Server: "mail.light.example:587", TLS: "none", Dial: f.dial, Patience: 10 * time.Minute}
}

var farEnvelope = &message.Envelope{
	ReversePath: message.Address{Local: "keeper", Domain: "light.example"},
	Recipients:  []message.Recipient{{Address: message.Address{Local: "doctor", Domain: "hospital.example"}}},
}

// TestSenderGoesOn holds that a message over a link that is cut ten times arrives once, and that little of it is sent twice.
func TestSenderGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := "From: keeper@light.example\r\nSubject: x-ray\r\n\r\n" + strings.Repeat("a line of the picture\r\n", 50_000)
		var next all
		f, s := far(&next, 100_000, 120_000, 0, 150_000, 90_000, 100_000, 0, 0, 100_000, 50_000)
		f.server.Identify = func(net.Conn) string { return "keeper" }
		var attempts []Attempt
		s.Progress = func(a Attempt) { attempts = append(attempts, a) }
		replies, err := s.Send(t.Context(), farEnvelope, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }, int64(len(text)))
		synctest.Wait()
		if err != nil || replies[0].Code != 250 || len(attempts) != 10 || len(next) != 1 || !strings.HasSuffix(next[0], text[60:]) {
			t.Fatalf("%v %v after %d attempts, %d messages", replies, err, len(attempts), len(next))
		}
		// The cuts lose nothing that left: only the line that each falls into comes again.
		if most := int64(len(text)) + 8*commands + 7*int64(len("a line of the picture\r\n")); f.written.Load() > most {
			t.Errorf("%d octets were sent for %d", f.written.Load(), len(text))
		}
	})
}

// TestSenderOnThinLink holds that a cut costs what the link held at that moment, the line it fell into and the commands of a session, and nothing else.
func TestSenderOnThinLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, delay = 16_000, 300 * time.Millisecond
		text := "Subject: x-ray\r\n\r\n" + strings.Repeat("a line of the picture\r\n", 40_000)
		var next all
		f, s := far(&next)
		f.link = sim.Path{Rate: rate, Delay: delay}
		for i := range 10 {
			f.losses = append(f.losses, 6*time.Second+time.Duration(i)*123*time.Millisecond)
		}
		f.server.Identify = func(net.Conn) string { return "keeper" }
		attempts := 0
		s.Progress = func(Attempt) { attempts++ }
		replies, err := s.Send(t.Context(), farEnvelope, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }, int64(len(text)))
		synctest.Wait()
		if err != nil || replies[0].Code != 250 || attempts != 10 || len(next) != 1 {
			t.Fatalf("%v %v after %d attempts, %d messages", replies, err, attempts, len(next))
		}
		const held, packet = int64(rate * delay / time.Second), 1460
		extra := f.written.Load() - int64(len(text))
		if most := 11*commands + 10*(held+packet+int64(len("a line of the picture\r\n"))); extra > most {
			t.Errorf("%d octets too many were sent, the link explains %d", extra, most)
		}
	})
}

// TestSenderGivesUp holds that a server which is not there is waited for, longer each time, and no longer than the patience lasts; one that
// refuses for good is not.
func TestSenderGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := far(nil, make([]int64, 1000)...)
		var waits []time.Duration
		s.Progress = func(a Attempt) { waits = append(waits, a.Wait) }
		body := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }
		_, err := s.Send(t.Context(), farEnvelope, body, 1)
		if !errors.Is(err, syscall.ECONNREFUSED) || len(waits) < 10 || waits[0] != time.Second || waits[3] != 8*time.Second || waits[9] != time.Minute {
			t.Errorf("%v after %v", err, waits)
		}
		_, s = far(nil)
		s.Username, s.Password = "keeper", "wrong"
		s.TLS = "required"
		if _, err := s.Send(t.Context(), farEnvelope, body, 1); !errors.Is(err, errFinal) {
			t.Error(err)
		}
	})
}
