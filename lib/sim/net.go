package sim

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	window  = 64 << 10 // octets a writer may be ahead of its reader before Write waits
	segment = 1460     // with a Rate, octets that arrive together, at least
	bursts  = 500      // and with a high one, so many times a second: what a network card does, and each costs a measurement time
)

// Path is what lies between the two ends of a connection. The zero Path is perfect: no delay, no bound, no cut.
type Path struct {
	Delay time.Duration // one way
	Rate  int64         // octets a second, each way; 0: no bound
	Chunk func() int    // most octets the next Read returns, 1 or more; nil: no bound. Called by one goroutine at a time
	Cut   *Cut          // nil: none
}

// Cut breaks a connection for good at the moment an end has written After octets in all. That Write succeeds, as one into
// a kernel's buffer does; octets behind the cut are lost.
type Cut struct {
	Side  Side  // whose octets are counted
	After int64 // 0: nothing this side writes arrives, and the connection breaks when it tries
	How   How
}

// Side is one end of a connection.
type Side int

// The ends.
const (
	Dialer   Side = iota // who opened the connection
	Listener             // who was called
)

func (s Side) other() Side { return 1 - s }

func (s Side) String() string { return [...]string{"dialer", "listener"}[s] }

// How is what a cut does.
type How int

// The ways a connection ends.
const (
	Reset  How = iota // what was written before the cut arrives; then both ends get ECONNRESET
	Lost              // what is under way (Path.Delay) or unread is lost with the connection; both ends get ECONNRESET
	Closed            // what was written before the cut arrives; then both ends read io.EOF and write EPIPE
	Silent            // nothing more arrives and nobody is told: a half-open connection
)

func (h How) String() string { return [...]string{"reset", "lost", "closed", "silent"}[h] }

// Pipe returns the two ends of a connection in memory. Both are buffered like a kernel's sockets and obey deadlines; time
// is the time package's, so that in a synctest bubble a delay costs nothing and a run repeats exactly.
func Pipe(p Path) (dialer, listener *End) {
	c := &pipe{path: p}
	for i := range c.flows {
		c.flows[i].come.L, c.flows[i].gone.L = &c.mu, &c.mu
	}
	return &End{pipe: c, side: Dialer}, &End{pipe: c, side: Listener}
}

// pipe is the state both ends share; mu guards all of it, the ends' included.
type pipe struct {
	path  Path
	mu    sync.Mutex
	flows [2]flow // by the side that writes
	cut   bool
}

// flow is one direction.
type flow struct {
	parts    []part
	held     int       // octets a writer is ahead of the reader
	written  int64     // octets accepted in all: what Cut.After counts
	left     int64     // those that had left when the connection was cut
	free     time.Time // with a Rate: when the last octet has left
	finished bool      // the writer has closed: io.EOF after the last part
	refused  bool      // the reader has closed: EPIPE
	come     sync.Cond // there is more for the reader than there was
	gone     sync.Cond // there is more room for the writer
}

// part is octets that arrive together.
type part struct {
	at     time.Time
	octets []byte
}

// End is one end of a simulated connection.
type End struct {
	pipe        *pipe
	side        Side
	closed      bool
	readClosed  bool
	readBefore  time.Time
	writeBefore time.Time
}

// Written counts the octets this end has written, those that were lost included.
func (e *End) Written() int64 {
	e.pipe.mu.Lock()
	defer e.pipe.mu.Unlock()
	return e.pipe.flows[e.side].written
}

// Left counts the octets of this end that have left it at the path's rate, those that were lost on the way included.
func (e *End) Left() int64 {
	e.pipe.mu.Lock()
	defer e.pipe.mu.Unlock()
	f := &e.pipe.flows[e.side]
	if e.pipe.cut {
		return f.left
	}
	return f.written - e.pipe.queued(f, time.Now())
}

// queued is how many octets of f have not left its end yet.
func (p *pipe) queued(f *flow, now time.Time) (n int64) {
	for _, part := range f.parts {
		if part.at.Add(-p.path.Delay).After(now) {
			n += int64(len(part.octets))
		}
	}
	return n
}

