package authres

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"bothy/application/message"
)

// Key signs for one domain. Its public half stands in the DNS under Name.
type Key struct {
	Domain   string // d=, A-labels in lower case
	Selector string // s=: which of the domain's keys it is
	private  crypto.Signer
}

// The algorithms of keys.
const (
	Ed25519 = "ed25519" // RFC 8463 §4
	RSA     = "rsa"     // RFC 8301 §3.2
)

// rsaBits is the size of new RSA keys: RFC 8301 §3.2 wants at least 2048, and some DNS servers bear no longer records.
const rsaBits = 2048

// minRSABits is the least that verifiers may take (RFC 8301 §3.2).
const minRSABits = 1024

// ErrKey says that a key, its domain or its selector will not do; its text says why.
var ErrKey = errors.New("authres: not a DKIM key")

// NewKey makes a key. Not every verifier knows Ed25519 yet, and RSA is known to all: a domain may have one of each, and both sign.
func NewKey(domain, selector, algorithm string) (*Key, error) {
	switch algorithm {
	case Ed25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return newKey(domain, selector, private)
	case RSA:
		private, err := rsa.GenerateKey(rand.Reader, rsaBits)
		if err != nil {
			return nil, err
		}
		return newKey(domain, selector, private)
	}
	return nil, fmt.Errorf("%w: there is no algorithm %q; want %s or %s", ErrKey, algorithm, Ed25519, RSA)
}

// ParseKey reads a private key in PEM: PKCS #8, or PKCS #1 as older programs write it.
func ParseKey(domain, selector string, text []byte) (*Key, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%w: no PEM", ErrKey)
	}
	var private any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		err = fmt.Errorf("a PEM block %q", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	signer, _ := private.(crypto.Signer)
	return newKey(domain, selector, signer)
}

func newKey(domain, selector string, private crypto.Signer) (*Key, error) {
	switch p := private.(type) {
	case ed25519.PrivateKey:
	case *rsa.PrivateKey:
		if p.N.BitLen() < minRSABits {
			return nil, fmt.Errorf("%w: RSA of %d bits; RFC 8301 §3.2 wants %d", ErrKey, p.N.BitLen(), rsaBits)
		}
	default:
		return nil, fmt.Errorf("%w: neither RSA nor Ed25519", ErrKey)
	}
	d, err := domainName(domain)
	if err != nil || !strings.Contains(d, ".") {
		return nil, fmt.Errorf("%w: %q is not a whole domain name", ErrKey, domain)
	}
	s, err := domainName(selector)
	if err != nil {
		return nil, fmt.Errorf("%w: selector %q is not letters, digits, hyphens and dots", ErrKey, selector)
	}
	return &Key{Domain: d, Selector: s, private: private}, nil
}

// domainName is s as A-labels in lower case. The domain of a mailbox has the same grammar (RFC 6376 §3.1, §3.5).
func domainName(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		return "", ErrKey
	}
	a, err := message.ParseAddress("x@" + s)
	if err != nil {
		return "", err
	}
	a, _ = a.ASCII()
	return a.Domain, nil
}

// Name is where the public key stands in the DNS, without a dot at the end (RFC 6376 §3.6.2.1).
func (k *Key) Name() string { return k.Selector + "._domainkey." + k.Domain }

// String is Name: a key prints no secret.
func (k *Key) String() string { return k.Name() }

// Algorithm is Ed25519 or RSA.
func (k *Key) Algorithm() string {
	if _, ok := k.private.(ed25519.PrivateKey); ok {
		return Ed25519
	}
	return RSA
}

// PEM is the private key in PKCS #8. It is a secret.
func (k *Key) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Record is the text of the TXT record (RFC 6376 §3.6.1, RFC 8463 §4.2).
func (k *Key) Record() (string, error) {
	public := []byte(nil)
	switch p := k.private.Public().(type) {
	case ed25519.PublicKey: // RFC 8463 §4.2: the key itself, without ASN.1
		public = p
	default:
		der, err := x509.MarshalPKIXPublicKey(p)
		if err != nil {
			return "", err
		}
		public = der
	}
	return "v=DKIM1; k=" + k.Algorithm() + "; p=" + base64.StdEncoding.EncodeToString(public), nil
}

// maxString is the longest string of a TXT record, in octets (RFC 1035 §3.3.14).
const maxString = 255

// Zone is the record as a line of a zone file, its text in strings of at most 255 octets, which verifiers join (RFC 6376 §3.6.2.2).
func (k *Key) Zone() (string, error) {
	text, err := k.Record()
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s. IN TXT (", k.Name())
	for len(text) > 0 {
		n := min(len(text), maxString)
		fmt.Fprintf(&b, " %q", text[:n])
		text = text[n:]
	}
	b.WriteString(" )")
	return b.String(), nil
}
