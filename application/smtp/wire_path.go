package smtp

import (
	"errors"
	"strings"

	"bothy/application/message"
)

var (
	errPath       = errors.New("smtp: not a path")
	errPathLength = errors.New("smtp: path too long")
)

// parsePath reads a Reverse-path or Forward-path off the front of s and returns what follows it (RFC 5321 §4.1.2, with
// the mailbox names of RFC 6531 §3.3). "<>" is the zero Address. A source route is read and forgotten
// (RFC 5321 §4.1.1.3, §C). "<Postmaster>" has no domain; it is told from others without one by being allowed.
func parsePath(s string) (path message.Address, rest string, err error) {
	inner, rest, ok := cutPath(s)
	if !ok {
		return message.Address{}, s, errPath
	}
	if inner == "" {
		return message.Address{}, rest, nil
	}
	if inner[0] == '@' {
		if inner, ok = cutRoute(inner); !ok {
			return message.Address{}, s, errPath
		}
	}
	if strings.EqualFold(inner, "postmaster") { // RFC 5321 §4.1.1.3: in any case
		return message.Address{Local: "postmaster"}, rest, nil
	}
	path, err = message.ParseAddress(inner)
	switch {
	case errors.Is(err, message.ErrAddressLength):
		return message.Address{}, s, errPathLength
	case err != nil:
		return message.Address{}, s, errPath
	}
	return path, rest, nil
}

// cutPath parts s after the ">" that closes the path it begins with: one that no quoted string holds.
func cutPath(s string) (inner, rest string, ok bool) {
	if s == "" || s[0] != '<' {
		return "", s, false
	}
	quoted := false
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == '>' && !quoted:
			return s[1:i], s[i+1:], true
		}
	}
	return "", s, false
}

// cutRoute takes the A-d-l and its colon off the front of a path's inside (RFC 5321 §4.1.2).
func cutRoute(s string) (mailbox string, ok bool) {
	route, mailbox, ok := strings.Cut(s, ":")
	if !ok {
		return "", false
	}
	for domain := range strings.SplitSeq(route, ",") {
		if !strings.HasPrefix(domain, "@") || !message.IsDomain(domain[1:]) {
			return "", false
		}
	}
	return mailbox, true
}

// appendPath appends a as a path in angle brackets.
func appendPath(b []byte, a message.Address) []byte {
	return append(a.AppendTo(append(b, '<')), '>')
}

// parameter is one esmtp-param of MAIL or RCPT.
type parameter struct {
	keyword  string // in upper case
	value    string
	hasValue bool
}

// cutParameter reads one esmtp-param and the spaces before it off the front of s; end says that there is none left.
func cutParameter(s string) (p parameter, rest string, end, ok bool) {
	if strings.Trim(s, " ") == "" {
		return parameter{}, "", true, true
	}
	if s[0] != ' ' {
		return parameter{}, s, false, false
	}
	word, rest, _ := strings.Cut(strings.TrimLeft(s, " "), " ")
	if rest != "" || strings.HasSuffix(s, " ") {
		rest = " " + rest
	}
	p.keyword, p.value, p.hasValue = strings.Cut(word, "=")
	if !isKeyword(p.keyword) || p.hasValue && !isParameterValue(p.value) {
		return parameter{}, s, false, false
	}
	p.keyword = strings.ToUpper(p.keyword)
	return p, rest, false, true
}

// isKeyword is esmtp-keyword and ehlo-keyword of RFC 5321 §4.1.
func isKeyword(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && (s[i] != '-' || i == 0) {
			return false
		}
	}
	return s != ""
}

// isParameterValue is esmtp-value of RFC 5321 §4.1.2 and RFC 6531 §3.3.
func isParameterValue(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == '=' || s[i] == 0x7f {
			return false
		}
	}
	return s != ""
}
