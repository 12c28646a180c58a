package convert

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"bothy/application/message"
)

var update = flag.Bool("update", false, "write the golden files anew")

// convert examines and converts, with the reader that reads least.
func convert(t *testing.T, in string, target message.BodyType) (string, error) {
	t.Helper()
	plan, err := Examine(strings.NewReader(in), target)
	if err != nil {
		if !errors.Is(err, ErrUnconvertible) || plan != nil {
			t.Fatalf("%q: %v", in, err)
		}
		return "", err
	}
	out, err := io.ReadAll(plan.Reader(iotest.OneByteReader(strings.NewReader(in))))
	if err != nil {
		t.Fatalf("%q: %v", in, err)
	}
	need, err := Scan(bytes.NewReader(out))
	if err != nil || need > target || need != plan.Body || int64(len(out)) != plan.Size {
		t.Fatalf("%q becomes %q: needs %v of %v, %d octets of %d, %v", in, out, need, plan.Body, len(out), plan.Size, err)
	}
	if !plan.Needed() && string(out) != in {
		t.Fatalf("%q becomes %q", in, out)
	}
	return string(out), nil
}

func TestScan(t *testing.T) {
	long := strings.Repeat("x", 998)
	for in, want := range map[string]message.BodyType{
		"":                                       message.Body7Bit,
		"a\r\n\r\nb":                             message.Body7Bit,
		long + "\r\n" + long:                     message.Body7Bit,
		"12345678é\r\n":                          message.Body8Bit,
		"é\r\n" + long + "\r\n":                  message.Body8Bit,
		long + "x\r\n":                           message.BodyBinary, // RFC 2045 §2.8
		"a\rb\r\n":                               message.BodyBinary,
		"a\nb\r\n":                               message.BodyBinary,
		"a\n":                                    message.BodyBinary,
		"a\r\r\n":                                message.BodyBinary,
		"a\r":                                    message.BodyBinary,
		"\x00":                                   message.BodyBinary,
		strings.Repeat("x", lineSize-1) + "\r\n": message.BodyBinary,
		strings.Repeat("a\r\n", lineSize) + "é":  message.Body8Bit,
		strings.Repeat("ab\r\n", lineSize) + "\r": message.BodyBinary,
	} {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.OneByteReader(strings.NewReader(in))} {
			if got, err := Scan(r); got != want || err != nil {
				t.Errorf("%.40q: %v, %v, want %v", in, got, err, want)
			}
		}
	}
	broken := errors.New("broken")
	if _, err := Scan(io.MultiReader(strings.NewReader("a"), iotest.ErrReader(broken))); err != broken {
		t.Error(err)
	}
}

// TestGolden converts each testdata/*.in and compares with .7bit and, where it differs from the input, .8bit. The files hold LF for
// CRLF, and \x00 stays itself.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.in")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		in := strings.ReplaceAll(string(raw), "\n", "\r\n")
		for _, target := range []message.BodyType{message.Body7Bit, message.Body8Bit} {
			out, err := convert(t, in, target)
			if err != nil {
				out = err.Error() + "\n"
			}
			name := strings.TrimSuffix(file, "in") + map[message.BodyType]string{message.Body7Bit: "7bit", message.Body8Bit: "8bit"}[target]
			want, err := os.ReadFile(name)
			if target == message.Body8Bit && os.IsNotExist(err) {
				want, err = raw, nil
			}
			out = strings.ReplaceAll(out, "\r\n", "\n")
			if *update && (target == message.Body7Bit || out != string(raw)) {
				want, err = []byte(out), os.WriteFile(name, []byte(out), 0o644)
			}
			if err != nil || out != string(want) {
				t.Errorf("%s differs (-update writes it): %v\n%s", name, err, out)
			}
		}
	}
}

