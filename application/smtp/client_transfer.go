package smtp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"time"

	"bothy/application/message"
)

// step is one command of a transfer.
type step uint8

const (
	stepReset step = iota // an earlier transaction may be open
	stepMail
	stepRcpt
	stepText // DATA, or BDAT with the text behind it
)

// steps yields the commands in order; rcpt is the recipient's index with stepRcpt.
func (t *transfer) steps(reset, text bool) iter.Seq2[step, int] {
	return func(yield func(step, int) bool) {
		if reset && !yield(stepReset, 0) || !yield(stepMail, 0) {
			return
		}
		for _, i := range t.asked {
			if !yield(stepRcpt, i) {
				return
			}
		}
		if text {
			yield(stepText, 0)
		}
	}
}

// appendStep appends a step's command line.
func (t *transfer) appendStep(b []byte, s step, rcpt int) []byte {
	switch s {
	case stepReset:
		return append(b, "RSET\r\n"...)
	case stepMail:
		return t.appendMail(b)
	case stepRcpt:
		return t.appendRcpt(b, &t.env.Recipients[rcpt])
	}
	if t.eager {
		return appendBDAT(b, t.size, true)
	}
	return append(b, "DATA\r\n"...)
}

// appendMail appends MAIL with what the peer offered to understand.
func (t *transfer) appendMail(b []byte) []byte {
	env, c := t.env, t.c
	b = t.appendPath(append(b, "MAIL FROM:"...), env.ReversePath)
	if c.has("SIZE") { // RFC 1870 §6
		b = strconv.AppendInt(append(b, " SIZE="...), t.size, 10)
	}
	if env.Body != message.Body7Bit { // RFC 6152 §2, RFC 3030 §3
		b = append(append(b, " BODY="...), env.Body.String()...)
	}
	if env.UTF8 { // RFC 6531 §3.4
		b = append(b, " SMTPUTF8"...)
	}
	if c.authed { // RFC 4954 §5: who does not know says so
		b = appendXtext(append(b, " AUTH="...), cmp.Or(env.Submitter, "<>"))
	}
	if t.dsn && env.Return != message.ReturnUnset { // RFC 3461 §5.2.1: as it came, or not at all
		b = append(append(b, " RET="...), env.Return.String()...)
	}
	if t.dsn && env.EnvelopeID != "" {
		b = appendXtext(append(b, " ENVID="...), env.EnvelopeID)
	}
	if c.has("MT-PRIORITY") { // RFC 6710 §4.2: always
		b = strconv.AppendInt(append(b, " MT-PRIORITY="...), int64(env.Priority), 10)
	}
	if env.RequireTLS && c.has("REQUIRETLS") && c.Conn.TLS() != nil { // RFC 8689 §4.2.1
		b = append(b, " REQUIRETLS"...)
	}
	if by := env.DeliverBy; !by.At.IsZero() && c.has("DELIVERBY") { // RFC 2852 §4.1.4: what is left of it
		b = appendBy(append(b, " BY="...), time.Until(by.At), by.Return, by.Trace)
	}
	return append(b, "\r\n"...)
}

// appendRcpt appends RCPT.
func (t *transfer) appendRcpt(b []byte, to *message.Recipient) []byte {
	b = t.appendPath(append(b, "RCPT TO:"...), to.Address)
	if t.dsn {
		if notify := t.notify(to); notify != 0 {
			b = append(append(b, " NOTIFY="...), notify.String()...)
		}
		if to.Original != "" { // RFC 3461 §5.2.1: to the letter
			b = append(append(b, " ORCPT="...), to.Original...)
		}
	}
	return append(b, "\r\n"...)
}

// notify is what goes on of a recipient's NOTIFY: what came (RFC 3461 §5.2.1), and DELAY where a deadline ends with this peer, so that
// the sender hears of it all the same (RFC 2852 §4.1.4.2).
func (t *transfer) notify(to *message.Recipient) message.Notify {
	by := &t.env.DeliverBy
	switch {
	case by.At.IsZero() || by.Return || t.c.has("DELIVERBY") || to.Notify == message.NotifyNever || !time.Now().Before(by.At):
		return to.Notify
	case to.Notify == 0:
		return message.NotifyFailure | message.NotifyDelay
	}
	return to.Notify | message.NotifyDelay
}

