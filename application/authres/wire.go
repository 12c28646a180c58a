package authres

import (
	"bytes"
	"encoding/base64"
	"io"
	"strings"

	"bothy/application/message"
)

// appendRelaxed appends a header field in relaxed canonical form, without a CRLF at its end (RFC 6376 §3.4.2).
func appendRelaxed(b, raw []byte) []byte {
	name, value, _ := bytes.Cut(raw, []byte(":"))
	b = append(b, bytes.ToLower(bytes.TrimRight(name, " \t"))...)
	b = append(b, ':')
	start := len(b)
	space := false
	for _, c := range bytes.ReplaceAll(value, []byte("\r\n"), nil) {
		if c == ' ' || c == '\t' {
			space = true
			continue
		}
		if space && len(b) > start {
			b = append(b, ' ')
		}
		space = false
		b = append(b, c)
	}
	return b
}

// relaxedBody writes a body in relaxed canonical form (RFC 6376 §3.4.4) to w as it comes, in pieces of any size. What it holds back is counted,
// not kept. A CR or LF that stands alone is text.
type relaxedBody struct {
	w     io.Writer // a hash: it does not fail
	ends  int       // line ends held back: they count only before more text
	space bool      // white space held back: it counts only within a line
	cr    bool      // a CR held back: with an LF it is a line end
	text  bool      // something was written
}

func (r *relaxedBody) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		c := rest[0]
		switch {
		case r.cr && c == '\n':
			r.cr, r.space = false, false
			r.ends++
		case r.cr:
			r.cr = false
			r.put(cr)
			continue // c is still to be looked at
		case c == '\r':
			r.cr = true
		case c == ' ' || c == '\t':
			r.space = true
		default:
			n := bytes.IndexAny(rest, "\r \t")
			if n < 0 {
				n = len(rest)
			}
			r.put(rest[:n])
			rest = rest[n:]
			continue
		}
		rest = rest[1:]
	}
	return len(p), nil
}

var cr, crlf, sp = []byte("\r"), []byte("\r\n"), []byte(" ")

// put writes what was held back, then text.
func (r *relaxedBody) put(text []byte) {
	for ; r.ends > 0; r.ends-- {
		r.w.Write(crlf)
	}
	if r.space {
		r.w.Write(sp)
	}
	r.space, r.text = false, true
	r.w.Write(text)
}

// Close ends the body: with one CRLF, if there is any text in it.
func (r *relaxedBody) Close() error {
	if r.cr {
		r.put(cr)
	}
	if r.text {
		r.w.Write(crlf)
	}
	return nil
}

// What is signed. RFC 6376 §5.4.1 has the list; trace fields are not on it, nor Bcc.
var (
	// guarded are signed once more often than they are there: nobody can add one (RFC 6376 §5.4).
	guarded = []string{"From", "To", "Cc", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"}
	// signed are signed as they are: a list may add its own Reply-To or Sender.
	signed = []string{
		"Reply-To", "Sender", "In-Reply-To", "References", "Content-Disposition", "Content-ID", "Content-Description", "Content-Language",
		"Resent-Date", "Resent-From", "Resent-To", "Resent-Cc", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post", "Auto-Submitted",
	}
)

// choose returns the names for h= and the fields they stand for, in the order in which they are signed: of several fields of a name the
// last one first (RFC 6376 §5.4.2).
func choose(h *message.Header) (names []string, fields [][]byte) {
	take := func(name string, more int) {
		var found [][]byte
		for f := range h.Fields() {
			if strings.EqualFold(f.Name(), name) {
				found = append(found, f.Raw())
			}
		}
		for i := len(found) - 1; i >= 0; i-- {
			fields = append(fields, found[i])
		}
		for range len(found) + more {
			names = append(names, name)
		}
	}
	for _, name := range guarded {
		take(name, 1)
	}
	for _, name := range signed {
		take(name, 0)
	}
	return names, fields
}

// foldAt is the width at which lists and base64 are broken (RFC 5322 §2.1.1: at most 78 columns).
const foldAt = 72

// appendList appends items with colons between them, folded.
func appendList(b []byte, column int, items []string) []byte {
	for i, item := range items {
		if i > 0 {
			b = append(b, ':')
			column++
		}
		if column+len(item) > foldAt {
			b = append(b, "\r\n\t"...)
			column = 1
		}
		b = append(b, item...)
		column += len(item)
	}
	return b
}

// appendBase64 appends data in base64, folded.
func appendBase64(b []byte, column int, data []byte) []byte {
	text := base64.StdEncoding.EncodeToString(data)
	for len(text) > 0 {
		n := min(len(text), max(0, foldAt-column))
		b = append(b, text[:n]...)
		if text = text[n:]; len(text) > 0 {
			b = append(b, "\r\n\t"...)
			column = 1
		}
	}
	return b
}
