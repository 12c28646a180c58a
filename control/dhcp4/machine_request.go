package dhcp4

import (
	"net/netip"
	"time"

	"bothy/control/lease"
)

// discover answers DHCPDISCOVER. RFC 2131 §4.3.1.
func (m *machine) discover(c *asker) Outcome {
	a, ok := m.choose(c)
	if !ok {
		return Outcome{Why: WhyNoAddress}
	}
	o := m.offer(c, a)
	if o.probed = o.probed || c.probed == a; m.doubtful(c, o) {
		if o.probing {
			return Outcome{Why: WhyProbing}
		}
		o.probing = true
		return Outcome{Probe: a}
	}
	o.probing = false
	if _, rapid := c.Packet.Get(RapidCommit); rapid && m.plan.RapidCommit { // RFC 4039 §3.1
		return m.grant(c, a, "bound")
	}
	out := m.answer(c, Offer, a, m.term(c, a, false))
	out.Note = "offered"
	return out
}

// doubtful reports whether somebody else may use an address that is about to be offered. RFC 2131 §3.1 (2): the server should check.
func (m *machine) doubtful(c *asker, o *offer) bool {
	if m.plan.Probe <= 0 || o.probed {
		return false
	}
	for _, l := range c.rows {
		if l.Prefix.Addr() == o.addr && l.Current(c.now) {
			return false // it answers itself
		}
	}
	return true
}

// request answers DHCPREQUEST, which means one of four things: RFC 2131 §4.3.2, table 4 in §4.3.6.
func (m *machine) request(c *asker) Outcome {
	server, selecting := c.Packet.Addr(ServerIdentifier)
	requested, hasRequested := c.Packet.Addr(RequestedAddress)
	ciaddr := c.Packet.CIAddr
	switch {
	case selecting && server != c.server && !c.Own(server):
		if a, ok := m.offered[c.id]; ok {
			m.forget(a) // RFC 2131 §3.1 (4)
		}
		return Outcome{Why: WhyOtherServer}
	case selecting && hasRequested:
		return m.selecting(c, requested)
	case given(ciaddr):
		return m.extend(c, ciaddr) // also of clients that name us when they renew
	case hasRequested:
		return m.reboot(c, requested)
	}
	return Outcome{Why: WhyIncomplete}
}

// selecting answers a client that takes our offer.
func (m *machine) selecting(c *asker, a netip.Addr) Outcome {
	if c.subnet(a) == nil {
		return m.refuse(c, "wrong network")
	}
	if !m.usable(c, a) || !m.available(c, a) {
		return m.refuse(c, "address not available") // RFC 2131 §3.1 (4)
	}
	return m.grant(c, a, "bound")
}

// reboot answers a client in INIT-REBOOT, that wants to know whether the address it remembers is good.
func (m *machine) reboot(c *asker, a netip.Addr) Outcome {
	if c.subnet(a) == nil {
		return m.refuse(c, "wrong network")
	}
	record := c.known != nil && given(c.known.address)
	correct := false
	for _, l := range c.rows {
		if c.subnet(l.Prefix.Addr()) == nil || l.State == lease.Declined {
			continue
		}
		record = true
		correct = correct || l.Prefix.Addr() == a
	}
	if !record {
		return Outcome{Why: WhyNoRecord} // RFC 2131 §4.3.2: must remain silent
	}
	best, reserved := m.reserved(c)
	if reserved {
		correct = best == a
	}
	if !correct || !m.usable(c, a) || !m.available(c, a) {
		return m.refuse(c, "not your address")
	}
	return m.grant(c, a, "confirmed")
}

// extend answers a client in RENEWING or REBINDING.
func (m *machine) extend(c *asker, a netip.Addr) Outcome {
	if c.subnet(a) == nil {
		return m.refuse(c, "wrong network")
	}
	best, reserved := m.reserved(c)
	l, ok := m.leases.Get(lease.Host(a))
	mine := ok && l.Is(c.id, 0) && l.State != lease.Declined || reserved && best == a
	if !mine && (!ok || !l.Holds(c.now)) && !c.Direct {
		return Outcome{Why: WhyNoRecord} // it asks everybody, and another server may know it
	}
	if reserved && best != a {
		return m.refuse(c, "another address is reserved for you")
	}
	if !mine || !m.usable(c, a) || !m.available(c, a) {
		return m.refuse(c, "not your address")
	}
	if c.Direct {
		return m.grant(c, a, "renewed")
	}
	return m.grant(c, a, "rebound")
}

// grant binds an address and acknowledges it; note says what for. RFC 2131 §3.1 (4): the binding is on disk before the DHCPACK is sent.
func (m *machine) grant(c *asker, a netip.Addr, note string) Outcome {
	term := m.term(c, a, note != "bound")
	l := c.lease(a)
	l.Expires = c.now.Add(term + slack)
	pending, err := m.leases.Bind(l)
	if err != nil {
		why, refuse := storeError(err)
		if refuse {
			return m.refuse(c, "address not available")
		}
		return Outcome{Why: why}
	}
	m.forget(a)
	if old, ok := m.offered[c.id]; ok {
		m.forget(old)
	}
	m.leave(c, a)
	out := m.answer(c, Ack, a, term)
	out.Commit, out.Lease, out.Note = pending, l, note
	return out
}

