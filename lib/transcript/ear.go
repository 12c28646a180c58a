package transcript

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxHeard bounds what a peer may send ahead of what the dialogue has asked for.
const maxHeard = 64 << 20

// ear reads a connection all the time, so that a peer that answers while it is still being written to never blocks.
type ear struct {
	conn  net.Conn
	mu    sync.Mutex
	heard []byte
	err   error         // what ended the reading
	news  chan struct{} // holds one token when heard or err may have changed
	done  chan struct{} // closed when the reading has ended
}

func listen(conn net.Conn) *ear {
	e := &ear{conn: conn, news: make(chan struct{}, 1), done: make(chan struct{})}
	go e.run()
	return e
}

func (e *ear) run() {
	defer close(e.done)
	buf := make([]byte, 32<<10)
	for {
		n, err := e.conn.Read(buf)
		e.mu.Lock()
		e.heard = append(e.heard, buf[:n]...)
		if len(e.heard) > maxHeard {
			err = fmt.Errorf("transcript: more than %d octets came unasked", maxHeard)
		}
		e.err = err
		e.mu.Unlock()
		select {
		case e.news <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// errQuiet says that nothing came for the time given.
var errQuiet = errors.New("transcript: nothing came")

// next returns the next line without its CRLF; io.EOF when the peer has closed. Octets before a close that are not a
// whole line are returned with io.ErrUnexpectedEOF, before a wait ran out with errQuiet.
func (e *ear) next(wait time.Duration) (string, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for quiet := false; ; {
		e.mu.Lock()
		line, rest, found := bytes.Cut(e.heard, []byte("\r\n"))
		err := e.err
		if found {
			e.heard = rest
			e.mu.Unlock()
			return string(line), nil
		}
		e.mu.Unlock()
		switch {
		case isClosed(err) && len(line) > 0:
			return string(line), io.ErrUnexpectedEOF
		case isClosed(err):
			return "", io.EOF
		case err != nil:
			return string(line), err
		case quiet:
			return string(line), errQuiet
		}
		select {
		case <-e.news:
		case <-timer.C:
			quiet = true
		}
	}
}

// stop ends the reading without closing and returns what was not asked for.
func (e *ear) stop() (unasked []byte, err error) {
	if err := e.conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return nil, err
	}
	<-e.done
	if err := e.err; err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return e.heard, err
	}
	return e.heard, e.conn.SetReadDeadline(time.Time{})
}

func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF)
}
