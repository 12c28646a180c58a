package lease

import (
	"context"
	"net/netip"
	"time"

	"bothy/lib/wal"
)

const (
	patrol       = 10 * time.Minute // between looks for rows to forget, when the log does not call for one
	glance       = time.Second      // between looks at the time of day
	forgetAtOnce = 1000             // rows
)

// Run keeps the store small, and writes down when the time of day is set, until ctx ends. The error is that of a disk that failed;
// Err knows it too.
func (s *Store) Run(ctx context.Context) error {
	clean, look := time.NewTicker(patrol), time.NewTicker(glance)
	defer clean.Stop()
	defer look.Stop()
	for {
		if err := s.work(); err != nil {
			s.o.Log.Error("old leases not cleaned up", "error", err)
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return nil
			case <-clean.C:
				waiting = false
			case <-s.poke:
				waiting = false
			case <-look.C:
				s.glance()
			}
			if err := s.log.Err(); err != nil {
				return err
			}
		}
	}
}

// glance compares the clocks and records it when the time of day was set: a restart would take the jump for downtime.
func (s *Store) glance() {
	s.mu.Lock()
	s.clock.now()
	changed := s.clock.changed
	s.mu.Unlock()
	if !changed {
		return
	}
	s.o.Log.Info("the time of day was set; no lease is shorter for it")
	if err := s.syncClock(); err != nil {
		s.o.Log.Error("the time of day was set, and that could not be recorded", "error", err)
	}
}

// work forgets what is old and moves what is live out of old segments, as long as that frees any.
func (s *Store) work() error {
	if err := s.forget(); err != nil {
		return err
	}
	for range len(s.log.Segments()) {
		if !s.crowded() {
			return nil
		}
		if err := s.compact(); err != nil {
			return err
		}
	}
	return nil
}

// forget removes the rows of leases that ended long ago.
func (s *Store) forget() error {
	now := s.Now()
	var old []netip.Prefix
	s.mu.Lock()
	for p, r := range s.rows {
		if until, ok := r.Until(); ok && now.Sub(until) > s.o.Keep {
			if old = append(old, p); len(old) == forgetAtOnce {
				break
			}
		}
	}
	s.mu.Unlock()
	for _, p := range old {
		if err := s.forgetRow(p, now); err != nil {
			return err
		}
	}
	return nil
}

// forgetRow is Delete, if the row is still as old.
func (s *Store) forgetRow(p netip.Prefix, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rows[p]
	if r == nil {
		return nil
	}
	if until, ok := r.Until(); !ok || now.Sub(until) <= s.o.Keep {
		return nil
	}
	if _, _, err := s.append(kindGone, Lease{Prefix: p}, now); err != nil {
		return err
	}
	gone := r.Lease
	s.drop(p)
	s.tell(gone, true)
	return nil
}

// footprint is what a record takes in the log, about.
func footprint(length int) int64 { return int64(length+16+7) &^ 7 }

// crowded reports whether the log takes more than twice what is live, two segments aside.
func (s *Store) crowded() bool {
	st := s.log.Stats()
	s.mu.Lock()
	defer s.mu.Unlock()
	return st.Size > 2*s.live+2*s.o.SegmentSize && len(s.log.Segments()) > 1
}

// moved is a row on its way to a new record.
type moved struct {
	row     *row
	from    wal.Position
	pending wal.Pending
}

// compact empties the oldest segment and drops it.
//
//  1. the clock is recorded and synced, so that whatever stands before it is on the disk or never will be
//  2. every row whose last record on the disk is in the segment is appended anew, as it is at that moment, and synced
//  3. the segment is dropped
func (s *Store) compact() error {
	s.moving.Lock()
	defer s.moving.Unlock()
	segments := s.log.Segments()
	if len(segments) < 2 {
		return nil
	}
	if err := s.syncClock(); err != nil {
		return err
	}
	var all []moved
	err := s.log.Scan(segments[0], func(p wal.Position, b []byte) error {
		r, err := parseRecord(b)
		if err != nil || r.kind != kindRow {
			return nil
		}
		m, err := s.move(r.lease.Prefix, p)
		if m.row != nil {
			all = append(all, m)
		}
		return err
	})
	for _, m := range all { // what was moved was moved, whatever happened then
		if werr := m.pending.Wait(); werr != nil {
			return werr
		}
		s.mu.Lock()
		if m.row.place == m.from {
			m.row.place = m.pending.Position
		}
		s.mu.Unlock()
	}
	if err != nil {
		return err
	}
	return s.log.Drop(segments[0])
}

// syncClock records the clock.
func (s *Store) syncClock() error {
	s.mu.Lock()
	p, _, err := s.append(kindClock, Lease{}, s.clock.now())
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return p.Wait()
}

// move appends a row anew, unless a later record than the one at p holds it. A record whose group found no room is in the index
// but not on the disk.
func (s *Store) move(prefix netip.Prefix, p wal.Position) (moved, error) {
	s.mu.Lock()
	r := s.rows[prefix]
	var place wal.Position
	if r != nil {
		place = r.place
	}
	s.mu.Unlock()
	if r == nil || place != p && s.onDisk(prefix, place) {
		return moved{}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows[prefix] != r || r.place != place {
		if r = s.rows[prefix]; r == nil {
			return moved{}, nil
		}
		place = r.place // changed just now, and perhaps not for good: twice is safe
	}
	pending, _, err := s.append(kindRow, r.Lease, s.clock.now())
	if err != nil {
		return moved{}, err
	}
	return moved{r, place, pending}, nil
}

// onDisk reports whether the record at p is about prefix.
func (s *Store) onDisk(prefix netip.Prefix, p wal.Position) bool {
	b, err := s.log.Read(p, nil)
	if err != nil {
		return false
	}
	r, err := parseRecord(b)
	return err == nil && r.kind == kindRow && r.lease.Prefix == prefix
}
