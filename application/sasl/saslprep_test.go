package sasl

import (
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
)

// RFC 4013 §3, then what it implies.
func TestPrepare(t *testing.T) {
	tests := []struct{ in, want string }{ // want "" means refused
		{"I\u00adX", "IX"},
		{"user", "user"},
		{"USER", "USER"},
		{"\u00aa", "a"},
		{"\u2168", "IX"},
		{"\x07", ""},
		{"\u0627\u0031", ""},
		{"", ""},
		{"\u00ad", ""},
		{"a\u00a0b", "a b"},
		{"pass\u200bword", "password"},
		{"\u0627\u0031\u0628", "\u0627\u0031\u0628"},
		{"\u0627a\u0628", ""},
		{"ab\x7f", ""},
		{"\xff", ""},
		{"\ue000", ""},
		{"\U0001ffff", ""},
		{"\U0001f511 key", "\U0001f511 key"}, // not in Unicode 3.2
	}
	for _, test := range tests {
		got, err := Prepare(test.in)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%+q: %+q, %v; want %+q", test.in, got, err, test.want)
		}
	}
}

// Each code point that Unicode 3.2 knew comes out as in another implementation with that version's tables, or is refused by both.
func TestPrepareOracle(t *testing.T) {
	differ := 0
	for r := rune(0); r <= unicode.MaxRune; r++ {
		switch r { // nothing there, or private use all over
		case 0x30000:
			r = 0xE0000
		case 0xF0010:
			r = 0x10FFF0
		}
		if !utf8.ValidRune(r) || stringprep.TableA1.Contains(r) || r == 0x1806 { // RFC 3454 §B.1 has U+1806; their copy lacks it
			continue
		}
		got, err1 := Prepare(string(r))
		want, err2 := stringprep.SASLprep.Prepare(string(r))
		if want == "" { // we refuse what comes out empty
			err2 = errPrepare
		}
		if got != want && err2 == nil || (err1 == nil) != (err2 == nil) {
			differ++
			t.Errorf("%U: %+q, %v; theirs %+q, %v", r, got, err1, want, err2)
		}
		if differ > 20 {
			t.FailNow()
		}
	}
}

func FuzzPrepare(f *testing.F) {
	f.Add("I\u00adX")
	f.Add("\u0627\u0031\u0628")
	f.Fuzz(func(t *testing.T, s string) {
		once, err := Prepare(s)
		if err != nil {
			return
		}
		if twice, err := Prepare(once); err != nil || twice != once || !utf8.ValidString(once) || once == "" {
			t.Fatalf("%+q: %+q, then %+q, %v", s, once, twice, err)
		}
	})
}
