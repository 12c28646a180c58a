package smtp

import (
	"strconv"
	"strings"
	"time"
)

// The values of the parameters that have a syntax of their own.

// isOriginal reports whether s is an original-recipient-address: an atom, ";" and xtext that decodes to printable ASCII
// (RFC 3461 §4.2). Of the type utf-8, in an internationalized message, the address may be UTF-8 as it is (RFC 6533 §3).
func isOriginal(s string, unicode bool) bool {
	kind, address, ok := strings.Cut(s, ";")
	if !ok || !isAtom(kind) {
		return false
	}
	if unicode && strings.EqualFold(kind, "utf-8") {
		address = strings.Map(func(r rune) rune {
			if r >= 0x80 && r != '\uFFFD' { // what is not UTF-8 reads as U+FFFD
				return 'x'
			}
			return r
		}, address)
	}
	text, ok := parseXtext(address)
	return ok && isPrintable(text)
}

// isAtom is the atom of RFC 822 that RFC 3461 §4.2 means, without "=", which no parameter may hold.
func isAtom(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || strings.IndexByte(`()<>@,;:\".[]=`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// parsePriority reads a priority-value (RFC 6710 §7).
func parsePriority(s string) (priority int8, ok bool) {
	digit, negative := strings.CutPrefix(s, "-")
	if len(digit) != 1 || !isDigits(digit) || negative && digit == "0" {
		return 0, false
	}
	priority = int8(digit[0] - '0')
	if negative {
		priority = -priority
	}
	return priority, true
}

// parseBy reads a by-value (RFC 2852 §4): how long from now, whether the message then goes back, and whether relays tell.
func parseBy(s string) (in time.Duration, back, trace, ok bool) {
	number, mode, ok := strings.Cut(s, ";")
	digits := number
	if number != "" && (number[0] == '-' || number[0] == '+') {
		digits = number[1:]
	}
	if !ok || !isDigits(digits) || len(digits) > 9 {
		return 0, false, false, false
	}
	mode = strings.ToUpper(mode)
	if mode != "N" && mode != "R" && mode != "NT" && mode != "RT" {
		return 0, false, false, false
	}
	seconds, err := strconv.Atoi(number)
	return time.Duration(seconds) * time.Second, mode[0] == 'R', len(mode) == 2, err == nil
}

// appendBy appends a by-value.
func appendBy(b []byte, in time.Duration, back, trace bool) []byte {
	const most = 999_999_999 * time.Second // RFC 2852 §4
	b = strconv.AppendInt(b, int64(min(max(in, -most), most)/time.Second), 10)
	if b = append(b, ";N"...); back {
		b[len(b)-1] = 'R'
	}
	if trace {
		b = append(b, 'T')
	}
	return b
}

// limits are what a server takes by its LIMITS keyword (RFC 9422 §4); 0 where it does not say.
type bounds struct{ mails, recipients, domains int }

// parseLimits reads the parameter of LIMITS. What is no limits-param is no limit at all, a limit it does not know or
// understand is passed over (RFC 9422 §3.7).
func parseLimits(s string) (l bounds) {
	if s == "" {
		return bounds{}
	}
	for limit := range strings.SplitSeq(s, " ") {
		name, value, has := strings.Cut(limit, "=")
		if !isLimitName(name) || has && !isLimitValue(value) {
			return bounds{}
		}
		if len(value) > 6 || !isDigits(value) || value[0] == '0' { // RFC 9422 §4.1
			continue
		}
		n, _ := strconv.Atoi(value)
		switch strings.ToUpper(name) {
		case "MAILMAX":
			l.mails = n
		case "RCPTMAX":
			l.recipients = n
		case "RCPTDOMAINMAX":
			l.domains = n
		}
	}
	return l
}

func isLimitName(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return s != ""
}

func isLimitValue(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == ';' {
			return false
		}
	}
	return s != ""
}
