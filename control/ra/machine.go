package ra

import (
	"math/rand/v2"
	"time"
)

// RFC 4861 §10 and §6.2.1.
const (
	maxInitialInterval = 16 * time.Second // MAX_INITIAL_RTR_ADVERT_INTERVAL
	maxInitial         = 3                // MAX_INITIAL_RTR_ADVERTISEMENTS
	minDelayBetween    = 3 * time.Second  // MIN_DELAY_BETWEEN_RAS
	maxDelay           = 500 * time.Millisecond
	minimumInterval    = 3 * time.Second
)

// timer says when advertisements are due on one link (RFC 4861 §6.2.4, §6.2.6). It does no I/O and takes the time as an argument.
type timer struct {
	min, max time.Duration
	rand     *rand.Rand
	next     time.Time // when the next is due
	last     time.Time // when the last was sent; zero: never
	early    int       // how many of the first have been sent
}

// sent sets the timer after an advertisement.
func (t *timer) sent(now time.Time) {
	interval := t.min
	if t.max > t.min {
		interval += time.Duration(t.rand.Int64N(int64(t.max - t.min)))
	}
	if t.early < maxInitial {
		t.early++
		interval = min(interval, maxInitialInterval)
	}
	t.last, t.next = now, now.Add(interval)
}

// solicited has an advertisement sent soon, but not sooner than the rate allows: to all, once for all who ask.
func (t *timer) solicited(now time.Time) {
	at := now.Add(t.delay())
	if t.last.Add(minDelayBetween).After(now) && !t.last.IsZero() {
		at = t.last.Add(minDelayBetween + t.delay())
	}
	if at.Before(t.next) {
		t.next = at
	}
}

// changed has what is new told at once, but for the rate, and a few times soon after (RFC 4861 §6.2.4).
func (t *timer) changed(now time.Time) {
	t.early, t.next = 0, now
	if soon := t.last.Add(minDelayBetween); !t.last.IsZero() && soon.After(now) {
		t.next = soon
	}
}

func (t *timer) delay() time.Duration { return time.Duration(t.rand.Int64N(int64(maxDelay))) }

// differs says in what another router of the link contradicts us (RFC 4861 §6.2.7); "" if in nothing.
func (a *Advertisement) differs(other *Advertisement) string {
	switch {
	case a.HopLimit != 0 && other.HopLimit != 0 && a.HopLimit != other.HopLimit:
		return "hop limit"
	case a.Managed != other.Managed:
		return "M flag"
	case a.Other != other.Other:
		return "O flag"
	case a.MTU != 0 && other.MTU != 0 && a.MTU != other.MTU:
		return "MTU"
	}
	for _, p := range a.Prefixes {
		for _, q := range other.Prefixes {
			if p.Prefix == q.Prefix && (p.Valid != q.Valid || p.Preferred != q.Preferred) {
				return "lifetimes of " + p.Prefix.String()
			}
		}
	}
	return ""
}
