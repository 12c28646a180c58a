package sim

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	linePart  = 4 << 10 // octets carried together
	lineParts = 256     // parts under way in one direction: more wait in the sender
	lineDial  = 5 * time.Second
	// linePort bounds how long Up waits for its port, should somebody have borrowed it while the line was down.
	linePort = 5 * time.Second
)

// Line is a stretch of real TCP that can be taken down: a loopback port whose connections are carried on to a target.
// Its methods are safe for concurrent use.
type Line struct {
	target string
	addr   string

	mu       sync.Mutex
	listener net.Listener // nil while down
	conns    map[*net.TCPConn]bool
	delay    time.Duration
	rate     int64
	work     sync.WaitGroup
}

// OpenLine returns a line that is up, from addr ("127.0.0.1:0" for a port of the kernel's choice) to target. Close it.
func OpenLine(addr, target string) (*Line, error) {
	l := &Line{target: target, addr: addr, conns: map[*net.TCPConn]bool{}}
	if err := l.Up(); err != nil {
		return nil, err
	}
	return l, nil
}

// Addr is where to dial; it stays the same through Down and Up.
func (l *Line) Addr() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addr
}

// SetDelay sets how long octets take one way. It counts for what is sent from now on.
func (l *Line) SetDelay(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = d
}

// SetRate sets how many octets a second pass in each direction of each connection; 0 is no bound.
func (l *Line) SetRate(octets int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = octets
}

// Down resets every connection and refuses new ones.
func (l *Line) Down() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener == nil {
		return
	}
	l.listener.Close()
	l.listener = nil
	for c := range l.conns {
		c.SetLinger(0) // a reset, and what is under way is lost
		c.Close()
	}
}

// Up takes new connections again.
func (l *Line) Up() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		return nil
	}
	ln, err := net.Listen("tcp", l.addr)
	for until := time.Now().Add(linePort); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(until); {
		time.Sleep(10 * time.Millisecond)
		ln, err = net.Listen("tcp", l.addr)
	}
	if err != nil {
		return err
	}
	l.listener, l.addr = ln, ln.Addr().String()
	l.work.Go(func() { l.accept(ln) })
	return nil
}

// Close takes the line down for good and waits for its goroutines.
func (l *Line) Close() error {
	l.Down()
	l.work.Wait()
	return nil
}

func (l *Line) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		if near := conn.(*net.TCPConn); l.keep(ln, near) {
			l.work.Go(func() { l.join(ln, near) })
		}
	}
}

// keep notes a connection as one that Down resets; false when the line went down meanwhile.
func (l *Line) keep(ln net.Listener, c *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != ln {
		c.SetLinger(0)
		c.Close()
		return false
	}
	l.conns[c] = true
	return true
}

func (l *Line) forget(c *net.TCPConn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// join carries one connection both ways until it ends.
func (l *Line) join(ln net.Listener, near *net.TCPConn) {
	defer l.forget(near)
	conn, err := net.DialTimeout("tcp", l.target, lineDial)
	if err != nil {
		near.SetLinger(0)
		return
	}
	far := conn.(*net.TCPConn)
	if !l.keep(ln, far) {
		return
	}
	defer l.forget(far)
	var ways sync.WaitGroup
	ways.Go(func() { l.carry(far, near) })
	ways.Go(func() { l.carry(near, far) })
	ways.Wait()
}

// carry moves octets one way, each part when it is due, and passes the end on.
func (l *Line) carry(to, from *net.TCPConn) {
	parts := make(chan part, lineParts)
	var reading sync.WaitGroup
	reading.Go(func() { l.read(from, parts) })
	for p := range parts {
		time.Sleep(time.Until(p.at))
		if _, err := to.Write(p.octets); err != nil {
			from.Close() // ends read
		}
	}
	reading.Wait()
	to.CloseWrite()
}

func (l *Line) read(from io.Reader, parts chan<- part) {
	defer close(parts)
	free := time.Now()
	for {
		buf := make([]byte, linePart)
		n, err := from.Read(buf)
		if n > 0 {
			l.mu.Lock()
			delay, rate := l.delay, l.rate
			l.mu.Unlock()
			if now := time.Now(); free.Before(now) {
				free = now
			}
			if rate > 0 {
				free = free.Add(time.Duration(n) * time.Second / time.Duration(rate))
			}
			parts <- part{free.Add(delay), buf[:n]}
		}
		if err != nil {
			return
		}
	}
}
