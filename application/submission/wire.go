package submission

import (
	"net/mail"
	"strings"
	"time"
	"unicode/utf8"

	"bothy/application/message"
)

// mailbox is one address in the text of an address field, and where its addr-spec stands. Its Domain is empty where there is only a
// local part, which message.ParseAddressList would refuse.
type mailbox struct {
	message.Address
	start, end int
}

// mailboxes finds the addresses in a field's value (RFC 5322 §3.4, §4.4). ok is false if it is not a list of such; whether each is one that
// SMTP can carry is not looked at.
func mailboxes(value string) (found []mailbox, ok bool) {
	tokens, ok := scan(value)
	if !ok {
		return nil, false
	}
	group, angle := false, false
	start := 0
	for i := 0; i <= len(tokens); i++ {
		kind := byte(',') // the end ends a member
		if i < len(tokens) {
			kind = tokens[i].kind
		}
		switch {
		case i == len(tokens) && angle:
			return nil, false
		case kind == '<' || kind == '>':
			angle = kind == '<'
		case angle:
		case kind == ':' && !group: // the phrase before it names a group
			group, start = true, i+1
		case kind == ',' || kind == ';' && group:
			if start < i {
				m, ok := member(tokens[start:i])
				if !ok {
					return nil, false
				}
				found = append(found, m)
			}
			group, start = group && kind == ',', i+1
		case kind == ':' || kind == ';':
			return nil, false
		}
	}
	return found, !group
}

// member reads one mailbox: an addr-spec, or one in angle brackets behind a phrase.
func member(tokens []token) (mailbox, bool) {
	for i, t := range tokens {
		if t.kind != '<' {
			continue
		}
		inner := tokens[i+1:]
		if len(inner) < 2 || inner[len(inner)-1].kind != '>' {
			return mailbox{}, false
		}
		inner = inner[:len(inner)-1]
		if inner[0].kind == '@' || inner[0].kind == ',' { // RFC 5322 §4.4: a route
			for len(inner) > 0 && inner[0].kind != ':' {
				inner = inner[1:]
			}
			inner = inner[min(1, len(inner)):]
		}
		return addrSpec(inner)
	}
	return addrSpec(tokens)
}

// addrSpec reads a local part and a domain, or a local part alone.
func addrSpec(tokens []token) (m mailbox, ok bool) {
	at := 0
	for at < len(tokens) && tokens[at].kind != '@' {
		at++
	}
	local, ok := dotted(tokens[:at])
	if !ok {
		return mailbox{}, false
	}
	m = mailbox{message.Address{Local: local}, tokens[0].start, tokens[len(tokens)-1].end}
	if at == len(tokens) {
		return m, true
	}
	domain := tokens[at+1:]
	if len(domain) == 1 && domain[0].kind == literal {
		m.Domain = domain[0].text
		return m, true
	}
	m.Domain, ok = dotted(domain)
	m.Domain = strings.ToLower(m.Domain)
	return m, ok
}

// dotted joins words with single dots between them.
func dotted(tokens []token) (text string, ok bool) {
	var b strings.Builder
	for i, t := range tokens {
		if (i%2 == 0) != (t.kind == word) || i%2 == 1 && t.kind != '.' {
			return "", false
		}
		b.WriteString(t.text)
	}
	return b.String(), len(tokens)%2 == 1
}

// token is one lexical token of RFC 5322 §3.2: a special by its own octet, a word, or a domain literal. CFWS is none.
type token struct {
	kind       byte
	text       string // of a word or literal: what it means
	start, end int
}

const (
	word    byte = 'w' // an atom or a quoted string
	literal byte = '['
)

