package message

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"time"
)

// ID names one accepted message for its whole life: 48 bits of milliseconds since 1970 and 48 random bits, so that
// IDs sort by time and two servers do not collide.
type ID [12]byte

// ErrID says that a text is not what ID.String writes.
var ErrID = errors.New("message: not a message id")

// idText is base32hex (RFC 4648 §7) in lower case: it sorts as the octets do.
var idText = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// idLen is the length of an ID's text, in characters.
const idLen = 20

// NewID returns a fresh ID for a message accepted at now. It never fails: without randomness crypto/rand ends the process.
func NewID(now time.Time) ID {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	var id ID
	copy(id[:6], ms[2:])
	rand.Read(id[6:])
	return id
}

// ParseID reads what String wrote, and nothing else: an ID has one text.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != idLen {
		return ID{}, ErrID
	}
	// Four bits of the last character are beyond the ID: the round trip refuses those that set them.
	if _, err := idText.Decode(id[:], []byte(s)); err != nil || id.String() != s {
		return ID{}, ErrID
	}
	return id, nil
}

// String returns 20 characters of [0-9a-v], which sort as the ID does.
func (id ID) String() string { return idText.EncodeToString(id[:]) }

// Time returns when the message was accepted, to the millisecond.
func (id ID) Time() time.Time {
	var ms [8]byte
	copy(ms[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:])))
}

// IsZero reports whether no ID was given yet.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText is String; UnmarshalText is ParseID.
func (id ID) MarshalText() ([]byte, error) { return idText.AppendEncode(nil, id[:]), nil }

// UnmarshalText is ParseID.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}
