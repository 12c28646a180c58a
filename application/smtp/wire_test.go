package smtp

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"bothy/application/message"
)

func TestReplyAppendTo(t *testing.T) {
	long := strings.Repeat("a", 1000)
	for _, c := range []struct {
		reply Reply
		want  string
	}{
		{Reply{250, [3]int{}, "ok"}, "250 ok\r\n"},
		{Reply{250, [3]int{}, ""}, "250 \r\n"},
		{Reply{250, [3]int{2, 1, 5}, "ok"}, "250 2.1.5 ok\r\n"},
		{Reply{551, [3]int{5, 7, 1}, "no\nnever"}, "551-5.7.1 no\r\n551 5.7.1 never\r\n"}, // RFC 2034 §4
		{Reply{550, [3]int{}, "a\rb\x00c\x7fdø\te\n"}, "550-a?b?c?d??\te\r\n550 \r\n"},
		{Reply{550, [3]int{}, long}, "550-" + long[:480] + "\r\n550-" + long[:480] + "\r\n550 " + long[960:] + "\r\n"},
	} {
		if got := string(c.reply.AppendTo(nil)); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestParseEnhanced(t *testing.T) {
	for _, c := range []struct {
		code int
		text string
		want [3]int
		rest string
	}{
		{250, "2.1.5 ok", [3]int{2, 1, 5}, "ok"},
		{250, "2.1.5", [3]int{2, 1, 5}, ""},
		{550, "5.123.999  no", [3]int{5, 123, 999}, "no"},
		{550, "4.1.1 not the class of the code", [3]int{}, "4.1.1 not the class of the code"},
		{550, "5.1 two", [3]int{}, "5.1 two"},
		{550, "5.1.1.1 four", [3]int{}, "5.1.1.1 four"},
		{550, "5.1.1234 long", [3]int{}, "5.1.1234 long"},
		{550, "5..1 empty", [3]int{}, "5..1 empty"},
		{550, "5.1. empty", [3]int{}, "5.1. empty"},
		{550, "no", [3]int{}, "no"},
		{250, "", [3]int{}, ""},
	} {
		if got, rest := parseEnhanced(c.code, c.text); got != c.want || rest != c.rest {
			t.Errorf("%q: %v %q", c.text, got, rest)
		}
	}
}

func TestXtext(t *testing.T) {
	for text, want := range map[string]string{
		"e=mc2@example.com": "e+3Dmc2@example.com", // RFC 4954 §5.1
		"john+@example.org": "john+2B@example.org",
		"<>":                "<>",
		"a b":               "a+20b",
		"ø":                 "+C3+B8",
	} {
		if got := string(appendXtext(nil, text)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got, ok := parseXtext(want); !ok || got != text {
			t.Errorf("%q: %q %v", want, got, ok)
		}
	}
	for _, bad := range []string{"a=b", "a b", "+", "+2", "+2b", "+zz", "a\x7f", "ø", "+FF"} {
		if got, ok := parseXtext(bad); ok {
			t.Errorf("%q is %q", bad, got)
		}
	}
}

func TestAppendLiteral(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7": "[192.0.2.7]", "2001:db8::7": "[IPv6:2001:db8::7]", "::ffff:192.0.2.7": "[192.0.2.7]", "fe80::1%eth0": "[IPv6:fe80::1]",
	} {
		if got := string(appendLiteral(nil, netip.MustParseAddr(addr))); got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
}

// The Received field with all its parts, and no line of it longer than RFC 5322 §2.1.1 allows, whatever the addresses.
func TestReceivedLines(t *testing.T) {
	to := message.Address{Local: strings.Repeat("a", 64), Domain: strings.Repeat("b", 180) + ".example"}
	b := trace{
		helo: strings.Repeat("c", 255), peer: netip.MustParseAddr("2001:db8::7"), by: strings.Repeat("d", 255), extended: true, at: clock(),
		env: &message.Envelope{Recipients: []message.Recipient{{Address: to}}},
	}.appendReceived(nil)
	for line := range bytes.Lines(b) {
		if len(line) > 1000 || !bytes.HasSuffix(line, []byte("\r\n")) {
			t.Errorf("%q", line)
		}
	}
	if !bytes.Contains(b, []byte(" ([IPv6:2001:db8::7])\r\n")) {
		t.Errorf("%q", b)
	}
}

// unstuffAll feeds b in pieces of n octets, as a connection would.
func unstuffAll(b []byte, n int) (text []byte, used int, end, bare bool) {
	var u unstuffer
	window := 0 // how much of b[used:] has been read
	for {
		part, k, over := u.next(b[used : used+window])
		text, used, window = append(text, part...), used+k, window-k
		switch {
		case over:
			return text, used, true, u.bare
		case k > 0:
		case used+window == len(b):
			return text, used, false, u.bare
		default:
			window += min(n, len(b)-used-window)
		}
	}
}

// unstuffSlowly is the same, octet by octet, from RFC 5321 §4.5.2 and §2.3.8.
func unstuffSlowly(b []byte) (text []byte, used int, end, bare bool) {
	begin := true // of a line
	for i := 0; i < len(b); {
		if begin && bytes.HasPrefix(b[i:], []byte(".\r\n")) {
			return text, i + 3, true, bare
		}
		if begin && b[i] == '.' {
			i, begin = i+1, false
			continue
		}
		if bytes.HasPrefix(b[i:], []byte("\r\n")) {
			text = append(text, "\r\n"...)
			i, begin = i+2, true
			continue
		}
		bare = bare || b[i] == '\r' || b[i] == '\n'
		text = append(text, b[i])
		i, begin = i+1, false
	}
	return text, len(b), false, bare
}

func FuzzUnstuff(f *testing.F) {
	for _, s := range []string{"a\r\n..b\r\n.\r\nQUIT\r\n", ".\r\n", "\n.\r\n.\r\n", "\r.\r\n\r\n.\r\n", "a\r\n.\rb\r\n.\r\n", "..\r\n...\r\n.\r\n", "a\r\r\n.\r\n"} {
		f.Add([]byte(s), 1)
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 1 || n > 1<<16 {
			return
		}
		want, wantUsed, wantEnd, wantBare := unstuffSlowly(b)
		got, used, end, bare := unstuffAll(b, n)
		if end != wantEnd || end && (!bytes.Equal(got, want) || used != wantUsed || bare != wantBare) {
			t.Fatalf("%q by %d: %q %d %v %v, want %q %d %v %v", b, n, got, used, end, bare, want, wantUsed, wantEnd, wantBare)
		}
		if !end && !bytes.HasPrefix(want, got) {
			t.Fatalf("%q by %d: %q, want the beginning of %q", b, n, got, want)
		}
	})
}

// What the stuffer sends, the unstuffer gets, however the text is cut up.
func FuzzStuff(f *testing.F) {
	f.Add([]byte(".\r\n..\r\nhello\r\n.\r\n"), 1)
	f.Add([]byte("no last line end"), 5)
	f.Fuzz(func(t *testing.T, text []byte, n int) {
		if n < 1 {
			return
		}
		var s stuffer
		var sent []byte
		for rest := text; len(rest) > 0; {
			k := min(n, len(rest))
			sent, rest = s.appendTo(sent, rest[:k]), rest[k:]
		}
		sent = s.end(sent)
		var l lineEnds
		l.write(text)
		if bare := s.lines.bare || s.lines.cr; bare != (l.bare || l.cr) {
			t.Fatalf("%q by %d: bare %v", text, n, bare)
		} else if bare {
			return // not sent
		}
		got, used, end, bare := unstuffAll(sent, 1000)
		want := text
		if len(want) > 0 && !bytes.HasSuffix(want, []byte("\r\n")) {
			want = append(bytes.Clone(want), "\r\n"...)
		}
		if !end || used != len(sent) || bare || !bytes.Equal(got, want) {
			t.Fatalf("%q by %d was sent as %q and read as %q", text, n, sent, got)
		}
	})
}

func FuzzLineEnds(f *testing.F) {
	f.Add([]byte("a\r\nb\r\n\r\n"), 1)
	f.Add([]byte("\n\r"), 1)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 1 {
			return
		}
		var l lineEnds
		for rest := b; len(rest) > 0; {
			k := min(n, len(rest))
			l.write(rest[:k])
			rest = rest[k:]
		}
		rest := bytes.ReplaceAll(b, []byte("\r\n"), nil)
		if want := bytes.ContainsAny(rest, "\r\n"); (l.bare || l.cr) != want {
			t.Fatalf("%q by %d: %v %v", b, n, l.bare, l.cr)
		}
	})
}