// scan parts a field's value into tokens; ok is false where it holds what can be none.
func scan(s string) (tokens []token, ok bool) {
	for i := 0; i < len(s); {
		t := token{start: i, kind: s[i]}
		switch c := s[i]; {
		case c == ' ' || c == '\t':
			i++
			continue
		case c == '(':
			if i = comment(s, i); i < 0 {
				return nil, false
			}
			continue
		case strings.IndexByte("<>@,;:.", c) >= 0:
			t.text = s[i : i+1]
			i++
		case c == '"':
			if t.text, i = quoted(s, i); i < 0 {
				return nil, false
			}
			t.kind = word
		case c == '[':
			n := strings.IndexByte(s[i:], ']')
			if n < 0 {
				return nil, false
			}
			t.text = strings.ToLower(strings.NewReplacer(" ", "", "\t", "").Replace(s[i : i+n+1]))
			i += n + 1
		case isAtom(c):
			for i < len(s) && isAtom(s[i]) {
				i++
			}
			t.kind, t.text = word, s[t.start:i]
		default:
			return nil, false
		}
		t.end = i
		tokens = append(tokens, t)
	}
	return tokens, true
}

// isAtom is atext of RFC 5322 §3.2.3, and all beyond ASCII.
func isAtom(c byte) bool {
	return c >= utf8.RuneSelf || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// comment returns where the comment that starts at i ends, -1 if it does not. Comments nest (RFC 5322 §3.2.2).
func comment(s string, i int) int {
	for depth := 0; i < len(s); i++ {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		case '\\':
			i++
		}
	}
	return -1
}

// quoted reads the quoted string that starts at i and returns what it means and where it ends, -1 if it does not.
func quoted(s string, i int) (text string, end int) {
	var b strings.Builder
	for i++; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), i + 1
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", -1
}

// replaceMailboxes puts what change returns in the place of each address of a field's value. Names, comments and all the rest stay.
func replaceMailboxes(value string, change func(message.Address) message.Address) (changed string, ok bool) {
	found, ok := mailboxes(value)
	if !ok {
		return value, false
	}
	var b strings.Builder
	at := 0
	for _, m := range found {
		a := change(m.Address)
		if a == m.Address {
			continue
		}
		b.WriteString(value[at:m.start])
		b.WriteString(a.String())
		at = m.end
	}
	b.WriteString(value[at:])
	return b.String(), true
}

// isMessageID reports whether s is "<", something, "@", something, ">" (RFC 5322 §3.6.4), comments and white space around it
// aside. What stands on either side is not looked at closely: an id is compared, never read.
func isMessageID(s string) bool {
	start, end := strings.IndexByte(s, '<'), strings.LastIndexByte(s, '>')
	if start < 0 || end < start {
		return false
	}
	left, right, ok := strings.Cut(s[start+1:end], "@")
	return ok && left != "" && right != "" && !strings.ContainsAny(left+right, "<> \t")
}

// oddDates are the ways of writing a date that clients mistake for RFC 5322's. Those without a zone are read as UTC.
var oddDates = []string{
	time.RFC3339, time.ANSIC, time.UnixDate, time.RFC850, time.RubyDate,
	"Mon, 2 Jan 2006 15:04:05", "2 Jan 2006 15:04:05", "Mon, 2 Jan 2006, 15:04:05 -0700", "Monday, 2 January 2006 15:04:05 -0700",
	"Mon, 2 January 2006 15:04:05 -0700", "Mon, 2 Jan 2006 15:04:05 -07:00", "Mon, 2-Jan-2006 15:04:05 -0700",
	"2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05", "2006-01-02T15:04:05", "Mon Jan 2 15:04:05 2006 -0700",
}

// isDate reports whether s is a date-time of RFC 5322 §3.3, obsolete forms (RFC 5322 §4.3) included.
func isDate(s string) bool {
	if _, err := time.Parse(time.RFC1123Z, s); err == nil { // nearly always: mail.ParseDate tries many
		return true
	}
	_, err := mail.ParseDate(s)
	return err == nil
}

// parseOddDate reads a date that is not one of RFC 5322; ok is false if it cannot be told which is meant.
func parseOddDate(s string) (t time.Time, ok bool) {
	for _, layout := range oddDates {
		if t, err := time.Parse(layout, s); err == nil {
			return t, t.Year() > 1900
		}
	}
	return time.Time{}, false
}
