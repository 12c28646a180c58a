package dhcp4

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"bothy/control/lease"
)

// pair is a client and a server on a wire that loses packets, in a time of their own.
type pair struct {
	*world
	c     *Client
	rand  *rand.Rand
	loss  float64
	echo  float64               // of the replies come twice,
	late  float64               // and come behind the next
	held  []*Packet             // those
	ahead time.Duration         // the client's clock, of the world's
	dead  bool                  // the server
	used  func(netip.Addr) bool // addresses of strangers
	said  []heard
}

type heard struct {
	at    time.Time
	kind  MessageType
	state ClientState
	sent  *Sent
}

func newPair(t *testing.T, cfg Config, seed uint64) *pair {
	t.Helper()
	p := &pair{world: newWorld(t, cfg), rand: rand.New(rand.NewPCG(seed, 1)), used: func(netip.Addr) bool { return false }}
	p.c = NewClient(p.options(), Binding{}, p.now)
	return p
}

func (p *pair) options() ClientOptions {
	return ClientOptions{Hardware: net.HardwareAddr{2, 0, 0, 0, 0, 7}, ClientID: []byte("\x00meter"), VendorClass: "bothy", Hostname: "meter", Rand: p.rand}
}

func (p *pair) until(what string, limit time.Duration, done func() bool) {
	p.t.Helper()
	end := p.now.Add(limit)
	for !done() {
		if a := p.c.ToCheck(); a.IsValid() {
			p.now = p.now.Add(time.Second)
			p.c.Checked(p.now, p.used(a))
			continue
		}
		next := p.c.Next()
		if next.IsZero() || next.After(end) {
			p.t.Fatalf("%s: not within %v; %s, %+v", what, limit, p.c.State(), p.c.Binding())
		}
		if next.After(p.now) {
			p.now = next
		}
		if out := p.c.Tick(p.now); out != nil {
			p.carry(out)
		}
	}
}

// carry takes a packet to the server, as octets, and the reply back.
func (p *pair) carry(out *Sent) {
	p.t.Helper()
	p.said = append(p.said, heard{p.now, out.Packet.Type(), p.c.State(), out})
	var at Packet
	b, omitted := out.Packet.AppendTo(nil, MaxSize, false)
	if err := at.Parse(b); err != nil || omitted != 0 {
		p.t.Fatalf("our packet: %v, %d options left out", err, omitted)
	}
	if p.dead || p.rand.Float64() < p.loss {
		return
	}
	reply := p.send(client{direct: out.To.IsValid()}, &at)
	if reply.Reply == nil || p.rand.Float64() < p.loss {
		return
	}
	b, _ = reply.Reply.AppendTo(nil, reply.Limit, true)
	var back Packet
	if err := back.Parse(b); err != nil {
		p.t.Fatal(err)
	}
	p.now = p.now.Add(10 * time.Millisecond)
	for _, old := range p.held {
		p.c.Receive(p.clientNow(), old)
	}
	p.held = nil
	if p.rand.Float64() < p.late {
		p.held = append(p.held, &back)
		return
	}
	p.c.Receive(p.clientNow(), &back)
	if p.rand.Float64() < p.echo {
		p.c.Receive(p.clientNow(), &back)
	}
}

func (p *pair) is(s ClientState) func() bool { return func() bool { return p.c.State() == s } }

func clientConfig() Config {
	cfg := oneSubnet()
	cfg.DefaultLease, cfg.MinLease, cfg.MaxLease = time.Hour, time.Minute, time.Hour
	cfg.MailServers = true
	return cfg
}

