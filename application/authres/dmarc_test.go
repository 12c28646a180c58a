package authres

import (
	"net/netip"
	"slices"
	"testing"

	"bothy/application/message"
	"bothy/application/relay"
)

func dmarcZone(t testing.TB, records map[string]string) zone {
	z := zone{Static: relay.Static{Texts: map[string][]string{}, Addresses: map[string][]netip.Addr{}}}
	for domain, record := range records {
		z.Texts["_dmarc."+domain] = []string{record}
		z.Addresses[domain] = addrs(t, "192.0.2.1")
	}
	return z
}

// TestPolicyRecord: RFC 9989 §4.7, §4.8, §4.10.1: what is a record, and what becomes of errors in it.
func TestPolicyRecord(t *testing.T) {
	for text, want := range map[string]policyRecord{
		"v=DMARC1; p=reject":                             {policy: "reject", valid: true, psd: "u"},
		"v = DMARC1 ;p = Quarantine; sp=none;np=reject;": {policy: "quarantine", subdomains: "none", absent: "reject", valid: true, psd: "u"},
		"v=DMARC1; p=none; adkim=s; aspf=s; psd=y; t=y; pct=5; odd=%": {
			policy: "none", valid: true, strictDKIM: true, strictSPF: true, psd: "y", testing: true,
		},
		"v=DMARC1; p=reject; adkim=x; psd=x":                 {policy: "reject", valid: true, psd: "u"},
		"v=DMARC1; p=odd; rua=mailto:a@b.example":            {policy: "none", valid: true, psd: "u"},
		"v=DMARC1; rua=mailto:a@b.example":                   {policy: "none", valid: true, psd: "u"},
		"v=DMARC1; p=odd":                                    {policy: "none", psd: "u"},
		"v=DMARC1; p=reject; sp=odd; rua=mailto:a@b.example": {policy: "none", valid: true, psd: "u"},
	} {
		if got, ok := parsePolicy(text); !ok || got != want {
			t.Errorf("%s: %+v %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "v=dmarc1; p=none", "p=none; v=DMARC1", "v=DMARC12; p=none", "v=spf1 -all"} {
		if got, ok := parsePolicy(text); ok {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

// TestTreeWalk: RFC 9989 §4.10: at most eight names, of a long one the last seven labels after it.
func TestTreeWalk(t *testing.T) {
	want := []string{
		"a.b.c.d.e.f.g.h.i.j.mail.example.com", "g.h.i.j.mail.example.com", "h.i.j.mail.example.com", "i.j.mail.example.com",
		"j.mail.example.com", "mail.example.com", "example.com", "com",
	}
	if got := walk(want[0]); !slices.Equal(got, want) {
		t.Error(got)
	}
	if got := walk("example.com"); !slices.Equal(got, []string{"example.com", "com"}) {
		t.Error(got)
	}
}

// TestOrganization: RFC 9989 §4.10.2, §B.4.1, §B.4.2, §B.4.3: the Organizational Domains of the examples.
func TestOrganization(t *testing.T) {
	for _, c := range []struct {
		records map[string]string
		want    map[string]string
	}{
		{
			map[string]string{"example.com": "v=DMARC1; p=none", "signing.example.com": "v=DMARC1; p=none"},
			map[string]string{
				"example.com": "example.com", "signing.example.com": "example.com", "a.b.c.d.e.f.g.h.i.j.k.example.com": "example.com", "other.example": "other.example",
			},
		},
		{
			map[string]string{"bank.example": "v=DMARC1; psd=y; p=reject", "giant.bank.example": "v=DMARC1; p=none"},
			map[string]string{
				"giant.bank.example": "giant.bank.example", "mail.giant.bank.example": "giant.bank.example", "mail.mega.bank.example": "mega.bank.example",
				"bank.example": "bank.example", "a.b.c.d.e.f.g.h.mega.bank.example": "mega.bank.example",
			},
		},
		{
			map[string]string{"mail.example.com": "v=DMARC1; p=none; psd=n", "example.com": "v=DMARC1; p=none"},
			map[string]string{"a.mail.example.com": "mail.example.com", "b.example.com": "example.com"},
		},
		{map[string]string{"com": "v=DMARC1; p=none; psd=y"}, map[string]string{"a.mail.example.com": "example.com"}},
	} {
		w := &walker{dns: dmarcZone(t, c.records)}
		for domain, want := range c.want {
			if got, _, err := w.organization(t.Context(), domain); got != want || err != nil {
				t.Errorf("%s: %s, want %s, %v", domain, got, want, err)
			}
		}
	}
}

// TestDMARC: RFC 9989 §5.3, §4.4, §4.10.1: alignment, whose policy applies, and what no answer means.
func TestDMARC(t *testing.T) {
	z := dmarcZone(t, map[string]string{
		"relaxed.example": "v=DMARC1; p=reject; sp=quarantine; np=reject",
		"strict.example":  "v=DMARC1; p=quarantine; adkim=s; aspf=s",
		"testing.example": "v=DMARC1; p=reject; t=y",
		"bare.example":    "v=DMARC1",
		"odd.example":     "v=DMARC1; p=none",
	})
	z.Addresses["known.relaxed.example"] = addrs(t, "192.0.2.1")
	z.Texts["_dmarc.two.example"] = []string{"v=DMARC1; p=reject", "v=DMARC1; p=none"} // RFC 9989 §4.10: all are discarded
	z.silent = map[string]bool{"_dmarc.silent.example": true, "_dmarc.far.example": true}
	pass := func(domain string) SPF { return SPF{Result: Pass, Domain: domain} }
	signed := func(domain string) []DKIM {
		return []DKIM{{Result: Fail, Domain: "x.example"}, {Result: Pass, Domain: domain}}
	}
	for _, c := range []struct {
		from   []string
		spf    SPF
		dkim   []DKIM
		want   Result
		policy string
	}{
		{[]string{"relaxed.example"}, pass("relaxed.example"), nil, Pass, "reject"},
		{[]string{"relaxed.example"}, pass("bounce.relaxed.example"), nil, Pass, "reject"},
		{[]string{"relaxed.example"}, pass("other.example"), signed("mail.relaxed.example"), Pass, "reject"},
		{[]string{"relaxed.example"}, pass("other.example"), signed("other.example"), Fail, "reject"},
		{[]string{"relaxed.example"}, SPF{Result: SoftFail, Domain: "relaxed.example"}, nil, Fail, "reject"},
		{[]string{"known.relaxed.example"}, SPF{}, nil, Fail, "quarantine"},
		{[]string{"unknown.relaxed.example"}, SPF{}, nil, Fail, "reject"},
		{[]string{"strict.example"}, pass("mail.strict.example"), signed("mail.strict.example"), Fail, "quarantine"},
		{[]string{"strict.example"}, SPF{}, signed("strict.example"), Pass, "quarantine"},
		{[]string{"testing.example"}, SPF{}, nil, Fail, "quarantine"},
		{[]string{"none.example"}, pass("none.example"), nil, None, ""},
		{[]string{"bare.example"}, pass("bare.example"), nil, None, ""},
		{[]string{"two.example"}, pass("two.example"), nil, None, ""},
		{[]string{"[192.0.2.1]"}, SPF{}, nil, None, ""},
		{[]string{"silent.example"}, pass("silent.example"), nil, TempError, ""},
		{[]string{"relaxed.example"}, pass("far.example"), nil, TempError, "reject"},
		{[]string{"relaxed.example"}, SPF{Result: TempError}, nil, TempError, "reject"},
		{[]string{"relaxed.example"}, SPF{}, []DKIM{{Result: TempError}}, TempError, "reject"},
		{nil, SPF{}, nil, PermError, ""},
		{[]string{"a.example", "b.example"}, SPF{}, nil, PermError, ""},
	} {
		w := &walker{dns: z}
		got := w.evaluate(t.Context(), c.from, c.spf, c.dkim)
		if got.Result != c.want || got.Policy != c.policy {
			t.Errorf("%v with %+v %+v: %+v, want %s %s", c.from, c.spf, c.dkim, got, c.want, c.policy)
		}
	}
}

// TestAuthors: RFC 9989 §5.3.1: each author's domain once, as A-labels.
func TestAuthors(t *testing.T) {
	for from, want := range map[string][]string{
		"From: a@A.example\r\n":                                 {"a.example"},
		"From: a@a.example, b@a.example\r\n":                    {"a.example"},
		"From: a@a.example, b@b.example\r\n":                    {"a.example", "b.example"},
		"From: a@a.example\r\nFrom: b@b.example\r\n":            {"a.example", "b.example"},
		"From: a@bücher.example\r\n":                            {"xn--bcher-kva.example"},
		"From: who knows\r\n":                                   nil,
		"Subject: x\r\n":                                        nil,
		"From: \"a@b.example\" <c@d.example> (e@f.example)\r\n": {"d.example"},
	} {
		header := parseHeader(t, from+"\r\n")
		if got := authors(&header); !slices.Equal(got, want) {
			t.Errorf("%q: %v", from, got)
		}
	}
}

func parseHeader(t testing.TB, s string) message.Header {
	t.Helper()
	h, _, err := readHeader(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
