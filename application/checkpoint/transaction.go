package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"time"

	"bothy/application/message"
	"bothy/lib/wal"
)

// takeover is how long a session may take to end that is told to because its client has come back.
const takeover = 30 * time.Second

// ErrBusy says that another session has the transaction and does not end.
var ErrBusy = errors.New("checkpoint: another session has the transaction")

// ErrNoRoom says that no more of a text can be kept. What was written can still be read.
var ErrNoRoom = errors.New("checkpoint: no room")

// Transaction is one client's transaction while a session has it. It is used by one goroutine, and ends with Suspend or Forget.
type Transaction struct {
	store  *Store
	key    message.TransactionKey
	owner  string
	name   string
	binary bool // its text has no lines
	live   *live

	accepted message.Transaction
	id       message.ID // as which it was accepted; zero: it was not

	file       wal.File // nil: there is none
	end        int64    // of the file
	index      uint32   // of its next piece
	pieces     []piece  // of text
	filed      int64    // octets of text in them
	recipients []message.Recipient
	renamed    bool   // the file says otherwise
	buf        []byte // the text behind them; nil while there is none
	memory     *[pieceSize]byte
}

// Begin makes a transaction the caller's, which its client calls name. Where another session has it, that one is stopped: its client has come back. binary
// says that the text has no lines. What is kept is as if it were not when it cannot be read.
func (s *Store) Begin(ctx context.Context, owner, name string, key message.TransactionKey, binary bool, stop func()) (*Transaction, error) {
	ctx, cancel := context.WithTimeout(ctx, takeover)
	defer cancel()
	l := &live{stop: stop, done: make(chan struct{})}
	for {
		s.mu.Lock()
		other := s.live[key]
		if other == nil {
			s.live[key] = l
			s.mu.Unlock()
			break
		}
		s.mu.Unlock()
		other.stop()
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, ErrBusy
		}
	}
	t := &Transaction{store: s, key: key, owner: owner, name: name, binary: binary, live: l}
	var known bool
	if t.accepted, t.id, known = s.o.Accepted(key); known {
		s.mu.Lock()
		s.drop(key)
		s.mu.Unlock()
		return t, nil
	}
	if err := t.load(); err != nil {
		s.o.Log.Warn("part of a message not kept", "file", key.String(), "error", err)
		t.discard()
	}
	return t, nil
}

// Accepted tells as which message the transaction was accepted; ok is false if it was not.
func (t *Transaction) Accepted() (accepted *message.Transaction, id message.ID, ok bool) {
	return &t.accepted, t.id, !t.id.IsZero()
}

// Offset is how many octets of the text are kept; 0: the transaction is a new one.
func (t *Transaction) Offset() int64 { return t.filed }

// Recipients are those of the text that is kept.
func (t *Transaction) Recipients() []message.Recipient { return t.recipients }

// Key is the one it was begun with.
func (t *Transaction) Key() message.TransactionKey { return t.key }

// load reads what is kept, as far as it is whole.
func (t *Transaction) load() error {
	s := t.store
	s.mu.Lock()
	k := s.kept[t.key]
	s.mu.Unlock()
	if k == nil || k.owner != t.owner {
		return nil
	}
	f, err := s.o.FS.Open(s.path(t.key))
	if err != nil {
		return err
	}
	t.file = f
	size, err := f.Size()
	if err != nil {
		return err
	}
	t.memory = s.buffers.Get().(*[pieceSize]byte)
	var offset, filed int64
	var pieces []piece
	inLine := false
	for index := uint32(0); ; index++ {
		p, err := pieceAt(f, offset, size, index)
		var b []byte
		if err == nil {
			b, err = p.read(f, t.key, t.memory[:])
		}
		if errors.Is(err, errEnd) {
			break
		}
		if err != nil {
			return err
		}
		offset = p.end()
		if p.kind == contextPiece {
			about, err := parseAbout(b)
			if err != nil {
				return err
			}
			t.recipients = about.Recipients
		} else {
			pieces = append(pieces, p)
			filed += p.length
			inLine = p.kind == textPart
		}
		if !inLine { // RFC 1845 §3: a line's beginning
			t.end, t.index, t.filed, t.pieces = offset, index+1, filed, pieces
		}
	}
	if t.filed <= s.Least() || len(t.recipients) == 0 {
		return errEnd
	}
	t.renamed = true // the last context may be cut off
	if err := f.Truncate(t.end); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.space += t.end - k.size
	k.size = t.end
	return nil
}

// discard forgets what is kept, and goes on without.
func (t *Transaction) discard() {
	if t.file != nil {
		t.file.Close()
		t.file = nil
	}
	t.end, t.index, t.filed, t.pieces, t.recipients, t.buf = 0, 0, 0, nil, nil, nil
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	t.store.drop(t.key)
}

// Restart forgets what is kept: the text comes from its beginning.
func (t *Transaction) Restart() { t.discard() }

// Forget ends the transaction: nothing of it is kept.
func (t *Transaction) Forget() {
	t.discard()
	t.release()
}

