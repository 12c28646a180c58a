package relay

import (
	"sync"
	"time"
)

// cache keeps answers for as long as they say, and at most maxCached. What was no answer is not kept.
type cache struct {
	mu      sync.Mutex
	answers map[question]kept
}

type question struct {
	name  string // lower case
	qtype uint16
}

type kept struct {
	found found
	err   error // ErrNoDomain, or nil
	until time.Time
}

const maxCached = 10_000 // a few MiB

func (c *cache) get(q question, now time.Time) (found, error, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.answers[q]
	if !ok || !now.Before(k.until) {
		return found{}, nil, false
	}
	return k.found, k.err, true
}

// put keeps an answer; where there are too many, what is out of date goes, and else some that chance picks.
func (c *cache) put(q question, f found, err error, now time.Time) {
	if f.lasts <= 0 { // RFC 1035 §3.2.1: a TTL of 0 is for the transaction in progress
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers == nil {
		c.answers = make(map[question]kept)
	}
	if len(c.answers) >= maxCached {
		c.evict(now)
	}
	c.answers[q] = kept{f, err, now.Add(f.lasts)}
}

func (c *cache) evict(now time.Time) {
	for q, k := range c.answers {
		if !now.Before(k.until) {
			delete(c.answers, q)
		}
	}
	for q := range c.answers {
		if len(c.answers) < maxCached*3/4 {
			return
		}
		delete(c.answers, q)
	}
}
