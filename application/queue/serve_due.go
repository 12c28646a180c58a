package queue

import (
	"slices"
	"sync"
)

// callers are those who asked to be told of due mail.
type callers struct {
	mu   sync.Mutex // taken while the spool's is held, never the other way
	list []*caller
	shut bool
}

// caller is one of them: a goroutine carries what is to be told from pending to lanes, so that a slow listener delays nobody.
type caller struct {
	kind    string
	lanes   chan Lane
	more    chan struct{} // holds one when pending was empty and is not any more
	done    chan struct{} // closed by stop
	pending []Lane        // each lane once: bounded by the lanes there are
	known   map[Lane]bool // those in pending
}

// tell gives a lane to everybody who waits for its kind. It never blocks.
func (c *callers) tell(l Lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.list {
		if d.kind == l.Kind() {
			d.add(l)
		}
	}
}

func (d *caller) add(l Lane) {
	if d.known[l] {
		return
	}
	d.known[l] = true
	d.pending = append(d.pending, l)
	select {
	case d.more <- struct{}{}:
	default:
	}
}

// listen begins to tell of lanes of a kind, those in due first.
func (c *callers) listen(kind string, due []Lane) (lanes <-chan Lane, stop func()) {
	d := &caller{
		kind: kind, lanes: make(chan Lane), more: make(chan struct{}, 1), done: make(chan struct{}),
		known: make(map[Lane]bool),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range due {
		d.add(l)
	}
	if c.shut {
		close(d.done)
	} else {
		c.list = append(c.list, d)
	}
	go c.carry(d)
	return d.lanes, func() { c.remove(d) }
}

// carry hands over one lane at a time until stop.
func (c *callers) carry(d *caller) {
	defer close(d.lanes)
	for {
		select {
		case <-d.more:
		case <-d.done:
			return
		}
		for l, ok := c.next(d); ok; l, ok = c.next(d) {
			select {
			case d.lanes <- l:
			case <-d.done:
				return
			}
		}
	}
}

// next takes the first pending lane. It is told again if it comes to be due after this, even before the listener has it.
func (c *callers) next(d *caller) (l Lane, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(d.pending) == 0 {
		d.pending = nil
		return "", false
	}
	l, d.pending = d.pending[0], d.pending[1:]
	delete(d.known, l)
	return l, true
}

func (c *callers) remove(d *caller) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.list, d); i >= 0 {
		c.list = slices.Delete(c.list, i, i+1)
		close(d.done)
	}
}

// close stops everybody.
func (c *callers) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shut = true
	for _, d := range c.list {
		close(d.done)
	}
	c.list = nil
}
