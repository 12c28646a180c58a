package convert

import (
	"bytes"
	"errors"
	"io"

	"bothy/application/message"
)

// Reader returns the message as a server of the plan's target can take it: Plan.Size octets. r must read the same message that was
// examined, from its start. An error is r's own, or says that it was another message.
func (p *Plan) Reader(r io.Reader) io.Reader {
	if !p.Needed() {
		return r
	}
	c := &converter{plan: p}
	c.walker = newWalker(r, c)
	return c
}

// converter is the visitor that rewrites, and what it has rewritten, to be read.
type converter struct {
	plan    *Plan
	walker  *walker
	encoder encoder // of the present leaf; nil: it stays as it is
	out     []byte
	read    int // octets of out that were read
	err     error
}

// blockSize is how much is rewritten in one go, in octets; a little more where a line is long.
const blockSize = 16 << 10

func (c *converter) Read(p []byte) (int, error) {
	if c.read == len(c.out) {
		for c.out, c.read = c.out[:0], 0; len(c.out) < blockSize && c.err == nil; {
			if err := c.walker.step(); c.err == nil {
				c.err = err
			}
		}
	}
	if len(c.out) == 0 {
		return 0, c.err
	}
	n := copy(p, c.out[c.read:])
	c.read += n
	return n, nil
}

var errOther = errors.New("convert: not the message that was examined")

func (c *converter) header(e *entity, raw []byte) {
	c.encoder = nil
	if e.number >= len(c.plan.parts) {
		c.err = errOther
		return
	}
	ch := c.plan.parts[e.number]
	if !ch.due {
		c.out = append(c.out, raw...)
		return
	}
	h, _, err := message.ReadHeader(bytes.NewReader(raw), len(raw)+len(crlf))
	if err != nil || e.kind == opaque {
		c.err = errOther
		return
	}
	switch ch.encoding {
	case quotedPrintable:
		c.encoder = new(quoter)
	case base64Encoding:
		c.encoder = new(liner)
	}
	encoding, more := e.fields(ch)
	for f := range h.Fields() {
		if encoding != "" && isEncodingField(f) {
			c.out = append(c.out, encoding...)
			encoding = ""
			continue
		}
		c.out = append(c.out, f.Raw()...)
	}
	c.out = append(append(append(c.out, more...), encoding...), crlf...)
}

func (c *converter) text(_ *entity, text []byte) {
	if c.encoder != nil {
		c.out = c.encoder.text(c.out, text)
		return
	}
	c.out = append(c.out, text...)
}

func (c *converter) newline(*entity) {
	if c.encoder != nil {
		c.out = c.encoder.newline(c.out)
		return
	}
	c.out = append(c.out, crlf...)
}

func (c *converter) close(_ *entity, atEnd bool) {
	if c.encoder != nil {
		c.out = c.encoder.end(c.out, atEnd)
		c.encoder = nil
	}
}

func (c *converter) frame(text []byte, ended bool) {
	c.out = append(c.out, text...)
	if ended {
		c.out = append(c.out, crlf...)
	}
}
