package message

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
)

// DefaultHeaderSize bounds a header section, in octets, where nothing else does: no RFC names a bound, and honest headers
// stay far below.
const DefaultHeaderSize = 256 << 10

// ErrHeaderSize says that a header section is longer than the bound given to ReadHeader.
var ErrHeaderSize = errors.New("message: header section too long")

// Header is a header section (RFC 5322 §2.2): fields in order, each with the octets it came with. The zero Header is empty.
type Header struct {
	fields []Field
	end    string // the empty line between header and body, or "" if the message ends with its header
}

// Field is one header field.
type Field struct {
	raw  []byte // name, colon, body, folds and the last CRLF
	name int    // octets of the name
}

// Name returns the field's name as it came; names are equal in any case.
func (f Field) Name() string { return string(f.raw[:f.name]) }

// Value returns the field's body unfolded (RFC 5322 §2.2.3), without the white space around it.
func (f Field) Value() string {
	body := f.raw[f.name:]
	body = body[bytes.IndexByte(body, ':')+1:]
	return strings.Trim(strings.ReplaceAll(string(body), "\r\n", ""), " \t")
}

// Raw returns the whole field as it came, with its CRLF. The caller must not change it.
func (f Field) Raw() []byte { return f.raw }

// Is reports whether the field has this name. RFC 5322 §1.2.2: names are compared in any case.
func (f Field) Is(name string) bool {
	return f.name == len(name) && strings.EqualFold(string(f.raw[:f.name]), name)
}

// ReadHeader reads a message's header section from r, at most max octets with its empty line, and returns the rest of the
// message as a stream. It reads ahead: r must not be used afterwards but through rest.
//
// A line ends in CRLF and in nothing else. A line that is neither a field nor the continuation of one ends the header as if an
// empty line stood before it: then WriteTo writes that empty line, so that everybody after us sees the same header. A last line
// without CRLF gets one. In all other cases header and rest together are what was read, octet for octet.
//
// If the section is longer than max, err is ErrHeaderSize, h holds the fields that fit and rest all that follows them,
// for a caller who would pass the message on as it is. Any other error is the reader's own and leaves nothing.
func ReadHeader(r io.Reader, max int) (h Header, rest io.Reader, err error) {
	s := scanner{buf: make([]byte, 0, min(max, 4<<10))}
	s.starts = s.few[:0]
	for stalls := 0; !s.scan(); {
		if len(s.buf) >= max {
			last := s.drop()
			return s.header(last), after(s.buf[last:], r), ErrHeaderSize
		}
		if len(s.buf) == cap(s.buf) {
			s.buf = slices.Grow(s.buf, min(len(s.buf), max-len(s.buf)))
		}
		n, err := r.Read(s.buf[len(s.buf):min(cap(s.buf), max)])
		s.buf = s.buf[:len(s.buf)+n]
		switch {
		case n > 0:
			stalls = 0 // the error, if there is one, comes again when these octets are not enough
		case err == io.EOF:
			return s.finish()
		case err != nil:
			return Header{}, nil, err
		default:
			if stalls++; stalls == maxStalls {
				return Header{}, nil, io.ErrNoProgress
			}
		}
	}
	h = s.header(s.line)
	h.end = "\r\n"
	return h, after(s.buf[s.body:], r), nil
}

// maxStalls is how many empty reads in a row are borne (io.Reader discourages them, and allows them).
const maxStalls = 100

// scanner finds the fields in what was read so far.
type scanner struct {
	buf    []byte
	line   int     // where the present line starts
	seek   int     // where to look for its end
	starts []int   // where each field starts
	few    [32]int // room for the starts of an ordinary header
	body   int     // where the body starts, once scan returned true
}

// scan goes through the complete lines in buf and reports whether one of them ends the header: line is its start then.
func (s *scanner) scan() (ended bool) {
	for {
		i := bytes.Index(s.buf[s.seek:], crlf)
		if i < 0 {
			s.seek = max(s.line, len(s.buf)-1) // a CR may wait for its LF
			return false
		}
		next := s.seek + i + len(crlf)
		if s.ends(s.buf[s.line:next]) {
			return true
		}
		s.line, s.seek = next, next
	}
}

var crlf = []byte("\r\n")

// ends takes one line into the header, or reports that it is not part of it.
func (s *scanner) ends(line []byte) bool {
	switch {
	case bytes.Equal(line, crlf):
		s.body = s.line + len(crlf)
		return true
	case line[0] == ' ' || line[0] == '\t':
		s.body = s.line
		return len(s.starts) == 0 // else it continues the last field
	case nameLen(line) == 0:
		s.body = s.line
		return true
	}
	s.starts = append(s.starts, s.line)
	return false
}

// drop forgets the last field, which may not be complete yet, and returns where it starts.
func (s *scanner) drop() int {
	if len(s.starts) == 0 {
		return 0
	}
	last := s.starts[len(s.starts)-1]
	s.starts = s.starts[:len(s.starts)-1]
	return last
}

