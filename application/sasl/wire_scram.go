package sasl

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The four messages of RFC 5802 §7. Each parser refuses what the grammar does not have; format brings a parsed message back as it was,
// extensions apart.

// clientFirst is the client-first-message.
type clientFirst struct {
	header   string // the gs2-header as received, which "c=" must repeat
	flag     byte   // gs2-cbind-flag: 'n', 'y' or 'p'
	binding  string // cb-name after "p="
	authzid  string
	username string // unescaped, not prepared
	nonce    string
	bare     string // client-first-message-bare
}

// serverFirst is the server-first-message.
type serverFirst struct {
	nonce      string
	salt       []byte
	iterations int
}

// clientFinal is the client-final-message.
type clientFinal struct {
	binding      []byte // cbind-input
	nonce        string
	proof        []byte
	withoutProof string // client-final-message-without-proof
}

// serverFinal is the server-final-message: one of the two.
type serverFinal struct {
	verifier []byte
	err      string
}

var (
	errAttribute = errors.New("SCRAM attribute missing, out of order or malformed (RFC 5802 §7)")
	errMandatory = errors.New("unknown mandatory SCRAM extension (RFC 5802 §5.1)")
)

func parseClientFirst(s string) (clientFirst, error) {
	var m clientFirst
	flag, rest, ok1 := strings.Cut(s, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	if !ok1 || !ok2 || !utf8.ValidString(s) {
		return m, errAttribute
	}
	m.header, m.bare = s[:len(s)-len(bare)], bare
	switch name, bound := strings.CutPrefix(flag, "p="); {
	case bound && isBindingName(name):
		m.flag, m.binding = 'p', name
	case flag == "n" || flag == "y":
		m.flag = flag[0]
	default:
		return m, errAttribute
	}
	if authzid != "" {
		escaped, ok := strings.CutPrefix(authzid, "a=")
		if m.authzid, ok1 = unescape(escaped); !ok || !ok1 {
			return m, errAttribute
		}
	}
	a := attributes(bare)
	username, ok1 := a.next('n')
	nonce, ok2 := a.next('r')
	if !ok1 || !ok2 || !isNonce(nonce) {
		return m, a.err(bare)
	}
	m.nonce = nonce
	if m.username, ok1 = unescape(username); !ok1 || !a.extensions() {
		return m, errAttribute
	}
	return m, nil
}

func (m clientFirst) format() string { return m.header + m.bare }

func parseServerFirst(s string) (serverFirst, error) {
	var m serverFirst
	a := attributes(s)
	nonce, ok1 := a.next('r')
	salt, ok2 := a.next('s')
	count, ok3 := a.next('i')
	if !ok1 || !ok2 || !ok3 || !isNonce(nonce) || !a.extensions() {
		return m, a.err(s)
	}
	m.nonce = nonce
	var err error
	if m.salt, err = unbase64(salt); err != nil {
		return m, err
	}
	m.iterations, err = strconv.Atoi(count)
	if err != nil || count[0] < '1' || count[0] > '9' { // posit-number
		return m, errAttribute
	}
	return m, nil
}

func (m serverFirst) format() string {
	return "r=" + m.nonce + ",s=" + base64.StdEncoding.EncodeToString(m.salt) + ",i=" + strconv.Itoa(m.iterations)
}

func parseClientFinal(s string) (clientFinal, error) {
	var m clientFinal
	cut := strings.LastIndex(s, ",p=") // base64 has no comma, and the proof is last
	if cut < 0 {
		return m, errAttribute
	}
	m.withoutProof = s[:cut]
	a := attributes(m.withoutProof)
	bound, ok1 := a.next('c')
	nonce, ok2 := a.next('r')
	if !ok1 || !ok2 || !isNonce(nonce) || !a.extensions() {
		return m, errAttribute
	}
	m.nonce = nonce
	var err error
	if m.binding, err = unbase64(bound); err != nil {
		return m, err
	}
	m.proof, err = unbase64(s[cut+len(",p="):])
	return m, err
}

func (m clientFinal) format() string {
	return m.withoutProof + ",p=" + base64.StdEncoding.EncodeToString(m.proof)
}

func parseServerFinal(s string) (serverFinal, error) {
	var m serverFinal
	a := attributes(s)
	if value, ok := a.next('e'); ok {
		m.err = value
	} else if value, ok := a.next('v'); ok {
		var err error
		if m.verifier, err = unbase64(value); err != nil {
			return m, err
		}
	} else {
		return m, errAttribute
	}
	if !a.extensions() {
		return m, errAttribute
	}
	return m, nil
}

func (m serverFinal) format() string {
	if m.err != "" {
		return "e=" + m.err
	}
	return "v=" + base64.StdEncoding.EncodeToString(m.verifier)
}

// reader takes attr-val pairs from the front of a message, which must be UTF-8 without NUL.
type reader struct {
	rest string
	done bool
}

func attributes(s string) *reader { return &reader{rest: s} }

// next takes the attribute name, if it comes next.
func (a *reader) next(name byte) (value string, ok bool) {
	if a.done || len(a.rest) < 3 || a.rest[0] != name || a.rest[1] != '=' {
		return "", false
	}
	value, rest, more := strings.Cut(a.rest[2:], ",")
	if !isValue(value) {
		return "", false
	}
	a.rest, a.done = rest, !more
	return value, true
}

// extensions passes over the rest: unknown optional extensions are ignored (RFC 5802 §5.1), malformed ones are not.
func (a *reader) extensions() bool {
	for !a.done {
		if a.rest == "" || !isAlpha(a.rest[0]) || a.rest[0] == 'm' {
			return false
		}
		if _, ok := a.next(a.rest[0]); !ok {
			return false
		}
	}
	return true
}

func (a *reader) err(whole string) error {
	if strings.HasPrefix(whole, "m=") {
		return errMandatory
	}
	return errAttribute
}

func isAlpha(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// value = 1*value-char: UTF-8 without NUL and comma.
func isValue(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.ContainsAny(s, "\x00,")
}

// nonce = printable: visible ASCII without comma.
func isNonce(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' || r == ',' })
}

// cb-name = 1*(ALPHA / DIGIT / "." / "-")
func isBindingName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r > '~' || !isAlpha(byte(r)) && (r < '0' || r > '9') && r != '.' && r != '-'
	})
}

// escape writes a saslname: "," and "=" are sent as "=2C" and "=3D" (RFC 5802 §5.1).
func escape(name string) string { return strings.NewReplacer("=", "=3D", ",", "=2C").Replace(name) }

// unescape reads a saslname; any other "=" makes the authentication fail (RFC 5802 §5.1).
func unescape(s string) (name string, ok bool) {
	if !isValue(s) {
		return "", false
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "=")
		b.WriteString(before)
		switch {
		case !found:
			return b.String(), true
		case strings.HasPrefix(after, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(after, "3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		s = after[2:]
	}
}

// unbase64 takes canonical base64 and nothing else; encoding/base64 alone would pass over line ends.
func unbase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errAttribute
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}
