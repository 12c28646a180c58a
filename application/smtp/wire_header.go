package smtp

import (
	"bytes"
	"fmt"
	"strings"
)

const (
	maxSolicit = 1000            // octets of a list of solicitation class keywords (RFC 3865 §2.2)
	maxValue   = maxSolicit + 64 // octets of a field's value that is kept, with the folding; of a longer one nothing is
)

// headerScan reads of a header section that arrives in pieces what a transfer agent must know, in bounded memory. Nothing else of a
// message is looked at (RFC 5321 §6.4).
type headerScan struct {
	over     bool // the header section has ended
	ends     lineEnds
	loose    bool   // the text begins with white space: it would continue the field before it, which is ours
	received int    // fields (RFC 5321 §6.3)
	solicit  string // the keywords of Solicitation (RFC 3865 §2.5)
	noTLS    bool   // TLS-Required: No (RFC 8689 §3)

	begun  bool     // a line has been seen
	name   [14]byte // the beginning of a line, as far as it may be a name that matters
	n      int      // octets of name
	inLine bool     // behind the name
	kept   kept
	value  []byte // of the field kept
}

// The fields that are looked at.
var (
	nameReceived = []byte("Received:")
	nameSolicit  = []byte("Solicitation:")
	nameNoTLS    = []byte("TLS-Required:")
)

// kept is a field whose value is kept until its end.
type kept uint8

const (
	keptNone kept = iota
	keptSolicit
	keptNoTLS
)

func (h *headerScan) write(text []byte) {
	p := text
	defer func() { h.ends.write(text[:len(text)-len(p)]) }()
	for len(p) > 0 && !h.over {
		if h.inLine {
			p = p[h.rest(p):]
			continue
		}
		c := p[0]
		p = p[1:]
		if h.n == 0 && (c == ' ' || c == '\t') { // RFC 5322 §2.2.3: the field goes on
			h.loose = !h.begun
			h.over = h.loose
			h.begun, h.inLine = true, true
			continue
		}
		h.begun = true
		h.name[h.n] = c
		h.n++
		switch {
		case c == '\n': // RFC 5322 §2.1: an empty line ends the section
			h.end()
			h.over = h.n == 1 || h.n == 2 && h.name[0] == '\r'
			h.n = 0
		case c == ':', h.n == len(h.name), h.n == 1 && strings.IndexByte("rRsStT\r", c) < 0:
			h.end()
			h.named(h.name[:h.n])
			h.n, h.inLine = 0, true
		}
	}
}

// rest takes what is left of a line, and returns how many octets that is.
func (h *headerScan) rest(p []byte) int {
	n := bytes.IndexByte(p, '\n') + 1
	if h.inLine = n == 0; h.inLine {
		n = len(p)
	}
	switch {
	case h.kept == keptNone:
	case len(h.value)+n > maxValue:
		h.kept, h.value = keptNone, nil
	default:
		h.value = append(h.value, p[:n]...)
	}
	return n
}

// named begins a field.
func (h *headerScan) named(name []byte) {
	switch {
	case bytes.EqualFold(name, nameReceived):
		h.received++
	case bytes.EqualFold(name, nameSolicit):
		h.kept = keptSolicit
	case bytes.EqualFold(name, nameNoTLS):
		h.kept = keptNoTLS
	}
}

// end ends a field whose value was kept, and must be called where the text ends within the header section. A field of which there is
// more than one counts as all of them.
func (h *headerScan) end() {
	if h.kept == keptNone {
		return
	}
	value := strings.Trim(string(bytes.ReplaceAll(h.value, []byte("\r\n"), nil)), " \t")
	switch {
	case h.kept == keptNoTLS:
		h.noTLS = h.noTLS || strings.EqualFold(value, "no")
	case h.kept == keptSolicit && isSolicit(value) && h.solicit == "":
		h.solicit = value
	case h.kept == keptSolicit && isSolicit(h.solicit+","+value):
		h.solicit += "," + value
	}
	h.kept, h.value = keptNone, nil
}

// isSolicit reports whether s is a list of solicitation class keywords (RFC 3865 §2.2).
func isSolicit(s string) bool {
	for word := range strings.SplitSeq(s, ",") {
		if word == "" || !isAlnum(word[0]) || isDigits(word[:1]) {
			return false
		}
		for i := range len(word) {
			if c := word[i]; !isAlnum(c) && c != '.' && c != '-' && c != '_' && c != ':' {
				return false
			}
		}
	}
	return len(s) <= maxSolicit
}

// maxSign is the most octets of the keywords in a line of EHLO, which has 512 (RFC 5321 §4.5.3.1.5).
const maxSign = 450

// CheckUnsolicited reports what is wrong with a list for Offer.Unsolicited.
func CheckUnsolicited(keywords []string) error {
	for _, word := range keywords {
		if strings.Contains(word, ",") || !isSolicit(word) {
			return fmt.Errorf("%q is not a solicitation class keyword, such as net.example:ADV (RFC 3865 §2.2)", word)
		}
	}
	if n := len(strings.Join(keywords, ",")); n > maxSign {
		return fmt.Errorf("%d octets of keywords: a line of EHLO takes %d", n, maxSign)
	}
	return nil
}

// unwanted returns the keywords of list that are among those of sign, separated by commas as they came; "" if none is.
func unwanted(list string, sign []string) string {
	var found []string
	for word := range strings.SplitSeq(list, ",") {
		for _, no := range sign {
			if word != "" && strings.EqualFold(word, no) {
				found = append(found, word)
			}
		}
	}
	return strings.Join(found, ",")
}