func FuzzHeaderScan(f *testing.F) {
	f.Add([]byte("Received: a\r\n\tb\r\nreceived:c\r\nX: y\r\n\r\nReceived: d\r\n"), 3)
	f.Add([]byte("Solicitation: net.example:ADV,\r\n\torg.example:ADV:ADLT\r\nTLS-required:\r\n no\r\n\r\n"), 5)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		if n < 1 {
			return
		}
		var h headerScan
		for rest := b; len(rest) > 0; {
			k := min(n, len(rest))
			h.write(rest[:k])
			rest = rest[k:]
		}
		h.end()
		want := 0
		for line := range bytes.Lines(b) {
			if string(line) == "\n" || string(line) == "\r\n" || b[0] == ' ' || b[0] == '\t' {
				break
			}
			if len(line) >= 9 && bytes.EqualFold(line[:9], []byte("received:")) {
				want++
			}
		}
		if h.received != want {
			t.Fatalf("%q by %d: %d, want %d", b, n, h.received, want)
		}
		var whole headerScan
		whole.write(b)
		whole.end()
		if h.solicit != whole.solicit || h.noTLS != whole.noTLS || h.loose != whole.loose {
			t.Fatalf("%q by %d: %+v, want %+v", b, n, h, whole)
		}
	})
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"<>", "<a@b.example> SIZE=1", "<@c.example,@d.example:a@b.example>", `<"a>b\""@[IPv6:::1]>`, "<Postmaster>", "<ø@ø.example>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		path, rest, err := parsePath(s)
		if err != nil {
			return
		}
		if !strings.HasSuffix(s, rest) || strings.IndexByte(s, '>') < 0 {
			t.Fatalf("parsePath(%q) lost octets: %q", s, rest)
		}
		written := string(appendPath(nil, path)) // what we write we read
		again, rest, err := parsePath(written + "x")
		if err != nil || again != path || rest != "x" {
			t.Fatalf("%q became %q, then %v %q %v", s, written, again, rest, err)
		}
	})
}

