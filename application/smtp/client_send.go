package smtp

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bothy/application/message"
)

const (
	eagerSize = 32 << 10 // a text as long as this at most travels in the flight of its envelope: a round trip against waste
	chunkSize = 64 << 10 // of a BDAT (RFC 3030 §2: reasonable), but for one that is sent ahead: see pace
)

// blocks are for message text on its way: half for what is read, the rest for the same with its dots doubled.
var blocks = sync.Pool{New: func() any { return new([3*blockSize + 64]byte) }}

// Send transfers one message: pipelined MAIL, RCPT and DATA or BDAT as the peer offers (RFC 2920, RFC 3030). The reply of each
// recipient stands at its index: what the peer answered to RCPT, or for accepted ones to the end of data. Recipients whom the
// peer cannot be asked about (message too big for it, more of them than its LIMITS, 8-bit or UTF-8 it does not offer to take) get a
// Reply of our own: see Lacks. Where the sender's wishes about notices end with this peer, OwesRelayed says so. err is not
// nil when the connection is lost or out of step: then replies holds those that are certain, and the zero Reply for the rest
// (RFC 1047). body is read once; size is its exact number of octets. If body fails or is of another size, the connection
// is closed, so that no part of it can be taken for a message.
func (c *Client) Send(ctx context.Context, env *message.Envelope, body io.Reader, size int64) (replies []Reply, err error) {
	return c.Transfer(ctx, Outgoing{Envelope: env, Body: body, Size: size})
}

