package dhcp6

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"net/netip"
	"time"

	"bothy/control/lease"
)

// Why says in one line why a message is not answered. The empty Why is: it is.
type Why string

// All of them.
const (
	WhyMalformed   Why = "the message cannot be read"
	WhyUnicast     Why = "it was not sent to the multicast address"
	WhyType        Why = "its message type is not a client's"
	WhyNoClient    Why = "it has no client identifier, or a bad one"
	WhyServer      Why = "it names a server where it must not"
	WhyNoServer    Why = "it names no server"
	WhyOtherServer Why = "it is for another server"
	WhyIA          Why = "it has an identity association where none may be"
	WhyNoSubnet    Why = "no subnet is configured for the link it came from"
	WhyUnknown     Why = "only known clients are served here"
	WhyNothing     Why = "it asks for nothing that this server could say"
	WhyRate        Why = "too many messages come from that port"
	WhyMany        Why = "it has too many identity associations"
	WhyStore       Why = "the lease cannot be stored"
)

// Link is where a message arrived.
type Link struct {
	Name  string // of the interface
	Index int
	Addrs []netip.Prefix // this server's addresses there, IPv6
}

// Arrival is a datagram and how it came.
type Arrival struct {
	Datagram  []byte
	Link      *Link
	Source    netip.AddrPort
	Multicast bool // it was sent to ff02::1:2 or ff05::1:3
}

// Outcome is what to do about a message.
type Outcome struct {
	Reply  []byte          // empty: nothing is sent. Valid until the next decision
	Commit []lease.Pending // to wait for before Reply is sent. Valid until the next decision
	Why    Why             // why nothing is sent
	Notes  []Note          // what was decided, for the log. Valid until the next decision
	Path   []byte          // the way to a client without a lease that takes Reconfigure messages
}

// Note is one thing that happened to an address or prefix.
type Note struct {
	What   string // "bound", "renewed", "released", "declined"
	Prefix netip.Prefix
}

// The bounds of one message.
const (
	minDUID      = 3  // RFC 9915 §11.1: the type, and one octet
	maxIAs       = 16 // of one message: a host has one or two
	maxResources = 16 // that a client names in one IA
)

// machine decides what a message leads to. It does no I/O but for appending to the lease store, and takes the time as an argument. One
// goroutine at a time may use it.
type machine struct {
	plan   *plan
	leases *lease.Store
	stop   func()    // ends watching the store
	duid   []byte    // this server's
	mac    hash.Hash // keyed with the secret: what nobody shall predict
	mail   Mail
	rates  rates
	stamp  uint64 // of the last Authentication option: RFC 9915 §20.3

	message Message // the memory of what is parsed,
	layers  []Layer // the relay agents around it,
	ias     []IA
	chosen  []netip.Prefix // for this message
	reply   writer         // of the reply,
	whole   []byte         // and of what takes it back through them
	hashed  []byte         // what mac is taken of,
	sum     []byte         // and what it is
	commit  []lease.Pending
	notes   []Note
}

// Mail are this site's mail servers, for those that the configuration does not name. The unspecified address stands for this server's own
// address where the client is.
type Mail struct {
	POP3, SMTP []netip.Addr
}

func newMachine(p *plan, leases *lease.Store, duid, secret []byte, mail Mail) *machine {
	m := &machine{plan: p, leases: leases, duid: duid, mac: hmac.New(sha256.New, secret), mail: mail, rates: rates{perSecond: p.PortRate}}
	m.stop = leases.Watch(func(l lease.Lease, gone bool) {
		for _, s := range p.subnets {
			if l.Prefix.IsSingleIP() {
				if pool := s.pool(l.Prefix.Addr()); pool != nil {
					pool.Follow(l, gone)
				}
				continue
			}
			for _, d := range s.delegations {
				d.follow(l, gone)
			}
		}
	})
	return m
}

// asker is the client behind a message.
type asker struct {
	*Arrival
	*Message
	now    time.Time
	id     lease.ID // its DUID; empty in an Information-request without
	oro    []byte   // the options it asks for
	on     *subnet
	known  *HostConfig // nil: it has no entry
	name   string      // what it calls itself
	relays []Layer
	accept bool // it takes Reconfigure messages, and we send them
}

// decide is what a message leads to at now, the store's clock.
func (m *machine) decide(now time.Time, a *Arrival) Outcome {
	m.reply.b, m.whole, m.chosen, m.commit, m.notes = m.reply.b[:0], m.whole[:0], m.chosen[:0], m.commit[:0], m.notes[:0]
	inner, layers, err := Unwrap(a.Datagram, m.layers[:0])
	m.layers = layers
	if err != nil || m.message.Parse(inner) != nil {
		return Outcome{Why: WhyMalformed}
	}
	c := asker{Arrival: a, Message: &m.message, now: now, relays: layers}
	if why := m.meet(&c); why != "" {
		return Outcome{Why: why}
	}
	why := m.answer(&c)
	if why != "" {
		return Outcome{Why: why, Commit: m.commit, Notes: m.notes}
	}
	out := Outcome{Reply: m.reply.b, Commit: m.commit, Notes: m.notes}
	if c.Type == InformationRequest {
		out.Path = m.path(&c)
	}
	if len(layers) > 0 {
		m.whole = Wrap(m.whole, layers, m.reply.b)
		out.Reply = m.whole
	}
	return out
}