func TestUnconvertible(t *testing.T) {
	part := func(kind, header, body string) string {
		return "MIME-Version: 1.0\r\nContent-Type: " + kind + "; boundary=b\r\n\r\n--b\r\n" + header + "\r\n" + body + "\r\n--b--\r\n"
	}
	for _, c := range []struct{ why, in string }{
		{"header field", "Subject: é\r\n\r\nx\r\n"}, // RFC 6531 §3.1: nothing but SMTPUTF8 carries it
		{"header field", "X: " + strings.Repeat("x", 1000) + "\r\n\r\nx\r\n"},
		{"header field", part("multipart/mixed", "Content-Disposition: attachment; filename=é\r\n", "é")},
		{"header field", "Content-Type: message/rfc822\r\n\r\nSubject: é\r\n\r\n"},
		{"no field", "hello é\r\n"},
		{"no field", "A: b\r\nhello\r\n\r\né\r\n"},
		{"two fields", "Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\né\r\n"},
		{"two fields", "Content-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: 7bit\r\n\r\né\r\n"},
		{"signed", part("multipart/signed", "\r\n", "é")}, // RFC 1847 §2.1
		{"encrypted", part("multipart/encrypted", "\r\n", "é")},
		{"between its parts", "Content-Type: multipart/mixed; boundary=b\r\n\r\né\r\n--b\r\n\r\nx\r\n--b--\r\n"},
		{"between its parts", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\né\r\n"},
		{"no boundary", "Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\né\r\n--b--\r\n"},
		{"no boundary", "Content-Type: multipart/mixed; boundary=a=b\r\n\r\n--b\r\n\r\né\r\n--b--\r\n"},
		{"encoded already", part("multipart/mixed", "Content-Transfer-Encoding: base64\r\n", "é")},
		{"encoded already", "Content-Transfer-Encoding: x-uuencode\r\n\r\né\r\n"},
		{"encoded already", "Content-Transfer-Encoding: quoted-printable\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\né\r\n--b--\r\n"},
		{"message/partial", "Content-Type: message/partial\r\n\r\né\r\n"},
		{"message/external-body", "Content-Type: message/external-body\r\n\r\né\r\n"},
		{"something behind", part("multipart/mixed", "", "é\r\n--bc")},
		{"something behind", part("multipart/mixed", "", "é\r\n--b\n")},
		{"same boundary", part("multipart/mixed", "Content-Type: multipart/mixed; boundary=b\r\n", "--b\r\n\r\né\r\n--b--")},
		{"too long", "X: y\r\n" + strings.Repeat("A: b\r\n", maxHeader/6) + "\r\né\r\n"},
		{"too deep", strings.Repeat("Content-Type: message/rfc822\r\n\r\n", maxDepth) + "\r\né\r\n"},
		{"too many", part("multipart/mixed", "", strings.Repeat("x\r\n--b\r\n\r\n", maxParts)+"é")},
	} {
		out, err := convert(t, c.in, message.Body7Bit)
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%q: %v, %q", c.in[:min(100, len(c.in))], err, out)
		}
		plain := strings.ReplaceAll(c.in, "é", "e")
		if need, _ := Scan(strings.NewReader(plain)); need == message.Body7Bit { // what needs nothing is never refused
			if out, err := convert(t, plain, message.Body7Bit); err != nil || out != plain {
				t.Errorf("%q: %v", plain[:min(100, len(plain))], err)
			}
		}
	}
}

// decoded is one leaf as the standard library reads it.
type decoded struct{ kind, body string }

