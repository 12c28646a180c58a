package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// The buffers of a connection, in octets.
const (
	idleSize    = 128      // what a connection holds on which nothing happens
	commandSize = 8 << 10  // commands, and many a message behind them in the same flight
	dataSize    = 32 << 10 // message text; more than a TLS record
	replySize   = 192      // replies of a pipelined group that need no memory of their own
	blockSize   = 16 << 10 // one write of message text
	maxHeldBack = 8 << 10  // replies of a pipelined group kept for one write
	lineSize    = maxCommandLine + 2
)

const (
	linger        = time.Second               // after this long without input a connection gives its buffers back
	flushTimeout  = 5 * time.Minute           // a peer that takes no replies (RFC 5321 §4.5.3.2.7)
	probeTimeout  = time.Millisecond          // input that is there already is there by then
	handshakeTime = time.Minute               // TLS
	_             = uint(dataSize - lineSize) // a line fits
)

var (
	commandBuffers = sync.Pool{New: func() any { return new([commandSize]byte) }}
	dataBuffers    = sync.Pool{New: func() any { return new([dataSize]byte) }}
)

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// Conn is one SMTP connection, whoever opened it and whichever role runs on it: the line reader, the reply or command
// writer and the TLS state. A Server or a Client runs on it; it can be turned to the other role. One goroutine uses it at
// a time. Its Read and Write belong to the engine: what a caller reads is missing there.
type Conn struct {
	net.Conn

	// LinePerWrite gives each CRLF line a Write of its own, and so a TLS record of its own, for a peer that stalls when
	// a record holds two (fetchmail 6.4 with its option ssl).
	LinePerWrite bool

	tls *tls.ConnectionState // nil when plain
	in  []byte               // read and not consumed: the end of what was read into idle, small or large
	out []byte               // to be written

	hearsOut bool // what has arrived is read though the peer is gone and takes no replies

	small *[commandSize]byte // one of these at most is held
	large *[dataSize]byte
	idle  [idleSize]byte
	reply [replySize]byte
}

// NewConn wraps nc, which may be a TLS connection already. It reads nothing.
func NewConn(nc net.Conn) *Conn {
	c := &Conn{Conn: nc}
	c.out = c.reply[:0]
	return c
}

// TLS returns the TLS state, nil on a plain connection. Where TLS came before SMTP, it is known once the session has begun.
func (c *Conn) TLS() *tls.ConnectionState { return c.tls }

