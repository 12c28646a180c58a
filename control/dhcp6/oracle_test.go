package dhcp6

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"
)

// agrees compares how another implementation reads a datagram with how we do: what it takes, we take, and see the same in it.
func agrees(t *testing.T, datagram []byte) {
	t.Helper()
	theirs, err := dhcpv6.FromBytes(datagram)
	if err != nil {
		return // it refuses whole messages for values that we pass over
	}
	inner, layers, err := Unwrap(datagram, nil)
	if err != nil {
		if theirs.IsRelay() {
			return // relayed too often, or without a message: it has no bound
		}
		t.Fatalf("%x: we say %v, they read %v", datagram, err, theirs)
	}
	for _, l := range layers {
		relay, ok := theirs.(*dhcpv6.RelayMessage)
		if !ok {
			t.Fatalf("%x: %d layers, and they see %v", datagram, len(layers), theirs)
		}
		link, _ := netip.AddrFromSlice(relay.LinkAddr)
		id, _ := l.find(InterfaceID)
		if relay.HopCount != l.Hops || link != l.Link || !bytes.Equal(relay.Options.InterfaceID(), id) {
			t.Fatalf("%x: %+v, and they see %v", datagram, l, relay)
		}
		if theirs = relay.Options.RelayMessage(); theirs == nil {
			return
		}
	}
	message, ok := theirs.(*dhcpv6.Message)
	var ours Message
	if err := ours.Parse(inner); err != nil || !ok {
		if len(inner) > 0 && MessageType(inner[0]) == RelayReply {
			return // a relay's message to a relay, which no server reads
		}
		t.Fatalf("%x: we say %v, they read %v", datagram, err, theirs)
	}
	if len(message.Options.Options) != len(ours.Options) || byte(message.MessageType) != byte(ours.Type) {
		t.Fatalf("%x: we see %+v, they see %v", datagram, ours, message)
	}
	for i, o := range message.Options.Options {
		if Code(o.Code()) != ours.Options[i].Code {
			t.Fatalf("%x: option %d is %d, they see %v", datagram, i, ours.Options[i].Code, o)
		}
	}
	if na := message.Options.OneIANA(); na != nil {
		if v, _ := ours.Find(IANonTemporary); len(v) < 12 || !bytes.Equal(v[:4], na.IaId[:]) {
			t.Fatalf("%x: IAID %x, they see %x", datagram, v, na.IaId)
		}
	}
}

// Our replies are read by another implementation as we mean them.
func TestOracle(t *testing.T) {
	b := newBench(t, standard())
	m, _ := b.ask(Request, client, server, ia(IANonTemporary, 7), ia(IAPrefixDelegation, 7), oro(65001, DNSServers, DomainList))
	given, _ := b.got(m, IANonTemporary, 7)
	prefix, _ := b.got(m, IAPrefixDelegation, 7)
	layers := []Layer{{Hops: 0, Link: netip.MustParseAddr("2001:db8:1::2"), Peer: netip.MustParseAddr("fe80::2"), Options: []byte{0, 18, 0, 1, 'x'}}}
	for _, datagram := range [][]byte{b.m.reply.b, Wrap(nil, layers, b.m.reply.b)} {
		d, err := dhcpv6.FromBytes(datagram)
		if err != nil {
			t.Fatal(err)
		}
		if relay, ok := d.(*dhcpv6.RelayMessage); ok {
			if string(relay.Options.InterfaceID()) != "x" {
				t.Errorf("%v", relay)
			}
		}
		theirs, err := d.GetInnerMessage()
		if err != nil {
			t.Fatal(err)
		}
		na, pd := theirs.Options.OneIANA(), theirs.Options.OneIAPD()
		if na == nil || pd == nil || na.Options.OneAddress() == nil || len(pd.Options.Prefixes()) != 1 {
			t.Fatalf("%v", theirs)
		}
		addr, _ := netip.AddrFromSlice(na.Options.OneAddress().IPv6Addr)
		if addr != given[0].Prefix.Addr() || pd.Options.Prefixes()[0].Prefix.String() != prefix[0].Prefix.String() {
			t.Errorf("%v, we gave %v and %v", theirs, given, prefix)
		}
		dns := theirs.Options.DNS()
		if len(dns) != 1 || dns[0].String() != "2001:db8:1::53" || !slices.Equal(theirs.Options.DomainSearchList().Labels, []string{"clinic.example"}) {
			t.Errorf("%v", theirs)
		}
		if o := theirs.GetOneOption(65001); o == nil || len(o.ToBytes()) != 32 {
			t.Errorf("mail: %v", o)
		}
	}
}

func FuzzOracle(f *testing.F) {
	w := &writer{}
	w.start(Request, 77)
	client(w)
	server(w)
	ia(IANonTemporary, 1, "2001:db8:1::100")(w)
	ia(IAPrefixDelegation, 1, "2001:db8:100::/56")(w)
	oro(65001, DNSServers)(w)
	f.Add(w.b)
	f.Add(relayed(1, "::", "outer", relayed(0, "2001:db8:1::2", "port 5", w.b)))
	f.Add([]byte{byte(InformationRequest), 0, 0, 1, 0, 6, 0, 3, 0, 23, 0})
	f.Fuzz(agrees)
}

// A packet costs no memory of its own once the buffers are there.
func TestAllocations(t *testing.T) {
	b := newBench(t, standard())
	w := &writer{}
	w.start(InformationRequest, 1)
	oro(65001, DNSServers, DomainList)(w)
	na := &writer{}
	na.start(Solicit, 1)
	client(na)
	ia(IANonTemporary, 1)(na)
	oro(65001, DNSServers)(na)
	for _, c := range []struct {
		name     string
		datagram []byte
		most     float64
	}{
		{"Information-request", w.b, 0},
		{"the same, relayed", relayed(0, "2001:db8:1::2", "5", w.b), 0},
		{"Solicit", na.b, 2},
		{"a Solicit, relayed", relayed(0, "2001:db8:1::2", "5", na.b), 2},
	} {
		a := &Arrival{Datagram: c.datagram, Link: b.link, Source: netip.MustParseAddrPort("[fe80::2]:546"), Multicast: true}
		now := b.leases.Now()
		n := testing.AllocsPerRun(100, func() {
			if out := b.m.decide(now, a); out.Why != "" {
				t.Fatal(out.Why)
			}
		})
		t.Logf("%s: %v allocations", c.name, n)
		if n > c.most {
			t.Errorf("%s: %v allocations, want %v at most", c.name, n, c.most)
		}
	}
}

func BenchmarkCodec(b *testing.B) {
	w := &writer{}
	w.start(Request, 77)
	client(w)
	server(w)
	ia(IANonTemporary, 1, "2001:db8:1::100")(w)
	oro(65001, DNSServers)(w)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		var m Message
		out := &writer{}
		for b.Loop() {
			if err := m.Parse(w.b); err != nil {
				b.Fatal(err)
			}
			out.b = out.b[:0]
			out.start(m.Type, m.XID)
			for _, o := range m.Options {
				out.put(o.Code, o.Value)
			}
		}
	})
	b.Run("insomniacslk", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m, err := dhcpv6.MessageFromBytes(w.b)
			if err != nil {
				b.Fatal(err)
			}
			m.ToBytes()
		}
	})
}
