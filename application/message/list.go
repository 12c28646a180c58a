package message

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// ParseAddressList reads the body of a From, Sender, Reply-To, To, Cc or Bcc field: mailboxes and groups (RFC 5322 §3.4), with
// what RFC 5322 §4.4 asks to be understood: routes, white space and comments anywhere, words joined by dots, members left out.
// Display names are not returned; whatever encoding they are in is not looked at. An empty value is an empty list, since
// clients send those. A mailbox must be one that SMTP could carry, but may be longer (RFC 5321 §4.5.3.1 binds paths only).
// The error wraps ErrAddress and names the octet.
func ParseAddressList(value string) ([]Address, error) {
	p := listParser{s: value}
	for p.next() {
	}
	if p.failed {
		return nil, fmt.Errorf("%w at octet %d of the list", ErrAddress, p.i)
	}
	return p.found, nil
}

// listParser walks through an address-list.
type listParser struct {
	s      string
	i      int
	group  bool // between a group's colon and its semicolon
	failed bool
	found  []Address
}

// next reads one member of the list, or what parts it from the following one; false at the end.
func (p *listParser) next() bool {
	p.space()
	switch {
	case p.failed:
		return false
	case p.i == len(p.s):
		p.failed = p.group
		return false
	case p.s[p.i] == ',': // RFC 5322 §4.4: members may be left out
		p.i++
		return true
	case p.s[p.i] == ';':
		p.group = !p.group
		p.failed = p.group // there was no group to end
		p.i++
	default:
		opened := p.group
		p.address()
		if p.group != opened {
			return !p.failed // a group opened: its first member, or its end, comes next
		}
	}
	p.space()
	if !p.failed && p.i < len(p.s) && p.s[p.i] != ',' && (p.s[p.i] != ';' || !p.group) {
		p.failed = true
	}
	return !p.failed
}

// address reads a mailbox, or the name and colon a group starts with.
func (p *listParser) address() {
	local, isLocal, isPhrase := p.words()
	switch c := p.peek(); {
	case p.failed:
	case c == '@' && isLocal:
		p.domain(local)
	case c == '<':
		p.angle()
	case c == ':' && isPhrase && !p.group:
		p.i++
		p.group = true
	default:
		p.failed = true
	}
}

// angle reads an angle-addr. RFC 5322 §4.4: a route before the mailbox is skipped.
func (p *listParser) angle() {
	p.i++ // the "<"
	p.space()
	for p.peek() == '@' || p.peek() == ',' {
		if p.peek() == '@' {
			p.domainText()
		} else {
			p.i++
		}
		if p.space(); p.peek() == ':' {
			p.i++
			break
		}
		if c := p.peek(); p.failed || c != ',' && c != '@' {
			p.failed = true
			return
		}
	}
	local, ok, _ := p.words()
	if !ok || p.peek() != '@' {
		p.failed = true
		return
	}
	p.domain(local)
	if p.peek() != '>' {
		p.failed = true
		return
	}
	p.i++
}

// words reads atoms, quoted strings and dots. They are a local part if single dots join them (RFC 5322 §4.4: obs-local-part),
// and text is it unquoted; they are a phrase in any case, if there is at least one.
func (p *listParser) words() (text string, isLocal, isPhrase bool) {
	var b strings.Builder
	joined := true // whether a word may follow: nothing or a dot stands before it
	isLocal = true
	for p.space(); !p.failed && p.i < len(p.s); p.space() {
		switch c := p.s[p.i]; {
		case c == '.':
			isLocal = isLocal && !joined
			joined = true
			p.i++
			b.WriteByte('.')
			continue
		case c == '"':
			b.WriteString(p.quoted())
		case isWord(c):
			start := p.i
			for p.i < len(p.s) && isWord(p.s[p.i]) {
				p.i++
			}
			b.WriteString(p.s[start:p.i])
		default:
			return b.String(), isLocal && !joined && isLocalText(b.String()), isPhrase
		}
		isLocal = isLocal && joined
		joined, isPhrase = false, true
	}
	return b.String(), isLocal && !joined && isLocalText(b.String()), isPhrase
}

// isWord reports whether c may stand in an atom. All octets beyond ASCII may: in names we do not care which encoding they are in.
func isWord(c byte) bool { return c >= utf8.RuneSelf || isAtext(rune(c)) }

// isLocalText reports whether SMTP could carry s as a local part, quoted if need be (RFC 5321 §4.1.2, RFC 6531 §3.3).
func isLocalText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// quoted reads a quoted-string, at whose quote p stands, and returns what it means.
func (p *listParser) quoted() string {
	var b strings.Builder
	for p.i++; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; {
		case c == '"':
			p.i++
			return b.String()
		case c == '\\' && p.i+1 < len(p.s):
			p.i++
			b.WriteByte(p.s[p.i])
		default:
			b.WriteByte(c)
		}
	}
	p.failed = true
	return ""
}

// domain reads the "@" and the domain of a mailbox, and takes the mailbox.
func (p *listParser) domain(local string) {
	domain, ok := parseDomain(p.domainText())
	if !ok {
		p.failed = true
		return
	}
	p.found = append(p.found, Address{local, domain})
}

// domainText reads the "@" and a domain, without white space and comments, and leaves p behind what follows of those.
func (p *listParser) domainText() string {
	p.i++ // the "@"
	p.space()
	if p.peek() == '[' {
		end := strings.IndexByte(p.s[p.i:], ']')
		if end < 0 {
			p.failed = true
			return ""
		}
		literal := p.s[p.i : p.i+end+1]
		p.i += end + 1
		p.space()
		return strings.Map(func(r rune) rune {
			if r == ' ' || r == '\t' {
				return -1
			}
			return r
		}, literal)
	}
	var b strings.Builder
	for joined := true; p.i < len(p.s); p.space() { // RFC 5322 §4.4: white space and comments around the dots
		start := p.i
		for p.i < len(p.s) && isWord(p.s[p.i]) {
			p.i++
		}
		if p.i > start && joined {
			b.WriteString(p.s[start:p.i])
			joined = false
		} else if p.i == start && p.s[p.i] == '.' {
			b.WriteByte('.')
			p.i++
			joined = true
		} else {
			p.failed = p.failed || p.i > start // two words in a row
			break
		}
	}
	return b.String()
}

// peek returns the present octet, 0 at the end.
func (p *listParser) peek() byte {
	if p.i == len(p.s) {
		return 0
	}
	return p.s[p.i]
}

// space skips white space and comments (RFC 5322 §3.2.2: CFWS). Comments nest; depth is a count, so nesting costs nothing.
func (p *listParser) space() {
	depth := 0
	for ; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == '\\' && depth > 0 && p.i+1 < len(p.s):
			p.i++
		case depth == 0 && c != ' ' && c != '\t' && c != '\r' && c != '\n':
			return
		}
	}
	p.failed = p.failed || depth > 0
}
