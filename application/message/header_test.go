package message

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// whole reads a header with every kind of reader and returns what came of it.
func whole(t *testing.T, in string, max int) (Header, string) {
	t.Helper()
	h, rest, err := ReadHeader(strings.NewReader(in), max)
	if err != nil {
		t.Fatalf("%q: %v", in, err)
	}
	body, err := io.ReadAll(rest)
	if err != nil {
		t.Fatalf("%q: %v", in, err)
	}
	h1, rest, err := ReadHeader(iotest.DataErrReader(iotest.OneByteReader(strings.NewReader(in))), max)
	if err != nil {
		t.Fatalf("%q, by single octets: %v", in, err)
	}
	body1, err := io.ReadAll(rest)
	if err != nil || string(body1) != string(body) || string(h1.AppendTo(nil)) != string(h.AppendTo(nil)) {
		t.Fatalf("%q, by single octets: %q + %q, %v", in, h1.AppendTo(nil), body1, err)
	}
	return h, string(body)
}

func TestReadHeader(t *testing.T) {
	for _, c := range []struct {
		name, in     string
		header, body string // as written again
		fields       int
	}{
		{"usual", "A: 1\r\nB: 2\r\n\r\nbody\r\n", "A: 1\r\nB: 2\r\n\r\n", "body\r\n", 2},
		{"folded", "A: 1\r\n 2\r\n\t3\r\nB:\r\n\r\n\r\n", "A: 1\r\n 2\r\n\t3\r\nB:\r\n\r\n", "\r\n", 2},
		{"white space line is a fold", "A: 1\r\n \r\nB: 2\r\n\r\n", "A: 1\r\n \r\nB: 2\r\n\r\n", "", 2}, // RFC 5322 §4.2
		{"space before the colon", "A : 1\r\n\r\nb", "A : 1\r\n\r\n", "b", 1},                           // RFC 5322 §4.5.8
		{"empty", "", "", "", 0},
		{"no header", "\r\nbody", "\r\n", "body", 0},
		{"header only", "A: 1\r\nB: 2\r\n", "A: 1\r\nB: 2\r\n", "", 2},
		{"header only, last line open", "A: 1\r\nB: 2", "A: 1\r\nB: 2\r\n", "", 2},
		{"header only, last CR open", "A: 1\r", "A: 1\r\r\n", "", 1},
		{"body only", "hello there\r\nA: 1\r\n", "\r\n", "hello there\r\nA: 1\r\n", 0},
		{"body only, one open line", "hello", "\r\n", "hello", 0},
		{"body only, indented", " A: 1\r\n", "\r\n", " A: 1\r\n", 0},
		{"body without empty line", "A: 1\r\nhello there\r\n", "A: 1\r\n\r\n", "hello there\r\n", 1},
		{"mbox line", "From a@b Fri Jan  2\r\nA: 1\r\n\r\n", "\r\n", "From a@b Fri Jan  2\r\nA: 1\r\n\r\n", 0},
		{"colon first", ": 1\r\n\r\n", "\r\n", ": 1\r\n\r\n", 0},
		{"name not ASCII", "Ä: 1\r\n\r\n", "\r\n", "Ä: 1\r\n\r\n", 0},
		{"bare LF is no line end", "A: 1\nB: 2\r\n\r\nbody", "A: 1\nB: 2\r\n\r\n", "body", 1}, // RFC 5321 §2.3.8
		{"bare LFs are no empty line", "A: 1\n\nB\r\n\r\nbody", "A: 1\n\nB\r\n\r\n", "body", 1},
		{"bare CR is no line end", "A: 1\rB: 2\r\n\r\nbody", "A: 1\rB: 2\r\n\r\n", "body", 1},
		{"NUL", "A: \x00\r\n\r\n\x00", "A: \x00\r\n\r\n", "\x00", 1},
		{"long", strings.Repeat("A: 1\r\n", 3000) + "\r\nbody", strings.Repeat("A: 1\r\n", 3000) + "\r\n", "body", 3000},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, body := whole(t, c.in, DefaultHeaderSize)
			if got := string(h.AppendTo(nil)); got != c.header {
				t.Errorf("header is %q, want %q", got, c.header)
			}
			if body != c.body || h.Len() != c.fields || h.Size() != len(c.header) {
				t.Errorf("%d fields, %d octets, body %q", h.Len(), h.Size(), body)
			}
			again, err := io.ReadAll(h.Reader(strings.NewReader(body)))
			if err != nil || string(again) != c.header+c.body {
				t.Errorf("message is %q, %v", again, err)
			}
		})
	}
}

func TestReadHeaderBound(t *testing.T) {
	const in = "A: 1\r\nB: 2\r\n 3\r\n\r\nbody"
	const size = len(in) - len("body")
	if h, _ := whole(t, in, size); h.Len() != 2 {
		t.Errorf("a header of just the size: %d fields", h.Len())
	}
	for max := range size {
		h, rest, err := ReadHeader(strings.NewReader(in), max)
		if !errors.Is(err, ErrHeaderSize) {
			t.Fatalf("%d octets: %v", max, err)
		}
		again, err := io.ReadAll(h.Reader(rest))
		if err != nil || string(again) != in {
			t.Errorf("%d octets: message is %q, %v", max, again, err)
		}
	}
}

// endless never ends a line.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) { e.read += len(p); return len(p), nil }

func TestReadHeaderReadsNoFurther(t *testing.T) {
	var r endless
	if _, _, err := ReadHeader(&r, 10_000); !errors.Is(err, ErrHeaderSize) || r.read != 10_000 {
		t.Errorf("read %d octets: %v", r.read, err)
	}
}

