package submission

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
)

// names is a Directory: which addresses each account may use.
type names map[string][]string

func (n names) MaySend(account string, a message.Address) bool {
	for _, name := range n[account] {
		if name == a.String() {
			return true
		}
	}
	return false
}

var people = names{"keeper": {"keeper@light.example", "lamp@light.example", "δ@xn--hxajbheg2az3al.example"}}

// kept is the queue's stand-in.
type kept struct {
	env  *message.Envelope
	body string
}

func (k *kept) Accept(_ context.Context, env *message.Envelope, body io.Reader) error {
	b, err := io.ReadAll(body)
	k.env, k.body = env, string(b)
	return err
}

var now = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

const (
	received = "Received: from desk\r\n\tby mail.light.example; Fri, 02 Jan 2026 15:04:05 +0000\r\n"
	date     = "Date: Fri, 02 Jan 2026 15:04:05 +0000\r\n"
)

// submit hands a message in as keeper and returns what the queue got.
func submit(t *testing.T, in string) (id, out string, err error) {
	t.Helper()
	var next kept
	a := New(Options{Next: &next, Directory: people, Hostname: "mail.light.example", Now: func() time.Time { return now }})
	env := &message.Envelope{ID: message.NewID(now), ReversePath: message.Address{Local: "keeper", Domain: "light.example"}, Account: "keeper"}
	err = a.Accept(t.Context(), env, strings.NewReader(in))
	return "Message-ID: <" + env.ID.String() + "@mail.light.example>\r\n", next.body, err
}

func TestAccept(t *testing.T) {
	const from, id = "From: Keeper <keeper@light.example>\r\n", "Message-ID: <1@light.example>\r\n"
	for _, c := range []struct{ name, in, want string }{
		{"complete", received + from + date + id + "\r\nbody\r\n", received + from + date + id + "\r\nbody\r\n"},
		{"no Date", received + from + id + "\r\nbody\r\n", received + from + id + date + "\r\nbody\r\n"}, // RFC 6409 §8.2
		{"empty Date", received + "Date: \r\n" + from + id + "\r\nbody\r\n", received + from + id + date + "\r\nbody\r\n"},
		{"no date as Date", received + from + "Date: yesterday\r\n" + id + "\r\n", received + from + date + id + "\r\n"}, // RFC 6409 §8.2
		{"odd Date", received + from + "Date: 2026-01-02T15:04:05Z\r\n" + id + "\r\n", received + from + date + id + "\r\n"},
		{"obsolete Date", received + from + "Date: 2 Jan 26 15:04 GMT\r\n" + id + "\r\n", received + from + "Date: 2 Jan 26 15:04 GMT\r\n" + id + "\r\n"},
		{"no Message-ID", received + from + date + "\r\nbody\r\n", received + from + date + "$ID\r\nbody\r\n"}, // RFC 6409 §8.3
		{"bad Message-ID", received + from + date + "Message-ID: 17\r\n\r\n", received + from + date + "$ID\r\n"},
		{"Message-ID with a comment", received + from + date + "Message-ID: (c)\r\n <a@b> (c)\r\n\r\n", received + from + date + "Message-ID: (c)\r\n <a@b> (c)\r\n\r\n"},
		{"Bcc", received + "Bcc: a@x.example,\r\n b@x.example\r\n" + from + date + id + "bcc: c@x.example\r\n\r\nBcc: body\r\n", received + from + date + id + "\r\nBcc: body\r\n"},
		{"Return-Path", "Return-Path: <a@x.example>\r\n" + received + from + date + id + "\r\n", received + from + date + id + "\r\n"}, // RFC 5321 §4.4
		{"no From", received + date + id + "\r\nbody\r\n", received + date + id + "From: keeper@light.example\r\n\r\nbody\r\n"},
		{"bare text", received + "the lamp is out\r\n", received + "From: keeper@light.example\r\n" + date + "$ID\r\nthe lamp is out\r\n"},
		{"nothing", "", "From: keeper@light.example\r\n" + date + "$ID"},
		{"other names", from + "Sender: lamp@light.example\r\n" + date + id + "\r\n", from + "Sender: lamp@light.example\r\n" + date + id + "\r\n"},
		{"two authors", "From: keeper@light.example, lamp@light.example\r\n" + date + id + "\r\n", "From: keeper@light.example, lamp@light.example\r\n" + date + id + "Sender: keeper@light.example\r\n\r\n"}, // RFC 5322 §3.6.2
		{"A-labels", "From: δ@παράδειγμα.example\r\n" + date + id + "\r\n", "From: δ@παράδειγμα.example\r\n" + date + id + "\r\n"},
		{"hidden recipients", from + "To: undisclosed-recipients:;\r\nCc: \r\n" + date + id + "\r\n", from + "To: undisclosed-recipients:;\r\nCc: \r\n" + date + id + "\r\n"},
		{"literal", from + "To: a@[192.0.2.1]\r\n" + date + id + "\r\n", from + "To: a@[192.0.2.1]\r\n" + date + id + "\r\n"},
		{"eight bits and NUL", from + date + id + "X: \xff\x00\r\n\r\n\x00\xff\n", from + date + id + "X: \xff\x00\r\n\r\n\x00\xff\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, out, err := submit(t, c.in)
			if want := strings.ReplaceAll(c.want, "$ID", id); err != nil || out != want {
				t.Errorf("%v\n got %q\nwant %q", err, out, want)
			}
		})
	}
}

