package authres

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"bothy/application/message"
)

var update = flag.Bool("update", false, "write golden files")

func read(t testing.TB, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// rfcKeys are those of RFC 8463 §A.1.
func rfcKeys(t testing.TB) []*Key {
	t.Helper()
	seed, err := base64.StdEncoding.DecodeString("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
	if err != nil {
		t.Fatal(err)
	}
	brisbane, err1 := newKey("football.example.com", "brisbane", ed25519.NewKeyFromSeed(seed))
	test, err2 := ParseKey("Football.Example.com", "test", read(t, "testdata/rfc8463-rsa.pem"))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return []*Key{brisbane, test}
}

// TestRecord: RFC 8463 §A.2.
func TestRecord(t *testing.T) {
	want := []string{
		"brisbane._domainkey.football.example.com v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
		"test._domainkey.football.example.com v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR" +
			"iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC" +
			"DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3" +
			"Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
	}
	for i, k := range rfcKeys(t) {
		text, err := k.Record()
		if err != nil || k.Name()+" "+text != want[i] {
			t.Errorf("%s %s, %v", k, text, err)
		}
	}
}

func TestZone(t *testing.T) {
	k, err := NewKey("clinic.example", "2026", RSA)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := k.Record()
	zone, err := k.Zone()
	if err != nil || !strings.HasPrefix(zone, `2026._domainkey.clinic.example. IN TXT ( "v=DKIM1; k=rsa; p=`) {
		t.Fatal(zone, err)
	}
	var joined string
	for i, s := range strings.Split(zone, `"`) {
		if i%2 == 1 {
			if joined += s; len(s) > maxString {
				t.Errorf("a string of %d octets", len(s))
			}
		}
	}
	if joined != text {
		t.Error(zone)
	}
}

// verify checks one DKIM-Signature of a message as RFC 6376 §6.1.3 says, with the public half of k.
func verify(t *testing.T, k *Key, index int, content []byte) {
	t.Helper()
	header, rest, err := message.ReadHeader(bytes.NewReader(content), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]string{}
	for tag := range strings.SplitSeq(header.All("DKIM-Signature")[index], ";") {
		name, value, _ := strings.Cut(tag, "=")
		tags[strings.TrimSpace(name)] = strings.Join(strings.Fields(value), "")
	}
	if tags["s"] != k.Selector || tags["d"] != k.Domain || tags["a"] != k.Algorithm()+"-sha256" || tags["c"] != "relaxed/relaxed" {
		t.Fatalf("%v", tags)
	}
	bodyHash := sha256.New()
	canon := &relaxedBody{w: bodyHash}
	if _, err := io.Copy(canon, rest); err != nil {
		t.Fatal(err)
	}
	canon.Close()
	if got := base64.StdEncoding.EncodeToString(bodyHash.Sum(nil)); got != tags["bh"] {
		t.Errorf("body hash %s, want %s", got, tags["bh"])
	}

	digest := sha256.New()
	used := map[string]int{}
	for name := range strings.SplitSeq(tags["h"], ":") {
		var found []message.Field
		for f := range header.Fields() {
			if strings.EqualFold(f.Name(), name) {
				found = append(found, f)
			}
		}
		key := strings.ToLower(name)
		if used[key]++; used[key] <= len(found) {
			digest.Write(append(appendRelaxed(nil, found[len(found)-used[key]].Raw()), "\r\n"...))
		}
	}
	n := 0
	for f := range header.Fields() {
		if !strings.EqualFold(f.Name(), "DKIM-Signature") {
			continue
		}
		if n++; n-1 == index {
			raw := appendRelaxed(nil, f.Raw())
			digest.Write(raw[:bytes.LastIndex(raw, []byte("b="))+2])
		}
	}
	signature, err := base64.StdEncoding.DecodeString(tags["b"])
	if err != nil {
		t.Fatal(err)
	}
	switch public := k.private.Public().(type) {
	case ed25519.PublicKey:
		if !ed25519.Verify(public, digest.Sum(nil), signature) {
			t.Errorf("%s: signature does not verify", k)
		}
	case *rsa.PublicKey:
		if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest.Sum(nil), signature); err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}
}

// TestRFC8463 verifies the message of RFC 8463 §A.3 with our canonicalization.
func TestRFC8463(t *testing.T) {
	content := read(t, "testdata/rfc8463.eml")
	for i, k := range rfcKeys(t) {
		verify(t, k, i, content)
	}
}

// opener counts how often a message is opened and closed.
func opener(content []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		return io.NopCloser(iotest.OneByteReader(bytes.NewReader(content))), nil
	}
}