// Transfer is Send for a message whose transaction has a name; nobody is told when it is Done but by the return.
func (c *Client) Transfer(ctx context.Context, m Outgoing) (replies []Reply, err error) {
	t := newTransfer(c, m)
	if err := c.inStep(); err != nil || len(m.Envelope.Recipients) == 0 {
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

func newTransfer(c *Client, m Outgoing) *transfer {
	t := &transfer{c: c, env: m.Envelope, body: m.Body, size: m.Size, left: m.Size, replies: make([]Reply, len(m.Envelope.Recipients))}
	if c.has("CHECKPOINT") {
		t.transid = m.TransID
	}
	t.aborted.Store(-1)
	t.chunks.Store(unknownChunks)
	t.tried, t.rcptDone = m.Tried, m.Asked
	return t
}

// transfer is one message on its way (RFC 5321 §3.3): a row of commands, whose replies are counted (RFC 2920 §3.1).
type transfer struct {
	c       *Client
	env     *message.Envelope
	body    io.Reader
	size    int64
	replies []Reply // zero while not certain

	pipelining, chunking bool
	dsn                  bool
	eager                bool  // the text is in the flight of the envelope
	asked                []int // the recipients that the peer is asked about
	rcptDone             func(i int, r Reply)

	ahead    int64         // octets of a long text that are in the flight of the envelope; 0: it waits for the replies
	answered chan struct{} // closed when they came, for what is sent ahead
	told     bool          // it is closed

	transid  string // TRANSID; empty: none
	tried    bool   // the peer may have some of it under this name
	named    bool   // MAIL says with XOFFSET where the text begins that follows
	resumed  bool   // the peer has the text up to offset
	offset   int64  // octets
	deflated bool   // the text goes compressed
	packed   []byte // all of it, where it is eager

	reset    bool          // RSET goes before MAIL
	voice    *voice        // what is on its way of it
	convoy   chan<- *voice // its turn among other messages; nil: it is alone
	over     bool          // nothing more is sent or heard of it
	mailed   bool          // MAIL was accepted
	accepted int           // recipients

	left    int64        // octets of the text still to be read
	ending  atomic.Bool  // the end of the text is on its way: only now may it be accepted
	halted  atomic.Bool  // a chunk was refused, or there is nobody to send it to: no more of them
	known   atomic.Bool  // the peer has all of it
	sent    atomic.Int64 // chunks whose BDAT is on its way
	wired   atomic.Int64 // octets in them
	chunks  atomic.Int64 // of them when the last one is; else unknownChunks
	aborted atomic.Int64 // chunks that were sent before the RSET that ended them; -1 if none did
}

// What Send answers for a peer that does not offer what a message needs. A Reply can be compared, so who can make such a message
// fit knows it by ==, beforehand with Lacks.
var (
	NeedsBinaryMIME = Reply{554, [3]int{5, 6, 3}, "binary message, the next server does not offer BINARYMIME"}                       // RFC 3030 §3
	Needs8BitMIME   = Reply{554, [3]int{5, 6, 3}, "8-bit message, the next server does not offer 8BITMIME"}                          // RFC 6152 §3
	NeedsSMTPUTF8   = Reply{553, [3]int{5, 6, 7}, "internationalized message, the next server does not offer SMTPUTF8"}              // RFC 6531 §3.2
	NeedsTLS        = Reply{550, [3]int{5, 7, 10}, "the sender requires TLS, there is none to the next server"}                      // RFC 8689 §4.2.1
	NeedsRequireTLS = Reply{550, [3]int{5, 7, 30}, "the sender requires TLS all the way, the next server does not offer REQUIRETLS"} // RFC 8689 §4.2.1
	NeedsDeliverBy  = Reply{554, [3]int{5, 3, 3}, "the sender's deadline, or one so near, means nothing to the next server"}         // RFC 2852 §4.1.4.1
	DeadlineOver    = Reply{554, [3]int{5, 4, 7}, "delivery time expired"}                                                           // RFC 2852 §4.1.3
	SessionFull     = Reply{421, [3]int{4, 5, 0}, "the next server takes no more messages in this session"}                          // RFC 9422 §4.1
	RecipientsFull  = Reply{452, [3]int{4, 5, 3}, "the next server takes no more recipients with this message"}                      // RFC 9422 §4.2, §4.3
)

// Lacks returns the refusal that Send would give a message of size octets because of what the peer does not offer; the zero Reply if
// the peer can be asked to take it. What is peculiar to one recipient is not looked at.
func (c *Client) Lacks(env *message.Envelope, size int64) Reply {
	limit := c.sizeLimit()
	switch {
	case limit > 0 && size > limit: // RFC 1870 §4
		return Reply{552, [3]int{5, 3, 4}, fmt.Sprintf("message of %d octets, the next server takes %d", size, limit)}
	case env.Body == message.Body8Bit && !c.has("8BITMIME"):
		return Needs8BitMIME
	case env.Body == message.BodyBinary && !(c.has("BINARYMIME") && c.has("CHUNKING")):
		return NeedsBinaryMIME
	case env.UTF8 && !c.has("SMTPUTF8"):
		return NeedsSMTPUTF8
	case !env.UTF8 && !asciiPath(env.ReversePath):
		return Reply{550, [3]int{5, 6, 7}, "non-ASCII sender without SMTPUTF8"}
	case env.RequireTLS && !env.ReversePath.IsNull() && c.Conn.TLS() == nil: // RFC 8689 §5: notices go on without
		return NeedsTLS
	case env.RequireTLS && !env.ReversePath.IsNull() && !c.has("REQUIRETLS"):
		return NeedsRequireTLS
	}
	return c.lacksTime(env)
}

// Takes returns what the peer can be sent: the BODY type that needs most of it (RFC 6152 §3, RFC 3030 §3).
func (c *Client) Takes() message.BodyType {
	switch {
	case c.has("BINARYMIME") && c.has("CHUNKING"):
		return message.BodyBinary
	case c.has("8BITMIME"):
		return message.Body8Bit
	}
	return message.Body7Bit
}

// lacksTime is Lacks for a message with a deadline behind which it goes back (RFC 2852 §4.1.4.1).
func (c *Client) lacksTime(env *message.Envelope) Reply {
	if !env.DeliverBy.Return {
		return Reply{}
	}
	left := time.Until(env.DeliverBy.At)
	params, ok := c.Has("DELIVERBY")
	shortest, _, _ := strings.Cut(params, ",")
	least, err := strconv.Atoi(shortest)
	switch {
	case left < time.Second:
		return DeadlineOver
	case !ok, err == nil && left < time.Duration(least)*time.Second:
		return NeedsDeliverBy
	}
	return Reply{}
}

// OwesRelayed reports whether a recipient whom the peer accepted will never be heard of again though the sender asked: then a "relayed"
// notice is the caller's to send (RFC 3461 §5.2.2, RFC 2852 §4.1.4).
func (c *Client) OwesRelayed(env *message.Envelope, to *message.Recipient) bool {
	by := &env.DeliverBy
	switch {
	case env.ReversePath.IsNull() || to.Notify == message.NotifyNever:
		return false
	case to.Notify&message.NotifySuccess != 0 && !c.has("DSN"):
		return true
	}
	return by.Trace || !by.At.IsZero() && !by.Return && !c.has("DELIVERBY") && time.Now().Before(by.At) // RFC 2852 §4.1.4.2
}

// fit answers for the peer where it is known that it cannot take the message; it reports whether there is anything to send.
func (t *transfer) fit() bool {
	c := t.c
	t.pipelining, t.chunking = c.has("PIPELINING"), c.has("CHUNKING")
	t.chunking = t.chunking && !c.LMTP // one way to the replies of RFC 2033 §4.2 is enough: DATA's
	t.dsn = c.has("DSN")
	if r := c.Lacks(t.env, t.size); r.Code != 0 {
		t.settle(r)
	} else if c.bounds.mails > 0 && c.mails >= c.bounds.mails {
		t.settle(SessionFull)
	}
	for i, to := range t.env.Recipients {
		if t.replies[i].Code == 0 && !t.env.UTF8 && !asciiPath(to.Address) {
			t.replies[i] = Reply{553, [3]int{5, 6, 7}, "non-ASCII recipient without SMTPUTF8"}
		}
		if t.replies[i].Code == 0 && !t.admits(to.Address.Domain) {
			t.replies[i] = RecipientsFull
		}
		if t.replies[i].Code == 0 {
			t.asked = append(t.asked, i)
		}
	}
	t.deflated = c.Deflate && t.pipelining && t.chunking && c.has(KeywordDeflate) && t.size > 0
	t.eager = t.pipelining && t.chunking && t.size <= eagerSize && t.wholly()
	return len(t.asked) > 0
}

// admits reports whether one more recipient is within the peer's limits (RFC 9422 §4.2, §4.3).
func (t *transfer) admits(domain string) bool {
	c := t.c
	if most := c.bounds.recipients; most > 0 && len(t.asked) >= most {
		return false
	}
	if c.bounds.domains == 0 || c.domains[domain] {
		return true
	}
	if len(c.domains) >= c.bounds.domains {
		return false
	}
	if c.domains == nil {
		c.domains = make(map[string]bool)
	}
	c.domains[domain] = true
	return true
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
