package mailbox

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"bothy/application/message"
)

func TestDirName(t *testing.T) {
	for account, want := range map[string]string{
		"keeper@clinic.example":    "keeper@clinic.example",
		"Keeper+a_b-c@x":           "Keeper+a_b-c@x",
		".":                        "%2E",
		"..":                       "%2E.",
		"../../etc/passwd":         "%2E.%2F..%2Fetc%2Fpasswd",
		"a/b":                      "a%2Fb",
		"a%2Fb":                    "a%252Fb",
		"a b\x00":                  "a%20b%00",
		"müller@x":                 "m%C3%BCller@x",
		"~a":                       "%7Ea",
		strings.Repeat("a", 200):   strings.Repeat("a", 200),
		strings.Repeat("a", 201):   "",
		strings.Repeat("/", 10000): "",
	} {
		got := dirName(account)
		if len(account) > maxDirName {
			if len(got) != maxDirName || got == dirName(account+"a") || !strings.Contains(got, "~") {
				t.Errorf("dirName(%.10q...) = %q", account, got)
			}
		} else if got != want {
			t.Errorf("dirName(%q) = %q, not %q", account, got, want)
		}
	}
}

func FuzzDirName(f *testing.F) {
	f.Add("..", "%2E.")
	f.Add("a/b", "a%2Fb")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := dirName(a), dirName(b)
		if a != b && x == y {
			t.Fatalf("%q and %q share %q", a, b, x)
		}
		if a != "" && (!filepath.IsLocal(x) || filepath.Base(x) != x || strings.ContainsAny(x, "/\\\x00") || x[0] == '.' || len(x) > 255) {
			t.Fatalf("%q is no safe name of %q", x, a)
		}
	})
}

func TestTrace(t *testing.T) {
	to := func(local string) message.Recipient {
		return message.Recipient{Address: message.Address{Local: local, Domain: "b.example"}}
	}
	for _, c := range []struct {
		env  message.Envelope
		want string
	}{
		{message.Envelope{}, "Return-Path: <>\r\n"}, // RFC 5321 §4.5.5
		{
			message.Envelope{ReversePath: message.Address{Local: "a b", Domain: "x.example"}, Recipients: []message.Recipient{to("x"), to("y")}},
			"Return-Path: <\"a b\"@x.example>\r\nDelivered-To: x@b.example\r\nDelivered-To: y@b.example\r\n",
		},
	} {
		if got := string(appendTrace(nil, &c.env)); got != c.want {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
}

func TestCopyMessage(t *testing.T) {
	long := strings.Repeat("x", 3*chunk)
	for _, c := range []struct{ name, in, want string }{
		{"plain", "A: b\r\n\r\nbody\r\n", "A: b\r\n\r\nbody\r\n"},
		{"removed", "Return-Path: <a>\r\nA: b\r\n\r\nbody\r\n", "A: b\r\n\r\nbody\r\n"},
		{"every one, in any case", "return-path: <a>\r\nA: b\r\nRETURN-PATH:<c>\r\nC: d\r\n\r\n", "A: b\r\nC: d\r\n\r\n"},
		{"folded", "A: b\r\n c\r\nReturn-Path:\r\n\t<a>\r\n x\r\nC: d\r\n e\r\n\r\n", "A: b\r\n c\r\nC: d\r\n e\r\n\r\n"},
		{"obsolete syntax", "Return-Path \t: <a>\r\nA: b\r\n\r\n", "A: b\r\n\r\n"},
		{"others that look like it", "Return-Pathx: a\r\nX-Return-Path: b\r\nReturn-Path\r\n\r\n", "Return-Pathx: a\r\nX-Return-Path: b\r\nReturn-Path\r\n\r\n"},
		{"not in the body", "A: b\r\n\r\nReturn-Path: <a>\r\n", "A: b\r\n\r\nReturn-Path: <a>\r\n"},
		{"only the field", "Return-Path: <a>\r\n", "\r\n"},
		{"last line open", "A: b\r\n\r\nbody", "A: b\r\n\r\nbody\r\n"},
		{"ends in LF", "A: b\r\n\r\nbody\n", "A: b\r\n\r\nbody\n\r\n"},
		{"ends in CR", "A: b\r\n\r\nbody\r", "A: b\r\n\r\nbody\r\r\n"},
		{"header only, open", "A: b", "A: b\r\n"},
		{"NUL passes (RFC 5321 §4.5.2)", "A: \x00\r\n\r\n\x00\r\n", "A: \x00\r\n\r\n\x00\r\n"},
		{"long line in header", "A: " + long + "\r\nReturn-Path: " + long + "\r\n " + long + "\r\nB: c\r\n\r\n", "A: " + long + "\r\nB: c\r\n\r\n"},
		{"long line in body", "A: b\r\n\r\n" + long, "A: b\r\n\r\n" + long + "\r\n"},
	} {
		var out bytes.Buffer
		n, err := copyMessage(t.Context(), &out, iotest.HalfReader(strings.NewReader(c.in)))
		if err != nil || n != int64(len(c.in)) || out.String() != c.want {
			t.Errorf("%s: read %d of %d, %v: %.200q", c.name, n, len(c.in), err, out.String())
		}
	}
	if _, err := copyMessage(t.Context(), &bytes.Buffer{}, iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("A: b\r\n")))); err == nil {
		t.Error("a body that breaks off is taken for whole")
	}
}

func FuzzCopyMessage(f *testing.F) {
	f.Add("Return-Path: <a>\r\n b\r\nA: b\r\n\r\nReturn-Path: c\r\n")
	f.Add("A\n\r\n \r")
	f.Fuzz(func(t *testing.T, in string) {
		var once, twice bytes.Buffer
		if _, err := copyMessage(t.Context(), &once, strings.NewReader(in)); err != nil {
			t.Fatal(err)
		}
		header, _, _ := strings.Cut("\r\n"+once.String(), "\r\n\r\n")
		if strings.Contains(strings.ToLower(header), "\nreturn-path:") && !strings.Contains(in, "\n\n") && !strings.HasPrefix(in, "\n") {
			t.Fatalf("%q still has a return path", once.String())
		}
		if !strings.HasSuffix(once.String(), "\r\n") {
			t.Fatalf("%q is open", once.String())
		}
		if _, err := copyMessage(t.Context(), &twice, bytes.NewReader(once.Bytes())); err != nil || twice.String() != once.String() {
			t.Fatalf("copied again, %q becomes %q (%v)", once.String(), twice.String(), err)
		}
	})
}
