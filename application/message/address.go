package message

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Address is a Mailbox of RFC 5321 §4.1.2: a local part and a domain. The zero Address is the null reverse-path.
// Local is held unquoted ("a b" for the quoted string), Domain as received in lower case, without a trailing dot;
// an address literal keeps its brackets ("[192.0.2.1]"). <Postmaster> has an empty Domain (RFC 5321 §4.1.1.3).
type Address struct {
	Local  string
	Domain string
}

// The longest parts of an address, in octets as written. A local part has no bound of its own: RFC 5321 §4.5.3.1 wants none where it can
// be, and the return addresses of mailing lists and forwarders (VERP, SRS) are longer than the 64 of §4.5.3.1.1.
const (
	maxDomain = 255 // RFC 5321 §4.5.3.1.2
	maxPath   = 256 // RFC 5321 §4.5.3.1.3, with "<" and ">"
	maxLabel  = 63  // RFC 1035 §2.3.4
)

// ErrAddress says that a text is not a Mailbox (RFC 5321 §4.1.2); ErrAddressLength that it is longer than one may be
// (RFC 5321 §4.5.3.1).
var (
	ErrAddress       = errors.New("message: not a mailbox address")
	ErrAddressLength = errors.New("message: mailbox address too long")
)

// ParseAddress reads a bare mailbox, local@domain, and nothing around it: no "<", no comment, no display name. Octets beyond
// ASCII must be UTF-8 (RFC 6531 §3.3); whether they are allowed here is the caller's question (Address.IsASCII).
// A domain ending in a dot is refused: the grammar has none. The null path and <Postmaster> are the SMTP command's
// syntax, not a Mailbox's. It returns ErrAddress or ErrAddressLength.
func ParseAddress(s string) (Address, error) {
	local, rest, ok := parseLocal(s)
	if !ok || rest == "" || rest[0] != '@' {
		return Address{}, ErrAddress
	}
	domain, ok := parseDomain(rest[1:])
	if !ok {
		return Address{}, ErrAddress
	}
	written := len(s) - len(rest)
	if len(domain) > maxDomain || written+len(domain)+len("<@>") > maxPath {
		return Address{}, ErrAddressLength
	}
	return Address{local, domain}, nil
}

// parseLocal reads a local part off the front of s: a Dot-string or a Quoted-string of RFC 5321 §4.1.2.
func parseLocal(s string) (local, rest string, ok bool) {
	if strings.HasPrefix(s, `"`) {
		return parseQuoted(s)
	}
	end := strings.IndexFunc(s, func(r rune) bool { return r != '.' && !isAtext(r) })
	if end < 0 {
		end = len(s)
	}
	local, rest = s[:end], s[end:]
	return local, rest, isDotString(local)
}

// parseQuoted reads a Quoted-string off the front of s, which starts with its quote.
func parseQuoted(s string) (text, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], utf8.ValidString(b.String())
		case c == '\\': // RFC 5321 §4.1.2: quoted-pairSMTP = %d92 %d32-126
			if i++; i == len(s) || s[i] < ' ' || s[i] > '~' {
				return "", s, false
			}
			b.WriteByte(s[i])
		case c < ' ' || c == 0x7f:
			return "", s, false
		default:
			b.WriteByte(c)
		}
	}
	return "", s, false
}

// isDotString reports whether s is Atom *("." Atom).
func isDotString(s string) bool {
	dot := true // whether an atom must start here
	for _, r := range s {
		if r == '.' && dot || r != '.' && !isAtext(r) {
			return false
		}
		dot = r == '.'
	}
	return !dot
}

// isAtext is RFC 5322 §3.2.3 with the UTF8-non-ascii of RFC 6531 §3.3. Ill-formed UTF-8 is none: it ranges as RuneError,
// which nobody has a mailbox named after.
func isAtext(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return true
	case r >= utf8.RuneSelf:
		return r != utf8.RuneError && r > 0x9f // C1 controls: RFC 6532 §3.1 takes over what RFC 5198 §2 leaves out
	}
	return strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
}