// TestClientLossy: RFC 2131 §4.2: the client identifier is the same in every message, DHCPRELEASE included.
func TestClientLossy(t *testing.T) {
	for seed := range uint64(20) {
		p := newPair(t, clientConfig(), seed)
		p.loss = 0.3
		p.until("bound", time.Hour, p.is(Bound))
		first := p.c.Binding()
		if first.Address.Bits() != 24 || len(first.Routers) != 1 || len(first.SMTP) != 1 || first.POP3[0].String() != "192.0.2.70" {
			t.Errorf("given %+v", first)
		}
		for range 5 {
			ends := p.c.Binding().Ends
			p.until("renewed", 3*time.Hour, func() bool { return p.c.State() == Bound && p.c.Binding().Ends.After(ends) })
		}
		if now := p.c.Binding(); now.Address != first.Address {
			t.Errorf("seed %d: %v, then %v", seed, first.Address, now.Address)
		}
		ids := map[string]bool{}
		for _, h := range p.said {
			id, _ := h.sent.Packet.Get(ClientIdentifier)
			ids[string(id)] = true
		}
		released := p.c.Release(p.now)
		id, _ := released.Packet.Get(ClientIdentifier)
		ids[string(id)] = true
		if len(ids) != 1 || !ids["\x00meter"] { // RFC 2131 §4.2
			t.Errorf("client identifiers %v", ids)
		}
		p.loss = 0
		p.carry(released)
		if l, _ := p.store.Get(lease.Host(first.Address.Addr())); l.State != lease.Released {
			t.Errorf("after the release: %+v", l)
		}
	}
}

// RFC 2131 §4.1: 4, 8, 16, 32, 64 seconds and on, each with a second more or less; §4.4.1: 1 to 10 seconds before the first.
func TestClientTiming(t *testing.T) {
	for seed := range uint64(10) {
		p := newPair(t, clientConfig(), seed)
		p.dead = true
		start := p.now
		p.until("seven DHCPDISCOVERs", time.Hour, func() bool { return len(p.said) == 8 })
		if wait := p.said[0].at.Sub(start); wait < time.Second || wait > 10*time.Second {
			t.Errorf("first after %v", wait)
		}
		for i, want := range []time.Duration{4, 8, 16, 32, 64, 64, 64} {
			got := p.said[i+1].at.Sub(p.said[i].at)
			if got < (want-1)*time.Second || got > (want+1)*time.Second {
				t.Errorf("wait %d: %v, want %d s", i, got, want)
			}
		}
		if secs := p.said[7].sent.Packet.Secs; secs < 240 {
			t.Errorf("secs %d", secs)
		}
	}
}

// RFC 2131 §3.1: four DHCPREQUESTs in about 60 seconds, then INIT, and the operator hears of it.
func TestClientRequestUnanswered(t *testing.T) {
	p := newPair(t, clientConfig(), 1)
	p.until("offered", time.Minute, p.is(Requesting))
	p.dead, p.said = true, nil
	p.until("looking again", 2*time.Minute, func() bool { return len(p.said) > 0 && p.said[len(p.said)-1].kind == Discover })
	if n := len(p.said) - 1; n != 4 {
		t.Errorf("%d DHCPREQUESTs", n)
	}
	if took := p.said[len(p.said)-1].at.Sub(p.said[0].at); took < 55*time.Second || took > 65*time.Second {
		t.Errorf("given up after %v", took)
	}
	if n := p.c.Notices(); len(n) != 1 || !strings.Contains(n[0], "does not answer any more") || len(p.c.Notices()) != 0 {
		t.Errorf("notices %q", n)
	}
}

// RFC 2131 §4.4.5: T1, T2, half of what is left but a minute at least, and the end.
func TestClientExpires(t *testing.T) {
	p := newPair(t, clientConfig(), 1)
	p.until("bound", time.Minute, p.is(Bound))
	asked := p.c.asked
	p.dead, p.said = true, nil
	p.until("over", 2*time.Hour, func() bool { return p.c.State() == Selecting })
	var renew, rebind []heard
	for _, h := range p.said {
		switch {
		case h.kind != Request:
		case h.sent.To.IsValid():
			renew = append(renew, h)
		default:
			rebind = append(rebind, h)
		}
	}
	near := func(what string, h heard, want time.Duration) {
		t.Helper()
		if got := h.at.Sub(asked); got > want || got < want-want/10 { // server and client both part those of one moment
			t.Errorf("%s after %v, want %v", what, got, want)
		}
	}
	near("T1", renew[0], 30*time.Minute)
	near("T2", rebind[0], 52*time.Minute+30*time.Second)
	for i := 1; i < len(renew); i++ {
		if wait := renew[i].at.Sub(renew[i-1].at); wait < minExtend {
			t.Errorf("a renewal after %v", wait)
		}
	}
	if half := renew[1].at.Sub(renew[0].at); half < 10*time.Minute || half > 12*time.Minute {
		t.Errorf("half of what is left to T2 is %v", half)
	}
	for _, h := range renew {
		p := h.sent.Packet
		_, named := p.Get(ServerIdentifier)
		_, asked := p.Get(RequestedAddress)
		if named || asked || p.CIAddr != h.sent.From { // table 5
			t.Errorf("renewal %+v", p)
		}
	}
	if p.c.Binding().Address.IsValid() {
		t.Error("the address is used after its lease ended")
	}
	if n := p.c.Notices(); len(n) != 1 || !strings.Contains(n[0], "has ended") {
		t.Errorf("notices %q", n)
	}
}