// appendPath appends a path, its domain as A-labels where the message is not internationalized.
func (t *transfer) appendPath(b []byte, a message.Address) []byte {
	if !t.env.UTF8 {
		a, _ = a.ASCII()
	}
	return appendPath(b, a)
}

func appendBDAT(b []byte, size int64, last bool) []byte {
	b = strconv.AppendInt(append(b, "BDAT "...), size, 10)
	if last {
		b = append(b, " LAST"...)
	}
	return append(b, "\r\n"...)
}

// wait is how long a step's reply may take (RFC 5321 §4.5.3.2).
func (t *transfer) wait(s step) time.Duration {
	switch {
	case s == stepMail:
		return t.c.Timeouts.Mail
	case s == stepRcpt:
		return t.c.Timeouts.Rcpt
	case s == stepText && t.eager:
		return t.c.Timeouts.DataDone
	case s == stepText:
		return t.c.Timeouts.DataInit
	}
	return t.c.Timeouts.Command
}

// run sends the message. An error ends the connection.
func (t *transfer) run(ctx context.Context) error {
	reset := t.c.open
	t.c.mails++
	t.c.open = true // until it is known not to be
	var text Reply  // to DATA or to the eager BDAT
	var err error
	if t.pipelining {
		text, err = t.flight(ctx, reset)
	} else {
		text, err = t.lockstep(ctx, reset)
	}
	switch {
	case err != nil:
		return err
	case t.eager:
		return t.concluded(text)
	case t.chunking && t.accepted > 0:
		return t.chunks(ctx)
	case text.Code == 0: // nobody to send it to
		t.c.open = t.mailed
		return nil
	case text.Code/100 == 3 && t.accepted > 0:
		return t.data(ctx)
	case text.Code/100 == 3:
		return t.emptyData(ctx)
	case text.Positive():
		return t.c.outOfStep("DATA", text)
	}
	t.settle(text)
	t.c.open = t.mailed
	return nil
}

// flight sends the commands in one go and reads their replies meanwhile, so that neither side waits for the other with
// full buffers (RFC 2920 §3.1).
func (t *transfer) flight(ctx context.Context, reset bool) (text Reply, err error) {
	withText := t.eager || !t.chunking
	v := t.speak(func(out, in []byte) error {
		for s, rcpt := range t.steps(reset, withText) {
			if out = t.appendStep(out, s, rcpt); len(out) >= blockSize {
				if err := t.write(out); err != nil {
					return err
				}
				out = out[:0]
			}
		}
		if t.eager {
			return t.writeText(out, t.size, true)
		}
		return t.write(out)
	})
	for s, rcpt := range t.steps(reset, withText) {
		var r Reply
		if s == stepText && t.eager {
			r, err = t.finalReply(ctx, v)
		} else {
			r, err = t.c.read(ctx, t.wait(s))
		}
		if err == nil {
			err = t.note(s, rcpt, r)
		}
		if err != nil {
			return Reply{}, v.give(err)
		}
		text = r
	}
	if !withText {
		text = Reply{}
	}
	return text, v.end()
}

// lockstep sends each command when the one before it is answered, and none in vain.
func (t *transfer) lockstep(ctx context.Context, reset bool) (text Reply, err error) {
	for s, rcpt := range t.steps(reset, !t.chunking) {
		if s == stepRcpt && !t.mailed || s == stepText && t.accepted == 0 {
			return Reply{}, nil
		}
		if err := t.write(t.appendStep(nil, s, rcpt)); err != nil {
			return Reply{}, err
		}
		r, err := t.c.read(ctx, t.wait(s))
		if err == nil {
			err = t.note(s, rcpt, r)
		}
		if err != nil {
			return Reply{}, err
		}
		if s == stepText {
			text = r
		}
	}
	return text, nil
}

