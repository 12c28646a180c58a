package pop3

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/mailbox"
	"bothy/application/message"
	"bothy/application/sasl"
	"bothy/lib/transcript"
)

// Two messages, 120 and 200 octets, as in RFC 1939 §10. The first has lines that begin with dots.
var (
	first = "Return-Path: <nurse@town.example>\r\nSubject: dots\r\n\r\n.one\r\n..two\r\n" +
		strings.Repeat("x", 44) + "\r\n.\r\nlast\r\n"
	second = "Subject: long\r\n\r\n" + strings.Repeat("y", 181) + "\r\n"
)

// shelf is a maildrop in memory, the same for every account.
type shelf struct {
	mu     sync.Mutex
	held   bool
	texts  map[message.ID]string
	list   []mailbox.Message
	body   func(string) (io.ReadCloser, error) // nil: what there is
	broken error                               // of Remove
}

func newShelf(texts ...string) *shelf {
	b := &shelf{texts: map[message.ID]string{}}
	for i, text := range texts {
		m := mailbox.Message{ID: message.ID{11: byte(16 * (i + 1))}, UID: uint32(i + 1), Size: int64(len(text))}
		b.texts[m.ID], b.list = text, append(b.list, m)
	}
	return b
}

func (b *shelf) Hold(string) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held {
		return nil, mailbox.ErrInUse
	}
	b.held = true
	return func() { b.mu.Lock(); b.held = false; b.mu.Unlock() }, nil
}

func (b *shelf) Messages(context.Context, string) ([]mailbox.Message, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]mailbox.Message(nil), b.list...), nil
}

func (b *shelf) Body(_ context.Context, _ string, m mailbox.Message) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, ok := b.texts[m.ID]
	if !ok {
		return nil, mailbox.ErrDamaged
	}
	if b.body != nil {
		return b.body(text)
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

func (b *shelf) Remove(_ context.Context, _ string, gone []message.ID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken != nil {
		return b.broken
	}
	for _, id := range gone {
		delete(b.texts, id)
		for i, m := range b.list {
			if m.ID == id {
				b.list = append(b.list[:i:i], b.list[i+1:]...)
				break
			}
		}
	}
	return nil
}

// people is the accounts that may log in.
type people map[string]sasl.Verifier

func (p people) Verifier(_ context.Context, name string) (sasl.Verifier, error) {
	if v, ok := p[name]; ok {
		return v, nil
	}
	return sasl.Verifier{}, sasl.ErrCredentials
}

func (p people) Certificate(context.Context, *x509.Certificate) (string, error) {
	return "", sasl.ErrCredentials
}

var keepers = sync.OnceValue(func() people {
	v, err := sasl.NewVerifier("keeper@light.example", "two words", 4096)
	if err != nil {
		panic(err)
	}
	v.CRAMSecret = []byte("two words")
	return people{"keeper@light.example": v}
})

var serverTLS = sync.OnceValue(func() *tls.Config {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"light.example"}}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}}
})

var trusting = &tls.Config{InsecureSkipVerify: true}

func newServer(b Boxes) *Server {
	auth := &sasl.Authenticator{Accounts: keepers(), Hostname: "light.example", Allowed: []string{sasl.SCRAMSHA256, sasl.PLAIN, sasl.CRAMMD5}}
	return &Server{Hostname: "light.example", TLS: serverTLS(), Auth: auth, Boxes: b, Config: Config{Errors: 12, Logins: 3}}
}

// dial begins a session in the clear; the session has ended when the test does.
func dial(t testing.TB, ctx context.Context, s *Server) (net.Conn, <-chan error) {
	client, server := net.Pipe()
	done := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		done <- s.Serve(ctx, server)
	}()
	t.Cleanup(func() { client.Close(); <-ended })
	return client, done
}

// dialTLS begins one under TLS (RFC 8314 §3.1).
func dialTLS(t testing.TB, ctx context.Context, s *Server) (net.Conn, <-chan error) {
	client, server := net.Pipe()
	done := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		done <- s.Serve(ctx, tls.Server(server, s.TLS))
	}()
	t.Cleanup(func() { client.Close(); <-ended })
	return tls.Client(client, trusting), done
}

