package dhcp4

import (
	"errors"
	"net/netip"
	"time"

	"bothy/control/lease"
)

// Why says in one line why a packet is not answered. The empty Why is: it is, or no answer is due.
type Why string

// All of them.
const (
	WhyMalformed    Why = "the packet cannot be read"
	WhyReply        Why = "it is a reply, not a request"
	WhyHops         Why = "it went through more than 16 relays"
	WhyType         Why = "its message type is not a client's"
	WhyNobody       Why = "it has neither client identifier nor hardware address"
	WhyNoSubnet     Why = "no subnet is configured for the link it came from"
	WhyNoIdentifier Why = "this server has no address on the interface it came from"
	WhyUnknown      Why = "only known clients are served here"
	WhyNoAddress    Why = "no address is free for this client"
	WhyOtherServer  Why = "it is for another server"
	WhyIncomplete   Why = "it names no address"
	WhyNoRecord     Why = "there is no record of this client, and another server may have one"
	WhyNotHeld      Why = "the client does not hold that address"
	WhyDeclines     Why = "the client declined too many addresses already"
	WhyBOOTP        Why = "no address is for this BOOTP client"
	WhyProbing      Why = "its address is just being probed"
	WhyRate         Why = "too many packets come from that port"
	WhyStore        Why = "the lease cannot be stored"
)

// Link is where a packet arrived.
type Link struct {
	Name  string // of the interface
	Index int
	Addrs []netip.Prefix // this server's addresses there, IPv4
}

// Arrival is a packet and how it came.
type Arrival struct {
	Packet *Packet
	Link   *Link
	Direct bool                  // the client sent it to an address of ours; it did not broadcast
	Source netip.Addr            // of the datagram
	Own    func(netip.Addr) bool // whether an address is this server's, on whatever interface (RFC 2131 §4.1)
}

// Outcome is what to do about a packet.
type Outcome struct {
	Reply  *Packet       // nil: nothing is sent. Valid until the next decision
	Limit  int           // octets of Reply
	To     Destination   // of Reply
	Commit lease.Pending // to wait for before Reply is sent
	Probe  netip.Addr    // given: nothing is sent yet; ask whether somebody uses this address, then decide again
	Why    Why           // why nothing is sent
	Lease  lease.Lease   // that was bound, released or declined
	Note   string        // what was decided, for the log
}

// Destination is where a reply goes. RFC 2131 §4.1.
type Destination struct {
	AddrPort netip.AddrPort
	Hardware bool       // to the reply's chaddr, because the client does not answer ARP yet
	Source   netip.Addr // ours
	Link     *Link      // where a broadcast goes out, or what goes to chaddr
}

// machine decides what a packet leads to. It does no I/O but for appending to the lease store, and takes the time as an argument. One
// goroutine at a time may use it.
type machine struct {
	plan   *plan
	leases *lease.Store
	stop   func() // ends watching the store
	mail   Mail
	rates  rates

	offers  map[netip.Addr]*offer
	offered map[lease.ID]netip.Addr
	queue   []*offer // by age

	reply   Packet // the memory of the reply
	scratch []byte // and of its values
	on      []*subnet
}

// Mail are this site's mail servers, for options 69 and 70. 0.0.0.0 stands for this server's own address where the client is.
type Mail struct {
	SMTP, POP3 []netip.Addr
}

// offer is an address that waits for its client.
type offer struct {
	addr    netip.Addr
	client  lease.ID
	until   time.Time
	probing bool // a probe is under way
	probed  bool // and nobody answered
}

func newMachine(p *plan, leases *lease.Store, mail Mail) *machine {
	m := &machine{plan: p, leases: leases, mail: mail, offers: map[netip.Addr]*offer{}, offered: map[lease.ID]netip.Addr{}}
	m.rates.perSecond = p.PortRate
	m.stop = leases.Watch(func(l lease.Lease, gone bool) {
		if s := p.subnetOf(l.Prefix.Addr()); s != nil {
			if pool := s.inPool(l.Prefix.Addr()); pool != nil {
				pool.Follow(l, gone)
			}
		}
	})
	return m
}

// replan gives the machine a new configuration; offers stand.
func (m *machine) replan(p *plan, mail Mail) {
	m.stop()
	next := newMachine(p, m.leases, mail)
	next.offers, next.offered, next.queue = m.offers, m.offered, m.queue
	for _, o := range m.offers {
		next.hold(o)
	}
	*m = *next
}

// asker is the client behind a packet.
type asker struct {
	*Arrival
	now    time.Time
	kind   MessageType
	id     lease.ID
	on     []*subnet // the subnets of its link, the likeliest first
	known  *known    // nil: it has no entry
	class  *class    // nil: none
	rows   []lease.Lease
	server netip.Addr // our address for it
	probed netip.Addr // nobody answered there
}

// decide is what a packet leads to at now, the store's clock. probed is the address that a former Outcome wanted probed, when nobody uses it.
func (m *machine) decide(now time.Time, a *Arrival, probed netip.Addr) Outcome {
	c := asker{Arrival: a, now: now, kind: a.Packet.Type(), probed: probed}
	m.expire(now)
	if why := m.meet(&c); why != "" {
		return Outcome{Why: why}
	}
	switch c.kind {
	case 0:
		return m.bootp(&c)
	case Discover:
		return m.discover(&c)
	case Request:
		return m.request(&c)
	case Decline:
		return m.decline(&c)
	case Release:
		return m.release(&c)
	default:
		return m.inform(&c)
	}
}

