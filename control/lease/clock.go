package lease

import "time"

// jump is how far the time of day may wander off the steady clock before it counts as set.
const jump = 250 * time.Millisecond

// clock is the store's clock: doc.go, C1 to C5.
type clock struct {
	read func() (wall time.Time, running time.Duration)

	base    time.Time     // the store's clock when the steady clock showed from
	from    time.Duration // of the steady clock
	ahead   int64         // the store's clock less the time of day, milliseconds: what the next record says
	unknown bool          // C3: the time of day is not to be trusted
	changed bool          // no record says so yet

	offset time.Duration // the store's clock less the time of day, when they were last compared
}

// start begins a run; last is the store's clock in the latest record, 0 when there is none.
func (c *clock) start(last int64) {
	wall, running := c.read()
	now := wall.UnixMilli() + c.ahead
	switch {
	case last == 0:
	case now < last-jump.Milliseconds(): // C3
		c.unknown, now = true, last
	case c.unknown: // C5
		c.unknown, c.changed, now = false, true, last
		c.ahead = last - wall.UnixMilli()
	default: // C2
		now = max(now, last)
	}
	c.from, c.base = running, time.UnixMilli(now)
	c.offset = c.base.Sub(wall)
}

// now returns the store's clock.
func (c *clock) now() time.Time {
	wall, running := c.read()
	now := c.base.Add(running - c.from)
	if offset := now.Sub(wall); (offset - c.offset).Abs() > jump { // C1, C4
		c.offset, c.unknown, c.changed = offset, false, true
		c.ahead = now.UnixMilli() - wall.UnixMilli()
	}
	return now
}

// system reads the machine's clocks.
func system() func() (time.Time, time.Duration) {
	start := time.Now()
	return func() (time.Time, time.Duration) {
		now := time.Now()
		return now.Round(0), now.Sub(start)
	}
}