func TestReadHeaderError(t *testing.T) {
	broken := errors.New("connection lost")
	for _, in := range []string{"", "A: 1", "A: 1\r\n"} {
		_, rest, err := ReadHeader(io.MultiReader(strings.NewReader(in), iotest.ErrReader(broken)), 100)
		if err != broken || rest != nil {
			t.Errorf("%q: %v, %v", in, rest, err)
		}
	}
	_, rest, err := ReadHeader(io.MultiReader(strings.NewReader("A: 1\r\n\r\nb"), iotest.ErrReader(broken)), 100)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(rest); string(body) != "b" || err != broken {
		t.Errorf("body %q, %v", body, err)
	}
	if _, _, err := ReadHeader(stalled{}, 100); err != io.ErrNoProgress {
		t.Errorf("stalled reader: %v", err)
	}
}

type stalled struct{}

func (stalled) Read([]byte) (int, error) { return 0, nil }

func TestHeaderEdit(t *testing.T) {
	h, _ := whole(t, "Received: x\r\n y\r\nTo : a\r\nX:  spaced \r\n\tout \r\nto: b\r\nBcc: c\r\n\r\n", 1000)
	if got := h.Get("TO"); got != "a" {
		t.Errorf("Get: %q", got)
	}
	if got := h.All("to"); len(got) != 2 || got[1] != "b" {
		t.Errorf("All: %q", got)
	}
	if got := h.Get("x"); got != "spaced \tout" { // RFC 5322 §2.2.3
		t.Errorf("unfolded: %q", got)
	}
	if h.Has("T") || h.Get("none") != "" || h.All("none") != nil || !h.Has("bcc") {
		t.Error("names are mixed up")
	}
	if h.Del("bcc") != 1 || h.Del("bcc") != 0 || h.Del("TO") != 2 {
		t.Error("Del")
	}
	h.Add("Top", "1")
	h.Append("End", "2")
	h.Insert(2, "Middle", "3")
	const want = "Top: 1\r\nReceived: x\r\n y\r\nMiddle: 3\r\nX:  spaced \r\n\tout \r\nEnd: 2\r\n\r\n"
	if got := string(h.AppendTo(nil)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	var b bytes.Buffer
	if n, err := h.WriteTo(&b); n != int64(len(want)) || err != nil || b.String() != want {
		t.Errorf("WriteTo: %d, %v", n, err)
	}
	var names []string
	for f := range h.Fields() {
		names = append(names, f.Name())
	}
	if got := strings.Join(names, " "); got != "Top Received Middle X End" {
		t.Errorf("Fields: %s", got)
	}
}

// FuzzReadHeader: nothing is lost, added or moved but for the line ends that ReadHeader documents.
func FuzzReadHeader(f *testing.F) {
	for _, s := range []string{"A: 1\r\n 2\r\n\r\nbody", "A: 1\r\nbody", "A: 1", "\r\n", " x", "A:1\nB:2\r\n\r\n", "A : 1\r\n\r\n"} {
		f.Add(s, 1000)
		f.Add(s, 6)
	}
	f.Fuzz(func(t *testing.T, in string, max int) {
		if max < 0 || max > 1<<16 {
			return
		}
		h, rest, err := ReadHeader(strings.NewReader(in), max)
		if err != nil && !errors.Is(err, ErrHeaderSize) {
			t.Fatal(err)
		}
		body, readErr := io.ReadAll(rest)
		if readErr != nil {
			t.Fatal(readErr)
		}
		written := string(h.AppendTo(nil))
		if got := written + string(body); got != in && got != in+"\r\n" {
			if mended, ok := strings.CutSuffix(written, "\r\n"); !ok || mended+string(body) != in {
				t.Fatalf("%q became %q + %q", in, written, body)
			}
		}
		if err != nil {
			return
		}
		again, rest, err := ReadHeader(h.Reader(bytes.NewReader(body)), max+4)
		if err != nil {
			t.Fatal(err)
		}
		if body2, _ := io.ReadAll(rest); string(body2) != string(body) || string(again.AppendTo(nil)) != written || again.Len() != h.Len() {
			t.Fatalf("%q read again differs", in)
		}
	})
}

// typical is an ordinary header of about 2 KiB.
var typical = "Received: from mail.far.example (mail.far.example [192.0.2.7])\r\n\tby mx.near.example with ESMTPS id 0abc;\r\n\tFri, 02 Jan 2026 15:04:05 +0000\r\n" +
	"From: Keeper of the Light <keeper@light.example>\r\nTo: Clinic <desk@clinic.example>\r\nSubject: the lamp\r\n" +
	"Date: Fri, 02 Jan 2026 15:04:05 +0000\r\nMessage-ID: <1@light.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n" +
	"DKIM-Signature: v=1; a=rsa-sha256;\r\n\tb=" + strings.Repeat("A", 340) + "\r\n" +
	strings.Repeat("X-Filter: "+strings.Repeat("z", 100)+"\r\n", 10) + "\r\n"

func BenchmarkReadHeader(b *testing.B) {
	in := typical + strings.Repeat("text\r\n", 2000)
	b.SetBytes(int64(len(typical)))
	b.ReportAllocs()
	r := strings.NewReader("")
	for b.Loop() {
		r.Reset(in)
		if h, _, err := ReadHeader(r, DefaultHeaderSize); err != nil || h.Len() != 19 {
			b.Fatal(h.Len(), err)
		}
	}
}
