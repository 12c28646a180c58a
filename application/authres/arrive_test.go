package authres

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/application/relay"
	"bothy/application/smtp"
)

// kept is an Acceptor that remembers.
type kept struct {
	env  message.Envelope
	text string
}

func (k *kept) Accept(_ context.Context, env *message.Envelope, body io.Reader) error {
	text, err := io.ReadAll(body)
	k.env, k.text = env.Clone(), string(env.Trace)+string(text)
	return err
}

const stranger = "192.0.2.140"

func envelope(t testing.TB, from, client string) *message.Envelope {
	t.Helper()
	env := &message.Envelope{ReversePath: address(t, from), Helo: "client.example"}
	if client != "" {
		env.Client = netip.MustParseAddr(client)
	}
	return env
}

const received = "Received: from client.example (client.example [192.0.2.140]) by mx.here.example; Fri, 02 Jan 2026 15:04:05 +0000\r\n"

// world is football.example.com with keys, SPF for 192.0.2.129, and DMARC.
func world(t testing.TB) zone {
	z := records(t, rfcKeys(t)...)
	z.Texts["football.example.com"] = []string{"v=spf1 ip4:192.0.2.129 -all"}
	z.Texts["_dmarc.football.example.com"] = []string{"v=DMARC1; p=reject"}
	z.Texts["soft.example"] = []string{"v=spf1 ~all"}
	z.Texts["list.example"] = []string{"v=spf1 ip4:192.0.2.140 -all"}
	return z
}

func accept(t testing.TB, b *Border, env *message.Envelope, content string) (*kept, error) {
	t.Helper()
	k := new(kept)
	b.Hostname, b.Next = "mx.here.example", k
	b.Now = func() time.Time { return time.Unix(1_700_000_000, 0) }
	err := b.Accept(t.Context(), env, iotest.OneByteReader(strings.NewReader(received+content)))
	return k, err
}

// TestResultsField: RFC 8601 §2.2, §2.7.1, §2.7.2: the field of a signed message, an unsigned one, and one that nothing is known of; RFC 6008 §3: several
// signatures are told apart; RFC 8601 §4: it stands above the Received field of the server that adds it.
func TestResultsField(t *testing.T) {
	signed := string(read(t, "testdata/signed.eml"))
	for file, c := range map[string]struct{ from, client, content string }{
		"pass.eml":     {"joe@football.example.com", "192.0.2.129", signed},
		"list.eml":     {"bounce@list.example", stranger, signed},
		"changed.eml":  {"joe@football.example.com", stranger, signed + "-- \r\nlist\r\n"},
		"unsigned.eml": {"a@soft.example", stranger, "From: a@soft.example\r\n\r\nhello\r\n"},
		"null.eml":     {"", stranger, "From: a@soft.example\r\n\r\nhello\r\n"},
		"nothing.eml":  {"a@none.example", stranger, "hello\r\n"},
	} {
		k, err := accept(t, &Border{DNS: world(t)}, envelope(t, c.from, c.client), c.content)
		if err != nil {
			t.Fatal(file, err)
		}
		_, rest, found := strings.Cut(k.text, received)
		if !found || rest != c.content && file != "nothing.eml" {
			t.Errorf("%s: the message itself was changed: %q", file, rest)
		}
		golden(t, "testdata/results/"+file, k.env.Trace)
	}
}

func golden(t testing.TB, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := read(t, file); !bytes.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant\n%s", file, got, want)
	}
}

// TestUnverified: what vouches for a reverse-path, and what does not.
func TestUnverified(t *testing.T) {
	signed := string(read(t, "testdata/signed.eml"))
	const plain = "From: a@b.example\r\n\r\nx\r\n"
	for _, c := range []struct {
		from, client, content string
		cfg                   Config
		want                  bool
	}{
		{from: "joe@football.example.com", client: "192.0.2.129", content: plain},
		{from: "joe@football.example.com", client: stranger, content: plain, want: true},
		{from: "joe@football.example.com", client: stranger, content: signed},
		{from: "joe@FOOTBALL.example.com", client: stranger, content: signed},
		{from: "joe@other.example", client: stranger, content: signed, want: true},
		{from: "joe@football.example.com", client: stranger, content: signed + "more\r\n", want: true},
		{from: "a@soft.example", client: stranger, content: plain, want: true},
		{from: "a@none.example", client: stranger, content: plain, want: true},
		{from: "", client: stranger, content: plain},
		{from: "bounce@list.example", client: stranger, content: signed},
		{from: "a@none.example", client: "127.0.0.1", content: plain},
		{from: "a@none.example", client: "127.0.0.1", content: plain, cfg: Config{Loopback: true}, want: true},
		{from: "a@none.example", client: "", content: plain},
		{from: "a@none.example", client: "198.51.100.7", content: plain}, // Inside
		{from: "a@none.example", client: stranger, content: plain, cfg: Config{SPF: off}},
		{from: "a@none.example", client: stranger, content: plain, cfg: Config{SPF: off, DKIM: off}},
	} {
		b := &Border{DNS: world(t), Config: c.cfg, Inside: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}
		k, err := accept(t, b, envelope(t, c.from, c.client), c.content)
		if err != nil || k.env.Unverified != c.want {
			t.Errorf("<%s> from %s %+v: unverified %v, %v\n%s", c.from, c.client, c.cfg, k.env.Unverified, err, k.env.Trace)
		}
	}
}

