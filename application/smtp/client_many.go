package smtp

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"bothy/application/message"
)

// What is under way at once in SendMany. A lost connection leaves as much in doubt (RFC 1047).
const (
	maxUnderWay       = 256       // messages
	maxOctetsUnderWay = 256 << 10 // of texts that nobody has asked for yet
)

// Outgoing is one message for SendMany; see Send.
type Outgoing struct {
	Envelope *message.Envelope
	Body     io.Reader // read by another goroutine than the caller's, until Done
	Size     int64
	Done     func(replies []Reply) // told once, on the caller's goroutine, in the order of the messages
	Asked    func(i int, r Reply)  // told before, in the same way, what the peer said to RCPT of the recipient at i; nil: nobody is

	// TransID names the transaction for a peer that offers CHECKPOINT, see TransID: it goes on where a connection broke, and does not take a
	// message twice whose reply was lost (RFC 1845). The same name means the same text, to the octet. A recipient who gets NotOfTransaction
	// needs another. Empty: none. Tried says that the peer may have some of the text under this name, from an earlier attempt.
	TransID string
	Tried   bool
}

// SendMany transfers messages one behind the other without a wait in between: MAIL follows the end of the text before it in the same
// flight (RFC 2920 §3.1), a short text its envelope, as in Send, and so does the first chunk of a long one, as long as what the link carries
// in a round trip; the chunks behind it follow when somebody is to get them. So a long link stays filled, with CHUNKING; with DATA it costs a round trip for each
// message. At most window messages are under way at once. A peer without PIPELINING gets them one by one.
//
// Every message that was taken from messages is Done, with what is certain of it: the replies are to be read as those of Send.
// err is not nil when the connection is lost or out of step; nothing more is taken from messages then. A Body that fails, or is of
// another size, ends the connection, but not before the peer has answered for the messages ahead of it, if it closes when it is
// told to. While messages keeps it waiting, no reply is heard: it should end when there is nothing to send right now.
func (c *Client) SendMany(ctx context.Context, messages iter.Seq[Outgoing], window int) error {
	if err := c.inStep(); err != nil {
		return err
	}
	window = min(max(window, 1), maxUnderWay)
	// Two voices for each message, and none waits to be given its turn.
	v := &convoy{c: c, window: window, turns: make(chan *voice, 2*window+2), ended: make(chan struct{})}
	go v.speak()
	defer context.AfterFunc(ctx, c.Conn.interrupt())()
	c.pace.begin(time.Now())
	var err error
	for m := range messages {
		if err = v.join(ctx, m); err != nil {
			break
		}
	}
	for err == nil && len(v.line) > 0 {
		err = v.advance(ctx)
	}
	if err != nil {
		err = c.fail(ctx, err)
		_ = c.Conn.Close() // for who still speaks
	}
	close(v.turns)
	for _, m := range v.line {
		m.release()
	}
	<-v.ended
	for _, m := range v.line { // nobody is, unless err is not nil
		if m.voice != nil && m.broken() { // the better reason
			c.err, err = m.voice.err, m.voice.err
		}
		m.done(m.replies)
	}
	return err
}

// convoy is the messages under way in SendMany. One goroutine speaks, the caller's listens.
type convoy struct {
	c      *Client
	window int
	turns  chan *voice // to be spoken, in this order
	ended  chan struct{}
	line   []*underWay
	octets int64 // of the texts in line that went with their envelopes
}

type underWay struct {
	*transfer
	heard bool // its envelope was answered
	done  func([]Reply)
}

// speak lets each have its turn, and nobody behind one that failed.
func (v *convoy) speak() {
	defer close(v.ended)
	var failed error
	for turn := range v.turns {
		if failed != nil {
			turn.err = failed
			close(turn.done)
			continue
		}
		turn.run()
		failed = turn.err
	}
}

// join puts a message on its way and returns when there is room for another.
func (v *convoy) join(ctx context.Context, m Outgoing) error {
	t := newTransfer(v.c, m)
	t.convoy = v.turns
	v.line = append(v.line, &underWay{transfer: t, done: m.Done})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(v.line) == 1 {
		if err := v.c.inStep(); err != nil {
			return err
		}
	}
	switch {
	case len(m.Envelope.Recipients) == 0 || !t.fit():
		t.over = true
	case t.pipelining:
		// Nobody knows yet whether the BDAT ahead of it will be refused, or its MAIL left with nobody to go to.
		if t.begin(v.c.open || len(v.line) > 1); t.whole() {
			v.octets += t.size
		}
	}
	for !v.roomy() {
		if err := v.advance(ctx); err != nil {
			return err
		}
	}
	return nil
}

// roomy reports whether one more message can be put on its way: not while the last one's text waits to be asked for.
func (v *convoy) roomy() bool {
	if len(v.line) == 0 {
		return true
	}
	last := v.line[len(v.line)-1]
	return len(v.line) < v.window && v.octets < maxOctetsUnderWay && last.pipelining && (last.whole() || last.heard || last.over)
}

// advance hears what the peer has to say next.
func (v *convoy) advance(ctx context.Context) (err error) {
	first := v.line[0]
	switch {
	case first.over:
	case !first.pipelining:
		err = first.run(ctx)
	case first.broken():
		err = first.voice.err
	case !first.heard:
		first.heard, err = true, first.envelope(ctx)
	default:
		err = first.finish(ctx)
	}
	if err != nil || !first.over {
		return err
	}
	v.line = v.line[1:]
	if first.whole() && first.voice != nil {
		v.octets -= first.size
	}
	first.done(first.replies)
	return nil
}

// broken reports whether the message itself failed, so that no reply to it will come.
func (m *underWay) broken() bool {
	var body errBody
	return m.voice.ended() && errors.As(m.voice.err, &body)
}
