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

	// RandomIterations is the count for a secret of 128 random bits or more: whoever would guess it is not stopped by making each guess dearer,
	// which is what RFC 7677 §4 asks for with passwords in mind. A client must know that it has such a secret: [Credentials.Random].
	RandomIterations = 1

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
	return newVerifier(account, password, iterations)
}

// NewRandomVerifier is NewVerifier for a secret of 128 random bits or more, in microseconds.
func NewRandomVerifier(account, secret string) (Verifier, error) {
	return newVerifier(account, secret, RandomIterations)
}

func newVerifier(account, password string, iterations int) (Verifier, error) {
	v := Verifier{Account: account, Salt: make([]byte, saltLength), Iterations: iterations}
	rand.Read(v.Salt)
	var err error
	v.Keys, err = v.KeysOf(password)
	return v, err
}

// KeysOf makes the keys of one more password under v's salt and count.
func (v Verifier) KeysOf(password string) (Keys, error) {
	if len(password) > maxSecretBytes {
		return Keys{}, fmt.Errorf("sasl: password longer than %d octets", maxSecretBytes)
	}
	salted, err := saltedPassword(password, v.Salt, v.Iterations)
	if err != nil {
		return Keys{}, fmt.Errorf("sasl: password: %w", err)
	}
	return keys(salted), nil
}

// Check reports whether password is one of v's. It takes as long for a wrong one.
func (v Verifier) Check(password string) bool {
	given, err := v.KeysOf(password)
	return err == nil && v.has(given)
}

// has reports whether the keys are those of one of v's passwords.
func (v Verifier) has(given Keys) bool {
	_, ok := v.find(func(k Keys) bool { return hmac.Equal(given.StoredKey, k.StoredKey) })
	return ok
}

// find returns the keys that fit. All are looked at, so that nobody learns from the time which ones did.
func (v Verifier) find(fit func(Keys) bool) (found Keys, ok bool) {
	for _, k := range v.Apps {
		if fit(k) {
			found, ok = k, true
		}
	}
	if fit(v.Keys) {
		found, ok = v.Keys, true
	}
	return found, ok
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
func keys(salted []byte) Keys {
	stored := sha256.Sum256(clientKey(salted))
	return Keys{stored[:], hmacSHA256(salted, "Server Key")}
}

// RFC 5802 §3: ClientKey := HMAC(SaltedPassword, "Client Key")
func clientKey(salted []byte) []byte { return hmacSHA256(salted, "Client Key") }

// proven returns the keys behind whose ClientKey proof shows knowledge for this AuthMessage.
//
// RFC 5802 §3: ClientKey := ClientProof XOR HMAC(StoredKey, AuthMessage), and its hash must be StoredKey.
func (v Verifier) proven(proof []byte, authMessage string) (Keys, bool) {
	if len(proof) != sha256.Size {
		return Keys{}, false
	}
	return v.find(func(k Keys) bool {
		stored := sha256.Sum256(xor(proof, hmacSHA256(k.StoredKey, authMessage)))
		return hmac.Equal(stored[:], k.StoredKey)
	})
}

func xor(a, b []byte) []byte {
	sum := make([]byte, sha256.Size)
	subtle.XORBytes(sum, a, b)
	return sum
}
