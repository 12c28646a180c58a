package smtp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
)

// writeData writes the text after 354 (RFC 5321 §4.1.1.4).
func (t *transfer) writeData(out, in []byte) error {
	if err := t.skip(in); err != nil {
		return err
	}
	var dots stuffer
	for last := false; !last; {
		n, err := t.read(in)
		if err != nil {
			return err
		}
		last = t.left == 0
		out = dots.appendTo(out[:0], in[:n])
		if last {
			out = dots.end(out)
		}
		if dots.lines.bare || last && dots.lines.cr { // RFC 5321 §2.3.8: we must not send it
			return errBody{replyBareText}
		}
		t.ending.Store(last)
		if err := t.write(out); err != nil {
			return err
		}
	}
	return nil
}

// dataReply reads the reply to the text; by LMTP one for each recipient that was accepted, in their order (RFC 2033 §4.2).
func (t *transfer) dataReply(ctx context.Context) error {
	r, err := t.finalReply(ctx, t.voice)
	if t.c.LMTP && err == nil {
		err = t.concludedEach(ctx, r)
	} else if err == nil {
		err = t.concluded(r)
	}
	if err != nil {
		return t.badBody(t.voice.give(err))
	}
	return t.voice.end()
}

// concludedEach takes the replies of LMTP, of which r is the first.
func (t *transfer) concludedEach(ctx context.Context, r Reply) (err error) {
	first := true
	for _, i := range t.asked {
		if t.replies[i].Code != 0 {
			continue
		}
		if !first {
			if r, err = t.c.read(ctx, t.c.Timeouts.DataDone); err != nil {
				return err
			}
		}
		first = false
		if r.Code/100 == 3 || r.Positive() && !t.ending.Load() {
			return t.c.outOfStep("the end of the message", r)
		}
		t.replies[i] = r
	}
	t.c.open = false
	return nil
}

// emptyData ends a DATA that was accepted though no recipient was (RFC 2920 §3.1). Its reply is nobody's.
func (t *transfer) emptyData(ctx context.Context) error {
	if err := t.write([]byte(".\r\n")); err != nil {
		return err
	}
	_, err := t.c.read(ctx, t.c.Timeouts.DataDone)
	t.c.open = err != nil
	return err
}

// writeChunks writes the text with BDAT (RFC 3030 §2), the chunks one behind the other, and the first of them behind what is in out. Where that goes
// ahead, the next waits for the replies to the envelope.
func (t *transfer) writeChunks(out, in []byte) error {
	if err := t.skip(in); err != nil {
		return err
	}
	write := t.writeChunk
	if t.deflated {
		p := newPacker(t, in)
		defer p.free()
		write = p.writeChunk
	}
	for size := cmp.Or(t.ahead, chunkSize); ; size = chunkSize {
		switch {
		case t.halted.Load(): // RFC 3030 §2: no more, and RSET
			t.aborted.Store(t.sent.Load())
			return t.write(append(out, "RSET\r\n"...))
		case t.known.Load(): // all of it
			t.ending.Store(true)
			return t.write(t.appendChunk(out, 0, true))
		}
		if last, err := write(out, size); err != nil || last {
			return err
		}
		if out = out[:0]; t.ahead > 0 {
			<-t.answered
		}
	}
}

// appendChunk appends the command of the next chunk.
func (t *transfer) appendChunk(out []byte, size int64, last bool) []byte {
	t.wired.Add(size)
	if sent := t.sent.Add(1); last {
		t.chunks.Store(sent)
	}
	return appendBDAT(out, size, last)
}

// writeChunk writes what is in out and the next chunk, of most octets at most.
func (t *transfer) writeChunk(out []byte, most int64) (last bool, err error) {
	n := min(t.left, most)
	last = n == t.left
	return last, t.writeText(t.appendChunk(out, n, last), n, last)
}

// unknownChunks is the number of chunks of a text that is compressed, as long as its last one is not sent.
const unknownChunks = math.MaxInt64

