package authres

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"bothy/application/message"
)

// tag is one tag=value of a list (RFC 6376 §3.2).
type tag struct{ name, value string }

// tags are a list in its order.
type tags []tag

// parseTags reads a tag list. White space around names and values is not theirs; a name that comes twice spoils the list (RFC 6376 §3.2).
func parseTags(s string) (tags, error) {
	var list tags
	for spec := range strings.SplitSeq(s, ";") {
		name, value, ok := strings.Cut(spec, "=")
		name, value = trimFWS(name), trimFWS(value)
		if !ok && name == "" {
			continue // behind the last semicolon
		}
		if !ok || !isTagName(name) {
			return nil, fmt.Errorf("%q is not tag=value", name)
		}
		if _, twice := list.get(name); twice {
			return nil, fmt.Errorf("tag %s is there twice", name)
		}
		list = append(list, tag{name, value})
	}
	return list, nil
}

func isTagName(s string) bool {
	for i, c := range []byte(s) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != ""
}

func (l tags) get(name string) (value string, ok bool) {
	i := slices.IndexFunc(l, func(t tag) bool { return t.name == name })
	if i < 0 {
		return "", false
	}
	return l[i].value, true
}

const fws = " \t\r\n"

func trimFWS(s string) string { return strings.Trim(s, fws) }

// dropFWS removes all white space, which base64 and lists of names may hold anywhere.
func dropFWS(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(fws, r) {
			return -1
		}
		return r
	}, s)
}

// names takes a colon-separated list apart.
func names(s string) []string { return strings.Split(dropFWS(s), ":") }

// canonical is a canonicalization algorithm (RFC 6376 §3.4).
type canonical uint8

const (
	simple canonical = iota
	relaxed
)

// signature is what a DKIM-Signature field says (RFC 6376 §3.5).
type signature struct {
	algorithm string // "rsa" or "ed25519", with SHA-256
	value     []byte // b=
	bodyHash  []byte
	header    canonical
	body      canonical
	domain    string // d=, lower-case A-labels
	selector  string
	agent     string // the domain of i=
	signed    []string
	expires   time.Time // x=; zero for never
	short     string    // the start of b=, which tells several signatures apart (RFC 6008 §3)
}

// flaw is why a signature is not taken, as a result of RFC 8601 §2.7.1.
type flaw struct {
	result Result
	why    string
}

func (f flaw) Error() string { return f.why }

func flawed(r Result, format string, args ...any) error { return flaw{r, fmt.Sprintf(format, args...)} }

// shortLength is how much of b= is told, in characters (RFC 6008 §3: at least 8).
const shortLength = 8

// parseSignature reads the value of a DKIM-Signature field (RFC 6376 §6.1.1). What it could read is there with an error too.
func parseSignature(value string) (sig signature, err error) {
	list, err := parseTags(value)
	if err != nil {
		return sig, flawed(Neutral, "signature syntax: %v", err)
	}
	domain, _ := list.get("d")
	sig.domain, _ = domainName(domain)
	sig.selector, _ = list.get("s")
	b, _ := list.get("b")
	b = dropFWS(b)
	sig.short = b[:min(len(b), shortLength)]
	for _, name := range []string{"v", "a", "b", "bh", "d", "h", "s"} { // RFC 6376 §6.1.1
		if _, ok := list.get(name); !ok {
			return sig, flawed(PermError, "signature without %s=", name)
		}
	}
	if v, _ := list.get("v"); v != "1" {
		return sig, flawed(Neutral, "signature of version %s", v)
	}
	if sig.domain == "" {
		return sig, flawed(Neutral, "d= is not a domain")
	}
	if sig.selector, err = domainName(sig.selector); err != nil {
		return sig, flawed(Neutral, "s= is not a selector")
	}
	if err := sig.setAlgorithms(list); err != nil {
		return sig, err
	}
	if sig.value, err = base64.StdEncoding.DecodeString(b); err != nil {
		return sig, flawed(Neutral, "b= is not base64")
	}
	bh, _ := list.get("bh")
	if sig.bodyHash, err = base64.StdEncoding.DecodeString(dropFWS(bh)); err != nil {
		return sig, flawed(Neutral, "bh= is not base64")
	}
	h, _ := list.get("h")
	sig.signed = names(h)
	if !slices.ContainsFunc(sig.signed, func(name string) bool { return strings.EqualFold(name, "From") }) {
		return sig, flawed(PermError, "From is not signed")
	}
	if len(sig.signed) > maxSigned {
		return sig, flawed(Policy, "more than %d fields signed", maxSigned)
	}
	if err := sig.setAgent(list); err != nil {
		return sig, err
	}
	return sig, sig.setTimes(list)
}

// maxSigned bounds the names in h=: each is looked for in the header.
const maxSigned = 200

// setAlgorithms reads a=, c=, l= and q=.
func (sig *signature) setAlgorithms(list tags) error {
	a, _ := list.get("a")
	switch a {
	case "rsa-sha256", "ed25519-sha256":
		sig.algorithm = strings.TrimSuffix(a, "-sha256")
	case "rsa-sha1": // RFC 8301 §3.1: must not be used for verifying
		return flawed(Policy, "algorithm rsa-sha1")
	default:
		return flawed(Neutral, "algorithm %s is not known", a)
	}
	c, _ := list.get("c")
	header, body, _ := strings.Cut(dropFWS(c), "/")
	for _, part := range []struct {
		name string
		to   *canonical
	}{{header, &sig.header}, {body, &sig.body}} {
		switch part.name {
		case "", "simple": // RFC 6376 §3.5: the default
		case "relaxed":
			*part.to = relaxed
		default:
			return flawed(Neutral, "canonicalization %s is not known", part.name)
		}
	}
	if _, ok := list.get("l"); ok { // RFC 6376 §8.2: anybody can add to the text
		return flawed(Policy, "part of the body is not signed (l=)")
	}
	if q, ok := list.get("q"); ok && !slices.Contains(names(q), "dns/txt") {
		return flawed(Neutral, "no key by DNS")
	}
	return nil
}

