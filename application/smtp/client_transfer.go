package smtp

import (
	"cmp"
	"context"
	"iter"
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
		return appendBDAT(b, t.wire(), true)
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
	if t.deflated {
		b = append(append(b, ' '), KeywordDeflate...)
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
	if env.Solicit != "" && c.has("NO-SOLICITING") { // RFC 3865 §2.3
		b = append(append(b, " SOLICIT="...), env.Solicit...)
	}
	if c.has("MTRK") && t.dsn && env.EnvelopeID != "" { // RFC 3885 §3.3
		b = appendTracking(b, env.Tracking, time.Now())
	}
	if t.transid != "" { // RFC 1845 §3
		b = append(append(b, " TRANSID="...), t.transid...)
	}
	if t.named {
		b = strconv.AppendInt(append(b, " "+KeywordOffset+"="...), t.offset, 10)
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
	if t.pipelining {
		t.begin(t.c.open)
		if err := t.envelope(ctx); err != nil {
			return err
		}
	} else if err := t.lockstep(ctx); err != nil {
		return err
	}
	if t.over {
		return nil
	}
	return t.finish(ctx)
}

// begin puts the commands on their way in one go (RFC 2920 §3.1), and a short text behind them, or the first chunk of a long one.
func (t *transfer) begin(reset bool) {
	t.reset = reset
	t.c.mails++
	t.c.open = true // until it is known not to be
	t.lead()
	t.voice = t.speak(func(out, in []byte) error {
		if err := t.pack(); err != nil {
			return err
		}
		for s, rcpt := range t.steps(t.reset, t.eager || !t.chunking) {
			if out = t.appendStep(out, s, rcpt); len(out) >= blockSize {
				if err := t.write(out); err != nil {
					return err
				}
				out = out[:0]
			}
		}
		switch {
		case t.eager:
			return t.writeEager(out)
		case t.ahead > 0:
			return t.writeChunks(out, in)
		}
		return t.write(out)
	})
	t.voice.release = t.release
}

// envelope reads the replies to what begin sent. It may do so while that is still being written, so that neither side waits for
// the other with full buffers (RFC 2920 §3.1). It puts the text on its way if it is wanted; else the transfer is over.
func (t *transfer) envelope(ctx context.Context) error {
	withText := t.eager || !t.chunking
	var text Reply // to DATA or to the eager BDAT
	for s, rcpt := range t.steps(t.reset, withText) {
		var r Reply
		var err error
		if s == stepText && t.eager {
			r, err = t.finalReply(ctx, t.voice)
		} else {
			r, err = t.c.read(ctx, t.wait(s))
		}
		if err == nil {
			err = t.note(s, rcpt, r)
		}
		if err != nil {
			return t.voice.give(err)
		}
		if s == stepText {
			text = r
		}
	}
	t.c.refused = t.accepted == 0
	if t.ahead > 0 {
		if t.accepted == 0 { // RFC 3030 §2: the chunk that is on its way is discarded
			t.halted.Store(true)
		}
		t.release()
		return nil
	}
	if err := t.voice.end(); err != nil {
		return err
	}
	return t.proceed(ctx, text)
}

// proceed decides what follows the envelope.
func (t *transfer) proceed(ctx context.Context, text Reply) error {
	t.over = true
	switch {
	case t.eager:
		return t.concluded(text)
	case t.chunking && t.accepted > 0:
		if t.over = false; t.pipelining {
			t.voice = t.speak(t.writeChunks)
		}
	case text.Code == 0: // nobody to send it to
		t.c.open = t.mailed
	case text.Code/100 == 3 && t.accepted > 0:
		if err := t.c.inStep(); err != nil { // a reply to the text cannot be there before the text
			return err
		}
		t.over = false
		t.voice = t.speak(t.writeData)
	case text.Code/100 == 3:
		return t.emptyData(ctx)
	case text.Positive():
		return t.c.outOfStep("DATA", text)
	default:
		t.settle(text)
		t.c.open = t.mailed
	}
	return nil
}

// finish reads the replies to the text.
func (t *transfer) finish(ctx context.Context) error {
	t.over = true
	switch {
	case !t.chunking:
		return t.dataReply(ctx)
	case t.pipelining:
		return t.chunkReplies(ctx)
	}
	return t.chunkByChunk(ctx)
}

// lockstep sends each command when the one before it is answered, and none in vain.
func (t *transfer) lockstep(ctx context.Context) error {
	t.reset = t.c.open
	t.c.mails++
	t.c.open = true
	var text Reply
	for s, rcpt := range t.steps(t.reset, !t.chunking) {
		if s == stepRcpt && !t.mailed || s == stepText && t.accepted == 0 {
			break
		}
		if err := t.c.inStep(); err != nil { // else every reply is taken for that to the command behind its own
			return err
		}
		if err := t.write(t.appendStep(nil, s, rcpt)); err != nil {
			return err
		}
		r, err := t.c.read(ctx, t.wait(s))
		if err == nil {
			err = t.note(s, rcpt, r)
		}
		if err != nil {
			return err
		}
		if s == stepText {
			text = r
		}
	}
	return t.proceed(ctx, text)
}

// note takes the reply to one step.
func (t *transfer) note(s step, rcpt int, r Reply) error {
	if s == stepRcpt && t.mailed && t.rcptDone != nil {
		t.rcptDone(rcpt, r)
	}
	switch {
	case s == stepText:
		return nil // run looks at it
	case s == stepMail && r.Code == 355 && t.transid != "":
		t.mailed = true
		return t.resume(r)
	case r.Code/100 == 3:
		return t.c.outOfStep("an envelope command", r)
	case s == stepMail && r.Positive() && t.named && t.offset > 0:
		return t.c.outOfStep("MAIL of a message that goes on", r)
	case s == stepMail && r.Positive():
		t.mailed = true
	case s == stepMail && t.named:
		t.settle(resumedReply(r))
	case s == stepMail:
		t.settle(r)
	case s == stepRcpt && t.replies[rcpt].Code != 0: // already settled with MAIL, whatever the peer makes of it
	case s == stepRcpt && r.Positive():
		t.accepted++
	case s == stepRcpt:
		if t.replies[rcpt] = t.soften(r); t.resumed {
			t.replies[rcpt] = resumedReply(r)
		}
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
	if r.Positive() {
		t.c.pace.heard(cmp.Or(t.wired.Load(), t.wire()), time.Now())
	}
	// A refused BDAT leaves the peer's state open to doubt (RFC 3030 §2).
	t.c.open = t.chunking && !r.Positive()
	return nil
}