// meet validates a message (RFC 9915 §16), and finds out who asks and from where.
func (m *machine) meet(c *asker) Why {
	if why := m.valid(c); why != "" {
		return why
	}
	if !m.rates.take(c.now, c) {
		return WhyRate
	}
	if c.on = m.link(c); c.on == nil {
		return WhyNoSubnet
	}
	if c.known = m.plan.hosts[c.id]; c.known == nil && m.plan.KnownOnly {
		return WhyUnknown
	}
	c.oro, _ = c.Find(OptionRequest)
	if fqdn, ok := c.Find(ClientFQDN); ok {
		c.name = hostname(fqdn)
	}
	if _, accept := c.Find(ReconfigureAccept); accept {
		c.accept = m.plan.Reconfigure && c.id != ""
	}
	return ""
}

// valid is RFC 9915 §16.
func (m *machine) valid(c *asker) Why {
	if len(c.relays) == 0 && !c.Multicast {
		return WhyUnicast // RFC 9915 §16: servers should not accept unicast from clients
	}
	client, hasClient := c.Find(ClientID)
	server, hasServer := c.Find(ServerID)
	if hasClient && (len(client) < minDUID || len(client) > maxDUID) {
		return WhyNoClient
	}
	c.id = lease.ID(client)
	switch c.Type {
	case Solicit, Confirm, Rebind: // §16.2, §16.5, §16.7
		if hasServer {
			return WhyServer
		}
	case Request, Renew, Decline, Release: // §16.4, §16.6, §16.8, §16.9
		if !hasServer {
			return WhyNoServer
		}
	case InformationRequest: // §16.12
		for _, o := range c.Options {
			if o.Code == IANonTemporary || o.Code == IAPrefixDelegation || o.Code == IATemporary {
				return WhyIA
			}
		}
	default:
		return WhyType
	}
	switch {
	case hasServer && !bytes.Equal(server, m.duid):
		return WhyOtherServer
	case !hasClient && c.Type != InformationRequest:
		return WhyNoClient
	}
	m.ias = m.ias[:0]
	for _, o := range c.Options {
		if o.Code != IANonTemporary && o.Code != IAPrefixDelegation {
			continue
		}
		ia, err := ParseIA(o)
		if err != nil {
			return WhyMalformed
		}
		if len(m.ias) == maxIAs {
			return WhyMany
		}
		m.ias = append(m.ias, ia)
	}
	return ""
}

// link returns the subnet of the link a client is on (RFC 9915 §13.1): the relay agent closest to it knows best.
func (m *machine) link(c *asker) *subnet {
	for i := len(c.relays) - 1; i >= 0; i-- {
		l := &c.relays[i]
		if id, ok := l.find(InterfaceID); ok { // §19.1.1: where the address does not tell the link
			for _, s := range m.plan.subnets {
				if s.interfaceID != "" && s.interfaceID == string(id) {
					return s
				}
			}
		}
		if !l.Link.IsUnspecified() { // RFC 6221 §5: zero says nothing
			return m.plan.subnetOf(l.Link)
		}
	}
	if len(c.relays) > 0 && !c.Source.Addr().IsLinkLocalUnicast() {
		return nil // a relay agent of another link, that does not say for which
	}
	for _, s := range m.plan.subnets {
		if s.interfaceName != "" {
			if s.interfaceName == c.Arrival.Link.Name {
				return s
			}
			continue
		}
		for _, own := range c.Arrival.Link.Addrs {
			if s.prefix.Contains(own.Addr()) {
				return s
			}
		}
	}
	return nil
}

// answer writes the reply, or says why there is none.
func (m *machine) answer(c *asker) Why {
	switch c.Type {
	case Solicit:
		if _, rapid := c.Find(RapidCommit); rapid && m.plan.RapidCommit {
			return m.assigned(c, Reply, true)
		}
		return m.assigned(c, Advertise, false)
	case Request:
		return m.assigned(c, Reply, true)
	case Renew, Rebind:
		return m.extended(c)
	case Confirm:
		return m.confirmed(c)
	case Release, Decline:
		return m.givenBack(c)
	default:
		return m.informed(c)
	}
}

// hostname reads the name out of a Client FQDN option (RFC 4704 §4); empty when there is none that could be written down.
func hostname(fqdn []byte) string {
	const maxName = 255
	var name []byte
	for rest := fqdn[min(1, len(fqdn)):]; len(rest) > 0 && rest[0] != 0; {
		n := int(rest[0])
		if n > 63 || len(rest) < 1+n || len(name)+n > maxName-1 {
			return ""
		}
		if len(name) > 0 {
			name = append(name, '.')
		}
		name = append(name, rest[1:1+n]...)
		rest = rest[1+n:]
	}
	return string(name)
}

// rates bounds the messages a second from each port, so that one cannot take every address or all of our time.
type rates struct {
	perSecond int // 0: no bound
	second    int64
	counts    map[string]int
}

// maxPorts bounds the ports that are told apart; the rest share one count.
const maxPorts = 4096

// take reports whether a message may be looked at now.
func (r *rates) take(now time.Time, c *asker) bool {
	if r.perSecond <= 0 {
		return true
	}
	if s := now.Unix(); s != r.second || r.counts == nil {
		r.second, r.counts = s, make(map[string]int)
	}
	key := "interface " + c.Arrival.Link.Name
	if n := len(c.relays); n > 0 {
		id, _ := c.relays[n-1].find(InterfaceID)
		key = c.relays[n-1].Link.String() + " " + string(id)
	}
	if _, ok := r.counts[key]; !ok && len(r.counts) >= maxPorts {
		key = ""
	}
	r.counts[key]++
	return r.counts[key] <= r.perSecond
}
