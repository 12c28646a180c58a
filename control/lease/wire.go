package lease

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"time"
)

// A record of the log, all big-endian:
//
//	kind u8 | flags u8 | the store's clock i64, milliseconds since 1970 | that less the time of day i64 | and then, of a
//	row     prefix | state u8 | IAID u32 | expires i64 | updated i64 | client, hardware, hostname, data: length u16, octets
//	gone    prefix
//	clock   nothing
//
// A prefix is octets of the address u8 (4 or 16), address, bits u8. Expires is never when it is the largest number.
const (
	kindRow   = 1
	kindGone  = 2
	kindClock = 3

	flagUnknown = 1 // the time of day was not to be trusted: C3
	flagPinned  = 2 // of a row
)

const never = math.MaxInt64

// errRecord says that a record is none of ours.
var errRecord = errors.New("lease: record not understood")

// record is a record of the log.
type record struct {
	kind    byte
	now     int64
	ahead   int64
	unknown bool
	lease   Lease // of a row; of gone its Prefix
}

// millis rounds up: a lease never ends early because of its record.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return never
	}
	return t.Add(time.Millisecond - 1).UnixMilli()
}

func instant(ms int64) time.Time {
	if ms == never {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func (r *record) appendTo(b []byte) []byte {
	var flags byte
	if r.unknown {
		flags |= flagUnknown
	}
	if r.lease.Pinned {
		flags |= flagPinned
	}
	b = append(b, r.kind, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(r.now))
	b = binary.BigEndian.AppendUint64(b, uint64(r.ahead))
	l := &r.lease
	switch r.kind {
	case kindRow:
		b = append(appendPrefix(b, l.Prefix), byte(l.State))
		b = binary.BigEndian.AppendUint32(b, l.IAID)
		b = binary.BigEndian.AppendUint64(b, uint64(millis(l.Expires)))
		b = binary.BigEndian.AppendUint64(b, uint64(l.Updated.UnixMilli()))
		b = appendString(b, l.Client)
		b = appendString(b, l.Hardware)
		b = appendString(b, l.Hostname)
		b = appendString(b, l.Data)
	case kindGone:
		b = appendPrefix(b, l.Prefix)
	}
	return b
}

func appendPrefix(b []byte, p netip.Prefix) []byte {
	a := p.Addr()
	return append(append(append(b, byte(a.BitLen()/8)), a.AsSlice()...), byte(p.Bits()))
}

func appendString[T ~string | ~[]byte](b []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// reader takes values off the front of a record; after a short read it is bad for good.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) int64() int64   { return int64(binary.BigEndian.Uint64(r.take(8))) }
func (r *reader) string() string { return string(r.take(int(r.uint16()))) }

func (r *reader) prefix() netip.Prefix {
	n := r.byte()
	if n != 4 && n != 16 {
		r.bad = true
		return netip.Prefix{}
	}
	a, _ := netip.AddrFromSlice(r.take(int(n)))
	return netip.PrefixFrom(a, int(r.byte()))
}

// parseRecord reads a record, all of it.
func parseRecord(b []byte) (*record, error) {
	in := reader{b: b}
	kind, flags := in.byte(), in.byte()
	r := &record{kind: kind, unknown: flags&flagUnknown != 0, now: in.int64(), ahead: in.int64()}
	l := &r.lease
	switch kind {
	case kindRow:
		l.Prefix, l.State, l.Pinned, l.IAID = in.prefix(), State(in.byte()), flags&flagPinned != 0, in.uint32()
		l.Expires, l.Updated = instant(in.int64()), time.UnixMilli(in.int64())
		l.Client, l.Hardware, l.Hostname = ID(in.string()), ID(in.string()), in.string()
		if data := in.string(); data != "" {
			l.Data = []byte(data)
		}
		if l.check() != nil || l.State < Bound || l.State > Declined {
			return nil, errRecord
		}
	case kindGone:
		l.Prefix = in.prefix()
	case kindClock:
	default:
		return nil, errRecord
	}
	if in.bad || len(in.b) > 0 {
		return nil, errRecord
	}
	return r, nil
}