// note takes the reply to one step.
func (t *transfer) note(s step, rcpt int, r Reply) error {
	switch {
	case s == stepText:
		return nil // run looks at it
	case r.Code/100 == 3:
		return t.c.outOfStep("an envelope command", r)
	case s == stepMail && r.Positive():
		t.mailed = true
	case s == stepMail:
		t.settle(r)
	case s == stepRcpt && !t.mailed: // already settled, whatever the peer makes of it
	case s == stepRcpt && r.Positive():
		t.accepted++
	case s == stepRcpt:
		t.replies[rcpt] = t.soften(r)
	}
	return nil
}

// soften makes a 552 to RCPT that means "too many recipients" temporary (RFC 5321 §4.5.3.1.10). It means that where its
// enhanced code says so, or where it has none and the peer has as many as it must be able to take.
func (t *transfer) soften(r Reply) Reply {
	const least = 100 // RFC 5321 §4.5.3.1.8
	tooMany := r.Enhanced == [3]int{5, 5, 3} || r.Enhanced == [3]int{} && t.accepted >= least
	if r.Code == 552 && tooMany {
		return Reply{452, [3]int{4, 5, 3}, r.Text}
	}
	return r
}

// concluded takes the reply to the end of the text.
func (t *transfer) concluded(r Reply) error {
	if r.Code/100 == 3 || r.Positive() && !t.ending.Load() {
		return t.c.outOfStep("the end of the message", r)
	}
	t.settle(r)
	// A refused BDAT leaves the peer's state open to doubt (RFC 3030 §2).
	t.c.open = t.chunking && !r.Positive()
	return nil
}

// data sends the text after 354 (RFC 5321 §4.1.1.4).
func (t *transfer) data(ctx context.Context) error {
	v := t.speak(func(out, in []byte) error {
		var dots stuffer
		for last := false; !last; {
			n, err := t.read(in)
			if err != nil {
				return err
			}
			last = t.left == 0
			out = dots.appendTo(out[:0], in[:n])
			if last {
				out = dots.end(out)
			}
			if dots.lines.bare || last && dots.lines.cr { // RFC 5321 §2.3.8: we must not send it
				return errBody{replyBareText}
			}
			t.ending.Store(last)
			if err := t.write(out); err != nil {
				return err
			}
		}
		return nil
	})
	r, err := t.finalReply(ctx, v)
	if err == nil {
		err = t.concluded(r)
	}
	if err != nil {
		return t.badBody(v.give(err))
	}
	return v.end()
}

// emptyData ends a DATA that was accepted though no recipient was (RFC 2920 §3.1). Its reply is nobody's.
func (t *transfer) emptyData(ctx context.Context) error {
	if err := t.write([]byte(".\r\n")); err != nil {
		return err
	}
	_, err := t.c.read(ctx, t.c.Timeouts.DataDone)
	t.c.open = err != nil
	return err
}

// chunks sends the text with BDAT (RFC 3030 §2), the chunks one behind the other if the peer pipelines.
func (t *transfer) chunks(ctx context.Context) error {
	if !t.pipelining {
		return t.chunkByChunk(ctx)
	}
	v := t.speak(func(out, _ []byte) error {
		for sent := int64(0); ; sent++ {
			if t.halted.Load() { // RFC 3030 §2: no more, and RSET
				t.aborted.Store(sent)
				return t.write(append(out, "RSET\r\n"...))
			}
			n, last := t.nextChunk()
			if err := t.writeText(appendBDAT(out, n, last), n, last); err != nil || last {
				return err
			}
		}
	})
	total := max(1, (t.size+chunkSize-1)/chunkSize)
	for k := int64(0); ; k++ {
		r, err := t.finalReply(ctx, v)
		if err == nil && r.Code/100 == 3 {
			err = t.c.outOfStep("BDAT", r)
		}
		switch {
		case err != nil:
			return t.badBody(v.give(err))
		case k == t.aborted.Load(): // this is the reply to RSET
			t.c.open = !r.Positive()
			return v.end()
		case k == total-1:
			if !t.halted.Load() {
				err = t.concluded(r)
			}
			return errors.Join(err, v.end())
		case !r.Positive() && !t.halted.Load():
			t.settle(r)
			t.halted.Store(true)
		}
	}
}

