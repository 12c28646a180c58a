package dhcp6

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"bothy/control/lease"
)

// choose returns the address or prefix for an IA that has none: what is reserved, what it had, what it asks for, what the hash says, what
// has been free the longest. Lease affinity: a client that comes back has its address again.
func (m *machine) choose(c *asker, ia *IA) (netip.Prefix, bool) {
	if q, ok := m.reserved(c, ia); ok {
		return q, true
	}
	rows := m.leases.Client(c.id, ia.IAID)
	for _, l := range rows { // the current binding before one that ended
		if m.mine(&l, ia) && l.Current(c.now) && m.usable(c, ia, l.Prefix) {
			return l.Prefix, true
		}
	}
	for _, l := range rows {
		if m.mine(&l, ia) && l.State != lease.Declined && m.usable(c, ia, l.Prefix) && m.available(c, ia, l.Prefix) {
			return l.Prefix, true
		}
	}
	for q := range resources(ia) { // RFC 9915 §18.3.9: hints
		if m.usable(c, ia, q.Prefix) && m.available(c, ia, q.Prefix) {
			return q.Prefix, true
		}
	}
	if ia.Code == IAPrefixDelegation {
		return m.delegate(c, ia)
	}
	for i, pool := range c.on.pools {
		if a, ok := m.draw(c, ia, pool, c.on.sizes[i], lease.Host); ok {
			return a, true
		}
	}
	return netip.Prefix{}, false
}

// delegate takes a prefix of the length that the client hints at before one of another length (RFC 8168 §3.2).
func (m *machine) delegate(c *asker, ia *IA) (netip.Prefix, bool) {
	hint := 0
	for r := range resources(ia) {
		hint = r.Prefix.Bits()
		break
	}
	for _, hinted := range []bool{true, false} {
		for _, d := range c.on.delegations {
			if (d.length == hint) != hinted {
				continue
			}
			if q, ok := m.draw(c, ia, d.pool, number(0), d.piece); ok {
				return q, true
			}
		}
	}
	return netip.Prefix{}, false
}

// draw takes a free number of a pool: the one that a hash of client and IAID points to (RFC 9915 §13.1: not predictable), else the one that
// has been free the longest. What the pool does not know of a number it is told here.
func (m *machine) draw(c *asker, ia *IA, pool *lease.Pool, first netip.Addr, is func(netip.Addr) netip.Prefix) (netip.Prefix, bool) {
	if q := is(plus(first, m.hash(c.id, ia)%uint32(pool.Size()))); m.usable(c, ia, q) && m.available(c, ia, q) {
		return q, true
	}
	for {
		a, ok := pool.Next(c.now)
		if !ok {
			return netip.Prefix{}, false
		}
		q := is(a)
		if !m.usable(c, ia, q) { // reserved for another client, or for nobody
			pool.Hold(a, time.Time{})
			continue
		}
		if slices.Contains(m.chosen, q) { // for another IA of this message: the next in the order, if there is one
			pool.Hold(a, c.now.Add(shown))
			continue
		}
		if l, known := m.leases.Get(q); known && l.Holds(c.now) {
			l.Prefix = lease.Host(a)
			pool.Follow(l, false)
			continue
		}
		return q, true
	}
}

// hash is a number that only this server can tell.
func (m *machine) hash(id lease.ID, ia *IA) uint32 {
	m.hashed = binary.BigEndian.AppendUint32(append(m.hashed[:0], byte(ia.Code)), ia.IAID)
	m.hashed = append(m.hashed, id...)
	return binary.BigEndian.Uint32(m.keyed(m.hashed))
}

// keyed is the HMAC-SHA-256 of in under this server's secret.
// It is valid until the next.
func (m *machine) keyed(in []byte) []byte {
	m.mac.Reset()
	m.mac.Write(in)
	m.sum = m.mac.Sum(m.sum[:0])
	return m.sum
}

// plus adds to the last 32 bits of an address, which a pool does not leave.
func plus(a netip.Addr, n uint32) netip.Addr {
	b := a.As16()
	binary.BigEndian.PutUint32(b[12:], binary.BigEndian.Uint32(b[12:])+n)
	return netip.AddrFrom16(b)
}

