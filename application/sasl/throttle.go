package sasl

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// Throttle makes whoever guesses passwords wait: attempts are refused for a while (ErrThrottled) without being looked at. doc.go has the
// arithmetic. The zero Throttle is ready; safe for concurrent use.
//
// After some failures an address (IPv6: a /64) waits, whatever the account; its wait doubles with each further failure, and an hour after
// the last all is forgotten. Beside that, each attempt of a stranger on an account is paid from two budgets: of the account, and of the
// part of the Internet that he comes from. So those who guess from a few places use up what these places may, and not the owner's chance
// to come from a new address. An address that has logged in to the account pays nothing, and does not bear its neighbours' failures;
// another one in its vicinity pays from the vicinity's own budget.
type Throttle struct {
	Failures int           // of one address, borne before the first wait; 0: 5. The budgets are multiples of it
	First    time.Duration // the first wait of an address; 0: 1 s
	Longest  time.Duration // the longest wait of an address; 0: 15 min
	Entries  int           // addresses, known pairs, and budgets of places and of accounts, remembered, each; 0: 4096

	mu       sync.Mutex
	peers    table
	known    table // account and address, or its vicinity, after a login
	places   budgets
	accounts budgets
}

const (
	throttleFailures = 5
	throttleFirst    = time.Second
	throttleLongest  = 15 * time.Minute
	throttleEntries  = 4096
	throttleForget   = time.Hour
	throttleKnown    = 30 * 24 * time.Hour // since the last login

	placeBurst   = 4 // times Failures
	placeEvery   = 5 * time.Minute
	accountBurst = 1000 // times Failures
	accountEvery = time.Second
)

// Wait returns how long an attempt from peer on account has to wait. 0: it may go on, and is paid for; Succeeded gives that back.
func (t *Throttle) Wait(peer netip.Addr, account string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.known.get(pair(peer, host, account), now, throttleKnown) != nil {
		return 0
	}
	wait := t.peers.wait(host.of(peer), now)
	purse := t.purse(peer, account, now)
	for _, b := range purse {
		wait = max(wait, b.wait(now))
	}
	if wait == 0 {
		for _, b := range purse {
			b.take(now, or(t.Entries, throttleEntries))
		}
	}
	return wait
}

// Failed notes a wrong password.
func (t *Throttle) Failed(peer netip.Addr, account string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	free := or(t.Failures, throttleFailures)
	if e := t.known.get(pair(peer, host, account), now, throttleKnown); e != nil {
		if e.failures++; e.failures >= free {
			t.known.remove(e)
		}
		return
	}
	if peer.IsValid() {
		e := t.peers.put(host.of(peer), now, throttleForget, or(t.Entries, throttleEntries))
		e.failed(now, free, or(t.First, throttleFirst), or(t.Longest, throttleLongest))
	}
}

// Succeeded notes a login.
func (t *Throttle) Succeeded(peer netip.Addr, account string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.known.get(pair(peer, host, account), now, throttleKnown) == nil {
		for _, b := range t.purse(peer, account, now) {
			b.giveBack()
		}
	}
	for _, s := range []scope{vicinity, host} {
		t.known.put(pair(peer, s, account), now, throttleKnown, or(t.Entries, throttleEntries)).failures = 0
	}
}

// purse is what a peer whose address is not known pays from.
func (t *Throttle) purse(peer netip.Addr, account string, now time.Time) []budget {
	free := or(t.Failures, throttleFailures)
	place := func(s scope) budget {
		return budget{&t.places, pair(peer, s, account), placeEvery, placeBurst * free}
	}
	if t.known.get(pair(peer, vicinity, account), now, throttleKnown) != nil {
		return []budget{place(vicinity)}
	}
	return []budget{place(provider), {&t.accounts, account, accountEvery, accountBurst * free}}
}

// scope is how much of the Internet is counted as one, in bits of an IPv4 and an IPv6 address.
type scope struct{ v4, v6 int }

var (
	host     = scope{32, 64} // an IPv6 host has 2^64 addresses
	vicinity = scope{24, 48} // of a customer whose address changes
	provider = scope{16, 32} // a site has up to a /48, who provides to sites has a /32
)

// of names the network of that scope around peer.
func (s scope) of(peer netip.Addr) string {
	peer = peer.Unmap().WithZone("")
	bits := s.v4
	if peer.Is6() {
		bits = s.v6
	}
	return netip.PrefixFrom(peer, bits).Masked().String()
}

func pair(peer netip.Addr, s scope, account string) string { return s.of(peer) + " " + account }

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
func (t *table) get(key string, now time.Time, forget time.Duration) *entry {
	element, ok := t.entries[key]
	if !ok {
		return nil
	}
	e := element.Value.(*entry)
	if now.Sub(e.last) >= forget {
		t.remove(e)
		return nil
	}
	return e
}

// put returns the entry of key, new or not, as the most recent one.
func (t *table) put(key string, now time.Time, forget time.Duration, most int) *entry {
	e := t.get(key, now, forget)
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
	if e := t.get(key, now, throttleForget); e != nil {
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
