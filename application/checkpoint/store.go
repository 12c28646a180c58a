package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"sync"
	"time"

	"bothy/application/message"
	"bothy/lib/wal"
)

// Options of a Store. Dir and Accepted are required.
type Options struct {
	Config Config // zero numbers mean the defaults
	Dir    string // is made when missing; its files are ours
	// Accepted tells what was accepted under a key, and as which message: queue.Spool.Transaction.
	Accepted func(message.TransactionKey) (message.Transaction, message.ID, bool)
	Full     func() bool // there is no room on the disk but for mail that was accepted; nil: there is always
	Log      *slog.Logger
	Now      func() time.Time // nil: time.Now
	FS       wal.FS           // nil: the machine's
}

// Store keeps transactions. It is safe for concurrent use.
type Store struct {
	o       Options
	buffers sync.Pool // of *[pieceSize]byte

	mu    sync.Mutex
	live  map[message.TransactionKey]*live
	kept  map[message.TransactionKey]*kept
	space int64 // octets of all kept
}

// live is a transaction that a session has.
type live struct {
	stop func()        // ends the session
	done chan struct{} // it has
}

// kept is a file.
type kept struct {
	owner string
	name  string
	at    time.Time // it was last written to
	size  int64     // octets of the file
	text  int64     // octets of text in it, when it was last suspended
}

// Open returns the store of what is kept in o.Dir.
func Open(o Options) (*Store, error) {
	if o.FS == nil {
		o.FS = wal.OS()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Full == nil {
		o.Full = func() bool { return false }
	}
	o.Config = o.Config.or()
	s := &Store{o: o, live: map[message.TransactionKey]*live{}, kept: map[message.TransactionKey]*kept{}}
	s.buffers.New = func() any { return new([pieceSize]byte) }
	if err := o.FS.Mkdir(o.Dir); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	names, err := o.FS.List(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	for _, name := range names {
		key, ok := message.ParseTransactionKey(name)
		if !ok {
			continue // not ours
		}
		if k, err := s.inspect(key); err == nil {
			s.kept[key] = k
			s.space += k.size
		} else {
			o.Log.Warn("part of a message not kept", "file", name, "error", err)
			s.remove(key)
		}
	}
	s.sweep()
	return s, nil
}

// Least is the longest text of which no part is kept, in octets: who knows that sends such a one without a wait.
func (s *Store) Least() int64 { return s.o.Config.Least }

func (s *Store) path(key message.TransactionKey) string { return path.Join(s.o.Dir, key.String()) }

// remove removes a file; if it stays, the next Open or sweep tries again.
func (s *Store) remove(key message.TransactionKey) { _ = s.o.FS.Remove(s.path(key)) }

// inspect reads whose a file is, and its size, but not its text.
func (s *Store) inspect(key message.TransactionKey) (*kept, error) {
	f, err := s.o.FS.Open(s.path(key))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	k := new(kept)
	if k.size, err = f.Size(); err != nil {
		return nil, err
	}
	var offset, text int64
	for index := uint32(0); ; index++ {
		p, err := pieceAt(f, offset, k.size, index)
		if errors.Is(err, errEnd) {
			break
		}
		if err != nil {
			return nil, err
		}
		offset = p.end()
		if p.kind != contextPiece {
			if text += p.length; p.kind == textLines {
				k.text = text
			}
			continue
		}
		b, err := p.read(f, key, nil)
		if err != nil {
			break
		}
		about, err := parseAbout(b)
		if err != nil {
			return nil, err
		}
		k.owner, k.name, k.at = about.Owner, about.Name, about.At
	}
	if k.at.IsZero() {
		return nil, errEnd
	}
	return k, nil
}

// Run removes what is too old, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(max(s.o.Config.Keep/48, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.sweep()
		}
	}
}

// sweep removes what is too old.
func (s *Store) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.o.Now().Add(-s.o.Config.Keep)
	for key, k := range s.kept {
		if k.at.Before(old) && s.live[key] == nil {
			s.drop(key)
		}
	}
}

// drop forgets a file. The caller holds mu.
func (s *Store) drop(key message.TransactionKey) {
	if k := s.kept[key]; k != nil {
		s.space -= k.size
		delete(s.kept, key)
	}
	s.remove(key)
}

// Stats counts what is kept.
type Stats struct {
	Messages int   `json:"messages"`
	Space    int64 `json:"space"` // octets
}

// Stats returns the counts.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{len(s.kept), s.space}
}

// Part is what is kept of one text.
type Part struct {
	Name   string // with which it was begun
	Octets int64
}

// Parts are what is kept for owner and nobody is at, the latest first, most of them at most. What was kept when the program died is told from the outside
// of its file: Begin may find less.
func (s *Store) Parts(owner string, most int) (parts []Part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var latest []*kept
	for key, k := range s.kept {
		if k.owner == owner && k.name != "" && k.text > 0 && s.live[key] == nil {
			latest = append(latest, k)
		}
	}
	slices.SortFunc(latest, func(a, b *kept) int { return cmp.Or(b.at.Compare(a.at), cmp.Compare(a.name, b.name)) })
	for _, k := range latest[:min(len(latest), most)] {
		parts = append(parts, Part{k.name, k.text})
	}
	return parts
}

// grow reserves n more octets for a file of owner, which is made with its first; false if there is no room. The owner's oldest make way.
func (s *Store) grow(key message.TransactionKey, owner string, n int64) bool {
	if s.o.Full() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kept[key]
	for {
		count, size, oldest := s.share(owner, key)
		if k == nil {
			count++
		}
		if count <= s.o.Config.Each && size+n <= s.o.Config.EachSize {
			break
		}
		if oldest.IsZero() {
			return false
		}
		s.drop(oldest)
	}
	if s.space+n > s.o.Config.Space || k == nil && len(s.kept) >= s.o.Config.Messages {
		return false
	}
	if k == nil {
		k = &kept{owner: owner}
		s.kept[key] = k
	}
	k.at = s.o.Now()
	k.size += n
	s.space += n
	return true
}

// share is what an owner has, and the oldest of it that nobody is at, but for key; the zero key if there is none.
func (s *Store) share(owner string, key message.TransactionKey) (count int, size int64, oldest message.TransactionKey) {
	for other, k := range s.kept {
		if k.owner != owner {
			continue
		}
		count++
		size += k.size
		if other != key && s.live[other] == nil && (oldest.IsZero() || k.at.Before(s.kept[oldest].at)) {
			oldest = other
		}
	}
	return count, size, oldest
}