// TestSignGolden signs a message with everything in it. The golden file was verified with dkimpy 1.1.4 and go-msgauth 0.7.0; both algorithms give the same octets each time.
func TestSignGolden(t *testing.T) {
	content := read(t, "testdata/plain.eml")
	s := Signer{Keys: rfcKeys(t), Now: func() time.Time { return time.Unix(1528637909, 0) }}
	fields, err := s.Sign(opener(content))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(fields), "\r\n") {
		if len(line) > 78 { // RFC 5322 §2.1.1
			t.Errorf("a line of %d columns: %s", len(line), line)
		}
	}
	signedMessage := append(bytes.Clone(fields), content...)
	for i, k := range s.Keys {
		verify(t, k, i, signedMessage)
	}
	const golden = "testdata/signed.eml"
	if *update {
		if err := os.WriteFile(golden, signedMessage, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := read(t, golden); !bytes.Equal(signedMessage, want) {
		t.Errorf("got\n%s\nwant\n%s", signedMessage, want)
	}
}

func TestSignWhom(t *testing.T) {
	keys := rfcKeys(t)
	for _, c := range []struct {
		content string
		want    int
		err     error
	}{
		{"From: joe@football.example.com\r\n\r\n", 2, nil},
		{"From: joe@FOOTBALL.example.com\r\n\r\n", 2, nil},
		{"From: joe@pitch.football.example.com\r\n\r\n", 2, nil}, // RFC 6376 §3.10
		{"From: joe@example.com\r\n\r\n", 0, nil},
		{"From: joe@xfootball.example.com\r\n\r\n", 0, nil},
		{"From: joe@[192.0.2.1]\r\n\r\n", 0, nil},
		{"Subject: x\r\n\r\n", 0, ErrAuthor},
		{"From: joe@football.example.com\r\nFrom: doctor@hospital.example\r\n\r\n", 0, ErrAuthor},
		{"From: ;\r\n\r\n", 0, ErrAuthor},
	} {
		s := Signer{Keys: keys}
		fields, err := s.Sign(opener([]byte(c.content)))
		if n := bytes.Count(fields, []byte("DKIM-Signature:")); n != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q: %d signatures, %v", c.content, n, err)
		}
	}
	broken := errors.New("disk")
	s := Signer{Keys: keys}
	if _, err := s.Sign(func() (io.ReadCloser, error) { return nil, broken }); err != broken {
		t.Error(err)
	}
	body := io.MultiReader(strings.NewReader("From: joe@football.example.com\r\n\r\nx"), iotest.ErrReader(broken))
	if _, err := s.Sign(func() (io.ReadCloser, error) { return io.NopCloser(body), nil }); err != broken {
		t.Error(err)
	}
	if fields, err := (&Signer{}).Sign(func() (io.ReadCloser, error) { return nil, broken }); fields != nil || err != nil {
		t.Error("without keys nothing is opened", err)
	}
}

// TestRelaxed is RFC 6376 §3.4.5, example 1, and §3.4.4's corners.
func TestRelaxed(t *testing.T) {
	for in, want := range map[string]string{
		"A: X\r\n":                             "a:X",
		"B : Y\t\r\n\tZ  \r\n":                 "b:Y Z",
		"SUBJect: AbC\r\n":                     "subject:AbC",
		"Empty:\r\n":                           "empty:",
		"Folded:\r\n  first\r\n \t second\r\n": "folded:first second",
	} {
		if got := appendRelaxed(nil, []byte(in)); string(got) != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		" C \r\nD \t E\r\n\r\n\r\n": " C\r\nD E\r\n",
		"":                          "",
		"\r\n":                      "",
		"\r\n\r\n \t\r\n":           "",
		"a":                         "a\r\n",
		"a \t":                      "a\r\n",
		"a\r":                       "a\r\r\n",
		"a\r\r\n":                   "a\r\r\n",
		"a\nb\r\n":                  "a\nb\r\n",
		"a\r\n\r\n\r\nb":            "a\r\n\r\n\r\nb\r\n",
		"a\r\n \r\n\tb":             "a\r\n\r\n b\r\n",
		"a \rb":                     "a \rb\r\n",
	} {
		var got strings.Builder
		r := &relaxedBody{w: &got}
		if _, err := io.Copy(r, iotest.OneByteReader(strings.NewReader(in))); err != nil {
			t.Fatal(err)
		}
		if r.Close(); got.String() != want {
			t.Errorf("%q: %q, want %q", in, got.String(), want)
		}
	}
	hash := sha256.New()
	(&relaxedBody{w: hash}).Close() // RFC 6376 §3.4.4
	if got := base64.StdEncoding.EncodeToString(hash.Sum(nil)); got != "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" {
		t.Error(got)
	}
}

