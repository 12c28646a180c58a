package authres

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	peer "github.com/emersion/go-msgauth/dkim"

	"bothy/application/message"
	"bothy/application/relay"
)

// verified verifies the signatures of a message whose body comes in single octets.
func verified(t testing.TB, dns Resolver, content []byte) []DKIM {
	t.Helper()
	header, rest, err := message.ReadHeader(bytes.NewReader(content), message.DefaultHeaderSize)
	if err != nil {
		t.Fatal(err)
	}
	d := verifyDKIM(t.Context(), dns, slices.Collect(header.Fields()), time.Unix(1_700_000_000, 0))
	if _, err := io.Copy(d, iotest.OneByteReader(rest)); err != nil {
		t.Fatal(err)
	}
	return d.results()
}

func records(t testing.TB, keys ...*Key) zone {
	t.Helper()
	texts := map[string][]string{}
	for _, k := range keys {
		text, err := k.Record()
		if err != nil {
			t.Fatal(err)
		}
		texts[k.Name()] = []string{text}
	}
	return zone{Static: relay.Static{Texts: texts}}
}

// rfc6376Key is that of RFC 6376 §C.
const rfc6376Key = "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"

// TestVerifyExamples: RFC 6376 §A.3: the example verifies, in simple form; RFC 8463 §A.3: both signatures of the example verify.
func TestVerifyExamples(t *testing.T) {
	joe := zone{Static: relay.Static{Texts: map[string][]string{"brisbane._domainkey.example.com": {rfc6376Key}}}}
	got := verified(t, joe, read(t, "testdata/rfc6376.eml"))
	if len(got) != 1 || got[0] != (DKIM{Result: Pass, Domain: "example.com", Selector: "brisbane", Algorithm: "rsa-sha256", Short: "AuUoFEfD"}) {
		t.Errorf("%+v", got)
	}
	got = verified(t, records(t, rfcKeys(t)...), read(t, "testdata/rfc8463.eml"))
	if len(got) != 2 || got[0].Result != Pass || got[1].Result != Pass || got[0].Algorithm != "ed25519-sha256" {
		t.Errorf("%+v", got)
	}
	if got := verified(t, records(t, rfcKeys(t)...), read(t, "testdata/signed.eml")); len(got) != 2 || got[0].Result != Pass || got[1].Result != Pass {
		t.Errorf("what we sign: %+v", got)
	}
}

// TestVerifyPeer: what another implementation signs in each form, we verify; and the other way round.
func TestVerifyPeer(t *testing.T) {
	k := rfcKeys(t)[0]
	dns := records(t, k)
	for _, body := range []string{"", "\r\n", "a\r\n", "a", "a \t b \r\n\r\n\r\n", " \r\n\r\nx\r\n"} {
		content := "From: Joe <joe@football.example.com>\r\nSubject:  a\r\n\tb  \r\nsubject: c\r\nX-A :b\r\n\r\n" + body
		for _, header := range []peer.Canonicalization{peer.CanonicalizationSimple, peer.CanonicalizationRelaxed} {
			for _, text := range []peer.Canonicalization{peer.CanonicalizationSimple, peer.CanonicalizationRelaxed} {
				var signed bytes.Buffer
				err := peer.Sign(&signed, strings.NewReader(content), &peer.SignOptions{
					Domain: k.Domain, Selector: k.Selector, Signer: k.private.(ed25519.PrivateKey), Hash: crypto.SHA256,
					HeaderCanonicalization: header, BodyCanonicalization: text, HeaderKeys: []string{"From", "Subject", "Subject", "X-A", "To"},
				})
				if err != nil {
					t.Fatal(err)
				}
				if got := verified(t, dns, signed.Bytes()); len(got) != 1 || got[0].Result != Pass {
					t.Errorf("%s/%s of %q: %+v", header, text, body, got)
				}
			}
		}
		fields, err := (&Signer{Keys: []*Key{k}}).Sign(opener([]byte(content)))
		if err != nil {
			t.Fatal(err)
		}
		all, err := peer.VerifyWithOptions(strings.NewReader(string(fields)+content), &peer.VerifyOptions{
			LookupTXT: func(name string) ([]string, error) { return dns.TXT(t.Context(), name) },
		})
		if err != nil || len(all) != 1 || all[0].Err != nil {
			t.Errorf("ours of %q: %+v %v", body, all, err)
		}
	}
}

