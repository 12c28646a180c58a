package smtp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
)

// talk is a peer by hand in a synctest bubble: what it reads, it reads for ever.
type talk struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func newTalk(t *testing.T, nc net.Conn) *talk {
	t.Cleanup(func() { nc.Close() })
	return &talk{t, nc, bufio.NewReader(nc)}
}

// say writes s.
func (k *talk) say(s string) {
	k.t.Helper()
	if _, err := io.WriteString(k, s); err != nil {
		k.t.Fatalf("saying %.40q: %v", s, err)
	}
}

// hear reads one reply or command and compares its beginning.
func (k *talk) hear(want string) {
	k.t.Helper()
	for {
		line, err := k.r.ReadString('\n')
		if err != nil {
			k.t.Fatalf("hearing %q: %v", want, err)
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, want) {
			k.t.Fatalf("heard %q, want %q", line, want)
		}
		return
	}
}

// start runs a server in the bubble.
func start(t *testing.T, ctx context.Context, srv *Server) (*talk, <-chan error) {
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() {
		defer far.Close()
		done <- srv.Serve(ctx, NewConn(far))
	}()
	return newTalk(t, near), done
}

// RFC 5321 §4.5.3.2.7: five minutes for a command, and not a second of them from the command before.
func TestCommandTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, done := start(t, t.Context(), newServer(&store{}))
		k.hear("220 ")
		time.Sleep(299 * time.Second)
		k.say("NOOP\r\n")
		k.hear("250 ")
		begin := time.Now()
		k.say("NO") // half a line buys nothing
		time.Sleep(4 * time.Minute)
		k.say("O")
		k.hear("421 4.4.2")
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != 5*time.Minute {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
}

// RFC 5321 §4.5.3.2.5: three minutes of silence in the text; and a peer that sends an octet a minute is not silent, but slow.
func TestDataTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		octets string
		every  time.Duration
		least  time.Duration
		most   time.Duration
	}{
		"silence":            {"", time.Hour, 3 * time.Minute, 3 * time.Minute},
		"an octet a minute":  {"a", time.Minute, 3 * time.Minute, 4 * time.Minute},
		"63 octets a second": {strings.Repeat("a", 63), time.Second, time.Minute, 4 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := &store{}
				k, done := start(t, t.Context(), newServer(st))
				k.hear("220 ")
				k.say("HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n")
				for _, want := range []string{"250 ", "250 ", "250 ", "354 "} {
					k.hear(want)
				}
				begin := time.Now()
				over := make(chan struct{})
				go func() {
					for {
						select {
						case <-time.After(c.every):
						case <-over:
							return
						}
						if _, err := io.WriteString(k, c.octets); err != nil {
							return
						}
					}
				}()
				k.hear("421 4.4.2")
				close(over)
				if took := time.Since(begin); took < c.least || took > c.most {
					t.Errorf("after %v", took)
				}
				if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) || len(st.mails) > 0 {
					t.Errorf("%v, %d mails", err, len(st.mails))
				}
				k.Close()
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // 65 octets a second are fast enough, for an hour
		st := &store{}
		k, done := start(t, t.Context(), newServer(st))
		k.hear("220 ")
		k.say("HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n")
		for _, want := range []string{"250 ", "250 ", "250 ", "354 "} {
			k.hear(want)
		}
		for range 3600 {
			time.Sleep(time.Second)
			k.say(strings.Repeat("a", 65))
		}
		k.say("\r\n.\r\nQUIT\r\n")
		k.hear("250 2.0.0")
		k.hear("221 ")
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// RFC 5321 §3.8: the end of ctx is 421, at once to who is idle, else when the message is taken.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("going home")
		ctx, cancel := context.WithCancelCause(t.Context())
		idle, idleDone := start(t, ctx, newServer(&store{}))
		idle.hear("220 ")
		time.Sleep(time.Minute)
		st := &store{}
		k, done := start(t, ctx, newServer(st))
		k.hear("220 ")
		k.say("HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n")
		for _, want := range []string{"250 ", "250 ", "250 ", "354 "} {
			k.hear(want)
		}
		k.say("Subject: x\r\n")
		chunks, chunksDone := start(t, ctx, newServer(st))
		chunks.hear("220 ")
		chunks.say("EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nBDAT 3\r\na\r\n")
		for range 4 {
			chunks.hear("250 ")
		}

		begin := time.Now()
		cancel(why)
		idle.hear("421 4.3.2")
		if err := <-idleDone; !errors.Is(err, why) || time.Since(begin) != 0 {
			t.Errorf("idle session ended after %v with %v", time.Since(begin), err)
		}
		// Between chunks is a command boundary.
		chunks.hear("421 4.3.2")
		if err := <-chunksDone; !errors.Is(err, why) {
			t.Error(err)
		}
		time.Sleep(2 * time.Minute)
		k.say("\r\nstill here\r\n.\r\nQUIT\r\n")
		k.hear("250 2.0.0")
		k.hear("421 4.3.2")
		if err := <-done; !errors.Is(err, why) {
			t.Error(err)
		}
		if got := st.text(t, 0); got != "Subject: x\r\n\r\nstill here\r\n" {
			t.Errorf("%q", got)
		}
		if len(st.mails) != 1 {
			t.Errorf("%d mails", len(st.mails))
		}
	})
}

