package odmr

import (
	"bytes"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"
	"unicode"

	"bothy/application/message"
)

// digest is the message that tells a customer what was held back for its budget.
type digest struct {
	hostname string // the provider's
	to       message.Address
	id       message.ID
	now      time.Time
	terms    budget // what was asked for
	waiting  []heldBack
	others   int   // messages that wait besides, told of before or too many to name
	octets   int64 // of all that wait
}

// heldBack is one line of a digest.
type heldBack struct {
	from, subject string // as the message's header has them, encoded words and all
	to            []message.Recipient
	size          int64
	accepted      time.Time
}

const (
	maxListed = 100 // messages in a digest
	maxShown  = 78  // characters of a name or subject in it
)

// text is the whole message. What senders wrote stands in it as text and nothing else: no controls, no line of its own.
func (d *digest) text() []byte {
	var b []byte
	count := len(d.waiting) + d.others
	field := func(name, value string) { b = message.AppendField(b, name, value) }
	field("From", "Mail at "+d.hostname+" <postmaster@"+d.hostname+">")
	field("To", "<"+d.to.String()+">")
	field("Date", message.FormatDate(d.now))
	field("Message-ID", "<"+d.id.String()+"@"+d.hostname+">")
	field("Subject", fmt.Sprintf("%s held back, %s", messages(count), inUnits(d.octets)))
	field("Auto-Submitted", "auto-generated") // RFC 3834 §5
	field("MIME-Version", "1.0")
	field("Content-Type", "text/plain; charset=utf-8")
	field("Content-Transfer-Encoding", "quoted-printable")
	b = append(b, "\r\n"...)
	body := bytes.NewBuffer(b)
	q := quotedprintable.NewWriter(body)
	say := func(format string, args ...any) {
		fmt.Fprintf(q, strings.ReplaceAll(format, "\n", "\r\n"), args...) // memory does not fail
	}
	say("%s (%s) did not fit into the last call%s, and will be offered again in the next.\n", messages(count), inUnits(d.octets), d.terms.words())
	say("To have all of it now: bothy fetch --all\n")
	for _, m := range d.waiting {
		say("\n%s\n  From:    %s\n  To:      %s\n  Size:    %s\n  Waits:   since %s\n", shown(m.subject, "(no subject)"), shown(m.from, "(no sender)"), recipients(m.to), inUnits(m.size), message.FormatDate(m.accepted))
	}
	if d.others > 0 {
		say("\nAnd %s besides.\n", messages(d.others))
	}
	q.Close()
	return body.Bytes()
}

// shown is what a header field says, for people: encoded words read (RFC 2047 §2), controls and what turns the direction of writing gone.
func shown(value, none string) string {
	decoder := mime.WordDecoder{}
	if text, err := decoder.DecodeHeader(value); err == nil {
		value = text
	}
	value = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == unicode.ReplacementChar, unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(value, ""))
	if runes := []rune(value); len(runes) > maxShown {
		value = string(runes[:maxShown-1]) + "…"
	}
	if value = strings.TrimSpace(value); value == "" {
		return none
	}
	return value
}

// recipients names the first of those a message waits for.
func recipients(to []message.Recipient) string {
	first := shown(to[0].Address.String(), "")
	if len(to) == 1 {
		return first
	}
	return fmt.Sprintf("%s and %d more", first, len(to)-1)
}

func messages(n int) string {
	if n == 1 {
		return "1 message"
	}
	return fmt.Sprintf("%d messages", n)
}

// inUnits is a number of octets for people.
func inUnits(n int64) string {
	size, unit := float64(n), "octets"
	for _, u := range []string{"kB", "MB", "GB"} {
		if size < 1000 {
			break
		}
		size, unit = size/1000, u
	}
	if unit == "octets" || size >= 10 {
		return fmt.Sprintf("%.0f %s", size, unit)
	}
	return fmt.Sprintf("%.1f %s", size, unit)
}