func TestAcceptRefuses(t *testing.T) {
	const from = "From: keeper@light.example\r\n"
	const rights, form = "550 5.7.1", "554 5.6.0"
	for _, c := range []struct{ name, in, want string }{
		{"another's name", "From: doctor@hospital.example\r\n\r\n", rights}, // RFC 6409 §6.3
		{"another's name behind ours", "From: keeper@light.example, doctor@hospital.example\r\n\r\n", rights},
		{"ours as a display name", "From: \"keeper@light.example\" <doctor@hospital.example>\r\n\r\n", rights},
		{"ours as a comment", "From: (keeper@light.example) doctor@hospital.example\r\n\r\n", rights},
		{"another's Sender", from + "Sender: doctor@hospital.example\r\n\r\n", rights},
		{"very long name", "From: " + strings.Repeat("x", 10_000) + "@hospital.example\r\n\r\n", rights},
		{"two From", from + "from: doctor@hospital.example\r\n\r\n", form}, // RFC 5322 §3.6
		{"two From, the first odd", "From : keeper@light.example\r\n" + from + "\r\n", form},
		{"two Sender", from + "Sender: keeper@light.example\r\nSender: keeper@light.example\r\n\r\n", form},
		{"a field behind a bare LF", "Subject: x\nFrom: doctor@hospital.example\r\n" + from + "\r\n", form}, // RFC 5322 §2.2
		{"a field behind a bare CR", from + "Subject: x\rFrom: doctor@hospital.example\r\n\r\n", form},
		{"empty From", "From: \r\n\r\n", form},
		{"group without author", "From: nobody:;\r\n\r\n", form},
		{"unreadable From", "From: keeper@light.example doctor@hospital.example\r\n\r\n", form},
		{"empty Sender", from + "Sender:\r\n\r\n", form},
		{"unreadable To", from + "To: a b c\r\n\r\n", form},           // RFC 6409 §5.1
		{"unqualified To", from + "To: root@localhost\r\n\r\n", form}, // RFC 6409 §4.2
		{"local To", from + "To: root\r\n\r\n", form},
		{"unreadable second Resent-Cc", from + "Resent-Cc: a@x.example\r\nResent-Cc: @\r\n\r\n", form},
		{"two Cc", from + "Cc: a@x.example\r\nCc: b@x.example\r\n\r\n", form}, // RFC 5322 §3.6
		{"two Date", from + date + date + "\r\n", form},
		{"local network's To", from + "To: a@desk.local\r\n\r\n", form}, // RFC 6409 §4.2
		{"dotted quad To", from + "To: a@192.0.2.1\r\n\r\n", form},
		{"long header", from + strings.Repeat("X: "+strings.Repeat("y", 900)+"\r\n", 300) + "\r\n", form},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, out, err := submit(t, received+c.in)
			var r smtp.Reply
			if !errors.As(err, &r) || !strings.HasPrefix(r.Error(), c.want+" ") || len(r.Text) > maxReply || strings.ContainsAny(r.Text, "\r\n") {
				t.Errorf("%v, want %s", err, c.want)
			}
			if out != "" {
				t.Errorf("the queue got %q", out)
			}
		})
	}
}

func TestAcceptNullReversePath(t *testing.T) {
	var next kept
	a := New(Options{Next: &next, Directory: people, Hostname: "mail.light.example"})
	env := &message.Envelope{Account: "keeper"}
	if err := a.Accept(t.Context(), env, strings.NewReader("From: keeper@light.example\r\n\r\n")); err != nil { // RFC 6409 §3.2
		t.Error(err)
	}
	var r smtp.Reply
	if err := a.Accept(t.Context(), env, strings.NewReader("Subject: x\r\n\r\n")); !errors.As(err, &r) || r.Code != 554 {
		t.Errorf("nobody is the author: %v", err)
	}
	a.Directory = Anyone{}
	if err := a.Accept(t.Context(), &message.Envelope{}, strings.NewReader("From: doctor@hospital.example\r\n\r\n")); err != nil {
		t.Errorf("trusted: %v", err)
	}
}

func TestAcceptErrors(t *testing.T) {
	broken := errors.New("connection lost")
	var next kept
	a := New(Options{Next: &next, Directory: people})
	env := &message.Envelope{Account: "keeper"}
	if err := a.Accept(t.Context(), env, iotest.ErrReader(broken)); err != broken {
		t.Errorf("in the header: %v", err)
	}
	body := io.MultiReader(strings.NewReader("From: keeper@light.example\r\n\r\nx"), iotest.ErrReader(broken))
	if err := a.Accept(t.Context(), env, body); err != broken {
		t.Errorf("in the body: %v", err)
	}
	full := smtp.Reply{Code: 452, Enhanced: [3]int{4, 3, 1}, Text: "no room"}
	a.Next = refuser{full}
	if err := a.Accept(t.Context(), env, strings.NewReader("From: keeper@light.example\r\n\r\n")); err != full {
		t.Errorf("from the queue: %v", err)
	}
}

