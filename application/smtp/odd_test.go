package smtp

import (
	"context"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/lib/sim"
)

// tick sends s an octet at a time.
func tick(c *sim.End, every time.Duration, s string) {
	for i := range len(s) {
		time.Sleep(every)
		if _, err := io.WriteString(c, s[i:i+1]); err != nil {
			return
		}
	}
}

// pour writes s again and again, until n octets were taken or the connection ends.
func pour(c *sim.End, s string, n int) {
	for sent := 0; sent < n; sent += len(s) {
		if _, err := io.WriteString(c, s); err != nil {
			return
		}
	}
}

const helo, opened = "EHLO a.example\r\n", "MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n"

// oddClients are clients that are odd, how long they may keep a session busy, and how many messages of theirs are accepted.
var oddClients = []struct {
	name  string
	do    func(c *sim.End)
	most  time.Duration
	mails int
}{
	{"says nothing", func(*sim.End) {}, 5 * time.Minute, 0},
	{"an octet a minute", func(c *sim.End) { tick(c, time.Minute, strings.Repeat("N", 1000)) }, 6 * time.Minute, 0},
	{"an octet a minute, in commands", func(c *sim.End) { tick(c, time.Minute, strings.Repeat("\r\n", 1000)) }, 4 * time.Hour, 0},
	{"an octet a minute, in a text", func(c *sim.End) {
		io.WriteString(c, helo+opened+"DATA\r\n")
		tick(c, time.Minute, strings.Repeat("x", 1000))
	}, 5 * time.Minute, 0},
	{"an octet a minute, in a chunk", func(c *sim.End) {
		io.WriteString(c, helo+opened+"BDAT 1000\r\n")
		tick(c, time.Minute, strings.Repeat("x", 1000))
	}, 5 * time.Minute, 0},
	{"does not listen", func(c *sim.End) { pour(c, "EHLO a.example\r\n", 100<<20) }, 6 * time.Minute, 0},
	{"does not listen to refusals", func(c *sim.End) { pour(c, "XYZZY\r\n", 100<<20) }, 6 * time.Minute, 0},
	{"a line without end", func(c *sim.End) { go io.Copy(io.Discard, c); pour(c, strings.Repeat("x", 4096), 100<<20) }, time.Minute, 0},
	{"NUL without end", func(c *sim.End) { go io.Copy(io.Discard, c); pour(c, strings.Repeat("\x00", 4096), 100<<20) }, time.Minute, 0},
	{"a text without end", func(c *sim.End) {
		go io.Copy(io.Discard, c)
		io.WriteString(c, helo+opened+"DATA\r\n")
		pour(c, strings.Repeat("x", 900)+"\r\n", 200<<20)
	}, 2 * time.Minute, 0},
	{"a line of text without end", func(c *sim.End) {
		go io.Copy(io.Discard, c)
		io.WriteString(c, helo+opened+"DATA\r\n")
		pour(c, strings.Repeat("x", 4096), 200<<20)
	}, 2 * time.Minute, 0},
	{"a chunk that is more than it said", func(c *sim.End) {
		go io.Copy(io.Discard, c)
		io.WriteString(c, helo+opened+"BDAT 10\r\n")
		pour(c, strings.Repeat("x", 4096), 100<<20)
	}, 2 * time.Minute, 0},
	{"RCPT without end", func(c *sim.End) {
		go io.Copy(io.Discard, c)
		io.WriteString(c, helo+"MAIL FROM:<>\r\n")
		pour(c, "RCPT TO:<a@b.example>\r\n", 10<<20)
	}, 6 * time.Minute, 0},
	{"empty lines without end", func(c *sim.End) { go io.Copy(io.Discard, c); pour(c, "\r\n", 10<<20) }, 2 * time.Minute, 0},
	{"TLS", func(c *sim.End) { io.WriteString(c, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") }, 6 * time.Minute, 0},
	{"HTTP", func(c *sim.End) { io.WriteString(c, "GET / HTTP/1.1\r\nHost: light.example\r\n\r\n") }, 6 * time.Minute, 0},
	{"talks before the greeting", func(c *sim.End) { io.WriteString(c, helo+opened+"DATA\r\nhello\r\n.\r\nQUIT\r\n") }, time.Minute, 1},
	{"closes its half", func(c *sim.End) {
		io.WriteString(c, helo+opened+"DATA\r\nhello\r\n.\r\n")
		c.CloseWrite()
	}, time.Minute, 1},
	{"closes its half in a text", func(c *sim.End) {
		io.WriteString(c, helo+opened+"DATA\r\nhello\r\n.")
		c.CloseWrite()
	}, time.Minute, 0},
	{"closes at once", func(c *sim.End) { c.Close() }, time.Minute, 0},
	{"vanishes in a command", func(c *sim.End) { io.WriteString(c, helo+"MAIL FR"); c.Vanish() }, 6 * time.Minute, 0},
	{"vanishes in a text", func(c *sim.End) { io.WriteString(c, helo+opened+"DATA\r\nhello\r\n"); c.Vanish() }, 6 * time.Minute, 0},
	{"vanishes in a chunk", func(c *sim.End) { io.WriteString(c, helo+opened+"BDAT 100 LAST\r\nhello"); c.Vanish() }, 6 * time.Minute, 0},
}

// TestOddClients: whatever a client does, its session ends in bounded time with bounded memory, and nothing is accepted that was not
// sent whole.
func TestOddClients(t *testing.T) {
	for _, odd := range oddClients {
		t.Run(odd.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := sim.Pipe(sim.Path{Delay: time.Millisecond})
				taken := new(count)
				srv := newServer(taken)
				srv.Now = time.Now
				srv.Limits.MessageSize = 10 << 20
				before := heap()
				began := time.Now()
				ended := make(chan time.Duration, 1)
				go func() {
					_ = srv.Serve(t.Context(), NewConn(far))
					far.Close()
					ended <- time.Since(began)
				}()
				idle := make(chan struct{})
				go func() { defer close(idle); odd.do(near) }()
				if took := <-ended; took > odd.most {
					t.Errorf("the session took %v, want %v at most", took, odd.most)
				}
				if grown := heap() - before; grown > 4<<20 {
					t.Errorf("%d octets of memory", grown)
				}
				near.Close()
				<-idle
				if n := int(taken.mails.Load()); n != odd.mails {
					t.Errorf("%d messages were accepted, want %d", n, odd.mails)
				}
			})
		})
	}
}

// count is an Acceptor that keeps nothing but their number.
type count struct{ mails atomic.Int32 }

func (c *count) Accept(_ context.Context, _ *message.Envelope, body io.Reader) error {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return err
	}
	c.mails.Add(1)
	return nil
}

// heap is what is in use after a collection.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
