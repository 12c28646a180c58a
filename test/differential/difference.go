package differential

import (
	"fmt"
	"regexp"
	"strings"
)

// usual is the envelope where it does not matter, as records tell it: not at all.
const usual = "<aunt@elsewhere.example> to <keeper@far.example>"

// describe tells a delivery as records do: the envelope, and how the text differs from what was sent.
func (d Delivery) describe(texts []string) string {
	to := "<" + strings.Join(d.To, "> <") + ">"
	if len(d.To) > 3 {
		to = fmt.Sprintf("%d recipients", len(d.To))
	}
	envelope := show("<"+d.From+">") + " to " + show(to)
	if envelope == usual {
		return difference(texts, d.Text)
	}
	return envelope + ": " + difference(texts, d.Text)
}

// difference names what happened to a text on its way.
func difference(texts []string, got string) string {
	for _, want := range texts {
		if want == got {
			return "as sent"
		}
	}
	if got == smuggled {
		return "THE SMUGGLED MESSAGE"
	}
	for _, want := range texts {
		bare, added := withoutAdded(want, got)
		if name, ok := change(want, bare); ok {
			return name + added
		}
	}
	for _, want := range texts {
		n := 0
		rest, added := withoutAdded(want, got)
		for n < min(len(want), len(rest)) && want[n] == rest[n] {
			n++
		}
		if n > 0 {
			return fmt.Sprintf("changed: %+q for %+q", excerpt(rest, n), excerpt(want, n)) + added
		}
	}
	return fmt.Sprintf("not sent as a message: %+q", excerpt(got, 0))
}

// excerpt is what stands around an offset.
func excerpt(s string, at int) string { return s[max(0, at-4):min(len(s), at+24)] }

var addable = []struct {
	name string
	line *regexp.Regexp
}{
	{"Date", regexp.MustCompile(`(?m)^Date: [^\r\n]*\r\n`)},
	{"Message-ID", regexp.MustCompile(`(?mi)^Message-ID: <[0-9a-z.]+@[^>\r\n]*>\r\n`)},
}

// withoutAdded takes out of a text the fields that a server added to it.
func withoutAdded(want, got string) (rest, added string) {
	var names []string
	for _, f := range addable {
		if at := f.line.FindStringIndex(got); at != nil && !f.line.MatchString(want) {
			got = got[:at[0]] + got[at[1]:]
			names = append(names, f.name)
		}
	}
	if names == nil {
		return got, ""
	}
	return got, addedMark + strings.Join(names, " and ")
}

// addedMark begins what records say of added fields.
const addedMark = "; added: "

// treatment is what a server does with an octet that stands alone.
type treatment struct{ name, as string }

var (
	treatLF = []treatment{{"", "\n"}, {"LF made CRLF", "\r\n"}, {"LF made space", " "}, {"LF removed", ""}}
	treatCR = []treatment{{"", "\r"}, {"CR made CRLF", "\r\n"}, {"CR made space", " "}, {"CR removed", ""}}
)

// change finds a known change that makes got of want.
func change(want, got string) (name string, ok bool) {
	unstuffed := strings.ReplaceAll(strings.ReplaceAll(bare(want, "\n", lone), lone+".", lone), lone, "\n")
	sources := []struct{ name, text string }{
		{"", want},
		{"dots behind it removed", unstuffed},
		{"NUL removed", strings.ReplaceAll(want, "\x00", "")},
		{"cut at NUL", afterNUL.ReplaceAllString(want, "$1")},
	}
	for _, source := range sources {
		for _, lf := range treatLF {
			for _, cr := range treatCR {
				text := strings.ReplaceAll(bare(bare(source.text, "\n", lone), "\r", cr.as), lone, lf.as)
				name := joined(lf.name, cr.name, source.name)
				switch {
				case text == got && name == "":
					return "as sent", true
				case text == got:
					return name, true
				case text+"\r\n" == got:
					return joined(name, "CRLF put behind it"), true
				case "\r\n"+text == got:
					return joined(name, "an empty line put before it"), true
				}
			}
		}
	}
	for _, c := range changes {
		if c.make(want) == got {
			return c.name, true
		}
	}
	if strings.ReplaceAll(got, "\r\n ", "") == strings.ReplaceAll(want, "\r\n ", "") {
		return "long lines folded", true
	}
	if strings.ReplaceAll(got, "\r\n", "") == strings.ReplaceAll(want, "\r\n", "") {
		return "long lines cut in two", true
	}
	joined := strings.NewReplacer("\r", "", "\n", "", " ", "")
	switch had, has := joined.Replace(want), joined.Replace(got); {
	case had == has:
		return "line ends changed", true
	case has != "" && strings.HasPrefix(had, has):
		return "CUT SHORT", true
	}
	return "", false
}

// joined names several changes.
func joined(names ...string) string {
	var all []string
	for _, n := range names {
		if n != "" {
			all = append(all, n)
		}
	}
	return strings.Join(all, ", ")
}

// changes are others.
var changes = []struct {
	name string
	make func(string) string
}{
	{"8th bits cleared", func(s string) string {
		b := []byte(s)
		for i := range b {
			b[i] &= 0x7f
		}
		return string(b)
	}},
	{"field removed", func(s string) string { return removable.ReplaceAllString(s, "") }},
	{"space before the colon removed", func(s string) string { return strings.Replace(s, " :", ":", 1) }},
}

var afterNUL = regexp.MustCompile(`\x00[^\n]*?(\r?\n)`)

// lone stands for an LF that stands alone, in texts that are being changed.
const lone = "\x1aLF\x1a"

var removable = regexp.MustCompile(`(?mi)^(?:Bcc|Resent-Bcc|Return-Path|Content-Length|Delivered-To):[^\r\n]*\r\n`)

// bare replaces the octet old where it is not part of CRLF.
func bare(s, old, with string) string {
	lines := strings.Split(s, "\r\n")
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], old, with)
	}
	return strings.Join(lines, "\r\n")
}
