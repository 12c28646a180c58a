package odmr

import (
	"slices"
	"strings"
	"testing"
)

func TestParseDomains(t *testing.T) { // RFC 2645 §5.2.1
	label := strings.Repeat("a", 63)
	for _, c := range []struct {
		arg  string
		want []string
		ok   bool
	}{
		{"", nil, true},
		{"example.org", []string{"example.org"}, true},
		{"example.org,example.com", []string{"example.org", "example.com"}, true},
		{"Example.ORG,example.org,EXAMPLE.com", []string{"example.org", "example.com"}, true},
		{"1.2", []string{"1.2"}, true},
		{"a-b.c--d.xn--p1ai", []string{"a-b.c--d.xn--p1ai"}, true},
		{label + "." + label + ".example", []string{label + "." + label + ".example"}, true},
		{strings.Repeat("a.b,", maxDomains-1) + "a.b", []string{"a.b"}, true},

		{"localhost", nil, false},
		{"example.org.", nil, false},
		{".example.org", nil, false},
		{"example..org", nil, false},
		{"example.org,", nil, false},
		{",example.org", nil, false},
		{"example.org,,example.com", nil, false},
		{"example.org, example.com", nil, false},
		{" example.org", nil, false},
		{"example.org ", nil, false},
		{"example.org example.com", nil, false},
		{"example.org;example.com", nil, false},
		{"#example.org", nil, false},
		{"@example.org", nil, false},
		{"-a.example", nil, false},
		{"a-.example", nil, false},
		{"a_b.example", nil, false},
		{"[192.0.2.1]", nil, false},
		{"*.example", nil, false},
		{"b\xfccher.example", nil, false},
		{"bücher.example", nil, false},
		{"a\x00.example", nil, false},
		{"a[.example", nil, false},
		{"a\r.example", nil, false},
		{label + "a.example", nil, false},
		{strings.Repeat("a.", 127) + "ab", nil, false},
		{strings.Repeat("a.b,", maxDomains) + "a.b", nil, false},
	} {
		got, ok := parseDomains(c.arg)
		if ok != c.ok || !slices.Equal(got, c.want) {
			t.Errorf("parseDomains(%q) = %q, %v", c.arg, got, ok)
		}
	}
}

func FuzzParseDomains(f *testing.F) {
	f.Add("example.org,example.com")
	f.Add("a-b.c,")
	f.Fuzz(func(t *testing.T, arg string) {
		domains, ok := parseDomains(arg)
		if !ok {
			return
		}
		if len(domains) > maxDomains {
			t.Fatalf("%d domains", len(domains))
		}
		again, ok := parseDomains(strings.TrimPrefix(strings.TrimPrefix(atrn(domains), "ATRN"), " "))
		if !ok || !slices.Equal(again, domains) {
			t.Fatalf("%q became %q, %v", domains, again, ok)
		}
		for _, d := range domains { // any part of it cut off is another domain, or none
			if !strings.Contains(d, ".") || strings.ContainsAny(d, " ,\r\n\x00") || d != strings.ToLower(d) {
				t.Fatalf("%q is no domain", d)
			}
		}
	})
}
