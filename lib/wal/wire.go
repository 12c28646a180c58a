package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	headerSize = 16
	alignment  = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Position is where a record stands. It orders records by age; the zero Position is nowhere.
type Position struct {
	Segment uint32 // from 1
	Offset  uint32 // octets from the segment's start
}

// Before reports whether p is older than q.
func (p Position) Before(q Position) bool {
	return p.Segment < q.Segment || p.Segment == q.Segment && p.Offset < q.Offset
}

func (p Position) String() string { return fmt.Sprintf("%08x-%08x", p.Segment, p.Offset) }

// identity is one life of one segment file; it is the file's name.
type identity struct{ number, salt uint32 }

func (id identity) String() string { return fmt.Sprintf("%08x-%08x.log", id.number, id.salt) }

// parseIdentity reads a segment's file name.
func parseIdentity(name string) (id identity, ok bool) {
	if len(name) != len("00000000-00000000.log") {
		return id, false
	}
	if n, err := fmt.Sscanf(name, "%08x-%08x.log", &id.number, &id.salt); n != 2 || err != nil {
		return id, false
	}
	return id, id.String() == name && id.number > 0
}

// header precedes each record.
type header struct {
	length  uint32 // octets of the payload; 0 seals the segment
	group   uint32 // offset at which the group begins that the record was written with
	payload uint32 // crc32c
}

// footprint is the room that a payload of n octets takes.
func footprint(n int) int64 {
	return (headerSize + int64(n) + alignment - 1) &^ (alignment - 1)
}

func (h header) footprint() int64 { return footprint(int(h.length)) }

// appendTo adds the header for a record at offset of segment id.
func (h header) appendTo(b []byte, id identity, offset uint32) []byte {
	b = binary.LittleEndian.AppendUint32(b, h.length)
	b = binary.LittleEndian.AppendUint32(b, h.group)
	b = binary.LittleEndian.AppendUint32(b, h.payload)
	return binary.LittleEndian.AppendUint32(b, id.check(offset, b[len(b)-12:]))
}

// parseHeader reads the header at offset of segment id; ok is false for anything that was not written there.
func parseHeader(b []byte, id identity, offset uint32) (h header, ok bool) {
	if len(b) < headerSize {
		return h, false
	}
	h = header{
		length:  binary.LittleEndian.Uint32(b),
		group:   binary.LittleEndian.Uint32(b[4:]),
		payload: binary.LittleEndian.Uint32(b[8:]),
	}
	if h.group > offset || h.length == 0 && h.payload != 0 {
		return h, false // cheaper than the check, and most octets fail here
	}
	return h, binary.LittleEndian.Uint32(b[12:]) == id.check(offset, b[:12])
}

// check is the last field of a header: the checksum of its other fields, bound to the place.
func (id identity) check(offset uint32, head []byte) uint32 {
	return crc32.Checksum(head, castagnoli) ^ id.seed() ^ offset
}

// seed spreads an identity over 32 bits (the finalizer of SplitMix64).
func (id identity) seed() uint32 {
	x := uint64(id.salt)<<32 | uint64(id.number)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return uint32((x ^ x>>31) >> 32)
}
