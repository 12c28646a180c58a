package dhcp6

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bothy/control/lease"
)

// What a client drops, beside what a server drops too.
const (
	WhyNotOurs    Why = "it answers another exchange, or another client"
	WhyUnexpected Why = "nothing of that kind is waited for"
	WhyForged     Why = "it is not authenticated, or was heard before"
)

// Receive takes a message that came at now, unicast to the client (RFC 9915 §16: multicast is not accepted), and reports whether the
// binding has changed, or why the message counts for nothing. What is to be sent then, Tick says.
func (c *Client) Receive(now time.Time, b []byte) (changed bool, why Why) {
	var m Message
	if m.Parse(b) != nil {
		return false, WhyMalformed
	}
	server, ok := m.Find(ServerID)
	if !ok || len(server) < minDUID || len(server) > maxDUID {
		return false, WhyNoServer // §16.3, §16.10, §16.11
	}
	client, named := m.Find(ClientID)
	if named && !bytes.Equal(client, c.o.DUID) || !named {
		return false, WhyNotOurs // we name ourselves in every message
	}
	if m.Type == Reconfigure {
		return c.reconfigured(now, b, &m)
	}
	if c.ex.kind == 0 || c.ex.began.IsZero() || m.XID != c.ex.xid {
		return false, WhyNotOurs
	}
	switch {
	case m.Type == Advertise && c.ex.kind == Solicit:
		c.learnTimes(&m)
		c.advertise(now, &m, lease.ID(server))
		return false, ""
	case m.Type == Reply && c.awaits(&m, lease.ID(server)):
		c.learnTimes(&m)
		return c.reply(now, &m, lease.ID(server)), ""
	}
	return false, WhyUnexpected
}

// learnTimes takes SOL_MAX_RT and INF_MAX_RT, whatever else the message says (§21.24, §21.25).
func (c *Client) learnTimes(m *Message) {
	for code, at := range map[Code]*time.Duration{SolMaxRT: &c.solMax, InfMaxRT: &c.infMax} {
		v, ok := m.Find(code)
		if !ok || len(v) != 4 {
			continue
		}
		if d := lifetime(v); d >= minMaxRT && d <= maxMaxRT {
			*at = d
		}
	}
	if c.ex.kind == Solicit || c.ex.kind == InformationRequest {
		c.ex.timing.mrt = c.timingOf(c.ex.kind).mrt
	}
}

// advertise notes a server that has something for us (§18.2.9).
func (c *Client) advertise(now time.Time, m *Message, server lease.ID) {
	leases := c.leasesIn(m)
	if statusOf(m.Options).Code != Success || leases == 0 {
		return // and the timer goes on
	}
	var preference byte
	if v, ok := m.Find(Preference); ok && len(v) == 1 {
		preference = v[0]
	}
	if len(c.offers) < maxOffers && !slices.ContainsFunc(c.offers, func(a advertised) bool { return a.server == server }) {
		c.offers = append(c.offers, advertised{server, preference, leases})
	}
	if preference == 255 || c.ex.count > 1 { // §18.2.1: at once
		c.choose(now)
	}
}

// leasesIn counts the addresses and prefixes that a message has for us.
func (c *Client) leasesIn(m *Message) (n int) {
	for _, o := range m.Options {
		if ia, ok := c.ours(o); ok {
			for r := range resources(&ia) {
				if r.Valid > 0 && usableByClient(r.Prefix) {
					n++
				}
			}
		}
	}
	return n
}

// ours reads an option that is one of our IAs.
func (c *Client) ours(o Option) (IA, bool) {
	if o.Code != IANonTemporary && o.Code != IAPrefixDelegation {
		return IA{}, false
	}
	ia, err := ParseIA(o)
	valid := ia.T1 == 0 || ia.T2 == 0 || ia.T1 <= ia.T2 // §21.4: else the IA is discarded
	return ia, err == nil && ia.IAID == c.o.IAID && valid
}

// statusOf is the Status Code option among options; without one it is Success (§7.5).
func statusOf(options []Option) Status {
	v, ok := find(options, StatusCode)
	if !ok {
		return Status{}
	}
	s, err := ParseStatus(v)
	if err != nil {
		return Status{Code: UnspecFail}
	}
	return s
}

// awaits reports whether a Reply is the answer to what was sent.
func (c *Client) awaits(m *Message, server lease.ID) bool {
	switch c.ex.kind {
	case Solicit: // §18.2.1
		_, rapid := m.Find(RapidCommit)
		return c.o.RapidCommit && rapid
	case Request, Renew, InformationRequest:
		return c.ex.server == "" || server == c.ex.server
	}
	return true
}

