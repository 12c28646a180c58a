package smtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"bothy/application/message"
)

// data is DATA (RFC 5321 §4.1.1.4).
func (s *Session) data(ctx context.Context, _ string) (Reply, error) {
	if s.state == mailing { // RFC 5321 §3.3, RFC 2920 §3.2
		return replyNoRcpt, nil
	}
	if s.excess && s.limits.Excess == excessReject { // RFC 5321 §4.5.3.1.10
		return replyTooManyIn, nil
	}
	if s.env.Body == message.BodyBinary { // RFC 3030 §3
		return replyBinary, nil
	}
	if s.deflated {
		return replyDeflated, nil
	}
	s.say(Reply{Code: 354, Text: "start mail input; end with <CRLF>.<CRLF>"})
	if err := s.Conn.flush(); err != nil {
		return Reply{}, err
	}
	b := s.newBody(ctx)
	reply := s.accept(ctx, b)
	if b.drain(); b.fatal != nil {
		return s.cut(b)
	}
	reply = s.verdict(b, reply)
	s.conclude(reply)
	s.reset()
	return reply, nil
}

// maxBehind is how many chunks behind one that failed are no error of the client's: 64 KiB each, more than any link holds.
const maxBehind = 1000

// bdat is BDAT (RFC 3030 §2). Whatever is wrong with it, the octets of its chunk are read.
func (s *Session) bdat(ctx context.Context, arg string) (Reply, error) {
	size, last, ok := parseBDAT(arg)
	if size < 0 { // how many octets of a message would be taken for commands is not known
		return replyNoSize, fmt.Errorf("%w: %w", ErrRefused, replyNoSize)
	}
	if s.state == chunking { // body.next asked for it
		if s.chunk.left, s.chunk.last = size, last; !ok {
			s.chunk.refusal = replyChunk
		}
		return Reply{}, nil
	}
	if s.behind++; s.state != broken {
		s.behind = 0
	}
	var reply Reply
	b := s.newBody(ctx)
	b.chunked, b.left, b.last = true, size, last
	if s.deflated && s.env != nil {
		b.inflater = newInflater(b)
		defer b.release()
	}
	row := &command{verb: "BDAT", legal: addressed, needs: needTLS | needIdentity}
	refusal := s.permit(row, "")
	switch {
	case !ok:
		refusal = replyChunk
	case refusal.Code == 0 && s.excess && s.limits.Excess == excessReject:
		refusal = replyTooManyIn
	}
	if s.state == mailing && refusal.Code == replySequence.Code {
		refusal = replyNoRcpt
	}
	if refusal.Code != 0 {
		b.refusal = refusal
	} else {
		s.state, s.chunk = chunking, b
		b.measure()
		reply = s.accept(ctx, b)
	}
	if reply.Positive() && !b.stopped() { // the acceptor did not care to read; what stops the copy is in b
		_, _ = io.Copy(io.Discard, b)
	}
	if b.aborted {
		return Reply{}, nil // what aborted it has been answered
	}
	if b.drain(); b.fatal != nil {
		return s.cut(b)
	}
	reply = s.verdict(b, reply)
	s.conclude(reply)
	if reply.Positive() {
		s.reset()
	} else {
		s.failChunk(b.last)
	}
	return reply, nil
}

// failChunk is the state behind a BDAT that failed: indeterminate until RSET, says RFC 3030 §2. Behind the last chunk the
// transaction is over; before it, the chunks that follow in the pipeline are discarded.
func (s *Session) failChunk(last bool) {
	if s.state&(fresh|ready|broken) != 0 {
		return
	}
	s.reset()
	if !last {
		s.state = broken
	}
}

// parseBDAT reads chunk-size [SP "LAST"] (RFC 3030 §2). size is -1 where it cannot be known.
func parseBDAT(arg string) (size int64, last, ok bool) {
	number, marker, _ := strings.Cut(arg, " ")
	size, err := strconv.ParseInt(number, 10, 64)
	if !isDigits(number) || err != nil {
		return -1, false, false
	}
	last = strings.EqualFold(marker, "LAST")
	return size, last, last || marker == ""
}

// accept gives the message to the Acceptor.
func (s *Session) accept(ctx context.Context, b *body) Reply {
	if s.server.Accept == nil {
		return Reply{554, [3]int{5, 3, 2}, "nobody takes mail here"}
	}
	content := io.Reader(b)
	if s.transaction != nil {
		var reply Reply
		if content, reply = s.checkpointed(b); reply.Code != 0 {
			return reply
		}
	}
	// A message that the client has begun to send is finished though the server is stopping (RFC 5321 §3.8).
	err := s.server.Accept.Accept(context.WithoutCancel(ctx), b.env, content)
	if err == nil {
		return Reply{250, [3]int{2, 0, 0}, b.env.ID.String() + " accepted"}
	}
	if b.refusal.Code != 0 || b.fatal != nil || b.aborted {
		return replyLocal // b knows better
	}
	return s.asReply(ctx, err, "DATA")
}

