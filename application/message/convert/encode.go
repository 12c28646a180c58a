package convert

import "encoding/base64"

// encoder encodes the content of one leaf, given as lines.
type encoder interface {
	text(out, text []byte) []byte
	newline(out []byte) []byte
	end(out []byte, atEnd bool) []byte // atEnd: no CRLF will follow, so it must be part of out
}

// maxQuoted is the longest line of quoted-printable, in characters without the "=" that breaks it softly (RFC 2045 §6.7 rule 5).
const maxQuoted = 75

// quoter writes quoted-printable.
type quoter struct {
	column int
	space  byte // white space that may turn out to end a line
}

func (q *quoter) text(out, text []byte) []byte {
	for len(text) > 0 {
		if n := q.run(text); n > 0 {
			out, text = append(out, text[:n]...), text[n:]
			continue
		}
		c := text[0]
		text = text[1:]
		if q.space != 0 {
			out = q.literal(out, q.space)
			q.space = 0
		}
		switch {
		case c == ' ' || c == '\t':
			q.space = c
		case isLiteral(c):
			out = q.literal(out, c)
		default:
			out = q.escape(out, c)
		}
	}
	return out
}

// run returns how many octets can be copied as they are. The first of a line and white space are never among them.
func (q *quoter) run(text []byte) int {
	if q.column == 0 || q.space != 0 {
		return 0
	}
	room := text[:min(len(text), maxQuoted-q.column)]
	n := 0
	for n < len(room) && isLiteral(room[n]) {
		n++
	}
	q.column += n
	return n
}

func isLiteral(c byte) bool { return '!' <= c && c <= '~' && c != '=' } // RFC 2045 §6.7 rule 2

// literal writes an octet as itself. Not so at the start of a line a hyphen, which a soft break could make a delimiter of (RFC 2046 §5.1.1),
// and a full stop, which old mail servers lose there (RFC 2049 §3).
func (q *quoter) literal(out []byte, c byte) []byte {
	if q.column == maxQuoted {
		out = q.soft(out)
	}
	if q.column == 0 && (c == '-' || c == '.') {
		return q.escape(out, c)
	}
	q.column++
	return append(out, c)
}

// escape writes an octet as its number (RFC 2045 §6.7 rule 1).
func (q *quoter) escape(out []byte, c byte) []byte {
	const hex = "0123456789ABCDEF"
	if q.column+3 > maxQuoted {
		out = q.soft(out)
	}
	q.column += 3
	return append(out, '=', hex[c>>4], hex[c&15])
}

// soft breaks a line where the text does not.
func (q *quoter) soft(out []byte) []byte {
	q.column = 0
	return append(out, "=\r\n"...)
}

// hold writes white space that ends a line, where it would get lost (RFC 2045 §6.7 rule 3).
func (q *quoter) hold(out []byte) []byte {
	if q.space != 0 {
		out = q.escape(out, q.space)
		q.space = 0
	}
	return out
}

func (q *quoter) newline(out []byte) []byte {
	out = q.hold(out)
	q.column = 0
	return append(out, "\r\n"...)
}

func (q *quoter) end(out []byte, atEnd bool) []byte {
	out = q.hold(out)
	if atEnd && q.column > 0 {
		out = q.soft(out)
	}
	return out
}

// Octets of a line of base64, before and after (RFC 2045 §6.8: at most 76 characters).
const (
	plainLine   = 57
	encodedLine = 76
)

// liner writes base64 in lines.
type liner struct {
	line  [plainLine]byte
	n     int
	begun bool // a line has been written
}

func (l *liner) text(out, text []byte) []byte {
	for len(text) > 0 {
		n := copy(l.line[l.n:], text)
		l.n, text = l.n+n, text[n:]
		if l.n == plainLine {
			out = l.flush(out)
		}
	}
	return out
}

func (l *liner) flush(out []byte) []byte {
	if l.begun {
		out = append(out, "\r\n"...)
	}
	out = base64.StdEncoding.AppendEncode(out, l.line[:l.n])
	l.n, l.begun = 0, true
	return out
}

func (l *liner) newline(out []byte) []byte { return l.text(out, crlf) }

func (l *liner) end(out []byte, atEnd bool) []byte {
	if l.n > 0 {
		out = l.flush(out)
	}
	if atEnd && l.begun {
		out = append(out, "\r\n"...)
	}
	return out
}

// base64Size is how many octets liner makes of n.
func base64Size(n int64, atEnd bool) int64 {
	if n == 0 {
		return 0
	}
	size := (n+2)/3*4 + (n-1)/plainLine*int64(len(crlf))
	if atEnd {
		size += int64(len(crlf))
	}
	return size
}
