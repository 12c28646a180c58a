package smtp

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/application/message"
)

// script is a connection whose peer says what is in it and hangs up.
type script struct {
	in  io.Reader
	out bytes.Buffer
	n   int // octets a read gives at most
}

func (s *script) Read(p []byte) (int, error) { return s.in.Read(p[:min(len(p), s.n)]) }

func (s *script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 25} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// checkReplies holds what a server sent against RFC 5321 §4.2, §4.3.2, §4.5.3.1.5 and RFC 2034 §4.
func checkReplies(t *testing.T, sent []byte) (replies int) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(sent))
	code, hello := "", false // of the reply being read
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			if line != "" {
				t.Fatalf("unfinished reply %q", line)
			}
			break
		}
		text, ok := strings.CutSuffix(line, "\r\n")
		if !ok || len(line) > 512 || len(text) < 4 || !isPrintable(strings.ReplaceAll(text, "\t", " ")) {
			t.Fatalf("malformed reply %q", line)
		}
		if text[0] < '2' || text[0] > '5' || !isDigits(text[:3]) || text[3] != ' ' && text[3] != '-' {
			t.Fatalf("malformed code in %q", line)
		}
		if code != "" && text[:3] != code {
			t.Fatalf("code %s goes on with %q", code, line)
		}
		if code == "" {
			hello = text[0] == '3' || text[:3] == "220" && replies == 0 || strings.HasPrefix(text[4:], "light.example") && text[:3] == "250" || strings.Contains(text, "want a domain")
		}
		e, _ := parseEnhanced(int(text[0]-'0')*100, text[4:])
		if (e == [3]int{}) != hello {
			t.Fatalf("enhanced code in %q", line)
		}
		if code = text[:3]; text[3] == ' ' {
			code = ""
			replies++
		}
	}
	if code != "" {
		t.Fatalf("reply %s has no last line", code)
	}
	return replies
}

// FuzzSession runs whole sessions. Whatever the client says, the server's replies are well formed, and it takes nothing
// that is not a whole message.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: x\r\n\r\n..\r\n.\r\nQUIT\r\n",
		"EHLO a\r\nMAIL FROM:<> SIZE=9 BODY=8BITMIME SMTPUTF8 AUTH=<>\r\nRCPT TO:<Postmaster>\r\nBDAT 3\r\nabcBDAT 2 LAST\r\n\r\nRSET\r\n",
		"EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<nobody@d.example>\r\nDATA\r\nBDAT 5\r\nQUIT\r\nRSET\r\nVRFY a\r\nHELP\r\nNOOP\r\n",
		"HELO [192.0.2.1]\r\nAUTH TEST\r\nEHLO x\r\nAUTH TEST a2VlcGVy\r\nAUTH TEST\r\n*\r\nSTARTTLS\r\nATRN\r\n",
		"EHLO a\r\nMAIL FROM:<panic@b.example>\r\n",
		"EHLO a\r\nAUTH TEST\r\na2VlcGVy\r\nATRN\r\n",
		"EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\na\nb\r\n.\r\nFOO\n\r\nBDAT 1 LAST\r\n\n",
	} {
		f.Add(s, 1000, byte(0))
		f.Add(s, 1, byte(1))
		f.Add(s, 7, byte(2))
		f.Add(s, 9, byte(129))
	}
	f.Add("EHLO a\r\nETRN @a.example\r\nMAIL FROM:<a@b.example> RET=HDRS ENVID=a MT-PRIORITY=3 BY=60;RT BODY=BINARYMIME\r\n"+
		"RCPT TO:<c@d.example> NOTIFY=DELAY ORCPT=rfc822;c\r\nDATA\r\nBDAT 2 LAST\r\n\n\n", 1000, byte(129))
	f.Fuzz(func(t *testing.T, s string, n int, protocol byte) {
		if n < 1 {
			return
		}
		st := &store{}
		srv := newServer(st)
		srv.Protocol, srv.Auth, srv.Limits.MessageSize = Protocol(protocol%3), guard{}, 4096
		srv.Extensions = []Extension{{Verb: "ATRN", Keyword: "ATRN", Run: turn}}
		if protocol >= 128 {
			srv.Offer, srv.Limits.RecipientDomains = everything, 2
			srv.Etrn = func(_ context.Context, _ *Session, node string) Reply { return queues[node] }
		}
		conn := &script{in: bytes.NewReader([]byte(s)), n: n}
		err := srv.Serve(t.Context(), NewConn(conn))
		checkReplies(t, conn.out.Bytes())
		for i := range st.mails {
			text := st.text(t, i)
			if len(text) > 4096 {
				t.Fatalf("a message of %d octets", len(text))
			}
			binary := st.mails[i].env.Body == message.BodyBinary
			if rest := strings.ReplaceAll(text, "\r\n", ""); !binary && strings.ContainsAny(rest, "\r\n") {
				t.Fatalf("bare CR or LF in %q", text)
			}
			if len(st.mails[i].env.Recipients) == 0 {
				t.Fatal("nobody's message")
			}
		}
		if err == nil && !bytes.Contains(conn.out.Bytes(), []byte("221 2.0.0")) {
			t.Fatal("ended well without QUIT")
		}
	})
}

