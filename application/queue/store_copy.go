package queue

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"bothy/application/message"
	"bothy/lib/wal"
)

// What is exported is copyMagic and frames:
//
//	length of the head u32 | crc32c of the head u32 | head | body | crc32c of the body u32
//
// A head is a kindClock, without body, or a kindMessage with the state of its recipients; the length 0 and the number of messages end it.
const copyMagic = "bothy spool 1\n"

const (
	maxCopyHead  = 64 << 20 // octets
	importGroup  = 256      // messages that share a sync
	importOctets = 8 << 20  // and octets
)

// ErrCopy says that what is imported was not exported, or is not whole.
var ErrCopy = errors.New("queue: not a whole export of a spool")

// Progress hears how far long work is: messages done, and octets of their bodies. nil: nobody.
type Progress func(messages int, octets int64)

func (p Progress) tell(messages int, octets int64) {
	if p != nil {
		p(messages, octets)
	}
}

// Verification is what Verify found.
type Verification struct {
	Messages   int          `json:"messages"`
	Recipients int          `json:"recipients"`
	Octets     int64        `json:"octets"`              // of bodies
	Damaged    []message.ID `json:"damaged,omitempty"`   // messages that cannot be read; they are not served
	SetAside   []string     `json:"set_aside,omitempty"` // files: see Damaged
}

// Verify reads everything that waits, every octet, and says what cannot be read. The spool goes on meanwhile.
func (s *Spool) Verify(ctx context.Context, told Progress) (v Verification, err error) {
	err = s.each(ctx, func(e *entry) error {
		n, err := s.verify(e)
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case e.live == 0: // settled meanwhile
		case e.damaged:
			v.Damaged = append(v.Damaged, e.id)
		case err != nil:
			return err // the disk's, not the message's
		default:
			v.Messages++
			v.Recipients += int(e.live)
			v.Octets += n
			told.tell(v.Messages, v.Octets)
		}
		return nil
	})
	if err == nil {
		v.SetAside, err = s.Damaged()
	}
	return v, err
}

func (s *Spool) verify(e *entry) (int64, error) {
	if _, _, err := s.load(e); err != nil {
		return 0, err
	}
	body, err := s.openBody(e)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	return io.Copy(io.Discard, body)
}

// each calls fn with every waiting message, in the order of their IDs.
func (s *Spool) each(ctx context.Context, fn func(*entry) error) error {
	var after message.ID
	for {
		ids := s.page(Filter{}, after, maxPage)
		for _, id := range ids {
			if err := firstError(ctx.Err(), s.log.Err()); err != nil {
				return err
			}
			if e := s.find(id); e != nil {
				if err := fn(e); err != nil {
					return err
				}
			}
			after = id
		}
		if len(ids) < maxPage {
			return nil
		}
	}
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// Export writes everything that waits, with its state, and returns how many messages. The spool goes on meanwhile: what is settled before
// its turn is left out. So is what is damaged.
func (s *Spool) Export(ctx context.Context, to io.Writer) (messages int, err error) {
	w := bufio.NewWriter(to)
	w.WriteString(copyMagic)
	s.mu.Lock()
	spans := s.index.spans(s.now())
	s.mu.Unlock()
	if len(spans) > 0 {
		writeHead(w, appendClock(nil, spans...))
	}
	err = s.each(ctx, func(e *entry) error {
		wrote, err := s.export(w, e)
		if wrote {
			messages++
		}
		return err
	})
	if err != nil {
		return messages, err
	}
	writeUint(w, 0)
	writeUint(w, uint32(messages))
	return messages, w.Flush()
}

func writeUint(w io.Writer, v uint32) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	w.Write(b[:]) // a bufio.Writer keeps its error
}

func writeHead(w *bufio.Writer, head []byte) {
	writeUint(w, uint32(len(head)))
	writeUint(w, crc32.Checksum(head, castagnoli))
	w.Write(head)
}

