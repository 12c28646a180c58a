package wal

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"strings"
)

// Heads lets Open replay the heads of records and leave the rest unread: that is checked when somebody reads it. Beside a complete
// segment then stands a file, `00000007-5e21a7d0.heads`, of
//
//	offset u32 | length of the record u32 | length of its head u32 | head
//
// for each record, and a crc32c of all that, xor the segment's seed. It is worth nothing: where it is missing or not whole, the segment
// is read. So nobody syncs it.
type Heads struct {
	Length func(record []byte) int                         // octets of a record that Replay needs
	Replay func(p Position, head []byte, length int) error // the length is the whole record's
}

const (
	headsSuffix  = ".heads"
	logSuffix    = ".log"
	headEntry    = 12
	headsTrailer = 4
	maxHeads     = 16 << 20 // octets of one file, which is held in memory
	headsShare   = 4        // a file larger than this part of its segment is not worth the writing
)

func (l *Log) headsPath(id identity) string {
	return strings.TrimSuffix(l.path(id), logSuffix) + headsSuffix
}

// Summarize writes the heads of the complete segments that have none yet. It does no harm where it fails.
func (l *Log) Summarize() {
	if l.o.Heads == nil {
		return
	}
	numbers := l.Segments()
	for _, n := range numbers[:max(0, len(numbers)-1)] {
		l.dropping.Lock()
		s, err := l.complete(n)
		if err == nil && !s.summarized {
			s.summarized = true
			l.summarize(s)
		}
		l.dropping.Unlock()
	}
}

// summarize writes the heads of one complete segment. The caller holds dropping.
func (l *Log) summarize(s *segment) {
	var b []byte
	limit := min(s.size/headsShare, maxHeads)
	whole := true
	t, err := s.scan(func(p Position, record []byte) error {
		n := min(max(l.o.Heads.Length(record), 0), len(record))
		b = binary.LittleEndian.AppendUint32(b, p.Offset)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(record)))
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
		b = append(b, record[:n]...)
		if int64(len(b)) > limit {
			return ErrTooLarge
		}
		return nil
	}, func(int64, int64) { whole = false })
	if err != nil || !whole || !t.sealed {
		return // damage is to be met again
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)^s.seed())
	name := l.headsPath(s.identity)
	l.o.FS.Remove(name) // one that was not whole
	f, err := l.o.FS.Create(name)
	if err != nil {
		return
	}
	_, err = f.WriteAt(b, 0)
	f.Close()
	if err != nil {
		l.o.FS.Remove(name)
	}
}

// replayHeads replays a segment from its heads; false when they are not there whole, and then nothing was replayed.
func (l *Log) replayHeads(s *segment) (done bool, err error) {
	if l.o.Heads == nil {
		return false, nil
	}
	b := l.readHeads(s)
	if b == nil {
		return false, nil
	}
	for len(b) > 0 {
		p := Position{s.number, binary.LittleEndian.Uint32(b)}
		length, n := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
		if err := l.o.Heads.Replay(p, b[headEntry:headEntry+n], int(length)); err != nil {
			return false, err
		}
		b = b[headEntry+n:]
	}
	s.summarized = true
	return true, nil
}

// readHeads returns the entries of a segment's heads; nil when they are not there whole.
func (l *Log) readHeads(s *segment) []byte {
	f, err := l.o.FS.Open(l.headsPath(s.identity))
	if err != nil {
		return nil
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size <= headsTrailer || size > maxHeads+headsTrailer+math.MaxUint16 {
		return nil
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) && err != nil {
		return nil
	}
	b, sum := b[:size-headsTrailer], binary.LittleEndian.Uint32(b[size-headsTrailer:])
	if crc32.Checksum(b, castagnoli)^s.seed() != sum || !wholeHeads(b, s.size) {
		return nil
	}
	return b
}

// wholeHeads reports whether b is entries that fit a segment of size octets.
func wholeHeads(b []byte, size int64) bool {
	for len(b) > 0 {
		if len(b) < headEntry {
			return false
		}
		offset, length, n := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
		if n > length || int64(n) > int64(len(b)-headEntry) || int64(offset)+footprint(int(length)) > size {
			return false
		}
		b = b[headEntry+n:]
	}
	return true
}
