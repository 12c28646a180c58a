package dhcp4

import (
	"net/netip"
	"time"

	"bothy/control/lease"
)

// choose returns the address for a client that asks for one, in the order of RFC 2131 §4.3.1; what is reserved for it comes first (§4.2: an
// administrative control).
func (m *machine) choose(c *asker) (netip.Addr, bool) {
	if a, ok := m.reserved(c); ok {
		return a, true
	}
	for _, l := range c.rows { // the current binding
		if a := l.Prefix.Addr(); l.Current(c.now) && m.usable(c, a) {
			return a, true
		}
	}
	if a, ok := m.offered[c.id]; ok && m.usable(c, a) && m.available(c, a) { // what it was offered just now
		return a, true
	}
	for _, l := range c.rows { // the previous one
		if a := l.Prefix.Addr(); l.State != lease.Declined && m.usable(c, a) && m.available(c, a) {
			return a, true
		}
	}
	if a, ok := c.Packet.Addr(RequestedAddress); ok && m.usable(c, a) && m.available(c, a) { // the one it asks for
		return a, true
	}
	for _, s := range c.on { // a new one
		for i := range s.pools {
			if a, ok := m.next(c, s, &s.pools[i]); ok {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// reserved returns the address that is reserved for a client, if it is on its link and nobody else has it still.
func (m *machine) reserved(c *asker) (netip.Addr, bool) {
	if c.known == nil || !given(c.known.address) || !m.usable(c, c.known.address) || !m.available(c, c.known.address) {
		return netip.Addr{}, false
	}
	return c.known.address, true
}

// subnet returns the subnet of an address on the client's link; nil when it is on another.
func (c *asker) subnet(a netip.Addr) *subnet {
	for _, s := range c.on {
		if s.prefix.Contains(a) {
			return s
		}
	}
	return nil
}

// usable reports whether an address may be this client's at all.
func (m *machine) usable(c *asker, a netip.Addr) bool {
	s := c.subnet(a)
	if s == nil || !s.host(a) || c.Own(a) {
		return false
	}
	if k := m.plan.byAddr[a]; k != nil {
		return k == c.known
	}
	p := s.inPool(a)
	return p != nil && c.in(p)
}

// in reports whether a pool is for this client.
func (c *asker) in(p *pool) bool {
	return p.class == "" || c.class != nil && c.class.name == p.class
}

// available reports whether nobody else holds an address or is offered it.
func (m *machine) available(c *asker, a netip.Addr) bool {
	if o := m.offers[a]; o != nil && o.client != c.id {
		return false
	}
	l, ok := m.leases.Get(lease.Host(a))
	return !ok || !l.Holds(c.now) || l.Is(c.id, 0) && (l.State != lease.Declined || !c.now.Before(l.Expires))
}

// next returns the address of a pool that has been free the longest. What the pool does not know of an address it is told here.
func (m *machine) next(c *asker, s *subnet, p *pool) (netip.Addr, bool) {
	if !c.in(p) {
		return netip.Addr{}, false
	}
	for {
		a, ok := p.Next(c.now)
		if !ok {
			return netip.Addr{}, false
		}
		l, known := m.leases.Get(lease.Host(a))
		o := m.offers[a]
		switch {
		case !s.host(a) || c.Own(a) || m.plan.byAddr[a] != nil: // the last is for its own client alone
			p.Hold(a, time.Time{})
		case known && l.Holds(c.now):
			p.Follow(l, false)
		case o != nil && o.client != c.id:
			p.Hold(a, o.until)
		default:
			return a, true
		}
	}
}

// offer keeps an address for a client until OfferHold has passed. RFC 2131 §4.3.1: it should not be used again before.
func (m *machine) offer(c *asker, a netip.Addr) *offer {
	if old, ok := m.offered[c.id]; ok && old != a {
		m.forget(old)
	}
	old := m.offers[a]
	if old != nil && old.until.Sub(c.now) > m.plan.OfferHold/2 {
		return old // so that a client that repeats itself fills no queue
	}
	o := &offer{addr: a, client: c.id, until: c.now.Add(m.plan.OfferHold)}
	if old != nil {
		o.probing, o.probed = old.probing, old.probed
	}
	m.offers[a], m.offered[c.id] = o, a
	m.queue = append(m.queue, o)
	m.hold(o)
	return o
}

// hold tells the pool of an offer, unless a lease says more.
func (m *machine) hold(o *offer) {
	s := m.plan.subnetOf(o.addr)
	if s == nil {
		return
	}
	if p := s.inPool(o.addr); p != nil {
		if l, ok := m.leases.Get(lease.Host(o.addr)); !ok || !l.Holds(o.until) {
			p.Hold(o.addr, o.until)
		}
	}
}

// forget ends an offer.
func (m *machine) forget(a netip.Addr) {
	o := m.offers[a]
	if o == nil {
		return
	}
	delete(m.offers, a)
	if m.offered[o.client] == a {
		delete(m.offered, o.client)
	}
	s := m.plan.subnetOf(a)
	if s == nil {
		return
	}
	if p := s.inPool(a); p != nil {
		l, ok := m.leases.Get(lease.Host(a))
		l.Prefix = lease.Host(a)
		p.Follow(l, !ok)
	}
}

// expire ends the offers whose time is over.
func (m *machine) expire(now time.Time) {
	n := 0
	for n < len(m.queue) && !now.Before(m.queue[n].until) {
		if o := m.queue[n]; m.offers[o.addr] == o {
			m.forget(o.addr)
		}
		n++
	}
	clear(m.queue[:n])
	m.queue = m.queue[n:]
}

// slack is how much longer a lease is kept than its client was told: clocks differ (RFC 2131 §3.3).
const slack = time.Second

// infinity is a lease time: for ever (RFC 2131 §3.3).
const infinity = 1<<32 - 1

// term returns the time to grant, in whole seconds. extend is false at DHCPDISCOVER and what follows from it: RFC 2131 §4.3.1.
func (m *machine) term(c *asker, a netip.Addr, extend bool) time.Duration {
	s := c.subnet(a)
	if asked, ok := c.Packet.Uint32(LeaseTime); ok {
		return min(max(time.Duration(asked)*time.Second, s.least), s.longest)
	}
	for _, l := range c.rows {
		if l.Prefix.Addr() == a && l.Current(c.now) && !extend && !l.Expires.IsZero() {
			// RFC 2131 §4.3.1 deviation: not less than the shortest lease, for a client that restarts as its lease ends
			return max(l.Expires.Sub(c.now)-slack, s.least).Truncate(time.Second)
		}
	}
	return s.standard.Truncate(time.Second)
}