// Peer returns the address of the other end, the zero AddrPort if it has none.
func (c *Conn) Peer() netip.AddrPort {
	if a, ok := c.RemoteAddr().(interface{ AddrPort() netip.AddrPort }); ok {
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	return netip.AddrPort{}
}

// ErrBuffered says that the peer sent octets it must not have sent yet: behind STARTTLS (RFC 3207 §4.2), behind ATRN,
// or before a turned connection's greeting. The connection is not usable any more.
var ErrBuffered = errors.New("smtp: input behind a command that must be last")

// Turn readies the connection for the other role (RFC 2645 §5.3): everything written is flushed, and nothing may have been
// read that was not consumed, else ErrBuffered. What TLS has read ahead counts as read; so does what has arrived and was
// not read yet.
func (c *Conn) Turn() error {
	if err := c.flush(); err != nil {
		return err
	}
	return c.probe()
}

// probe returns ErrBuffered if there is input.
func (c *Conn) probe() error {
	if len(c.in) > 0 {
		return ErrBuffered
	}
	_ = c.SetReadDeadline(time.Now().Add(probeTimeout))
	n, err := c.Conn.Read(c.idle[:1])
	switch {
	case n > 0:
		return ErrBuffered
	case errors.Is(err, os.ErrDeadlineExceeded):
		return c.SetReadDeadline(time.Time{})
	}
	return err
}

// Secured makes the TLS handshake of a connection that came with TLS, if that is not done, and returns its state as TLS does.
func (c *Conn) Secured(ctx context.Context) (*tls.ConnectionState, error) {
	err := c.begin(ctx)
	return c.tls, err
}

// begin makes the TLS handshake of a connection that came with TLS, so that its state is known from the first command on.
func (c *Conn) begin(ctx context.Context) error {
	nc, ok := c.Conn.(interface {
		HandshakeContext(context.Context) error
		ConnectionState() tls.ConnectionState
	})
	if !ok || c.tls != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	if err := nc.HandshakeContext(ctx); err != nil {
		return err
	}
	state := nc.ConnectionState()
	c.tls = &state
	return nil
}

// secure puts TLS on a plain connection (RFC 3207 §4).
func (c *Conn) secure(ctx context.Context, wrap func(net.Conn) *tls.Conn) error {
	if err := c.SetDeadline(time.Time{}); err != nil {
		return err
	}
	c.Conn = wrap(c.Conn)
	return c.begin(ctx)
}

// hasLine reports whether a whole line has been read; a lone LF ends none (RFC 5321 §2.3.8).
func (c *Conn) hasLine() bool { return bytes.Contains(c.in, []byte("\r\n")) }

// fill reads more input behind what is unread. Before it waits it sends what is to be written: RFC 2920 §3.2.
func (c *Conn) fill() error {
	if err := c.flush(); err != nil && (!c.hearsOut || errors.Is(err, os.ErrDeadlineExceeded)) {
		return err
	}
	var buf []byte
	switch {
	case c.large != nil:
		buf = c.large[:]
	case c.small != nil:
		buf = c.small[:]
	default:
		buf = c.idle[:]
	}
	if len(c.in) == len(buf) {
		if c.large != nil {
			return io.ErrShortBuffer
		}
		c.grow()
		return c.fill()
	}
	if cap(c.in) == len(c.in) || len(c.in) == 0 { // no room behind it
		c.in = buf[:copy(buf, c.in)]
	}
	room := c.in[len(c.in):cap(c.in)]
	n, err := c.Conn.Read(room)
	c.in = c.in[:len(c.in)+n]
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// grow moves what is unread into a larger buffer.
func (c *Conn) grow() {
	old := c.in
	switch {
	case c.small == nil && c.large == nil:
		c.small = commandBuffers.Get().(*[commandSize]byte)
		c.in = c.small[:copy(c.small[:], old)]
	case c.large == nil:
		c.large = dataBuffers.Get().(*[dataSize]byte)
		c.in = c.large[:copy(c.large[:], old)]
		commandBuffers.Put(c.small)
		c.small = nil
	}
}

// growForData makes room for message text.
func (c *Conn) growForData() {
	for c.large == nil {
		c.grow()
	}
}

// shrink gives the buffers back and forgets what is in them.
func (c *Conn) shrink() {
	if c.large != nil {
		dataBuffers.Put(c.large)
	}
	if c.small != nil {
		commandBuffers.Put(c.small)
	}
	c.in, c.small, c.large = nil, nil, nil
}

// await waits until there is input, at most until deadline, and holds no buffer for most of the time.
func (c *Conn) await(ctx context.Context, deadline time.Time) error {
	if len(c.in) > 0 {
		c.deadline(ctx, deadline)
		return nil
	}
	if soon := time.Now().Add(linger); soon.Before(deadline) {
		if c.small == nil && c.large == nil {
			c.grow()
		}
		c.deadline(ctx, soon)
		err := c.fill()
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			if !c.hasLine() {
				c.deadline(ctx, deadline) // for the rest of it
			}
			return err
		}
		c.shrink()
	}
	c.deadline(ctx, deadline)
	return c.fill()
}

// deadline bounds the reads that follow. What an interrupt set is not lost here, wherever the end of ctx falls. Where the
// connection is closed already, the read will say so.
func (c *Conn) deadline(ctx context.Context, t time.Time) {
	_ = c.SetReadDeadline(t)
	if ctx.Err() != nil {
		_ = c.SetReadDeadline(past)
	}
}

// interrupt returns what ends a read that is going on. It may be called by another goroutine, so it knows the connection
// below TLS, which stays the same.
func (c *Conn) interrupt() func() {
	nc := c.Conn
	return func() { _ = nc.SetReadDeadline(past) } // a closed connection needs no interrupting
}

// The ways a line is wrong.
var (
	errLineLength = errors.New("smtp: line too long")
	errLineEnd    = errors.New("smtp: CR or LF alone in a line") // RFC 5321 §2.3.8
	errEndless    = errors.New("smtp: a line without end")       // nothing behind it is a line of the protocol
)

// maxDiscard is how much of a line too long is read for the sake of what follows it, in octets.
const maxDiscard = 1 << 20

// readLine returns the next line without its CRLF, which only CRLF ends (RFC 5321 §2.3.8). A longer one than most is read to
// its end, in bounded memory, and returned cut short with errLineLength; beyond maxDiscard that is errEndless. The line is valid until the next read.
func (c *Conn) readLine(most int) (line []byte, err error) {
	var head []byte // of a line too long
	for at, discarded := 0, 0; ; {
		i := bytes.IndexByte(c.in[at:], '\n')
		if i < 0 {
			at = len(c.in)
			if at > most+1 { // keep the last octet: it may be the CR
				if head == nil {
					head = bytes.Clone(c.in[:headSize])
				}
				if discarded += at - 1; discarded > maxDiscard {
					return head, errEndless
				}
				c.in[0] = c.in[at-1]
				c.in, at = c.in[:1], 1
			}
			if err := c.fill(); err != nil {
				return nil, err
			}
			continue
		}
		at += i + 1
		if at < 2 || c.in[at-2] != '\r' {
			continue // it does not end here
		}
		line, c.in = c.in[:at-2], c.in[at:]
		if head != nil || len(line) > most {
			if head == nil {
				head = line[:min(headSize, len(line))]
			}
			return head, errLineLength
		}
		if bytes.IndexByte(line, '\n') >= 0 || bytes.IndexByte(line, '\r') >= 0 {
			return line, errLineEnd
		}
		return line, nil
	}
}

// headSize is how much is kept of a line too long, in octets: enough to know the command.
const headSize = 8

// flush writes what is to be written.
func (c *Conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	err := c.write(c.out, flushTimeout)
	c.out = c.reply[:0]
	return err
}

// write writes b, which must not take longer than wait.
func (c *Conn) write(b []byte, wait time.Duration) error {
	_ = c.SetWriteDeadline(time.Now().Add(wait)) // where it fails, so does the write
	for c.LinePerWrite && len(b) > 0 {
		end := bytes.IndexByte(b, '\n') + 1
		if end == 0 {
			break
		}
		if _, err := c.Conn.Write(b[:end]); err != nil {
			return err
		}
		b = b[end:]
	}
	if len(b) == 0 {
		return nil
	}
	_, err := c.Conn.Write(b)
	return err
}
