package smtp

import (
	"bytes"
	"compress/flate"
	"io"
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

// packer makes chunks of a text that is compressed on its way.
type packer struct {
	t      *transfer
	in     []byte
	z      *flate.Writer
	packed bytes.Buffer // not sent yet
	closed bool         // the text is over
}

func newPacker(t *transfer, in []byte) *packer {
	p := &packer{t: t, in: in, z: deflaters.Get().(*flate.Writer)}
	p.z.Reset(&p.packed)
	return p
}

func (p *packer) free() { deflaters.Put(p.z) }

// writeChunk is that of transfer.
func (p *packer) writeChunk(out []byte, most int64) (last bool, err error) {
	t := p.t
	for !p.closed && int64(p.packed.Len()) < most {
		n, err := t.read(p.in)
		if err != nil {
			return false, err
		}
		p.z.Write(p.in[:n]) // memory does not fail
		if p.closed = t.left == 0; p.closed {
			p.z.Close()
		}
	}
	chunk := p.packed.Next(int(most))
	if last = p.closed && p.packed.Len() == 0; last {
		t.ending.Store(true)
	}
	if err := t.write(t.appendChunk(out, int64(len(chunk)), last)); err != nil {
		return false, err
	}
	return last, t.write(chunk)
}
