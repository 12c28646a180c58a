package authres

import (
	"maps"
	"net/netip"
	"testing"

	"bothy/application/message"
	"bothy/application/relay"
)

// appendixA is the DNS of RFC 7208 §A.
func appendixA(t testing.TB, texts map[string]string) zone {
	z := zone{Static: relay.Static{
		Exchangers: map[string][]relay.MX{
			"example.com": {{Preference: 10, Host: "mail-a.example.com"}, {Preference: 20, Host: "mail-b.example.com"}},
			"example.org": {{Preference: 10, Host: "mail-c.example.org"}},
		},
		Addresses: map[string][]netip.Addr{
			"example.com":                        addrs(t, "192.0.2.10", "192.0.2.11"),
			"www.example.com":                    addrs(t, "192.0.2.10", "192.0.2.11"),
			"amy.example.com":                    addrs(t, "192.0.2.65"),
			"bob.example.com":                    addrs(t, "192.0.2.66"),
			"mail-a.example.com":                 addrs(t, "192.0.2.129"),
			"mail-b.example.com":                 addrs(t, "192.0.2.130"),
			"mail-c.example.org":                 addrs(t, "192.0.2.140"),
			"mary.mobile-users._spf.example.com": addrs(t, "127.0.0.2"),
			"15.15.168.192.joel.remote-users._spf.example.com": addrs(t, "127.0.0.2"),
		},
		Names: map[netip.Addr][]string{
			netip.MustParseAddr("192.0.2.10"):  {"example.com"},
			netip.MustParseAddr("192.0.2.65"):  {"amy.example.com"},
			netip.MustParseAddr("192.0.2.140"): {"mail-c.example.org"},
			netip.MustParseAddr("10.0.0.4"):    {"bob.example.com"},
		},
		Texts: map[string][]string{},
	}}
	for name, text := range texts {
		z.Texts[name] = []string{text}
	}
	return z
}

// TestSPFExamples: RFC 7208 §A.1, §A.2, §A.3, §A.4: who passes under the records of the examples.
func TestSPFExamples(t *testing.T) {
	multiple := map[string]string{
		"example.org":    "v=spf1 include:example.com include:example.net -all",
		"la.example.org": "v=spf1 redirect=example.org",
		"example.net":    "v=spf1 ip4:198.51.100.1 -all",
	}
	lists := map[string]string{
		"mobile-users._spf.example.com": "v=spf1 exists:%{l1r+}.%{d}",
		"remote-users._spf.example.com": "v=spf1 exists:%{ir}.%{l1r+}.%{d}",
	}
	// As printed the ptr is of ptr._spf.example.com, of which no host's name is.
	both := map[string]string{"ip4._spf.example.com": "v=spf1 -ip4:192.0.2.0/24 +all", "ptr._spf.example.com": "v=spf1 -ptr:example.com +all"}
	for _, c := range []struct {
		record, client string
		want           Result
		more           map[string]string
		from           string // instead of user@example.com
	}{
		{record: "v=spf1 +all", client: "203.0.113.9", want: Pass},
		{record: "v=spf1 a -all", client: "192.0.2.10", want: Pass},
		{record: "v=spf1 a -all", client: "192.0.2.65", want: Fail},
		{record: "v=spf1 a:example.org -all", client: "192.0.2.140", want: Fail},
		{record: "v=spf1 mx -all", client: "192.0.2.129", want: Pass},
		{record: "v=spf1 mx:example.org -all", client: "192.0.2.140", want: Pass},
		{record: "v=spf1 mx mx:example.org -all", client: "192.0.2.130", want: Pass},
		{record: "v=spf1 mx/30 mx:example.org/30 -all", client: "192.0.2.131", want: Pass},
		{record: "v=spf1 mx/30 mx:example.org/30 -all", client: "192.0.2.133", want: Fail},
		{record: "v=spf1 ptr -all", client: "192.0.2.65", want: Pass},
		{record: "v=spf1 ptr -all", client: "192.0.2.140", want: Fail},
		{record: "v=spf1 ptr -all", client: "10.0.0.4", want: Fail},
		{record: "v=spf1 ip4:192.0.2.128/28 -all", client: "192.0.2.65", want: Fail},
		{record: "v=spf1 ip4:192.0.2.128/28 -all", client: "192.0.2.129", want: Pass},
		{record: "v=spf1 mx -all", client: "192.0.2.129", want: Pass, more: multiple, from: "a@la.example.org"},
		{record: "v=spf1 mx -all", client: "198.51.100.1", want: Pass, more: multiple, from: "a@la.example.org"},
		{record: "v=spf1 mx -all", client: "198.51.100.2", want: Fail, more: multiple, from: "a@la.example.org"},
		{record: "v=spf1 mx include:mobile-users._spf.%{d} include:remote-users._spf.%{d} -all", client: "203.0.113.9", want: Pass, more: lists, from: "mary@example.com"},
		{record: "v=spf1 mx include:mobile-users._spf.%{d} include:remote-users._spf.%{d} -all", client: "192.168.15.15", want: Pass, more: lists, from: "joel@example.com"},
		{record: "v=spf1 mx include:mobile-users._spf.%{d} include:remote-users._spf.%{d} -all", client: "192.168.15.15", want: Fail, more: lists, from: "jim@example.com"},
		{record: "v=spf1 -include:ip4._spf.%{d} -include:ptr._spf.%{d} +all", client: "192.0.2.65", want: Pass, more: both},
		{record: "v=spf1 -include:ip4._spf.%{d} -include:ptr._spf.%{d} +all", client: "192.0.2.140", want: Fail, more: both},
		{record: "v=spf1 -include:ip4._spf.%{d} -include:ptr._spf.%{d} +all", client: "10.0.0.4", want: Fail, more: both},
	} {
		texts := map[string]string{"example.com": c.record}
		maps.Copy(texts, c.more)
		if c.from == "" {
			c.from = "user@example.com"
		}
		env := &message.Envelope{ReversePath: address(t, c.from), Client: netip.MustParseAddr(c.client), Helo: "client.example"}
		if got := checkSPF(t.Context(), appendixA(t, texts), env); got.Result != c.want {
			t.Errorf("%s from %s, %s: %+v, want %s", c.from, c.client, c.record, got, c.want)
		}
	}
}