func FuzzParameters(f *testing.F) {
	f.Add(" SIZE=1 BODY=8BITMIME  SMTPUTF8 ")
	f.Fuzz(func(t *testing.T, s string) {
		for rest := s; ; {
			p, after, end, ok := cutParameter(rest)
			if end || !ok {
				return
			}
			if len(after) >= len(rest) || p.keyword == "" || p.hasValue != (p.value != "") {
				t.Fatalf("%q: %+v %q", s, p, after)
			}
			rest = after
		}
	})
}

func FuzzParseReply(f *testing.F) {
	f.Add([]byte("250-2.1.0 ok"))
	f.Add([]byte("354"))
	f.Fuzz(func(t *testing.T, line []byte) {
		code, more, text, err := parseReplyLine(line)
		if err != nil {
			return
		}
		if code < 200 || code > 599 || more && len(line) < 4 || !bytes.HasSuffix(line, text) {
			t.Fatalf("%q: %d %v %q", line, code, more, text)
		}
		e, rest := parseEnhanced(code, string(text))
		if e != ([3]int{}) && e[0] != code/100 || !strings.HasSuffix(string(text), rest) {
			t.Fatalf("%q: %v %q", line, e, rest)
		}
	})
}

func FuzzSplitCommand(f *testing.F) {
	f.Add([]byte("MAIL FROM:<a@b.example>  "))
	f.Fuzz(func(t *testing.T, line []byte) {
		verb, arg, ok := splitCommand(line)
		if !ok {
			return
		}
		if !bytes.HasPrefix(line, verb) || !bytes.Contains(line, arg) || len(verb) == 0 || bytes.HasPrefix(arg, []byte(" ")) || bytes.HasSuffix(arg, []byte(" ")) {
			t.Fatalf("%q: %q %q", line, verb, arg)
		}
	})
}