// TestVerifyChanged: RFC 6376 §6.1.3: a body or a signed field that was changed, or one added that was signed as missing, and the signature fails.
func TestVerifyChanged(t *testing.T) {
	dns := records(t, rfcKeys(t)...)
	content := string(read(t, "testdata/signed.eml"))
	for what, edit := range map[string]func(string) string{
		"body":    func(s string) string { return s + "more\r\n" },
		"subject": func(s string) string { return strings.Replace(s, "\r\nSubject: ", "\r\nSubject: not ", 1) },
		"from":    func(s string) string { return strings.Replace(s, "\r\n\r\n", "\r\nFrom: other@example.com\r\n\r\n", 1) },
		"b=":      func(s string) string { return strings.Replace(s, "\tb=", "\tb=A", 2) },
	} {
		changed := edit(content)
		if changed == content {
			t.Fatal(what, "was not changed")
		}
		for _, d := range verified(t, dns, []byte(changed)) {
			if d.Result != Fail && (what != "b=" || d.Result != Neutral) {
				t.Errorf("%s: %+v", what, d)
			}
		}
	}
	// what nobody signed may change: a trace field, white space that relaxed form takes as one
	unsigned := "Received: from a by b; Fri, 11 Jul 2003 21:01:54 -0700\r\n" + strings.Replace(content, "\r\nSubject: ", "\r\nsubject:   ", 1)
	for _, d := range verified(t, dns, []byte(unsigned)) {
		if d.Result != Pass {
			t.Errorf("%+v", d)
		}
	}
}

// TestSignatureRefused: RFC 6376 §6.1.1, RFC 8301 §3.1, RFC 8601 §2.7.1: what is wrong with a signature, and the result it gets.
func TestSignatureRefused(t *testing.T) {
	const good = "v=1; a=ed25519-sha256; d=a.example; s=k; h=From:To; bh=AAAA; b=QUJDREVGR0hJSg=="
	if sig, err := parseSignature(good + "; x_unknown=1; i=joe@mail.A.example; t=5; x=6; q=dns/txt;"); err != nil || sig.agent != "mail.a.example" || sig.short != "QUJDREVG" {
		t.Errorf("%+v %v", sig, err)
	}
	for _, c := range []struct {
		from, to string
		want     Result
	}{
		{"v=1", "v=2", Neutral},
		{"v=1; ", "", PermError},
		{"b=Q", "c=Q", PermError},
		{"a=ed25519-sha256", "a=rsa-sha1", Policy},
		{"a=ed25519-sha256", "a=rsa-md5", Neutral},
		{"From:To", "To", PermError},
		{"From:To", "From" + strings.Repeat(":X", maxSigned), Policy},
		{"d=a.example", "d=a.example; d=b.example", Neutral}, // RFC 6376 §3.2
		{"d=a.example", "d=", Neutral},
		{"d=a.example", "d=a b", Neutral},
		{"s=k", "s=.", Neutral},
		{"s=k", "s=k; i=@b.example", PermError},
		{"s=k", "s=k; i=@xa.example", PermError},
		{"s=k", "s=k; l=0", Policy},
		{"s=k", "s=k; c=odd", Neutral},
		{"s=k", "s=k; q=other", Neutral},
		{"s=k", "s=k; t=6; x=6", Neutral},
		{"s=k", "s=k; x=-1", Neutral},
		{"s=k", "s=k; novalue", Neutral},
		{"bh=AAAA", "bh=!", Neutral},
		{"QUJD", "?", Neutral},
	} {
		_, err := parseSignature(strings.Replace(good, c.from, c.to, 1))
		f, ok := err.(flaw)
		if !ok || f.result != c.want {
			t.Errorf("%s in place of %s: %v, want %s", c.to, c.from, err, c.want)
		}
	}
}

// TestKeyRecord: RFC 6376 §3.6.1, §6.1.2: what a key record may say, and what it must not.
func TestKeyRecord(t *testing.T) {
	for _, c := range []struct {
		text string
		want Result // Pass: taken
	}{
		{rfc6376Key, Pass},
		{strings.TrimPrefix(rfc6376Key, "v=DKIM1; "), Pass},
		{rfc6376Key + "; k=rsa; h=sha1:sha256; s=*; t=y:s; n=note; odd=1", Pass},
		{strings.Replace(rfc6376Key, "IRP/", "IRP/ \t", 1), Pass},
		{strings.Replace(rfc6376Key, "DKIM1", "DKIM1.0", 1), PermError},
		{"n=a; " + rfc6376Key, PermError}, // RFC 6376 §3.6.1: v= comes first
		{"v=DKIM1; p=", PermError},        // revoked
		{"v=DKIM1", PermError},
		{"v=DKIM1; p=AAAA", PermError},
		{"v=DKIM1; p=%", PermError},
		{rfc6376Key + "; h=sha1", PermError},
		{rfc6376Key + "; s=tlsrpt", PermError},
		{rfc6376Key + "; k=ed25519", PermError},
		{"anything else", PermError},
		// RFC 8301 §3.2: 512 bits
		{"v=DKIM1; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALRiMLAhwpHTsp7ib8jtwLRBGYxCZNWTkRTRzdzOcBbYEKSsPsqjlBqoQYtpPpwnN2yXjzqJHKKvBGVQnvPuzcMCAwEAAQ==", Policy},
	} {
		_, err := parseKeyRecord(c.text, RSA)
		got := Pass
		if f, ok := err.(flaw); ok {
			got = f.result
		}
		if got != c.want {
			t.Errorf("%s: %v, want %s", c.text, err, c.want)
		}
	}
}

