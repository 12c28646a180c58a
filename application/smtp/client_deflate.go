package smtp

import (
	"bytes"
	"compress/flate"
	"io"
	"math"
	"sync"
)

// KeywordDeflate is the EHLO keyword of a server that takes messages compressed (RFC 1951): MAIL says "XDEFLATE", and what BDAT brings is one
// DEFLATE stream of the message, in as many chunks as it likes. SIZE, and whatever counts the octets of the message, means those of the
// message. Each message has a stream and a dictionary of its own: were they shared, the length of one would tell of another's
// content (CRIME). It is a local extension (RFC 5321 §4.1.1.1), for a client that knows its peer: see Client.Deflate.
const KeywordDeflate = "XDEFLATE"

const (
	sampleSize = 32 << 10 // of a long text, to find out whether it is worth it
	worthwhile = 15       // sixteenths: what does not become this small goes as it is, such as what is compressed already
)

// deflaters have a dictionary that Reset forgets.
var deflaters = sync.Pool{New: func() any {
	z, _ := flate.NewWriter(io.Discard, flate.DefaultCompression) // fails for levels that there are not
	return z
}}

// deflate returns text compressed, nil if that is not worth it.
func deflate(text []byte) []byte {
	z := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(z)
	var packed bytes.Buffer
	z.Reset(&packed)
	z.Write(text) // memory does not fail
	z.Close()
	if packed.Len() > len(text)*worthwhile/16 {
		return nil
	}
	return packed.Bytes()
}

// pack decides whether the text goes compressed, and compresses it if it goes with its envelope. What it reads is put back.
func (t *transfer) pack() error {
	if !t.deflated {
		return nil
	}
	head := make([]byte, min(t.size, max(sampleSize, eagerSize)))
	if _, err := t.read(head); err != nil {
		return err
	}
	t.body, t.left = io.MultiReader(bytes.NewReader(head), t.body), t.size
	packed := deflate(head)
	if t.deflated = packed != nil; t.deflated && t.eager {
		t.packed = packed
	}
	return nil
}

// wire is how many octets of an eager text are sent.
func (t *transfer) wire() int64 {
	if t.packed != nil {
		return int64(len(t.packed))
	}
	return t.size
}

// writeEager writes the text that goes with its envelope, behind what is in out.
func (t *transfer) writeEager(out []byte) error {
	if t.packed == nil {
		return t.writeText(out, t.size, true)
	}
	t.ending.Store(true)
	return t.write(append(out, t.packed...))
}

// writeDeflated is writeChunks for a text that is compressed on its way.
func (t *transfer) writeDeflated(out, in []byte) error {
	z := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(z)
	var packed bytes.Buffer
	z.Reset(&packed)
	for sent, closed := int64(0), false; ; sent++ {
		if t.halted.Load() { // RFC 3030 §2: no more, and RSET
			t.aborted.Store(sent)
			return t.write(append(out[:0], "RSET\r\n"...))
		}
		for !closed && packed.Len() < chunkSize {
			n, err := t.read(in)
			if err != nil {
				return err
			}
			z.Write(in[:n]) // memory does not fail
			if closed = t.left == 0; closed {
				z.Close()
			}
		}
		chunk := packed.Next(chunkSize)
		last := closed && packed.Len() == 0
		if last {
			t.chunks.Store(sent + 1)
			t.ending.Store(true)
		}
		if err := t.write(appendBDAT(out[:0], int64(len(chunk)), last)); err != nil {
			return err
		}
		if err := t.write(chunk); err != nil || last {
			return err
		}
	}
}

// unknownChunks is the number of chunks of a text that is compressed, as long as its last one is not sent.
const unknownChunks = math.MaxInt64
