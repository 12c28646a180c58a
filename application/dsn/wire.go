package dsn

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"bothy/application/message"
	"bothy/application/smtp"
)

// Bounds of what strangers can put into a notice.
const (
	maxText   = 400      // octets of a line somebody else wrote; it shares one of at most 998 (RFC 5322 §2.1.1)
	maxLines  = 20       // lines of one reply
	maxHeader = 64 << 10 // octets of the original header returned
)

// ascii makes s printable ASCII of at most max octets: what a field of message/delivery-status may hold (RFC 3464 §2.1).
func ascii(s string, max int) string {
	if len(s) > max {
		s = s[:max]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// unicodeText makes s graphic UTF-8 of at most max octets.
func unicodeText(s string, max int) string {
	for len(s) > max {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsGraphic(r) {
			return '?'
		}
		return r
	}, s)
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// form is how fields are written.
type form struct {
	text   func(s string, max int) string
	global bool // beyond ASCII (RFC 6533 §4.1)
}

var (
	asciiForm   = form{text: ascii}
	unicodeForm = form{text: unicodeText, global: true}
)

// typedAddress writes an address with its type: "rfc822;" if it is ASCII (RFC 3461 §9.1), else "utf-8;" and the address itself,
// or the form of it that seven bits can carry (RFC 6533 §3: utf-8-addr-xtext).
func (f form) typedAddress(a message.Address) string {
	s := a.String()
	switch {
	case a.IsASCII():
		return "rfc822;" + ascii(s, len(s))
	case f.global:
		return "utf-8;" + unicodeText(s, len(s))
	}
	var b strings.Builder
	b.WriteString("utf-8;")
	for _, r := range s {
		if r > ' ' && r <= '~' && r != '\\' && r != '+' && r != '=' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\x{%02X}`, r)
		}
	}
	return b.String()
}

// original turns the value of ORCPT into that of Original-Recipient: RFC 3461 §4.2 encodes it as xtext, the field does not.
// A UTF-8 address has an encoding of its own, which the field has only where it is ASCII (RFC 6533 §3).
func (f form) original(orcpt string) string {
	kind, text, ok := strings.Cut(orcpt, ";")
	if !ok || kind == "" {
		return ""
	}
	switch isUTF8 := strings.EqualFold(kind, "utf-8"); {
	case isUTF8 && f.global:
		if plain, ok := unitext(text); ok { // what is no address is copied as it is
			text = plain
		}
	case isUTF8:
		var b strings.Builder
		for _, r := range text {
			if r < utf8.RuneSelf {
				b.WriteRune(r)
			} else {
				fmt.Fprintf(&b, `\x{%02X}`, r)
			}
		}
		text = b.String()
	default:
		if plain, ok := xtext(text); ok {
			text = plain
		}
	}
	return f.text(kind+";"+text, maxOriginal)
}

// unitext decodes s (RFC 6533 §3: EmbeddedUnicodeChar), if it is a mailbox then.
func unitext(s string) (string, bool) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, `\x{`)
		b.WriteString(before)
		if !found {
			break
		}
		number, after, ok := strings.Cut(rest, "}")
		r, err := strconv.ParseUint(number, 16, 32)
		if !ok || err != nil || len(number) > 6 || !utf8.ValidRune(rune(r)) {
			return "", false
		}
		b.WriteRune(rune(r))
		s = after
	}
	_, err := message.ParseAddress(b.String())
	return b.String(), err == nil
}

// maxOriginal holds an ORCPT of 500 characters (RFC 3461 §4.2), which may be UTF-8 of two octets each, written as \x{HH}.
const maxOriginal = 900

// xtext decodes s (RFC 3461 §4).
func xtext(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		high, low := strings.IndexByte(hex, s[i+1]), strings.IndexByte(hex, s[i+2])
		if high < 0 || low < 0 {
			return "", false
		}
		b.WriteByte(byte(high<<4 | low))
		i += 2
	}
	return b.String(), true
}

const hex = "0123456789ABCDEF" // RFC 3461 §4: upper case only

// diagnostic returns the lines of a reply as they came (RFC 3461 §9.2), at most maxLines of at most maxText octets.
func (f form) diagnostic(r smtp.Reply) []string {
	prefix := fmt.Sprintf("%03d", r.Code)
	code := ""
	if r.Enhanced != ([3]int{}) {
		code = fmt.Sprintf("%d.%d.%d ", r.Enhanced[0], r.Enhanced[1], r.Enhanced[2])
	}
	texts := strings.Split(r.Text, "\n")
	texts = texts[:min(len(texts), maxLines)]
	lines := make([]string, len(texts))
	for i, text := range texts {
		mark := "-"
		if i == len(texts)-1 {
			mark = " "
		}
		lines[i] = strings.TrimRight(prefix+mark+code+f.text(text, maxText), " ")
	}
	return lines
}

// mtaName writes a name with its type. RFC 3461 §6.3: "dns" only for what the DNS could know.
func mtaName(host string) string {
	if host = ascii(host, maxText); strings.Contains(host, ".") {
		return "dns; " + host
	}
	return "x-local-hostname; " + host
}

// isMessageID reports whether s can be copied into In-Reply-To and References: "<", something with an "@", ">" (RFC 5322 §3.6.4).
func isMessageID(s string) bool {
	return len(s) >= len("<a@b>") && len(s) <= maxText && s[0] == '<' && strings.IndexByte(s, '>') == len(s)-1 &&
		strings.Contains(s, "@") && ascii(s, len(s)) == s && !strings.ContainsAny(s, " ")
}
