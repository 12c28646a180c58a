package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
)

// The turn of RFC 2645 §5.3, there and back: the provider's server becomes a client on the same connection, in the clear and
// under TLS, whose records may hold more than was asked for.
func TestTurn(t *testing.T) {
	config := testTLS(t)
	for name, c := range map[string]struct {
		tls   bool
		early string // what the customer sends behind ATRN
		want  error
	}{
		"plain":            {want: ErrTurned},
		"TLS":              {tls: true, want: ErrTurned},
		"plain, too early": {early: "220 early\r\n", want: ErrBuffered},
		"TLS, too early":   {tls: true, early: "220 early\r\n", want: ErrBuffered},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			provider := &Server{
				Hostname: "provider.example", Protocol: Held, Auth: guard{},
				Extensions: []Extension{{Verb: "ATRN", Keyword: "ATRN", Run: turn}},
			}
			pc, cc := NewConn(far), NewConn(near)
			if c.tls {
				pc, cc = NewConn(tls.Server(far, config)), NewConn(tls.Client(near, testTLSClient))
			}
			ended := make(chan error, 1)
			sent := make(chan []Reply, 1)
			go func() {
				err := provider.Serve(context.Background(), pc)
				ended <- err
				if !errors.Is(err, ErrTurned) {
					far.Close()
					return
				}
				client := NewClient(pc, "provider.example", Timeouts{})
				if err := client.Greet(t.Context()); err != nil {
					t.Error(err)
				}
				replies, err := client.Send(t.Context(), &message.Envelope{Recipients: recipients("keeper", "nobody")}, strings.NewReader(hello), int64(len(hello)))
				if err != nil {
					t.Error(err)
				}
				sent <- replies
				if err := client.Quit(t.Context()); err != nil {
					t.Error(err)
				}
			}()
			customer := NewClient(cc, "site.example", Timeouts{})
			if err := customer.Greet(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := customer.Auth(t.Context(), answer{initial: "keeper"}); err != nil {
				t.Fatal(err)
			}
			line := "ATRN"
			if c.early != "" { // one write, one TLS record
				go io.Copy(io.Discard, cc.Conn)
				if err := cc.write([]byte(line+"\r\n"+c.early), time.Second); err != nil {
					t.Fatal(err)
				}
				if err := <-ended; !errors.Is(err, c.want) {
					t.Fatalf("%v, want %v", err, c.want)
				}
				return
			}
			if r, err := customer.Do(t.Context(), line, time.Minute); err != nil || r.Code != 250 {
				t.Fatal(r, err)
			}
			if err := <-ended; !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err := cc.Turn(); err != nil {
				t.Fatal(err)
			}
			st := &store{}
			if err := newServer(st).Serve(t.Context(), cc); err != nil {
				t.Fatal(err)
			}
			if replies := <-sent; replies[0].Code != 250 || replies[1].Code != 550 {
				t.Errorf("%v", replies)
			}
			if got := st.text(t, 0); got != hello {
				t.Errorf("%q", got)
			}
		})
	}
}

// TestTurnSeesWhatIsThere: octets that come right behind ATRN in a packet or a TLS record of their own have not been read when the turn is decided.
func TestTurnSeesWhatIsThere(t *testing.T) {
	config := testTLS(t)
	for _, useTLS := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			pc, cc := NewConn(far), NewConn(near)
			if useTLS {
				pc, cc = NewConn(tls.Server(far, config)), NewConn(tls.Client(near, testTLSClient))
			}
			ended := make(chan error, 1)
			go func() {
				provider := &Server{Hostname: "provider.example", Protocol: Held, Auth: guard{}, Extensions: []Extension{{Verb: "ATRN", Keyword: "ATRN", Run: turn}}}
				ended <- provider.Serve(context.Background(), pc)
				far.Close()
			}()
			customer := NewClient(cc, "site.example", Timeouts{})
			if err := customer.Greet(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := customer.Auth(t.Context(), answer{initial: "keeper"}); err != nil {
				t.Fatal(err)
			}
			go io.Copy(io.Discard, cc.Conn)
			for _, packet := range []string{"ATRN\r\n", "2"} {
				if err := cc.write([]byte(packet), time.Second); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-ended; !errors.Is(err, ErrBuffered) {
				t.Errorf("TLS %v: %v", useTLS, err)
			}
		})
	}
}