// setAgent reads i=, whose domain is d= or one below it (RFC 6376 §6.1.1).
func (sig *signature) setAgent(list tags) error {
	i, ok := list.get("i")
	if !ok {
		sig.agent = sig.domain
		return nil
	}
	_, domain, _ := cutLast(dropFWS(i), "@")
	agent, err := domainName(domain)
	if err != nil || agent != sig.domain && !strings.HasSuffix(agent, "."+sig.domain) {
		return flawed(PermError, "i= is not of d=")
	}
	sig.agent = agent
	return nil
}

// setTimes reads t= and x=.
func (sig *signature) setTimes(list tags) error {
	var at [2]int64
	for i, name := range []string{"t", "x"} {
		s, ok := list.get(name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(s, 10, 40) // RFC 6376 §3.5: up to 12 digits are to be expected
		if err != nil {
			return flawed(Neutral, "%s= is not a time", name)
		}
		at[i] = int64(n)
	}
	if at[1] != 0 {
		if at[1] <= at[0] { // RFC 6376 §3.5: x= must be greater than t=
			return flawed(Neutral, "expired before it was made")
		}
		sig.expires = time.Unix(at[1], 0)
	}
	return nil
}

// cutLast is strings.Cut at the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// publicKey is a key record (RFC 6376 §3.6.1).
type publicKey struct {
	key     crypto.PublicKey // *rsa.PublicKey or ed25519.PublicKey
	testing bool             // t=y
	strict  bool             // t=s: i= must have the domain of d=
}

// maxRSABits is the longest key that is tried: verifying takes time that grows with it, and RFC 8301 §3.2 asks for no more.
const maxRSABits = 4096

// parseKeyRecord reads a key record for a signature of an algorithm (RFC 6376 §6.1.2).
func parseKeyRecord(text, algorithm string) (k publicKey, err error) {
	list, err := parseTags(text)
	if err != nil {
		return k, flawed(PermError, "key syntax: %v", err)
	}
	if v, ok := list.get("v"); ok && (v != "DKIM1" || list[0].name != "v") {
		return k, flawed(PermError, "key of version %s", v)
	}
	p, ok := list.get("p")
	switch {
	case !ok:
		return k, flawed(PermError, "key record without a key")
	case p == "":
		return k, flawed(PermError, "key revoked")
	}
	if h, ok := list.get("h"); ok && !slices.Contains(names(h), "sha256") {
		return k, flawed(PermError, "key is not for sha256")
	}
	if s, ok := list.get("s"); ok && !slices.Contains(names(s), "*") && !slices.Contains(names(s), "email") {
		return k, flawed(PermError, "key is not for mail")
	}
	if kind, ok := list.get("k"); (!ok && algorithm != RSA) || ok && kind != algorithm {
		return k, flawed(PermError, "key is not of %s", algorithm)
	}
	if t, ok := list.get("t"); ok {
		k.testing, k.strict = slices.Contains(names(t), "y"), slices.Contains(names(t), "s")
	}
	der, err := base64.StdEncoding.DecodeString(dropFWS(p))
	if err != nil {
		return k, flawed(PermError, "key is not base64")
	}
	k.key, err = parsePublic(der, algorithm)
	return k, err
}

func parsePublic(der []byte, algorithm string) (crypto.PublicKey, error) {
	if algorithm == Ed25519 { // RFC 8463 §4.2
		if len(der) != ed25519.PublicKeySize {
			return nil, flawed(PermError, "key of %d octets", len(der))
		}
		return ed25519.PublicKey(der), nil
	}
	any, err := x509.ParsePKIXPublicKey(der)
	if err != nil { // RFC 6376 §3.6.1 names one form and shows the other (erratum 3017)
		any, err = x509.ParsePKCS1PublicKey(der)
	}
	key, ok := any.(*rsa.PublicKey)
	if err != nil || !ok {
		return nil, flawed(PermError, "key is not an RSA key")
	}
	if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits { // RFC 8301 §3.2
		return nil, flawed(Policy, "RSA key of %d bits", bits)
	}
	return key, nil
}

// unsigned returns a DKIM-Signature field without the value of b=, and without its CRLF: what its own signature covers (RFC 6376 §3.7).
func unsigned(f message.Field) []byte {
	raw := bytes.TrimSuffix(f.Raw(), crlf)
	colon := bytes.IndexByte(raw, ':') + 1
	for start := colon; start < len(raw); {
		end := bytes.IndexByte(raw[start:], ';')
		if end < 0 {
			end = len(raw)
		} else {
			end += start
		}
		if eq := bytes.IndexByte(raw[start:end], '='); eq >= 0 && trimFWS(string(raw[start:start+eq])) == "b" {
			return append(bytes.Clone(raw[:start+eq+1]), raw[end:]...)
		}
		start = end + 1
	}
	return raw
}