// leaves reads a message with the standard library.
func leaves(header func(string) string, body io.Reader) ([]decoded, error) {
	switch strings.ToLower(header("Content-Transfer-Encoding")) {
	case quotedPrintable:
		body = quotedprintable.NewReader(body)
	case base64Encoding:
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	kind, params, err := mime.ParseMediaType(header("Content-Type"))
	switch {
	case err != nil:
		kind = ""
	case strings.HasPrefix(kind, "multipart/"):
		var all []decoded
		for r := multipart.NewReader(body, params["boundary"]); ; {
			p, err := r.NextRawPart()
			if err == io.EOF {
				return all, nil
			}
			if err != nil {
				return nil, err
			}
			some, err := leaves(p.Header.Get, p)
			if err != nil {
				return nil, err
			}
			all = append(all, some...)
		}
	case kind == "message/rfc822":
		m, err := mail.ReadMessage(body)
		if err != nil {
			return nil, err
		}
		return leaves(m.Header.Get, m.Body)
	}
	b, err := io.ReadAll(body)
	return []decoded{{kind, string(b)}}, err
}

func read(in string) ([]decoded, error) {
	m, err := mail.ReadMessage(strings.NewReader(in))
	if err != nil {
		return nil, err
	}
	return leaves(m.Header.Get, m.Body)
}

// generate makes a random message or part with everything the converter knows.
type generator struct {
	*rand.Rand
	n int
}

func (g *generator) body() string {
	alphabets := []string{"abc =.-\t", "aé =", "δοκιμή ", "\x00\xff\r\n\x80"}
	var b strings.Builder
	for range g.IntN(6) {
		a := alphabets[g.IntN(len(alphabets))]
		for range g.IntN(1 << g.IntN(12)) {
			b.WriteByte(a[g.IntN(len(a))])
		}
		b.WriteString([]string{"\r\n", "\r\n", "\r\n\r\n", "\n", " \r\n", "\r\n--", "\r\n."}[g.IntN(7)])
	}
	return b.String()
}

func (g *generator) entity(depth int, isMessage bool) string {
	var b strings.Builder
	if isMessage {
		b.WriteString("From: a@b.example\r\n")
		if g.IntN(4) > 0 {
			b.WriteString("MIME-Version: 1.0\r\n")
		}
	}
	kind := g.IntN(7)
	if depth == 0 {
		kind = g.IntN(5)
	}
	encoding := []string{"", "7bit", "8BIT", "binary (c)"}[g.IntN(4)]
	if encoding != "" && g.IntN(3) > 0 {
		fmt.Fprintf(&b, "content-transfer-encoding:\r\n\t%s\r\n", encoding)
	}
	switch kind {
	case 0:
		return b.String() + "\r\n" + g.body()
	case 1, 2:
		return b.String() + "Content-Type: text/plain (plain); charset=utf-8\r\n\r\n" + g.body()
	case 3, 4:
		return b.String() + "Content-Type: application/octet-stream\r\n\r\n" + g.body()
	case 5:
		return b.String() + "Content-Type: message/rfc822\r\n\r\n" + g.entity(depth-1, true)
	}
	g.n++
	boundary := fmt.Sprintf("=_%d_", g.n)
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=\"%s\"\r\n\r\npreamble\r\n", boundary)
	for range 1 + g.IntN(3) {
		fmt.Fprintf(&b, "--%s \r\n%s\r\n", boundary, g.entity(depth-1, false))
	}
	fmt.Fprintf(&b, "--%s--\r\nepilogue\r\n", boundary)
	return b.String()
}

// TestSameLeaves: whatever is converted decodes, by the standard library, to the leaves it had.
func TestSameLeaves(t *testing.T) {
	converted := 0
	for seed := range uint64(600) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
		in := g.entity(3, true)
		before, err := read(in)
		if err != nil {
			t.Fatalf("seed %d: %q: %v", seed, in, err)
		}
		for _, target := range []message.BodyType{message.Body7Bit, message.Body8Bit} {
			out, err := convert(t, in, target)
			if err != nil {
				t.Fatalf("seed %d: %q: %v", seed, in, err)
			}
			after, err := read(out)
			same := func(b, a decoded) bool { // what had no type may have one now
				return b.body == a.body && (b.kind == a.kind || b.kind == "" && a.kind == "text/plain")
			}
			if err != nil || !slices.EqualFunc(before, after, same) {
				t.Fatalf("seed %d, %v: %q\nbecomes %q: %v\n%q\n%q", seed, target, in, out, err, before, after)
			}
			if out != in {
				converted++
			}
		}
	}
	if converted < 600 {
		t.Errorf("only %d messages were converted", converted)
	}
}

// TestFalseDelimiter: a soft line break must not make a delimiter of what was none, nor eat white space or a full stop.
func TestFalseDelimiter(t *testing.T) {
	for width := range 80 {
		for _, tail := range []string{"--b", "--b--", ".", " ", "\t", "= ", "é"} {
			in := "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n" +
				"é" + strings.Repeat("x", width) + tail + "\r\n" + strings.Repeat("x", width) + tail + "\r\n--b--\r\n"
			if width == 0 && strings.HasPrefix(tail, "--") {
				continue
			}
			out, err := convert(t, in, message.Body7Bit)
			if err != nil {
				t.Fatal(err)
			}
			before, err1 := read(in)
			after, err2 := read(out)
			if err := cmp.Or(err1, err2); err != nil || !slices.Equal(before, after) {
				t.Errorf("%q becomes %q: %v", in, out, err)
			}
			for line := range strings.SplitSeq(out, "\r\n") {
				if len(line) > 76 || strings.HasPrefix(line, ".") || strings.TrimRight(line, " \t") != line { // RFC 2045 §6.7
					t.Errorf("%q has the line %q", out, line)
				}
			}
		}
	}
}

// TestOtherMessage: what changed since it was examined is an error, not a panic.
func TestOtherMessage(t *testing.T) {
	plan, err := Examine(strings.NewReader("A: b\r\n\r\né\r\n"), message.Body7Bit)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(plan.Reader(strings.NewReader("Content-Type: message/rfc822\r\n\r\nA: b\r\n\r\n")))
	if !errors.Is(err, errOther) {
		t.Error(err)
	}
	broken := errors.New("broken")
	if _, err = io.ReadAll(plan.Reader(io.MultiReader(strings.NewReader("A: b\r\n"), iotest.ErrReader(broken)))); err != broken {
		t.Error(err)
	}
	if _, err := Examine(iotest.ErrReader(broken), message.Body7Bit); err != broken {
		t.Error(err)
	}
}