// counter counts the writes on a connection.
type counter struct {
	net.Conn
	mu     sync.Mutex
	writes [][]byte
}

func (c *counter) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.writes = append(c.writes, bytes.Clone(p))
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *counter) take() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.writes
	c.writes = nil
	return w
}

// RFC 2920 §3.2: the replies to a group are one write, and the client's group is one too.
func TestOneWriteEach(t *testing.T) {
	near, far := net.Pipe()
	server, client := &counter{Conn: far}, &counter{Conn: near}
	done := make(chan error, 1)
	go func() { done <- newServer(&store{}).Serve(context.Background(), NewConn(server)) }()
	c := NewClient(NewConn(client), "site.example", Timeouts{})
	if err := c.Greet(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, drop := range []string{"", "CHUNKING"} {
		delete(c.keywords, drop)
		server.take()
		client.take()
		env := &message.Envelope{Recipients: recipients("a", "b", "nobody", "c")}
		if _, err := c.Send(t.Context(), env, strings.NewReader(hello), int64(len(hello))); err != nil {
			t.Fatal(err)
		}
		want := 1
		if drop != "" {
			want = 2 // DATA waits for 354
		}
		if w := client.take(); len(w) != want {
			t.Errorf("client without %q: %d writes, want %d: %q", drop, len(w), want, w)
		}
		if w := server.take(); len(w) != want {
			t.Errorf("server without %q: %d writes, want %d: %q", drop, len(w), want, w)
		}
	}
	if err := c.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// With LinePerWrite no write holds two lines.
func TestLinePerWrite(t *testing.T) {
	body := strings.Repeat("a line\r\n.another\r\n", 5000) + "and the last, without CRLF"
	for _, drop := range []string{"", "CHUNKING", "PIPELINING"} {
		near, far := net.Pipe()
		st := &store{}
		server, client := &counter{Conn: far}, &counter{Conn: near}
		done := make(chan error, 1)
		sc, cc := NewConn(server), NewConn(client)
		sc.LinePerWrite, cc.LinePerWrite = true, true
		go func() { done <- newServer(st).Serve(context.Background(), sc) }()
		c := NewClient(cc, "site.example", Timeouts{})
		if err := c.Greet(t.Context()); err != nil {
			t.Fatal(err)
		}
		delete(c.keywords, drop)
		env := &message.Envelope{Recipients: recipients("a", "b")}
		if replies, err := c.Send(t.Context(), env, strings.NewReader(body), int64(len(body))); err != nil || replies[1].Code != 250 {
			t.Fatal(replies, err)
		}
		if err := c.Quit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for _, w := range append(client.take(), server.take()...) {
			if i := bytes.IndexByte(w, '\n'); i >= 0 && i != len(w)-1 {
				t.Fatalf("two lines in %.100q", w)
			}
		}
		if got := strings.TrimSuffix(st.text(t, 0), "\r\n"); got != body {
			t.Errorf("%d octets, want %d", len(got), len(body))
		}
	}
}

// cutter ends a connection after so many octets in one direction.
type cutter struct {
	net.Conn
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	n, err := c.Conn.Write(p[:n])
	if err == nil && c.left == 0 {
		c.Conn.Close()
		err = io.ErrClosedPipe
	}
	return n, err
}

// Wherever the client's octets end, the server has the whole message or none of it, and the client believes nothing that
// is not so.
func TestCutEverywhere(t *testing.T) {
	const body = "Subject: x\r\n\r\n.\r\nhello\r\n.\r\n\r\n"
	for _, drop := range []string{"", "PIPELINING", "CHUNKING", "CHUNKING PIPELINING"} {
		for cut := 1; ; cut++ {
			near, far := net.Pipe()
			st := &store{}
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer far.Close()
				_ = newServer(st).Serve(context.Background(), NewConn(far))
			}()
			edge := &cutter{near, cut}
			c := NewClient(NewConn(edge), "site.example", Timeouts{})
			err := c.Greet(t.Context())
			var replies []Reply
			if err == nil {
				for keyword := range strings.FieldsSeq(drop) {
					delete(c.keywords, keyword)
				}
				replies, err = c.Send(t.Context(), &message.Envelope{Recipients: recipients("a")}, strings.NewReader(body), int64(len(body)))
			}
			near.Close()
			<-done
			if len(st.mails) > 0 && st.text(t, 0) != body {
				t.Fatalf("without %q, cut at %d: the server took %q", drop, cut, st.mails[0].body)
			}
			if err == nil && len(st.mails) == 0 {
				t.Fatalf("without %q, cut at %d: the client believes %v", drop, cut, replies)
			}
			if edge.left > 0 {
				break
			}
		}
	}
}

// An idle connection on TCP costs little: no buffer of any kind, one goroutine.
func TestIdleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for buffers to be given back")
	}
	const connections = 500
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	srv := newServer(&store{})
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				_ = srv.Serve(ctx, NewConn(nc))
			})
		}
	}()
	before := inUse()
	clients := make([]net.Conn, connections)
	buf := make([]byte, 512)
	for i := range clients {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		clients[i] = nc
		nc.Read(buf)
		io.WriteString(nc, "EHLO site.example\r\n")
		nc.Read(buf)
	}
	time.Sleep(linger + 200*time.Millisecond) // real sockets, so real time
	each := (inUse() - before) / connections
	t.Logf("%d octets a connection", each)
	if each > 12<<10 {
		t.Errorf("%d octets a connection, want at most 12 KiB", each)
	}
	for _, nc := range clients { // and they still work
		io.WriteString(nc, "QUIT\r\n")
		if n, _ := nc.Read(buf); !strings.HasPrefix(string(buf[:n]), "221 ") {
			t.Fatalf("%q", buf[:n])
		}
	}
}

