package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bothy/application/smtp"
	"bothy/lib/wal"
)

// How often Run looks around when nothing wakes it, and how soon after the last settlement a body is removed.
const (
	maxSleep  = time.Minute
	reapDelay = 100 * time.Millisecond

	maxExpired = 100 // messages failed or warned about before Run looks what is due: each waits for the disk
)

// Run wakes what is due, fails what is too old, writes what found no room, and gives disk space back, until ctx ends. It returns an error soon
// after the disk failed to keep what was written: only another Open finds out what it holds.
func (s *Spool) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
			if err := s.dead(); err != nil {
				return fmt.Errorf("queue: the disk failed: %w", err)
			}
			timer.Reset(s.sleep()) // something changed: perhaps sooner than we meant to look
			continue
		case <-timer.C:
		}
		s.work(ctx)
		timer.Reset(s.sleep())
	}
}

// sleep returns how long nothing is to be done.
func (s *Spool) sleep() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := maxSleep
	if next := s.index.next(); next != 0 {
		d = min(d, time.Duration(next-s.now())*time.Millisecond)
	}
	if len(s.reap) > 0 {
		d = min(d, reapDelay)
	}
	if len(s.unsaved) > 0 {
		d = min(d, time.Second)
	}
	if s.index.died >= s.o.Config.SegmentSize/2 {
		s.index.died, d = 0, 0
	}
	if s.turned { // the one before is complete
		s.turned, d = false, 0
	}
	d = max(d, 0)
	s.planned = s.now() + d.Milliseconds()
	return d
}

// work does once what Run is for.
func (s *Spool) work(ctx context.Context) {
	s.mu.Lock()
	s.follow()
	s.index.tick(s.now())
	s.drain()
	s.mu.Unlock()
	s.room() // whether mail is refused is told though none comes
	for n := 0; n < maxExpired && ctx.Err() == nil && s.expire(); n++ {
	}
	s.removeBodies()
	if ctx.Err() == nil {
		s.log.Summarize()
	}
	for range s.log.Segments() { // once through them at most
		if ctx.Err() != nil || !s.crowded() {
			return
		}
		switch err := s.compact(); {
		case errors.Is(err, errBusy):
			return // soon again
		case err != nil:
			s.o.Log.Warn("spool not compacted", "error", err)
			return
		}
	}
}

// expire fails the recipients of one message whose lifetime is over (RFC 5321 §4.5.4.1), or else tells its sender of those that wait for
// long; false when there are none.
func (s *Spool) expire() bool {
	s.mu.Lock()
	e, rows, late := s.index.expired(s.now(), s.o.terms())
	warn := len(rows) == 0
	if warn {
		rows = late // else in a minute
	}
	if e == nil || s.closed {
		s.mu.Unlock()
		return false
	}
	l := &Lease{spool: s, holder: "expiry"}
	for _, r := range rows {
		s.index.lift(r)
	}
	s.own(l, rows)
	s.mu.Unlock()
	if err := s.fill(l); err != nil {
		l.Release()
		return true
	}
	if warn {
		return s.warn(l)
	}
	verdicts := make([]Verdict, len(rows))
	tries := s.lasts(rows)
	for i := range verdicts {
		verdicts[i] = Verdict{Failed: true, Reply: expired(tries[i])}
	}
	err := s.settle(l, verdicts, func(i int) Outcome { return tries[i].outcome(verdicts[i].Reply) })
	if err != nil {
		s.o.Log.Warn("expiry not recorded", "id", e.id, "error", err)
		return false
	}
	s.o.Log.Info("delivery time expired", "id", e.id, "recipients", len(rows))
	return true
}

// warn tells the sender of a message, once, that the leased recipients still wait, and ends the lease. RFC 3461 §5.2.5.
func (s *Spool) warn(l *Lease) bool {
	defer l.Release()
	tries := s.lasts(l.rows)
	var outcomes []Outcome
	s.mu.Lock()
	now := s.now()
	for i, to := range l.Envelope.Recipients {
		if Delayed.Wanted(to.Notify) && !l.Envelope.ReversePath.IsNull() {
			o := tries[i].outcome(tries[i].reply)
			if e := l.entry; e.deadline != 0 && e.deadline <= now { // RFC 2852 §4.1.3: status 4.4.7
				o.Reply = expired(tries[i])
				o.Reply.Code, o.Reply.Enhanced[0] = 451, 4
			}
			left, _ := l.rows[i].left(now, s.o.terms())
			o.Action, o.Recipient, o.RetryUntil = Delayed, to, time.UnixMilli(now+left)
			outcomes = append(outcomes, o)
		}
	}
	told := func(wal.Pending) {
		for _, r := range l.held() {
			r.told = true
		}
		l.entry.changes++
	}
	if len(outcomes) == 0 {
		told(wal.Pending{}) // nothing that a restart need remember
		s.mu.Unlock()
		return true
	}
	l.entry.busy++
	s.mu.Unlock()
	err := s.commitTold(l, outcomes, func() []change {
		c := change{id: l.entry.id, outcome: outcomeTold}
		for _, r := range l.held() {
			c.numbers = append(c.numbers, r.number)
		}
		return []change{c}
	}, told)
	if err != nil {
		s.o.Log.Warn("delay not told", "id", l.entry.id, "error", err)
		return false
	}
	s.o.Log.Info("sender told of delay", "id", l.entry.id, "recipients", len(outcomes))
	return true
}

// expired is what a recipient fails with whose lifetime is over.
func expired(l last) smtp.Reply {
	r := smtp.Reply{Code: 554, Enhanced: [3]int{5, 4, 7}, Text: "delivery time expired"} // RFC 3463 §3.5: X.4.7
	if l.reply.Code != 0 {
		r.Text += "; last answer: " + l.reply.Error()
	}
	return r
}

// outcome is what a notice says of a recipient whose last try met l and that has come to reply.
func (l last) outcome(reply smtp.Reply) Outcome {
	o := Outcome{Reply: reply, Remote: l.remote}
	if l.at != 0 {
		o.LastTry = time.UnixMilli(l.at)
	}
	return o
}

// lasts reads what the last tries of rows of one message met; zero for those that were never tried or cannot be read.
func (s *Spool) lasts(rows []*row) []last {
	all := make([]last, len(rows))
	s.mu.Lock()
	places := make([]wal.Position, len(rows))
	for i, r := range rows {
		places[i] = r.reply
	}
	s.mu.Unlock()
	for i, r := range rows {
		all[i] = s.lastTry(r.entry, r.number, places[i])
	}
	return all
}

// removeBodies removes the bodies that no record refers to any more.
func (s *Spool) removeBodies() {
	s.mu.Lock()
	reap := s.reap
	s.reap = nil
	s.mu.Unlock()
	for _, r := range reap {
		if r.by.Wait() == nil && s.find(r.id) == nil { // else it was imported again
			s.o.FS.Remove(s.bodyPath(r.id)) // else the next Open does it
		}
	}
}