// FuzzConvert: no input makes it panic, break its word on the size, or leave anything that is not 7bit; what is converted needs no
// conversion any more, and what the standard library can read has its leaves still.
func FuzzConvert(f *testing.F) {
	f.Add("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\né\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nA: b\r\n\r\né\r\n--b--\r\n")
	f.Add("Content-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\né = \t\r\n.\r\n")
	f.Add("A: b\r\n\r\n\x00\r\n")
	f.Add("Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nA: b\r\n\r\né\r\n--b--")
	f.Add("Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\né\r\n--b--")
	f.Fuzz(func(t *testing.T, in string) {
		for _, target := range []message.BodyType{message.Body7Bit, message.Body8Bit} {
			out, err := convert(t, in, target)
			if err != nil || out == in {
				continue
			}
			if again, err := convert(t, out, target); err != nil || again != out {
				t.Fatalf("%q becomes %q, and then %q, %v", in, out, again, err)
			}
			before, after := walkLeaves(t, in), walkLeaves(t, out)
			if !slices.Equal(before, after) {
				t.Fatalf("%q becomes %q:\n%q\n%q", in, out, before, after)
			}
		}
	})
}

// walkLeaves decodes the leaves that our own walker finds.
func walkLeaves(t *testing.T, in string) []string {
	t.Helper()
	var c collector
	for w := newWalker(strings.NewReader(in), &c); ; {
		if err := w.step(); err == io.EOF {
			return c.leaves
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

type collector struct {
	encoding string
	body     []byte
	leaves   []string
}

func (c *collector) header(_ *entity, raw []byte) {
	h, _, _ := message.ReadHeader(bytes.NewReader(raw), len(raw)+2)
	c.encoding, c.body = h.Get(encodingName), nil
}
func (c *collector) text(_ *entity, text []byte) { c.body = append(c.body, text...) }
func (c *collector) newline(*entity)             { c.body = append(c.body, crlf...) }
func (c *collector) frame([]byte, bool)          {}
func (c *collector) close(e *entity, _ bool) {
	var r io.Reader = bytes.NewReader(c.body)
	switch {
	case e.kind == parted || e.kind == nested:
		return
	case c.encoding == quotedPrintable:
		r = quotedprintable.NewReader(r)
	case c.encoding == base64Encoding:
		r = base64.NewDecoder(base64.StdEncoding, r)
	}
	b, err := io.ReadAll(r)
	if err != nil { // the sender's own
		b = c.body
	}
	c.leaves = append(c.leaves, string(b))
}

func benchmark(b *testing.B, body string, target message.BodyType, work func(io.Reader, message.BodyType) error) {
	b.Helper()
	in := "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Content-Transfer-Encoding: 8bit\r\n\r\n" + strings.Repeat("Grüße vom Leuchtturm, wo alles in Ordnung ist und das Öl reicht\r\n", 100) +
		"--b\r\nContent-Type: application/octet-stream\r\n" + body + "\r\n--b--\r\n"
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if err := work(strings.NewReader(in), target); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkConvert(b *testing.B) {
	encoded := "Content-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 10_000)
	plain := "\r\n" + strings.Repeat("Käse und Öl\r\n", 60_000)
	examine := func(r io.Reader, target message.BodyType) error {
		_, err := Examine(r, target)
		return err
	}
	rewrite := func(r io.Reader, target message.BodyType) error {
		plan, err := Examine(r, target)
		if err == nil {
			r.(io.Seeker).Seek(0, io.SeekStart)
			_, err = io.Copy(io.Discard, plan.Reader(r))
		}
		return err
	}
	b.Run("scan", func(b *testing.B) {
		benchmark(b, encoded, 0, func(r io.Reader, _ message.BodyType) error { _, err := Scan(r); return err })
	})
	b.Run("examine", func(b *testing.B) { benchmark(b, encoded, message.Body7Bit, examine) })
	b.Run("examine and convert, attachment in base64", func(b *testing.B) { benchmark(b, encoded, message.Body7Bit, rewrite) })
	b.Run("examine and convert, attachment in 8bit", func(b *testing.B) { benchmark(b, plain, message.Body7Bit, rewrite) })
}