// TestForged: RFC 8601 §5: fields in our name are removed, in any case and form, and those that cannot be understood; those of others stay.
func TestForged(t *testing.T) {
	forged := []string{
		"Authentication-Results: mx.here.example; spf=pass\r\n",
		"authentication-results:MX.Here.Example;spf=pass\r\n",
		"Authentication-Results: (a (b) c) \"mx.here.example\" 1; none\r\n",
		"Authentication-Results:\r\n mx.here.example (x);\r\n\tdmarc=pass header.from=bank.example\r\n",
		"Authentication-Results: mx.here.example\r\n",
		"Authentication-Results: mx.here.example 1 ;; ;\r\n",
		"Authentication-Results: \r\n",
		"Authentication-Results: ; spf=pass\r\n",
		"Authentication-Results: other.example 2; spf=pass\r\n",
	}
	const honest = "Authentication-Results: other.example; spf=fail smtp.mailfrom=mx.here.example\r\nSubject: x\r\nAuthentication-Results: xmx.here.example; none\r\nAuthentication-Results: other.example; nonsense\r\n"
	k, err := accept(t, &Border{DNS: world(t)}, envelope(t, "a@none.example", stranger), forged[0]+honest+strings.Join(forged[1:], "")+"\r\nbody\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, text, _ := strings.Cut(k.text, received); text != honest+"\r\nbody\r\n" {
		t.Errorf("%q", text)
	}
	// names beyond ASCII are compared as A-labels
	b := &Border{DNS: world(t), Config: Config{ID: "xn--bcher-kva.example"}}
	k, err = accept(t, b, envelope(t, "a@none.example", stranger), "Authentication-Results: bücher.example; spf=pass\r\n\r\n")
	if err != nil || strings.Contains(k.text, "bücher") || !strings.HasPrefix(k.text, "Authentication-Results: xn--bcher-kva.example; spf=none") {
		t.Errorf("%q %v", k.text, err)
	}
}

// TestRefuse: RFC 7372 §3.1, §3.2, RFC 9989 §7.2: the codes of each policy that refuses, and what it lets pass.
func TestRefuse(t *testing.T) {
	signed := string(read(t, "testdata/signed.eml"))
	const plain = "From: joe@football.example.com\r\n\r\nx\r\n"
	silent := world(t)
	silent.silent = map[string]bool{
		"football.example.com": true, "_dmarc.football.example.com": true,
		"brisbane._domainkey.football.example.com": true, "test._domainkey.football.example.com": true,
	}
	spf, dkim, dmarc := Config{SPF: refuse}, Config{DKIM: refuse}, Config{DMARC: refuse}
	for _, c := range []struct {
		cfg           Config
		from, content string
		dns           Resolver
		want          string
	}{
		{cfg: spf, from: "joe@football.example.com", content: plain, want: "550 5.7.23 SPF of football.example.com does not let your server send its mail"},
		{cfg: spf, from: "joe@soft.example", content: plain},
		{cfg: spf, from: "joe@none.example", content: plain},
		{cfg: spf, from: "joe@football.example.com", content: plain, dns: silent},
		{cfg: dkim, from: "joe@football.example.com", content: signed},
		{cfg: dkim, from: "joe@football.example.com", content: plain},
		{cfg: dkim, from: "joe@football.example.com", content: signed + "x\r\n", want: "550 5.7.20 no DKIM signature passes: the body was changed"},
		{cfg: dkim, from: "joe@football.example.com", content: signed + "x\r\n", dns: silent},
		{cfg: dmarc, from: "joe@list.example", content: plain, want: "550 5.7.1 DMARC of football.example.com asks to reject this message"},
		{cfg: dmarc, from: "joe@list.example", content: signed},
		{cfg: dmarc, from: "joe@list.example", content: plain, dns: silent},
		{cfg: dmarc, from: "joe@list.example", content: "From: a@a.example, b@b.example\r\n\r\n", want: "550 5.7.1 not one author's domain in From"},
		{cfg: Config{DMARC: refuse, SPF: off}, from: "joe@list.example", content: plain},
	} {
		if c.dns == nil {
			c.dns = world(t)
		}
		_, err := accept(t, &Border{DNS: c.dns, Config: c.cfg}, envelope(t, c.from, stranger), c.content)
		var r smtp.Reply
		switch {
		case c.want == "" && err != nil, c.want != "" && !errors.As(err, &r), c.want != "" && r.Error() != c.want:
			t.Errorf("%+v <%s> %q: %v, want %s", c.cfg, c.from, c.content, err, c.want)
		}
	}
}