// Read implements net.Conn.
func (e *End) Read(b []byte) (int, error) {
	p := e.pipe
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		now := time.Now()
		f := &p.flows[e.side.other()]
		switch {
		case e.closed:
			return 0, e.failed("read", net.ErrClosed)
		case expired(e.readBefore, now):
			return 0, e.failed("read", os.ErrDeadlineExceeded)
		case len(b) == 0:
			return 0, nil
		case len(f.parts) > 0 && !f.parts[0].at.After(now):
			f.gone.Broadcast()
			return f.read(b, p.path.Chunk, now), nil
		case e.readClosed:
			return 0, io.EOF
		}
		wake := e.readBefore
		if len(f.parts) > 0 {
			wake = sooner(wake, f.parts[0].at)
		} else if err := p.ending(f); err == io.EOF {
			return 0, io.EOF
		} else if err != nil {
			return 0, e.failed("read", err)
		}
		p.wait(&f.come, now, wake)
	}
}

// read takes what has arrived.
func (f *flow) read(b []byte, chunk func() int, now time.Time) (n int) {
	if chunk != nil {
		b = b[:min(len(b), max(1, chunk()))]
	}
	for n < len(b) && len(f.parts) > 0 && !f.parts[0].at.After(now) {
		k := copy(b[n:], f.parts[0].octets)
		n += k
		if f.parts[0].octets = f.parts[0].octets[k:]; len(f.parts[0].octets) == 0 {
			f.parts = f.parts[1:]
		}
	}
	f.held -= n
	return n
}

// ending is what a reader of f sees when nothing more is under way; nil when something may still come.
func (p *pipe) ending(f *flow) error {
	switch {
	case p.cut && p.path.Cut.How == Closed:
		return io.EOF
	case p.cut && p.path.Cut.How != Silent:
		return syscall.ECONNRESET
	case f.finished && !p.cut:
		return io.EOF
	}
	return nil
}

// Write implements net.Conn.
func (e *End) Write(b []byte) (n int, err error) {
	p := e.pipe
	p.mu.Lock()
	defer p.mu.Unlock()
	f := &p.flows[e.side]
	for {
		now := time.Now()
		switch {
		case e.closed || f.finished:
			return n, e.failed("write", net.ErrClosed)
		case expired(e.writeBefore, now):
			return n, e.failed("write", os.ErrDeadlineExceeded)
		case p.cut && p.path.Cut.How == Closed, !p.cut && f.refused:
			return n, e.failed("write", syscall.EPIPE)
		case p.cut && p.path.Cut.How != Silent:
			return n, e.failed("write", syscall.ECONNRESET)
		case n == len(b):
			return n, nil
		}
		if room := window - f.held; room > 0 {
			k := min(room, len(b)-n)
			n += k
			if len(f.parts) == 0 { // else who reads knows when the next is there
				f.come.Broadcast()
			}
			if p.carry(e.side, b[n-k:n], now); p.cut && p.path.Cut.How != Silent {
				return len(b), nil // the rest is in a buffer that nobody will empty
			}
			if n == len(b) {
				return n, nil
			}
			continue
		}
		p.wait(&f.gone, now, e.writeBefore)
	}
}

// carry takes octets from side into its flow, up to the cut.
func (p *pipe) carry(side Side, octets []byte, now time.Time) {
	f := &p.flows[side]
	before := f.written
	f.written += int64(len(octets))
	f.held += len(octets)
	if p.cut { // silent: they fill a buffer
		return
	}
	c := p.path.Cut
	breaks := c != nil && c.Side == side && f.written >= c.After
	if breaks {
		octets = octets[:max(0, c.After-before)]
	}
	p.send(f, octets, now)
	if !breaks {
		return
	}
	f.left = min(f.written, c.After)
	p.flows[side.other()].left = p.flows[side.other()].written
	p.cut = true
	if c.How == Lost {
		p.flows[Dialer].parts, p.flows[Listener].parts = nil, nil
	}
	p.changed()
}

