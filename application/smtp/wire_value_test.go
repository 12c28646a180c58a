package smtp

import (
	"strings"
	"testing"
	"time"
)

// RFC 9422 §3.7: a broken parameter is no limit at all, a broken limit is passed over.
func TestParseLimits(t *testing.T) {
	for s, want := range map[string]bounds{
		"RCPTMAX=20 MAILMAX=5":               {mails: 5, recipients: 20}, // RFC 9422 §5
		"rcptdomainmax=999999":               {domains: 999999},
		"RCPTMAX=1000000 MAILMAX=0":          {},
		"RCPTMAX=05 MAILMAX=x RCPTDOMAINMAX": {},
		"FOO BAR=1 RCPTMAX=3":                {recipients: 3},
		"RCPTMAX=3 BAR=;":                    {},
		"RCPTMAX=3  MAILMAX=4":               {},
		"RCPTMAX=3 =":                        {},
		"":                                   {},
	} {
		if got := parseLimits(s); got != want {
			t.Errorf("%q: %+v, want %+v", s, got, want)
		}
	}
}

func FuzzValues(f *testing.F) {
	for _, s := range []string{"-9", "0", "120;R", "-999999999;NT", "+1;n", "rfc822;a+2Bb@c", "utf-8;ø", "RCPTMAX=20 MAILMAX=5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, ok := parsePriority(s); ok && (p < -9 || p > 9) {
			t.Errorf("priority %d", p)
		}
		if in, back, trace, ok := parseBy(s); ok {
			again, back2, trace2, ok := parseBy(string(appendBy(nil, in, back, trace)))
			if !ok || again != in || back2 != back || trace2 != trace || in.Abs() > 999_999_999*time.Second {
				t.Errorf("%q: %v became %v", s, in, again)
			}
		}
		if isOriginal(s, false) && (!isPrintable(s) || !strings.Contains(s, ";")) {
			t.Errorf("%q is an address", s)
		}
		isOriginal(s, true)
		if l := parseLimits(s); l.mails < 0 || l.recipients > maxLimit || l.domains > maxLimit {
			t.Errorf("%q: %+v", s, l)
		}
	})
}

// TestLimitsDigits: RFC 9422 §4.1: a number has six digits at most.
func TestLimitsDigits(t *testing.T) {
	const million = 1_000_000
	s := &Session{server: &Server{Offer: Offer{Limits: true}}, limits: Limits{Recipients: million, Mails: million, RecipientDomains: million}}
	if got := string(s.appendOffer(nil)); !strings.HasPrefix(got, "\nLIMITS RCPTMAX=999999 MAILMAX=999999 RCPTDOMAINMAX=999999") {
		t.Errorf("%q", got)
	}
}
