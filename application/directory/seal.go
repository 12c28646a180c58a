package directory

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"bothy/lib/file"
)

const keyLength = 32 // octets: AES-256

// sealer keeps CRAM-MD5 passwords from whoever has the database and not the key: AES-256-GCM under the key in file, bound to the account.
type sealer struct {
	file string

	mu   sync.Mutex
	aead cipher.AEAD // nil: not read yet
}

// seal returns nonce and ciphertext. It makes the key if there is none; the caller holds SQLite's write lock, so nobody else makes one.
func (k *sealer) seal(account, secret string) ([]byte, error) {
	aead, err := k.open()
	if errors.Is(err, os.ErrNotExist) {
		if err = k.make(); err == nil {
			aead, err = k.open()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("directory: key of the CRAM-MD5 passwords: %w", err)
	}
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, []byte(secret), []byte(account)), nil
}

func (k *sealer) unseal(account string, sealed []byte) ([]byte, error) {
	aead, err := k.open()
	if err != nil {
		return nil, err
	}
	if len(sealed) < aead.NonceSize() {
		return nil, errors.New("sealed password cut off")
	}
	return aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], []byte(account))
}

func (k *sealer) open() (cipher.AEAD, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.aead != nil {
		return k.aead, nil
	}
	text, err := os.ReadFile(k.file)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != keyLength {
		return nil, fmt.Errorf("%s: want %d hexadecimal digits", k.file, 2*keyLength)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	k.aead, err = cipher.NewGCM(block)
	return k.aead, err
}

// make writes a new key, wholly or not at all.
func (k *sealer) make() error {
	key := make([]byte, keyLength)
	rand.Read(key)
	return file.Replace(k.file, fmt.Appendf(nil, "%x\n", key), 0o600)
}
