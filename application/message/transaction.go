package message

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Transaction is what a server remembers of a transaction that its client may ask for again (RFC 1845 §3). The zero Transaction is one that
// nobody asks for.
type Transaction struct {
	Key  TransactionKey
	Size int64    // octets of the text as the client sent it
	To   []uint64 // the recipients it was accepted for, each as RecipientHash has it
}

// TransactionKey tells transactions apart, whoever their clients are. The zero key is none.
type TransactionKey [16]byte

// NewTransactionKey makes a key of all that must be the same for two transactions to be one.
func NewTransactionKey(parts ...string) (key TransactionKey) {
	copy(key[:], digest(parts))
	return key
}

// IsZero reports whether there is no transaction to remember.
func (k TransactionKey) IsZero() bool { return k == TransactionKey{} }

// String is the key in lower-case letters and digits, as a name for a file.
func (k TransactionKey) String() string { return idText.EncodeToString(k[:]) }

// ParseTransactionKey reads what String wrote, and nothing else; ok is false if s is none.
func ParseTransactionKey(s string) (key TransactionKey, ok bool) {
	if idText.DecodedLen(len(s)) != len(key) {
		return key, false
	}
	if _, err := idText.Decode(key[:], []byte(s)); err != nil || key.String() != s {
		return TransactionKey{}, false
	}
	return key, true
}

// RecipientHash is what Transaction keeps of a recipient.
func RecipientHash(a Address) uint64 {
	return binary.BigEndian.Uint64(digest([]string{a.Local, a.Domain}))
}

// Accepted reports whether the transaction was accepted for a.
func (t *Transaction) Accepted(a Address) bool { return slices.Contains(t.To, RecipientHash(a)) }

// digest hashes parts so that no two lists of them look alike.
func digest(parts []string) []byte {
	h := sha256.New()
	var length [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(length[:], uint64(len(p)))
		h.Write(length[:])
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}
