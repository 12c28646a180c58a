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
	out   []byte    // canonical, not yet written
	ends  int       // line ends held back: they count only before more text
	space bool      // white space held back: it counts only within a line
	cr    bool      // a CR held back: with an LF it is a line end
	text  bool      // there was some
}

// relaxedPiece is how many octets are written at once.
const relaxedPiece = 4 << 10

var crlf = []byte("\r\n")

func (r *relaxedBody) Write(p []byte) (int, error) {
	for _, c := range p {
		if r.cr {
			r.cr = false
			if c == '\n' {
				r.ends++
				r.space = false
				continue
			}
			r.put('\r')
		}
		switch c {
		case '\r':
			r.cr = true
		case ' ', '\t':
			r.space = true
		default:
			r.put(c)
		}
	}
	return len(p), nil
}

// put takes one octet of text, and before it what was held back.
func (r *relaxedBody) put(c byte) {
	for ; r.ends > 0; r.ends-- {
		r.out = append(r.out, crlf...)
		r.flush()
	}
	if r.space {
		r.out = append(r.out, ' ')
		r.space = false
	}
	r.out = append(r.out, c)
	r.text = true
	r.flush()
}

func (r *relaxedBody) flush() {
	if len(r.out) >= relaxedPiece {
		r.w.Write(r.out)
		r.out = r.out[:0]
	}
}

// Close ends the body: with one CRLF, if there is any text in it.
func (r *relaxedBody) Close() error {
	if r.cr {
		r.put('\r')
	}
	if r.text {
		r.out = append(r.out, crlf...)
	}
	_, err := r.w.Write(r.out)
	return err
}

// simpleBody is relaxedBody for the simple form (RFC 6376 §3.4.3): only empty lines at the end do not count, and there is always one line end.
type simpleBody struct {
	w    io.Writer
	ends int  // line ends held back
	cr   bool // a CR held back
}

func (s *simpleBody) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if s.cr {
			s.cr = false
			if rest[0] == '\n' {
				s.ends++
				rest = rest[1:]
				continue
			}
			s.put([]byte("\r"))
		}
		n := bytes.IndexByte(rest, '\r')
		if n < 0 {
			n = len(rest)
		}
		if n > 0 {
			s.put(rest[:n])
		}
		if rest = rest[n:]; len(rest) > 0 {
			s.cr, rest = true, rest[1:]
		}
	}
	return len(p), nil
}

func (s *simpleBody) put(text []byte) {
	for ; s.ends > 0; s.ends-- {
		s.w.Write(crlf)
	}
	s.w.Write(text)
}

// Close ends the body, with one CRLF even where there was nothing.
func (s *simpleBody) Close() error {
	if s.cr {
		s.put([]byte("\r"))
	}
	_, err := s.w.Write(crlf)
	return err
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