// chunkByChunk sends chunks to a peer that does not pipeline.
func (t *transfer) chunkByChunk(ctx context.Context) error {
	for last := false; !last; {
		var n int64
		n, last = t.nextChunk()
		v := t.speak(func(out, _ []byte) error { return t.writeText(appendBDAT(out, n, last), n, last) })
		r, err := t.finalReply(ctx, v)
		switch {
		case err == nil && (last || !r.Positive()):
			last, err = true, t.concluded(r)
		case err == nil && r.Code/100 == 3:
			err = t.c.outOfStep("BDAT", r)
		}
		if err != nil {
			return t.badBody(v.give(err))
		}
		if err := v.end(); err != nil {
			return err
		}
	}
	return nil
}

// nextChunk returns the size of the next chunk.
func (t *transfer) nextChunk() (n int64, last bool) {
	n = min(t.left, chunkSize)
	return n, n == t.left
}

// writeText writes what is in out and n octets of the text behind it; last says that the text ends with them.
func (t *transfer) writeText(out []byte, n int64, last bool) error {
	for {
		room := out[len(out):min(cap(out), max(blockSize, len(out)+1024))]
		got, err := t.read(room[:min(int64(len(room)), n)])
		if err != nil {
			return err
		}
		out = out[:len(out)+got]
		n -= int64(got)
		if n == 0 {
			t.ending.Store(last)
		}
		if err := t.write(out); err != nil || n == 0 {
			return err
		}
		out = out[:0]
	}
}

// errBody says that the message itself failed; the connection must not outlive it.
type errBody struct{ error }

func (e errBody) Unwrap() error { return e.error }

// read fills p with text, as far as there is any, and makes sure that behind the last octet there is none.
func (t *transfer) read(p []byte) (int, error) {
	n, err := io.ReadFull(t.body, p[:min(int64(len(p)), t.left)])
	if t.left -= int64(n); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return n, errBody{fmt.Errorf("smtp: %d octets before the end of the message: %w", t.left, err)}
	}
	if t.left > 0 {
		return n, nil
	}
	var more [1]byte
	switch n2, err := io.ReadFull(t.body, more[:]); {
	case n2 > 0:
		return n, errBody{fmt.Errorf("smtp: message longer than its %d octets", t.size)}
	case !errors.Is(err, io.EOF):
		return n, errBody{fmt.Errorf("smtp: at the end of the message: %w", err)}
	}
	return n, nil
}

func (t *transfer) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	return t.c.Conn.write(p, t.c.Timeouts.DataBlock)
}

// badBody settles with a refusal of our own what a fault of the message stopped.
func (t *transfer) badBody(err error) error {
	var body errBody
	var r Reply
	if errors.As(err, &body) && errors.As(body.error, &r) {
		t.settle(r)
	}
	return err
}

// voice is a goroutine that writes while the caller listens.
type voice struct {
	c    *Client
	done chan struct{}
	at   time.Time // when it ended, valid after done
	err  error     // what it ended with, valid after done
}

// speak starts write, which is given memory: out, empty, to gather in, and in to read into.
func (t *transfer) speak(write func(out, in []byte) error) *voice {
	v := &voice{c: t.c, done: make(chan struct{})}
	go func() {
		defer close(v.done)
		block := blocks.Get().(*[3*blockSize + 64]byte)
		defer blocks.Put(block)
		v.err = write(block[blockSize:blockSize], block[:blockSize])
		v.at = time.Now()
		// Half a message must never look like a whole one. A peer that takes nothing more has nothing more to say; one that
		// closed may have said why.
		var body errBody
		if errors.As(v.err, &body) || errors.Is(v.err, os.ErrDeadlineExceeded) {
			_ = t.c.Conn.Close()
		}
	}()
	return v
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
