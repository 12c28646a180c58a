package mtasts

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// example is RFC 8461 §3.2's.
const example = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmx: backupmx.example.com\r\nmax_age: 604800\r\n"

func TestParsePolicy(t *testing.T) {
	p, err := ParsePolicy(example)
	want := []string{"mail.example.com", "*.example.net", "backupmx.example.com"}
	if err != nil || p.Mode != Enforce || p.MaxAge != 7*24*time.Hour || !slices.Equal(p.MX, want) {
		t.Errorf("%+v, %v", p, err)
	}
	for name, text := range map[string]string{
		"LF":                      strings.ReplaceAll(example, "\r\n", "\n"),
		"no last line end":        strings.TrimSuffix(example, "\r\n"),
		"unknown fields":          example + "x-note: hello: world\r\n",
		"the first of each":       example + "mode: none\r\nversion: STSv2\r\nmax_age: 1\r\n",
		"trailing white space":    strings.ReplaceAll(example, "\r\n", " \t\r\n"),
		"no space after colon":    strings.ReplaceAll(example, ": ", ":"),
		"upper case in a pattern": strings.Replace(example, "mail.example.com", "Mail.Example.COM", 1),
	} {
		if got, err := ParsePolicy(text); err != nil || got.Mode != Enforce || got.MaxAge != p.MaxAge || !slices.Equal(got.MX, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if p, err := ParsePolicy("version: STSv1\nmode: none\nmax_age: 9999999999\n"); err != nil || p.Mode != None || p.MaxAge != maxAge {
		t.Errorf("none: %+v, %v", p, err)
	}
	for name, text := range map[string]string{
		"empty":            "",
		"another version":  strings.Replace(example, "STSv1", "STSv2", 1),
		"no version":       strings.Replace(example, "version: STSv1\r\n", "", 1),
		"no mode":          strings.Replace(example, "mode: enforce\r\n", "", 1),
		"another mode":     strings.Replace(example, "enforce", "Enforce", 1),
		"no mx":            "version: STSv1\nmode: testing\nmax_age: 1\n",
		"no max_age":       strings.Replace(example, "max_age: 604800\r\n", "", 1),
		"negative max_age": strings.Replace(example, "604800", "-1", 1),
		"eleven digits":    strings.Replace(example, "604800", "00000000001", 1),
		"a web page":       "<html>\r\n<body>version: STSv1</body>",
		"mx inside a name": strings.Replace(example, "*.example.net", "a.*.example.net", 1),
		"a bare star":      strings.Replace(example, "*.example.net", "*", 1),
		"mx of dots":       strings.Replace(example, "*.example.net", "..", 1),
		"too many mx":      example + strings.Repeat("mx: a.example\n", maxPatterns),
	} {
		if p, err := ParsePolicy(text); !errors.Is(err, errPolicy) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

func TestMatches(t *testing.T) { // RFC 8461 §4.1
	p, _ := ParsePolicy(example)
	for host, want := range map[string]bool{
		"mail.example.com": true, "backupmx.example.com": true, "a.example.net": true,
		"example.net": false, "a.b.example.net": false, "mail.example.com.evil.example": false, "xmail.example.com": false,
		"evilexample.net": false, "a.evilexample.net": false, "": false, "*.example.net": true, ".example.net": true,
	} {
		if got := p.Matches(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestParseRecord(t *testing.T) { // RFC 8461 §3.1
	for _, test := range []struct {
		texts []string
		id    string
	}{
		{[]string{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z"},
		{[]string{"v=STSv1;id=1"}, "1"},
		{[]string{"v=STSv1 ; x=y; id=1 ; id=2"}, "1"},
		{[]string{"v=spf1 -all", "v=STSv1; id=1;"}, "1"},
		{[]string{"v=STSv1; id=1;", "v=STSv1; id=2;"}, ""},
		{[]string{"v=STSv1;"}, ""},
		{[]string{"v=STSv12; id=1"}, ""},
		{[]string{" v=STSv1; id=1"}, ""},
		{[]string{"v=STSv1; id=a b"}, ""},
		{[]string{"v=STSv1; id=" + strings.Repeat("a", 33)}, ""},
		{nil, ""},
	} {
		if id, ok := ParseRecord(test.texts); id != test.id || ok != (test.id != "") {
			t.Errorf("%q: %q, %v", test.texts, id, ok)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(example)
	f.Add("version:STSv1\nmode:none\nmax_age:0")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePolicy(text)
		if err != nil {
			return
		}
		if p.MaxAge < 0 || p.MaxAge > maxAge || len(p.MX) > maxPatterns || p.Mode != None && len(p.MX) == 0 {
			t.Fatalf("%+v", p)
		}
		for _, pattern := range p.MX {
			if host, wild := strings.CutPrefix(pattern, "*."); !wild && !p.Matches(host) || wild && !p.Matches("a."+host) {
				t.Fatalf("%q does not match itself", pattern)
			}
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	f.Add("v=STSv1; id=20160831085700Z;")
	f.Fuzz(func(t *testing.T, text string) {
		if id, ok := ParseRecord([]string{text}); ok != isID(id) {
			t.Fatalf("%q: %q", text, id)
		}
	})
}
