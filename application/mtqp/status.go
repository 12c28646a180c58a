package mtqp

import (
	"strings"

	"bothy/application/message"
)

// boundary parts the answer; no line of a field begins with it.
const boundary = "=_tracking-status"

// appendStatus appends the answer to TRACK (RFC 3886 §3, RFC 3887 §4): a part for each message.
func appendStatus(b []byte, host string, entries []Entry) []byte {
	line := func(parts ...string) {
		for _, p := range parts {
			for i := range len(p) {
				c := p[i]
				if c < ' ' || c > '~' { // RFC 3886 §3.1: 7 bits
					c = '?'
				}
				b = append(b, c)
			}
		}
		b = append(b, "\r\n"...)
	}
	line(`Content-Type: multipart/related; boundary="`, boundary, `"; type="message/tracking-status"`)
	line()
	for _, e := range entries {
		line("--", boundary)
		line("Content-Type: message/tracking-status")
		line()
		line("Original-Envelope-Id: ", e.EnvelopeID)
		line("Reporting-MTA: dns; ", host)
		line("Arrival-Date: ", message.FormatDate(e.Arrived))
		for _, s := range e.Recipients {
			line()
			line("Original-Recipient: ", s.original())
			line("Final-Recipient: rfc822; ", s.Recipient)
			line("Action: ", s.Action)
			line("Status: ", s.Status)
			if s.Remote != "" && !s.At.IsZero() {
				line("Remote-MTA: dns; ", s.Remote)
			}
			if !s.At.IsZero() {
				line("Last-Attempt-Date: ", message.FormatDate(s.At))
			}
			if !s.RetryUntil.IsZero() {
				line("Will-Retry-Until: ", message.FormatDate(s.RetryUntil))
			}
		}
		line()
	}
	line("--", boundary, "--")
	return b
}

// appendDotted appends the lines of a multi-line response, with dots doubled, and its end (RFC 3887 §2.3).
func appendDotted(b, text []byte) []byte {
	for line := range strings.Lines(string(text)) {
		if line[0] == '.' {
			b = append(b, '.')
		}
		b = append(b, line...)
	}
	return append(b, ".\r\n"...)
}