// export writes one message; false when it is gone or damaged.
func (s *Spool) export(w *bufio.Writer, e *entry) (wrote bool, err error) {
	r, _, err := s.load(e)
	if err != nil || !s.proven(e) || s.lost(e) {
		return false, s.unreadable(e, err)
	}
	kept := s.states(e, r)
	if len(kept.Recipients) == 0 {
		return false, nil // settled meanwhile
	}
	body, err := s.openBody(e)
	if err != nil {
		return false, s.unreadable(e, err)
	}
	defer body.Close()
	kept.apart = false
	writeHead(w, kept.appendTo(nil))
	sum := crc32.New(castagnoli)
	n, err := io.Copy(io.MultiWriter(w, sum), body)
	if err == nil && n != kept.size {
		err = errDamaged
	}
	if err != nil {
		return false, fmt.Errorf("queue: export of %v: %w", e.id, err) // half of it is written
	}
	writeUint(w, sum.Sum32())
	return true, nil
}

// lost reports whether a message is settled, or damaged.
func (s *Spool) lost(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.live == 0 || e.damaged
}

// unreadable is what err, of reading a message, means to who reads all of them: nothing when the message is lost. Where the log is dead nothing can be
// said of a message.
func (s *Spool) unreadable(e *entry, err error) error {
	if s.lost(e) {
		err = nil
	}
	return firstError(err, s.log.Err())
}

// Import takes in what Export wrote, with its state and its IDs, and returns how many messages it took; those whose IDs wait here already
// are passed over, so that it can be done again after an error. They are on disk when it returns, also where it fails half way. How long
// clocks stood still is taken over by an empty spool only. The error is ErrCopy, that of the reader, or a Reply of Accept.
func (s *Spool) Import(ctx context.Context, from io.Reader, told Progress) (messages int, err error) {
	m := &importer{spool: s, from: bufio.NewReader(from), told: told}
	err = m.run(ctx)
	return m.taken, firstError(m.commit(), err)
}

// importer is one Import.
type importer struct {
	spool *Spool
	from  *bufio.Reader
	told  Progress
	seen  uint32
	taken int
	bytes int64      // octets of bodies taken
	group []imported // not yet durable
	size  int
}

// imported is a message whose record is appended.
type imported struct {
	record *record
	by     wal.Pending
	length int
}

func (m *importer) run(ctx context.Context) error {
	magic := make([]byte, len(copyMagic))
	if _, err := io.ReadFull(m.from, magic); err != nil || string(magic) != copyMagic {
		return firstError(copyError(err), ErrCopy)
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		head, err := m.head()
		if err != nil || head == nil {
			return err
		}
		if head[0] == kindClock {
			err = m.clock(head)
		} else {
			err = m.message(head)
		}
		if err == nil && (len(m.group) >= importGroup || m.size >= importOctets) {
			err = m.commit()
		}
		if err != nil {
			return err
		}
	}
}

// copyError tells an export that is cut short from a reader that fails.
func copyError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCopy
	}
	return err
}

func (m *importer) uint() (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(m.from, b[:])
	return binary.LittleEndian.Uint32(b[:]), copyError(err)
}

// head reads a frame's head; nil at the end.
func (m *importer) head() ([]byte, error) {
	n, err := m.uint()
	if err != nil {
		return nil, err
	}
	sum, err := m.uint()
	switch {
	case err != nil:
		return nil, err
	case n == 0 && sum == m.seen:
		if _, err = m.from.ReadByte(); err == io.EOF {
			return nil, nil
		}
		return nil, firstError(err, ErrCopy) // another export behind it, say, which would be lost
	case n == 0 || n > maxCopyHead:
		return nil, ErrCopy
	}
	var b bytes.Buffer // grows with what is there, whatever the length says
	if _, err := io.CopyN(&b, m.from, int64(n)); err != nil {
		return nil, copyError(err)
	}
	if crc32.Checksum(b.Bytes(), castagnoli) != sum {
		return nil, ErrCopy
	}
	return b.Bytes(), nil
}