// TestTranscripts plays the dialogues; those whose name begins with "clear" begin without TLS.
func TestTranscripts(t *testing.T) {
	if len(first) != 120 || len(second) != 200 {
		t.Fatal(len(first), len(second))
	}
	transcript.Run(t, "testdata/*.txt", func(t *testing.T, name string) net.Conn {
		b := newShelf(first, second)
		if name == "empty" {
			b = newShelf()
		}
		if name == "damaged" {
			delete(b.texts, b.list[0].ID)
			b.broken = errors.New("disk failed")
		}
		if name == "in-use" {
			b.held = true
		}
		s := newServer(b)
		if strings.HasPrefix(name, "clear") {
			conn, _ := dial(t, t.Context(), s)
			return transcript.WithTLS(conn, func(c net.Conn) *tls.Conn { return tls.Client(c, trusting) })
		}
		conn, _ := dialTLS(t, t.Context(), s)
		return conn
	})
}

// talk sends lines and returns what comes back until it ends with the text.
func talk(t testing.TB, conn net.Conn, lines, until string) string {
	t.Helper()
	if lines != "" {
		if _, err := io.WriteString(conn, lines); err != nil {
			t.Fatal(err)
		}
	}
	var got bytes.Buffer
	buf := make([]byte, 4096)
	for !strings.HasSuffix(got.String(), until) {
		n, err := conn.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v after %q", err, got.String())
		}
	}
	return got.String()
}

func login(t testing.TB, conn net.Conn) {
	t.Helper()
	talk(t, conn, "", "ready\r\n")
	talk(t, conn, "USER keeper@light.example\r\n", "PASS\r\n")
	talk(t, conn, "PASS two words\r\n", "octets)\r\n")
}

// TestNoQuit ends sessions without QUIT: nothing is removed (RFC 1939 §6), and the maildrop is free again.
func TestNoQuit(t *testing.T) {
	b := newShelf(first, second)
	s := newServer(b)
	t.Run("connection lost", func(t *testing.T) {
		conn, done := dialTLS(t, t.Context(), s)
		login(t, conn)
		talk(t, conn, "DELE 1\r\n", "deleted\r\n")
		conn.Close()
		if err := <-done; err == nil {
			t.Error("a lost session passes for one with QUIT")
		}
	})
	t.Run("server stops", func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		conn, done := dialTLS(t, ctx, s)
		login(t, conn)
		talk(t, conn, "DELE 1\r\n", "deleted\r\n")
		stop()
		rest, err := io.ReadAll(conn)
		if err != nil || string(rest) != "-ERR [SYS/TEMP] server is closing down, nothing was removed\r\n" {
			t.Errorf("%q %v", rest, err)
		}
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("autologout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			conn, done := dialTLS(t, t.Context(), s)
			login(t, conn)
			time.Sleep(9 * time.Minute)
			talk(t, conn, "DELE 1\r\n", "deleted\r\n")
			var drip sync.WaitGroup
			defer drip.Wait()
			drip.Go(func() { // an octet a minute is no command
				for range 20 {
					time.Sleep(time.Minute)
					if _, err := conn.Write([]byte("N")); err != nil {
						return
					}
				}
			})
			rest, err := io.ReadAll(conn)
			if len(rest) > 0 || err != nil { // RFC 1939 §3: without any response
				t.Errorf("%q %v", rest, err)
			}
			if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 19*time.Minute {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
			conn.Close()
		})
	})
	if len(b.list) != 2 || b.held {
		t.Errorf("%d messages, held: %v", len(b.list), b.held)
	}
}

// TestStalledReader takes no octets of a message: the session ends.
func TestStalledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, done := dialTLS(t, t.Context(), newServer(newShelf(first, second)))
		login(t, conn)
		start := time.Now()
		conn.Write([]byte("RETR 1\r\n"))
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) < writeTimeout {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		conn.Close()
	})
}

// TestBreaksOff cannot read the end of a message: the client must not take what it got for whole.
func TestBreaksOff(t *testing.T) {
	b := newShelf(first)
	b.body = func(text string) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(text[:50]), errReader{})), nil
	}
	conn, done := dialTLS(t, t.Context(), newServer(b))
	login(t, conn)
	go conn.Write([]byte("RETR 1\r\n"))
	rest, _ := io.ReadAll(conn)
	if bytes.HasSuffix(rest, []byte("\r\n.\r\n")) {
		t.Errorf("%q looks whole", rest)
	}
	if err := <-done; !errors.Is(err, errDisk) {
		t.Error(err)
	}
}

var errDisk = errors.New("disk failed")

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errDisk }

