package pop3

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadLine(t *testing.T) {
	long := strings.Repeat("x", maxCommand)
	for _, c := range []struct {
		in   string
		want string
		err  error
	}{
		{"NOOP\r\n", "NOOP", nil},
		{"\r\n", "", nil},
		{long + "\r\n", long, nil}, // RFC 2449 §4: 255 octets with CRLF
		{long + "x\r\n", "", errLineLength},
		{long + long + long + "\r\n", "", errLineLength},
		{long + "\r\r\n", "", errLineLength},
		{"NO\nOP\r\n", "", errLineEnd},
		{"NO\rOP\r\n", "", errLineEnd},
		{"NOOP\r\r\n", "", errLineEnd},
		{"\n\r\n", "", errLineEnd},
	} {
		for _, size := range []int{16, 1024} {
			r := bufio.NewReaderSize(iotest.HalfReader(strings.NewReader(c.in+"NEXT\r\n")), size)
			line, err := readLine(r, nil, maxCommand)
			if !errors.Is(err, c.err) || err == nil && string(line) != c.want {
				t.Errorf("%.20q (%d): %q, %v", c.in, len(c.in), line, err)
			}
			if line, err := readLine(r, nil, maxCommand); string(line) != "NEXT" || err != nil {
				t.Errorf("behind %.20q (%d): %q, %v", c.in, len(c.in), line, err)
			}
		}
	}
	endless := bufio.NewReaderSize(io.LimitReader(zeros{}, 1<<30), 1024)
	if allocated := testing.AllocsPerRun(1, func() { readLine(endless, nil, maxCommand) }); allocated > 20 {
		t.Errorf("an endless line takes %v allocations", allocated)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestParseCommand(t *testing.T) {
	for _, c := range []struct {
		line, keyword, arg string
		ok                 bool
	}{
		{"QUIT", "QUIT", "", true},
		{"top 1 2", "TOP", "1 2", true},
		{"pass  a b ", "PASS", " a b ", true},
		{"PASS müller", "PASS", "müller", true},
		{"", "", "", false},
		{"NO", "", "", false},
		{"NOOPS", "", "", false},
		{" NOOP", "", "", false},
		{"NO\x00P", "", "", false},
		{"USER a\tb", "", "", false},
		{"NÖOP", "", "", false},
	} {
		keyword, arg, ok := parseCommand([]byte(c.line))
		if ok != c.ok || ok && (keyword != c.keyword || arg != c.arg) {
			t.Errorf("%q: %q, %q, %v", c.line, keyword, arg, ok)
		}
	}
}

func TestParseNumber(t *testing.T) {
	for s, want := range map[string]int{
		"0": 0, "1": 1, "007": 7, "99999999999999999999999": 1e18 - 1,
		"": -1, "-1": -1, "+1": -1, " 1": -1, "1 ": -1, "0x1": -1, "1e3": -1, "١": -1,
	} {
		if n, ok := parseNumber(s); ok != (want >= 0) || ok && n != want {
			t.Errorf("%q: %d, %v", s, n, ok)
		}
	}
}

// TestParseResponse holds the strings that RFC 5034 §4 names.
func TestParseResponse(t *testing.T) {
	for s, ok := range map[string]bool{"": true, "dGVzdA==": true, "=AAA": false, "AAA=BBB": false, "dGVz dA==": false, "=": false, "dGVzdA": false, "dGVzdB==": false} {
		if _, err := parseResponse(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestWriteMessage(t *testing.T) {
	long := strings.Repeat(".", 3*bodyBuffer)
	for _, c := range []struct {
		name, in string
		most     int
		want     string
	}{
		{"all", "A: b\r\n\r\nx\r\n", -1, "A: b\r\n\r\nx\r\n.\r\n"},
		{"stuffed", ".\r\n..\r\na.\r\n\r\n.b\r\n", -1, "..\r\n...\r\na.\r\n\r\n..b\r\n.\r\n"},
		{"stuffed behind a lone LF", "a\n.\r\n", -1, "a\n..\r\n.\r\n"},
		{"long line", long + "\r\n", -1, "." + long + "\r\n.\r\n"},
		{"open end", "a", -1, "a\r\n.\r\n"},
		{"ends in LF", "a\n", -1, "a\n\r\n.\r\n"},
		{"ends in CR", "a\r", -1, "a\r\r\n.\r\n"},
		{"nothing", "", -1, ".\r\n"},
		{"top 0", "A: b\r\n c\r\n\r\nx\r\n", 0, "A: b\r\n c\r\n\r\n.\r\n"},
		{"top 2", "A: b\r\n\r\n1\r\n\r\n3\r\n", 2, "A: b\r\n\r\n1\r\n\r\n.\r\n"},
		{"top of less", "A: b\r\n\r\n1\r\n", 9, "A: b\r\n\r\n1\r\n.\r\n"},
		{"top of a header", "A: b\r\n", 9, "A: b\r\n.\r\n"},
		{"top of a long line", "A: b\r\n\r\n" + long + "\r\nx\r\n", 1, "A: b\r\n\r\n." + long + "\r\n.\r\n"},
	} {
		var out bytes.Buffer
		w := bufio.NewWriterSize(&out, 16)
		err := writeMessage(w, iotest.HalfReader(strings.NewReader(c.in)), c.most)
		w.Flush()
		if err != nil || out.String() != c.want {
			t.Errorf("%s: %.100q, %v", c.name, out.String(), err)
		}
	}
}

// FuzzWriteMessage unstuffs what was sent: it is the message, and ends where it should, for clients that part lines at CRLF and for
// those that do at LF.
func FuzzWriteMessage(f *testing.F) {
	f.Add("A: b\r\n\r\n.\r\n..\r\nx\n.\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		if err := writeMessage(w, strings.NewReader(in), -1); err != nil {
			t.Fatal(err)
		}
		w.Flush()
		var lines []string
		for line := range strings.Lines(out.String()) {
			lines = append(lines, line)
		}
		var got strings.Builder
		for i, line := range lines {
			if line == ".\r\n" && i < len(lines)-1 {
				t.Fatalf("%q ends early: %q", in, out.String())
			}
			if i < len(lines)-1 {
				got.WriteString(strings.TrimPrefix(line, "."))
			}
		}
		if want := in; got.String() != want && got.String() != want+"\r\n" || lines[len(lines)-1] != ".\r\n" {
			t.Fatalf("%q became %q", in, out.String())
		}
	})
}