const maxHops = 16 // RFC 1542 §4.1.1

// meet finds out who asks and from where.
func (m *machine) meet(c *asker) Why {
	p := c.Packet
	switch {
	case p.Op != BootRequest:
		return WhyReply
	case p.Hops > maxHops:
		return WhyHops
	case c.kind > Inform || c.kind == Offer || c.kind == Ack || c.kind == Nak:
		return WhyType
	}
	if _, isDHCP := p.Get(MessageTypeOption); isDHCP && c.kind == 0 {
		return WhyType // an option of another length than 1, or of 0
	}
	if !m.rates.take(c.now, c.Arrival) {
		return WhyRate
	}
	id, ok := identify(p, m.plan.ByHardware)
	if !ok {
		return WhyNobody
	}
	c.id = id
	if c.on = m.link(c); len(c.on) == 0 {
		return WhyNoSubnet
	}
	if c.server = identifier(c.Link, c.on[0]); !c.server.IsValid() {
		return WhyNoIdentifier
	}
	if sent, ok := p.Get(ClientIdentifier); ok {
		c.known = m.plan.byID[lease.ID(sent)]
	}
	if c.known == nil && p.HLen > 0 {
		c.known = m.plan.byMAC[lease.ID(p.Hardware())]
	}
	if c.on[0].knownOnly && c.known == nil {
		return WhyUnknown // RFC 2131 §4.2
	}
	if vendor, ok := p.Get(VendorClassIdentifier); ok {
		for _, class := range m.plan.classes {
			if class.vendor == string(vendor) { // RFC 2131 §4.3.1: an exact match
				c.class = class
			}
		}
	}
	c.rows = m.leases.Client(c.id, 0)
	return ""
}

const (
	minIdentifier = 2    // octets: RFC 2132 §9.14
	maxIdentifier = 1024 // what the store takes
)

// identify returns the client's identity: its client identifier, else its hardware type and address (RFC 2131 §4.2). A client identifier
// of type 1 and an Ethernet address are the same client.
func identify(p *Packet, byHardware bool) (lease.ID, bool) {
	if id, ok := p.Get(ClientIdentifier); ok && !byHardware && len(id) >= minIdentifier && len(id) <= maxIdentifier {
		return lease.ID(id), true
	}
	hardware := p.Hardware()
	for _, octet := range hardware {
		if octet != 0 {
			return lease.ID(append([]byte{p.HType}, hardware...)), true
		}
	}
	return "", false
}

// link returns the subnets of the link a packet came from, that of the relay or of the address it is about first. RFC 2131 §4.3.1.
func (m *machine) link(c *asker) []*subnet {
	m.on = m.on[:0]
	about := c.Packet.GIAddr
	if !given(about) && given(c.Packet.CIAddr) && (c.Direct || c.kind == Inform || c.kind == Release) {
		about = c.Packet.CIAddr // RFC 2131 §4.3.2: a renewing client is trusted, and may be behind a router
	}
	if given(about) {
		if s := m.plan.subnetOf(about); s != nil {
			m.join(s)
		}
		if len(m.on) > 0 || given(c.Packet.GIAddr) {
			return m.on
		}
	}
	for _, s := range m.plan.subnets {
		if s.interfaceName == c.Link.Name && s.interfaceName != "" || holdsOne(s.prefix, c.Link.Addrs) {
			m.join(s)
		}
	}
	return m.on
}

// join adds a subnet and those that share its network.
func (m *machine) join(s *subnet) {
	add := func(s *subnet) {
		for _, other := range m.on {
			if other == s {
				return
			}
		}
		m.on = append(m.on, s)
	}
	add(s)
	for _, other := range m.plan.subnets {
		if s.network != "" && other.network == s.network {
			add(other)
		}
	}
}

func holdsOne(p netip.Prefix, all []netip.Prefix) bool {
	for _, a := range all {
		if p.Contains(a.Addr()) {
			return true
		}
	}
	return false
}

// identifier chooses the address that is this server for a client: that in the client's subnet, else the interface's first. RFC 2131 §4.1.
func identifier(l *Link, s *subnet) netip.Addr {
	for _, a := range l.Addrs {
		if s.prefix.Contains(a.Addr()) {
			return a.Addr()
		}
	}
	if len(l.Addrs) > 0 {
		return l.Addrs[0].Addr()
	}
	return netip.Addr{}
}

// conflict notes that a probe was answered: the address is in use by somebody we do not know.
func (m *machine) conflict(now time.Time, a netip.Addr) (lease.Pending, error) {
	m.forget(a)
	return m.leases.Decline(lease.Host(a), "", 0, now.Add(m.plan.Quarantine))
}

// storeError says why a lease was not stored.
func storeError(err error) (why Why, refuse bool) {
	if errors.Is(err, lease.ErrTaken) || errors.Is(err, lease.ErrNotHeld) {
		return WhyNotHeld, true
	}
	return WhyStore, false
}
