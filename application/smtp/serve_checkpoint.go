package smtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"bothy/application/checkpoint"
	"bothy/application/message"
)

// A transaction that MAIL names with TRANSID is taken up where it was cut off (RFC 1845 §3): 355 says how much of the text is here, and DATA or
// BDAT bring the rest. What RFC 1845 leaves open:
//
//	The rest may come with BDAT as well as with DATA, whichever brought what is here: the offset is a line's beginning, unless the text has no
//	lines (BODY=BINARYMIME).
//
//	RCPT may follow 355: then the recipients are those named now. So a client that died too, and does not know who was accepted, asks again.
//
//	Behind the reply to a message that was accepted 355 says all of its octets: DATA with nothing, or BDAT 0 LAST, gets the reply that was
//	lost. So does the whole text, which is thrown away. RCPT confirms whom it was accepted for; another recipient gets 451 4.5.1, and needs a
//	transaction of another name.
//
//	A transaction is told from others by who the client is, the name in EHLO, TRANSID, the reverse-path, SIZE, BODY and SMTPUTF8: the same name
//	with another of these is another transaction.
//
//	A short text (checkpoint.Config.Least) is never asked for from its middle, and XCHECKPOINT tells so (RFC 5321 §4.1.1.1: a local extension): such a one may
//	be sent behind MAIL and RCPT, without a wait for the reply to MAIL.
//
//	A client that we have called is told at EHLO what is here, and says with MAIL where the text begins that follows: see KeywordOffset.
//
//	A session that has the transaction still, because its connection died unseen, is closed. Before that, and where the client takes no replies any more,
//	the text that has arrived is read: it came over the link, and should not come again. It may be all of it: then the message is accepted,
//	and 355 tells so.
//
// What is kept is given up where the client ends the transaction itself (RSET, EHLO, QUIT), and where the message is refused for good.

// NotOfTransaction answers RCPT in a transaction that was accepted without this recipient: one of another name will do.
var NotOfTransaction = Reply{451, [3]int{4, 5, 1}, "this transaction was accepted without this recipient: give it another TRANSID"}

var (
	replyRecipient   = Reply{250, [3]int{2, 1, 5}, "recipient ok"}
	replyElsewhere   = Reply{450, [3]int{4, 5, 0}, "another session has this transaction"}
	replyOtherText   = Reply{554, [3]int{5, 5, 0}, "another message was accepted with this TRANSID"}
	replyOtherPart   = Reply{NotOfTransaction.Code, NotOfTransaction.Enhanced, "another part of the text is here: give it another TRANSID"}
	replyMoreThanAll = Reply{451, [3]int{4, 5, 0}, "more text than SIZE said behind the offset: send it again from the beginning"}
)

func offersCheckpoint(s *Session) bool {
	return s.server.Checkpoints != nil && s.server.Protocol != Held
}

// offersOffset is for a client that we have called: whose transactions are which is known at EHLO, and nobody else's business.
func offersOffset(s *Session) bool { return offersCheckpoint(s) && s.server.PeerName != "" }

func takeOffset(s *Session, _ *message.Envelope, _ *message.Recipient, p parameter) Reply {
	offset, ok := parseOffset(p.value)
	if !ok {
		return badValue(p.keyword)
	}
	s.from = offset
	return Reply{}
}

func takeTransID(s *Session, _ *message.Envelope, _ *message.Recipient, p parameter) Reply {
	if !isTransID(p.value) {
		return badValue(p.keyword)
	}
	s.transid = p.value
	return Reply{}
}

// checkpoint makes the open transaction the one that s.transid names and returns the reply to MAIL: accepted, or where to go on.
func (s *Session) checkpoint(ctx context.Context, accepted Reply) Reply {
	env, owner := s.env, s.server.PeerName
	switch {
	case s.env.Account != "":
		owner = "account " + env.Account
	case owner == "":
		owner = "client " + s.Peer.Addr().String()
	}
	key := message.NewTransactionKey(owner, s.Helo, s.transid, env.ReversePath.Local, env.ReversePath.Domain,
		strconv.FormatInt(env.Size, 10), env.Body.String(), strconv.FormatBool(env.UTF8))
	t, err := s.server.Checkpoints.Begin(ctx, owner, s.transid, key, env.Body == message.BodyBinary, s.stopper())
	if err != nil {
		s.reset()
		return replyElsewhere
	}
	s.transaction, s.restored = t, false
	s.Conn.hearsOut = true
	if known, id, ok := t.Accepted(); ok {
		s.state = addressed
		s.Log().Info("message asked for again", "id", id)
		return Reply{Code: 355, Text: fmt.Sprintf("%d is the transaction offset: it was accepted as %v", known.Size, id)}
	}
	switch {
	case s.from == 0:
		t.Restart()
	case s.from > 0 && s.from != t.Offset():
		s.suspend()
		s.reset()
		return replyOtherPart
	}
	if t.Offset() == 0 {
		return accepted
	}
	env.Recipients = slices.Clone(t.Recipients())
	s.state, s.restored = addressed, true
	s.Log().Info("message goes on", "octets", t.Offset(), "recipients", len(env.Recipients))
	return Reply{Code: 355, Text: fmt.Sprintf("%d is the transaction offset", t.Offset())}
}

