package join

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"bothy/application/sasl"
)

func sample() Token {
	return Token{
		Host: "mail.provider.example", Calls: 366, Submission: 587, Pin: strings.Repeat("0a", 32), Own: true, Account: "clinic.example",
		ID: "abcdefgh", Secret: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Expires: time.Date(2026, 3, 8, 12, 0, 0, 0, time.UTC),
		Domains: []string{"clinic.example", "lab.clinic.example"},
	}
}

func TestToken(t *testing.T) {
	want := sample()
	text := want.String()
	t.Logf("%d characters: %s", len(text), text)
	for _, s := range []string{text, "  " + text + "\n", text[:40] + "\r\n  " + text[40:]} {
		if got, err := Parse(s); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	if want.Address() != "mail.provider.example:366" || want.SubmissionAddress() != "mail.provider.example:587" || (Token{}).SubmissionAddress() != "" {
		t.Error(want.Address(), want.SubmissionAddress())
	}
	// Every typing error is found: one character changed, left out, or said twice, and two that stand beside each other exchanged.
	const others = "Aa0-_Zz9"
	for i := len("bothy1-"); i < len(text); i++ {
		wrong := []string{text[:i] + text[i+1:], text[:i] + text[i:i+1] + text[i:], text[:i]}
		for _, c := range others {
			wrong = append(wrong, text[:i]+string(c)+text[i+1:])
		}
		if i+1 < len(text) {
			wrong = append(wrong, text[:i]+text[i+1:i+2]+text[i:i+1]+text[i+2:])
		}
		for _, s := range wrong {
			if _, err := Parse(s); s != text && !errors.Is(err, ErrTypo) {
				t.Errorf("at %d: %v for %q", i, err, s)
			}
		}
	}
	for s, want := range map[string]error{
		"": ErrNoToken, "hello": ErrNoToken, "bothy": ErrNoToken, "bothy1": ErrNoToken, "bothy0-AAAA": ErrNoToken, "bothy2-AAAA": ErrNewer, "bothy12-x": ErrNewer,
		"bothy1-": ErrTypo, "bothy1-AAAA": ErrTypo, "bothy01-AAAA": ErrNoToken, "bothy1-" + strings.Repeat("A", maxToken): ErrNoToken,
	} {
		if _, err := Parse(s); !errors.Is(err, want) {
			t.Errorf("%.20q: %v, want %v", s, err, want)
		}
	}
}

func TestRequest(t *testing.T) {
	v, err := sasl.NewVerifier("", "pencil", 4096)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []request{{v, ""}, {v, strings.Repeat("ab", 32)}} {
		if got, ok := parseRequest(want.String()); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v", want, got)
		}
	}
	for _, s := range []string{
		"", "PLAIN$4096:AAAA$AAAA:AAAA", "SCRAM-SHA-256$4096:AAAA", "SCRAM-SHA-256$x:AAAA$AAAA:AAAA", "SCRAM-SHA-256$04096:AAAA$AAAA:AAAA",
		"SCRAM-SHA-256$4096$AAAA:AAAA", "SCRAM-SHA-256$4096:A$AAAA:AAAA", "SCRAM-SHA-256$4096:AAAA$AAAA", "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA$",
	} {
		if r, ok := parseRequest(s); ok {
			t.Errorf("%q is a request: %+v", s, r)
		}
	}
	if g, ok := parseGrant(Grant{Account: "clinic", Domains: []string{"a.example", "b.example"}}.text() + "\nNEWS x"); !ok || g.Account != "clinic" || len(g.Domains) != 2 {
		t.Errorf("%+v", g)
	}
	if _, ok := parseGrant("welcome"); ok {
		t.Error("a grant of nothing")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample().String())
	f.Add("bothy1-AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := Parse(s)
		if err == nil && token.String() != strings.Join(strings.Fields(s), "") {
			t.Errorf("%q is %+v, which is %q", s, token, token.String())
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU= " + strings.Repeat("ab", 32))
	f.Fuzz(func(t *testing.T, s string) {
		if r, ok := parseRequest(s); ok && r.String() != strings.TrimSuffix(s, " ") {
			t.Errorf("%q is %q", s, r)
		}
	})
}

func FuzzGrant(f *testing.F) {
	f.Add("welcome\nACCOUNT clinic\nDOMAINS a.example,b.example")
	f.Fuzz(func(t *testing.T, s string) { parseGrant(s) })
}