// TestVerifyKeys: RFC 6376 §6.1.2, §3.6.1: no key, no answer, several records, t=y and t=s.
func TestVerifyKeys(t *testing.T) {
	content := read(t, "testdata/rfc6376.eml") // i=joe@football.example.com, d=example.com
	const name = "brisbane._domainkey.example.com"
	for _, c := range []struct {
		texts []string
		body  string // added
		want  Result
	}{
		{nil, "", PermError},
		{[]string{"v=spf1 -all", rfc6376Key}, "", Pass},
		{[]string{rfc6376Key, "v=spf1 -all"}, "", Pass},
		{[]string{rfc6376Key + "; t=s"}, "", PermError},
		{[]string{rfc6376Key + "; t=y"}, "", Pass},
		{[]string{rfc6376Key + "; t=y"}, "x\r\n", Neutral},
		{[]string{rfc6376Key}, "x\r\n", Fail},
	} {
		dns := zone{Static: relay.Static{Texts: map[string][]string{name: c.texts}}}
		if got := verified(t, dns, append(bytes.Clone(content), c.body...)); got[0].Result != c.want {
			t.Errorf("%v %q: %+v, want %s", c.texts, c.body, got[0], c.want)
		}
	}
	if got := verified(t, zone{silent: map[string]bool{name: true}}, content); got[0].Result != TempError {
		t.Errorf("%+v", got[0])
	}
	many := strings.Repeat("DKIM-Signature: v=1\r\n", 2*maxSignatures) + "\r\n"
	if got := verified(t, zone{}, []byte(many)); len(got) != maxSignatures {
		t.Errorf("%d signatures looked at", len(got))
	}
}

// TestSimple is RFC 6376 §3.4.5, example 2, and §3.4.3's corners.
func TestSimple(t *testing.T) {
	for in, want := range map[string]string{
		" C \r\nD \t E\r\n\r\n\r\n": " C \r\nD \t E\r\n",
		"":                          "\r\n",
		"\r\n\r\n":                  "\r\n",
		"a":                         "a\r\n",
		"a\r":                       "a\r\r\n",
		"a\r\r\n":                   "a\r\r\n",
		"a\nb\r\n":                  "a\nb\r\n",
		"\r\n\r\nb\r\n":             "\r\n\r\nb\r\n",
	} {
		var got strings.Builder
		s := &simpleBody{w: &got}
		if _, err := io.Copy(s, iotest.OneByteReader(strings.NewReader(in))); err != nil {
			t.Fatal(err)
		}
		if s.Close(); got.String() != want {
			t.Errorf("%q: %q, want %q", in, got.String(), want)
		}
	}
}

// FuzzSimple: the pieces a body comes in do not matter, and what is canonical stays as it is.
func FuzzSimple(f *testing.F) {
	f.Add([]byte(" C \r\nD \t E\r\n\r\n\r\n"), 3)
	f.Add([]byte("\r\r\n\n \r \r\n"), 1)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		form := func(pieces ...[]byte) []byte {
			var b bytes.Buffer
			s := &simpleBody{w: &b}
			for _, p := range pieces {
				s.Write(p)
			}
			s.Close()
			return b.Bytes()
		}
		cut = min(max(cut, 0), len(in))
		whole := form(in)
		if got := form(in[:cut], in[cut:]); !bytes.Equal(got, whole) {
			t.Errorf("%q cut at %d: %q, want %q", in, cut, got, whole)
		}
		if again := form(whole); !bytes.Equal(again, whole) {
			t.Errorf("%q, again %q", whole, again)
		}
	})
}

// FuzzSignature: no signature and no key record, however odd, does harm, and what a signature covers has no b= any more.
func FuzzSignature(f *testing.F) {
	f.Add("v=1; a=ed25519-sha256; d=a.example; s=k; h=From:To; bh=AAAA; b=QUJDREVGR0hJSg==")
	f.Add("b = x ; bh=b=; b=y")
	f.Fuzz(func(t *testing.T, s string) {
		parseSignature(s)
		parseKeyRecord(s, RSA)
		parseKeyRecord(s, Ed25519)
		parsePolicy(s)
		header, _, err := message.ReadHeader(strings.NewReader("DKIM-Signature: "+s+"\r\n\r\n"), 1<<20)
		if err != nil {
			return
		}
		for field := range header.Fields() {
			_, value, _ := strings.Cut(string(unsigned(field)), ":")
			list, err := parseTags(value)
			if b, _ := list.get("b"); err == nil && b != "" {
				t.Errorf("%q: b=%q is left", s, b)
			}
		}
	})
}
