package queue

import (
	"time"

	"bothy/application/message"
	"bothy/lib/wal"
)

// What is remembered of the transactions that were accepted: a client that did not hear the reply asks again (RFC 1845 §3). It stands in the
// record of the message, so whoever has the message on disk has this too, whatever breaks and when.
const (
	askedAge  = 48 * time.Hour // RFC 1845 §3: at least, it recommends
	maxAsked  = 32 << 10       // transactions; the oldest go first
	maxTakers = 1 << 20        // recipients of all of them: 8 MiB
	askedHead = 1000           // transactions of one kindAsked
)

// asked is one such transaction.
type asked struct {
	message.Transaction
	id      message.ID
	at      int64  // milliseconds since 1970 when it was accepted
	segment uint32 // of the log, where that is written
}

// memory is those of a spool, by key and by age. The spool's mutex guards it.
type memory struct {
	by     map[message.TransactionKey]*asked
	all    []*asked // the oldest first
	takers int      // recipients of all
}

// add remembers a transaction, or that it is written somewhere else now.
func (m *memory) add(a *asked) {
	if known := m.by[a.Key]; known != nil && known.id == a.id {
		known.segment = max(known.segment, a.segment)
		return
	}
	if m.by == nil {
		m.by = map[message.TransactionKey]*asked{}
	}
	m.by[a.Key] = a
	m.all = append(m.all, a)
	m.takers += len(a.To)
}

// forget drops what is too old or too much at now.
func (m *memory) forget(now int64) {
	for len(m.all) > 0 && (len(m.all) > maxAsked || m.takers > maxTakers || m.all[0].at < now-askedAge.Milliseconds()) {
		a := m.all[0]
		if m.by[a.Key] == a {
			delete(m.by, a.Key)
		}
		m.all, m.takers = m.all[1:], m.takers-len(a.To)
	}
}

// remember notes the transaction of a message whose record is at p. The caller holds mu.
func (s *Spool) remember(r *record, p wal.Position) {
	if r.Transaction.Key.IsZero() {
		return
	}
	s.asked.add(&asked{Transaction: r.Transaction, id: r.ID, at: r.accepted, segment: p.Segment})
	s.asked.forget(s.now())
}

// Transaction returns what was accepted under key, and as which message; ok is false if nothing was, or too long ago. A transaction is
// remembered for 48 hours, the last 32,768 of them, or fewer where they have more than a million recipients.
func (s *Spool) Transaction(key message.TransactionKey) (t message.Transaction, id message.ID, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked.forget(s.now())
	a := s.asked.by[key]
	if a == nil {
		return t, id, false
	}
	return a.Transaction, a.id, true
}

// moveAsked writes down anew the transactions in a segment that is about to go.
func (s *Spool) moveAsked(segment uint32) error {
	s.mu.Lock()
	s.asked.forget(s.now())
	var old []*asked
	for _, a := range s.asked.all {
		if a.segment <= segment {
			old = append(old, a)
		}
	}
	s.mu.Unlock()
	for len(old) > 0 {
		part := old[:min(len(old), askedHead)]
		old = old[len(part):]
		p, err := s.log.Commit(appendAsked(nil, part))
		if err != nil {
			return err
		}
		s.mu.Lock()
		for _, a := range part {
			a.segment = max(a.segment, p.Segment)
		}
		s.mu.Unlock()
	}
	return nil
}