func (m *importer) clock(head []byte) error {
	spans, err := parseClock(head)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCopy, err)
	}
	s := m.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.index.messages) > 0 {
		return nil
	}
	now := s.now()
	for i := range spans {
		if spans[i].to == 0 { // who paused does so here
			spans[i].to = max(now, spans[i].from)
		}
		s.index.clock(spans[i].kind).add(spans[i].from, spans[i].to)
	}
	s.saveClock(spans...)
	return nil
}

// message takes in one message, behind whose head from stands.
func (m *importer) message(head []byte) error {
	r, rest, err := parseMessage(head)
	if err != nil || len(rest) > 0 || len(r.Recipients) == 0 || r.apart || r.ID.IsZero() {
		return ErrCopy
	}
	m.seen++
	s, size := m.spool, r.size
	body := &checkedBody{from: m.from, left: size, sum: crc32.New(castagnoli), end: m.uint}
	if s.find(r.ID) != nil {
		_, err := io.Copy(io.Discard, body)
		return err
	}
	if err := s.room(); err != nil {
		return err
	}
	if err := s.reserve(r.ID); err != nil {
		return err
	}
	b := s.newBuffer()
	if err := s.readBody(r, b, body); err != nil {
		s.forget(r, true)
		return err
	}
	rec := r.appendTo(nil)
	p, err := s.log.Append(rec, b.body)
	if err != nil {
		s.forget(r, true)
		return s.storageError(err)
	}
	m.group = append(m.group, imported{r, p, len(rec) + len(b.body)})
	m.size += len(rec) + len(b.body)
	return nil
}

// commit waits for the disk and makes known what was appended.
func (m *importer) commit() (err error) {
	for _, i := range m.group {
		if werr := i.by.Wait(); werr != nil {
			m.spool.forget(i.record, wal.IsFull(werr))
			err = m.spool.storageError(werr)
			continue
		}
		m.taken++
		m.bytes += i.record.size
		m.spool.accepted.Add(1)
		m.spool.publish(i.record, i.by.Position, i.length)
	}
	m.group, m.size = nil, 0
	m.told.tell(m.taken, m.bytes)
	return err
}

// checkedBody reads a body and what checks it.
type checkedBody struct {
	from io.Reader
	left int64
	sum  hash.Hash32
	end  func() (uint32, error)
	err  error
}

func (b *checkedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.left == 0 {
		want, err := b.end()
		switch {
		case err != nil:
			b.err = err
		case want != b.sum.Sum32():
			b.err = ErrCopy
		default:
			b.err = io.EOF
		}
		return 0, b.err
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.sum.Write(p[:n])
	b.left -= int64(n)
	if err != nil {
		b.err = copyError(err)
	}
	return n, b.err
}

// Backup copies everything that waits into a spool of its own in dir, which must hold none, and returns how many messages. The
// spool goes on meanwhile. When it fails, what is in dir is of no use.
func (s *Spool) Backup(ctx context.Context, dir string, told Progress) (messages int, err error) {
	o := s.o
	o.Dir, o.Notifier = dir, nil
	to, err := Open(ctx, o)
	if err != nil {
		return 0, err
	}
	defer func() { err = firstError(err, to.Close()) }()
	if st := to.Stats(); st.Messages > 0 {
		return 0, fmt.Errorf("queue: backup: %d messages wait in %s", st.Messages, dir)
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := s.Export(ctx, w)
		w.CloseWithError(err)
		done <- err
	}()
	messages, err = to.Import(ctx, r, told)
	r.CloseWithError(firstError(err, io.ErrClosedPipe))
	if exported := <-done; err == nil || errors.Is(err, ErrCopy) && exported != nil {
		err = exported
	}
	return messages, err
}