// lastChunk is the index of the last chunk.
func (t *transfer) lastChunk() int64 {
	if t.deflated || t.known.Load() {
		return t.chunks.Load() - 1
	}
	behind := max(0, t.size-t.offset-cmp.Or(t.ahead, chunkSize))
	return (behind + chunkSize - 1) / chunkSize
}

// chunkReplies reads the replies to writeChunks.
func (t *transfer) chunkReplies(ctx context.Context) error {
	v := t.voice
	for k := int64(0); ; k++ {
		r, err := t.finalReply(ctx, v)
		if err == nil && r.Code/100 == 3 {
			err = t.c.outOfStep("BDAT", r)
		}
		switch {
		case err != nil:
			return t.badBody(v.give(err))
		case k == t.aborted.Load(): // this is the reply to RSET
			t.c.open = !r.Positive()
			return v.end()
		case k == t.lastChunk():
			if !t.halted.Load() {
				err = t.concluded(r)
			}
			return errors.Join(err, v.end())
		case !r.Positive() && !t.halted.Load():
			t.settle(r)
			t.halted.Store(true)
		}
	}
}

// chunkByChunk sends chunks to a peer that does not pipeline.
func (t *transfer) chunkByChunk(ctx context.Context) error {
	if err := t.skip(make([]byte, blockSize)); err != nil {
		return t.badBody(err)
	}
	for last := false; !last; {
		n := min(t.left, chunkSize)
		last = n == t.left
		v := t.speak(func(out, _ []byte) error { return t.writeText(appendBDAT(out, n, last), n, last) })
		r, err := t.finalReply(ctx, v)
		switch {
		case err == nil && (last || !r.Positive()):
			last, err = true, t.concluded(r)
		case err == nil && r.Code/100 == 3:
			err = t.c.outOfStep("BDAT", r)
		}
		if err != nil {
			return t.badBody(v.give(err))
		}
		if err := v.end(); err != nil {
			return err
		}
	}
	return nil
}

// writeText writes what is in out and n octets of the text behind it; last says that the text ends with them.
func (t *transfer) writeText(out []byte, n int64, last bool) error {
	for {
		room := out[len(out):min(cap(out), max(blockSize, len(out)+1024))]
		got, err := t.read(room[:min(int64(len(room)), n)])
		if err != nil {
			return err
		}
		out = out[:len(out)+got]
		n -= int64(got)
		if n == 0 {
			t.ending.Store(last)
		}
		if err := t.write(out); err != nil || n == 0 {
			return err
		}
		out = out[:0]
	}
}

// errBody says that the message itself failed; the connection must not outlive it.
type errBody struct{ error }

func (e errBody) Unwrap() error { return e.error }

// read fills p with text, as far as there is any, and makes sure that behind the last octet there is none.
func (t *transfer) read(p []byte) (int, error) {
	n, err := io.ReadFull(t.body, p[:min(int64(len(p)), t.left)])
	if t.left -= int64(n); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return n, errBody{fmt.Errorf("smtp: %d octets before the end of the message: %w", t.left, err)}
	}
	if t.left > 0 {
		return n, nil
	}
	var more [1]byte
	switch n2, err := io.ReadFull(t.body, more[:]); {
	case n2 > 0:
		return n, errBody{fmt.Errorf("smtp: message longer than its %d octets", t.size)}
	case !errors.Is(err, io.EOF):
		return n, errBody{fmt.Errorf("smtp: at the end of the message: %w", err)}
	}
	return n, nil
}

func (t *transfer) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	return t.c.Conn.write(p, t.c.Timeouts.DataBlock)
}

// badBody settles with a refusal of our own what a fault of the message stopped.
func (t *transfer) badBody(err error) error {
	var body errBody
	var r Reply
	if errors.As(err, &body) && errors.As(body.error, &r) {
		t.settle(r)
	}
	return err
}