// RFC 2131 §3.2: a client that comes back asks for what it had; on another link it is refused; when nobody answers it goes on.
func TestClientReboot(t *testing.T) {
	p := newPair(t, clientConfig(), 1)
	p.until("bound", time.Minute, p.is(Bound))
	before := p.c.Binding()
	p.said = nil
	p.c = NewClient(p.options(), before, p.now)
	p.until("bound again", time.Minute, p.is(Bound))
	if first := p.said[0].sent.Packet; p.said[0].kind != Request || len(p.said) != 1 {
		t.Errorf("%+v", p.said)
	} else if _, named := first.Get(ServerIdentifier); named {
		t.Error("a server is named in INIT-REBOOT")
	}
	if p.c.Binding().Address != before.Address {
		t.Errorf("%v, then %v", before.Address, p.c.Binding().Address)
	}

	p.dead = true
	p.c = NewClient(p.options(), before, p.now)
	p.until("bound though nobody answers", 2*time.Minute, p.is(Bound))

	p.dead = false
	before.Address = netip.MustParsePrefix("198.51.100.7/24")
	p.c = NewClient(p.options(), before, p.now)
	p.until("bound here", 2*time.Minute, p.is(Bound))
	if a := p.c.Binding().Address; !netip.MustParsePrefix("192.0.2.0/24").Contains(a.Addr()) {
		t.Errorf("%v", a)
	}
}

// RFC 2131 §3.1, §4.4.4: declined by broadcast, and no other try for ten seconds.
func TestClientDeclines(t *testing.T) {
	p := newPair(t, clientConfig(), 1)
	strangers := netip.MustParseAddr("192.0.2.100")
	p.used = func(a netip.Addr) bool { return a == strangers }
	p.until("bound", 2*time.Minute, p.is(Bound))
	if p.c.Binding().Address.Addr() == strangers {
		t.Fatal("took an address that is in use")
	}
	i := slices.IndexFunc(p.said, func(h heard) bool { return h.kind == Decline })
	if i < 0 {
		t.Fatal("not declined")
	}
	d := p.said[i].sent
	asked, _ := d.Packet.Addr(RequestedAddress)
	if asked != strangers || d.To.IsValid() || given(d.Packet.CIAddr) {
		t.Errorf("%+v", d)
	}
	if _, wishes := d.Packet.Get(ParameterRequestList); wishes { // table 5: must not
		t.Error("a parameter request list in a DHCPDECLINE")
	}
	if wait := p.said[i+1].at.Sub(p.said[i].at); wait < 10*time.Second {
		t.Errorf("asked again after %v", wait)
	}
	if l, _ := p.store.Get(lease.Host(strangers)); l.State != lease.Declined {
		t.Errorf("%+v", l)
	}
}