// reply takes a Reply (§18.2.10).
func (c *Client) reply(now time.Time, m *Message, server lease.ID) (changed bool) {
	kind, status := c.ex.kind, statusOf(m.Options).Code
	switch {
	case kind == Release || kind == Decline: // §18.2.10.2: whatever it says
		c.ex = exchange{}
		if kind == Decline {
			c.afterDecline(now)
		}
		return false
	case kind == Confirm:
		return c.confirmed(now, status)
	case status == UnspecFail: // the retransmissions go on, and are bounded
		return false
	case kind == InformationRequest:
		c.ex = exchange{}
		c.learn(now, m, server)
		if c.o.stateless() { // else what is learnt is refreshed with the leases
			c.binding.Refresh = now.Add(refresh(m))
		}
		return true
	case status == NotOnLink: // §18.2.10.1
		c.solicit(now)
		return true
	}
	return c.take(now, m, server)
}

// confirmed ends a Confirm (§18.2.10.3).
func (c *Client) confirmed(now time.Time, status StatusValue) (changed bool) {
	switch status {
	case Success:
		c.ex = exchange{}
	case NotOnLink:
		c.solicit(now)
		return true
	}
	return false
}

// refresh is when to ask again without leases (§21.23).
func refresh(m *Message) time.Duration {
	v, ok := m.Find(InformationRefresh)
	if !ok || len(v) != 4 {
		return irtDefault
	}
	return max(lifetime(v), irtMinimum)
}

// take updates the binding by the IAs of a Reply (§18.2.10.1).
func (c *Client) take(now time.Time, m *Message, server lease.ID) (changed bool) {
	kind := c.ex.kind
	noBinding := false
	var t1, t2 time.Duration
	next := c.binding
	for _, o := range m.Options {
		ia, ok := c.ours(o)
		if !ok {
			continue
		}
		options, err := parseOptions(nil, ia.Options)
		if err != nil {
			continue
		}
		switch statusOf(options).Code {
		case NoBinding:
			noBinding = true
			continue
		case NotOnLink:
			c.solicit(now)
			return true
		}
		if ia.Code == IANonTemporary {
			next.Addresses = update(now, next.Addresses, &ia)
		} else {
			next.Prefixes = update(now, next.Prefixes, &ia)
		}
		if t1 == 0 || ia.T1 > 0 && ia.T1 < t1 {
			t1 = ia.T1
		}
		if t2 == 0 || ia.T2 > 0 && ia.T2 < t2 {
			t2 = ia.T2
		}
	}
	if !next.leases() {
		if kind == Renew || kind == Rebind {
			c.solicit(now) // everything was taken back
			return true
		}
		if kind == Request && len(c.offers) == 0 {
			return false // the retransmissions go on, and end in another Solicit
		}
		if kind == Request {
			c.choose(now)
		}
		return false
	}
	c.binding = next
	c.ex = exchange{}
	c.learn(now, m, server)
	c.setTimes(now, t1, t2)
	if noBinding { // §18.2.10.1: a Request for all IAs
		c.start(now, Request, server)
	}
	return true
}

// setTimes sets T1 and T2; zero leaves them to us (§14.2): half and four fifths of the shortest preferred lifetime.
func (c *Client) setTimes(now time.Time, t1, t2 time.Duration) {
	shortest := Forever
	for _, h := range slices.Concat(c.binding.Addresses, c.binding.Prefixes) {
		life := h.Preferred.Sub(now)
		if life <= 0 { // to be used no more, but still a lease
			life = h.Valid.Sub(now)
		}
		shortest = min(shortest, life)
	}
	if t1 == 0 {
		t1 = max(shortest/2, c.timingOf(Renew).irt) // "it MUST NOT transmit immediately"
	}
	if t2 == 0 {
		t2 = max(shortest/5*4, t1)
	}
	c.binding.Renew, c.binding.Rebind, c.binding.Refresh = after(now, t1), after(now, t2), time.Time{}
}

// after is now and d; for ever is never.
func after(now time.Time, d time.Duration) time.Time {
	if d == Forever {
		return time.Time{}
	}
	return now.Add(d)
}