// verdict is the reply to the end of the text: what is wrong with it, or what the Acceptor said.
func (s *Session) verdict(b *body, accepted Reply) Reply {
	r := accepted
	if b.refusal.Code != 0 {
		r = b.refusal
	}
	if !r.Positive() {
		return r
	}
	s.errors, s.unknown = 0, 0
	s.Log().Info("message accepted", "id", b.env.ID, "recipients", len(b.env.Recipients), "octets", b.size)
	return r
}

// cut ends a session inside a message: with a last reply if one is due.
func (s *Session) cut(b *body) (Reply, error) {
	s.suspend()
	s.reset()
	var r Reply
	switch {
	case b.answered:
	case errors.Is(b.fatal, os.ErrDeadlineExceeded):
		return replyTimeout, b.fatal
	case errors.As(b.fatal, &r):
		return r, b.fatal
	}
	return Reply{}, b.fatal
}

// received is the Received field of the message in env.
func (s *Session) received() []byte {
	t := trace{
		helo: s.Helo, by: s.server.Hostname, extended: s.Extended, tls: s.Conn.TLS(), authed: s.authed,
		env: s.env, via: s.server.Via, at: s.now(), zone: s.server.ShowZone, peer: s.Peer.Addr(),
	}
	if s.server.Protocol == Submission && !s.server.ShowSubmitter {
		t.helo, t.peer = "submitter.invalid", netip.Addr{}
	}
	return t.appendReceived(make([]byte, 0, 256))
}

// body is the content of one message as the Acceptor reads it: our Received field, then the text that DATA or any number
// of BDATs bring. It reads the connection itself, so it holds no more than the connection's buffer.
type body struct {
	s   *Session
	ctx context.Context // of the session, for the commands between chunks
	env *message.Envelope

	head []byte // the Received field, as far as it was not read
	text []byte // text found and not read yet, in the connection's buffer
	size int64  // octets of text so far

	// DATA
	dots unstuffer
	// BDAT
	chunked  bool
	left     int64 // octets of the chunk still to come
	last     bool  // it is the last chunk
	ends     lineEnds
	inflater *inflater // nil: what comes is the text

	bareOK   bool // a CR or LF may stand alone
	header   headerScan
	over     bool          // all of it was found
	aborted  bool          // the client went on to something else between chunks
	refusal  Reply         // what is wrong with the message
	fatal    error         // what happened to the connection
	answered bool          // the client has been told of it
	patience time.Duration // how long the next octets may take
}

func (s *Session) newBody(ctx context.Context) *body {
	b := &body{s: s, ctx: ctx, env: s.env, patience: s.limits.DataTimeout, bareOK: s.server.AllowBareNewlines}
	if s.env != nil {
		b.bareOK = b.bareOK || s.env.Body == message.BodyBinary // RFC 3030 §3: octets, not lines
		s.env.ID = message.NewID(s.now())
		b.head = s.received()
	}
	if s.transaction != nil {
		b.resume(s.transaction)
	}
	s.Conn.growForData()
	return b
}

var errAborted = errors.New("smtp: message aborted by the client")

// Read gives the content octet by octet; see Acceptor for its errors.
func (b *body) Read(p []byte) (int, error) {
	if len(b.head) == 0 && len(b.text) == 0 {
		if err := b.next(); err != nil {
			return 0, err
		}
	}
	if len(b.head) > 0 {
		n := copy(p, b.head)
		b.head = b.head[n:]
		return n, nil
	}
	n := copy(p, b.text)
	b.text = b.text[n:]
	return n, nil
}

// WriteTo gives the content without a copy in between.
func (b *body) WriteTo(w io.Writer) (total int64, err error) {
	write := func(p []byte) error {
		n, err := w.Write(p)
		total += int64(n)
		return err
	}
	for {
		if len(b.head) > 0 {
			if err := write(b.head); err != nil {
				return total, err
			}
			b.head = nil
		}
		if len(b.text) > 0 {
			if err := write(b.text); err != nil {
				return total, err
			}
			b.text = nil
		}
		switch err := b.next(); {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return total, err
		}
	}
}

// next finds more text, checked.
func (b *body) next() error {
	for {
		switch {
		case b.fatal != nil:
			return b.fatal
		case b.aborted:
			return errAborted
		case b.refusal.Code != 0:
			return b.refusal
		case b.over:
			return io.EOF
		}
		if b.find(); len(b.text) > 0 && b.refusal.Code == 0 {
			return nil
		}
	}
}

// find takes the next step towards more text: it finds some, reads some, or sees the end.
func (b *body) find() {
	c := b.s.Conn
	b.text = nil
	if b.inflater != nil {
		b.inflate()
		return
	}
	if b.chunked && b.left == 0 {
		b.nextChunk()
		return
	}
	used := 0
	if b.chunked {
		used = int(min(int64(len(c.in)), b.left))
		b.text = c.in[:used]
		b.left -= int64(used)
		b.ends.write(b.text)
	} else {
		b.text, used, b.over = b.dots.next(c.in)
	}
	c.in = c.in[used:]
	if used == 0 {
		b.lose(b.fill())
		return
	}
	b.check()
}

