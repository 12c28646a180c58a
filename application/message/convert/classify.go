package convert

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"bothy/application/message"
)

// maxLine is the longest line of 7bit and 8bit data, in octets without its CRLF (RFC 2045 §2.7, §2.8; RFC 5321 §4.5.3.1.6).
const maxLine = 998

// Scan reads to the end of r and returns the least BODY type that carries those octets as they are (RFC 2045 §2.7 to §2.9). The
// error is the reader's own.
func Scan(r io.Reader) (message.BodyType, error) {
	var s span
	for in := newLines(r); ; {
		text, ended, err := in.next()
		if err == io.EOF {
			return s.need, nil
		}
		if err != nil {
			return 0, err
		}
		if s.see(text); ended {
			s.newline()
		}
	}
}

// span is a stretch of a message whose needs are being found out.
type span struct {
	need   message.BodyType
	column int // octets of the present line so far
}

// see takes a piece of a line without the CRLF at its end: every CR and LF in it is a bare one.
func (s *span) see(text []byte) {
	s.column += len(text)
	switch {
	case s.need == message.BodyBinary:
	case s.column > maxLine, bytes.IndexByte(text, '\r') >= 0, bytes.IndexByte(text, '\n') >= 0, bytes.IndexByte(text, 0) >= 0:
		s.need = message.BodyBinary
	case s.need == message.Body7Bit && !isASCII(text):
		s.need = message.Body8Bit
	}
}

func (s *span) newline() { s.column = 0 }

// isASCII looks at eight octets at a time: most of what passes here is ASCII.
func isASCII(b []byte) bool {
	const high = 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b)&high != 0 {
			return false
		}
	}
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// lines cuts a stream into lines that end in CRLF, and in nothing else (RFC 5321 §2.3.8).
type lines struct {
	in  *bufio.Reader
	end bool // the stream ended with the last piece
}

// lineSize is the memory for a line; a longer one comes in pieces.
const lineSize = 32 << 10

func newLines(r io.Reader) lines { return lines{in: bufio.NewReaderSize(r, lineSize)} }

// next returns a line, or a piece of one, without its CRLF; ended says that it had one. The text is valid until the next call.
// An error leaves no text.
func (l *lines) next() (text []byte, ended bool, err error) {
	text, err = l.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		if n := len(text) - 1; text[n] == '\r' { // its LF may follow
			text, err = text[:n], l.in.UnreadByte()
			return text, false, err
		}
		return text, false, nil
	case err == io.EOF && len(text) > 0:
		l.end = true
		return text, false, nil
	case err != nil:
		return nil, false, err
	}
	text, ended = bytes.CutSuffix(text, crlf)
	return text, ended, nil
}

var crlf = []byte("\r\n")
