package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"bothy/application/message"
)

// ErrUnconvertible says that a message cannot be rewritten without loss or damage. Its wrapping says why.
var ErrUnconvertible = errors.New("convert: the message cannot be converted")

// Bounds of the structure that is followed. No RFC names any.
const (
	maxDepth  = 64     // entities inside each other
	maxParts  = 10_000 // entities in all
	maxHeader = message.DefaultHeaderSize
)

// visitor is told of a message in the order of its octets: all of them together, with a CRLF for each newline, are the message.
type visitor interface {
	header(e *entity, raw []byte)  // an entity begins: its header section, with the empty line if it has one
	text(e *entity, text []byte)   // a piece of a line of its content, if it is a leaf or opaque
	newline(e *entity)             // the end of such a line
	close(e *entity, atEnd bool)   // its content ends, before the CRLF of a delimiter or at the end of the message
	frame(text []byte, ended bool) // delimiters, preambles and epilogues; ended: with a CRLF
}

// walker follows the structure of a message as its lines pass (RFC 2046 §5.1, §5.2). It holds one header section and a line.
type walker struct {
	lines   lines
	visit   visitor
	stack   []*entity // open entities, the message itself first
	state   state
	raw     []byte // the header section being read
	parts   int    // entities begun
	start   bool   // a line starts with the next piece
	held    bool   // a newline that belongs to the content, unless a delimiter follows (RFC 2046 §5.1.1)
	fault   error  // why the structure could not be followed any further: from there on the message is one opaque entity
	pending entity // whose header section is being read
}

type state uint8

const (
	inHeader state = iota
	inContent
	inFrame
)

func newWalker(r io.Reader, v visitor) *walker {
	w := &walker{lines: newLines(r), visit: v, start: true}
	w.begin(entity{message: true})
	return w
}

// begin starts to read an entity's header section. Of e only what it inherits from those around it is set.
func (w *walker) begin(e entity) {
	w.pending, w.raw, w.state = e, w.raw[:0], inHeader
}

// step reads one line, or a piece of one. It returns io.EOF at the end of the message, when all entities are closed.
func (w *walker) step() error {
	text, ended, err := w.lines.next()
	if err == io.EOF {
		w.finish()
	}
	if err != nil {
		return err
	}
	at, closing := none, false
	if w.start && bytes.HasPrefix(text, dashes) && w.fault == nil {
		at, closing = w.delimiter(text, ended)
	}
	w.start = ended
	switch {
	case at != none:
		w.delimit(at, closing, text, ended)
	case w.state == inHeader:
		w.headerLine(text, ended)
	case w.state == inFrame:
		w.visit.frame(text, ended)
	default:
		w.content(text, ended)
	}
	return nil
}

func (w *walker) top() *entity { return w.stack[len(w.stack)-1] }

func (w *walker) content(text []byte, ended bool) {
	if w.held {
		w.visit.newline(w.top())
	}
	w.visit.text(w.top(), text)
	w.held = ended
}

var dashes = []byte("--")

const none = -1

// delimiter returns which open multipart's delimiter text is: the innermost one's whose boundary it has and nothing else.
func (w *walker) delimiter(text []byte, ended bool) (at int, closing bool) {
	whole := ended || w.lines.end
	doubt := false
	for i, e := range slices.Backward(w.stack) {
		if e.kind != parted || e.closed {
			continue
		}
		rest, ok := bytes.CutPrefix(text[len(dashes):], e.boundary)
		if !ok {
			continue
		}
		padding, closing := bytes.CutPrefix(rest, dashes)
		if whole && len(bytes.Trim(padding, " \t")) == 0 { // RFC 2046 §5.1.1: transport-padding
			return i, closing
		}
		doubt = true
	}
	if doubt { // RFC 2046 §5.1.1 would have it be one; many readers want the whole line
		w.lose("a delimiter has something behind it")
	}
	return none, false
}

// delimit ends what stands inside the multipart at a place in the stack, and its present part.
func (w *walker) delimit(at int, closing bool, text []byte, ended bool) {
	if w.state == inHeader { // RFC 2046 §5.1: a part may be a header section without an empty line
		w.open()
	}
	w.unwind(at+1, false)
	if w.held {
		w.visit.frame(nil, true)
		w.held = false
	}
	w.visit.frame(text, ended)
	e := w.top()
	e.closed = closing
	if closing {
		w.state = inFrame
		return
	}
	w.begin(entity{parent: e, digest: e.digestParts})
}

// unwind closes entities until n are left.
func (w *walker) unwind(n int, atEnd bool) {
	for len(w.stack) > n {
		w.visit.close(w.top(), atEnd)
		w.stack = w.stack[:len(w.stack)-1]
	}
}

// headerLine takes a line into the header section; an empty one ends it.
func (w *walker) headerLine(text []byte, ended bool) {
	w.raw = append(w.raw, text...)
	if ended {
		w.raw = append(w.raw, crlf...)
	}
	switch empty := ended && (bytes.Equal(w.raw, crlf) || bytes.HasSuffix(w.raw, []byte("\r\n\r\n"))); {
	case empty:
		w.open()
	case len(w.raw) > maxHeader:
		w.lose("a header section is too long")
		w.open()
	}
}

// open begins the entity whose header section has been read, and what follows from its type.
func (w *walker) open() {
	e := new(entity)
	*e = w.pending
	e.number = w.parts
	w.parts++
	switch {
	case w.fault != nil:
	case w.parts > maxParts:
		w.lose("it has too many parts")
	case len(w.stack) >= maxDepth:
		w.lose("its parts are nested too deep")
	default:
		if err := e.read(w.raw); err != nil {
			w.lose(err.Error())
		}
	}
	if w.fault != nil {
		e.kind, e.reason = opaque, w.fault.Error()
	}
	w.visit.header(e, w.raw)
	w.stack = append(w.stack, e)
	switch e.kind {
	case parted:
		w.state = inFrame // its preamble
		if slices.ContainsFunc(w.stack[:len(w.stack)-1], func(o *entity) bool { return bytes.Equal(o.boundary, e.boundary) }) {
			w.lose("two multiparts have the same boundary")
		}
	case nested:
		w.begin(entity{parent: e, message: true})
	default:
		w.state = inContent
	}
}

// lose gives up on the structure.
func (w *walker) lose(why string) {
	if w.fault == nil {
		w.fault = fmt.Errorf("%w: %s", ErrUnconvertible, why)
	}
}

// finish closes everything at the end of the message.
func (w *walker) finish() {
	if w.state == inHeader {
		w.open()
	}
	if w.held {
		w.visit.newline(w.top())
		w.held = false
	}
	w.unwind(0, true)
}
