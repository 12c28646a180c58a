package wal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
)

// segment is one file of the log.
type segment struct {
	identity
	file File
	size int64 // octets of the file

	summarized bool // its heads stand beside it, or are not worth it; guarded by the log's dropping
}

// window reads a segment in pieces, in rising order.
type window struct {
	file File
	size int64
	from int64
	buf  []byte
}

const (
	windowSize = 256 << 10
	sectorSize = 512
)

// at returns n octets at offset, fewer only at the end of the file. They are valid until the next call.
func (w *window) at(offset int64, n int) []byte {
	n = int(min(int64(n), w.size-offset))
	if n <= 0 {
		return nil
	}
	if offset < w.from || offset+int64(n) > w.from+int64(len(w.buf)) {
		w.fill(offset, max(n, windowSize))
	}
	i := offset - w.from
	return w.buf[i:min(i+int64(n), int64(len(w.buf)))]
}

// fill reads n octets from offset. What the disk cannot read becomes zeros, which no check passes.
func (w *window) fill(offset int64, n int) {
	n = int(min(int64(n), w.size-offset))
	if cap(w.buf) < n {
		w.buf = make([]byte, n)
	}
	w.buf, w.from = w.buf[:n], offset
	if got, err := w.file.ReadAt(w.buf, offset); err == nil || errors.Is(err, io.EOF) {
		clear(w.buf[got:])
		return
	}
	for i := 0; i < n; i += sectorSize {
		sector := w.buf[i:min(i+sectorSize, n)]
		if got, err := w.file.ReadAt(sector, offset+int64(i)); err != nil {
			clear(sector[got:])
		}
	}
}

// record returns the whole record at offset; ok is false where there is none whose checks hold.
func (w *window) record(id identity, offset int64) (h header, payload []byte, ok bool) {
	h, ok = parseHeader(w.at(offset, headerSize), id, uint32(offset))
	if !ok || offset+h.footprint() > w.size {
		return h, nil, false
	}
	payload = w.at(offset+headerSize, int(h.length))
	return h, payload, len(payload) == int(h.length) && crc32.Checksum(payload, castagnoli) == h.payload
}

// tail says how a segment ends.
type tail struct {
	records int
	end     int64 // octets up to which it is understood: behind the last record, or behind the seal
	sealed  bool
}

// scan gives every record of the segment to fn and every damaged stretch to damaged. The slice is valid during the call.
func (s *segment) scan(fn func(Position, []byte) error, damaged func(from, to int64)) (tail, error) {
	w := &window{file: s.file, size: s.size}
	var t tail
	for t.end < s.size {
		h, payload, ok := w.record(s.identity, t.end)
		if !ok {
			next, ok := s.resume(w, t.end)
			if !ok {
				return t, nil
			}
			damaged(t.end, next)
			t.end = next
			continue
		}
		if h.length == 0 {
			t.end += headerSize
			t.sealed = true
			return t, nil
		}
		t.records++
		if err := fn(Position{s.number, uint32(t.end)}, payload); err != nil {
			return t, err
		}
		t.end += h.footprint()
	}
	return t, nil
}

// resume finds the next record behind a bad place, provided that a later record vouches for the bad place: it belongs to a
// group that was written when the bad place was already durable.
func (s *segment) resume(w *window, bad int64) (next int64, ok bool) {
	next = -1
	for offset := bad + alignment; offset < s.size; {
		if n := zeros(w.at(offset, sectorSize)); n > 0 { // most of a tail
			offset += n
			continue
		}
		h, _, whole := w.record(s.identity, offset)
		if !whole {
			offset += alignment
			continue
		}
		if next < 0 {
			next = offset
		}
		if int64(h.group) > bad {
			return next, true
		}
		offset += h.footprint()
	}
	return 0, false
}

// zeros returns how much of b's beginning no record that vouches for anything begins in: all of b, a first step of alignment, or nothing.
func zeros(b []byte) int64 {
	var none [sectorSize]byte
	switch {
	case len(b) == sectorSize && bytes.Equal(b, none[:]):
		return sectorSize
	case len(b) >= alignment && bytes.Equal(b[:alignment], none[:alignment]):
		return alignment
	}
	return 0
}

// seal ends the segment at offset, durably, and gives the rest of the file back.
func (s *segment) seal(offset int64) error {
	b := header{group: uint32(offset)}.appendTo(nil, s.identity, uint32(offset))
	if _, err := s.file.WriteAt(b, offset); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	s.size = offset + headerSize
	return s.file.Truncate(s.size)
}

// setAside copies a damaged stretch to damaged/ in dir, where it is not yet there, and returns the copy's name and whether it was.
func (s *segment) setAside(fsys FS, dir string, from, to int64) (name string, known bool, err error) {
	if err := fsys.Mkdir(path.Join(dir, damagedDir)); err != nil {
		return "", false, err
	}
	name = path.Join(dir, damagedDir, Position{s.number, uint32(from)}.String())
	f, err := fsys.Open(name)
	if err == nil {
		defer f.Close()
		if size, err := f.Size(); err == nil && size == to-from {
			return name, true, nil // an earlier Open did it
		}
	} else if f, err = fsys.Create(name); err != nil {
		return "", false, err
	} else {
		defer f.Close()
	}
	w := &window{file: s.file, size: s.size}
	for offset := from; offset < to; {
		b := w.at(offset, int(min(to-offset, windowSize)))
		if len(b) == 0 {
			break
		}
		if _, err := f.WriteAt(b, offset-from); err != nil {
			return "", false, fmt.Errorf("wal: set aside: %w", err)
		}
		offset += int64(len(b))
	}
	if err := f.Sync(); err != nil {
		return "", false, err
	}
	return name, false, fsys.SyncDir(path.Join(dir, damagedDir))
}
