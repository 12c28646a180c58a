package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"bothy/lib/wal"
)

// The errors of a Store, beside those of lib/wal.
var (
	// ErrTaken says that another client holds the address.
	ErrTaken = errors.New("lease: taken by another client")
	// ErrNotHeld says that the client does not hold the address.
	ErrNotHeld = errors.New("lease: not that client's")
	// ErrMany says that the store holds Options.Limit rows.
	ErrMany = errors.New("lease: too many leases")
)

// Options of a Store. Dir is required; the zero value of every other field means its default.
type Options struct {
	FS          wal.FS        // wal.OS()
	Dir         string        // made when missing
	SegmentSize int64         // octets of one file of the log; 4 MiB
	Limit       int           // rows, the expired ones included; 1,000,000
	Keep        time.Duration // how long the row of a lease that ended stays, for its client to have the address again; 30 days
	Log         *slog.Logger  // none

	// Clock reads the time of day and a clock that is never set; both of the machine.
	Clock func() (wall time.Time, running time.Duration)
}

const (
	defaultSegmentSize = 4 << 20
	defaultLimit       = 1_000_000
	defaultKeep        = 30 * 24 * time.Hour
)

// Store holds the leases of one server. Safe for concurrent use.
type Store struct {
	o        Options
	log      *wal.Log
	poke     chan struct{} // holds one when Run has something to do
	changes  chan struct{} // holds one when something changed
	moving   sync.Mutex    // one compaction at a time; taken before mu
	mu       sync.Mutex    // guards the rest, and orders the log's records about the same address
	clock    clock
	rows     map[netip.Prefix]*row
	clients  map[holder][]*row // newest last
	watchers map[*watcher]struct{}
	live     int64  // octets of the log that the rows take
	appended int64  // octets since the last look at the log's size
	buf      []byte // for one record
}

// row is a lease and its record.
type row struct {
	Lease
	place  wal.Position
	length int
}

// holder is a client's one association (RFC 9915 §12); DHCPv4 clients have one.
type holder struct {
	client ID
	iaid   uint32
}

// watcher is somebody told of changes.
type watcher struct {
	tell func(l Lease, gone bool)
}

// Pending is a change on its way to the disk. The zero Pending is there.
type Pending struct {
	wal     wal.Pending
	waiting bool
}

// Wait returns nil when the change is durable. All who wait at one moment share one sync.
func (p Pending) Wait() error {
	if !p.waiting {
		return nil
	}
	return p.wal.Wait()
}

