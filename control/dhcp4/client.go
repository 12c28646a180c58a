package dhcp4

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"
)

// ClientOptions say who a client is and what it wants.
type ClientOptions struct {
	Hardware    net.HardwareAddr // Ethernet
	ClientID    []byte           // the same in every message (RFC 2131 §4.2); nil: type and hardware address
	VendorClass string           // RFC 2132 §9.13; empty: none
	Hostname    string           // RFC 2132 §3.14; empty: none
	Broadcast   bool             // it cannot take unicast before it has an address (RFC 2131 §4.1)
	Rand        *rand.Rand       // nil: seeded by the runtime
}

// Binding is what a client was given. The zero Binding is nothing.
type Binding struct {
	Address netip.Prefix   `json:"address,omitzero"`
	Server  netip.Addr     `json:"server,omitzero"`
	Began   time.Time      `json:"began,omitzero"`  // when it was asked for
	Renew   time.Time      `json:"renew,omitzero"`  // T1
	Rebind  time.Time      `json:"rebind,omitzero"` // T2
	Ends    time.Time      `json:"ends,omitzero"`   // the zero Time: never
	Routers []netip.Addr   `json:"routers,omitempty"`
	Routes  []ClasslessHop `json:"routes,omitempty"` // RFC 3442: when given, Routers do not count
	DNS     []netip.Addr   `json:"dns,omitempty"`
	Domain  string         `json:"domain,omitempty"`
	SMTP    []netip.Addr   `json:"smtp,omitempty"` // option 69
	POP3    []netip.Addr   `json:"pop3,omitempty"` // option 70
}

// ClasslessHop is one route of RFC 3442; a router of 0.0.0.0 means that the destination is on the link.
type ClasslessHop struct {
	To  netip.Prefix `json:"to"`
	Via netip.Addr   `json:"via"`
}

// ClientState is where a client is in RFC 2131, figure 5.
type ClientState string

// The states. Checking is REQUESTING's end, Declining what follows when it ends badly.
const (
	Init       ClientState = "INIT"
	Selecting  ClientState = "SELECTING"
	Requesting ClientState = "REQUESTING"
	InitReboot ClientState = "INIT-REBOOT"
	Rebooting  ClientState = "REBOOTING"
	Checking   ClientState = "CHECKING" // the address is asked for by ARP: RFC 2131 §2.2
	Bound      ClientState = "BOUND"
	Renewing   ClientState = "RENEWING"
	Rebinding  ClientState = "REBINDING"
)

// The times of a client.
const (
	startDelayMin = time.Second // RFC 2131 §4.4.1
	startDelayMax = 10 * time.Second
	firstRetry    = 4 * time.Second // RFC 2131 §4.1: doubled, with a second more or less
	lastRetry     = 64 * time.Second
	requests      = 4                // DHCPREQUESTs, in about 60 seconds: RFC 2131 §3.1 (5)
	declineWait   = 10 * time.Second // RFC 2131 §3.1 (5): at least
	minExtend     = 60 * time.Second // RFC 2131 §4.4.5: between retries of a renewal
)

// maxNotices bounds what waits to be told.
const maxNotices = 16

func (c *Client) note(format string, args ...any) {
	if len(c.notices) < maxNotices {
		c.notices = append(c.notices, fmt.Sprintf(format, args...))
	}
}

// Sent is one message and where it goes.
type Sent struct {
	Packet *Packet
	To     netip.Addr // a server; the zero Addr is broadcast
	From   netip.Addr // the client's own address; the zero Addr is 0.0.0.0
}

// Client is the client's machine for one interface: RFC 2131 §3 and §4.4. It does no I/O and takes the time as an argument: Next says when it
// wants to be called again, Tick returns what is to be sent. One goroutine at a time may use it.
type Client struct {
	o       ClientOptions
	state   ClientState
	binding Binding
	offer   Binding // while REQUESTING and CHECKING
	xid     uint32
	began   time.Time // of the acquisition, for secs
	secs    uint16    // of the last DHCPDISCOVER, for the DHCPREQUESTs that follow it: RFC 2131 §3.1 (3)
	asked   time.Time // when the first DHCPREQUEST with xid was sent: leases count from there
	due     time.Time
	tries   int
	refused int   // DHCPNAKs since it was bound
	decline *Sent // to be sent at once
	notices []string
}

