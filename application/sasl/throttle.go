package sasl

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// Throttle makes whoever guesses passwords wait. After some failures of one address, or against one account, attempts are refused for a
// while (ErrTemporary) without being looked at; the wait doubles with each further failure. Failures are forgotten an hour after the last.
// An address that has logged in to an account bears neither its neighbours' failures nor those of strangers, so that nobody can lock
// the owner out; it has as many failures of its own as a stranger. The zero Throttle is ready; safe for concurrent use.
type Throttle struct {
	Failures int           // of one address, borne before the first wait; 0: 5. An account bears four times as many
	First    time.Duration // the first wait; 0: 1 s
	Longest  time.Duration // the longest wait of an address; 0: 15 min. An account waits a minute at most: its owner does, too
	Entries  int           // addresses, accounts, and known pairs remembered, each; 0: 4096. The least recent are forgotten first

	mu       sync.Mutex
	peers    table
	accounts table
	known    table // address and account, after a login
}

const (
	throttleFailures   = 5
	throttleFirst      = time.Second
	throttleLongest    = 15 * time.Minute
	throttleEntries    = 4096
	throttleForget     = time.Hour
	accountFailures    = 4 // times Failures
	accountLongestWait = time.Minute
)

// Wait returns how long an attempt from peer on account has to wait; 0: it may go on.
func (t *Throttle) Wait(peer netip.Addr, account string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.known.get(pair(peer, account), now) != nil {
		return 0
	}
	return max(t.peers.wait(network(peer), now), t.accounts.wait(account, now))
}

// Failed notes a wrong password.
func (t *Throttle) Failed(peer netip.Addr, account string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	free, entries := or(t.Failures, throttleFailures), or(t.Entries, throttleEntries)
	if e := t.known.get(pair(peer, account), now); e != nil {
		if e.failures++; e.failures >= free {
			t.known.remove(e)
		}
		return
	}
	first, longest := or(t.First, throttleFirst), or(t.Longest, throttleLongest)
	if peer.IsValid() {
		t.peers.put(network(peer), now, entries).failed(now, free, first, longest)
	}
	t.accounts.put(account, now, entries).failed(now, accountFailures*free, first, min(longest, accountLongestWait))
}

// Succeeded notes a login.
func (t *Throttle) Succeeded(peer netip.Addr, account string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.known.put(pair(peer, account), now, or(t.Entries, throttleEntries)).failures = 0
}

// network is what an address is counted by: an IPv6 host has 2^64 of them.
func network(peer netip.Addr) string {
	peer = peer.Unmap().WithZone("")
	if peer.Is6() {
		return netip.PrefixFrom(peer, 64).Masked().String()
	}
	return peer.String()
}

func pair(peer netip.Addr, account string) string { return network(peer) + " " + account }

func or[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// table remembers the most recent of its entries.
type table struct {
	entries map[string]*list.Element // of *entry
	recent  list.List                // most recent first
}

type entry struct {
	key      string
	failures int
	last     time.Time // put
	until    time.Time // refused before
}

// get returns an entry that is not forgotten, or nil.
func (t *table) get(key string, now time.Time) *entry {
	element, ok := t.entries[key]
	if !ok {
		return nil
	}
	e := element.Value.(*entry)
	if now.Sub(e.last) >= throttleForget {
		t.remove(e)
		return nil
	}
	return e
}

// put returns the entry of key, new or not, as the most recent one.
func (t *table) put(key string, now time.Time, most int) *entry {
	e := t.get(key, now)
	if e == nil {
		if t.entries == nil {
			t.entries = map[string]*list.Element{}
		}
		for len(t.entries) >= most {
			t.remove(t.recent.Back().Value.(*entry))
		}
		e = &entry{key: key}
		t.entries[key] = t.recent.PushFront(e)
	}
	t.recent.MoveToFront(t.entries[key])
	e.last = now
	return e
}

func (t *table) remove(e *entry) {
	t.recent.Remove(t.entries[e.key])
	delete(t.entries, e.key)
}

func (t *table) wait(key string, now time.Time) time.Duration {
	if e := t.get(key, now); e != nil {
		return max(0, e.until.Sub(now))
	}
	return 0
}

// failed counts one more failure and sets the wait that follows from it.
func (e *entry) failed(now time.Time, free int, first, longest time.Duration) {
	e.failures++
	if e.failures < free {
		return
	}
	wait := first
	for i := free; i < e.failures && wait < longest; i++ {
		wait *= 2
	}
	e.until = now.Add(min(wait, longest))
}
