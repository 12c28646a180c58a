package checkpoint

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"time"

	"bothy/application/message"
	"bothy/lib/wal"
)

// kind is what a piece is.
type kind uint32

const (
	textLines    kind = iota + 1 // ends behind a line end, or where any place will do
	textPart                     // ends within a line
	contextPiece                 // JSON
)

const (
	pieceHeader = 8
	pieceSize   = 64 << 10  // of text: also what a transaction takes of memory
	maxPiece    = 1<<30 - 1 // what the length can say
	maxContext  = 1 << 20   // octets: 1,000 recipients with their parameters, and then some
	kindShift   = 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// about is what a file says about its text.
type about struct {
	Owner      string              `json:"owner"`
	Name       string              `json:"name,omitempty"`
	At         time.Time           `json:"at"`
	Recipients []message.Recipient `json:"recipients"`
}

func check(key message.TransactionKey, index uint32, octets []byte) uint32 {
	place := binary.LittleEndian.AppendUint32(key[:], index)
	return crc32.Update(crc32.Checksum(place, castagnoli), castagnoli, octets)
}

// appendPiece appends a piece.
func appendPiece(b []byte, key message.TransactionKey, index uint32, k kind, octets []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(k)<<kindShift|uint32(len(octets)))
	b = binary.LittleEndian.AppendUint32(b, check(key, index, octets))
	return append(b, octets...)
}

// piece is where one stands in its file.
type piece struct {
	kind   kind
	at     int64 // of its octets
	length int64
	index  uint32
	sum    uint32
}

// end is where the next begins.
func (p piece) end() int64 { return p.at + p.length }

// errEnd says that there is no further piece.
var errEnd = errors.New("checkpoint: no further piece")

// pieceAt reads what stands before a piece's octets; errEnd if there is none that is whole.
func pieceAt(f wal.File, offset, size int64, index uint32) (piece, error) {
	var head [pieceHeader]byte
	if offset+pieceHeader > size {
		return piece{}, errEnd
	}
	if _, err := f.ReadAt(head[:], offset); err != nil && !errors.Is(err, io.EOF) {
		return piece{}, err
	}
	word := binary.LittleEndian.Uint32(head[:])
	p := piece{kind(word >> kindShift), offset + pieceHeader, int64(word & maxPiece), index, binary.LittleEndian.Uint32(head[4:])}
	most := int64(pieceSize)
	if p.kind == contextPiece {
		most = maxContext
	}
	if p.kind == 0 || p.length == 0 || p.length > most || p.end() > size {
		return piece{}, errEnd
	}
	return p, nil
}

// read reads a piece's octets into b; errEnd if they are not those that were written.
func (p piece) read(f wal.File, key message.TransactionKey, b []byte) ([]byte, error) {
	if int64(cap(b)) < p.length {
		b = make([]byte, p.length)
	}
	b = b[:p.length]
	if _, err := f.ReadAt(b, p.at); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if check(key, p.index, b) != p.sum {
		return nil, errEnd
	}
	return b, nil
}

// parseAbout reads the octets of a context.
func parseAbout(b []byte) (c about, err error) {
	err = json.Unmarshal(b, &c)
	return c, err
}
