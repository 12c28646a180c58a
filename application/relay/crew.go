package relay

import (
	"context"
	"slices"
	"sync"
	"time"

	"bothy/application/queue"
)

// crew is who works on which lane: one goroutine, with at most one session, is one worker.
//
// How many work on one lane is its window: it grows with each message that went well and halves with each connection or session that
// failed, between one and the lane's bound. How many work in all is bounded by Config.Connections; a fifth of that is kept for lanes
// nobody works on yet. When even that is used up, lanes wait in line: who helps a colleague gives up its place after the message it
// is in, and a lane's only worker after its turn. So a lane with a million messages delays another one's first by the rest
// of one message where that shares a lane, and by a turn at most.
type crew struct {
	relay *Relay
	wg    sync.WaitGroup

	mu      sync.Mutex
	employ  func(*worker)        // starts it
	lanes   map[queue.Lane]*gang // those somebody works on
	total   int                  // workers in all
	waiting line                 // want a worker when one is free
	parked  line                 // want a worker when the link is up, or nobody holds them any more
	dead    map[queue.Lane]dead  // whose next hop failed
	buried  time.Time            // when the long dead were last forgotten
	closed  bool
}

// gang is the workers of one lane.
type gang struct {
	workers  int
	sessions int       // of them open
	idle     []*worker // those that keep a session open for further mail, the longest idle first
	again    bool      // mail came due while all were busy: ask the queue once more before leaving
	window   window
}

// dead remembers a failed next hop. RFC 5321 §4.5.4.1: a client should keep a list of hosts it cannot reach.
type dead struct {
	failure *failure
	at      time.Time   // zero while it is in doubt
	look    *time.Timer // runs until the second look
}

// line is lanes in the order in which they came, each once.
type line struct {
	order []queue.Lane
	in    map[queue.Lane]bool
}

func (l *line) add(lane queue.Lane) {
	if l.in[lane] {
		return
	}
	if l.in == nil {
		l.in = make(map[queue.Lane]bool)
	}
	l.in[lane] = true
	l.order = append(l.order, lane)
}

func (l *line) next() (lane queue.Lane, ok bool) {
	if len(l.order) == 0 {
		return "", false
	}
	lane, l.order = l.order[0], l.order[1:]
	delete(l.in, lane)
	return lane, true
}