// TestMechanisms logs in with each mechanism there is, before and behind STLS.
func TestMechanisms(t *testing.T) {
	for _, c := range []struct {
		tls    bool
		client func() sasl.Client
	}{
		{false, func() sasl.Client { return sasl.SCRAM("keeper@light.example", "two words", sasl.Channel{}, false) }},
		{false, func() sasl.Client { return sasl.CRAM("keeper@light.example", "two words") }},
		{true, func() sasl.Client { return sasl.Plain("keeper@light.example", "two words") }},
	} {
		client := c.client()
		t.Run(client.Name(), func(t *testing.T) {
			conn, _ := dial(t, t.Context(), newServer(newShelf(first, second)))
			talk(t, conn, "", "\r\n")
			if c.tls {
				talk(t, conn, "STLS\r\n", "\r\n")
				conn = tls.Client(conn, trusting)
			}
			response, err := client.Start()
			if err != nil {
				t.Fatal(err)
			}
			line := "AUTH " + client.Name()
			if response != nil {
				line += " " + base64.StdEncoding.EncodeToString(response)
			}
			answer := talk(t, conn, line+"\r\n", "\r\n")
			for strings.HasPrefix(answer, "+ ") {
				challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(answer[2:]))
				if err != nil {
					t.Fatal(err)
				}
				if response, err = client.Next(challenge); err != nil {
					t.Fatal(err)
				}
				answer = talk(t, conn, base64.StdEncoding.EncodeToString(response)+"\r\n", "\r\n")
			}
			if answer != "+OK maildrop has 2 messages (320 octets)\r\n" {
				t.Fatal(answer)
			}
			if err := sasl.Finish(client); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestPipelined sends a whole session at once: the responses to what was there come in one write.
func TestPipelined(t *testing.T) {
	s := newServer(newShelf(first, second))
	client, server := net.Pipe()
	counted := &counting{Conn: server}
	go s.Serve(t.Context(), secureConn{counted})
	talk(t, client, "", "ready\r\n")
	counted.writes = 0
	got := talk(t, client, "USER keeper@light.example\r\nPASS two words\r\nSTAT\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n", "left\r\n")
	if lines := strings.Count(got, "+OK"); lines != 6 || counted.writes != 1 {
		t.Errorf("%d responses in %d writes: %q", lines, counted.writes, got)
	}
	client.Close()
}

type counting struct {
	net.Conn
	writes int
}

func (c *counting) Write(p []byte) (int, error) {
	c.writes++
	return c.Conn.Write(p)
}

// secureConn passes for TLS.
type secureConn struct{ net.Conn }

func (secureConn) HandshakeContext(context.Context) error { return nil }
func (secureConn) ConnectionState() tls.ConnectionState   { return tls.ConnectionState{} }

// TestMaildrop runs sessions on a real store.
func TestMaildrop(t *testing.T) {
	store, err := mailbox.Open(t.TempDir(), mailbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	for n := range byte(3) {
		text := fmt.Sprintf("Subject: %d\r\n\r\n.dots\r\nopen end", n)
		env := &message.Envelope{ID: message.ID{n + 1}}
		if err := store.Deliver(t.Context(), "keeper@light.example", env, strings.NewReader(text), int64(len(text))); err != nil {
			t.Fatal(err)
		}
	}
	s := newServer(store)
	conn, done := dialTLS(t, t.Context(), s)
	login(t, conn)
	var number, size int
	if _, err := fmt.Sscanf(talk(t, conn, "LIST 2\r\n", "\r\n"), "+OK %d %d", &number, &size); err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(talk(t, conn, "RETR 2\r\n", "\r\n.\r\n"), "\r\n")
	text = strings.ReplaceAll("\r\n"+strings.TrimSuffix(text, ".\r\n"), "\r\n.", "\r\n")[2:]
	if want := "Return-Path: <>\r\nSubject: 1\r\n\r\n.dots\r\nopen end\r\n"; text != want || size != len(want) {
		t.Fatalf("%q, %d octets", text, size)
	}
	before := talk(t, conn, "UIDL\r\n", "\r\n.\r\n")
	other, _ := dialTLS(t, t.Context(), s)
	talk(t, other, "", "\r\n")
	talk(t, other, "USER keeper@light.example\r\n", "\r\n")
	if got := talk(t, other, "PASS two words\r\n", "\r\n"); !strings.HasPrefix(got, "-ERR [IN-USE] ") {
		t.Fatal(got)
	}
	talk(t, conn, "DELE 2\r\nQUIT\r\n", "left\r\n")
	io.Copy(io.Discard, conn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	conn, _ = dialTLS(t, t.Context(), s)
	login(t, conn)
	after := talk(t, conn, "UIDL\r\n", "\r\n.\r\n")
	was, is := strings.Split(before, "\r\n"), strings.Split(after, "\r\n")
	if len(was) != 6 || len(is) != 5 || is[1] != was[1] || is[2][1:] != was[3][1:] {
		t.Fatalf("%q, then %q", before, after)
	}
}

// multi are the first lines of multi-line responses.
var multi = regexp.MustCompile(`^\+OK (\d+ messages .*|\d+ octets|.* follows?)\r\n$`)

// FuzzSession sends anything: every response begins with +OK, -ERR or "+ ", none is too long, and nothing panics.
func FuzzSession(f *testing.F) {
	f.Add([]byte("USER keeper@light.example\r\nPASS two words\r\nLIST\r\nRETR 1\r\nTOP 2 0\r\nUIDL 1\r\nDELE 1\r\nRSET\r\nDELE 2\r\nQUIT\r\n"))
	f.Add([]byte("CAPA\r\nAUTH PLAIN\r\n=\r\nAUTH CRAM-MD5\r\n*\r\nPASS x\r\nUSER \xff\r\nPASS a  b \r\n"))
	f.Add([]byte("STAT\r\nSTLS\r\n\x16\x03\x01"))
	f.Add([]byte(strings.Repeat("N", 300) + "\r\nNOOP\n\r\n\r\r\n\x00\r\n \r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		client, server := net.Pipe()
		done := make(chan error, 1)
		s := newServer(newShelf(first, second))
		s.Config.Errors = 1000
		go func() { done <- s.Serve(context.Background(), secureConn{server}) }()
		go func() {
			client.Write(in)
			client.Write([]byte("\r\n*\r\nQUIT\r\n")) // whatever state that was
			time.Sleep(10 * time.Millisecond)
			client.Close()
		}()
		multiline := false
		r := bufio.NewReader(client)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				break
			}
			switch {
			case multiline:
				multiline = line != ".\r\n"
			case !strings.HasPrefix(line, "+OK") && !strings.HasPrefix(line, "-ERR ") && !strings.HasPrefix(line, "+ "),
				!strings.HasSuffix(line, "\r\n"), len(line) > maxLine:
				t.Errorf("%q is no response", line)
			default:
				multiline = multi.MatchString(line)
			}
		}
		<-done
	})
}

// BenchmarkRetr sends 50 MB; the memory it takes does not depend on that.
func BenchmarkRetr(b *testing.B) {
	text := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 50<<20/72)
	s := newServer(newShelf(text))
	s.Log = slog.New(slog.DiscardHandler)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	client, server := net.Pipe()
	defer client.Close()
	go s.Serve(b.Context(), secureConn{server})
	login(b, client)
	buf := make([]byte, 64<<10)
	for b.Loop() {
		if _, err := io.WriteString(client, "RETR 1\r\n"); err != nil {
			b.Fatal(err)
		}
		for {
			n, err := client.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			if bytes.HasSuffix(buf[:n], []byte("\r\n.\r\n")) {
				break
			}
		}
	}
}

// A failed login is in the log with its peer and the account, if there is one; what else was given for a name may be a password.
func TestLogFailures(t *testing.T) {
	var log bytes.Buffer
	server := newServer(nil)
	server.Auth.(*sasl.Authenticator).Throttle = &sasl.Throttle{Failures: 2}
	s := &session{server: server, raw: fromPeer{}, log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, name := range []string{"keeper@light.example", "two words", "two words"} {
		_, err := server.Auth.Password(t.Context(), sasl.Channel{TLS: &tls.ConnectionState{}, Peer: s.channel().Peer}, name, "wrong")
		s.denied("PASS", err)
	}
	lines := strings.Split(log.String(), "\n")
	for i, want := range []string{"account keeper@light.example", "account unknown", "has to wait"} {
		if !strings.Contains(lines[i], "level=WARN") || !strings.Contains(lines[i], "peer=192.0.2.1 ") || !strings.Contains(lines[i], want) {
			t.Errorf("%s\nwant %q", lines[i], want)
		}
	}
	if strings.Contains(log.String(), "two words") {
		t.Error(log.String())
	}
}

// fromPeer is a connection from 192.0.2.1.
type fromPeer struct{ net.Conn }

func (fromPeer) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:1024"))
}