// NewClient returns a client that has nothing yet, or that had before and asks for it again.
func NewClient(o ClientOptions, before Binding, now time.Time) *Client {
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if o.ClientID == nil {
		o.ClientID = append([]byte{ethernet}, o.Hardware...)
	}
	c := &Client{o: o}
	if before.Address.IsValid() && (before.Ends.IsZero() || now.Before(before.Ends)) && !now.Before(before.Began) { // else the clock was set back
		c.binding = before.from(now)
	}
	c.LinkUp(now)
	return c
}

// from is b with its times on the running clock of now, so that a time of day that is set afterwards moves none of them.
func (b Binding) from(now time.Time) Binding {
	for _, t := range []*time.Time{&b.Renew, &b.Rebind, &b.Ends} {
		if !t.IsZero() {
			*t = now.Add(t.Sub(now))
		}
	}
	return b
}

// State is where the client is.
func (c *Client) State() ClientState { return c.state }

// Binding is what the client may use now.
func (c *Client) Binding() Binding {
	if c.state != Bound && c.state != Renewing && c.state != Rebinding {
		return Binding{}
	}
	return c.binding
}

// Notices returns, once, what the operator should hear.
func (c *Client) Notices() []string {
	n := c.notices
	c.notices = nil
	return n
}

// LinkUp is the start, and whenever the client may be on another link: it asks whether it may keep what it has (RFC 2131 §3.2).
func (c *Client) LinkUp(now time.Time) {
	c.began = now
	if c.binding.Address.IsValid() {
		c.enter(InitReboot, now)
		return
	}
	c.enter(Init, now.Add(c.startDelay()))
}

// startDelay keeps the hosts of a site apart when its power is back.
func (c *Client) startDelay() time.Duration {
	return startDelayMin + time.Duration(c.o.Rand.Int64N(int64(startDelayMax-startDelayMin)))
}

// enter goes to a state and sends its first message at due.
func (c *Client) enter(state ClientState, due time.Time) {
	c.state, c.due, c.tries = state, due, 0
	if state != Requesting { // §4.4.1: a DHCPREQUEST has the xid of its DHCPOFFER
		c.xid = c.o.Rand.Uint32()
	}
}

// restart is INIT with nothing.
func (c *Client) restart(due time.Time) {
	c.binding, c.offer, c.began = Binding{}, Binding{}, due
	c.enter(Init, due)
}

// Next is when Tick wants to be called.
func (c *Client) Next() time.Time {
	if c.decline != nil {
		return c.due.Add(-declineWait)
	}
	next := c.due
	switch c.state {
	case Bound:
		next = c.binding.Renew
	case Checking:
		return time.Time{} // Checked goes on
	}
	if ends := c.binding.Ends; !ends.IsZero() && (next.IsZero() || ends.Before(next)) {
		next = ends
	}
	return next
}

// Tick does what is due at now, and returns a message to send, or nil.
func (c *Client) Tick(now time.Time) *Sent {
	if d := c.decline; d != nil {
		c.decline = nil
		return d
	}
	if c.binding.Address.IsValid() && due(c.binding.Ends, now) {
		c.note("the lease of %v has ended: no server renewed it", c.binding.Address.Addr())
		c.restart(now) // §4.4.5
	}
	switch {
	case c.state == Bound && due(c.binding.Renew, now):
		c.began = now
		c.enter(Renewing, now)
	case c.state == Renewing && due(c.binding.Rebind, now):
		c.enter(Rebinding, now)
	}
	if c.state == Bound || c.state == Checking || now.Before(c.due) {
		return nil
	}
	return c.send(now)
}

