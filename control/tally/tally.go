package tally

import (
	"maps"
	"sync"
)

// Counts are counters since the start.
type Counts struct {
	Received, Sent map[string]uint64 // messages, by type
	Dropped        map[string]uint64 // messages that came and led to nothing, by why
}

// Tally counts. The zero Tally is ready. Safe for concurrent use.
type Tally struct {
	mu sync.Mutex
	c  Counts
}

// Received counts a message that was taken.
func (t *Tally) Received(kind string) { t.add(&t.c.Received, kind) }

// Sent counts a message that was sent.
func (t *Tally) Sent(kind string) { t.add(&t.c.Sent, kind) }

// Dropped counts a message that led to nothing.
func (t *Tally) Dropped(why string) { t.add(&t.c.Dropped, why) }

func (t *Tally) add(to *map[string]uint64, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if *to == nil {
		*to = map[string]uint64{}
	}
	(*to)[name]++
}

// Counts returns a copy.
func (t *Tally) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Counts{maps.Clone(t.c.Received), maps.Clone(t.c.Sent), maps.Clone(t.c.Dropped)}
}