// RFC 5321 §4.5.3.2: the client's waits, each for its reply.
func TestClientTimeouts(t *testing.T) {
	timeouts := Timeouts{}.or()
	for name, c := range map[string]struct {
		replies []string // before the silence
		want    time.Duration
	}{
		"greeting": {nil, timeouts.Greeting},
		"EHLO":     {[]string{"220 a\r\n"}, timeouts.Command},
		"MAIL":     {[]string{"220 a\r\n", "250 a\r\n"}, timeouts.Mail},
		"RCPT":     {[]string{"220 a\r\n", "250 a\r\n", "250 ok\r\n"}, timeouts.Rcpt},
		"DATA":     {[]string{"220 a\r\n", "250 a\r\n", "250 ok\r\n", "250 ok\r\n"}, timeouts.DataInit},
		"end":      {[]string{"220 a\r\n", "250 a\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"}, timeouts.DataDone},
		"half":     {[]string{"220 a\r\n", "250 a\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n", "250 o"}, timeouts.DataDone},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				k := newTalk(t, near)
				go func() {
					for _, r := range c.replies {
						io.WriteString(k, r)
					}
					io.Copy(io.Discard, k)
				}()
				go io.Copy(io.Discard, near)
				begin := time.Now()
				client := NewClient(NewConn(far), "site.example", Timeouts{})
				err := client.Greet(t.Context())
				if err == nil {
					_, err = client.Send(t.Context(), &message.Envelope{Recipients: recipients("a")}, strings.NewReader(hello), int64(len(hello)))
				}
				if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != c.want {
					t.Errorf("after %v: %v, want %v", time.Since(begin), err, c.want)
				}
				far.Close()
			})
		})
	}
}

// A peer that takes no more text is given up after three minutes (RFC 5321 §4.5.3.2.5), however long it took what it took.
func TestClientDataBlock(t *testing.T) {
	body := strings.Repeat("a line\r\n", 100_000)
	for drop, replies := range map[string][]string{
		"CHUNKING":   {"250 ok\r\n", "250 ok\r\n", "354 go\r\n"},
		"PIPELINING": {"250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "250 ok\r\n"}, // four chunks
		"":           {"250 ok\r\n", "250 ok\r\n", "250 ok\r\n"},
	} {
		t.Run("without "+drop, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				go func() {
					for _, r := range append([]string{"220 a\r\n", "250-a\r\n250-PIPELINING\r\n250 CHUNKING\r\n"}, replies...) {
						io.WriteString(near, r)
					}
				}()
				stalled := make(chan time.Time, 1)
				go func() {
					for range 20 { // a slow line is no dead one
						time.Sleep(time.Minute)
						if _, err := io.CopyN(io.Discard, near, blockSize); err != nil {
							t.Errorf("given up too early: %v", err)
						}
					}
					stalled <- time.Now()
				}()
				client := NewClient(NewConn(far), "site.example", Timeouts{})
				if err := client.Greet(t.Context()); err != nil {
					t.Fatal(err)
				}
				delete(client.keywords, drop)
				replies, err := client.Send(t.Context(), &message.Envelope{Recipients: recipients("a")}, strings.NewReader(body), int64(len(body)))
				if took := time.Since(<-stalled); !errors.Is(err, os.ErrDeadlineExceeded) || took > 3*time.Minute || replies[0] != (Reply{}) {
					t.Errorf("after %v: %v, %v", took, err, replies[0])
				}
				near.Close()
				far.Close()
			})
		})
	}
}

// The end of ctx ends a client's wait at once.
func TestClientContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("link down")
		near, far := net.Pipe()
		k := newTalk(t, near)
		go func() {
			io.WriteString(k, "220 a\r\n")
			io.Copy(io.Discard, k)
		}()
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		begin := time.Now()
		client := NewClient(NewConn(far), "site.example", Timeouts{})
		if err := client.Greet(ctx); !errors.Is(err, why) || time.Since(begin) != time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		if err := client.Noop(t.Context()); !errors.Is(err, why) {
			t.Errorf("then %v", err)
		}
		far.Close()
	})
}

// A peer that keeps its session alive is welcome to it; one that only makes work is not.
func TestIdle(t *testing.T) {
	for name, c := range map[string]struct {
		every time.Duration
		most  int // commands before 421; 0: none comes
	}{
		"every four minutes": {4 * time.Minute, 0},
		"every second":       {time.Second, 100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, done := start(t, t.Context(), newServer(&store{}))
				k.hear("220 ")
				for n := 1; n <= 500; n++ {
					time.Sleep(c.every)
					k.say("NOOP\r\n")
					if n > c.most && c.most > 0 {
						k.hear("421 4.7.0")
						break
					}
					k.hear("250 ")
				}
				k.Close()
				if err := <-done; errors.Is(err, ErrRefused) != (c.most > 0) {
					t.Error(err)
				}
			})
		})
	}
}

// A peer that answers before it is asked has not answered: nothing counts as accepted, nothing as refused.
func TestAnswersUnasked(t *testing.T) {
	for name, replies := range map[string][]string{
		"at MAIL, one for RCPT":   {"250 ok\r\n250 ok\r\n", "550 no\r\n"},
		"at RCPT, one for DATA":   {"250 ok\r\n", "250 ok\r\n550 no\r\n"},
		"at DATA, one for a text": {"250 ok\r\n", "250 ok\r\n", "354 go\r\n250 ok\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				k := newTalk(t, near)
				go func() {
					io.WriteString(k, "220 a\r\n")
					for _, r := range append([]string{"250 a\r\n"}, replies...) {
						if _, err := k.r.ReadString('\n'); err != nil {
							return
						}
						io.WriteString(k, r)
					}
					io.Copy(io.Discard, k)
				}()
				client := NewClient(NewConn(far), "site.example", Timeouts{})
				if err := client.Greet(t.Context()); err != nil {
					t.Fatal(err)
				}
				replies, err := client.Send(t.Context(), &message.Envelope{Recipients: recipients("a")}, strings.NewReader(hello), int64(len(hello)))
				if !errors.Is(err, ErrOutOfStep) || replies[0] != (Reply{}) {
					t.Errorf("%v, %v", err, replies)
				}
				far.Close()
			})
		})
	}
}