// lease is the row of a client's address.
func (c *asker) lease(a netip.Addr) lease.Lease {
	l := lease.Lease{Prefix: lease.Host(a), Client: c.id, Hardware: lease.ID(c.Packet.Hardware())}
	if name, ok := c.Packet.Get(HostName); ok {
		l.Hostname = cleanName(name)
	}
	if relay, ok := c.Packet.Get(RelayAgentInformation); ok && len(relay) <= maxOption {
		l.Data = append([]byte(nil), relay...) // RFC 3046 §3.1: to be reported with the lease
	}
	return l
}

const maxName = 63 // octets of a host name that are kept

// cleanName keeps what may stand in a host name (RFC 1123 §2.1).
func cleanName(name []byte) string {
	clean := make([]byte, 0, maxName)
	for _, b := range name {
		if len(clean) < maxName && (b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-' || b == '.') {
			clean = append(clean, b)
		}
	}
	return string(clean)
}

// leave releases what else a client holds on its link: one wire, one address.
func (m *machine) leave(c *asker, a netip.Addr) {
	for _, l := range c.rows {
		if l.Prefix.Addr() != a && l.Current(c.now) && !l.Pinned && c.subnet(l.Prefix.Addr()) != nil {
			m.leases.Release(l.Prefix, c.id, 0) // not waited for: at worst the address is free later
		}
	}
}

// maxDeclines is how many addresses one client may have put into quarantine.
const maxDeclines = 4

// decline takes note that an address is in use by somebody else. RFC 2131 §4.3.3. No answer is due.
func (m *machine) decline(c *asker) Outcome {
	a, ok := c.Packet.Addr(RequestedAddress)
	server, named := c.Packet.Addr(ServerIdentifier)
	switch {
	case named && server != c.server && !c.Own(server):
		return Outcome{Why: WhyOtherServer}
	case !ok:
		return Outcome{Why: WhyIncomplete}
	}
	declined, holds := 0, false
	for _, l := range c.rows {
		if l.State == lease.Declined && l.Holds(c.now) {
			declined++
		}
		holds = holds || l.Prefix.Addr() == a && l.Current(c.now)
	}
	if o := m.offers[a]; !holds && (o == nil || o.client != c.id) {
		return Outcome{Why: WhyNotHeld}
	}
	if declined >= maxDeclines {
		return Outcome{Why: WhyDeclines}
	}
	pending, err := m.leases.Decline(lease.Host(a), c.id, 0, c.now.Add(m.plan.Quarantine))
	if err != nil {
		why, _ := storeError(err)
		return Outcome{Why: why}
	}
	m.forget(a)
	return Outcome{Commit: pending, Lease: c.lease(a), Note: "declined"}
}

// release ends a lease. RFC 2131 §4.3.4. No answer is due.
func (m *machine) release(c *asker) Outcome {
	server, named := c.Packet.Addr(ServerIdentifier)
	switch {
	case named && server != c.server && !c.Own(server):
		return Outcome{Why: WhyOtherServer}
	case !given(c.Packet.CIAddr):
		return Outcome{Why: WhyIncomplete}
	}
	l, ok := m.leases.Get(lease.Host(c.Packet.CIAddr))
	if !ok || !l.Is(c.id, 0) || !l.Current(c.now) {
		return Outcome{Why: WhyNotHeld}
	}
	pending, err := m.leases.Release(l.Prefix, c.id, 0)
	if err != nil {
		why, _ := storeError(err)
		return Outcome{Why: why}
	}
	return Outcome{Commit: pending, Lease: l, Note: "released"}
}

// inform answers DHCPINFORM: everything but an address and its time. RFC 2131 §4.3.5.
func (m *machine) inform(c *asker) Outcome {
	out := m.answer(c, Ack, netip.Addr{}, 0)
	out.Note = "informed"
	return out
}

// bootp answers a client that does not know DHCP. RFC 951 §7.3, RFC 1534 §2.
func (m *machine) bootp(c *asker) Outcome {
	if name := text(c.Packet.SName[:]); name != "" && name != m.layers(c, c.on[0]).serverName() {
		return Outcome{Why: WhyOtherServer} // RFC 951 §7.3: it wants a certain server
	}
	a, ok := m.reserved(c)
	switch {
	case m.plan.BOOTP == "none":
		return Outcome{Why: WhyBOOTP}
	case !ok && m.plan.BOOTP == "dynamic":
		a, ok = m.choose(c)
	}
	if !ok {
		return Outcome{Why: WhyBOOTP}
	}
	if c.known != nil && a == c.known.address {
		out := m.answer(c, 0, a, 0)
		out.Note = "BOOTP"
		return out
	}
	l := c.lease(a) // RFC 1534 §2: it never asks again, so the lease has no end
	pending, err := m.leases.Bind(l)
	if err != nil {
		why, _ := storeError(err)
		return Outcome{Why: why}
	}
	out := m.answer(c, 0, a, 0)
	out.Commit, out.Lease, out.Note = pending, l, "BOOTP"
	return out
}

// text is a field's text up to its first NUL.
func text(field []byte) string {
	for i, b := range field {
		if b == 0 {
			return string(field[:i])
		}
	}
	return string(field)
}

// seconds is a lease time as the wire has it.
func seconds(d time.Duration) uint32 { return uint32(min(d/time.Second, infinity)) }