type refuser struct{ err error }

func (r refuser) Accept(context.Context, *message.Envelope, io.Reader) error { return r.err }

// TestAcceptStreams: 64 MiB pass through; only the header is ever held.
func TestAcceptStreams(t *testing.T) {
	const size = 64 << 20
	body := io.MultiReader(strings.NewReader("From: keeper@light.example\r\n\r\n"), io.LimitReader(zeros{}, size))
	var n counter
	a := New(Options{Next: &n, Directory: people})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := a.Accept(t.Context(), &message.Envelope{Account: "keeper"}, body); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if held := after.TotalAlloc - before.TotalAlloc; n < size || held > 1<<20 {
		t.Errorf("%d octets passed, %d allocated", n, held)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type counter int64

func (c *counter) Accept(_ context.Context, _ *message.Envelope, body io.Reader) error {
	n, err := io.Copy(io.Discard, body)
	*c = counter(n)
	return err
}

func TestPolicy(t *testing.T) {
	p := New(Options{Directory: people})
	keeper := &smtp.Session{Identity: "keeper"}
	for _, c := range []struct {
		session *smtp.Session
		from    message.Address
		want    string
	}{
		{&smtp.Session{}, message.Address{Local: "keeper", Domain: "light.example"}, "530 5.7.0"}, // RFC 6409 §4.3
		{keeper, message.Address{Local: "keeper", Domain: "light.example"}, ""},
		{keeper, message.Address{}, ""}, // RFC 6409 §3.2
		{keeper, message.Address{Local: "δ", Domain: "παράδειγμα.example"}, ""},
		{keeper, message.Address{Local: "doctor", Domain: "hospital.example"}, "550 5.7.1"}, // RFC 6409 §6.1
		{keeper, message.Address{Local: "doctör", Domain: "hospital.example"}, "550 5.7.1"},
		{keeper, message.Address{Local: "keeper", Domain: "light"}, "554 5.1.8"}, // RFC 6409 §4.2
	} {
		err := p.Mail(t.Context(), c.session, &message.Envelope{ReversePath: c.from})
		if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.HasPrefix(got, c.want) && c.want != "" || !isPrintable(got) {
			t.Errorf("%q sends as %s: %v, want %s", c.session.Identity, c.from, err, c.want)
		}
	}
	for _, c := range []struct {
		to   message.Address
		want string
	}{
		{message.Address{Local: "doctor", Domain: "hospital.example"}, ""},
		{message.Address{Local: "doctor", Domain: "[192.0.2.1]"}, ""},
		{message.Address{Local: "Postmaster"}, ""}, // RFC 5321 §4.5.1
		{message.Address{Local: "doctor", Domain: "hospital"}, "554 5.1.2"},
	} {
		err := p.Rcpt(t.Context(), keeper, &message.Envelope{}, &message.Recipient{Address: c.to})
		if c.want == "" && err != nil || c.want != "" && !strings.HasPrefix(fmt.Sprint(err), c.want) {
			t.Errorf("to %s: %v, want %s", c.to, err, c.want)
		}
	}
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// FuzzAccept: what is accepted has one From, of ours; a second pass changes nothing.
func FuzzAccept(f *testing.F) {
	f.Add("From: keeper@light.example\r\nBcc: a@x.example\r\n\r\nbody")
	f.Add("Subject: x\r\n y\r\nbody")
	f.Add("From: a\nb\r\n")
	f.Add("Resent-From: keeper@light.example\r\nResent-To: a@b.example\r\nFrom: keeper@light.example\r\n\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		id, out, err := submit(t, in)
		if err != nil {
			return
		}
		h, _, err := message.ReadHeader(strings.NewReader(out), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		from := h.All("From")
		if len(from) != 1 || h.Get("Date") == "" || !isMessageID(h.Get("Message-ID")) || h.Has("Bcc") || h.Has("Return-Path") {
			t.Fatalf("%q became %q", in, out)
		}
		list, err := message.ParseAddressList(from[0])
		if err != nil || len(list) == 0 {
			t.Fatalf("%q: %v", from[0], err)
		}
		_, again, err := submit(t, out)
		if err != nil || again != out {
			t.Fatalf("%q became %q, then %q, %v (%s)", in, out, again, err, id)
		}
	})
}

func BenchmarkAccept(b *testing.B) {
	in := received + "From: Keeper <keeper@light.example>\r\nTo: doctor@hospital.example\r\nSubject: the lamp\r\n" + strings.Repeat("X-Filler: "+strings.Repeat("z", 100)+"\r\n", 12) + "\r\nbody\r\n"
	var n counter
	a := New(Options{Next: &n, Directory: people, Hostname: "mail.light.example"})
	env := &message.Envelope{Account: "keeper"}
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if err := a.Accept(b.Context(), env, strings.NewReader(in)); err != nil {
			b.Fatal(err)
		}
	}
}