// FuzzClient lets the client read what a fuzzer says. It must end, and believe no more than it was told: an accepted
// recipient needs at least the replies that make it so.
func FuzzClient(f *testing.F) {
	f.Add("220 a\r\n250-a\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n221 bye\r\n")
	f.Add("220 a\r\n250-a\r\n250-CHUNKING\r\n250 PIPELINING\r\n250 ok\r\n550 no\r\n554 no\r\n")
	f.Add("220 a\r\n250-a\r\n250 CHUNKING\r\n250 ok\r\n250 ok\r\n250 ok\r\n")
	for _, keywords := range []string{"250-CHUNKING\r\n250 PIPELINING", "250-LIMITS MAILMAX=3 RCPTMAX=1\r\n250 PIPELINING", "250 CHUNKING"} {
		f.Add("220 a\r\n250-a\r\n" + keywords + "\r\n" + strings.Repeat("250 ok\r\n250 ok\r\n354 ok\r\n550 no\r\n", 8))
		f.Add("220 a\r\n250-a\r\n" + keywords + "\r\n" + strings.Repeat("250 ok\r\n", 30))
	}
	f.Add("220 a\r\n502 no\r\n250 a\r\n250\r\n250\r\n354\r\n250\r\n")
	f.Fuzz(func(t *testing.T, s string) {
		near, far := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(io.Discard, near) })
		wg.Go(func() {
			io.WriteString(near, s)
			near.Close()
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c := NewClient(NewConn(far), "site.example", Timeouts{})
		if err := c.Greet(ctx); err == nil {
			env := recipients("a", "b")
			replies, _ := c.Send(ctx, envelope(env), strings.NewReader(hello), int64(len(hello)))
			for _, r := range replies {
				if r.Code != 0 && (r.Code < 200 || r.Code > 599) {
					t.Fatalf("reply %v", r)
				}
				if r.Positive() && strings.Count(s, "\n") < 5 {
					t.Fatalf("%q was believed", s)
				}
			}
			results := make([][]Reply, 3)
			texts := []string{letter(0), strings.Repeat("x", eagerSize+2), letter(2)}
			if err := c.SendMany(ctx, outgoing(texts, results, "a", "b"), 2); err == nil {
				for i, replies := range results {
					if len(replies) != 2 || replies[0].Code == 0 || replies[1].Code == 0 {
						t.Fatalf("message %d of %q: %v and no error", i, s, replies)
					}
				}
			}
			_ = c.Quit(ctx)
		}
		if ctx.Err() != nil {
			t.Fatal("it took five seconds")
		}
		far.Close()
		wg.Wait()
	})
}

// watcher is an Acceptor that notes how its reading ended.
type watcher struct{ err error }

func (w *watcher) Accept(_ context.Context, _ *message.Envelope, body io.Reader) error {
	_, w.err = io.ReadAll(body)
	return w.err
}

// RFC 3030 §2: what ends between chunks, or inside one, was never a message: the Acceptor must see an error, not the end.
func TestAborted(t *testing.T) {
	const begin = "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n"
	for _, rest := range []string{
		"BDAT 3\r\na\r\nRSET\r\n", "BDAT 3\r\na\r\nEHLO a\r\n", "BDAT 3\r\na\r\nHELO a\r\n", "BDAT 3\r\na\r\nQUIT\r\n", "BDAT 3\r\na\r\n",
		"BDAT 3\r\na\r\nNOOP\r\nFOO\r\n", "BDAT 4 LAST\r\na\r\n", "BDAT 3\r\na\r\nBDAT 1 LA", "DATA\r\n", "DATA\r\na\r\n", "DATA\r\na\r\n.", "DATA\r\na\r\n.\r",
		"BDAT 3\r\na\r\n" + strings.Repeat("FOO\r\n", 60),
	} {
		w := &watcher{}
		conn := &script{in: strings.NewReader(begin + rest), n: 1000}
		_ = newServer(w).Serve(t.Context(), NewConn(conn))
		if w.err == nil {
			t.Errorf("%q is a message", rest)
		}
		checkReplies(t, conn.out.Bytes())
		if strings.Contains(conn.out.String(), "accepted") {
			t.Errorf("%q was accepted", rest)
		}
	}
}