// send puts octets on their way.
func (p *pipe) send(f *flow, octets []byte, now time.Time) {
	for len(octets) > 0 {
		n := len(octets)
		at := now
		if p.path.Rate > 0 {
			n = min(n, max(segment, int(p.path.Rate/bursts)))
			if f.free.Before(now) {
				f.free = now
			}
			f.free = f.free.Add(time.Duration(n) * time.Second / time.Duration(p.path.Rate))
			at = f.free
		}
		f.parts = append(f.parts, part{at.Add(p.path.Delay), append([]byte(nil), octets[:n]...)})
		octets = octets[n:]
	}
}

// Close implements net.Conn. What was written before still arrives.
func (e *End) Close() error {
	e.pipe.mu.Lock()
	defer e.pipe.mu.Unlock()
	if e.closed {
		return e.failed("close", net.ErrClosed)
	}
	e.closed = true
	e.pipe.flows[e.side].finished = true
	e.pipe.flows[e.side.other()].refused = true
	return e.pipe.changed()
}

// Vanish cuts the connection now, Silent: nothing more arrives at either end, and nobody is told.
func (e *End) Vanish() { e.Break(Silent) }

// Break cuts the connection now, at the moment of the call and in the manner of how.
func (e *End) Break(how How) {
	e.pipe.mu.Lock()
	defer e.pipe.mu.Unlock()
	p := e.pipe
	if p.cut {
		return
	}
	for i := range p.flows {
		f := &p.flows[i]
		f.left = f.written - p.queued(f, time.Now())
	}
	p.cut, p.path.Cut = true, &Cut{How: how}
	if how == Lost {
		p.flows[Dialer].parts, p.flows[Listener].parts = nil, nil
	}
	p.changed()
}

// CloseWrite ends this end's direction; the other goes on.
func (e *End) CloseWrite() error {
	e.pipe.mu.Lock()
	defer e.pipe.mu.Unlock()
	e.pipe.flows[e.side].finished = true
	return e.pipe.changed()
}

// CloseRead ends what this end hears, as Linux does it: what has arrived is still read.
func (e *End) CloseRead() error {
	e.pipe.mu.Lock()
	defer e.pipe.mu.Unlock()
	e.readClosed = true
	return e.pipe.changed()
}

// LocalAddr implements net.Conn: an address of RFC 5737 §3, so that code which looks at its peer finds one.
func (e *End) LocalAddr() net.Addr { return address(e.side) }

// RemoteAddr implements net.Conn.
func (e *End) RemoteAddr() net.Addr { return address(e.side.other()) }

func address(s Side) net.Addr {
	if s == Dialer {
		return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 40000}
	}
	return &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 366}
}

// SetDeadline implements net.Conn.
func (e *End) SetDeadline(t time.Time) error { return e.setDeadlines(&t, &t) }

// SetReadDeadline implements net.Conn.
func (e *End) SetReadDeadline(t time.Time) error { return e.setDeadlines(&t, nil) }

// SetWriteDeadline implements net.Conn.
func (e *End) SetWriteDeadline(t time.Time) error { return e.setDeadlines(nil, &t) }

func (e *End) setDeadlines(read, write *time.Time) error {
	e.pipe.mu.Lock()
	defer e.pipe.mu.Unlock()
	if e.closed {
		return e.failed("set", net.ErrClosed)
	}
	if read != nil {
		e.readBefore = *read
	}
	if write != nil {
		e.writeBefore = *write
	}
	return e.pipe.changed()
}

// changed wakes whoever waits. It returns nil, to end a line with.
func (p *pipe) changed() error {
	for i := range p.flows {
		p.flows[i].come.Broadcast()
		p.flows[i].gone.Broadcast()
	}
	return nil
}

// wait returns when c says so or at wake, unless that is zero.
func (p *pipe) wait(c *sync.Cond, now, wake time.Time) {
	if !wake.IsZero() {
		timer := time.AfterFunc(wake.Sub(now), func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			c.Broadcast()
		})
		defer timer.Stop()
	}
	c.Wait()
}

// failed is err as the net package returns it; a deadline is a net.Error with Timeout.
func (e *End) failed(op string, err error) error {
	if errno, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: "sim", Source: e.LocalAddr(), Addr: e.RemoteAddr(), Err: err}
}

func expired(deadline, now time.Time) bool { return !deadline.IsZero() && !deadline.After(now) }

// sooner is the earlier of two times; the zero Time is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
