package smtp

import (
	"bufio"
	"compress/flate"
	"errors"
	"io"
	"sync"

	"bothy/application/message"
)

var (
	replyDeflated = Reply{503, [3]int{5, 5, 1}, "compressed message: want BDAT"}
	replyInflate  = Reply{554, [3]int{5, 6, 0}, "not one whole DEFLATE stream"}
)

func offersDeflate(s *Session) bool { return s.server.Offer.Deflate && s.server.Protocol != Held }

func takeDeflate(s *Session, _ *message.Envelope, _ *message.Recipient, p parameter) Reply {
	if p.hasValue {
		return badValue(p.keyword)
	}
	s.deflated = true
	return Reply{}
}

// inflater makes text of the chunks of a compressed message. All that is checked of a text is checked of what comes out, so that a small
// stream cannot make a large message: it stops at the limit for messages.
type inflater struct {
	chunks chunks
	in     *bufio.Reader // on chunks; flate reads no octet too many from one that gives single octets
	out    io.ReadCloser // on in
	text   [blockSize]byte
}

var inflaters = sync.Pool{New: func() any {
	f := new(inflater)
	f.in = bufio.NewReaderSize(&f.chunks, 4<<10)
	f.out = flate.NewReader(f.in)
	return f
}}

// newInflater returns one with a dictionary that knows of no other message.
func newInflater(b *body) *inflater {
	f := inflaters.Get().(*inflater)
	f.chunks.body = b
	f.in.Reset(&f.chunks)
	_ = f.out.(flate.Resetter).Reset(f.in, nil) // it always returns nil
	return f
}

// chunks are the octets that BDAT brings, as far as its chunks go.
type chunks struct{ body *body }

// errStopped ends a stream of which nothing more comes; the body knows why.
var errStopped = errors.New("smtp: message stopped")

func (r *chunks) Read(p []byte) (int, error) {
	b := r.body
	for b.left == 0 {
		if b.last {
			return 0, io.EOF
		}
		if b.nextChunk(); b.stopped() {
			return 0, errStopped
		}
	}
	c := b.s.Conn
	if len(c.in) == 0 {
		if err := b.fill(); err != nil {
			b.lose(err)
			return 0, errStopped
		}
	}
	n := copy(p, c.in[:min(int64(len(c.in)), b.left)])
	c.in = c.in[n:]
	b.left -= int64(n)
	return n, nil
}

// inflate is find for a compressed message.
func (b *body) inflate() {
	f := b.inflater
	n, err := f.out.Read(f.text[:])
	switch {
	case n > 0:
		b.text = f.text[:n]
		b.ends.write(b.text)
		b.check()
	case b.stopped():
	case !errors.Is(err, io.EOF) || f.in.Buffered() > 0 || b.left > 0: // RFC 1951 §3.2.3: it knows its end
		b.refusal = replyInflate
	default:
		b.nextChunk()
	}
}

// release gives the inflater back; what is left of the stream is octets.
func (b *body) release() {
	if b.inflater != nil {
		b.inflater.chunks.body = nil
		inflaters.Put(b.inflater)
		b.inflater = nil
	}
}