const (
	deadTime      = time.Minute      // in which mail never tried before does not try a next hop that just failed
	secondLook    = 15 * time.Second // after which a next hop that was silent is tried again: the link may have stumbled
	turn          = 2 * time.Second  // of a lane's only worker, while other lanes wait for a connection
	perConnection = 8                // recipients due that are worth one more connection of a lane
	patience      = 15 * time.Second // after which mail behind a big message gets a connection of its own
	reservedPart  = 5                // one in so many connections is for lanes without any
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
	c.closed, c.waiting, c.parked = true, line{}, line{}
	c.clearDead()
	c.mu.Unlock()
	c.dismiss(func(queue.Lane) bool { return true })
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

// hire puts lane, which nobody works on, in line for a worker; where there are enough in all, somebody idle is sent home. The caller
// holds mu.
func (c *crew) hire(lane queue.Lane) {
	switch {
	case c.closed, c.dead[lane].look != nil: // whoever takes the second look finds all that is due
		return
	case !c.relay.begins(lane):
		c.parked.add(lane)
		return
	}
	c.waiting.add(lane)
	c.callIn()
	if len(c.waiting.order) > 0 {
		c.relieve()
	}
}

// callIn calls somebody for the lanes that wait, as far as there is room. The caller holds mu.
func (c *crew) callIn() {
	for !c.closed && c.total < c.relay.set.Load().Connections {
		lane, ok := c.waiting.next()
		switch {
		case !ok:
			return
		case !c.relay.begins(lane):
			c.parked.add(lane)
		case c.lanes[lane] != nil:
			c.call(lane)
		default:
			c.begin(lane)
		}
	}
}

// begin starts a worker. The caller holds mu.
func (c *crew) begin(lane queue.Lane) {
	g := c.lanes[lane]
	if g == nil {
		g = &gang{window: newWindow}
		c.lanes[lane] = g
	}
	g.workers++
	c.total++
	c.employ(&worker{relay: c.relay, lane: lane, since: c.relay.o.Now(), wake: make(chan bool, 1)})
}

// grow adds a worker to a lane with so much due mail that its workers, who are busy, need help; big says that a message has been
// under way for long, so that little is enough.
func (c *crew) grow(lane queue.Lane, big bool) {
	due, _ := c.relay.o.Queue.Waiting(lane)
	set := c.relay.set.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.lanes[lane]
	room := c.total < set.Connections-set.Connections/reservedPart && len(c.waiting.order) == 0
	if c.closed || !room || g == nil || len(g.idle) > 0 || !c.relay.runs(lane) {
		return
	}
	if g.workers < g.window.workers(set.connections(lane)) && due > 0 && (big || due > perConnection*g.workers) {
		c.begin(lane)
	}
}

// praise notes that a message of lane went well.
func (c *crew) praise(lane queue.Lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.lanes[lane]
	g.window = g.window.wider(c.relay.set.Load().connections(lane))
}

// blame notes that a connection or a session of lane failed, and reports whether others of its sessions are alive: then it is their
// number that was too much.
func (c *crew) blame(lane queue.Lane) (others bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.lanes[lane]
	g.window = g.window.halved()
	return g.sessions > 0
}

// opened and shut count the sessions of a lane.
func (c *crew) opened(lane queue.Lane) { c.count(lane, 1) }
func (c *crew) shut(lane queue.Lane)   { c.count(lane, -1) }

func (c *crew) count(lane queue.Lane, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes[lane].sessions += n
}

// yield reports whether w, between two messages, is to leave: its lane has more workers than its window, or another lane waits and
// it is w's turn to go.
func (c *crew) yield(w *worker) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.lanes[w.lane]
	if g.workers > g.window.workers(c.relay.set.Load().connections(w.lane)) {
		return true
	}
	return len(c.waiting.order) > 0 && (g.workers > 1 || c.relay.o.Now().Sub(w.since) >= turn)
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
	if c.closed || len(c.waiting.order) > 0 || !c.relay.runs(w.lane) {
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

// leave is the end of a worker; more says that it left mail behind. The last one's place is taken in its turn; the others leave theirs
// to their colleagues, who ask the queue once more.
func (c *crew) leave(w *worker, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.lanes[w.lane]
	g.again = g.again || more
	g.workers--
	c.total--
	switch {
	case g.workers == 0:
		delete(c.lanes, w.lane)
		if g.again {
			c.hire(w.lane)
		}
	case g.again && len(g.idle) > 0:
		g.again = false
		c.call(w.lane)
	}
	c.callIn()
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

// dismiss sends home the idle of the lanes that match.
func (c *crew) dismiss(match func(queue.Lane) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for lane, g := range c.lanes {
		if !match(lane) {
			continue
		}
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
	for lane, ok := c.parked.next(); ok; lane, ok = c.parked.next() {
		c.waiting.add(lane)
	}
	c.clearDead()
	c.callIn()
}

// forgive makes no next hop count as failed; those in doubt are tried at once.
func (c *crew) forgive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clearDead()
}

// clearDead is forgive for one who holds mu.
func (c *crew) clearDead() {
	old := c.dead
	c.dead = make(map[queue.Lane]dead)
	for lane, d := range old {
		if d.look != nil {
			d.look.Stop()
			c.call(lane)
		}
	}
}

// doubt notes that nobody answered for lane's next hop. The first time in a row that proves little, for links stumble: then doubt returns
// true, its mail stays due, and somebody takes a second look soon, or when the link has proved itself (settleDoubts).
func (c *crew) doubt(lane queue.Lane, f *failure) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, known := c.dead[lane]; known {
		return d.look != nil
	}
	c.dead[lane] = dead{failure: f, look: time.AfterFunc(secondLook, func() { c.look(lane) })}
	return true
}

// look ends the wait for the second look at lane's next hop.
func (c *crew) look(lane queue.Lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.dead[lane]; d.look != nil {
		d.look.Stop()
		d.look = nil
		c.dead[lane] = d
		c.call(lane)
	}
}

// settleDoubts has every next hop in doubt looked at now.
func (c *crew) settleDoubts() {
	c.mu.Lock()
	var lanes []queue.Lane
	for lane, d := range c.dead {
		if d.look != nil {
			lanes = append(lanes, lane)
		}
	}
	c.mu.Unlock()
	for _, lane := range lanes {
		c.look(lane)
	}
}

// mourn notes that lane's next hop failed.
func (c *crew) mourn(lane queue.Lane, f *failure, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.buried) > deadTime {
		c.buried = now
		for l, d := range c.dead {
			if d.look == nil && now.Sub(d.at) > c.relay.set.Load().LastRetry {
				delete(c.dead, l)
			}
		}
	}
	if d := c.dead[lane]; d.look != nil {
		d.look.Stop()
	}
	c.dead[lane] = dead{failure: f, at: now}
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
	d, was := c.dead[lane]
	if d.look != nil {
		d.look.Stop()
	}
	delete(c.dead, lane)
	return was
}
