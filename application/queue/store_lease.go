package queue

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/lib/wal"
)

// maxLeased bounds the recipients of one lease.
const maxLeased = 1000

// Lease takes the oldest due message of a lane with its recipients there that are due, at most 1000; nil when there is none. It fails
// when the log is dead: what is delivered then could not be remembered.
func (s *Spool) Lease(name Lane, holder string) (*Lease, error) {
	for {
		err := s.log.Err()
		s.mu.Lock()
		if s.closed {
			err = ErrClosed
		}
		if err != nil {
			s.mu.Unlock()
			return nil, err
		}
		l := &Lease{spool: s, holder: holder}
		rows := s.index.take(name, maxLeased, l, s.now())
		if rows == nil {
			s.mu.Unlock()
			return nil, nil
		}
		s.own(l, rows)
		s.mu.Unlock()
		if s.fill(l) == nil && s.proven(l.entry) {
			return l, nil
		}
		l.Release() // the message is damaged: it stays where it is, and nobody gets it. Or the log is dead: see above
	}
}

// own makes rows, all of one message, those of a lease. The caller holds mu.
func (s *Spool) own(l *Lease, rows []*row) {
	s.fence++
	l.Fence, l.rows, l.entry = s.fence, rows, rows[0].entry
	l.Size, l.Accepted = l.entry.size, time.UnixMilli(l.entry.accepted)
	l.Attempts = make([]int, len(rows))
	for i, r := range rows {
		r.lease = l
		l.Attempts[i] = int(r.attempts)
	}
}

