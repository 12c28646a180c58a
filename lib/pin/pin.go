// Package pin trusts a TLS server by its public key, where no authority vouches for its name. Standard library only.
package pin

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Of is the SHA-256 of a certificate's SubjectPublicKeyInfo in hexadecimal: it stays when a certificate is renewed for the same key.
func Of(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// Parse takes a pin as people write it: hexadecimal digits of either case, with or without colons.
func Parse(s string) (string, error) {
	digits := strings.ToLower(strings.ReplaceAll(s, ":", ""))
	if b, err := hex.DecodeString(digits); err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("%q is not the %d hexadecimal digits of a public key's SHA-256", s, 2*sha256.Size)
	}
	return digits, nil
}

// ErrMismatch says that a server has another key. It may be renewed, or it may be another server.
var ErrMismatch = errors.New("the server's public key is not the pinned one")

// Trust makes cfg trust servers with one of these keys, whatever their names and certificates, and no others. It changes cfg. With no
// pins it does nothing.
func Trust(cfg *tls.Config, pins []string) {
	if len(pins) == 0 {
		return
	}
	cfg.InsecureSkipVerify = true // VerifyConnection, which resumed sessions pass too, asks for more than names do
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return ErrMismatch
		}
		has := Of(state.PeerCertificates[0])
		for _, p := range pins {
			if want, err := Parse(p); err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(has)) == 1 {
				return nil
			}
		}
		return fmt.Errorf("%w: it is %s", ErrMismatch, has)
	}
}
