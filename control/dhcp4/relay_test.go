package dhcp4

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
)

var (
	relayLink   = &Link{Name: "eth1", Index: 3, Addrs: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24")}}
	relayServer = netip.MustParseAddr("192.0.2.1")
)

func newRelay() *relay {
	return &relay{RelayConfig{Interfaces: []string{"eth1"}, Servers: []netip.Addr{relayServer}, MaxHops: 4, CircuitID: true}, map[netip.Addr]*Link{}}
}

// through passes a packet that came on eth1 from a source, as octets.
func (r *relay) through(t *testing.T, p *Packet, source netip.Addr) (got *Packet, to []Destination, why Why) {
	t.Helper()
	raw, _ := p.AppendTo(nil, MaxSize, false)
	before := slices.Clone(raw)
	parsed := new(Packet)
	if err := parsed.Parse(raw); err != nil {
		t.Fatal(err)
	}
	own := func(a netip.Addr) bool { return a == relayLink.Addrs[0].Addr() }
	b, to, why := r.pass(&Arrival{Packet: parsed, Link: relayLink, Source: source, Own: own}, raw)
	if !bytes.Equal(raw, before) {
		t.Error("the memory of the wire was changed")
	}
	if why != "" {
		return nil, nil, why
	}
	got = new(Packet)
	if err := got.Parse(b); err != nil {
		t.Fatal(err)
	}
	if len(b) < minSize {
		t.Errorf("%d octets", len(b))
	}
	return got, to, ""
}

func fromClient(kind MessageType) *Packet {
	p := &Packet{Op: BootRequest, HType: ethernet, HLen: ethernetSize, XID: 7, CHAddr: [16]byte{2, 0, 0, 0, 0, 7}}
	p.Set(MessageTypeOption, []byte{byte(kind)})
	p.Set(224, []byte("unknown"))
	return p
}

// TestRelayUp: RFC 1542 §4.1.1: giaddr is filled in when it is zero, hops count, each server gets the message; RFC 3046 §2.1: the circuit is named last.
func TestRelayUp(t *testing.T) {
	r := newRelay()
	r.Servers = append(r.Servers, netip.MustParseAddr("192.0.2.2"))
	got, to, why := r.through(t, fromClient(Discover), netip.IPv4Unspecified())
	if why != "" || got.Hops != 1 || got.GIAddr != relayLink.Addrs[0].Addr() || len(to) != 2 || to[0].AddrPort.String() != "192.0.2.1:67" || to[1].AddrPort.String() != "192.0.2.2:67" {
		t.Fatalf("%+v, %v, %q", got, to, why)
	}
	if last := got.Options[len(got.Options)-1]; last.Code != RelayAgentInformation || string(last.Value) != "\x01\x04eth1" {
		t.Errorf("last option %+v", last)
	}
	if v, _ := got.Get(224); string(v) != "unknown" {
		t.Errorf("option 224 is %q", v)
	}

	bootp := &Packet{Op: BootRequest, HType: ethernet, HLen: ethernetSize, Plain: true, Vendor: [64]byte{1, 2, 3}}
	if got, _, why := newRelay().through(t, bootp, netip.IPv4Unspecified()); why != "" || !got.Plain || got.Vendor != bootp.Vendor || got.GIAddr != relayLink.Addrs[0].Addr() {
		t.Errorf("BOOTP: %+v, %q", got, why)
	}
}

// TestRelaySecond: RFC 3046 §2.1.1: what another relay agent has sent keeps its giaddr, and nothing is added.
func TestRelaySecond(t *testing.T) {
	p := fromClient(Discover)
	p.GIAddr, p.Hops = netip.MustParseAddr("203.0.113.1"), 1
	p.Set(RelayAgentInformation, []byte("\x01\x01x"))
	got, _, why := newRelay().through(t, p, p.GIAddr)
	if v, _ := got.Get(RelayAgentInformation); why != "" || got.GIAddr != p.GIAddr || got.Hops != 2 || string(v) != "\x01\x01x" {
		t.Errorf("%+v, %q", got, why)
	}
}

// TestRelayDrops: RFC 1542 §4.1.1: more hops than allowed; RFC 3046 §2.1: relay agent information from a client, and our own giaddr.
func TestRelayDrops(t *testing.T) {
	for why, spoil := range map[Why]func(r *relay, p *Packet){
		WhyHops:       func(_ *relay, p *Packet) { p.Hops = 4 },
		WhyUntrusted:  func(_ *relay, p *Packet) { p.Set(RelayAgentInformation, []byte("\x01\x01x")) },
		WhyLoop:       func(_ *relay, p *Packet) { p.GIAddr = relayLink.Addrs[0].Addr() },
		WhyElsewhere:  func(r *relay, _ *Packet) { r.Interfaces = []string{"eth2"} },
		WhyStranger:   func(r *relay, p *Packet) { p.Op, r.Servers = BootReply, nil },
		WhyNotRelayed: func(_ *relay, p *Packet) { p.Op = BootReply },
	} {
		r, p := newRelay(), fromClient(Discover)
		spoil(r, p)
		if _, _, got := r.through(t, p, relayServer); got != why {
			t.Errorf("%q instead of %q", got, why)
		}
	}
	p := fromClient(Discover) // two relay agents that send to each other
	for passed := 0; ; passed++ {
		if passed > 4 {
			t.Fatal("it loops")
		}
		p.GIAddr = netip.MustParseAddr("203.0.113.1")
		got, _, why := newRelay().through(t, p, p.GIAddr)
		if why == WhyHops {
			break
		}
		p = got
	}
}

// TestRelayDown: RFC 1542 §4.1.2: to yiaddr at chaddr, or by broadcast when the flag is set or there is no address; RFC 3046 §2.1: without relay agent
// information.
func TestRelayDown(t *testing.T) {
	for _, c := range []struct {
		name     string
		change   func(*Packet)
		want     string
		hardware bool
	}{
		{"unicast", func(*Packet) {}, "198.51.100.50:68", true},
		{"broadcast", func(p *Packet) { p.Flags = broadcastFlag }, "255.255.255.255:68", false},
		{"NAK", func(p *Packet) { p.YIAddr = netip.Addr{}; p.Set(MessageTypeOption, []byte{byte(Nak)}) }, "255.255.255.255:68", false},
		{"inform", func(p *Packet) { p.YIAddr, p.CIAddr = netip.Addr{}, netip.MustParseAddr("198.51.100.9") }, "198.51.100.9:68", true},
		{"not Ethernet", func(p *Packet) { p.HType = 32 }, "255.255.255.255:68", false},
	} {
		r := newRelay()
		r.through(t, fromClient(Discover), netip.IPv4Unspecified())
		p := fromClient(Offer)
		p.Op, p.GIAddr, p.YIAddr = BootReply, relayLink.Addrs[0].Addr(), netip.MustParseAddr("198.51.100.50")
		p.Set(RelayAgentInformation, []byte("\x01\x04eth1"))
		c.change(p)
		got, to, why := r.through(t, p, relayServer)
		if why != "" || len(to) != 1 || to[0].AddrPort.String() != c.want || to[0].Hardware != c.hardware || to[0].Link != relayLink {
			t.Errorf("%s: %+v, %q", c.name, to, why)
			continue
		}
		if _, still := got.Get(RelayAgentInformation); still {
			t.Errorf("%s: relay agent information reached the client", c.name)
		}
		if v, _ := got.Get(224); string(v) != "unknown" || got.XID != p.XID || got.GIAddr != p.GIAddr {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func FuzzRelay(f *testing.F) {
	for _, kind := range []MessageType{Discover, Offer} {
		raw, _ := fromClient(kind).AppendTo(nil, MaxSize, false)
		f.Add(raw, kind == Offer)
	}
	f.Fuzz(func(t *testing.T, raw []byte, answered bool) {
		var p, q Packet
		if len(raw) > MaxSize || p.Parse(raw) != nil {
			return
		}
		r := newRelay()
		if answered {
			r.links[p.GIAddr] = relayLink
		}
		b, to, why := r.pass(&Arrival{Packet: &p, Link: relayLink, Source: relayServer, Own: func(netip.Addr) bool { return false }}, raw)
		if why != "" {
			return
		}
		if len(to) == 0 || len(b) > MaxSize || q.Parse(b) != nil {
			t.Fatalf("%d octets became %d that cannot be read, to %v", len(raw), len(b), to)
		}
		for _, o := range p.Options {
			if v, ok := q.Get(o.Code); o.Code != RelayAgentInformation && (!ok || !bytes.Equal(v, o.Value)) {
				t.Errorf("option %d was %x and is %x", o.Code, o.Value, v)
			}
		}
	})
}