// TestArrivalBroken: what is cut is no message, and no lookup outlives it; a header without an end is refused.
func TestArrivalBroken(t *testing.T) {
	broken := errors.New("the line broke")
	signed := string(read(t, "testdata/signed.eml"))
	for _, n := range []int{0, 10, len(received) + 100, len(signed)} {
		b := &Border{Hostname: "mx.here.example", DNS: hang{}, Next: new(kept)}
		content := io.MultiReader(strings.NewReader((received + signed)[:n]), iotest.ErrReader(broken))
		if err := b.Accept(t.Context(), envelope(t, "a@b.example", stranger), content); err != broken { //nolint // as it is
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	b := &Border{DNS: hang{}, Next: new(kept)}
	endless := io.MultiReader(strings.NewReader(received), &repeater{line: []byte("X-Long: " + strings.Repeat("x", 70) + "\r\n")})
	if err := b.Accept(t.Context(), envelope(t, "a@b.example", stranger), endless); err != replyHeader { //nolint // as it is
		t.Error(err)
	}
}

// TestSilentDNS: RFC 7208 §4.6.4, RFC 6376 §6.1.2: a DNS that never answers delays a message by the timeout, and refuses none.
func TestSilentDNS(t *testing.T) {
	signed := string(read(t, "testdata/signed.eml"))
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		b := &Border{DNS: hang{}, Config: Config{SPF: refuse, DKIM: refuse, DMARC: refuse, Timeout: 30 * time.Second}}
		k, err := accept(t, b, envelope(t, "joe@football.example.com", stranger), signed)
		if err != nil || !k.env.Unverified || strings.Count(k.text, "=temperror") != 4 {
			t.Errorf("%v\n%s", err, k.env.Trace)
		}
		if took := time.Since(start); took < 30*time.Second || took > time.Minute {
			t.Errorf("after %v", took)
		}
	})
}

// TestVerifyStreams: 16 MiB are verified in both forms, empty lines too; only the header is ever held.
func TestVerifyStreams(t *testing.T) {
	header := "DKIM-Signature: v=1; a=rsa-sha256; d=football.example.com; s=test; h=From; bh=AAAA; b=AAAA\r\n" +
		"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=football.example.com; s=test; h=From; bh=AAAA; b=AAAA\r\nFrom: a@b.example\r\n\r\n"
	for _, line := range []string{strings.Repeat("x", 76) + "\r\n", "\r\n", " \r\n"} {
		b := &Border{Hostname: "mx.here.example", DNS: world(t), Next: discard{}}
		body := io.MultiReader(strings.NewReader(received+header), io.LimitReader(&repeater{line: []byte(line)}, 16<<20))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		env := envelope(t, "a@b.example", stranger)
		if err := b.Accept(t.Context(), env, body); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if held := after.TotalAlloc - before.TotalAlloc; held > 1<<20 {
			t.Errorf("%q: %d octets allocated", line, held)
		}
		if !bytes.Contains(env.Trace, []byte("the body was changed")) {
			t.Errorf("%s", env.Trace)
		}
	}
}

type discard struct{}

func (discard) Accept(_ context.Context, _ *message.Envelope, body io.Reader) error {
	_, err := io.Copy(io.Discard, body)
	return err
}

