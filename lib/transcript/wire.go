package transcript

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

type kind uint8

const (
	comment  kind = iota // comments and directives already obeyed: no effect on the group around them
	blank                // parts two writes
	say                  // sent with CRLF
	sayRaw               // sent as it is
	sayEOF               // the tester closes
	hear                 // must come back
	hearEOF              // the peer must have closed
	startTLS             // both sides begin TLS
)

// line is one line of a file.
type line struct {
	kind   kind
	number int    // from 1
	source string // as in the file
	party  byte   // the letter before the colon
	text   string // what is sent, unescaped; what is heard, as written
}

// readFile parses a dialogue.
func readFile(name string) ([]line, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var lines []line
	tester := byte('C')
	for i, source := range strings.Split(strings.TrimSuffix(string(content), "\n"), "\n") {
		l, err := parseLine(source, &tester)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
		l.number, l.source = i+1, source
		lines = append(lines, l)
	}
	return lines, nil
}

// parseLine reads one line; tester is the party the tester plays, which the line may change.
func parseLine(s string, tester *byte) (line, error) {
	switch {
	case strings.TrimSpace(s) == "":
		return line{kind: blank}, nil
	case s[0] == '#':
		return line{kind: comment}, nil
	case s == "TLS: start":
		return line{kind: startTLS}, nil
	case strings.HasPrefix(s, "TESTER: ") && len(s) == len("TESTER: ")+1:
		*tester = s[len(s)-1]
		return line{kind: comment}, nil
	case len(s) < 2 || s[0] < 'A' || s[0] > 'Z' || s[1] != ':' && s[1] != '>' || len(s) > 2 && s[2] != ' ':
		return line{}, fmt.Errorf("not a line of a dialogue: %q", s)
	}
	l := line{party: s[0], text: s[min(3, len(s)):]}
	raw, said, closed := s[1] == '>', s[0] == *tester, l.text == "EOF"
	if raw && !said {
		return line{}, fmt.Errorf("only the tester (%c) sends raw octets: %q", *tester, s)
	}
	switch {
	case said && closed && !raw:
		l.kind = sayEOF
	case said && raw:
		l.kind = sayRaw
	case said:
		l.kind = say
	case closed:
		l.kind = hearEOF
	default:
		l.kind = hear
	}
	parts, err := unescape(l.text)
	if err != nil {
		return line{}, err
	}
	if said {
		if len(parts) > 1 {
			return line{}, fmt.Errorf("${any} cannot be sent: %q", s)
		}
		l.text = parts[0]
	}
	return l, nil
}

// unescape resolves escapes and repeats; each ${any} parts the result.
func unescape(s string) (parts []string, err error) {
	var b strings.Builder
	for s != "" {
		switch {
		case strings.HasPrefix(s, "${any}"):
			parts, s = append(parts, b.String()), s[len("${any}"):]
			b.Reset()
		case strings.HasPrefix(s, "${repeat "):
			count, rest, ok := strings.Cut(s[len("${repeat "):], " ")
			what, after, ok2 := strings.Cut(rest, "}")
			n, err := strconv.Atoi(count)
			if !ok || !ok2 || err != nil || n < 0 {
				return nil, fmt.Errorf("want ${repeat count text}: %q", s)
			}
			inner, err := unescape(what)
			if err != nil {
				return nil, err
			}
			b.WriteString(strings.Repeat(inner[0], n))
			s = after
		case s[0] == '\\':
			octet, rest, err := unescapeOctet(s)
			if err != nil {
				return nil, err
			}
			b.WriteByte(octet)
			s = rest
		default:
			b.WriteByte(s[0])
			s = s[1:]
		}
	}
	return append(parts, b.String()), nil
}

// unescapeOctet resolves the escape that s starts with.
func unescapeOctet(s string) (octet byte, rest string, err error) {
	if len(s) >= 2 {
		if i := strings.IndexByte(`rnt\$`, s[1]); i >= 0 {
			return "\r\n\t\\$"[i], s[2:], nil
		}
		if s[1] == 'x' && len(s) >= 4 {
			if v, err := strconv.ParseUint(s[2:4], 16, 8); err == nil {
				return byte(v), s[4:], nil
			}
		}
	}
	return 0, "", fmt.Errorf("unknown escape: %q", s)
}

// escape writes what came back as a line of a file; unescape gives it back.
func escape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == '$' && strings.HasPrefix(s[i:], "${"):
			b.WriteString(`\$`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == utf8.RuneError && size == 1, r < ' ', r == 0x7f, r == ' ' && i == len(s)-1:
			fmt.Fprintf(&b, `\x%02x`, s[i]) // a trailing space would not survive editors
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	if b.String() == "EOF" {
		return `\x45OF`
	}
	return b.String()
}

// matches reports whether got is what the pattern of a heard line asks for.
func matches(pattern, got string) bool {
	parts, err := unescape(pattern)
	if err != nil {
		return false
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return got == first
	}
	if len(got) < len(first)+len(last) || !strings.HasPrefix(got, first) || !strings.HasSuffix(got, last) {
		return false
	}
	got = got[len(first) : len(got)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(got, part)
		if i < 0 {
			return false
		}
		got = got[i+len(part):]
	}
	return true
}
