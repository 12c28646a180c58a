package queue

import (
	"errors"

	"bothy/application/message"
	"bothy/lib/wal"
)

// recordOverhead is what the log adds to a record at most, in octets.
const recordOverhead = 24

// crowded reports whether the log takes more than twice what is live, two segments aside, and something can be done.
func (s *Spool) crowded() bool {
	st := s.log.Stats()
	s.mu.Lock()
	live := s.index.live + int64(len(s.index.messages))*recordOverhead
	closed := s.closed
	s.mu.Unlock()
	return !closed && st.Size > 2*live+2*s.o.Config.SegmentSize && len(s.log.Segments()) > 1
}

// moved is a message that has a new record.
type moved struct {
	entry  *entry
	from   wal.Position
	to     wal.Pending
	length int
}

// errBusy says that the oldest segment must stay for the moment.
var errBusy = errors.New("queue: a commit is under way in the oldest segment")

// compact empties the oldest segment and drops it. Only the oldest can go: whatever a record in it settles was accepted in it
// or before, so no settlement is forgotten while the message is still on the disk.
//
//  1. every live message in it is appended anew, with the state of its recipients, and what was accepted for clients who may ask again
//  2. the log is synced, and the index points to the new records
//  3. the segment is dropped, and the directory synced before any other goes
func (s *Spool) compact() error {
	s.moving.Lock()
	defer s.moving.Unlock()
	segments := s.log.Segments()
	if len(segments) < 2 {
		return nil
	}
	var all []moved
	err := s.log.Scan(segments[0], func(p wal.Position, b []byte) error {
		m, err := s.moveRecord(p, b)
		if m != nil {
			all = append(all, *m)
		}
		return err
	})
	if err == nil {
		err = s.moveClocks()
	}
	if err == nil {
		err = s.moveAsked(segments[0])
	}
	for _, m := range all { // what was moved was moved, whatever happened then
		if werr := m.to.Wait(); werr != nil {
			return werr
		}
		s.mu.Lock()
		s.index.relocate(m)
		s.mu.Unlock()
	}
	if err != nil {
		return err
	}
	return s.log.Drop(segments[0])
}

// relocate notes a message's new record.
func (x *index) relocate(m moved) {
	e := m.entry
	if e.live == 0 || e.place != m.from {
		return
	}
	x.live += int64(m.length) - int64(e.length)
	e.place, e.length = m.to.Position, uint32(m.length)
	for i := range e.rows {
		if r := &e.rows[i]; r.reply != (wal.Position{}) && r.reply.Before(e.place) {
			r.reply = e.place
		}
	}
}

// moveRecord appends anew the message in a record, if that is where it lives.
func (s *Spool) moveRecord(p wal.Position, b []byte) (*moved, error) {
	if len(b) == 0 || b[0] == kindClock || b[0] == kindAsked {
		return nil, nil
	}
	r, body, err := parseMessage(b)
	if err != nil {
		return nil, nil // an update without a notice, or nothing we know
	}
	s.mu.Lock()
	e := s.index.messages[r.ID]
	s.mu.Unlock()
	if e == nil {
		return nil, nil
	}
	for {
		s.mu.Lock()
		seen, place := e.changes, e.place
		s.mu.Unlock()
		switch place {
		case wal.Position{}:
			return nil, errBusy // being accepted
		case p:
		default:
			return nil, nil
		}
		states := s.states(e, r)
		m, err := s.moveTo(e, seen, states, body)
		if m != nil || err != nil {
			if m != nil {
				m.from = p
			}
			return m, err
		}
		if e := s.find(r.ID); e == nil {
			return nil, nil // settled meanwhile
		}
	}
}

func (s *Spool) find(id message.ID) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.messages[id]
}

// states returns r with only the recipients that wait, and their state.
func (s *Spool) states(e *entry, r *record) *record {
	kept := *r
	kept.Recipients, kept.states = nil, nil
	for i, w := range r.states {
		s.mu.Lock()
		row := e.row(w.number)
		if row == nil || row.gone {
			s.mu.Unlock()
			continue
		}
		place, to := row.reply, row.wishes(r.Recipients[i])
		w.attempts, w.when, w.hold, w.told = row.attempts, row.when, row.hold, row.told
		s.mu.Unlock()
		w.last = s.lastTry(e, w.number, place)
		kept.Recipients, kept.states = append(kept.Recipients, to), append(kept.states, w)
	}
	return &kept
}

// moveTo appends a record if nothing has happened to its message since seen; nil without an error when something has. The log then says
// first what the record holds, and later what happens after.
func (s *Spool) moveTo(e *entry, seen uint32, r *record, body []byte) (*moved, error) {
	rec := r.appendTo(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case e.live == 0 || e.changes != seen:
		return nil, nil
	case e.busy > 0:
		return nil, errBusy
	}
	if err := s.drain(); err != nil {
		return nil, err
	}
	p, err := s.log.Append(rec, body)
	if err != nil {
		return nil, err
	}
	return &moved{entry: e, to: p, length: len(rec) + len(body)}, nil
}

// moveClocks writes down anew when the clocks stood still, as far as any waiting message was there then.
func (s *Spool) moveClocks() error {
	s.mu.Lock()
	spans := s.index.spans(s.now())
	if len(spans) == 0 {
		s.mu.Unlock()
		return nil
	}
	p, err := s.log.Append(appendClock(nil, spans...))
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return p.Wait()
}

// spans returns when the clocks stood still, without what no waiting message remembers.
func (x *index) spans(now int64) []span {
	oldest := now
	for _, e := range x.messages {
		if e.place != (wal.Position{}) {
			oldest = min(oldest, e.accepted)
		}
	}
	var spans []span
	for kind, c := range x.clocks {
		c.forget(oldest)
		for _, st := range c.stops {
			spans = append(spans, span{kind, st.from, st.to})
		}
		if c.stopped() {
			spans = append(spans, span{kind: kind, from: c.since})
		}
	}
	return spans
}
