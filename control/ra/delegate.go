package ra

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Delegation is a prefix that the provider has delegated to this host, and how long it may be used.
type Delegation struct {
	Prefix           netip.Prefix
	Preferred, Valid time.Time
}

// Host is whose addresses and routes are set on the link: iface.Interface.
type Host interface {
	SetAddress(p netip.Prefix, preferred, valid time.Duration) error
	RemoveAddress(p netip.Prefix) error
	SetRoute(to netip.Prefix, via netip.Addr, metric int) error
	RemoveRoute(to netip.Prefix, via netip.Addr, metric int) error
}

const (
	linkBits = 64 // RFC 4862 §5.5.3: hosts make addresses of a /64 only
	// deprecated is how long a prefix that is lost is advertised with lifetimes of 0: hosts keep its addresses, for what they are doing, no longer than
	// that (RFC 4862 §5.5.3: two hours).
	deprecated = 2 * time.Hour
	maxLost    = 8 // lost prefixes that are remembered; each takes 32 octets of the message

	linkMetric = 256 // of the route to the link: what the kernel gives its own
)

// delegated are the prefixes of one link that are cut from what is delegated. It does no I/O and takes the time as an argument. Safe for concurrent use.
type delegated struct {
	subnets []SubnetConfig

	mu   sync.Mutex
	held map[netip.Prefix]Prefix     // of the link, as advertised but for the lifetimes
	ends map[netip.Prefix]Delegation // when
	lost map[netip.Prefix]time.Time  // since when
}

// subnet returns the /64 of a number; false when the prefix has no so many.
func subnet(p netip.Prefix, number int) (netip.Prefix, bool) {
	bits := linkBits - p.Bits()
	if !p.IsValid() || !p.Addr().Is6() || bits < 0 || bits < 63 && number >= 1<<bits {
		return netip.Prefix{}, false
	}
	b := p.Masked().Addr().As16()
	for i := 7; number > 0; i, number = i-1, number>>8 {
		b[i] |= byte(number)
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), linkBits), true
}

// take notes what is delegated now, all of it. What is missing is lost: hosts are told that it is over.
func (d *delegated) take(now time.Time, all []Delegation) (changed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	held, ends := map[netip.Prefix]Prefix{}, map[netip.Prefix]Delegation{}
	for _, g := range all {
		for _, s := range d.subnets {
			if p, ok := subnet(g.Prefix, s.Number); ok && now.Before(g.Valid) {
				held[p], ends[p] = Prefix{Prefix: p, OnLink: s.OnLink, Autonomous: s.Autonomous}, g
			}
		}
	}
	for p := range d.held {
		if _, still := held[p]; !still {
			if d.lost == nil {
				d.lost = map[netip.Prefix]time.Time{}
			}
			d.lost[p], changed = now, true
		}
	}
	for p := range held {
		delete(d.lost, p)
		changed = changed || d.ends[p] != ends[p]
	}
	for len(d.lost) > maxLost {
		delete(d.lost, slices.MinFunc(slices.Collect(maps.Keys(d.lost)), func(a, b netip.Prefix) int { return d.lost[a].Compare(d.lost[b]) }))
	}
	d.held, d.ends = held, ends
	return changed
}

// now are the prefixes to advertise: no lifetime is longer than what is left of the delegation (RFC 9915 §6.3), and what is lost has none (§18.2.7).
func (d *delegated) now(now time.Time) (all []Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for p, told := range d.held {
		told.Preferred, told.Valid = max(d.ends[p].Preferred.Sub(now), 0), max(d.ends[p].Valid.Sub(now), 0)
		all = append(all, told)
	}
	for p, since := range d.lost {
		if now.Sub(since) >= deprecated {
			delete(d.lost, p)
			continue
		}
		all = append(all, Prefix{Prefix: p, OnLink: true, Autonomous: true})
	}
	slices.SortFunc(all, func(a, b Prefix) int { return a.Prefix.Compare(b.Prefix) })
	return all
}

// own is this host's address in a prefix of the link.
func own(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr().Next(), linkBits) }

// Delegate tells what the provider delegates now, all of it. It may be called before Run, and while it runs.
func (r *Router) Delegate(all []Delegation) {
	r.init()
	if r.delegated.take(time.Now(), all) {
		select {
		case r.renewed <- struct{}{}:
		default:
		}
	}
}

// settle gives this host its address in each prefix of the link, and takes away those of prefixes that are lost.
func (r *Router) settle(now time.Time) {
	if r.Host == nil {
		return
	}
	failed := func(err error) {
		if err != nil {
			r.Log.Error("address of this router not changed", "interface", r.Config.Interface, "error", err)
		}
	}
	for _, p := range r.delegated.now(now) {
		if p.Valid == 0 {
			failed(r.Host.RemoveRoute(p.Prefix, netip.Addr{}, linkMetric))
			failed(r.Host.RemoveAddress(own(p.Prefix)))
			continue
		}
		failed(r.Host.SetAddress(own(p.Prefix), p.Preferred, p.Valid))
		failed(r.Host.SetRoute(p.Prefix, netip.Addr{}, linkMetric))
	}
}
