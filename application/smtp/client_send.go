package smtp

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"bothy/application/message"
)

const (
	eagerSize = 32 << 10 // a text as long as this at most travels in the flight of its envelope: a round trip against waste
	chunkSize = 64 << 10 // of a BDAT (RFC 3030 §2: reasonable)
)

// blocks are for message text on its way: half for what is read, the rest for the same with its dots doubled.
var blocks = sync.Pool{New: func() any { return new([3*blockSize + 64]byte) }}

// Send transfers one message: pipelined MAIL, RCPT and DATA or BDAT as the peer offers (RFC 2920, RFC 3030). The reply of each
// recipient stands at its index: what the peer answered to RCPT, or for accepted ones to the end of data. Recipients whom the
// peer cannot be asked about (message too big for it, 8-bit or UTF-8 it does not offer to take) get a Reply of our own. err is not
// nil when the connection is lost or out of step: then replies holds those that are certain, and the zero Reply for the rest
// (RFC 1047). body is read once; size is its exact number of octets. If body fails or is of another size, the connection
// is closed, so that no part of it can be taken for a message.
func (c *Client) Send(ctx context.Context, env *message.Envelope, body io.Reader, size int64) (replies []Reply, err error) {
	t := &transfer{c: c, env: env, body: body, size: size, left: size, replies: make([]Reply, len(env.Recipients))}
	t.aborted.Store(-1)
	if err := c.inStep(); err != nil || len(env.Recipients) == 0 {
		return t.replies, err
	}
	if !t.fit() {
		return t.replies, nil
	}
	defer context.AfterFunc(ctx, c.Conn.interrupt())()
	if err = t.run(ctx); err != nil {
		err = c.fail(ctx, err)
	}
	return t.replies, err
}

// transfer is one message on its way (RFC 5321 §3.3): a row of commands, whose replies are counted (RFC 2920 §3.1).
type transfer struct {
	c       *Client
	env     *message.Envelope
	body    io.Reader
	size    int64
	replies []Reply // zero while not certain

	pipelining, chunking bool
	eager                bool  // the text is in the flight of the envelope
	asked                []int // the recipients that the peer is asked about

	mailed   bool // MAIL was accepted
	accepted int  // recipients

	left    int64        // octets of the text still to be read
	ending  atomic.Bool  // the end of the text is on its way: only now may it be accepted
	halted  atomic.Bool  // a chunk was refused: no more of them
	aborted atomic.Int64 // chunks that were sent before the RSET that ended them; -1 if none did
}

// fit answers for the peer where it is known that it cannot take the message; it reports whether there is anything to send.
func (t *transfer) fit() bool {
	c := t.c
	_, eight := c.Has("8BITMIME")
	_, utf8 := c.Has("SMTPUTF8")
	_, t.pipelining = c.Has("PIPELINING")
	_, t.chunking = c.Has("CHUNKING")
	_, binary := c.Has("BINARYMIME")
	limit := c.sizeLimit()
	switch {
	case limit > 0 && t.size > limit: // RFC 1870 §4
		t.settle(Reply{552, [3]int{5, 3, 4}, fmt.Sprintf("message of %d octets, the next server takes %d", t.size, limit)})
	case t.env.Body == message.Body8Bit && !eight: // RFC 6152 §3
		t.settle(Reply{554, [3]int{5, 6, 3}, "8-bit message, the next server does not offer 8BITMIME"})
	case t.env.Body == message.BodyBinary && (!binary || !t.chunking): // RFC 3030 §3
		t.settle(Reply{554, [3]int{5, 6, 3}, "binary message, the next server does not offer BINARYMIME"})
	case t.env.UTF8 && !utf8: // RFC 6531 §3.2
		t.settle(Reply{553, [3]int{5, 6, 7}, "internationalized message, the next server does not offer SMTPUTF8"})
	case !t.env.UTF8 && !asciiPath(t.env.ReversePath):
		t.settle(Reply{550, [3]int{5, 6, 7}, "non-ASCII sender without SMTPUTF8"})
	}
	for i, to := range t.env.Recipients {
		if t.replies[i].Code == 0 && !t.env.UTF8 && !asciiPath(to.Address) {
			t.replies[i] = Reply{553, [3]int{5, 6, 7}, "non-ASCII recipient without SMTPUTF8"}
		}
		if t.replies[i].Code == 0 {
			t.asked = append(t.asked, i)
		}
	}
	t.eager = t.pipelining && t.chunking && t.size <= eagerSize
	return len(t.asked) > 0
}

// asciiPath reports whether a can be written in ASCII.
func asciiPath(a message.Address) bool {
	_, ok := a.ASCII()
	return ok
}

// settle makes r the reply of every recipient that has none.
func (t *transfer) settle(r Reply) {
	for i := range t.replies {
		if t.replies[i].Code == 0 {
			t.replies[i] = r
		}
	}
}
