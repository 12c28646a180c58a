package queue

import (
	"context"
	"errors"
	"io"

	"bothy/application/message"
	"bothy/lib/wal"
)

// Accept has env and the whole body on disk, synced, when it returns nil. It returns 452 4.3.1 when the disk is full, 451 4.3.0 when
// it fails, and the body reader's own error as it is; then nothing is left of the message. An env without an ID is given
// one. The memory it takes is Config.InlineBody, however large the body.
func (s *Spool) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	if len(env.Recipients) == 0 {
		return replyNobody
	}
	if err := s.room(); err != nil {
		return err
	}
	now := s.o.Now()
	if env.ID.IsZero() {
		env.ID = message.NewID(now)
	}
	if err := s.reserve(env.ID); err != nil {
		return err
	}
	r := &record{Envelope: *env, accepted: now.UnixMilli()}
	b := s.buffers.Get().(*buffer)
	defer s.buffers.Put(b)
	coming := s.log.Expect()
	defer coming.Cancel()
	err := s.readBody(r, b, body)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.forget(r, true)
		return err
	}
	r.Envelope = *env // a verdict on the text is known only at its end
	r.size += int64(len(env.Trace))
	if s.o.Track != nil && env.Tracking.Certifier != "" {
		s.o.Track(env, nil, now)
	}
	b.head = append(r.appendTo(b.head[:0]), env.Trace...)
	p, err := coming.Append(b.head, b.body)
	if err == nil {
		err = p.Wait()
	}
	if err != nil {
		s.forget(r, wal.IsFull(err) || errors.Is(err, wal.ErrTooLarge)) // else it may be on disk: the next Open finds out
		return s.storageError(err)
	}
	s.accepted.Add(1)
	s.publish(r, p.Position, len(b.head)+len(b.body))
	return nil
}

// reserve takes an ID for a message that is being accepted.
func (s *Spool) reserve(id message.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.index.messages[id]; taken || s.closed {
		s.o.Log.Error("mail not stored", "id", id, "error", "message id in use, or closed")
		return replyBroken
	}
	s.index.messages[id] = &entry{id: id}
	return nil
}

// forget undoes reserve and, where removing is safe, readBody.
func (s *Spool) forget(r *record, remove bool) {
	if r.apart && remove {
		s.o.FS.Remove(s.bodyPath(r.ID)) // else the next Open does it
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.index.messages, r.ID)
}

// readBody reads a body into b, or through it into a file of its own.
func (s *Spool) readBody(r *record, b *buffer, body io.Reader) (err error) {
	b.body = b.body[:0]
	limit := int(s.o.Config.InlineBody)
	for {
		if len(b.body) == cap(b.body) { // full: twice as much, up to the limit and one more octet
			grown := make([]byte, len(b.body), min(2*cap(b.body), limit+1))
			copy(grown, b.body)
			b.body = grown
		}
		read, err := readPiece(body, b.body[len(b.body):cap(b.body)])
		b.body = b.body[:len(b.body)+len(read)]
		if err != nil {
			return err
		}
		if len(b.body) < cap(b.body) {
			r.size = int64(len(b.body))
			return nil
		}
		if len(b.body) > limit {
			break
		}
	}
	r.size, err = s.writeBody(r.ID, b.body, body)
	r.apart = err == nil
	r.fresh = r.apart
	b.body = b.body[:0]
	return err
}

// publish puts a message whose record is durable into the index.
func (s *Spool) publish(r *record, p wal.Position, length int) {
	s.routed(r, func(lanes []Lane) { s.insert(r, p, length, lanes) })
}

// routed calls f, which holds mu, with the lanes that the recipients of a record have now.
func (s *Spool) routed(r *record, f func(lanes []Lane)) {
	for {
		routes := s.routes.Load()
		lanes := s.route(r)
		s.mu.Lock()
		if routes == s.routes.Load() {
			f(lanes)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock() // the routes changed meanwhile
	}
}

// route asks the Router for every recipient of a record.
func (s *Spool) route(r *record) []Lane {
	lanes := make([]Lane, len(r.Recipients))
	for i := range r.Recipients {
		lanes[i] = s.o.Router.Lane(&r.Envelope, &r.Recipients[i])
	}
	return lanes
}

// insert makes a record's message known, with one lane for each recipient. The caller holds mu.
func (s *Spool) insert(r *record, p wal.Position, length int, lanes []Lane) {
	now := s.now()
	e := newEntry(len(r.Recipients))
	e.id, e.accepted, e.place, e.size, e.length = r.ID, r.accepted, p, r.size, uint32(length)
	e.apart, e.proven, e.priority, e.returns = r.apart, r.fresh, r.Priority, r.DeliverBy.Return
	if !r.HoldUntil.IsZero() {
		e.release = r.HoldUntil.UnixMilli()
	}
	if !r.DeliverBy.At.IsZero() {
		e.deadline = r.DeliverBy.At.UnixMilli()
	}
	for i := range e.rows {
		e.rows[i].number = uint32(i)
		if r.states != nil {
			w := &r.states[i]
			e.rows[i].number, e.rows[i].attempts, e.rows[i].when, e.rows[i].hold = w.number, w.attempts, planned(w.when, w.at, now), w.hold
			e.rows[i].told = w.told
			if w.at != 0 {
				e.rows[i].reply = p
			}
		}
	}
	s.index.add(e, lanes, now, s.o.terms())
	s.remember(r, p)
	if p.Segment > s.newest {
		s.newest, s.turned = p.Segment, true
		s.poke()
	}
	s.remind()
}