// faulty panics where it is asked to keep mail.
type faulty struct{}

func (faulty) Accept(context.Context, *message.Envelope, io.Reader) error { panic("disk driver") }

// A fault in a handler ends its session with 421 and an error, and no more than that.
func TestPanic(t *testing.T) {
	const mail = "MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n"
	for _, s := range []string{"DATA\r\na\r\n.\r\n", "BDAT 1 LAST\r\na"} {
		conn := &script{in: strings.NewReader("EHLO a\r\n" + mail + s + "NOOP\r\n"), n: 1000}
		if err := newServer(faulty{}).Serve(t.Context(), NewConn(conn)); err == nil {
			t.Errorf("%q: no error", s)
		}
		checkReplies(t, conn.out.Bytes())
		if out := conn.out.String(); !strings.HasSuffix(out, "421 4.3.0 light.example internal error, closing connection\r\n") {
			t.Errorf("%q: %q", s, out)
		}
	}
}

// lazy accepts without reading, or refuses so.
type lazy struct{ err error }

func (l lazy) Accept(context.Context, *message.Envelope, io.Reader) error { return l.err }

// What the Acceptor left unread is read all the same, and what is wrong with it counts.
func TestUnread(t *testing.T) {
	const mail = "EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n"
	for _, c := range []struct {
		text string
		err  error
		want string // the replies behind the envelope's
	}{
		{"DATA\r\na\r\n.\r\nQUIT\r\n", nil, "354 250 221"},
		{"DATA\r\na\nb\r\n.\r\nQUIT\r\n", nil, "354 554 221"},
		{"DATA\r\na\r\n.\r\nQUIT\r\n", replyLocal, "354 451 221"},
		{"DATA\r\na\nb\r\n.\r\nQUIT\r\n", replyLocal, "354 554 221"},
		{"BDAT 3\r\na\r\nBDAT 3 LAST\r\nb\r\nQUIT\r\n", nil, "250 250 221"},
		{"BDAT 3\r\na\n\nBDAT 3 LAST\r\nb\r\nQUIT\r\n", nil, "554 503 221"},
		{"BDAT 3\r\na\r\nBDAT 3 LAST\r\nb\r\nQUIT\r\n", replyLocal, "451 503 221"},
		{"BDAT 3\r\na\r\nRSET\r\nQUIT\r\n", nil, "250 250 221"},
	} {
		conn := &script{in: strings.NewReader(mail + c.text), n: 1000}
		if err := newServer(lazy{c.err}).Serve(t.Context(), NewConn(conn)); err != nil {
			t.Errorf("%q: %v", c.text, err)
		}
		var codes []string
		for line := range strings.Lines(conn.out.String()) {
			if line[3] == ' ' {
				codes = append(codes, line[:3])
			}
		}
		if got := strings.Join(codes[4:], " "); got != c.want {
			t.Errorf("%q after %v: %s, want %s", c.text, c.err, got, c.want)
		}
	}
}

// Refuse says its reply instead of a greeting (RFC 5321 §3.1).
func TestRefuse(t *testing.T) {
	conn := &script{in: strings.NewReader(""), n: 1}
	if err := newServer(nil).Refuse(NewConn(conn), Reply{421, [3]int{4, 7, 0}, "too many connections"}); err != nil {
		t.Fatal(err)
	}
	if got := conn.out.String(); got != "421 4.7.0 light.example too many connections\r\n" {
		t.Errorf("%q", got)
	}
}

// That somebody has to wait is no fault of ours.
func TestLogFailures(t *testing.T) {
	for say, want := range map[string]string{"wrong": "level=WARN", "fast": "level=WARN", "later": "level=ERROR"} {
		var log bytes.Buffer
		s := &Session{server: &Server{Log: slog.New(slog.NewTextHandler(&log, nil))}, Peer: netip.MustParseAddrPort("192.0.2.1:1024")}
		s.limits.AuthFailures = 3
		_, _, err := (&question{}).Next(t.Context(), []byte(say))
		s.failAuth("TEST", err)
		if got := log.String(); !strings.Contains(got, want) || !strings.Contains(got, "peer=192.0.2.1:1024 ") {
			t.Errorf("%s: %s, want %s", say, got, want)
		}
	}
}