// lose notes what happened to the connection. A connection that ends is no end of a message: nobody must see io.EOF for it.
func (b *body) lose(err error) {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	b.fatal = err
}

// check looks at the text just found.
func (b *body) check() {
	b.size += int64(len(b.text))
	if b.s.server.Arrived != nil {
		b.s.server.Arrived(b.size)
	}
	if !b.header.over {
		b.readHeader()
	}
	switch {
	case b.refusal.Code != 0:
	case b.size > b.s.limits.MessageSize: // RFC 1870 §6.3
		b.refusal = replyTooBig
	case (b.dots.bare || b.ends.bare) && !b.bareOK,
		b.header.ends.bare && !b.s.server.AllowBareNewlines: // a header has lines whatever BODY says: else fields hide in others (RFC 5322 §2.2)
		b.refusal = replyBareText
	case b.s.server.Refuse8Bit && b.env.Body == message.Body7Bit && !b.env.UTF8 && !isASCII(b.text):
		b.refusal = reply8Bit
	case b.header.received > maxReceived: // RFC 5321 §6.3
		b.refusal = replyLoop
	}
}

// readHeader goes through the header section, as far as text holds it. A text that begins with white space has none: it is parted from
// our own field, which it would continue.
func (b *body) readHeader() {
	b.header.write(b.text)
	if b.header.loose {
		b.head = append(b.head, "\r\n"...)
	}
	if b.over {
		b.header.end()
	}
	if b.header.over || b.over {
		b.learn()
	}
}

// learn takes from the header section what the envelope should have said, and refuses what is not wanted here.
func (b *body) learn() {
	h, offer := &b.header, &b.s.server.Offer
	if b.env == nil {
		return
	}
	b.env.TLSOptional = h.noTLS && !b.env.RequireTLS // RFC 8689 §4.1
	b.env.Solicit = h.solicit                        // RFC 3865 §2.3: the field is the source, the parameter its copy
	if found := unwanted(h.solicit, offer.Unsolicited); found != "" && offer.NoSoliciting && b.refusal.Code == 0 {
		b.refusal = replySolicit(found)
	}
}

// fill reads more. Each octet that comes buys time, up to the longest silence, at the slowest rate that is borne. The time
// that the Acceptor takes costs the client nothing.
func (b *body) fill() error {
	c, limits := b.s.Conn, &b.s.limits
	start := time.Now()
	deadline := start.Add(b.patience)
	for {
		_ = c.SetReadDeadline(deadline)
		err := c.fill()
		now := time.Now()
		if errors.Is(err, os.ErrDeadlineExceeded) && now.Before(deadline) {
			continue // the end of ctx interrupts commands, not messages
		}
		bought := time.Duration(len(c.in)) * time.Second / time.Duration(limits.DataRate)
		b.patience = min(deadline.Sub(now)+bought, limits.DataTimeout)
		return err
	}
}

// nextChunk ends a chunk: the message with it, or it is answered and the next BDAT waited for (RFC 3030 §2).
func (b *body) nextChunk() {
	s := b.s
	if b.last {
		b.over = true
		if !b.header.over {
			b.header.end()
			b.learn()
		}
		if b.ends.cr && !b.bareOK { // the message ends with a lone CR
			b.refusal = replyBareText
		}
		return
	}
	s.say(Reply{250, [3]int{2, 0, 0}, "chunk taken"})
	b.left = -1
	for b.left < 0 && !b.stopped() {
		b.lose(s.step(b.ctx))
		b.answered = b.fatal != nil
		b.aborted = s.chunk != b && b.fatal == nil
	}
	b.measure()
	b.patience = s.limits.DataTimeout
	s.Conn.growForData()
}

// measure refuses a chunk that makes the message too big before its octets come.
func (b *body) measure() {
	if most := b.s.limits.MessageSize; b.refusal.Code == 0 && b.left > most-b.size {
		b.refusal = replyTooBig
	}
}

// stopped reports whether nothing more comes.
func (b *body) stopped() bool { return b.over || b.aborted || b.fatal != nil || b.refusal.Code != 0 }

// drain reads what is left of the text, or of the chunk, and forgets it: the client is owed that before a refusal. One that
// sends much more than it may is told so and cut off.
func (b *body) drain() {
	b.text = nil
	if b.inflater != nil { // what follows is octets, and says nothing of the message
		refusal := b.refusal
		defer func() { b.refusal = refusal }()
		b.release()
	}
	most := b.size + 2*b.s.limits.MessageSize
	for b.fatal == nil && !b.over && !b.aborted && (!b.chunked || b.left > 0) {
		if b.find(); b.size > most {
			b.fatal = fmt.Errorf("%w: %w", ErrRefused, replyTooBig)
		}
	}
}