// update merges what an IA has into what is held: new ones are added, those with a lifetime of 0 are gone, the rest stays.
func update(now time.Time, held []Held, ia *IA) []Held {
	held = slices.Clone(held)
	for r := range resources(ia) {
		if r.Preferred > r.Valid { // §21.6: discarded
			continue
		}
		held = slices.DeleteFunc(held, func(h Held) bool { return h.Prefix == r.Prefix })
		if r.Valid > 0 && len(held) < maxHeld && usableByClient(r.Prefix) {
			held = append(held, Held{r.Prefix, now.Add(min(r.Preferred, century)), now.Add(min(r.Valid, century))})
		}
	}
	return held
}

// century is for ever: a time.Time far away, not one that overflows.
const century = 100 * 365 * 24 * time.Hour

func usableByClient(q netip.Prefix) bool {
	a := q.Addr()
	return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.IsLinkLocalUnicast()
}

// learn takes what else a Reply says. What it says no more is forgotten (§18.2.10.5).
func (c *Client) learn(now time.Time, m *Message, server lease.ID) {
	b := &c.binding
	if b.Server != server {
		b.Key, b.Replay = nil, 0
	}
	b.Server, b.Received = server, now
	list := func(code Code) []netip.Addr {
		if code == 0 {
			return nil
		}
		v, _ := m.Find(code)
		return servers(v)
	}
	b.DNS = list(DNSServers)
	b.IMAP, b.POP3, b.SMTP = list(Code(c.o.Mail.IMAPCode)), list(Code(c.o.Mail.POP3Code)), list(Code(c.o.Mail.SMTPCode))
	c.learnVendor(m)
	v, _ := m.Find(DomainList)
	b.Search = decodeDomains(v)
	if auth, ok := m.Find(Authentication); ok && c.o.Reconfigure && len(auth) == rkapSize && [3]byte(auth) == [3]byte{rkapProtocol, rkapAlgorithm, rkapMethod} && auth[rkapHead-1] == rkapKey {
		b.Key, b.Replay = bytes.Clone(auth[rkapHead:]), binary.BigEndian.Uint64(auth[3:]) // §20.4.3, §20.3
	}
}

// servers reads a list of servers: a bad one is ignored (draft §4), and so are addresses that no host has.
func servers(v []byte) []netip.Addr {
	all, err := Addresses(v)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(a netip.Addr) bool { return !reachable(a) })
}

// learnVendor takes the lists of option 17, where the draft's own options did not come.
func (c *Client) learnVendor(m *Message) {
	for _, o := range m.Options {
		if o.Code != VendorOptions || len(o.Value) < 4 || c.o.Mail.Enterprise == 0 || binary.BigEndian.Uint32(o.Value) != uint32(c.o.Mail.Enterprise) {
			continue
		}
		options, err := parseOptions(nil, o.Value[4:])
		if err != nil {
			continue
		}
		for code, list := range map[Code]*[]netip.Addr{vendorIMAP: &c.binding.IMAP, vendorPOP3: &c.binding.POP3, vendorSMTP: &c.binding.SMTP} {
			if v, ok := find(options, code); ok && len(*list) == 0 {
				*list = servers(v)
			}
		}
	}
}

// decodeDomains reads a list of domains (§10); one that is bad ends it.
func decodeDomains(v []byte) (all []string) {
	for len(v) > 0 {
		var name strings.Builder
		for len(v) > 0 && v[0] != 0 {
			n := int(v[0])
			if n > 63 || len(v) < 1+n || name.Len()+n > 253 {
				return all
			}
			if name.Len() > 0 {
				name.WriteByte('.')
			}
			name.Write(v[1 : 1+n])
			v = v[1+n:]
		}
		if len(v) == 0 || name.Len() == 0 {
			return all
		}
		all, v = append(all, name.String()), v[1:]
	}
	return all
}

// reconfigured begins the exchange that a server asks for (§18.2.11), if it is the one that gave us what we have. The binding changes by the
// number of the message, which is never taken again.
func (c *Client) reconfigured(now time.Time, b []byte, m *Message) (changed bool, why Why) {
	wanted, ok := m.Find(ReconfigureMessage)
	switch {
	case !c.o.Reconfigure || !ok || len(wanted) != 1 || c.ex.kind != 0:
		return false, WhyUnexpected
	case !c.genuine(b, m):
		return false, WhyForged
	}
	switch kind := MessageType(wanted[0]); {
	case kind == InformationRequest:
		c.start(now, InformationRequest, c.binding.Server) // §18.2.6: to the server of the Reconfigure, which is that of the key
	case kind == Renew && c.binding.leases():
		c.start(now, Renew, c.binding.Server)
		c.ex.deadline = c.binding.Rebind
	case kind == Rebind && c.binding.leases():
		c.start(now, Rebind, "")
	}
	return true, ""
}