// TestClientDiscards: RFC 2131 §4.4.1: what answers another exchange or client, or names no server, is dropped; RFC 6842 §3: so is what names another client identifier.
func TestClientDiscards(t *testing.T) {
	for name, spoil := range map[string]func(*Packet){
		"other exchange": func(p *Packet) { p.XID++ },
		"other hardware": func(p *Packet) { p.CHAddr[5]++ },
		"a request":      func(p *Packet) { p.Op = BootRequest },
		"other client":   func(p *Packet) { p.Set(ClientIdentifier, []byte("\x00other")) },
		"no server": func(p *Packet) {
			p.Options = slices.DeleteFunc(p.Options, func(o Option) bool { return o.Code == ServerIdentifier })
		},
		"no address":          func(p *Packet) { p.YIAddr = netip.Addr{} },
		"an ACK out of place": func(p *Packet) { p.Set(MessageTypeOption, []byte{byte(Ack)}) },
		"a NAK out of place":  func(p *Packet) { p.Set(MessageTypeOption, []byte{byte(Nak)}) },
	} {
		p := newPair(t, clientConfig(), 1)
		p.dead = true
		p.until("asking", time.Minute, func() bool { return len(p.said) == 1 })
		offer := &Packet{Op: BootReply, HType: 1, HLen: 6, XID: p.c.xid, YIAddr: netip.MustParseAddr("192.0.2.100")}
		copy(offer.CHAddr[:], p.c.o.Hardware)
		offer.Set(MessageTypeOption, []byte{byte(Offer)})
		offer.Set(ServerIdentifier, []byte{192, 0, 2, 1})
		spoil(offer)
		if p.c.Receive(p.now, offer); p.c.State() != Selecting {
			t.Errorf("%s: %s", name, p.c.State())
		}
	}
}

// RFC 2131 §3.1 (4), RFC 2131 §4.4.5: a server that offers and then refuses, again and again, is asked more and more rarely; and while the client renews, only
// its own server may refuse.
func TestClientRefused(t *testing.T) {
	p := newPair(t, clientConfig(), 1)
	nak := func(server byte) *Packet {
		b := &Packet{Op: BootReply, HType: 1, HLen: 6, XID: p.c.xid}
		copy(b.CHAddr[:], p.c.o.Hardware)
		b.Set(MessageTypeOption, []byte{byte(Nak)})
		b.Set(ServerIdentifier, []byte{192, 0, 2, server})
		return b
	}
	begun := p.now
	for range 10 {
		p.until("requesting", time.Hour, p.is(Requesting))
		p.c.Receive(p.now, nak(1))
		if p.c.State() != Init {
			t.Fatal(p.c.State())
		}
	}
	p.until("bound", time.Hour, p.is(Bound))
	if took := p.now.Sub(begun); took < 4*time.Minute || took > 10*time.Minute {
		t.Errorf("ten refusals took %v", took)
	}
	p.dead = true
	p.until("renewing", 24*time.Hour, p.is(Renewing))
	if p.c.Receive(p.now, nak(66)); p.c.State() != Renewing {
		t.Errorf("a stranger's refusal counts: %s", p.c.State())
	}
	if p.c.Receive(p.now, nak(1)); p.c.State() != Init {
		t.Errorf("its server's refusal does not count: %s", p.c.State())
	}
}

// TestClassless: RFC 3442: classless routes are read; a router of 0.0.0.0 is the link itself.
func TestClassless(t *testing.T) {
	v := []byte{0, 192, 0, 2, 1, 24, 198, 51, 100, 0, 0, 0, 0, 33, 1}
	if got := fmt.Sprint(classless(v)); got != "[{0.0.0.0/0 192.0.2.1} {198.51.100.0/24 0.0.0.0}]" {
		t.Error(got)
	}
}

func FuzzClient(f *testing.F) {
	f.Add([]byte{53, 1, 2, 54, 4, 192, 0, 2, 1}, []byte{53, 1, 5, 51, 4, 0, 0, 14, 16, 121, 5, 0, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		c := NewClient(ClientOptions{Hardware: net.HardwareAddr{2, 0, 0, 0, 0, 7}}, Binding{}, now)
		for _, options := range [][]byte{first, second} {
			now = now.Add(20 * time.Second)
			c.Tick(now)
			p := &Packet{Op: BootReply, HLen: 6, XID: c.xid, YIAddr: netip.MustParseAddr("192.0.2.9")}
			copy(p.CHAddr[:], c.o.Hardware)
			b := p.appendFixed(nil)
			var q Packet
			if q.Parse(append(append(b, cookie[:]...), options...)) != nil {
				return
			}
			c.Receive(now, &q)
			c.Checked(now, false)
			if b := c.Binding(); !b.Ends.IsZero() && (b.Renew.After(b.Rebind) || b.Rebind.After(b.Ends)) {
				t.Errorf("T1 %v, T2 %v, end %v", b.Renew, b.Rebind, b.Ends)
			}
		}
	})
}