// Open recovers the store in o.Dir, which is made when missing. It fails when another process has it.
func Open(o Options) (*Store, error) {
	o.SegmentSize = cmp.Or(o.SegmentSize, defaultSegmentSize)
	o.Limit = cmp.Or(o.Limit, defaultLimit)
	o.Keep = cmp.Or(o.Keep, defaultKeep)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = system()
	}
	s := &Store{
		o: o, clock: clock{read: o.Clock}, rows: map[netip.Prefix]*row{}, clients: map[holder][]*row{}, watchers: map[*watcher]struct{}{},
		poke: make(chan struct{}, 1), changes: make(chan struct{}, 1),
	}
	var last int64
	log, err := wal.Open(wal.Options{FS: o.FS, Dir: o.Dir, SegmentSize: o.SegmentSize, Damaged: func(d wal.Damage) {
		level := slog.LevelError
		if d.Known { // reported by an earlier Open
			level = slog.LevelDebug
		}
		o.Log.Log(context.Background(), level, "leases damaged", "position", d.Position.String(), "octets", d.Length, "kept in", d.File, "error", d.Err)
	}}, func(p wal.Position, b []byte) error {
		if now, ok := s.replay(p, b); ok {
			last = max(last, now)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	s.log = log
	s.clock.start(last)
	if s.clock.unknown {
		o.Log.Warn("the time of day was set back while no leases were given: how long that was is not known, so leases last longer")
	}
	return s, nil
}

// replay does to the index what a record says.
func (s *Store) replay(p wal.Position, b []byte) (now int64, ok bool) {
	r, err := parseRecord(b)
	if err != nil {
		s.o.Log.Error("record of the leases not understood", "position", p.String())
		return 0, false
	}
	switch r.kind {
	case kindRow:
		s.place(r.lease, p, len(b))
	case kindGone:
		s.drop(r.lease.Prefix)
	}
	s.clock.ahead, s.clock.unknown = r.ahead, r.unknown
	return r.now, true
}

// Close ends the store; what was waited for is on disk.
func (s *Store) Close() error { return s.log.Close() }

// Err returns why nothing can be stored any more; nil while all is well.
func (s *Store) Err() error { return s.log.Err() }

// Stats are the counters of a Store.
type Stats struct {
	Bound, Ended, Released, Declined int // rows; of leases that ended by themselves, and those in quarantine
	Pinned                           int // of all these
	Log                              wal.Stats
}

// Stats looks at every row.
func (s *Store) Stats() (st Stats) {
	st.Log = s.log.Stats()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	for _, r := range s.rows {
		switch {
		case r.Current(now):
			st.Bound++
		case r.State == Released:
			st.Released++
		case r.State == Declined && !r.expired(now):
			st.Declined++
		default:
			st.Ended++
		}
		if r.Pinned {
			st.Pinned++
		}
	}
	return st
}

// Now is the store's clock, by which leases expire. It never goes back and never jumps while the store is open.
func (s *Store) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock.now()
}

// TimeOfDay turns an instant of the store's clock into what people's clocks show then.
func (s *Store) TimeOfDay(t time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.IsZero() {
		return t
	}
	s.clock.now()
	return t.Add(-s.clock.offset)
}

// Get returns the row of an address; false when it was never given or is forgotten.
func (s *Store) Get(p netip.Prefix) (Lease, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.rows[p]; r != nil {
		return r.Lease, true
	}
	return Lease{}, false
}

// remembered is how many rows of one client Client returns at most.
const remembered = 16

// Client returns the rows of a client, the one that changed last first.
func (s *Store) Client(client ID, iaid uint32) []Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := s.clients[holder{client, iaid}]
	rows = rows[max(0, len(rows)-remembered):]
	all := make([]Lease, len(rows))
	for i, r := range rows {
		all[len(rows)-1-i] = r.Lease
	}
	return all
}

// List returns all rows, by address.
func (s *Store) List() []Lease {
	s.mu.Lock()
	all := make([]Lease, 0, len(s.rows))
	for _, r := range s.rows {
		all = append(all, r.Lease)
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b Lease) int { return a.Prefix.Compare(b.Prefix) })
	return all
}

// Bind gives l.Prefix to l.Client until l.Expires (zero: for ever), or renews it; a pin stays. It returns ErrTaken when another client holds it. The
// client may be told when Wait has returned nil.
func (s *Store) Bind(l Lease) (Pending, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	if old := s.rows[l.Prefix]; old != nil {
		if old.Holds(now) && !old.Is(l.Client, l.IAID) || old.State == Declined && !old.expired(now) {
			return Pending{}, ErrTaken
		}
		l.Pinned = l.Pinned || old.Pinned
	} else if len(s.rows) >= s.o.Limit {
		return Pending{}, ErrMany
	}
	l.State, l.Updated = Bound, now
	return s.put(l, now)
}

// Release ends a client's lease. The row stays, for the client to have the address again.
func (s *Store) Release(p netip.Prefix, client ID, iaid uint32) (Pending, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	old := s.rows[p]
	if old == nil || !old.Is(client, iaid) || old.State != Bound {
		return Pending{}, ErrNotHeld
	}
	l := old.Lease
	l.State, l.Updated = Released, now
	return s.put(l, now)
}

