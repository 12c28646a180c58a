package lease

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"
)

// MaxPool is the most addresses in one Pool.
const MaxPool = 1 << 20

// Pool knows which addresses of a range are free, and which of them has been free the longest: never given before given
// long ago, so that a client that comes back finds its address. Every call takes time that grows with the logarithm
// of the pool's size at most. Safe for concurrent use.
type Pool struct {
	first netip.Addr
	base  uint32 // first, or its last 32 bits
	mu    sync.Mutex
	free  freeHeap
}

// freeHeap is a heap of the pool's addresses by when they are free.
type freeHeap struct {
	until []int64 // by address, milliseconds; never when it never is
	order []int32 // the heap
	at    []int32 // by address, its place in order
}

func (h *freeHeap) Len() int { return len(h.order) }

func (h *freeHeap) Less(i, j int) bool {
	a, b := h.order[i], h.order[j]
	return h.until[a] < h.until[b] || h.until[a] == h.until[b] && a < b
}

func (h *freeHeap) Swap(i, j int) {
	h.order[i], h.order[j] = h.order[j], h.order[i]
	h.at[h.order[i]], h.at[h.order[j]] = int32(i), int32(j)
}

func (h *freeHeap) Push(any) {}
func (h *freeHeap) Pop() any { return nil }

// unused sorts before every instant.
const unused = math.MinInt64

// NewPool returns the pool of the addresses from first to last.
func NewPool(first, last netip.Addr) (*Pool, error) {
	if first.BitLen() != last.BitLen() || last.Less(first) {
		return nil, fmt.Errorf("%v to %v is no range of addresses", first, last)
	}
	p := &Pool{first: first, base: low(first)}
	n := uint64(low(last)-low(first)) + 1
	if n > MaxPool || prefixBits(first) != prefixBits(last) {
		return nil, fmt.Errorf("%v to %v are more than %d addresses", first, last, MaxPool)
	}
	p.free = freeHeap{make([]int64, n), make([]int32, n), make([]int32, n)}
	for i := range n {
		p.free.until[i], p.free.order[i], p.free.at[i] = unused, int32(i), int32(i)
	}
	return p, nil
}

// low is the last 32 bits of an address.
func low(a netip.Addr) uint32 {
	b := a.As16()
	return binary.BigEndian.Uint32(b[12:])
}

// prefixBits is what stands before them.
func prefixBits(a netip.Addr) [12]byte {
	b := a.As16()
	return [12]byte(b[:12])
}

// Size is how many addresses there are.
func (p *Pool) Size() int { return len(p.free.until) }

// String is the first address and the last.
func (p *Pool) String() string { return p.first.String() + "-" + p.addr(int32(p.Size()-1)).String() }

// Contains reports whether an address is in the pool.
func (p *Pool) Contains(a netip.Addr) bool {
	_, ok := p.index(a)
	return ok
}

func (p *Pool) index(a netip.Addr) (int32, bool) {
	if a.BitLen() != p.first.BitLen() || prefixBits(a) != prefixBits(p.first) {
		return 0, false
	}
	i := uint64(low(a) - p.base)
	return int32(i), low(a) >= p.base && i < uint64(len(p.free.until))
}

func (p *Pool) addr(i int32) netip.Addr {
	b := p.first.As16()
	binary.BigEndian.PutUint32(b[12:], p.base+uint32(i))
	if p.first.Is4() {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.AddrFrom16(b)
}

// Next returns the free address that has been free the longest, or that was never used; false when none is free at now.
func (p *Pool) Next(now time.Time) (netip.Addr, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.free.order[0]
	if until := p.free.until[i]; until == never || until > now.UnixMilli() {
		return netip.Addr{}, false
	}
	return p.addr(i), true
}

// Free reports whether an address is free at now, as far as the pool was told.
func (p *Pool) Free(a netip.Addr, now time.Time) bool {
	i, ok := p.index(a)
	if !ok {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.free.until[i] != never && p.free.until[i] <= now.UnixMilli()
}

// Taken is how many addresses are not free at now: leased, offered, in quarantine, or nobody's to have.
func (p *Pool) Taken(now time.Time) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, until := range p.free.until {
		if until == never || until > now.UnixMilli() {
			n++
		}
	}
	return n
}

// Use is how full a pool is.
type Use struct {
	Name        string // for people
	Size, Taken int
}

// Hold says that an address is taken until t, by an offer for example; zero is for ever.
func (p *Pool) Hold(a netip.Addr, t time.Time) {
	p.set(a, millis(t))
}

// Follow says what became of an address: what Store.Watch tells.
func (p *Pool) Follow(l Lease, gone bool) {
	if gone {
		p.set(l.Prefix.Addr(), unused)
		return
	}
	if t, ok := l.Until(); ok {
		p.set(l.Prefix.Addr(), millis(t))
	} else {
		p.set(l.Prefix.Addr(), never)
	}
}

func (p *Pool) set(a netip.Addr, until int64) {
	i, ok := p.index(a)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free.until[i] = until
	heap.Fix(&p.free, int(p.free.at[i]))
}