// Suspend ends the transaction and keeps what came of its text for the client to come back, or to end it again.
func (t *Transaction) Suspend(recipients []message.Recipient) {
	if len(recipients) == 0 {
		recipients = t.recipients
	}
	defer t.release()
	if t.filed+int64(len(t.buf)) <= t.store.Least() || len(recipients) == 0 {
		t.discard()
		return
	}
	t.recipients = recipients
	err := t.flush()
	if err == nil && t.filed <= t.store.Least() {
		err = errEnd
	}
	if err == nil {
		err = t.writeAbout()
	}
	if err == nil {
		err = t.file.Sync()
	}
	if err == nil {
		err = t.store.o.FS.SyncDir(t.store.o.Dir)
	}
	if err != nil {
		t.store.o.Log.Warn("part of a message not kept", "file", t.key.String(), "error", err)
		t.discard()
		return
	}
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	if k := t.store.kept[t.key]; k != nil {
		k.name, k.text = t.name, t.filed
	}
}

// release gives the transaction back.
func (t *Transaction) release() {
	if t.file != nil {
		t.file.Close()
		t.file = nil
	}
	s := t.store
	if t.memory != nil {
		s.buffers.Put(t.memory)
		t.memory = nil
	}
	s.mu.Lock()
	delete(s.live, t.key)
	s.mu.Unlock()
	close(t.live.done)
}

// Write keeps p, which follows what was written before. ErrNoRoom says that it does not, and that nothing more is to be written.
func (t *Transaction) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if t.memory == nil {
			t.memory = t.store.buffers.Get().(*[pieceSize]byte)
		}
		if t.buf == nil {
			t.buf = t.memory[:0]
		}
		if len(t.buf) == pieceSize {
			if err := t.flush(); err != nil {
				t.store.o.Log.Warn("part of a message not kept", "file", t.key.String(), "error", err)
				return n, ErrNoRoom
			}
			if len(t.buf) == pieceSize { // a line as long as that
				if err := t.piece(textPart, t.buf); err != nil {
					return n, ErrNoRoom
				}
				t.buf = t.memory[:0]
			}
		}
		k := copy(t.buf[len(t.buf):pieceSize], p)
		t.buf = t.buf[:len(t.buf)+k]
		p, n = p[k:], n+k
	}
	return n, nil
}

// flush writes the whole lines of what is in memory.
func (t *Transaction) flush() error {
	n := len(t.buf)
	if !t.binary {
		n = lineEnd(t.buf)
	}
	if n == 0 {
		return nil
	}
	if err := t.piece(textLines, t.buf[:n]); err != nil {
		return err
	}
	t.buf = t.memory[:copy(t.memory[:], t.buf[n:])]
	return nil
}

// lineEnd is where the last whole line of b ends; 0 if there is none.
func lineEnd(b []byte) int {
	for i := len(b); i >= 2; i-- {
		if b[i-1] == '\n' && b[i-2] == '\r' {
			return i
		}
	}
	return 0
}

// piece appends text to the file.
func (t *Transaction) piece(k kind, text []byte) error {
	if t.file == nil {
		if err := t.create(); err != nil {
			return err
		}
	}
	if t.renamed {
		if err := t.writeAbout(); err != nil {
			return err
		}
	}
	p := piece{kind: k, at: t.end + pieceHeader, length: int64(len(text)), index: t.index}
	if err := t.append(k, text); err != nil {
		return err
	}
	p.sum = check(t.key, p.index, text)
	t.pieces = append(t.pieces, p)
	t.filed += p.length
	return nil
}

// create makes the file. One that is there already is nobody's: Begin did not take it.
func (t *Transaction) create() (err error) {
	s := t.store
	s.mu.Lock()
	s.drop(t.key)
	s.mu.Unlock()
	if !s.grow(t.key, t.owner, 0) {
		return ErrNoRoom
	}
	t.renamed = true
	t.file, err = s.o.FS.Create(s.path(t.key))
	return err
}

func (t *Transaction) writeAbout() error {
	b, err := json.Marshal(about{t.owner, t.name, t.store.o.Now().UTC(), t.recipients})
	if err == nil && len(b) > maxContext {
		err = ErrNoRoom
	}
	if err != nil {
		return err
	}
	t.renamed = false
	return t.append(contextPiece, b)
}

func (t *Transaction) append(k kind, octets []byte) error {
	b := appendPiece(nil, t.key, t.index, k, octets)
	if !t.store.grow(t.key, t.owner, int64(len(b))) {
		return ErrNoRoom
	}
	if _, err := t.file.WriteAt(b, t.end); err != nil {
		return err
	}
	t.end += int64(len(b))
	t.index++
	return nil
}

// Text reads all that was written and is kept, from its start. The reader is valid until the transaction ends or is written to.
func (t *Transaction) Text() io.Reader { return &text{t: t, pieces: t.pieces} }

type text struct {
	t      *Transaction
	pieces []piece
	left   []byte
	block  []byte
	behind bool // all pieces are read
}

func (r *text) Read(p []byte) (int, error) {
	for len(r.left) == 0 {
		switch {
		case len(r.pieces) > 0:
			b, err := r.pieces[0].read(r.t.file, r.t.key, r.block)
			if err != nil {
				return 0, errDamaged
			}
			r.block, r.left, r.pieces = b, b, r.pieces[1:]
		case !r.behind:
			r.behind, r.left = true, r.t.buf
		default:
			return 0, io.EOF
		}
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// errDamaged says that the disk does not give back what it was given.
var errDamaged = errors.New("checkpoint: text cannot be read")

// Size is how many octets Text reads.
func (t *Transaction) Size() int64 { return t.filed + int64(len(t.buf)) }

// SetRecipients says to whom the text goes that is about to be written.
func (t *Transaction) SetRecipients(all []message.Recipient) {
	t.renamed = !slices.Equal(t.recipients, all)
	t.recipients = all
}