// hearingOut is how long a session whose client has come back may read what the client sent before.
const hearingOut = time.Second

// stopper returns what ends the session from outside, behind what has arrived.
func (s *Session) stopper() func() {
	nc := s.Conn.Conn
	if below, ok := nc.(interface{ NetConn() net.Conn }); ok { // a peer that is gone takes no farewell from TLS
		nc = below.NetConn()
	}
	return func() {
		half, ok := nc.(interface{ CloseRead() error })
		if !ok || half.CloseRead() != nil {
			_ = nc.Close()
			return
		}
		time.AfterFunc(hearingOut, func() { _ = nc.Close() })
	}
}

// repeats reports whether the open transaction was accepted before.
func (s *Session) repeats() bool {
	if s.transaction == nil {
		return false
	}
	_, _, ok := s.transaction.Accepted()
	return ok
}

// renames reports whether the transaction was accepted before, for this recipient too. Where one that was cut off goes on, the first RCPT puts
// an end to the recipients it had.
func (s *Session) renames(to message.Address) bool {
	if s.transaction == nil {
		return false
	}
	if s.restored {
		s.env.Recipients, s.state, s.restored = nil, mailing, false
	}
	known, _, ok := s.transaction.Accepted()
	return ok && known.Accepted(to)
}

// checkpointed returns the message of a transaction that has a name, once all of it is here. A reply that is not zero stands for it.
func (s *Session) checkpointed(b *body) (io.Reader, Reply) {
	t := s.transaction
	if known, id, ok := t.Accepted(); ok {
		return nil, s.repeat(b, known, id)
	}
	resumed, head := t.Offset() > 0, b.head
	b.head = nil
	t.SetRecipients(b.env.Recipients)
	for {
		err := b.next()
		switch {
		case errors.Is(err, io.EOF):
			if size := t.Size(); resumed && b.env.Size > 0 && size > b.env.Size+2 { // DATA may have ended a last line
				s.forget()
				return nil, replyMoreThanAll
			}
			b.env.Transaction = message.Transaction{Key: t.Key(), Size: t.Size()}
			for _, to := range b.env.Recipients {
				b.env.Transaction.To = append(b.env.Transaction.To, message.RecipientHash(to.Address))
			}
			return io.MultiReader(bytes.NewReader(head), t.Text()), Reply{}
		case err != nil:
			return nil, replyLocal // b knows better
		}
		n, err := t.Write(b.text)
		if b.text = b.text[n:]; err != nil { // no room to keep it: as if the client had not asked for that
			return io.MultiReader(bytes.NewReader(head), t.Text(), b), Reply{}
		}
	}
}

// repeat answers for a message that was accepted before: with no text, or all of it, comes the reply that was lost; and with the chunk that was on its
// way already where MAIL said what follows.
func (s *Session) repeat(b *body, known *message.Transaction, id message.ID) Reply {
	b.head, b.env.ID = nil, id
	if s.from >= 0 { // octets, to be thrown away
		b.release()
		b.bareOK, b.header.over = true, true
	}
	n, err := io.Copy(io.Discard, b)
	switch {
	case err != nil:
		return replyLocal // b knows better
	case n != 0 && n != known.Size && s.from < 0:
		return replyOtherText
	}
	return Reply{250, [3]int{2, 0, 0}, id.String() + " accepted"}
}

// resume takes up the count of what is here.
func (b *body) resume(t *checkpoint.Transaction) {
	b.size = t.Offset()
	text, block := t.Text(), make([]byte, 4<<10)
	for b.size > 0 && !b.header.over {
		n, err := text.Read(block)
		if b.header.write(block[:n]); err != nil {
			return // whoever reads it next will say so
		}
	}
}

// conclude keeps the text of a message that was refused for now: the client need not send it again.
func (s *Session) conclude(r Reply) {
	if r.Temporary() {
		s.suspend()
	}
}

// suspend keeps what is here of the open transaction.
func (s *Session) suspend() {
	if t := s.transaction; t != nil {
		s.transaction, s.Conn.hearsOut = nil, false
		t.Suspend(s.env.Recipients)
	}
}

// forget keeps nothing of it.
func (s *Session) forget() {
	if t := s.transaction; t != nil {
		s.transaction, s.Conn.hearsOut = nil, false
		t.Forget()
	}
}
