package join

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"strconv"
	"strings"
	"time"

	"bothy/application/sasl"
	"bothy/lib/pin"
)

// Token is an invitation as it is pasted. Whoever has it can take the place of the site, until the site has used it.
type Token struct {
	Host       string // of the provider: a name, or an address
	Calls      uint16 // port where its customers call
	Implicit   bool   // which begins with TLS; else STARTTLS comes first
	Submission uint16 // port for the site's own mail; 0: none
	Pin        string // of the provider's public key; see lib/pin
	Own        bool   // that key is the provider's own for years, vouched for by nobody
	Account    string
	ID, Secret string    // of the invitation
	Expires    time.Time // whole minutes
	Domains    []string
}

// Address is where customers call, host:port.
func (t Token) Address() string { return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Calls))) }

// SubmissionAddress is where the site's own mail goes, host:port; empty: nowhere.
func (t Token) SubmissionAddress() string {
	if t.Submission == 0 {
		return ""
	}
	return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Submission)))
}

// prefix begins every token, with its version.
const (
	prefix  = "bothy"
	version = "1"
)

// maxToken bounds a token, in characters: 100 domains of 255 octets.
const maxToken = 40_000

const (
	flagImplicit = 1 << iota
	flagOwn
)

// The ways a token is wrong.
var (
	ErrNoToken = errors.New("this is no invitation: it would begin with " + prefix + version + "-")
	ErrNewer   = errors.New("this invitation was made by a newer Bothy: use that one here too")
	ErrTypo    = errors.New("a character of this invitation is missing or wrong: copy it once more, whole")
)

// String is the token as one word.
func (t Token) String() string {
	pin, err := pinOctets(t.Pin)
	if err != nil {
		return ""
	}
	var flags byte
	if t.Implicit {
		flags |= flagImplicit
	}
	if t.Own {
		flags |= flagOwn
	}
	b := append([]byte{flags}, pin...)
	b = binary.BigEndian.AppendUint16(b, t.Calls)
	b = binary.BigEndian.AppendUint16(b, t.Submission)
	b = binary.BigEndian.AppendUint32(b, uint32(t.Expires.Unix()/60))
	for _, s := range append([]string{t.Host, t.Account, t.ID, t.Secret}, t.Domains...) {
		b = append(append(b, byte(len(s))), s...)
	}
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
	return prefix + version + "-" + base64.RawURLEncoding.EncodeToString(b)
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// Parse reads a token. White space within it is the terminal's, the mail program's or the telephone's.
func Parse(s string) (Token, error) {
	s = strings.Join(strings.Fields(s), "")
	rest, ok := strings.CutPrefix(s, prefix)
	v, text, dash := strings.Cut(rest, "-")
	switch n, err := strconv.Atoi(v); {
	case !ok || !dash || err != nil || len(s) > maxToken:
		return Token{}, ErrNoToken
	case v != version && n > 1:
		return Token{}, ErrNewer
	case v != version:
		return Token{}, ErrNoToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < 4 || binary.BigEndian.Uint32(b[len(b)-4:]) != crc32.Checksum(b[:len(b)-4], castagnoli()) {
		return Token{}, ErrTypo
	}
	t, err := parse(b[:len(b)-4])
	if err != nil || t.String() != s {
		return Token{}, ErrNoToken // whole, and not of our making
	}
	return t, nil
}

// fixed is what stands before the strings, in octets.
const fixed = 1 + 32 + 2 + 2 + 4

func parse(b []byte) (t Token, err error) {
	if len(b) < fixed {
		return t, ErrNoToken
	}
	t.Implicit, t.Own = b[0]&flagImplicit != 0, b[0]&flagOwn != 0
	t.Pin = fmt.Sprintf("%x", b[1:33])
	t.Calls, t.Submission = binary.BigEndian.Uint16(b[33:]), binary.BigEndian.Uint16(b[35:])
	t.Expires = time.Unix(int64(binary.BigEndian.Uint32(b[37:]))*60, 0).UTC()
	var all []string
	for b = b[fixed:]; len(b) > 0; {
		n := int(b[0])
		if n == 0 || n >= len(b) || strings.ContainsFunc(string(b[1:1+n]), unprintable) {
			return t, ErrNoToken
		}
		all, b = append(all, string(b[1:1+n])), b[1+n:]
	}
	if len(all) < 5 || t.Calls == 0 { // a domain at least
		return t, ErrNoToken
	}
	t.Host, t.Account, t.ID, t.Secret, t.Domains = all[0], all[1], all[2], all[3], all[4:]
	return t, nil
}

func unprintable(r rune) bool { return r <= ' ' || r == 0x7f || r == '\uFFFD' }

// request is the argument of XJOIN: a verifier in the form of RFC 5803 §2, and the fingerprint of the site's key.
type request struct {
	verifier    sasl.Verifier
	fingerprint string // empty: none
}

func (r request) String() string {
	b64 := base64.StdEncoding.EncodeToString
	v := r.verifier
	s := fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", v.Iterations, b64(v.Salt), b64(v.StoredKey), b64(v.ServerKey))
	if r.fingerprint != "" {
		s += " " + r.fingerprint
	}
	return s
}

func parseRequest(s string) (r request, ok bool) {
	s, r.fingerprint, _ = strings.Cut(s, " ")
	s, ok = strings.CutPrefix(s, "SCRAM-SHA-256$")
	parts := strings.Split(s, "$")
	if !ok || len(parts) != 2 {
		return r, false
	}
	count, salt, ok1 := strings.Cut(parts[0], ":")
	stored, server, ok2 := strings.Cut(parts[1], ":")
	iterations, err := strconv.Atoi(count)
	if !ok1 || !ok2 || err != nil || strconv.Itoa(iterations) != count {
		return r, false
	}
	r.verifier.Iterations = iterations
	var errs [3]error
	r.verifier.Salt, errs[0] = base64.StdEncoding.Strict().DecodeString(salt)
	r.verifier.StoredKey, errs[1] = base64.StdEncoding.Strict().DecodeString(stored)
	r.verifier.ServerKey, errs[2] = base64.StdEncoding.Strict().DecodeString(server)
	return r, errors.Join(errs[:]...) == nil
}

// Grant is what the provider answers.
type Grant struct {
	Account string
	Domains []string // whose mail is held for the site
	Vouched bool     // an authority that the site's system trusts vouches for the provider's name; the site finds out itself
}

// text is the grant as the text of a reply: a line each.
func (g Grant) text() string {
	return "welcome\nACCOUNT " + g.Account + "\nDOMAINS " + strings.Join(g.Domains, ",")
}

// parseGrant reads what text made; lines it does not know are a newer provider's.
func parseGrant(text string) (g Grant, ok bool) {
	for line := range strings.SplitSeq(text, "\n") {
		word, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "ACCOUNT":
			g.Account = value
		case "DOMAINS":
			g.Domains = strings.Split(value, ",")
		}
	}
	return g, g.Account != "" && len(g.Domains) > 0
}

func pinOctets(s string) ([]byte, error) {
	digits, err := pin.Parse(s)
	if err != nil {
		return nil, err
	}
	return hex.DecodeString(digits)
}
