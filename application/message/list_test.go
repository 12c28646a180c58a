package message

import (
	"errors"
	"net/mail"
	"slices"
	"strings"
	"testing"
)

func TestParseAddressList(t *testing.T) {
	for _, c := range []struct {
		in   string
		want string // addresses, parted by spaces
	}{
		{"", ""},
		{" , ,", ""},
		{"a@x.example", "a@x.example"},
		{"A <a@X.example>", "a@x.example"},
		{"<a@x.example>", "a@x.example"},
		{`"Doe, John" <a@x.example>, b@x.example`, "a@x.example b@x.example"},
		{"John Q. Public <a@x.example>", "a@x.example"}, // RFC 5322 §4.1: obs-phrase
		{"=?UTF-8?Q?J=C3=B6rg?= <a@x.example>", "a@x.example"},
		{"Jörg <a@x.example>", "a@x.example"},    // RFC 6532 §3.2
		{"J\xf6rg <a@x.example>", "a@x.example"}, // Latin-1, from an old machine
		{"δ@παράδειγμα.example", "δ@παράδειγμα.example"},
		{"(c) a (c (d\\)) e) @ (c) x.example (c)", "a@x.example"},
		{"A (c) <(c) a@x.example (c)> (c)", "a@x.example"},
		{`"a b"@x.example`, `"a b"@x.example`},
		{`"a\"b" <"a\"b"@x.example>`, `"a\"b"@x.example`},
		{"a@[192.0.2.1]", "a@[192.0.2.1]"},
		{"a@[ IPv6:2001:db8::1 ]", "a@[ipv6:2001:db8::1]"},
		// RFC 5322 §4.4
		{"<@r.example,@s.example:a@x.example>", "a@x.example"},
		{"<@r.example,,:a@x.example>", "a@x.example"},
		{"a . b @ x . example", "a.b@x.example"},
		{`"a".b@x.example`, "a.b@x.example"},
		{",a@x.example,,b@x.example,", "a@x.example b@x.example"},
		// groups
		{"undisclosed-recipients:;", ""},
		{"Undisclosed recipients: ; (c)", ""},
		{"G: a@x.example, B <b@x.example>;, c@x.example", "a@x.example b@x.example c@x.example"},
		{"G:,a@x.example,;,H:;", "a@x.example"},
		// folded, as raw octets
		{"a@x.example,\r\n b@x.example", "a@x.example b@x.example"},
		// RFC 5322 §A.1.1 to §A.1.3, §A.5, §A.6.1
		{"Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>", "mary@x.test jdoe@example.org one@y.test"},
		{`<boss@nil.test>, "Giant; \"Big\" Box" <sysservices@example.net>`, "boss@nil.test sysservices@example.net"},
		{"A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;", "c@a.test joe@where.test jdoe@one.test"},
		{"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "pete@silly.test"},
		{"(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", ""},
		{"Mary Smith <@node.test:mary@example.net>, , jdoe@test   . example", "mary@example.net jdoe@test.example"},
	} {
		got, err := ParseAddressList(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		var texts []string
		for _, a := range got {
			texts = append(texts, a.String())
		}
		want := strings.Fields(strings.ReplaceAll(c.want, `"a b"`, `"a_b"`))
		for i := range want {
			want[i] = strings.ReplaceAll(want[i], `"a_b"`, `"a b"`)
		}
		if !slices.Equal(texts, want) {
			t.Errorf("%q: %q, want %q", c.in, texts, want)
		}
	}
}

func TestParseAddressListRefuses(t *testing.T) {
	for _, in := range []string{
		"a", "a b", "a@", "@x.example", "a@x.example b@x.example", "a b@x.example", "a@x.example;", "A <a@x.example", "A a@x.example>",
		"A <a>", "<>", "A <>", "A <a@x.example> b", "a@x.example <b@x.example>", "<a@x.example> <b@x.example>", "a..b@x.example", ".a@x.example",
		"a.@x.example", "a@x..example", "a@x.example.", "a@x y.example", "a@x_y.example", "G: a@x.example", "G:", ":;", "G: H: a@x.example;;",
		"G: a@x.example; b@x.example", "(a@x.example", "a@x.example)", `"a@x.example`, `"a" "b"@x.example`, `a"b"@x.example`, "a@[192.0.2.1",
		"a@[x]", "<@r.example a@x.example>", "<@r.example:>", "a@x.example\x00", "a\x00@x.example", "\"a\x00\"@x.example", "\xff@x.example",
		"a@x.example, b", "[a] <a@x.example>", "<<a@x.example>>",
	} {
		if got, err := ParseAddressList(in); !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

// FuzzParseAddressList: what is found is a mailbox, and its text is found again; what the standard library understands of plain
// lists, we understand in the same way.
func FuzzParseAddressList(f *testing.F) {
	for _, s := range []string{
		"A <a@x.example>, b@x.example", "G: a@x.example;", `"a b" <"a b"@x.example>`, "<@r.example:a@x.example>", "(c(d)) a . b @ x.example",
		"a@[192.0.2.1]", "δ@παράδειγμα.example", "=?utf-8?q?x?= <a@x.example>",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		found, err := ParseAddressList(s)
		if err != nil {
			return
		}
		var texts []string
		for _, a := range found {
			texts = append(texts, "<"+a.String()+">")
		}
		again, err := ParseAddressList(strings.Join(texts, ", "))
		if err != nil || !slices.Equal(again, found) {
			t.Fatalf("%q is %q, which is %q, %v", s, found, again, err)
		}
		if len(found) == 0 {
			return
		}
		std, err := mail.ParseAddressList(s)
		if err != nil {
			return // it refuses more than we do
		}
		for i, a := range std {
			at := strings.LastIndexByte(a.Address, '@')
			if i >= len(found) || a.Address[:at] != found[i].Local && !strings.ContainsAny(s, "\\(\"") {
				t.Fatalf("%q is %q, and %q elsewhere", s, found, a.Address)
			}
		}
	})
}

func BenchmarkParseAddressList(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseAddressList("Keeper of the Light <keeper@light.example>, \"Desk, Clinic\" <desk@clinic.example>"); err != nil {
			b.Fatal(err)
		}
	}
}
