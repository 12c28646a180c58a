package queue

import (
	"fmt"
	"math"

	"bothy/application/message"
)

func (r *record) addRecipient(b []byte) error {
	var to message.Recipient
	var w waiting
	_, err := parseFields(b, false, func(f field) (err error) {
		var v uint64
		switch f.tag {
		case tagNumber:
			v, err = f.uint(math.MaxUint32)
			w.number = uint32(v)
		case tagLocal:
			to.Address.Local = string(f.value)
		case tagDomain:
			to.Address.Domain = string(f.value)
		case tagNotify:
			v, err = f.uint(math.MaxUint8)
			to.Notify = message.Notify(v)
		case tagOriginal:
			to.Original = string(f.value)
		case tagAttempts:
			v, err = f.uint(math.MaxUint16)
			w.attempts = uint16(v)
		case tagWhen:
			v, err = f.uint(math.MaxInt64)
			w.when = int64(v)
		case tagHold:
			v, err = f.uint(1)
			w.hold = v != 0
		case tagTold:
			v, err = f.uint(1)
			w.told = v != 0
		default:
			err = w.last.set(f)
		}
		return err
	})
	if n := len(r.states); err == nil && n > 0 && r.states[n-1].number >= w.number {
		err = fmt.Errorf("%w: recipients out of order", errRecord)
	}
	r.Recipients, r.states = append(r.Recipients, to), append(r.states, w)
	return err
}
