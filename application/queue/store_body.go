package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"strings"

	"bothy/application/message"
	"bothy/lib/wal"
)

// A body too large for the log has a file of its own, bodies/<id>: pieces of
//
//	length u32 | crc32c of id, index of the piece and octets u32 | octets
//
// little-endian, so that no octet is passed on that was not checked. The file is synced, and its directory, before the
// record that refers to it is written, and removed after the record of the last settlement is durable.

const (
	bodyDir     = "bodies"
	pieceHeader = 8
	maxPiece    = 2 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged says that a message cannot be read any more.
var errDamaged = errors.New("queue: damaged message")

func (s *Spool) bodyPath(id message.ID) string {
	return path.Join(s.o.Dir, bodyDir, id.String())
}

// parseBodyName reads a body's file name.
func parseBodyName(name string) (message.ID, bool) {
	id, err := message.ParseID(strings.TrimSpace(name))
	return id, err == nil && id.String() == name
}

func pieceCheck(id message.ID, index uint32, piece []byte) uint32 {
	place := binary.LittleEndian.AppendUint32(id[:], index)
	return crc32.Update(crc32.Checksum(place, castagnoli), castagnoli, piece)
}

// writeBody copies body, whose first octets are in piece already, to a file of its own, piece by piece, and makes it durable.
// It returns the size of the body. After an error nothing is left of it.
func (s *Spool) writeBody(id message.ID, piece []byte, body io.Reader) (size int64, err error) {
	name := s.bodyPath(id)
	f, err := s.o.FS.Create(name)
	if err != nil {
		return 0, s.storageError(err)
	}
	defer func() {
		f.Close()
		if err != nil {
			s.o.FS.Remove(name) // else the next Open does it
		}
	}()
	var offset int64
	for index := uint32(0); len(piece) > 0; index++ {
		if err := s.room(); err != nil {
			return 0, err
		}
		var head [pieceHeader]byte
		binary.LittleEndian.PutUint32(head[:], uint32(len(piece)))
		binary.LittleEndian.PutUint32(head[4:], pieceCheck(id, index, piece))
		if _, err := f.WriteAt(head[:], offset); err != nil {
			return 0, s.storageError(err)
		}
		if _, err := f.WriteAt(piece, offset+pieceHeader); err != nil {
			return 0, s.storageError(err)
		}
		offset += pieceHeader + int64(len(piece))
		size += int64(len(piece))
		if piece, err = readPiece(body, piece[:0]); err != nil {
			return 0, err
		}
	}
	if err := f.Sync(); err != nil {
		return 0, s.breakDown(err)
	}
	if err := s.o.FS.SyncDir(path.Dir(name)); err != nil {
		return 0, s.breakDown(err)
	}
	return size, nil
}

// readPiece fills b to its capacity; what is read is shorter only at the body's end. io.ReadFull would not do: it takes a
// reader's own io.ErrUnexpectedEOF, a connection cut within the data, for the end.
func readPiece(body io.Reader, b []byte) ([]byte, error) {
	b = b[:0]
	for idle := 0; len(b) < cap(b); {
		n, err := body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case err == io.EOF:
			return b, nil
		case err != nil:
			return b, err
		case n > 0:
			idle = 0
		case idle == maxIdleReads:
			return b, io.ErrNoProgress
		default:
			idle++
		}
	}
	return b, nil
}

// maxIdleReads bounds the reads in a row that return nothing and no error.
const maxIdleReads = 100

// bodyReader reads a body's file.
type bodyReader struct {
	file    wal.File
	id      message.ID
	index   uint32
	offset  int64
	left    int64 // octets of the body not yet read from the file
	piece   []byte
	buf     []byte
	damaged func(error)
}

func (r *bodyReader) Read(p []byte) (int, error) {
	for len(r.piece) == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			r.damaged(err)
			return 0, err
		}
	}
	n := copy(p, r.piece)
	r.piece = r.piece[n:]
	return n, nil
}

// next reads and checks one piece.
func (r *bodyReader) next() error {
	var head [pieceHeader]byte
	if _, err := r.file.ReadAt(head[:], r.offset); err != nil {
		return fmt.Errorf("%w: body at %d: %w", errDamaged, r.offset, noEOF(err))
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n == 0 || n > maxPiece || int64(n) > r.left {
		return fmt.Errorf("%w: body at %d", errDamaged, r.offset)
	}
	if cap(r.buf) < int(n) {
		r.buf = make([]byte, n)
	}
	r.buf = r.buf[:n]
	if _, err := r.file.ReadAt(r.buf, r.offset+pieceHeader); err != nil {
		return fmt.Errorf("%w: body at %d: %w", errDamaged, r.offset, noEOF(err))
	}
	if pieceCheck(r.id, r.index, r.buf) != binary.LittleEndian.Uint32(head[4:]) {
		return fmt.Errorf("%w: body at %d: checksum", errDamaged, r.offset)
	}
	r.piece = r.buf
	r.index++
	r.offset += pieceHeader + int64(n)
	r.left -= int64(n)
	return nil
}

// noEOF keeps a body that is cut short from looking like one that ended.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *bodyReader) Close() error { return r.file.Close() }

// inlineReader reads a body out of its record.
type inlineReader struct{ bytes.Reader }

func (*inlineReader) Close() error { return nil }