// TestSPFCorners: RFC 7208 §2.4: the null reverse-path is postmaster at EHLO's argument; RFC 7208 §4.3: what is no domain has no policy;
// RFC 7208 §2.6.6, §2.6.7: no answer and a broken record are not failures; RFC 7208 §4.6.4: lookups are bounded.
func TestSPFCorners(t *testing.T) {
	z := appendixA(t, map[string]string{
		"mail-c.example.org": "v=spf1 a -all",
		"broken.example":     "v=spf1 all:x -all",
		"loop.example":       "v=spf1 include:loop.example -all",
		"void.example":       "v=spf1 a:v1.example a:v2.example a:v3.example a:v4.example +all",
		"quiet.example":      "v=spf1 a:dumb.example -all",
	})
	z.Texts["two.example"] = []string{"v=spf1 +all", "v=spf1 -all"}
	z.silent = map[string]bool{"silent.example": true, "dumb.example": true}
	for _, c := range []struct {
		from, helo string
		want       Result
	}{
		{"", "mail-c.example.org", Pass},
		{"", "bob.example.com", None},
		{"", "[192.0.2.140]", None},
		{"", "localhost", None},
		{"", "odd name\x00", None},
		{"a@[192.0.2.140]", "x", None},
		{"a@none.example", "x", None},
		{"a@broken.example", "x", PermError},
		{"a@two.example", "x", PermError},
		{"a@loop.example", "x", PermError},
		{"a@void.example", "x", PermError},
		{"a@silent.example", "x", TempError},
		{"a@quiet.example", "x", TempError},
	} {
		env := &message.Envelope{ReversePath: address(t, c.from), Client: netip.MustParseAddr("192.0.2.140"), Helo: c.helo}
		if got := checkSPF(t.Context(), z, env); got.Result != c.want || got.Helo != (c.from == "") {
			t.Errorf("%q %q: %+v, want %s", c.from, c.helo, got, c.want)
		}
	}
}
