package queue

import "time"

// leastSetting is by how much the time of day must be set at once to matter. Less is for the service that keeps the clock right.
const leastSetting = time.Minute

// watch tells when the machine's clock was set: by hand, by NTP at a site whose machine has no battery, or after it slept.
type watch struct {
	at  time.Time     // when it was last looked at
	ran time.Duration // what Running said then
}

// set returns by how much the clock was set since the last look.
func (w *watch) set(now time.Time, running func() time.Duration) time.Duration {
	passed := now.Sub(w.at) // by the steady clock, where the times have it
	if running != nil {
		ran := running()
		passed, w.ran = ran-w.ran, ran
	}
	by := now.Round(0).Sub(w.at.Round(0)) - passed
	w.at = now
	return by
}

// follow looks whether the clock was set. If so, what waits is no older for it, and is tried when it would have been. The caller holds mu.
func (s *Spool) follow() {
	at := s.o.Now()
	by := s.watch.set(at, s.o.Running)
	if by.Abs() < leastSetting {
		return
	}
	s.o.Log.Warn("the clock was set; mail that waits grows no older by that", "by", by)
	now, gap := at.UnixMilli(), by.Milliseconds()
	var spans []span
	for kind, c := range s.index.clocks {
		if gap > 0 && !c.stopped() { // a clock that stands still does so over this as well
			c.add(now-gap, now)
			spans = append(spans, span{kind: kind, from: now - gap, to: now})
		}
	}
	if len(spans) > 0 {
		s.saveClock(spans...)
	}
	s.index.shift(gap, now, s.o.terms())
}

// shift moves what is planned with the clock, which was set by so many milliseconds.
func (x *index) shift(by, now int64, t terms) {
	for _, l := range x.lanes {
		for _, r := range append([]*row(nil), l.later.items...) {
			x.lift(r)
			r.when = max(r.when+by, 1)
			x.place(r, now)
		}
	}
	for _, e := range x.messages {
		e.age(now, t)
		x.expiry.fix(e)
	}
}

// planned is when a row whose last try was at is to be tried again, after a restart: now, if that try is yet to come. The clock was
// wrong then, or is now.
func planned(when, at, now int64) int64 {
	if at > now+leastSetting.Milliseconds() {
		return 0
	}
	return when
}
