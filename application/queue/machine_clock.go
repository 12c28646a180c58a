package queue

import "slices"

// clock is the clock of one kind of lane: it stands still while the kind is paused. What is old is told by how much of
// the time since its acceptance the clock ran, so a change of routes or a restart changes nobody's age.
type clock struct {
	stops []stop
	since int64 // when it stopped, milliseconds since 1970; 0 while it runs
}

// stop is a time the clock stood still.
type stop struct {
	from, to int64 // milliseconds since 1970
	before   int64 // milliseconds that all earlier stops took
}

// maxStops bounds the stops remembered: a link that flaps each minute for a week. Beyond it the two oldest become one,
// in favour of the mail.
const maxStops = 10_000

func (c *clock) stopped() bool { return c.since != 0 }

// pause stops the clock; false when it already stands.
func (c *clock) pause(now int64) bool {
	if c.stopped() {
		return false
	}
	c.since = now
	return true
}

// resume lets the clock run again; false when it already does.
func (c *clock) resume(now int64) bool {
	if !c.stopped() {
		return false
	}
	c.add(c.since, max(now, c.since))
	c.since = 0
	return true
}

// add notes a stop that ended after all others; what is known of it already is left out.
func (c *clock) add(from, to int64) {
	s := stop{from: from, to: to}
	if n := len(c.stops); n > 0 {
		prev := c.stops[n-1]
		if to <= prev.to {
			return
		}
		s.from = max(from, prev.to)
		s.before = prev.before + prev.to - prev.from
	}
	c.stops = append(c.stops, s)
	if len(c.stops) > maxStops {
		c.stops[1].from = c.stops[0].from
		c.stops = c.stops[1:]
		c.recount()
	}
}

func (c *clock) recount() {
	var before int64
	for i := range c.stops {
		c.stops[i].before = before
		before += c.stops[i].to - c.stops[i].from
	}
}

// forget drops the stops that ended before t.
func (c *clock) forget(t int64) {
	n := 0
	for n < len(c.stops) && c.stops[n].to < t {
		n++
	}
	if n > 0 {
		c.stops = slices.Clone(c.stops[n:])
		c.recount()
	}
}

// stood returns how long the clock had stood still at t, all in all.
func (c *clock) stood(t int64) int64 {
	var total int64
	i, _ := slices.BinarySearchFunc(c.stops, t, func(s stop, t int64) int {
		if s.from <= t {
			return -1
		}
		return 1
	})
	if i > 0 {
		s := c.stops[i-1]
		total = s.before + min(t, s.to) - s.from
	}
	if c.stopped() && t > c.since {
		total += t - c.since
	}
	return total
}

// age returns how long the clock ran from accepted to now, in milliseconds.
func (c *clock) age(accepted, now int64) int64 {
	return max(0, now-accepted-(c.stood(now)-c.stood(accepted)))
}
