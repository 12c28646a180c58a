package smtp

import (
	"bytes"
	"encoding/binary"
)

// unstuffer finds the text of a message in what follows DATA: it takes the transparency dots out and sees the end
// (RFC 5321 §4.5.2). Only CRLF ends a line (RFC 5321 §2.3.8).
type unstuffer struct {
	midLine bool // the next octet does not begin a line
	bare    bool // a CR or LF stood alone: smuggled text, or a sender that does not know the protocol
}

// next looks at b and returns the text at its front. used octets of b are dealt with, those of text among them; if that is
// none and the end is not reached, b is too short to tell.
func (u *unstuffer) next(b []byte) (text []byte, used int, end bool) {
	start := 0
	if !u.midLine && len(b) > 0 && b[0] == '.' {
		switch {
		case len(b) >= 3 && b[1] == '\r' && b[2] == '\n':
			return nil, 3, true
		case len(b) == 1, len(b) == 2 && b[1] == '\r':
			return nil, 0, false
		}
		start, u.midLine = 1, true
	}
	stop, crlfs := start, 0 // stop is behind the last line end seen
	for at := start; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			break
		}
		at += i + 1
		stop = at
		if at-start < 2 || b[at-2] != '\r' {
			u.bare, u.midLine = true, true
			continue
		}
		crlfs++
		u.midLine = false
		if at < len(b) && b[at] == '.' {
			u.bare = u.bare || bytes.Count(b[start:at], crByte) != crlfs
			return b[start:at], at, false
		}
	}
	limit := len(b)
	if limit > start && b[limit-1] == '\r' {
		limit-- // its LF may be on the way
	}
	if limit > stop {
		u.midLine = true
	}
	text = b[start:limit]
	u.bare = u.bare || bytes.Count(text, crByte) != crlfs
	return text, limit, false
}

var (
	crByte = []byte{'\r'}
	lfByte = []byte{'\n'}
)

// lineEnds checks that CR and LF stand together in text that arrives in pieces (RFC 5321 §2.3.8).
type lineEnds struct {
	cr   bool // the last octet was CR
	bare bool
}

func (l *lineEnds) write(p []byte) {
	if len(p) == 0 {
		return
	}
	crs, lfs := bytes.Count(p, crByte), bytes.Count(p, lfByte)
	pairs := bytes.Count(p, []byte("\r\n"))
	if l.cr {
		if p[0] != '\n' {
			l.bare = true
		}
		lfs--
	}
	l.cr = p[len(p)-1] == '\r'
	if l.cr {
		crs--
	}
	l.bare = l.bare || crs != pairs || lfs != pairs
}

// stuffer puts the transparency dots into a text that is sent with DATA (RFC 5321 §4.5.2).
type stuffer struct {
	midLine bool
	lines   lineEnds
}

// appendTo appends p, which follows what was appended before, with its dots doubled.
func (s *stuffer) appendTo(b, p []byte) []byte {
	s.lines.write(p)
	for len(p) > 0 {
		if !s.midLine && p[0] == '.' {
			b = append(b, '.')
		}
		at := 0
		for { // as far as the next line that begins with a dot
			i := bytes.IndexByte(p[at:], '\n')
			if i < 0 {
				s.midLine = true
				return append(b, p...)
			}
			at += i + 1
			if at == len(p) || p[at] == '.' {
				break
			}
		}
		s.midLine = false
		b, p = append(b, p[:at]...), p[at:]
	}
	return b
}

// end appends what closes the text: CRLF if its last line lacks it (RFC 5321 §4.1.1.4), and the final dot.
func (s *stuffer) end(b []byte) []byte {
	if s.midLine {
		b = append(b, "\r\n"...)
	}
	return append(b, ".\r\n"...)
}

// isASCII reports whether p holds nothing above 127; eight octets at a time, for it may be all of a message.
func isASCII(p []byte) bool {
	for ; len(p) >= 8; p = p[8:] {
		if binary.LittleEndian.Uint64(p)&0x8080808080808080 != 0 {
			return false
		}
	}
	for _, c := range p {
		if c > 127 {
			return false
		}
	}
	return true
}