// FuzzRelaxed: the pieces a body comes in do not matter, and what is canonical stays as it is.
func FuzzRelaxed(f *testing.F) {
	f.Add([]byte(" C \r\nD \t E\r\n\r\n\r\n"), 3)
	f.Add([]byte("\r\r\n\n \r \r\n"), 1)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		relax := func(pieces ...[]byte) []byte {
			var b bytes.Buffer
			r := &relaxedBody{w: &b}
			for _, p := range pieces {
				r.Write(p)
			}
			r.Close()
			return b.Bytes()
		}
		cut = min(max(cut, 0), len(in))
		whole := relax(in)
		if got := relax(in[:cut], in[cut:]); !bytes.Equal(got, whole) {
			t.Errorf("%q cut at %d: %q, want %q", in, cut, got, whole)
		}
		if again := relax(whole); !bytes.Equal(again, whole) {
			t.Errorf("%q, again %q", whole, again)
		}
	})
}

// TestSignStreams: 16 MiB are signed; only the header is ever held.
func TestSignStreams(t *testing.T) {
	s := Signer{Keys: rfcKeys(t)[:1]}
	line := []byte(strings.Repeat("x", 76) + "\r\n")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := s.Sign(func() (io.ReadCloser, error) {
		body := io.LimitReader(&repeater{line: line}, 16<<20)
		return io.NopCloser(io.MultiReader(strings.NewReader("From: joe@football.example.com\r\n\r\n"), body)), nil
	}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if held := after.TotalAlloc - before.TotalAlloc; held > 1<<20 {
		t.Errorf("%d octets allocated", held)
	}
}

// repeater reads a line again and again.
type repeater struct {
	line []byte
	at   int
}

func (r *repeater) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		c := copy(p[n:], r.line[r.at:])
		n += c
		r.at = (r.at + c) % len(r.line)
	}
	return n, nil
}

func TestStore(t *testing.T) {
	folder := t.TempDir()
	if keys, err := ReadKeys(folder + "/none"); keys != nil || err != nil {
		t.Error(keys, err)
	}
	var want []string
	for _, algorithm := range []string{Ed25519, RSA} {
		k, err := NewKey("Klinik-für.example", "2026-"+algorithm, algorithm)
		if err != nil {
			t.Fatal(err)
		}
		if err := WriteKey(folder, k); err != nil {
			t.Fatal(err)
		}
		if err := WriteKey(folder, k); !errors.Is(err, fs.ErrExist) {
			t.Errorf("written over: %v", err)
		}
		record, err := k.Record()
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, k.Name()+" "+record)
	}
	os.WriteFile(folder+"/notes.txt", []byte("x"), 0o600)
	keys, err := ReadKeys(folder)
	if err != nil || len(keys) != len(want) {
		t.Fatal(keys, err)
	}
	for i, k := range keys {
		if record, err := k.Record(); err != nil || k.Name()+" "+record != want[i] {
			t.Errorf("%s %s, %v", k, record, err)
		}
		info, err := os.Stat(folder + "/" + k.Name() + keySuffix)
		if err != nil || info.Mode() != 0o600 {
			t.Error(info.Mode(), err)
		}
	}
	os.WriteFile(folder+"/a._domainkey.b.example.pem", []byte("x"), 0o600)
	if _, err := ReadKeys(folder); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "a._domainkey.b.example") {
		t.Error(err)
	}
}

func TestKeyRefused(t *testing.T) {
	for _, c := range []struct{ domain, selector, algorithm string }{
		{"example", "s", Ed25519},
		{"[192.0.2.1]", "s", Ed25519},
		{"", "s", Ed25519},
		{"a.example", "", Ed25519},
		{"a.example", "s/../t", Ed25519},
		{"a.example; h=", "s", Ed25519},
		{"a.example", "s", "rsa-sha1"},
	} {
		if _, err := NewKey(c.domain, c.selector, c.algorithm); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", c, err)
		}
	}
	for _, text := range []string{"", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, err := ParseKey("a.example", "s", []byte(text)); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	content := append([]byte("From: joe@football.example.com\r\nSubject: x\r\n\r\n"), bytes.Repeat([]byte("We lost the game.  Are you hungry yet?\r\n"), 100)...)
	for _, k := range rfcKeys(b) {
		b.Run(k.Algorithm(), func(b *testing.B) {
			s := Signer{Keys: []*Key{k}}
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Sign(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
