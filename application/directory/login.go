package directory

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"

	"bothy/application/sasl"
)

// Verifier returns what is kept of an account's password, for the account's name or one of its addresses; sasl.ErrCredentials when
// there is none, or it is disabled. Like Certificate it is for sasl.Accounts.
func (d *Directory) Verifier(_ context.Context, username string) (sasl.Verifier, error) {
	a, ok := d.state.Load().login(canonicalName(username))
	if !ok || a.Disabled {
		return sasl.Verifier{}, sasl.ErrCredentials
	}
	v := a.verifier
	if a.sealed != nil {
		secret, err := d.key.unseal(a.Name, a.sealed)
		if err != nil { // the other mechanisms go on
			d.log.Error("CRAM-MD5 password cannot be unsealed", "account", a.Name, "key", d.key.file, "error", err)
		}
		v.CRAMSecret = secret
	}
	return v, nil
}

// Certificate returns the account that cert's public key logs in to, or sasl.ErrCredentials.
func (d *Directory) Certificate(_ context.Context, cert *x509.Certificate) (account string, err error) {
	s := d.state.Load()
	a, ok := s.accounts[s.certificates[Fingerprint(cert)]]
	if !ok || a.Disabled {
		return "", sasl.ErrCredentials
	}
	return a.Name, nil
}

// Fingerprint is the SHA-256 of a certificate's SubjectPublicKeyInfo in hexadecimal: it stays when a certificate is renewed for the
// same key.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// checkFingerprint takes hexadecimal digits of either case, with or without colons.
func checkFingerprint(s string) (string, error) {
	fingerprint := strings.ToLower(strings.ReplaceAll(s, ":", ""))
	if b, err := hex.DecodeString(fingerprint); err != nil || len(b) != sha256.Size {
		return "", refuse(ErrInvalid, "%q is not a fingerprint: want the %d hexadecimal digits of a public key's SHA-256", s, 2*sha256.Size)
	}
	return fingerprint, nil
}
