package submission

import (
	"net/netip"
	"sync"
	"time"
)

// Readers remembers who read mail by POP3 from which address, for POP before SMTP (RFC 6409 §3.3). It is in memory. The zero Readers is ready;
// it is safe for concurrent use.
type Readers struct {
	mu   sync.Mutex
	last map[netip.Addr]reader
}

type reader struct {
	account string
	at      time.Time
}

// maxReaders is how many addresses are remembered; the one longest ago goes first.
const maxReaders = 10_000

// Note remembers a login.
func (r *Readers) Note(peer netip.Addr, account string, now time.Time) {
	if !peer.IsValid() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[netip.Addr]reader{}
	}
	peer = peer.Unmap()
	if _, ok := r.last[peer]; !ok && len(r.last) >= maxReaders {
		var oldest netip.Addr
		for addr, one := range r.last {
			if !oldest.IsValid() || one.at.Before(r.last[oldest].at) {
				oldest = addr
			}
		}
		delete(r.last, oldest)
	}
	r.last[peer] = reader{account, now}
}

// account is whoever read last from an address, if that is not longer ago than window; "" if nobody.
func (r *Readers) account(peer netip.Addr, now time.Time, window time.Duration) string {
	if r == nil || window <= 0 {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	one, ok := r.last[peer]
	if !ok || now.Sub(one.at) >= window {
		return ""
	}
	return one.account
}
