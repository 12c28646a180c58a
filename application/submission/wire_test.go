package submission

import (
	"slices"
	"strings"
	"testing"

	"bothy/application/message"
)

func TestMailboxes(t *testing.T) {
	for value, want := range map[string]string{
		"root (Cron Daemon)":                              "root",
		"Cron <root>":                                     "root",
		"a@b.example, root, \"c d\"@E.Example":            "a@b.example root \"c d\"@e.example",
		"J. Doe <@hop.example,@hop2.example:j@b.example>": "j@b.example",
		"crew: keeper, nurse@light.example;, root":        "keeper nurse@light.example root",
		"undisclosed-recipients:;":                        "",
		", a@b.example,,":                                 "a@b.example",
		"a . b @ c . example":                             "a.b@c.example",
		"(one (two)) a@[192.0.2.1] (three)":               "a@[192.0.2.1]",
		"\"root@x\" <keeper>":                             "keeper",
		"=?utf-8?q?K=C3=A9eper?= <keeper@light.example>":  "keeper@light.example",
		"Kéeper <δ@light.example>":                        "δ@light.example",
		"a b":                                             "error",
		"a..b":                                            "error",
		"a@":                                              "error",
		"@b.example":                                      "error",
		"<a":                                              "error",
		"a>":                                              "error",
		"a <b> c":                                         "error",
		"a <b@c.example":                                  "error",
		"crew: a":                                         "error",
		"a;":                                              "error",
		"(a":                                              "error",
		"\"a":                                             "error",
		"a@b@c.example":                                   "error",
		"a\\b":                                            "error",
		"<<a@b.example>>":                                 "error",
	} {
		found, ok := mailboxes(value)
		var texts []string
		for _, m := range found {
			texts = append(texts, m.String())
		}
		if got := strings.Join(texts, " "); ok == (want == "error") || ok && got != want {
			t.Errorf("%q: %q, %t; want %q", value, got, ok, want)
		}
	}
}

func TestReplaceMailboxes(t *testing.T) {
	whole := func(m message.Address) message.Address {
		if m.Domain == "" {
			m.Domain = "light.example"
		}
		return m
	}
	for value, want := range map[string]string{
		"root (Cron Daemon)":              "root@light.example (Cron Daemon)",
		"\"a <b\" <root>, x@y.example":    "\"a <b\" <root@light.example>, x@y.example",
		"crew: a , b;":                    "crew: a@light.example , b@light.example;",
		"=?utf-8?q?=C3=A9?= <\"a b\">":    "=?utf-8?q?=C3=A9?= <\"a b\"@light.example>",
		"(c) X @ Y . example (d) , z (e)": "(c) X @ Y . example (d) , z@light.example (e)",
	} {
		if got, ok := replaceMailboxes(value, whole); !ok || got != want {
			t.Errorf("%q became %q, want %q", value, got, want)
		}
	}
}

// FuzzMailboxes: what message takes for a list of addresses is one here, and of the same addresses; what was completed is one for message.
func FuzzMailboxes(f *testing.F) {
	f.Add("a@b.example, \"x y\" <@r.example:c@[192.0.2.1]>, g: d@e.example;")
	f.Add("root (Cron Daemon), a . b @ c . d")
	f.Fuzz(func(t *testing.T, value string) {
		found, ok := mailboxes(value)
		list, err := message.ParseAddressList(value)
		if err != nil {
			return
		}
		if strings.ContainsAny(value, "\r\n") {
			return // a value is unfolded
		}
		var here []message.Address
		for _, m := range found {
			here = append(here, m.Address)
		}
		if !ok || !slices.Equal(here, list) {
			t.Fatalf("%q: %q, %t; want %q", value, here, ok, list)
		}
		again, ok := replaceMailboxes(value, func(m message.Address) message.Address {
			return message.Address{Local: "x", Domain: "y.example"}
		})
		if after, err := message.ParseAddressList(again); !ok || err != nil || len(after) != len(list) {
			t.Fatalf("%q became %q: %v", value, again, err)
		}
	})
}

func TestDates(t *testing.T) {
	for s, want := range map[string]string{
		"2026-01-02T15:04:05+01:00":             "Fri, 02 Jan 2026 15:04:05 +0100",
		"2026-01-02 15:04:05":                   "Fri, 02 Jan 2026 15:04:05 +0000",
		"Fri Jan  2 15:04:05 2026":              "Fri, 02 Jan 2026 15:04:05 +0000",
		"Friday, 2 January 2026 15:04:05 +0100": "Fri, 02 Jan 2026 15:04:05 +0100",
		"Fri, 2 Jan 2026 15:04:05":              "Fri, 02 Jan 2026 15:04:05 +0000",
	} {
		got, ok := parseOddDate(s)
		if isDate(s) || !ok || message.FormatDate(got) != want {
			t.Errorf("%q is %v, %t", s, got, ok)
		}
	}
	for _, s := range []string{"yesterday", "", "0000-01-02 15:04:05", "2/1/26"} {
		if _, ok := parseOddDate(s); ok || isDate(s) {
			t.Errorf("%q is a date", s)
		}
	}
}
