package smtp

import (
	"fmt"
	"strconv"
)

// wholly reports whether the text may travel with its envelope though the transaction has a name: the peer has told that it keeps no part of so
// short a one, so it cannot ask for the rest only.
func (t *transfer) wholly() bool {
	params, _ := t.c.Has("XCHECKPOINT")
	most, err := strconv.ParseInt(params, 10, 64)
	return t.transid == "" || err == nil && t.size <= most
}

// KeywordOffset is the EHLO keyword of a server that may be told with MAIL, "XOFFSET=n", which octet of a named transaction's text follows, so that the
// first chunk need not wait for the 355 of RFC 1845 §3. Behind the keyword it lists transactions that it has parts of, as transid=octets; the
// client may name that offset, and 0 for a message that it never sent before, of which nothing is worth keeping. Where the message was accepted already, 355
// says so all the same, and BDAT 0 LAST ends the transaction; where the offset is another, MAIL is refused like NotOfTransaction. It is a
// local extension (RFC 5321 §4.1.1.1) between two ends that know each other.
const KeywordOffset = "XOFFSET"

// locate finds out where the text begins without asking the peer; false: it must be asked. An offset holds once.
func (t *transfer) locate() bool {
	ok := t.c.has(KeywordOffset)
	if offset, rest, found := cutPart(t.c.parts, t.transid); ok && found && offset <= t.size {
		t.c.parts = rest
		t.named, t.offset = true, offset
		return true
	}
	t.named = ok && !t.tried
	return t.named
}

// resume takes the reply to MAIL that says how much of the text the peer has (RFC 1845 §3).
func (t *transfer) resume(r Reply) error {
	offset, ok := parseOffset(r.Text)
	switch {
	case !ok:
		return t.c.outOfStep("MAIL", r)
	case t.named && offset == t.offset:
		t.resumed = true
		return nil
	case t.named && (offset == t.size || offset == t.size+2): // it was accepted
		t.resumed = true
		t.known.Store(true)
		return nil
	case t.named:
		return t.c.outOfStep("MAIL", r)
	}
	// DATA ends a last line that has no end: such a text is two octets longer at the peer. One of another length is not ours.
	if offset > t.size+2 {
		t.settle(Reply{451, [3]int{4, 5, 0}, fmt.Sprintf("the next server has %d octets of a message of %d", offset, t.size)})
	}
	t.resumed, t.offset = true, min(offset, t.size)
	return nil
}

// skip passes over the text that the peer has: it is read and not sent.
func (t *transfer) skip(block []byte) error {
	for left := t.offset; left > 0; {
		n, err := t.read(block[:min(int64(len(block)), left)])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// resumedReply is what a refusal of RCPT behind 355 means. RFC 1845 §3 has no RCPT there: a peer that takes none forgets with the RSET that follows,
// and the next time the message is sent from its beginning.
func resumedReply(r Reply) Reply {
	switch {
	case r.Code == NotOfTransaction.Code && r.Enhanced == NotOfTransaction.Enhanced:
		return NotOfTransaction
	case r.Code == 503:
		return Reply{451, [3]int{4, 5, 1}, r.Text}
	}
	return r
}
