package message

import (
	"strings"
	"testing"
	"time"
)

func TestAppendField(t *testing.T) {
	word := strings.Repeat("w", 30)
	for _, c := range []struct{ value, want string }{
		{"short", "Name: short\r\n"},
		{"", "Name: \r\n"},
		{" around\t", "Name: around\r\n"},
		{word + " " + word + " " + word, "Name: " + word + " " + word + "\r\n " + word + "\r\n"},
		{word + "  " + word + "\t" + word, "Name: " + word + "  " + word + "\r\n\t" + word + "\r\n"},
		{strings.Repeat("w", 200), "Name: " + strings.Repeat("w", 200) + "\r\n"},
		{"a\r\nBcc: b", "Name: a  Bcc: b\r\n"},
		{"a\r\n\r\nb\x00\n", "Name: a    b\r\n"},
	} {
		if got := string(AppendField(nil, "Name", c.value)); got != c.want {
			t.Errorf("%q: %q, want %q", c.value, got, c.want)
		}
	}
}

// FuzzAppendField: whatever the value, one field comes of it, which unfolds to the value.
func FuzzAppendField(f *testing.F) {
	f.Add("a b")
	f.Add("a\r\n\r\nb: c")
	f.Add(strings.Repeat("word  \t", 40))
	f.Fuzz(func(t *testing.T, value string) {
		h, body := whole(t, string(AppendField(nil, "Name", value))+"\r\n", 1<<20)
		want := strings.Trim(strings.NewReplacer("\r", " ", "\n", " ", "\x00", " ").Replace(value), " \t")
		if h.Len() != 1 || body != "" || h.Get("name") != want {
			t.Fatalf("%q became %d fields, %q, body %q", value, h.Len(), h.Get("name"), body)
		}
	})
}

func TestReturnPath(t *testing.T) {
	for _, c := range []struct {
		a    Address
		want string
	}{
		{Address{}, "Return-Path: <>\r\n"}, // RFC 5321 §4.4
		{Address{"a b", "x.example"}, "Return-Path: <\"a b\"@x.example>\r\n"},
	} {
		if got := string(AppendReturnPath(nil, c.a)); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestFormatDate(t *testing.T) {
	zone := time.FixedZone("", 5*3600+30*60)
	for _, c := range []struct {
		t    time.Time
		want string
	}{
		{time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), "Fri, 02 Jan 2026 03:04:05 +0000"},
		{time.Date(2026, 11, 21, 23, 59, 59, 0, zone), "Sat, 21 Nov 2026 23:59:59 +0530"},
	} {
		if got := FormatDate(c.t); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