// inUse returns the memory in use by heap and stacks.
func inUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}

// discard is an Acceptor that forgets.
type discard struct{}

func (discard) Accept(_ context.Context, _ *message.Envelope, body io.Reader) error {
	_, err := io.Copy(io.Discard, body)
	return err
}

// endless gives n octets of lines.
type endless struct{ n int64 }

var line = []byte("The quick brown fox jumps over the lazy dog, and the keeper lights the lamp.\r\n")

func (e *endless) Read(p []byte) (int, error) {
	if e.n == 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && e.n > 0 {
		m := copy(p[n:], line[:min(int64(len(line)), e.n)])
		n, e.n = n+m, e.n-int64(m)
	}
	return n, nil
}

// A message of 50 MB passes in bounded memory at both ends.
func TestLargeMessage(t *testing.T) {
	for _, drop := range []string{"", "CHUNKING"} {
		client := NewClient(NewConn(serve(t, newServer(discard{}))), "site.example", Timeouts{})
		if err := client.Greet(t.Context()); err != nil {
			t.Fatal(err)
		}
		delete(client.keywords, drop)
		size := int64(49_000_000) / int64(len(line)) * int64(len(line))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		replies, err := client.Send(t.Context(), &message.Envelope{Recipients: recipients("a")}, &endless{size}, size)
		runtime.ReadMemStats(&after)
		if err != nil || replies[0].Code != 250 {
			t.Fatal(replies, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 2<<20 {
			t.Errorf("without %q: %d octets allocated", drop, got)
		}
		if err := client.Quit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
