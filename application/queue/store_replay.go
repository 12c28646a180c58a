package queue

import (
	"context"
	"log/slog"
	"path"

	"bothy/application/message"
	"bothy/lib/wal"
)

// heads has the log read no body when it is opened. Each head is read into r.
func (s *Spool) heads(ctx context.Context, r *record) *wal.Heads {
	return &wal.Heads{Length: headLength, Replay: func(p wal.Position, head []byte, length int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.replay(r, p, head, length)
		return nil
	}}
}

// headLength returns the length of a record without the body at its end.
func headLength(b []byte) int {
	if len(b) == 0 || b[0] != kindMessage && b[0] != kindUpdate {
		return len(b)
	}
	body, err := parseFields(b[1:], true, func(field) error { return nil })
	if err != nil {
		return len(b)
	}
	return len(b) - len(body)
}

// replay does to the index what a record says, of whose length octets b is at least all but the body. What cannot be read is reported
// and left out: the rest is served. r is memory for it.
func (s *Spool) replay(r *record, p wal.Position, b []byte, length int) {
	var err error
	switch {
	case len(b) == 0:
		err = errRecord
	case b[0] == kindMessage:
		var body []byte
		if body, err = r.parse(b); err == nil {
			s.replayMessage(r, p, length, len(body)+length-len(b))
		}
	case b[0] == kindUpdate:
		var changes []change
		var notice *record
		var body []byte
		if changes, notice, body, err = parseUpdate(b); err == nil {
			s.replayChanges(changes, p)
			if notice != nil {
				s.replayMessage(notice, p, length, len(body)+length-len(b))
			}
		}
	case b[0] == kindClock:
		var spans []span
		if spans, err = parseClock(b); err == nil {
			s.replayClock(spans)
		}
	case b[0] == kindAsked:
		var all []*asked
		if all, err = parseAsked(b); err == nil {
			for _, a := range all {
				a.segment = p.Segment
				s.asked.add(a)
			}
		}
	default:
		err = errRecord
	}
	if err != nil {
		s.o.Log.Error("record of the spool not understood", "position", p.String(), "error", err)
	}
}

// replayMessage takes a message in. One that is known was moved: the later record holds its state then.
func (s *Spool) replayMessage(r *record, p wal.Position, length, body int) {
	if e := s.index.messages[r.ID]; e != nil {
		for i := range e.rows {
			s.index.settle(&e.rows[i])
		}
	}
	if len(r.Recipients) == 0 {
		return
	}
	s.insert(r, p, length, s.route(r))
	if !r.apart && int64(body) != r.size {
		s.index.spoil(s.index.messages[r.ID])
	}
}

func (s *Spool) replayChanges(changes []change, p wal.Position) {
	now := s.now()
	for _, c := range changes {
		e := s.index.messages[c.id]
		if e == nil {
			continue // gone already, and its record too
		}
		for _, n := range c.numbers {
			r := e.row(n)
			if r == nil || r.gone {
				continue
			}
			switch c.outcome {
			case outcomeGone:
				s.index.settle(r)
			case outcomeDeferred:
				s.index.lift(r)
				r.attempts, r.when, r.reply = c.attempts, planned(c.when, c.at, now), p
				s.index.place(r, now)
			case outcomeHeld, outcomeFreed:
				s.index.retain(r, c.outcome == outcomeHeld, now)
			case outcomeTold:
				r.told = true
			case outcomeExpanded:
				r.expanded = true
			}
		}
	}
}

func (s *Spool) replayClock(spans []span) {
	for _, sp := range spans {
		c := s.index.clock(sp.kind)
		if sp.to == 0 {
			c.since = sp.from
			continue
		}
		c.since = 0
		c.add(sp.from, sp.to)
	}
}

// recover brings the files of bodies into line with the index, and ends the pauses: who paused does so again when its link
// is still down, and who is gone for good keeps nobody waiting. The time until now does not count.
func (s *Spool) recover() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for kind, c := range s.index.clocks {
		if from := c.since; c.resume(now) {
			s.saveClock(span{kind: kind, from: from, to: max(now, from)})
			s.index.flushKind(kind, now)
		}
	}
	dir := path.Join(s.o.Dir, bodyDir)
	names, err := s.o.FS.List(dir)
	if err != nil {
		return err
	}
	found := make(map[message.ID]bool, len(names))
	for _, name := range names {
		id, ok := parseBodyName(name)
		if e := s.index.messages[id]; ok && e != nil && e.apart {
			found[id] = true
			continue
		}
		if ok {
			s.o.FS.Remove(path.Join(dir, name)) // S2, S8: nobody's; if it stays, the next Open tries again
		}
	}
	for id, e := range s.index.messages {
		if e.apart && !found[id] {
			s.o.Log.Error("damaged message set aside", "id", id, "error", "its body is missing")
			s.index.spoil(e)
		}
	}
	return nil
}

// damage reports what the log set aside.
func (s *Spool) damage(d wal.Damage) {
	level := slog.LevelError
	if d.Known { // reported by an earlier Open
		level = slog.LevelDebug
	}
	s.o.Log.Log(context.Background(), level, "damaged part of the spool set aside", "position", d.Position.String(), "octets", d.Length, "file", d.File, "error", d.Err)
}
