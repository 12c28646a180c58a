package queue

import (
	"encoding/binary"
	"fmt"
	"math"

	"bothy/application/message"
)

// Tags within a tagTransaction.
const (
	tagKey = iota + 1
	tagOctets
	tagTakers // eight octets for each recipient, little-endian
)

// Tags of a kindAsked, and within its tagAsked.
const (
	tagAsked = iota + 1

	tagAskedID
	tagAskedAt
	tagAskedOf // the fields of a tagTransaction
)

func appendTransaction(b []byte, t *message.Transaction) []byte {
	b = appendString(b, tagKey, string(t.Key[:]))
	b = appendUint(b, tagOctets, uint64(t.Size))
	if len(t.To) == 0 {
		return b
	}
	return appendNested(b, tagTakers, func(b []byte) []byte {
		for _, to := range t.To {
			b = binary.LittleEndian.AppendUint64(b, to)
		}
		return b
	})
}

func parseTransaction(b []byte) (t message.Transaction, err error) {
	_, err = parseFields(b, false, func(f field) (err error) {
		var v uint64
		switch f.tag {
		case tagKey:
			if copy(t.Key[:], f.value) != len(t.Key) || len(f.value) != len(t.Key) {
				err = fmt.Errorf("%w: transaction", errRecord)
			}
		case tagOctets:
			v, err = f.uint(math.MaxInt64)
			t.Size = int64(v)
		case tagTakers:
			if len(f.value)%8 != 0 {
				return fmt.Errorf("%w: recipients of a transaction", errRecord)
			}
			for b := f.value; len(b) > 0; b = b[8:] {
				t.To = append(t.To, binary.LittleEndian.Uint64(b))
			}
		}
		return err
	})
	return t, err
}

// appendAsked adds a kindAsked.
func appendAsked(b []byte, all []*asked) []byte {
	b = append(b, kindAsked)
	for _, a := range all {
		b = appendNested(b, tagAsked, func(b []byte) []byte {
			b = appendString(b, tagAskedID, string(a.id[:]))
			b = appendUint(b, tagAskedAt, uint64(a.at))
			return appendNested(b, tagAskedOf, func(b []byte) []byte { return appendTransaction(b, &a.Transaction) })
		})
	}
	return append(b, tagEnd)
}

// parseAsked reads a kindAsked.
func parseAsked(b []byte) (all []*asked, err error) {
	if len(b) == 0 || b[0] != kindAsked {
		return nil, errRecord
	}
	_, err = parseFields(b[1:], true, func(f field) error {
		if f.tag != tagAsked {
			return nil
		}
		a := new(asked)
		all = append(all, a)
		_, err := parseFields(f.value, false, func(f field) (err error) {
			var v uint64
			switch f.tag {
			case tagAskedID:
				a.id, err = f.id()
			case tagAskedAt:
				v, err = f.uint(math.MaxInt64)
				a.at = int64(v)
			case tagAskedOf:
				a.Transaction, err = parseTransaction(f.value)
			}
			return err
		})
		return err
	})
	return all, err
}
