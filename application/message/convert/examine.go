package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"bothy/application/message"
)

// Plan is what must be done to one message so that a server can take it.
type Plan struct {
	Body  message.BodyType // the least BODY type that carries what Reader returns
	Size  int64            // octets that Reader returns
	parts []change         // by entity, in order of appearance; nil: the message goes as it is
}

// change is what becomes of one entity.
type change struct {
	due      bool
	encoding string // the value of its new Content-Transfer-Encoding; "": the field stays as it is
	utf8     bool   // its text is UTF-8
}

const (
	quotedPrintable = "quoted-printable"
	base64Encoding  = "base64"
)

// Examine reads a whole message and decides how to bring it to a server that takes BODY types up to target: Body7Bit, or
// Body8Bit for one that lacks BINARYMIME only. The error wraps ErrUnconvertible where that is impossible, and is the
// reader's own otherwise. A message that needs no more than target as it is is never unconvertible.
func Examine(r io.Reader, target message.BodyType) (*Plan, error) {
	x := examiner{target: target}
	w := newWalker(r, &x)
	for {
		switch err := w.step(); {
		case err == io.EOF && x.need <= target:
			return &Plan{Body: x.need, Size: x.plain}, nil
		case err == io.EOF && w.fault != nil:
			return nil, w.fault
		case err == io.EOF && x.fault != nil:
			return nil, x.fault
		case err == io.EOF:
			return &Plan{Body: x.left, Size: x.plain + x.grown, parts: x.parts}, nil
		case err != nil:
			return nil, err
		}
	}
}

// Fit plans how a message of size octets that was given as body reaches a server that takes BODY types up to target. One for which
// there is no way stays as it is, for the server to be refused. The error is what opening or reading it met.
func Fit(body, target message.BodyType, size int64, open func() (io.ReadCloser, error)) (*Plan, error) {
	asIs := &Plan{Body: body, Size: size}
	if body <= target {
		return asIs, nil
	}
	r, err := open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	plan, err := Examine(r, target)
	if errors.Is(err, ErrUnconvertible) {
		return asIs, nil
	}
	return plan, err
}

// Needed reports whether Reader changes anything.
func (p *Plan) Needed() bool { return p.parts != nil }

// examiner is the visitor that measures.
type examiner struct {
	target message.BodyType
	need   message.BodyType // of the whole message
	left   message.BodyType // of what stays as it is
	fault  error            // the first that stands in the way of a conversion
	parts  []change
	plain  int64 // octets of the message
	grown  int64 // octets it has more when converted

	// the present leaf
	content span
	octets  int64
	utf8    bool
	quoter  quoter
	quoted  int64 // octets of its quoted-printable
	buf     []byte
}

func (x *examiner) header(_ *entity, raw []byte) {
	x.parts = append(x.parts, change{})
	x.plain += int64(len(raw))
	var s span
	for line := range bytes.SplitSeq(raw, crlf) {
		s.see(line)
		s.newline()
	}
	x.fixed(s.need, "a header field is not ASCII in lines of at most 998 octets")
	x.content, x.octets, x.utf8, x.quoter, x.quoted = span{}, 0, true, quoter{}, 0
}

// fixed takes what no encoding applies to.
func (x *examiner) fixed(need message.BodyType, why string) {
	x.need = max(x.need, need)
	switch {
	case need <= x.target:
		x.left = max(x.left, need)
	case x.fault == nil:
		x.fault = fmt.Errorf("%w: %s", ErrUnconvertible, why)
	}
}

func (x *examiner) frame(text []byte, ended bool) {
	x.plain += int64(len(text))
	if ended {
		x.plain += int64(len(crlf))
	}
	var s span
	s.see(text)
	x.fixed(s.need, "there is text between its parts that is not 7bit")
}

func (x *examiner) text(e *entity, text []byte) {
	x.content.see(text)
	x.octets += int64(len(text))
	if e.kind == leaf && e.textual {
		x.buf = x.quoter.text(x.buf[:0], text)
		x.quoted += int64(len(x.buf))
		x.utf8 = x.utf8 && (e.versioned || utf8.Valid(text))
	}
}

func (x *examiner) newline(e *entity) {
	x.content.newline()
	x.octets += int64(len(crlf))
	if e.kind == leaf && e.textual {
		x.buf = x.quoter.newline(x.buf[:0])
		x.quoted += int64(len(x.buf))
	}
}

func (x *examiner) close(e *entity, atEnd bool) {
	if e.kind == leaf || e.kind == opaque {
		e.need = x.content.need
		x.plain += x.octets
		x.need = max(x.need, e.need)
	}
	switch {
	case e.need > x.target:
		x.decide(e, atEnd)
	case e.kind == leaf || e.kind == opaque:
		x.left = max(x.left, e.need)
	}
	if e.parent != nil {
		e.parent.need = max(e.parent.need, e.need)
	}
}

// decide says what becomes of an entity that holds more than the target allows.
func (x *examiner) decide(e *entity, atEnd bool) {
	c := &x.parts[e.number]
	c.due, c.utf8 = true, x.utf8
	switch {
	case e.kind == opaque:
		x.fixed(e.need, e.reason)
		return
	case e.kind == leaf:
		c.encoding = base64Encoding
		size := base64Size(x.octets, atEnd)
		if e.textual {
			x.buf = x.quoter.end(x.buf[:0], atEnd)
			if x.quoted += int64(len(x.buf)); x.quoted <= size { // RFC 2045 §6.7: people can read it
				c.encoding, size = quotedPrintable, x.quoted
			}
		}
		x.grown += size - x.octets
	case e.label > x.target: // RFC 2045 §6.4
		c.encoding = "7bit"
		if x.target == message.Body8Bit {
			c.encoding = "8bit"
		}
	}
	field, more := e.fields(*c)
	x.grown += int64(len(field) + len(more))
	if field != "" {
		x.grown -= int64(e.labelSize)
	}
}

// fields returns the fields that a changed entity gets: its Content-Transfer-Encoding, if that changes, and those it lacked.
func (e *entity) fields(c change) (encoding, more string) {
	if c.encoding != "" {
		encoding = encodingName + ": " + c.encoding + "\r\n"
	}
	if e.versioned {
		return encoding, ""
	}
	more = "MIME-Version: 1.0\r\n" // RFC 2045 §4
	switch {
	case e.hasType:
	case c.utf8:
		more += "Content-Type: text/plain; charset=utf-8\r\n"
	default:
		more += "Content-Type: text/plain; charset=unknown-8bit\r\n" // RFC 1428 §3
	}
	return encoding, more
}