// Join makes one lease of several of the same message, in their order; those end. What one of them had lost is lost to the new one too.
func (s *Spool) Join(leases ...*Lease) *Lease {
	if len(leases) == 1 {
		return leases[0]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	first := leases[0]
	s.fence++
	l := &Lease{Envelope: first.Envelope, Size: first.Size, Accepted: first.Accepted, Fence: s.fence, spool: s, entry: first.entry, holder: first.holder}
	l.Envelope.Recipients = nil
	for _, old := range leases {
		l.Envelope.Recipients = append(l.Envelope.Recipients, old.Envelope.Recipients...)
		l.Attempts = append(l.Attempts, old.Attempts...)
		l.rows = append(l.rows, old.rows...)
		if old.ended {
			continue
		}
		for _, r := range old.held() {
			r.lease = l
		}
		old.ended = true
	}
	return l
}

// fill gives a lease its envelope.
func (s *Spool) fill(l *Lease) error {
	r, _, err := s.load(l.entry)
	if err != nil {
		return err
	}
	l.Envelope = r.Envelope
	l.Envelope.Recipients = make([]message.Recipient, len(l.rows))
	for i, row := range l.rows {
		if l.Envelope.Recipients[i], err = r.recipient(row.number); err != nil {
			s.spoil(l.entry, err)
			return err
		}
		l.Envelope.Recipients[i] = row.wishes(l.Envelope.Recipients[i])
	}
	return nil
}

// wishes is the row's recipient, to, as his message goes on.
func (r *row) wishes(to message.Recipient) message.Recipient {
	if r.expanded { // RFC 3461 §5.2.7.3
		to.Notify = to.Notify.WithoutSuccess()
	}
	return to
}

// recipient returns the recipient with a number.
func (r *record) recipient(number uint32) (message.Recipient, error) {
	i, ok := slices.BinarySearchFunc(r.states, number, func(w waiting, n uint32) int { return int(int64(w.number) - int64(n)) })
	if !ok {
		return message.Recipient{}, fmt.Errorf("%w: no recipient %d", errDamaged, number)
	}
	return r.Recipients[i], nil
}

// load reads the record of a message, wherever it is now, and its body unless that is in a file of its own. The memory is the caller's.
func (s *Spool) load(e *entry) (*record, []byte, error) {
	for {
		s.mu.Lock()
		place, length := e.place, e.length
		s.mu.Unlock()
		b, err := s.log.Read(place, make([]byte, 0, max(length+recordSlack, minRead)))
		if errors.Is(err, wal.ErrGone) {
			s.mu.Lock()
			moved := e.place != place
			s.mu.Unlock()
			if moved {
				continue
			}
		}
		if err == nil {
			r, body, perr := parseMessage(b)
			if perr == nil && r.ID == e.id && (r.apart || int64(len(body)) == r.size) {
				return r, body, nil
			}
			err = fmt.Errorf("%w: record at %v: %w", errDamaged, place, perr)
		}
		s.spoil(e, err)
		return nil, nil, err
	}
}

const (
	recordSlack = 64      // room for what the log keeps in front of a record
	minRead     = 4 << 10 // octets of memory for reading a record
)

// spoil takes a message that cannot be read out of circulation.
func (s *Spool) spoil(e *entry, err error) {
	if s.log.Err() != nil {
		return // it is the log that cannot be read any more
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.damaged || e.live == 0 {
		return
	}
	s.o.Log.Error("damaged message set aside", "id", e.id, "error", err)
	s.index.spoil(e)
}

// spoil keeps every row of a message from being served.
func (x *index) spoil(e *entry) {
	e.damaged = true
	for i := range e.rows {
		x.lift(&e.rows[i])
	}
}

// openBody opens the body of a message.
func (s *Spool) openBody(e *entry) (io.ReadCloser, error) {
	_, inline, err := s.load(e)
	if err != nil {
		return nil, err
	}
	if !e.apart {
		r := new(inlineReader)
		r.Reset(inline)
		return r, nil
	}
	f, err := s.o.FS.Open(s.bodyPath(e.id))
	if errors.Is(err, fs.ErrNotExist) {
		s.spoil(e, err)
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err) // too many open files, say
	}
	left := e.size - int64(len(inline))
	return &bodyReader{file: f, id: e.id, piece: inline, left: left, damaged: func(err error) { s.spoil(e, err) }}, nil
}

// proven reports whether a body in a file of its own is whole, and sets the message aside where it is not: a session must not end in the
// middle of it. The file is read once in the spool's life; what was accepted in this life needs no proof.
func (s *Spool) proven(e *entry) bool {
	s.mu.Lock()
	proven := e.proven || !e.apart
	s.mu.Unlock()
	if proven {
		return true
	}
	body, err := s.openBody(e)
	if err != nil {
		return !errors.Is(err, errDamaged) // else whoever opens it sees for himself
	}
	defer body.Close()
	if _, err := io.Copy(io.Discard, body); err != nil {
		return false
	}
	s.mu.Lock()
	e.proven = true
	s.mu.Unlock()
	return true
}

// failureRetry is when a failure that could not be written down is tried again.
const failureRetry = time.Minute

// release ends a lease without a verdict.
func (s *Spool) release(l *Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	for _, r := range l.held() {
		s.index.free(r, s.now())
	}
}

// held returns the rows that the lease still holds.
func (l *Lease) held() []*row {
	var rows []*row
	for _, r := range l.rows {
		if r.lease == l {
			rows = append(rows, r)
		}
	}
	return rows
}

// settle ends a lease with its verdicts. told says of the recipient at an index what the notice is to say beside what it is about.
func (s *Spool) settle(l *Lease, v []Verdict, told func(i int) Outcome) error {
	if len(v) != len(l.rows) {
		return fmt.Errorf("queue: %d verdicts for %d recipients", len(v), len(l.rows))
	}
	v = s.keep(l, v)
	var outcomes []Outcome
	for i := range v {
		to := l.Envelope.Recipients[i]
		if action, ok := v[i].tells(&l.Envelope, to.Notify); ok {
			o := told(i)
			o.Action, o.Recipient = action, to
			outcomes = append(outcomes, o)
		}
		if v[i].tellsExpanded(to.Notify) { // whatever was answered of one of them
			outcomes = append(outcomes, Outcome{Action: Expanded, Recipient: to, LastTry: told(i).LastTry})
		}
	}
	s.track(l, v)
	s.mu.Lock()
	held := !l.ended && !s.closed && len(l.held()) > 0
	l.ended = true
	if held && len(outcomes) > 0 {
		l.entry.busy++
	}
	s.mu.Unlock()
	switch {
	case !held:
		return ErrFenced
	case len(outcomes) > 0:
		return s.settleTold(l, v, outcomes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.save(appendUpdate(nil, s.changes(l, v), nil))
	s.apply(l, v, p)
	return err
}

// track tells of what becomes of the recipients of a message that somebody may ask about.
func (s *Spool) track(l *Lease, v []Verdict) {
	if s.o.Track == nil || l.Envelope.Tracking.Certifier == "" {
		return
	}
	var outcomes []Outcome
	for i := range v {
		o := Outcome{Action: Delayed, Recipient: l.Envelope.Recipients[i], Reply: v[i].Reply, Remote: v[i].Remote}
		switch {
		case v[i].Failed:
			o.Action = GivenUp
		case v[i].Done && v[i].Tracks:
			o.Action = Transferred
		case v[i].Done && v[i].Action != 0:
			o.Action = v[i].Action
		case v[i].Done && l.rows[i].lane.name.Kind() == "mailbox":
			o.Action = Delivered
		case v[i].Done:
			o.Action = Relayed
		case v[i].Reply.Code == 0:
			continue // nothing is known
		}
		outcomes = append(outcomes, o)
	}
	s.o.Track(&l.Envelope, outcomes, s.o.Now())
}

// keep has held what may not fail.
func (s *Spool) keep(l *Lease, v []Verdict) []Verdict {
	if s.o.Keep == nil {
		return v
	}
	v = slices.Clone(v)
	for i := range v {
		if v[i].Failed && s.o.Keep(&l.Envelope, &l.Envelope.Recipients[i]) {
			s.o.Log.Error("held: it failed, and nobody could be told", "id", l.Envelope.ID, "recipient", l.Envelope.Recipients[i].Address, "reply", v[i].Reply.Error())
			v[i] = Verdict{Reply: v[i].Reply, Remote: v[i].Remote, held: true}
		}
	}
	return v
}

// tells returns what the Notifier is asked about: each failure, for the postmaster may want what the sender does not; success where the
// sender wants it.
func (v *Verdict) tells(env *message.Envelope, n message.Notify) (a Action, ok bool) {
	switch {
	case v.Done:
		return v.Action, v.Action != 0 && v.Action.Owed(env, n)
	default:
		return GivenUp, v.Failed
	}
}

// tellsExpanded reports whether it is asked about an expansion, which comes before whatever became of the recipient.
func (v *Verdict) tellsExpanded(n message.Notify) bool { return v.Expanded && Expanded.Wanted(n) }

// changes puts the verdicts on the rows that the lease still holds into the form of the log. The caller holds mu.
func (s *Spool) changes(l *Lease, v []Verdict) []change {
	gone := change{id: l.entry.id, outcome: outcomeGone}
	var all []change
	for i, r := range l.rows {
		switch {
		case r.lease != l:
		case v[i].Done || v[i].Failed:
			gone.numbers = append(gone.numbers, r.number)
		default:
			all = append(all, change{
				id: l.entry.id, numbers: []uint32{r.number}, outcome: outcomeDeferred,
				attempts: moreAttempts(r.attempts), when: retryTime(v[i].Retry),
				last: last{at: s.now(), reply: v[i].Reply, remote: v[i].Remote},
			})
			if v[i].held {
				all = append(all, change{id: l.entry.id, numbers: []uint32{r.number}, outcome: outcomeHeld})
			}
			if v[i].tellsExpanded(l.Envelope.Recipients[i].Notify) {
				all = append(all, change{id: l.entry.id, numbers: []uint32{r.number}, outcome: outcomeExpanded})
			}
		}
	}
	if len(gone.numbers) > 0 {
		all = append(all, gone)
	}
	return all
}

func moreAttempts(n uint16) uint16 { return max(n, n+1) }

func retryTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(0, t.UnixMilli())
}

// apply does to the index what the record at p says. The caller holds mu.
func (s *Spool) apply(l *Lease, v []Verdict, p wal.Pending) {
	now := s.now()
	last := false
	for i, r := range l.rows {
		switch {
		case r.lease != l:
		case v[i].Done || v[i].Failed:
			last = s.index.settle(r) || last
		default:
			r.attempts, r.when, r.reply = moreAttempts(r.attempts), retryTime(v[i].Retry), p.Position
			r.expanded = r.expanded || v[i].tellsExpanded(l.Envelope.Recipients[i].Notify)
			l.entry.changes++
			if v[i].held {
				s.index.retain(r, true, now)
			}
			s.index.free(r, now)
		}
	}
	if last {
		s.bury(l.entry, p)
	}
	s.remind()
}

// bury lets the body of a message that is gone be removed once the record at p is durable. The caller holds mu.
func (s *Spool) bury(e *entry, p wal.Pending) {
	if e.apart && p.Position != (wal.Position{}) { // else the next Open removes it
		s.reap = append(s.reap, reaped{e.id, p})
		s.poke()
	}
}

// settleTold is settle where the sender is to be told: the outcomes and their notice are one record, durable before anything is
// changed in memory.
func (s *Spool) settleTold(l *Lease, v []Verdict, outcomes []Outcome) error {
	err := s.commitTold(l, outcomes, func() []change { return s.changes(l, v) }, func(p wal.Pending) { s.apply(l, v, p) })
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settleUntold(l, v)
	return fmt.Errorf("queue: failure not recorded: %w", err)
}

// settleUntold ends a lease whose notice found no room: what was delivered is gone all the same, for the sender did not ask to have it
// delivered twice; the others are tried again. The caller holds mu.
func (s *Spool) settleUntold(l *Lease, v []Verdict) {
	now := s.now()
	gone, last := change{id: l.entry.id, outcome: outcomeGone}, false
	for i, r := range l.rows {
		switch {
		case r.lease != l:
		case v[i].Done:
			gone.numbers = append(gone.numbers, r.number)
			last = s.index.settle(r) || last
		default:
			r.when = now + failureRetry.Milliseconds()
			s.index.free(r, now)
		}
	}
	if len(gone.numbers) > 0 {
		p, err := s.save(appendUpdate(nil, []change{gone}, nil))
		if err == nil && last {
			s.bury(l.entry, p)
		}
	}
	s.remind()
}

// commitTold makes changes to one message durable together with the notice about them, and then does apply. Both are called
// under mu. The message's busy was counted up by the caller.
func (s *Spool) commitTold(l *Lease, outcomes []Outcome, changes func() []change, apply func(wal.Pending)) error {
	notice, body, err := s.compose(l, outcomes)
	var p wal.Pending
	var length int
	if err == nil {
		s.mu.Lock()
		rec := appendUpdate(nil, changes(), notice)
		length = len(rec) + len(body)
		if err = s.drain(); err == nil {
			p, err = s.log.Append(rec, body)
		}
		s.mu.Unlock()
		if err == nil {
			err = p.Wait()
		}
	}
	if err == nil && notice != nil {
		s.accepted.Add(1)
		s.publish(notice, p.Position, length)
	}
	s.mu.Lock()
	l.entry.busy--
	if err == nil {
		apply(p)
	}
	s.mu.Unlock()
	if err != nil && notice != nil {
		s.forget(notice, wal.IsFull(err) || errors.Is(err, wal.ErrTooLarge))
	}
	return err
}

// maxNoticeHeader bounds the header section handed to the Notifier, in octets.
const maxNoticeHeader = 64 << 10

// compose has the Notifier make the notice, reserves its ID, and puts a large body into a file; body is what is left for the
// record. The notice is nil when none is due.
func (s *Spool) compose(l *Lease, outcomes []Outcome) (notice *record, body []byte, err error) {
	if s.o.Notifier == nil {
		return nil, nil, nil
	}
	header, err := s.header(l.entry, maxNoticeHeader)
	if err != nil {
		s.o.Log.Warn("notice without the header of its message", "id", l.entry.id, "error", err)
	}
	env := l.Envelope.Clone()
	r := &Report{Envelope: &env, Outcomes: outcomes, Now: s.o.Now(), Header: header, Open: l.Open, Size: l.Size}
	notice, body, err = s.take(r)
	var reply smtp.Reply
	if err != nil && !errors.As(err, &reply) { // not the disk: the message that it returns cannot be read
		r.Open = nil
		notice, body, err = s.take(r)
	}
	return notice, body, err
}

// take takes in the notice of a report.
func (s *Spool) take(r *Report) (notice *record, body []byte, err error) {
	composed, content := s.o.Notifier.Compose(r)
	if content != nil {
		defer content.Close()
	}
	if composed == nil || len(composed.Recipients) == 0 {
		return nil, nil, nil
	}
	notice = &record{Envelope: composed.Clone(), accepted: r.Now.UnixMilli()}
	if notice.ID.IsZero() {
		notice.ID = message.NewID(r.Now)
	}
	if err := s.reserve(notice.ID); err != nil {
		return nil, nil, err
	}
	b := s.newBuffer()
	if err := s.readBody(notice, b, content); err != nil {
		s.forget(notice, true)
		return nil, nil, err
	}
	return notice, b.body, nil
}
