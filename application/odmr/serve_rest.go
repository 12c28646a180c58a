package odmr

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bothy/application/smtp"
)

// signal is what may end the rest of a session, as a set.
type signal uint8

const (
	ringMail signal = 1 << iota // has come for its domains
	ringStop                    // the provider ends
	ringAsk                     // whether the list of recipients still holds
	ringSeat                    // a newer session wants the seat: whoever is alive shows it
)

// bell wakes a session that rests: one goroutine, blocked in reading from its peer, who has nothing to say. The zero value is ready.
type bell struct {
	mu      sync.Mutex
	rung    signal
	resting bool
	heard   [80]byte // what the peer says all the same: enough of a reply to know it
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// ring tells the session of a signal, at once if it rests.
func (s *session) ring(what signal) {
	s.bell.mu.Lock()
	defer s.bell.mu.Unlock()
	s.bell.rung |= what
	if s.bell.resting {
		_ = s.wire.SetReadDeadline(past) // where the connection is closed, the read says so
	}
}

// rest waits for a signal, at most until a time; then it returns none. An error ends the session: the peer is gone, or it spoke.
func (s *session) rest(until time.Time) (signal, error) {
	b := &s.bell
	b.mu.Lock()
	if b.rung == 0 {
		b.resting = true
		_ = s.wire.SetReadDeadline(until)
		b.mu.Unlock()
		n, err := s.conn.Conn.Read(b.heard[:])
		b.mu.Lock()
		b.resting = false
		_ = s.wire.SetReadDeadline(time.Time{})
		switch {
		case n > 0:
			err = spoke(b.heard[:n])
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = nil
		}
		if err != nil {
			b.mu.Unlock()
			return 0, err
		}
	}
	defer b.mu.Unlock()
	what := b.rung
	b.rung = 0
	return what, nil
}

// spoke is the error of a peer that said something unasked. A server that closes may (RFC 5321 §3.8: 421).
func spoke(what []byte) error {
	line, _, _ := strings.Cut(string(what), "\r\n")
	if strings.HasPrefix(line, "421") {
		return fmt.Errorf("%w: %q", errClosing, line)
	}
	return fmt.Errorf("%w: it said %q unasked", smtp.ErrOutOfStep, line)
}

// follow rings when ctx ends, until stop is called.
func (s *session) follow(ctx context.Context) (stopped func() bool) {
	return context.AfterFunc(ctx, func() { s.ring(ringStop) })
}

// wire is the peer's connection as it came, with a pulse.
type wire struct {
	net.Conn
	in, out atomic.Int64 // octets
	last    atomic.Int64 // when one last came, in nanoseconds since 1970
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.beat(n)
	return n, err
}

func (w *wire) beat(n int) {
	if n > 0 {
		w.in.Add(int64(n))
		w.last.Store(time.Now().UnixNano())
	}
}

func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.out.Add(int64(n))
	return n, err
}

// heard is when the peer last was.
func (w *wire) heard() time.Time { return time.Unix(0, w.last.Load()) }

// secured is a connection that began with TLS, such as *tls.Conn.
type secured interface {
	HandshakeContext(ctx context.Context) error
	ConnectionState() tls.ConnectionState
}

// watch makes the session's connection of the peer's.
func (s *session) watch(conn net.Conn) {
	s.wire = &wire{Conn: conn}
	s.wire.last.Store(time.Now().UnixNano()) // the handshake of TCP is a sign of life
	tlsConn, implicit := conn.(secured)
	if s.implicit = implicit; !implicit {
		s.conn = smtp.NewConn(s.wire)
		return
	}
	s.conn = smtp.NewConn(struct {
		*wire
		secured
	}{s.wire, tlsConn})
}
