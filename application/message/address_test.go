package message

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Address
	}{
		{"keeper@light.example", Address{"keeper", "light.example"}},
		{"Keeper@Light.EXAMPLE", Address{"Keeper", "light.example"}}, // RFC 5321 §2.4: the local part keeps its case
		{"a@b", Address{"a", "b"}},
		{"first.last+tag=x@a-b.example", Address{"first.last+tag=x", "a-b.example"}},
		{"!#$%&'*+-/=?^_`{|}~@x.example", Address{"!#$%&'*+-/=?^_`{|}~", "x.example"}},
		{`"a b"@x.example`, Address{"a b", "x.example"}},
		{`"a@b"@x.example`, Address{"a@b", "x.example"}},
		{`"plain"@x.example`, Address{"plain", "x.example"}}, // RFC 5321 §4.1.2: quoting does not change the mailbox
		{`"\a\"\\"@x.example`, Address{`a"\`, "x.example"}},
		{`""@x.example`, Address{"", "x.example"}},
		{"a@[192.0.2.1]", Address{"a", "[192.0.2.1]"}},
		{"a@[IPv6:2001:DB8::1]", Address{"a", "[ipv6:2001:db8::1]"}},
		{"a@[IPv6:::ffff:192.0.2.1]", Address{"a", "[ipv6:::ffff:192.0.2.1]"}},
		{"δοκιμή@παράδειγμα.example", Address{"δοκιμή", "παράδειγμα.example"}}, // RFC 6531 §3.3
		{"a@xn--hxajbheg2az3al.example", Address{"a", "xn--hxajbheg2az3al.example"}},
		{`"δ ο"@x.example`, Address{"δ ο", "x.example"}},
		{strings.Repeat("a", 244) + "@x.example", Address{strings.Repeat("a", 244), "x.example"}}, // RFC 5321 §4.5.3.1: VERP, SRS
		{"a@Ærø.example", Address{"a", "ærø.example"}},
	} {
		got, err := ParseAddress(c.in)
		if err != nil || got != c.want {
			t.Errorf("ParseAddress(%q) = %q, %v, want %q", c.in, got, err, c.want)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for _, in := range []string{
		"", "@", "a", "a@", "@x.example", "postmaster", "<a@x.example>", " a@x.example", "a@x.example ", "a @x.example",
		".a@x.example", "a.@x.example", "a..b@x.example", "a@b@x.example", "a,b@x.example", "a(c)@x.example", "a:b@x.example",
		`a"b@x.example`, `"a"b@x.example`, `"a@x.example`, `"a\"@x.example`, `"\`, "\"a\tb\"@x.example", "\"a\x00\"@x.example",
		"\"a\r\n\"@x.example", "a\x7f@x.example", "a@x.example.", "a@.x.example", "a@x..example", "a@-x.example", "a@x-.example",
		"a@x_y.example", "a@x y.example", "a@x.example\r\n", "a@x.exam\x00ple", "a@[192.0.2.256]", "a@[192.0.2.1", "a@192.0.2.1]", "a@[]",
		"a@[IPv6:]", "a@[IPv6:192.0.2.1]", "a@[2001:db8::1]", "a@[IPv6:fe80::1%eth0]", "a@[tag:content]", "a@[192.0.2.1].example",
		"\xff@x.example", "a@\xff.example", "\"\xff\"@x.example", "a\u0085@x.example", "a@b\u3002example", // an ideographic full stop
		"a@" + strings.Repeat("x", 64) + ".example",
		"a@\uff46jord.example", "a@\ufb01ord.example", "a@cafe\u0301.example", // RFC 5890 §2.3.2.1: to be mapped, so no U-labels
	} {
		if got, err := ParseAddress(in); !errors.Is(err, ErrAddress) {
			t.Errorf("ParseAddress(%q) = %q, %v", in, got, err)
		}
	}
	label := strings.Repeat("x", 63) + "."
	for _, in := range []string{
		strings.Repeat("a", 245) + "@x.example",                           // RFC 5321 §4.5.3.1.3
		`"` + strings.Repeat("a", 243) + `"@x.example`,                    // as written
		"a@" + label + label + label + label + "example",                  // RFC 5321 §4.5.3.1.2
		strings.Repeat("a", 60) + "@" + label + label + label + "example", // RFC 5321 §4.5.3.1.3
	} {
		if got, err := ParseAddress(in); !errors.Is(err, ErrAddressLength) {
			t.Errorf("ParseAddress(%q) = %q, %v", in, got, err)
		}
	}
}

func TestAddressString(t *testing.T) {
	for _, c := range []struct {
		a    Address
		want string
	}{
		{Address{}, ""},
		{Address{"Postmaster", ""}, "Postmaster"},
		{Address{"a.b", "x.example"}, "a.b@x.example"},
		{Address{"a b", "x.example"}, `"a b"@x.example`},
		{Address{`a"\`, "x.example"}, `"a\"\\"@x.example`},
		{Address{".a", "x.example"}, `".a"@x.example`},
		{Address{"", "x.example"}, `""@x.example`},
		{Address{"δ", "[192.0.2.1]"}, "δ@[192.0.2.1]"},
	} {
		if got := c.a.String(); got != c.want {
			t.Errorf("%#v: %q, want %q", c.a, got, c.want)
		}
		var back Address
		if err := back.UnmarshalText([]byte(c.want)); err != nil || back != c.a {
			t.Errorf("UnmarshalText(%q) = %#v, %v", c.want, back, err)
		}
	}
}

func TestAddressASCII(t *testing.T) {
	for _, c := range []struct {
		a, want Address
		ok      bool
	}{
		{Address{"a", "x.example"}, Address{"a", "x.example"}, true},
		{Address{"a", "παράδειγμα.example"}, Address{"a", "xn--hxajbheg2az3al.example"}, true},
		{Address{"δ", "παράδειγμα.example"}, Address{"δ", "xn--hxajbheg2az3al.example"}, false},
		{Address{"a", "[192.0.2.1]"}, Address{"a", "[192.0.2.1]"}, true},
	} {
		if got, ok := c.a.ASCII(); got != c.want || ok != c.ok {
			t.Errorf("%v.ASCII() = %v, %v", c.a, got, ok)
		}
	}
}

func TestEnvelopeText(t *testing.T) {
	want := Envelope{
		ReversePath: Address{"a", "x.example"},
		Recipients:  []Recipient{{Address: Address{"b", "y.example"}, Notify: NotifyFailure | NotifyDelay, Original: "rfc822;b"}},
		Body:        BodyBinary,
		Return:      ReturnHeaders,
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Envelope
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if got.ReversePath != want.ReversePath || got.Recipients[0] != want.Recipients[0] || got.Body != want.Body || got.Return != want.Return {
		t.Errorf("%s: %+v", text, got)
	}
	clone := want.Clone()
	clone.Recipients[0].Original = ""
	if want.Recipients[0].Original == "" {
		t.Error("Clone shares its recipients")
	}
}

func TestNotifyText(t *testing.T) {
	for text, want := range map[string]Notify{
		"": 0, "never": NotifyNever, "SUCCESS,FAILURE": NotifySuccess | NotifyFailure, "Delay": NotifyDelay,
	} {
		var n Notify
		if err := n.UnmarshalText([]byte(text)); err != nil || n != want {
			t.Errorf("%q: %v, %v", text, n, err)
		}
	}
	for _, text := range []string{"NEVER,DELAY", ",", "DELAY,", "x"} { // RFC 3461 §4.1
		var n Notify
		if err := n.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: %v", text, n)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"a@b.example", `"a b\""@b.example`, "a@[IPv6:::1]", "δ@παράδειγμα.example", ".a@b", "a@B.Example."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		text := a.String()
		if back, err := ParseAddress(text); err != nil || back != a {
			t.Fatalf("%q is %#v, written %q, read again %#v, %v", s, a, text, back, err)
		}
		if strings.ContainsAny(text, "\r\n\x00") {
			t.Fatalf("%q holds a control: %q", s, text)
		}
	})
}

func BenchmarkParseAddress(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseAddress("keeper@light.example"); err != nil {
			b.Fatal(err)
		}
	}
}
