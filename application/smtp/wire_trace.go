package smtp

import (
	"crypto/tls"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"bothy/application/message"
)

// trace is what a Received field tells of one transfer (RFC 5321 §4.4).
type trace struct {
	helo     string
	peer     netip.Addr // not valid: not said
	by       string
	via      string // empty: not said
	extended bool
	tls      *tls.ConnectionState
	authed   bool
	env      *message.Envelope
	at       time.Time
	zone     bool // with the name of its time zone
}

// appendReceived appends the field, folded.
func (t trace) appendReceived(b []byte) []byte {
	b = append(append(b, "Received: from "...), t.helo...)
	if t.peer.IsValid() {
		b = append(appendLiteral(append(b, " ("...), t.peer), ')')
	}
	b = append(append(b, "\r\n\tby "...), t.by...)
	if t.via != "" {
		b = append(append(b, " via "...), t.via...)
	}
	b = append(append(b, " with "...), t.protocol()...)
	b = appendSolicit(b, t.env.Solicit)
	if t.tls != nil { // a comment, as RFC 3207 §4.1 suggests
		b = append(append(b, "\r\n\t("...), tls.VersionName(t.tls.Version)...)
		b = append(append(append(b, ' '), tls.CipherSuiteName(t.tls.CipherSuite)...), ')')
	}
	b = append(append(b, "\r\n\tid "...), t.env.ID.String()...)
	// RFC 5321 §4.4: one path or none; more of them would show each recipient the others (§7.2).
	if len(t.env.Recipients) == 1 && t.env.Recipients[0].Address.Domain != "" {
		b = appendPath(append(b, "\r\n\tfor "...), t.env.Recipients[0].Address)
	}
	if t.env.Priority != 0 { // RFC 6710 §4.1
		b = strconv.AppendInt(append(b, "\r\n\tpriority "...), int64(t.env.Priority), 10)
	}
	b = append(b, ";\r\n\t"...)
	b = t.at.AppendFormat(b, "Mon, 2 Jan 2006 15:04:05 -0700") // RFC 5321 §4.4: the offset, always
	if name, _ := t.at.Zone(); t.zone && isAlpha(name) {
		b = append(append(append(b, " ("...), name...), ')')
	}
	return append(b, "\r\n"...)
}

// maxTraced is the most octets of a solicitation class keyword in a trace field, whose lines have 998 (RFC 5322 §2.1.1).
const maxTraced = 900

// appendSolicit appends the comment that tells of solicitation class keywords, folded behind its commas (RFC 3865 §2.6).
func appendSolicit(b []byte, keywords string) []byte {
	const width = 76
	column, more := len("\t(SOLICIT="), false
	for word := range strings.SplitSeq(keywords, ",") {
		if word == "" || len(word) > maxTraced {
			continue
		}
		switch {
		case !more:
			b = append(b, "\r\n\t(SOLICIT="...)
		case column+len(word) >= width:
			b, column = append(b, ",\r\n\t"...), 0
		default:
			b = append(b, ',')
		}
		b, more = append(b, word...), true
		column += len(word) + len(",")
	}
	if more {
		b = append(b, ')')
	}
	return b
}

// protocol is the WITH clause: RFC 3848 §1, RFC 6531 §4.3.
func (t trace) protocol() string {
	name := "ESMTP"
	switch {
	case !t.extended:
		return "SMTP"
	case t.env.UTF8:
		name = "UTF8SMTP"
	}
	if t.tls != nil {
		name += "S"
	}
	if t.authed {
		name += "A"
	}
	return name
}

// isAlpha reports whether s is letters, as the names of most time zones are; others have none and show their offset.
func isAlpha(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) || isDigits(s[i:i+1]) {
			return false
		}
	}
	return s != ""
}

// appendLiteral appends addr as an address literal (RFC 5321 §4.1.3).
func appendLiteral(b []byte, addr netip.Addr) []byte {
	addr = addr.Unmap().WithZone("")
	b = append(b, '[')
	if addr.Is6() {
		b = append(b, "IPv6:"...)
	}
	return append(addr.AppendTo(b), ']')
}