// reserved returns what is reserved for a client, unless somebody else has it still.
func (m *machine) reserved(c *asker, ia *IA) (netip.Prefix, bool) {
	if c.known == nil {
		return netip.Prefix{}, false
	}
	q := c.known.Prefix
	if ia.Code == IANonTemporary {
		q = netip.Prefix{}
		if c.known.Address.IsValid() {
			q = lease.Host(c.known.Address)
		}
	}
	return q, q.IsValid() && m.usable(c, ia, q) && m.available(c, ia, q)
}

// mine reports whether a row is of this IA: the IAIDs of addresses and of prefixes are counted apart (RFC 9915 §12).
func (m *machine) mine(l *lease.Lease, ia *IA) bool {
	return l.Prefix.IsSingleIP() == (ia.Code == IANonTemporary)
}

// onLink reports whether an address or a prefix is of the client's link (RFC 9915 §18.3.2).
func (m *machine) onLink(c *asker, q netip.Prefix) bool {
	if q.IsSingleIP() {
		return c.on.prefix.Contains(q.Addr())
	}
	return c.on.delegation(q) != nil || c.known != nil && c.known.Prefix == q // RFC 9915 §13.2
}

// usable reports whether an address or a prefix may be this client's at all.
func (m *machine) usable(c *asker, ia *IA, q netip.Prefix) bool {
	if q.IsSingleIP() != (ia.Code == IANonTemporary) || !m.onLink(c, q) {
		return false
	}
	if owner, reserved := m.plan.taken[q]; reserved {
		return owner == c.id
	}
	if !q.IsSingleIP() {
		return true
	}
	for _, own := range c.Arrival.Link.Addrs {
		if own.Addr() == q.Addr() {
			return false
		}
	}
	return c.on.pool(q.Addr()) != nil && !reservedInterface(q.Addr())
}

// reservedInterface reports whether an address ends in an interface identifier that is nobody's to assign (RFC 5453 §3): the routers'
// anycast, those made of IANA's own Ethernet block (RFC 4291 §2.5.1), and the reserved anycast identifiers.
func reservedInterface(a netip.Addr) bool {
	b := a.As16()
	id := binary.BigEndian.Uint64(b[8:])
	return id == 0 || id >= 0x02005efffe000000 && id <= 0x02005efffeffffff || id >= 0xfdffffffffffff80 && id <= 0xfdffffffffffffff
}

// available reports whether nobody else holds an address or prefix, or a part of it, and no other IA of this message has it.
func (m *machine) available(c *asker, ia *IA, q netip.Prefix) bool {
	if slices.Contains(m.chosen, q) {
		return false
	}
	l, ok := m.leases.Get(q)
	if ok && l.Holds(c.now) {
		return l.Is(c.id, ia.IAID) && l.State != lease.Declined
	}
	d := c.on.delegation(q)
	return q.IsSingleIP() || d == nil || d.pool.Free(d.number(q), c.now)
}

// shown is how long an address that an Advertise shows is not shown to others: the time for the Request.
const shown = time.Second

// slack is how much longer a lease is kept than its client was told: clocks differ.
const slack = time.Second

// bind gives or renews one address or prefix; what follows waits for the disk.
func (m *machine) bind(c *asker, ia *IA, q netip.Prefix) error {
	what := "bound"
	if l, ok := m.leases.Get(q); ok && l.Is(c.id, ia.IAID) && l.Current(c.now) {
		what = "renewed"
	}
	pending, err := m.leases.Bind(lease.Lease{
		Prefix: q, Client: c.id, IAID: ia.IAID, Expires: c.now.Add(m.plan.Valid + slack), Hostname: c.name, Data: m.path(c),
	})
	if err != nil {
		return err
	}
	m.commit, m.notes = append(m.commit, pending), append(m.notes, Note{what, q})
	return nil
}

// resources are the addresses or prefixes that a client names in an IA; what cannot be read is passed over.
func resources(ia *IA) func(yield func(Resource) bool) {
	return func(yield func(Resource) bool) {
		n := 0
		for field := ia.Options; len(field) > 0 && n < maxResources; n++ {
			o, rest, err := nextOption(field)
			if err != nil {
				return
			}
			field = rest
			if want := IAAddress; o.Code != want && o.Code != IAPrefix || (o.Code == want) != (ia.Code == IANonTemporary) {
				continue
			}
			if r, err := ParseResource(o); err == nil && !yield(r) {
				return
			}
		}
	}
}
