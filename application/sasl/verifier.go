package sasl

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
)

// Iteration counts of PBKDF2.
const (
	// DefaultIterations is what new verifiers use: some 2 ms on a small computer of today and 50 ms on the slowest board we expect at a
	// site, which must log in over SCRAM at every call. Raise it with care: each PLAIN login costs the server as much.
	DefaultIterations = 10_000

	minIterations = 4096      // RFC 7677 §4; a client refuses less, for a false server would ask for 1 and guess at leisure
	maxIterations = 1_000_000 // RFC 5802 §9: a hostile server must not keep a client computing
)

const (
	saltLength     = 16
	maxSaltLength  = 1024
	maxSecretBytes = 1024 // of a password
)

// NewVerifier makes what a server keeps of a password, under a fresh salt; 0 iterations mean DefaultIterations. The password itself
// is not in it: CRAMSecret is left nil. It fails for a password that SASLprep refuses and for iterations below 4096 (RFC 7677 §4).
func NewVerifier(account, password string, iterations int) (Verifier, error) {
	if iterations == 0 {
		iterations = DefaultIterations
	}
	if iterations < minIterations || iterations > maxIterations {
		return Verifier{}, fmt.Errorf("sasl: %d iterations: want %d to %d", iterations, minIterations, maxIterations)
	}
	if len(password) > maxSecretBytes {
		return Verifier{}, fmt.Errorf("sasl: password longer than %d octets", maxSecretBytes)
	}
	salt := make([]byte, saltLength)
	rand.Read(salt)
	salted, err := saltedPassword(password, salt, iterations)
	if err != nil {
		return Verifier{}, fmt.Errorf("sasl: password: %w", err)
	}
	storedKey, serverKey := keys(salted)
	return Verifier{Account: account, Salt: salt, Iterations: iterations, StoredKey: storedKey, ServerKey: serverKey}, nil
}

// Check reports whether password is the one. It takes as long for a wrong one.
func (v Verifier) Check(password string) bool {
	if len(password) > maxSecretBytes {
		return false
	}
	salted, err := saltedPassword(password, v.Salt, v.Iterations)
	if err != nil {
		return false
	}
	storedKey, _ := keys(salted)
	return hmac.Equal(storedKey, v.StoredKey)
}

// RFC 5802 §3: SaltedPassword := Hi(Normalize(password), salt, i)
func saltedPassword(password string, salt []byte, iterations int) ([]byte, error) {
	prepared, err := Prepare(password)
	if err != nil {
		return nil, err
	}
	return pbkdf2.Key(sha256.New, prepared, salt, iterations, sha256.Size)
}

// RFC 5802 §3: StoredKey := H(ClientKey), ServerKey := HMAC(SaltedPassword, "Server Key")
func keys(salted []byte) (storedKey, serverKey []byte) {
	stored := sha256.Sum256(clientKey(salted))
	return stored[:], hmacSHA256(salted, "Server Key")
}

// RFC 5802 §3: ClientKey := HMAC(SaltedPassword, "Client Key")
func clientKey(salted []byte) []byte { return hmacSHA256(salted, "Client Key") }

// proves reports whether proof shows knowledge of the ClientKey behind v for this AuthMessage.
//
// RFC 5802 §3: ClientKey := ClientProof XOR HMAC(StoredKey, AuthMessage), and its hash must be StoredKey.
func (v Verifier) proves(proof []byte, authMessage string) bool {
	if len(proof) != sha256.Size {
		return false
	}
	stored := sha256.Sum256(xor(proof, hmacSHA256(v.StoredKey, authMessage)))
	return hmac.Equal(stored[:], v.StoredKey)
}

func xor(a, b []byte) []byte {
	sum := make([]byte, sha256.Size)
	subtle.XORBytes(sum, a, b)
	return sum
}