// header returns the fields found, the last of which ends at end.
func (s *scanner) header(end int) Header {
	fields := make([]Field, len(s.starts), len(s.starts)+4) // room for a few more
	for i, start := range slices.Backward(s.starts) {
		raw := s.buf[start:end:end]
		fields[i] = Field{raw, nameLen(raw)}
		end = start
	}
	return Header{fields: fields}
}

// finish ends the header where the message does.
func (s *scanner) finish() (h Header, rest io.Reader, err error) {
	if s.line < len(s.buf) && s.ends(s.buf[s.line:]) {
		h = s.header(s.line)
		h.end = "\r\n"
		return h, bytes.NewReader(s.buf[s.body:]), nil
	}
	if s.line < len(s.buf) {
		s.buf = append(s.buf, crlf...)
	}
	return s.header(len(s.buf)), bytes.NewReader(nil), nil
}

// nameLen returns the length of the field name a line starts with; 0 if it is not the first line of a field.
// RFC 5322 §2.2: printable ASCII but the colon. RFC 5322 §4.5.8: white space may stand before the colon.
func nameLen(line []byte) int {
	n := bytes.IndexFunc(line, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' })
	if n <= 0 {
		return 0
	}
	if rest := bytes.TrimLeft(line[n:], " \t"); len(rest) == 0 || rest[0] != ':' {
		return 0
	}
	return n
}

// after returns a reader of head, then r.
func after(head []byte, r io.Reader) io.Reader {
	if len(head) == 0 {
		return r
	}
	return &remainder{head, r}
}

type remainder struct {
	head []byte
	r    io.Reader
}

func (r *remainder) Read(p []byte) (int, error) {
	if len(r.head) == 0 {
		return r.r.Read(p)
	}
	n := copy(p, r.head)
	r.head = r.head[n:]
	return n, nil
}

// Len returns the number of fields.
func (h *Header) Len() int { return len(h.fields) }

// Fields returns all fields in order.
func (h *Header) Fields() iter.Seq[Field] { return slices.Values(h.fields) }

// Has reports whether there is a field of this name.
func (h *Header) Has(name string) bool {
	return slices.ContainsFunc(h.fields, func(f Field) bool { return f.Is(name) })
}

// At returns the field at index i (0 to Len-1).
func (h *Header) At(i int) Field { return h.fields[i] }

// Index returns where the first field of this name is, -1 if there is none.
func (h *Header) Index(name string) int {
	return slices.IndexFunc(h.fields, func(f Field) bool { return f.Is(name) })
}

// Count returns how many fields of this name there are.
func (h *Header) Count(name string) int {
	n := 0
	for _, f := range h.fields {
		if f.Is(name) {
			n++
		}
	}
	return n
}

// Get returns the value of the first field of this name, "" if there is none.
func (h *Header) Get(name string) string {
	for _, f := range h.fields {
		if f.Is(name) {
			return f.Value()
		}
	}
	return ""
}

// All returns the values of all fields of this name, in order.
func (h *Header) All(name string) []string {
	var values []string
	for _, f := range h.fields {
		if f.Is(name) {
			values = append(values, f.Value())
		}
	}
	return values
}

// Add puts a field at the top, where trace fields belong (RFC 5322 §3.6.7). Name and value are as for AppendField.
func (h *Header) Add(name, value string) { h.Insert(0, name, value) }

// Append puts a field behind all others.
func (h *Header) Append(name, value string) { h.Insert(len(h.fields), name, value) }

// Insert puts a field before the one at index i (0 to Len).
func (h *Header) Insert(i int, name, value string) {
	h.fields = slices.Insert(h.fields, i, Field{AppendField(nil, name, value), len(name)})
}

// InsertField puts a field of another header, as it is, before the one at index i (0 to Len).
func (h *Header) InsertField(i int, f Field) { h.fields = slices.Insert(h.fields, i, f) }

// Del removes all fields of this name and returns how many there were.
func (h *Header) Del(name string) int {
	return h.DelFunc(func(f Field) bool { return f.Is(name) })
}

// DelFunc removes the fields that del chooses and returns how many there were.
func (h *Header) DelFunc(del func(Field) bool) int {
	before := len(h.fields)
	h.fields = slices.DeleteFunc(h.fields, del)
	return before - len(h.fields)
}

// Size returns how many octets WriteTo writes.
func (h *Header) Size() int {
	n := len(h.end)
	for _, f := range h.fields {
		n += len(f.raw)
	}
	return n
}

// AppendTo appends the header and the empty line that ends it, if it had one, to b.
func (h *Header) AppendTo(b []byte) []byte {
	b = slices.Grow(b, h.Size())
	for _, f := range h.fields {
		b = append(b, f.raw...)
	}
	return append(b, h.end...)
}

// WriteTo writes what AppendTo appends.
func (h *Header) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(h.AppendTo(nil))
	return int64(n), err
}

// Reader returns the whole message again: the header as it is now, then rest.
func (h *Header) Reader(rest io.Reader) io.Reader { return after(h.AppendTo(nil), rest) }
