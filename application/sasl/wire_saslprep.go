package sasl

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
)

var errPrepare = errors.New("empty, not UTF-8, or with characters that SASLprep prohibits (RFC 4013 §2.3)")

// Prepare brings a user name or password into the form in which it is compared and hashed: SASLprep, RFC 4013 §2. It fails for what comes
// out empty, which no name or password may be (RFC 5802 §5.1).
func Prepare(s string) (string, error) {
	if isPrintableASCII(s) {
		return s, nil
	}
	if !utf8.ValidString(s) {
		return "", errPrepare
	}
	s = norm.NFKC.String(strings.Map(mapRune, s)) // RFC 4013 §2.1, §2.2
	if s == "" || strings.ContainsFunc(s, prohibited) || !oneDirection(s) {
		return "", errPrepare
	}
	return s, nil
}

func isPrintableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// mapRune is RFC 4013 §2.1: what is commonly mapped to nothing goes, other spaces become SPACE. U+200B is in both tables; it goes.
func mapRune(r rune) rune {
	switch {
	case unicode.Is(tableB1, r):
		return -1
	case unicode.Is(tableC12, r):
		return ' '
	}
	return r
}

// prohibited is RFC 4013 §2.3.
func prohibited(r rune) bool {
	return unicode.Is(tableC, r) || unicode.Is(tableC12, r) || r&0xFFFE == 0xFFFE // RFC 3454 §C.4: the last two of each plane
}

// oneDirection is RFC 3454 §6: text with a right-to-left character begins and ends with one and has no left-to-right one.
func oneDirection(s string) bool {
	first, _ := bidi.LookupString(s)
	var last bidi.Class
	var left, right bool
	for _, r := range s {
		p, _ := bidi.LookupRune(r)
		last = p.Class()
		left = left || last == bidi.L
		right = right || isRightToLeft(last)
	}
	return !right || !left && isRightToLeft(first.Class()) && isRightToLeft(last)
}

func isRightToLeft(c bidi.Class) bool { return c == bidi.R || c == bidi.AL }

// The tables of RFC 3454 that RFC 4013 names.
var (
	tableB1 = &unicode.RangeTable{R16: []unicode.Range16{ // commonly mapped to nothing
		{0x00AD, 0x00AD, 1},
		{0x034F, 0x034F, 1},
		{0x1806, 0x1806, 1},
		{0x180B, 0x180D, 1},
		{0x200B, 0x200D, 1},
		{0x2060, 0x2060, 1},
		{0xFE00, 0xFE0F, 1},
		{0xFEFF, 0xFEFF, 1},
	}}
	tableC12 = &unicode.RangeTable{R16: []unicode.Range16{ // spaces other than ASCII's
		{0x00A0, 0x00A0, 1},
		{0x1680, 0x1680, 1},
		{0x2000, 0x200B, 1},
		{0x202F, 0x202F, 1},
		{0x205F, 0x205F, 1},
		{0x3000, 0x3000, 1},
	}}
	tableC = &unicode.RangeTable{
		R16: []unicode.Range16{
			{0x0000, 0x001F, 1}, // C.2.1 control characters
			{0x007F, 0x009F, 1}, // C.2.1, C.2.2
			{0x0340, 0x0341, 1}, // C.8 deprecated or changing the display
			{0x06DD, 0x06DD, 1}, // C.2.2
			{0x070F, 0x070F, 1}, // C.2.2
			{0x180E, 0x180E, 1}, // C.2.2
			{0x200C, 0x200F, 1}, // C.2.2, C.8
			{0x2028, 0x202E, 1}, // C.2.2, C.8
			{0x2060, 0x2063, 1}, // C.2.2
			{0x206A, 0x206F, 1}, // C.2.2, C.8
			{0x2FF0, 0x2FFB, 1}, // C.7 inappropriate for canonical representation
			{0xD800, 0xF8FF, 1}, // C.5 surrogates, C.3 private use
			{0xFDD0, 0xFDEF, 1}, // C.4 not characters
			{0xFEFF, 0xFEFF, 1}, // C.2.2
			{0xFFF9, 0xFFFF, 1}, // C.2.2, C.6 inappropriate for plain text, C.4
		},
		R32: []unicode.Range32{
			{0x1D173, 0x1D17A, 1},   // C.2.2
			{0xE0001, 0xE0001, 1},   // C.9 tags
			{0xE0020, 0xE007F, 1},   // C.9
			{0xF0000, 0xFFFFF, 1},   // C.3, C.4
			{0x100000, 0x10FFFF, 1}, // C.3, C.4
		},
		LatinOffset: 2,
	}
)
