package smtp

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What one line may hold, in octets without its CRLF.
const (
	maxCommandLine = 12288 // RFC 4954 §4, the longest any line of a client needs to be; RFC 5321 §4.5.3.1.4 asks for 512
	maxReplyText   = 480   // RFC 5321 §4.5.3.1.5: 512 with code, enhanced code and CRLF
	maxReply       = 64 << 10
)

// AppendTo appends the reply as it is sent, one line or several (RFC 5321 §4.2.1). Octets that a reply may not hold
// (RFC 5321 §4.2, RFC 6531 §3.7.4.2) become "?"; long lines are broken.
func (r Reply) AppendTo(b []byte) []byte {
	for rest, more := r.Text, true; more; {
		var line string
		line, rest, more = strings.Cut(rest, "\n")
		for len(line) > maxReplyText {
			b = r.appendLine(b, line[:maxReplyText], '-')
			line = line[maxReplyText:]
		}
		sep := byte(' ')
		if more {
			sep = '-'
		}
		b = r.appendLine(b, line, sep)
	}
	return b
}

func (r Reply) appendLine(b []byte, text string, sep byte) []byte {
	b = append(strconv.AppendInt(b, int64(r.Code), 10), sep)
	if r.Enhanced != ([3]int{}) { // RFC 2034 §4: the same code on each line
		b = append(appendEnhanced(b, r.Enhanced), ' ')
	}
	for i := range len(text) {
		c := text[i]
		if (c < ' ' && c != '\t') || c > '~' {
			c = '?'
		}
		b = append(b, c)
	}
	return append(b, "\r\n"...)
}

func appendEnhanced(b []byte, e [3]int) []byte {
	b = append(strconv.AppendInt(b, int64(e[0]), 10), '.')
	b = append(strconv.AppendInt(b, int64(e[1]), 10), '.')
	return strconv.AppendInt(b, int64(e[2]), 10)
}

// errReplySyntax says that what came is not a reply; nothing that follows can be trusted to answer anything.
var errReplySyntax = errors.New("smtp: not a reply")

// parseReplyLine reads one line of a reply without its CRLF; more says that others follow. The text is not copied.
func parseReplyLine(line []byte) (code int, more bool, text []byte, err error) {
	if len(line) < 3 {
		return 0, false, nil, errReplySyntax
	}
	for _, c := range line[:3] {
		if c < '0' || c > '9' {
			return 0, false, nil, errReplySyntax
		}
		code = code*10 + int(c-'0')
	}
	if code < 200 || code > 599 { // RFC 5321 §4.2: out of range is fatal
		return 0, false, nil, errReplySyntax
	}
	if len(line) == 3 { // RFC 5321 §4.2.1: the text and even the space may be missing
		return code, false, nil, nil
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, false, nil, errReplySyntax
	}
	return code, line[3] == '-', line[4:], nil
}

// parseEnhanced takes the enhanced code off the front of text; the zero code if there is none that agrees with the reply
// code (RFC 2034 §4).
func parseEnhanced(code int, text string) (enhanced [3]int, rest string) {
	word, rest, _ := strings.Cut(text, " ")
	part := 0
	digits := 0
	var e [3]int
	for i := range len(word) {
		switch c := word[i]; {
		case c >= '0' && c <= '9' && digits < 3:
			e[part] = e[part]*10 + int(c-'0')
			digits++
		case c == '.' && digits > 0 && part < 2:
			part, digits = part+1, 0
		default:
			return [3]int{}, text
		}
	}
	if part != 2 || digits == 0 || e[0] != code/100 {
		return [3]int{}, text
	}
	return e, strings.TrimLeft(rest, " ")
}

// splitCommand parts a command line into its verb and its argument, without the white space that RFC 5321 §4.1.1 wants
// borne at the end. ok is false if the line does not begin with a word of letters and digits.
func splitCommand(line []byte) (verb, arg []byte, ok bool) {
	line = bytes.TrimRight(line, " \t")
	verb = line
	if i := bytes.IndexByte(line, ' '); i >= 0 {
		verb, arg = line[:i], bytes.TrimLeft(line[i:], " ")
	}
	for _, c := range verb {
		if !isAlnum(c) {
			return nil, nil, false
		}
	}
	return verb, arg, len(verb) > 0
}

func isAlnum(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
}

// isPrintable reports whether s holds neither controls nor anything beyond ASCII.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// maxHelo is the longest name in HELO and EHLO, in octets (RFC 5321 §4.5.3.1.2).
const maxHelo = 255

// isHelo reports whether s may stand for a name in a Received field: octets of atoms (RFC 5322 §3.2.3), "." and ":".
func isHelo(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && strings.IndexByte("-._:!#$%&'*+/=?^`{|}~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

// isLiteral reports whether s is in the brackets of an address literal, and what it holds is dcontent (RFC 5321 §4.1.3).
func isLiteral(s string) bool {
	inner, ok := strings.CutPrefix(s, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	for i := range len(inner) {
		if c := inner[i]; c <= ' ' || c > '~' || c == '[' || c == ']' || c == '\\' {
			return false
		}
	}
	return ok && closed && inner != ""
}

// xtext (RFC 3461 §4): printable ASCII without "+" and "=", which are written "+2B" and "+3D".
func appendXtext(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c < '!' || c > '~' || c == '+' || c == '=' {
			b = append(b, '+', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}

// parseXtext undoes appendXtext; ok is false if s is not xtext or does not decode to UTF-8.
func parseXtext(s string) (text string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '+':
			if i+2 >= len(s) {
				return "", false
			}
			hi, lo := hexDigit(s[i+1]), hexDigit(s[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			b.WriteByte(byte(hi<<4 | lo))
			i += 2
		case c < '!' || c > '~' || c == '=':
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), utf8.ValidString(b.String())
}

// hexDigit returns the value of an upper-case hexadecimal digit (RFC 3461 §4), -1 if c is none.
func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