// Decline keeps an address from everybody until a time, because it was found in use: by the client that was given it, or
// by the server (client is "" then). It returns ErrNotHeld when somebody else holds it.
func (s *Store) Decline(p netip.Prefix, client ID, iaid uint32, until time.Time) (Pending, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	l := Lease{Prefix: p, Client: client, IAID: iaid}
	if old := s.rows[p]; old != nil {
		if old.Holds(now) && !old.Is(client, iaid) {
			return Pending{}, ErrNotHeld
		}
		l.Pinned = old.Pinned && old.Is(client, iaid)
	} else if len(s.rows) >= s.o.Limit {
		return Pending{}, ErrMany
	}
	l.State, l.Updated, l.Expires = Declined, now, until
	return s.put(l, now)
}

// Pin keeps an address for the client that has it or had it last, or ends that. For operators.
func (s *Store) Pin(p netip.Prefix, pinned bool) (Pending, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	old := s.rows[p]
	if old == nil || old.Client == "" {
		return Pending{}, ErrNotHeld
	}
	l := old.Lease
	l.Pinned = pinned
	return s.put(l, now)
}

// Delete forgets an address: it is free, whoever has it. For operators, who know that nobody uses it.
func (s *Store) Delete(p netip.Prefix) (Pending, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.now()
	old := s.rows[p]
	if old == nil {
		return Pending{}, ErrNotHeld
	}
	pending, _, err := s.append(kindGone, Lease{Prefix: p}, now)
	if err != nil {
		return Pending{}, err
	}
	gone := old.Lease
	s.drop(p)
	s.tell(gone, true)
	return Pending{pending, true}, nil
}

// Watch calls tell for every row there is, and from then on for each change, in order, until stop. tell must be quick and must not call the
// Store: it is called with the Store locked.
func (s *Store) Watch(tell func(l Lease, gone bool)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rows {
		tell(r.Lease, false)
	}
	w := &watcher{tell}
	s.watchers[w] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, w)
	}
}

// Changed holds one value when something changed since it was last read: for who writes files of all leases. One reader.
func (s *Store) Changed() <-chan struct{} { return s.changes }

// put appends a row and takes it into the index. The caller holds mu.
func (s *Store) put(l Lease, now time.Time) (Pending, error) {
	if err := l.check(); err != nil {
		return Pending{}, err
	}
	pending, n, err := s.append(kindRow, l, now)
	if err != nil {
		return Pending{}, err
	}
	s.place(l, pending.Position, n)
	s.tell(l, false)
	return Pending{pending, true}, nil
}

// append writes a record. The caller holds mu.
func (s *Store) append(kind byte, l Lease, now time.Time) (p wal.Pending, length int, err error) {
	r := record{kind: kind, now: now.UnixMilli(), ahead: s.clock.ahead, unknown: s.clock.unknown, lease: l}
	s.buf = r.appendTo(s.buf[:0])
	if p, err = s.log.Append(s.buf); err != nil {
		return p, 0, fmt.Errorf("lease: %w", err)
	}
	s.clock.changed = false
	if s.appended += int64(len(s.buf)); s.appended > s.o.SegmentSize/2 {
		s.appended = 0
		signal(s.poke)
	}
	return p, len(s.buf), nil
}

// place takes a row into the index.
func (s *Store) place(l Lease, p wal.Position, length int) {
	s.drop(l.Prefix)
	r := &row{l, p, length}
	s.rows[l.Prefix] = r
	if l.Client != "" {
		h := holder{l.Client, l.IAID}
		s.clients[h] = append(s.clients[h], r)
	}
	s.live += footprint(length)
}

// drop takes a row out of the index.
func (s *Store) drop(p netip.Prefix) {
	r := s.rows[p]
	if r == nil {
		return
	}
	delete(s.rows, p)
	s.live -= footprint(r.length)
	h := holder{r.Client, r.IAID}
	rows := slices.DeleteFunc(s.clients[h], func(other *row) bool { return other == r })
	if len(rows) > 0 {
		s.clients[h] = rows
	} else {
		delete(s.clients, h)
	}
}

func (s *Store) tell(l Lease, gone bool) {
	for w := range s.watchers {
		w.tell(l, gone)
	}
	signal(s.changes)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
