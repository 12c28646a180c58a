package smtp

import (
	"cmp"
	"context"
	"errors"
	"os"
	"time"
)

// voice is something being written while the caller listens.
type voice struct {
	c       *Client
	write   func(out, in []byte) error
	shared  bool   // messages before it are waiting for their replies
	release func() // ends a wait in write; nil: there is none
	done    chan struct{}
	at      time.Time // when it ended, valid after done
	err     error     // what it ended with, valid after done
}

// speak starts write, which is given memory: out, empty, to gather in, and in to read into. In a convoy it waits for its turn.
func (t *transfer) speak(write func(out, in []byte) error) *voice {
	v := &voice{c: t.c, write: write, done: make(chan struct{})}
	if t.convoy != nil {
		v.shared = true
		t.convoy <- v
	} else {
		go v.run()
	}
	return v
}

func (v *voice) run() {
	defer close(v.done)
	block := blocks.Get().(*[3*blockSize + 64]byte)
	defer blocks.Put(block)
	v.err = v.write(block[blockSize:blockSize], block[:blockSize])
	v.at = time.Now()
	// Half a message must never look like a whole one. A peer that takes nothing more has nothing more to say; one that
	// closed may have said why.
	var body errBody
	switch {
	case errors.As(v.err, &body):
		v.hush()
	case errors.Is(v.err, os.ErrDeadlineExceeded):
		_ = v.c.Conn.Close()
	}
}

// hush ends the connection within a message. What the peer has to say of the messages before it is still heard, if the connection
// has halves.
func (v *voice) hush() {
	half, ok := v.c.Conn.Conn.(interface{ CloseWrite() error })
	if !v.shared || !ok || half.CloseWrite() != nil {
		_ = v.c.Conn.Close()
	}
}

// ended reports whether all is written, or failed.
func (v *voice) ended() bool {
	select {
	case <-v.done:
		return true
	default:
		return false
	}
}

// end waits for the voice. A reply to all of it has come, so there is nothing to wait for but an error.
func (v *voice) end() error {
	<-v.done
	return v.err
}

// give stops the voice because listening failed with err; a fault of the message, or a peer that takes nothing, is
// the better reason.
func (v *voice) give(err error) error {
	v.c.err = cmp.Or(v.c.err, err)
	var body errBody
	if !v.ended() {
		_ = v.c.Conn.Close()
	}
	if v.release != nil {
		v.release()
	}
	if <-v.done; errors.As(v.err, &body) || errors.Is(v.err, os.ErrDeadlineExceeded) {
		v.c.err = v.err
	}
	return v.c.err
}

// finalReply reads a reply to text that may still be on its way: the wait begins when it is sent (RFC 5321 §4.5.3.2.6).
func (t *transfer) finalReply(ctx context.Context, v *voice) (Reply, error) {
	wait := t.c.Timeouts.DataDone
	for t.c.err == nil && !t.c.Conn.hasLine() {
		deadline := time.Now().Add(wait)
		if v.ended() {
			deadline = v.at.Add(wait)
		}
		err := t.c.Conn.await(ctx, deadline)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil || v.ended() && !time.Now().Before(deadline) {
			return Reply{}, t.c.fail(ctx, err)
		}
	}
	return t.c.read(ctx, wait)
}
