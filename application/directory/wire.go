package directory

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"bothy/application/message"
	"bothy/application/sasl"
)

// Two kinds of functions: canonical* bring a question into the form in which things are kept, and let pass what cannot be, for it
// will not be found; check* do the same for what is to be kept, and say what is wrong with it.

const (
	maxName   = 200 // octets of an account's name: mailboxes and lanes make file names of it
	maxDomain = 253 // RFC 1035 §3.1, as text
)

func canonicalDomain(s string) string {
	s = strings.TrimSuffix(strings.ToLower(s), ".")
	if isASCII(s) {
		return s
	}
	ascii, err := idna.Lookup.ToASCII(s)
	if err != nil {
		return s
	}
	return ascii
}

// RFC 5321 §2.4: only the host of a mailbox may give the case of its local part a meaning; we give it none. RFC 6532 §3.1: NFC.
func canonicalLocal(s string) string {
	s = strings.ToLower(s)
	if isASCII(s) {
		return s
	}
	return norm.NFC.String(s)
}

func canonical(a message.Address) message.Address {
	return message.Address{Local: canonicalLocal(a.Local), Domain: canonicalDomain(a.Domain)}
}

// canonicalName is an account's name or an address to log in with.
func canonicalName(s string) string {
	if local, domain, ok := cutDomain(s); ok {
		return canonicalLocal(local) + "@" + canonicalDomain(domain)
	}
	return canonicalLocal(s)
}

func cutDomain(s string) (local, domain string, ok bool) {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at+1:], true
}

// checkDomain is the grammar of RFC 2645 §5.2.1, after conversion to A-labels; the dot it asks for is checkHeld's.
func checkDomain(s string) (string, error) {
	domain := canonicalDomain(s)
	if domain == "" || len(domain) > maxDomain {
		return "", refuse(ErrInvalid, "domain %q is empty or longer than %d octets", s, maxDomain)
	}
	if !message.IsDomain(domain) {
		return "", refuse(ErrInvalid, "domain %q is not of letters, digits and inner hyphens between dots", s)
	}
	return domain, nil
}

// checkHeld is a domain that a customer may ask for: it has a dot (RFC 2645 §5.2.1).
func checkHeld(s string) (string, error) {
	domain, err := checkDomain(s)
	if err == nil && !strings.Contains(domain, ".") {
		err = refuse(ErrInvalid, "domain %q has no dot, so no customer can ask for it (RFC 2645 §5.2.1)", s)
	}
	return domain, err
}

// checkAddress is a mailbox that can be here: not the null path, not without a domain, not at an address literal.
func checkAddress(a message.Address) (message.Address, error) {
	parsed, err := message.ParseAddress(a.String())
	if err != nil {
		return a, refuse(ErrInvalid, "%q is not an address: local@domain (RFC 5321 §4.1.2)", a.String())
	}
	if parsed.Domain, err = checkDomain(parsed.Domain); err != nil {
		return a, err
	}
	return canonical(parsed), nil
}

// checkName is an account's name: an address, or letters, digits and some marks. It may become part of a file's name.
func checkName(s string) (string, error) {
	name, err := sasl.Prepare(s) // usernames come prepared
	if err != nil {
		return "", refuse(ErrInvalid, "account name %q: %v", s, err)
	}
	name = canonicalName(name)
	if len(name) > maxName || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") || strings.ContainsFunc(name, notInName) {
		return "", refuse(ErrInvalid, "account name %q: want at most %d letters, digits and . - _ + = @, the first no . or -", s, maxName)
	}
	if local, domain, ok := strings.Cut(name, "@"); ok {
		if _, err := checkAddress(message.Address{Local: local, Domain: domain}); err != nil {
			return "", refuse(ErrInvalid, "account name %q has an @ and is not an address: %v", s, err)
		}
	}
	return name, nil
}

func notInName(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r >= utf8.RuneSelf: // Prepare has refused what cannot be seen
		return false
	}
	return !strings.ContainsRune(".-_+=@", r)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
