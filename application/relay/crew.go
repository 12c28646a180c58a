package relay

import (
	"context"
	"slices"
	"sync"
	"time"

	"bothy/application/queue"
)

// crew is who works on which lane: one goroutine, with at most one session, is one worker.
type crew struct {
	relay *Relay
	wg    sync.WaitGroup

	mu      sync.Mutex
	employ  func(*worker)        // starts it
	lanes   map[queue.Lane]*gang // those somebody works on
	total   int                  // workers in all
	waiting []queue.Lane         // want a worker when one is free, the first first
	dead    map[queue.Lane]dead  // whose next hop just failed
	closed  bool
}

// gang is the workers of one lane.
type gang struct {
	workers int
	idle    []*worker // those that keep a session open for further mail, the longest idle first
	again   bool      // mail came due while all were busy: ask the queue once more before leaving
}

// dead remembers a failed next hop. RFC 5321 §4.5.4.1: a client should keep a list of hosts it cannot reach.
type dead struct {
	failure *failure
	at      time.Time
}

const (
	deadTime      = time.Minute      // in which mail never tried before does not try a next hop that just failed
	perConnection = 8                // recipients due that are worth one more connection of a lane
	patience      = 15 * time.Second // after which mail behind a big message gets a connection of its own
)

// start readies c for the workers of one Run: they take nothing new once ctx has ended, and drop what is under way when hard ends.
func (c *crew) start(ctx, hard context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.employ = func(w *worker) { c.wg.Go(func() { w.run(ctx, hard) }) }
	c.closed = false
	c.lanes, c.dead = make(map[queue.Lane]*gang), make(map[queue.Lane]dead)
}

// finish lets the workers end what they do, and waits for them.
func (c *crew) finish() {
	c.mu.Lock()
	c.closed, c.waiting = true, nil
	c.mu.Unlock()
	c.dismiss()
	c.wg.Wait()
}

// wake sees to it that somebody asks the queue for lane's mail.
func (c *crew) wake(lane queue.Lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.call(lane)
}

// call is wake for one who holds mu.
func (c *crew) call(lane queue.Lane) {
	g := c.lanes[lane]
	switch {
	case g == nil:
		c.hire(lane)
	case len(g.idle) > 0:
		last := len(g.idle) - 1 // whose session is freshest
		g.idle[last].wake <- true
		g.idle = g.idle[:last]
	default:
		g.again = true
	}
}

// grow adds a worker to a lane with so much due mail that its workers, who are busy, need help; big says that a message has been
// under way for long, so that little is enough.
func (c *crew) grow(lane queue.Lane, big bool) {
	due, _ := c.relay.o.Queue.Waiting(lane)
	set := c.relay.set.Load()
	most := set.MXConnections
	if lane.Kind() == "smarthost" {
		most = set.SmarthostConnections
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.lanes[lane]
	if g != nil && len(g.idle) == 0 && g.workers < most && due > 0 && (big || due > perConnection*g.workers) {
		c.hire(lane)
	}
}

// hire starts a worker, or notes that lane wants one: while the link is down, or when there are enough in all. Then somebody idle is
// sent home. The caller holds mu.
func (c *crew) hire(lane queue.Lane) {
	if c.closed {
		return
	}
	if !c.relay.up.Load() || c.total >= c.relay.set.Load().Connections {
		if !slices.Contains(c.waiting, lane) {
			c.waiting = append(c.waiting, lane)
		}
		c.relieve()
		return
	}
	g := c.lanes[lane]
	if g == nil {
		g = new(gang)
		c.lanes[lane] = g
	}
	g.workers++
	c.total++
	c.employ(&worker{relay: c.relay, lane: lane, wake: make(chan bool, 1)})
}

// rest puts w, who found no mail, among the idle; false: look again, mail has come meanwhile.
func (c *crew) rest(w *worker) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.lanes[w.lane]
	if g.again {
		g.again = false
		return false
	}
	if c.closed || len(c.waiting) > 0 || !c.relay.up.Load() {
		w.wake <- false
		return true
	}
	g.idle = append(g.idle, w)
	return true
}

// tire takes w from among the idle; false: somebody has just woken it.
func (c *crew) tire(w *worker) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.lanes[w.lane]
	i := slices.Index(g.idle, w)
	if i < 0 {
		return false
	}
	g.idle = slices.Delete(g.idle, i, i+1)
	return true
}

// leave is the end of a worker; more says that it left mail behind.
func (c *crew) leave(w *worker, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.lanes[w.lane]
	more = more || g.again
	g.again = false
	g.workers--
	c.total--
	if g.workers == 0 {
		delete(c.lanes, w.lane)
	}
	if more {
		c.hire(w.lane)
	}
	c.callIn()
}

// callIn calls somebody for the lanes that wait, as far as there is room. The caller holds mu.
func (c *crew) callIn() {
	for len(c.waiting) > 0 && c.relay.up.Load() && c.total < c.relay.set.Load().Connections {
		next := c.waiting[0]
		c.waiting = c.waiting[1:]
		c.call(next)
	}
}

// relieve sends one of the idle home. The caller holds mu.
func (c *crew) relieve() {
	for _, g := range c.lanes {
		if len(g.idle) > 0 {
			g.idle[0].wake <- false
			g.idle = g.idle[1:]
			return
		}
	}
}

// dismiss sends the idle home.
func (c *crew) dismiss() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.lanes {
		for _, w := range g.idle {
			w.wake <- false
		}
		g.idle = nil
	}
}

// resume is for a link that has come up: the lanes that waited for it get workers, and no next hop counts as failed.
func (c *crew) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.dead)
	c.callIn()
}

// forgive makes no next hop count as failed.
func (c *crew) forgive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.dead)
}

// mourn notes that lane's next hop failed.
func (c *crew) mourn(lane queue.Lane, f *failure, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for l, d := range c.dead {
		if now.Sub(d.at) > c.relay.set.Load().LastRetry {
			delete(c.dead, l)
		}
	}
	c.dead[lane] = dead{f, now}
}

// mourned reports whether lane's next hop failed less than deadTime ago, how, and until when that counts.
func (c *crew) mourned(lane queue.Lane, now time.Time) (f *failure, until time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.dead[lane]
	return d.failure, d.at.Add(deadTime), ok && now.Sub(d.at) < deadTime
}

// revive notes that lane's next hop answers, and reports whether that is news.
func (c *crew) revive(lane queue.Lane) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, was := c.dead[lane]
	delete(c.dead, lane)
	return was
}
