package queue

import (
	"cmp"
	"slices"

	"bothy/lib/wal"
)

// Waiting counts the recipients of a lane that are due now and those in all, in constant time. Nothing is due while the kind
// is paused.
func (s *Spool) Waiting(name Lane) (due, all int) {
	c := s.Lane(name)
	return c.Due, c.Waiting
}

// Due returns a channel of lanes of one kind that have come to have due mail; a lane is sent at least once after the last
// Lease that returned nil. The channel is closed by stop, or with the spool.
func (s *Spool) Due(kind string) (lanes <-chan Lane, stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []Lane
	for name, l := range s.index.lanes {
		if name.Kind() == kind && l.due.len() > 0 && !l.clock.stopped() {
			due = append(due, name)
		}
	}
	slices.Sort(due)
	return s.callers.listen(kind, due)
}

// Flush makes every deferred recipient of some lanes due now.
func (s *Spool) Flush(lanes ...Lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for _, name := range lanes {
		if l := s.index.lanes[name]; l != nil {
			s.index.flush(l, now)
		}
	}
}

// FlushKind is Flush for all lanes of a kind.
func (s *Spool) FlushKind(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.flushKind(kind, s.now())
}

// Pause stops the clocks of a kind of lane: nothing there becomes due or grows older until Resume.
func (s *Spool) Pause(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.index.clock(kind).pause(now) {
		s.saveClock(span{kind: kind, from: now})
	}
}

// Resume lets the clocks of a kind of lane run again and makes everything there due.
func (s *Spool) Resume(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	c := s.index.clock(kind)
	if from := c.since; c.resume(now) {
		s.saveClock(span{kind: kind, from: from, to: max(now, from)})
	}
	s.index.flushKind(kind, now)
	s.poke()
}

// saveClock writes down when a clock stood still. The caller holds mu.
func (s *Spool) saveClock(spans ...span) {
	if _, err := s.save(appendClock(nil, spans...)); err != nil {
		s.o.Log.Error("pause not recorded", "error", err)
	}
}

// Reroute asks the Router again for the messages with a recipient in one of the lanes that may have changed; nil: for all. Mail that is accepted
// meanwhile gets its new lane too.
func (s *Spool) Reroute(changed func(Lane) bool) {
	s.routes.Add(1)
	type place struct {
		entry *entry
		at    wal.Position
	}
	s.mu.Lock()
	var places []place
	for name, l := range s.index.lanes {
		if changed != nil && !changed(name) {
			continue
		}
		for _, stay := range l.stays.items {
			if e := stay.entry; e.place != (wal.Position{}) { // else it is being accepted: publish asks the Router
				places = append(places, place{e, e.place})
			}
		}
	}
	s.mu.Unlock()
	slices.SortFunc(places, func(a, b place) int { // read them as they lie on the disk
		return cmp.Or(cmp.Compare(a.at.Segment, b.at.Segment), cmp.Compare(a.at.Offset, b.at.Offset))
	})
	for _, p := range slices.CompactFunc(places, func(a, b place) bool { return a.entry == b.entry }) { // it may wait in several lanes
		s.reroute(p.entry)
	}
}

func (s *Spool) reroute(e *entry) {
	s.mu.Lock()
	skip := e.live == 0 || e.damaged
	s.mu.Unlock()
	if skip {
		return
	}
	r, _, err := s.load(e)
	if err != nil {
		return // reported
	}
	s.routed(r, func(lanes []Lane) {
		now := s.now()
		for i, w := range r.states {
			if row := e.row(w.number); row != nil {
				s.index.move(row, lanes[i], now)
			}
		}
	})
}

// row returns the row with a number; nil when the message never had it.
func (e *entry) row(number uint32) *row {
	i, ok := slices.BinarySearchFunc(e.rows, number, func(r row, n uint32) int { return int(int64(r.number) - int64(n)) })
	if !ok {
		return nil
	}
	return &e.rows[i]
}