func due(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// send writes the message of the state and sets when it is sent again.
func (c *Client) send(now time.Time) *Sent {
	switch c.state {
	case Init:
		c.began = now
		c.enter(Selecting, now)
	case InitReboot:
		c.enter(Rebooting, now)
	}
	switch c.state {
	case Requesting:
		if c.tries == requests {
			c.note("server %v offered %v and does not answer any more", c.offer.Server, c.offer.Address.Addr())
			c.restart(now)
			return c.send(now)
		}
	case Rebooting:
		if c.tries == requests { // §3.2: what is left of the lease may be used
			c.note("no server answered: %v is used while its lease lasts", c.binding.Address.Addr())
			c.becomeBound(now)
			return nil
		}
	}
	if c.state == Renewing || c.state == Rebinding {
		c.due = now.Add(max(c.left(now)/2, minExtend)) // §4.4.5
	} else {
		c.due = now.Add(c.backOff())
	}
	c.tries++
	return c.message(now)
}

// left is how long a renewal may still take.
func (c *Client) left(now time.Time) time.Duration {
	if c.state == Renewing && !c.binding.Rebind.IsZero() {
		return c.binding.Rebind.Sub(now)
	}
	if c.binding.Ends.IsZero() {
		return 0
	}
	return c.binding.Ends.Sub(now)
}

// backOff is RFC 2131 §4.1: 4, 8, 16 ... 64 seconds, each with a second more or less.
func (c *Client) backOff() time.Duration {
	d := lastRetry
	if c.tries < 4 {
		d = firstRetry << c.tries
	}
	return d + time.Duration(c.o.Rand.Int64N(int64(2*time.Second))) - time.Second
}

// message is the message of the state: RFC 2131, table 5.
func (c *Client) message(now time.Time) *Sent {
	kind := Request
	if c.state == Selecting {
		kind = Discover
	}
	p := c.packet(kind)
	if c.state != Requesting {
		c.secs = uint16(min(now.Sub(c.began)/time.Second, 1<<16-1))
	}
	p.Secs = c.secs
	if c.o.Broadcast {
		p.Flags = broadcastFlag
	}
	out := &Sent{Packet: p}
	switch c.state {
	case Selecting:
	case Requesting:
		p.Set(RequestedAddress, c.offer.Address.Addr().AsSlice())
		p.Set(ServerIdentifier, c.offer.Server.AsSlice())
	case Rebooting:
		p.Set(RequestedAddress, c.binding.Address.Addr().AsSlice())
	case Renewing:
		p.CIAddr = c.binding.Address.Addr()
		out.From, out.To = p.CIAddr, c.binding.Server
		p.Flags = 0
	case Rebinding:
		p.CIAddr = c.binding.Address.Addr()
		out.From = p.CIAddr
		p.Flags = 0
	}
	if kind == Request && c.tries == 1 { // a DHCPACK does not tell which of those with its xid it answers
		c.asked = now
	}
	c.wishes(p)
	return out
}

// packet is what all messages have.
func (c *Client) packet(kind MessageType) *Packet {
	p := &Packet{Op: BootRequest, HType: ethernet, HLen: byte(len(c.o.Hardware)), XID: c.xid}
	copy(p.CHAddr[:], c.o.Hardware)
	p.Set(MessageTypeOption, []byte{byte(kind)})
	p.Set(ClientIdentifier, c.o.ClientID)
	return p
}

// wanted are the options that the client asks for; those of RFC 3442 §"DHCP Client Behavior": classless routes before routers. The last three are
// about its lease.
var wanted = []byte{byte(SubnetMask), 121, byte(Router), 6, 15, byte(BroadcastAddress), 119, byte(SMTPServer), byte(POP3Server), byte(LeaseTime), byte(RenewalTime), byte(RebindingTime)}

// wishes are what DHCPDISCOVER and DHCPREQUEST have beside: RFC 2131, table 5.
func (c *Client) wishes(p *Packet) {
	p.Set(ParameterRequestList, wanted)
	p.Set(MaximumMessageSize, binary.BigEndian.AppendUint16(nil, MaxSize+headersSize))
	if c.o.VendorClass != "" {
		p.Set(VendorClassIdentifier, []byte(c.o.VendorClass))
	}
	if c.o.Hostname != "" {
		p.Set(HostName, []byte(c.o.Hostname))
	}
}

// Release gives the address back (RFC 2131 §4.4.6): nothing is left after it, and the message need not arrive.
func (c *Client) Release(now time.Time) *Sent {
	b := c.binding
	c.restart(now.Add(lastRetry))
	if !b.Address.IsValid() || !b.Server.IsValid() {
		return nil
	}
	p := c.packet(Release)
	p.CIAddr = b.Address.Addr()
	p.Set(ServerIdentifier, b.Server.AsSlice())
	p.Set(Message, []byte("not needed any more")) // table 5: should
	return &Sent{Packet: p, To: b.Server, From: p.CIAddr}
}

// ToCheck is the address that is to be asked for by ARP before it is used; the zero Addr is none. Checked wants the answer.
func (c *Client) ToCheck() netip.Addr {
	if c.state != Checking {
		return netip.Addr{}
	}
	return c.offer.Address.Addr()
}

// Checked tells whether somebody else uses the address that ToCheck named.
func (c *Client) Checked(now time.Time, inUse bool) {
	if c.state != Checking {
		return
	}
	if !inUse {
		c.binding, c.offer = c.offer, Binding{}
		c.becomeBound(now)
		return
	}
	c.note("%v is in use by somebody else: declined", c.offer.Address.Addr())
	p := c.packet(Decline) // §4.4.4: broadcast
	p.Set(RequestedAddress, c.offer.Address.Addr().AsSlice())
	p.Set(ServerIdentifier, c.offer.Server.AsSlice())
	p.Set(Message, []byte("in use by somebody else")) // table 5: should
	c.restart(now.Add(declineWait))
	c.decline = &Sent{Packet: p}
}

func (c *Client) becomeBound(now time.Time) {
	c.state, c.tries, c.refused = Bound, 0, 0
	if due(c.binding.Renew, now) {
		c.enter(Renewing, now)
	}
}

// What a client drops, beside what cannot be read.
const (
	WhyNotOurs    Why = "it answers another exchange, or another client"
	WhyNoServer   Why = "it names no server"
	WhyUnexpected Why = "nothing of that kind is waited for"
)

// Receive takes a packet that came at now, or says why not. What is to be sent then, Tick says.
func (c *Client) Receive(now time.Time, p *Packet) Why {
	if !c.mine(p) {
		return WhyNotOurs
	}
	server, ok := p.Addr(ServerIdentifier)
	switch kind := p.Type(); {
	case kind == Offer && c.state == Selecting:
		switch {
		case !ok:
			return WhyNoServer
		case !given(p.YIAddr):
			return WhyIncomplete
		}
		c.offer = Binding{Address: netip.PrefixFrom(p.YIAddr, 32), Server: server}
		c.enter(Requesting, now)
	case kind == Ack && c.expects(server, ok):
		if !given(p.YIAddr) {
			return WhyIncomplete
		}
		c.acknowledged(now, p, server)
	case kind == Nak && c.expects(server, ok) && (c.state != Renewing || !ok || server == c.binding.Server): // RFC 2131 §4.4.5: it alone was asked
		c.note("server %v refuses the address", server)
		c.refused++
		c.restart(now.Add(c.refusedWait()))
	default:
		return WhyUnexpected
	}
	return ""
}

// refusedWait is before the client asks anew: nothing after the first DHCPNAK, for the host has moved, perhaps; then longer and longer, for somebody refuses
// whatever is offered.
func (c *Client) refusedWait() time.Duration {
	if c.refused == 1 {
		return 0
	}
	return min(firstRetry<<min(c.refused-2, 4), lastRetry)
}

// mine reports whether a packet answers the client's last message.
func (c *Client) mine(p *Packet) bool {
	id, ok := p.Get(ClientIdentifier)
	return p.Op == BootReply && p.XID == c.xid && slices.Equal(p.Hardware(), c.o.Hardware) && (!ok || slices.Equal(id, c.o.ClientID)) // RFC 6842 §3
}

// expects reports whether an answer to a DHCPREQUEST is waited for from that server.
func (c *Client) expects(server netip.Addr, named bool) bool {
	switch c.state {
	case Requesting:
		return !named || server == c.offer.Server
	case Rebooting, Renewing, Rebinding:
		return true
	}
	return false
}

// acknowledged takes a DHCPACK.
func (c *Client) acknowledged(now time.Time, p *Packet, server netip.Addr) {
	b := c.read(p)
	switch {
	case server.IsValid():
		b.Server = server
	case c.state == Requesting:
		b.Server = c.offer.Server
	default:
		b.Server = c.binding.Server
	}
	if c.binding.Address == b.Address && c.state != Requesting { // the address is in use: by us
		c.binding = b
		c.becomeBound(now)
		return
	}
	c.offer, c.binding = b, Binding{}
	c.state = Checking
}

// read is what a DHCPACK gives. Times count from when the DHCPREQUEST was sent (RFC 2131 §4.4.1), of several with the same xid the first.
func (c *Client) read(p *Packet) Binding {
	bits := 32
	if mask, ok := p.Get(SubnetMask); ok && len(mask) == 4 {
		if ones, size := net.IPMask(mask).Size(); size == 32 && ones > 0 {
			bits = ones
		}
	}
	b := Binding{
		Address: netip.PrefixFrom(p.YIAddr, bits), Began: c.asked, Routers: addrs4(p, Router), DNS: addrs4(p, 6), SMTP: addrs4(p, SMTPServer), POP3: addrs4(p, POP3Server),
	}
	if domain, ok := p.Get(15); ok {
		b.Domain = string(domain)
	}
	if routes, ok := p.Get(121); ok {
		b.Routes = classless(routes)
	}
	lease, ok := p.Uint32(LeaseTime)
	if !ok || lease == infinity {
		return b // for ever
	}
	whole := time.Duration(max(lease, 10)) * time.Second
	t1, t2 := whole/2, whole/8*7 // RFC 2131 §4.4.5
	if v, ok := p.Uint32(RebindingTime); ok && time.Duration(v)*time.Second < whole {
		t2 = time.Duration(v) * time.Second
	}
	if v, ok := p.Uint32(RenewalTime); ok && time.Duration(v)*time.Second < t2 {
		t1 = time.Duration(v) * time.Second
	}
	fuzz := time.Duration(c.o.Rand.Int64N(int64(max(min(t1/50, 10*time.Second), 1)))) // §4.4.5: clients of one moment part
	b.Renew, b.Rebind, b.Ends = c.asked.Add(min(t1, t2)-fuzz), c.asked.Add(t2-fuzz), c.asked.Add(whole)
	return b
}

// addrs4 is an option that is a list of hosts' addresses; one of another length is ignored, and so are addresses that no host has.
func addrs4(p *Packet, code Code) (all []netip.Addr) {
	v, _ := p.Get(code)
	if len(v)%4 != 0 {
		return nil
	}
	for ; len(v) > 0; v = v[4:] {
		if a := addr4(v); given(a) && !a.IsMulticast() && !a.IsLoopback() && a != limited {
			all = append(all, a)
		}
	}
	return all
}

// classless reads RFC 3442's routes; a bad one ends the list.
func classless(v []byte) (all []ClasslessHop) {
	for len(v) > 0 {
		bits := int(v[0])
		n := (bits + 7) / 8
		if bits > 32 || len(v) < 1+n+4 {
			return all
		}
		var to [4]byte
		copy(to[:], v[1:1+n])
		all = append(all, ClasslessHop{netip.PrefixFrom(netip.AddrFrom4(to), bits).Masked(), addr4(v[1+n:])})
		v = v[1+n+4:]
	}
	return all
}
