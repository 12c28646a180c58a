package dane

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Record is a TLSA record (RFC 6698 §2.1).
type Record struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// The values that count (RFC 7218 §2).
const (
	TrustAnchor = 2 // DANE-TA: the certificate, or its key, of an authority in the chain
	EndEntity   = 3 // DANE-EE: the server's own

	Cert = 0 // the whole certificate
	SPKI = 1 // its public key

	Full   = 0
	SHA256 = 1
	SHA512 = 2
)

// String is the record as zone files have it, its data cut short.
func (r Record) String() string {
	return fmt.Sprintf("%d %d %d %.16x", r.Usage, r.Selector, r.Matching, r.Data)
}

// usable reports whether r means something to us. RFC 7672 §3.1.3: PKIX usages do not.
func (r Record) usable() bool {
	if r.Usage != TrustAnchor && r.Usage != EndEntity || r.Selector != Cert && r.Selector != SPKI {
		return false
	}
	switch r.Matching {
	case SHA256:
		return len(r.Data) == sha256.Size
	case SHA512:
		return len(r.Data) == sha512.Size
	case Full:
		var err error
		if r.Selector == Cert {
			_, err = x509.ParseCertificate(r.Data)
		} else {
			_, err = x509.ParsePKIXPublicKey(r.Data)
		}
		return err == nil
	}
	return false
}

// Usable returns the records to go by. RFC 7671 §9: of those that differ in nothing but their digest's algorithm the strongest counts.
func Usable(records []Record) []Record {
	var usable []Record
	for _, r := range records {
		if r.usable() {
			usable = append(usable, r)
		}
	}
	return slices.DeleteFunc(usable, func(r Record) bool {
		return r.Matching == SHA256 && slices.ContainsFunc(usable, func(other Record) bool {
			return other.Matching == SHA512 && other.Usage == r.Usage && other.Selector == r.Selector
		})
	})
}

// matches reports whether r is of cert.
func (r Record) matches(cert *x509.Certificate) bool {
	data := cert.Raw
	if r.Selector == SPKI {
		data = cert.RawSubjectPublicKeyInfo
	}
	switch r.Matching {
	case SHA256:
		sum := sha256.Sum256(data)
		data = sum[:]
	case SHA512:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return bytes.Equal(data, r.Data)
}

// ErrNoMatch says that none of the records vouches for the server.
var ErrNoMatch = errors.New("dane: no TLSA record matches the certificate")

// Verify returns nil if one of records, which are Usable, vouches for chain, the server's own certificate first. names are the
// reference identifiers for the trust anchors' sake, the TLSA base domain first (RFC 7672 §3.2.2).
func Verify(records []Record, chain []*x509.Certificate, names []string, now time.Time) error {
	if len(chain) == 0 {
		return ErrNoMatch
	}
	for _, r := range records {
		// RFC 7672 §3.1.1: neither name nor time of validity nor issuer matter.
		if r.Usage == EndEntity && r.matches(chain[0]) {
			return nil
		}
	}
	err := ErrNoMatch
	for _, r := range records {
		if r.Usage != TrustAnchor {
			continue
		}
		for _, anchor := range r.anchors(chain) {
			if err = verifyFrom(anchor, chain, names, now); err == nil {
				return nil
			}
		}
	}
	return err
}

// anchors are the certificates that r makes a trust anchor: those above the server's in the chain that match, and the one that the record
// itself holds (RFC 7671 §5.2.2).
func (r Record) anchors(chain []*x509.Certificate) []*x509.Certificate {
	var anchors []*x509.Certificate
	for _, cert := range chain[1:] {
		if r.matches(cert) {
			anchors = append(anchors, cert)
		}
	}
	if len(anchors) == 0 && r.Selector == Cert && r.Matching == Full {
		if cert, err := x509.ParseCertificate(r.Data); err == nil {
			anchors = append(anchors, cert)
		}
	}
	return anchors
}

// verifyFrom checks the path from anchor to the server's certificate, and that one's names.
func verifyFrom(anchor *x509.Certificate, chain []*x509.Certificate, names []string, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(anchor)
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now}); err != nil {
		return fmt.Errorf("dane: %w", err)
	}
	identified := chain[0]
	if len(identified.DNSNames) == 0 { // RFC 7672 §3.2.3: then, and only then, the CN
		identified = &x509.Certificate{DNSNames: []string{chain[0].Subject.CommonName}}
	}
	var err error
	for _, name := range names {
		if err = identified.VerifyHostname(name); err == nil {
			return nil
		}
	}
	return fmt.Errorf("dane: %w", err)
}