// TestCarried: RFC 8601 §5: the provider's own field is believed over a connection that proves who he is, where only he can have written it; what claims to
// be his or ours otherwise is removed.
func TestCarried(t *testing.T) {
	const (
		ours   = "Received: from mail.provider.example by mail.clinic.example; Fri, 02 Jan 2026 15:04:05 +0000\r\n"
		pass   = "Authentication-Results: mail.provider.example; spf=pass smtp.mailfrom=elsewhere.example; dkim=none\r\n"
		signed = "Authentication-Results: mail.provider.example; spf=fail smtp.mailfrom=elsewhere.example; dkim=fail header.d=elsewhere.example; dkim=pass header.d=example; dkim=pass header.i=@Elsewhere.example\r\n"
		fail   = "Authentication-Results: mail.provider.example; spf=softfail smtp.mailfrom=elsewhere.example; dkim=pass header.d=other.example\r\n"
		his    = "Received: from x by mail.provider.example; Fri, 02 Jan 2026 15:04:05 +0000\r\n"
		own    = "Authentication-Results: mail.clinic.example; spf=pass smtp.mailfrom=elsewhere.example\r\n"
		other  = "Authentication-Results: third.example; spf=pass\r\n"
		rest   = "Subject: x\r\n\r\nbody\r\n"
	)
	long := strings.Repeat("X-Long: "+strings.Repeat("x", 990)+"\r\n", message.DefaultHeaderSize/1000+1)
	for _, c := range []struct {
		name, in, out       string
		unproven, anywhere  bool
		from                string
		unverified, noCheck bool
	}{
		{name: "pass", in: ours + pass + his + other + rest, out: ours + pass + his + other + rest},
		{name: "signed", in: ours + signed + his + rest, out: ours + signed + his + rest},
		{name: "fail", in: ours + fail + his + rest, out: ours + fail + his + rest, unverified: true},
		{name: "another's pass", in: ours + pass + his + rest, out: ours + pass + his + rest, from: "a@third.example", unverified: true},
		{name: "forged below", in: ours + fail + his + pass + own + rest, out: ours + fail + his + rest, unverified: true},
		{name: "forged only", in: ours + his + pass + own + rest, out: ours + his + rest},
		{name: "anywhere", in: ours + his + pass + own + rest, out: ours + pass + his + rest, anywhere: true},
		{name: "not proven", in: ours + pass + his + own + rest, out: ours + his + rest, unproven: true},
		{name: "nothing", in: ours + his + rest, out: ours + his + rest},
		{name: "dotted", in: ours + his + strings.Replace(own, ".example;", ".example.;", 1) + rest, out: ours + his + rest},
		{name: "too long", in: ours + his + pass + own + long + rest, out: ours + his + long + rest},
		{name: "too long, pass", in: ours + pass + his + own + long + rest, out: ours + pass + his + long + rest},
	} {
		k := new(kept)
		v := &Carried{Hostname: "mail.clinic.example", Provider: "mail.provider.example", Proven: !c.unproven, Anywhere: c.anywhere, Next: k}
		if c.from == "" {
			c.from = "aunt@elsewhere.example"
		}
		env := envelope(t, c.from, stranger)
		if err := v.Accept(t.Context(), env, strings.NewReader(c.in)); err != nil {
			t.Fatal(err)
		}
		if k.text != c.out || k.env.Unverified != c.unverified {
			t.Errorf("%s: unverified %v\n%s\nwant\n%s", c.name, k.env.Unverified, k.text, c.out)
		}
	}
}

// FuzzResults: no field, however odd, does harm, and one that is understood says the same again.
func FuzzResults(f *testing.F) {
	f.Add("example.com; spf=pass smtp.mailfrom=a@b.example; dkim=fail reason=\"x y\" header.b=\"a/b=\"")
	f.Add("(c (c)) example.com (c) 1 (c) ; (c) auth (c) / 1 (c) = (c) pass (c) smtp (c) . (c) auth (c) = (c) \"a b\"@c.example (c)")
	f.Add("example.com; none")
	f.Fuzz(func(t *testing.T, s string) {
		id, results, ok := parseResults(s)
		if !ok || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("()\\\"/=;", r) }) {
			return
		}
		for i := range results {
			results[i].properties = nil
		}
		value := strings.TrimPrefix(string(appendResults(nil, id, results)), "Authentication-Results:")
		id2, results2, _ := parseResults(value)
		if id2 != id || len(results2) != len(results) {
			t.Errorf("%q: %q %+v, then %q %+v", s, id, results, id2, results2)
		}
	})
}

var _ Resolver = (*relay.DNS)(nil)