// parseDomain reads all of s as a Domain or an address-literal (RFC 5321 §4.1.2) and returns it in lower case.
func parseDomain(s string) (domain string, ok bool) {
	if strings.HasPrefix(s, "[") {
		return parseLiteral(s)
	}
	s = strings.ToLower(s)
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return "", false
		}
	}
	return s, true
}

// IsDomain reports whether s is a Domain of RFC 5321 §4.1.2 in ASCII, in either case: letters, digits and inner hyphens between dots. An
// internationalized one is its A-labels.
func IsDomain(s string) bool {
	if len(s) > maxDomain || !isASCII(s) {
		return false
	}
	domain, ok := parseDomain(s)
	return ok && domain[0] != '['
}

// isLabel reports whether s, in lower case, is a sub-domain: Let-dig [Ldh-str] (RFC 5321 §4.1.2) or a U-label (RFC 6531 §3.3).
func isLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c < utf8.RuneSelf && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	if isASCII(s) {
		return len(s) <= maxLabel
	}
	// RFC 5890 §2.3.2.1: a U-label is what its A-label stands for; what would first have to be mapped to one, such as a letter of
	// another width, is none. More than one label comes of the dots of other scripts.
	a, err := idna.Registration.ToASCII(s)
	return err == nil && len(a) <= maxLabel && !strings.Contains(a, ".") && utf8.ValidString(s)
}

// parseLiteral reads all of s, which starts with "[", as an address-literal (RFC 5321 §4.1.3). Of the tagged forms only IPv6 is
// registered, so no other is one.
func parseLiteral(s string) (literal string, ok bool) {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return "", false
	}
	const tag = "ipv6:"
	lower := strings.ToLower(inner)
	if six, ok := strings.CutPrefix(lower, tag); ok {
		addr, err := netip.ParseAddr(six)
		return "[" + lower + "]", err == nil && addr.Is6() && addr.Zone() == ""
	}
	addr, err := netip.ParseAddr(inner)
	return s, err == nil && addr.Is4()
}

// String writes the mailbox as in SMTP and in header fields, with the local part quoted where it must be; "" is the null path.
func (a Address) String() string {
	if a.Domain == "" && (a.Local == "" || isDotString(a.Local)) {
		return a.Local
	}
	return string(a.AppendTo(nil))
}

// AppendTo appends String to b.
func (a Address) AppendTo(b []byte) []byte {
	switch {
	case a.IsNull():
		return b
	case isDotString(a.Local):
		b = append(b, a.Local...)
	default:
		b = append(b, '"')
		for i := range len(a.Local) {
			if c := a.Local[i]; c == '"' || c == '\\' {
				b = append(b, '\\')
			}
			b = append(b, a.Local[i])
		}
		b = append(b, '"')
	}
	if a.Domain != "" {
		b = append(append(b, '@'), a.Domain...)
	}
	return b
}

// IsNull reports the null reverse-path, "<>" (RFC 5321 §4.5.5).
func (a Address) IsNull() bool { return a == Address{} }

// IsASCII reports whether a can travel without SMTPUTF8 as it stands (RFC 6531 §3.1).
func (a Address) IsASCII() bool { return isASCII(a.Local) && isASCII(a.Domain) }

// ASCII returns a with its domain as A-labels (RFC 5891 §4.4), and whether all of it is ASCII then. A local part has no
// such form (RFC 6530 §8), so only it can stand in the way.
func (a Address) ASCII() (Address, bool) {
	if !isASCII(a.Domain) {
		domain, err := idna.Lookup.ToASCII(a.Domain)
		if err != nil {
			return a, false
		}
		a.Domain = domain
	}
	return a, isASCII(a.Local)
}

// MarshalText is String.
func (a Address) MarshalText() ([]byte, error) { return a.AppendTo(nil), nil }

// UnmarshalText reads all that String writes: a mailbox, "" for the null path, and the domainless postmaster.
func (a *Address) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "" || strings.EqualFold(s, "postmaster") {
		*a = Address{Local: s}
		return nil
	}
	parsed, err := ParseAddress(s)
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
