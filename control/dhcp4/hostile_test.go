package dhcp4

import (
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// TestHLenLies: RFC 2131 §2: whatever hlen says of chaddr, the reply says the same, one client is one client, and nobody is named by octets that do not count.
func TestHLenLies(t *testing.T) {
	w := newWorld(t, oneSubnet())
	for _, c := range []struct {
		hlen byte
		id   string
		want string
	}{
		{6, "", "DHCPOFFER 192.0.2.100"},
		{16, "", "DHCPOFFER 192.0.2.101"},     // another hardware address
		{1, "", "DHCPOFFER 192.0.2.102"},      // and another
		{0, "", string(WhyNobody)},            // chaddr is not empty, but does not count
		{0, "\x00x", "DHCPOFFER 192.0.2.103"}, // its identifier does
		{6, "", "DHCPOFFER 192.0.2.100"},
	} {
		p := client{mac: 1, id: c.id}.packet(Discover, "")
		p.HLen = c.hlen
		out := w.send(client{}, p)
		if w.expect(c.want, out); out.Reply != nil && (out.Reply.HLen != c.hlen || out.Reply.CHAddr != p.CHAddr) {
			t.Errorf("hlen %d became %d", c.hlen, out.Reply.HLen)
		}
	}
}

// TestRelayInformationIsLast: RFC 3046 §2.2: every reply echoes relay agent information untouched, sub-options that nobody knows included, and behind all other options, in
// the options field itself.
func TestRelayInformationIsLast(t *testing.T) {
	cfg := oneSubnet()
	cfg.Hosts = []HostConfig{{Hardware: "02:00:00:00:00:09", Address: netip.MustParseAddr("192.0.2.9")}}
	cfg.Options = map[string]string{"domain-name": "clinic.example", "224": "01"}
	information := "\x01\x04eth1\xfe\x03\x00\xff\x00\x98\x00"
	c := client{mac: 1, id: "\x00x", giaddr: "192.0.2.254", more: []Option{{RelayAgentInformation, []byte(information)}}}
	bootp := c
	bootp.mac, bootp.id = 9, ""
	w := newWorld(t, cfg)
	for name, ask := range map[string]func() Outcome{
		"DHCPOFFER":         func() Outcome { return w.discover(c) },
		"DHCPACK":           func() Outcome { return w.selecting(c, "192.0.2.100") },
		"DHCPNAK":           func() Outcome { return w.reboot(c, "198.51.100.1") },
		"DHCPACK to INFORM": func() Outcome { return w.send(c, c.packet(Inform, "192.0.2.77")) },
		"BOOTREPLY":         func() Outcome { return w.send(bootp, bootp.packet(0, "")) },
	} {
		out := ask()
		if out.Reply == nil {
			t.Fatalf("%s: %s", name, out.Why)
		}
		b, _ := out.Reply.AppendTo(nil, out.Limit, true)
		end := optionEnd(b)
		if want := "R\x0d" + information; end < len(want) || string(b[end-len(want):end]) != want {
			t.Errorf("%s: %x", name, b[fixedSize:])
		}
	}
}

// TestManySpoofedClients: RFC 2131 §4.3.1: of a hundred thousand clients that are not there those are met with silence for whom there is no address, and nothing grows.
func TestManySpoofedClients(t *testing.T) {
	w := newWorld(t, oneSubnet())
	why := map[Why]int{}
	p := client{}.packet(Discover, "")
	a := &Arrival{Packet: p, Link: &w.link, Own: func(netip.Addr) bool { return false }}
	for i := range 100_000 {
		p.CHAddr = [16]byte{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)}
		why[w.m.decide(w.now, a, netip.Addr{}).Why]++
	}
	if why[WhyNoAddress] != 99_996 || why[""] != 4 || len(w.m.offers) != 4 || len(w.m.offered) != 4 || len(w.m.queue) != 4 || len(w.store.List()) != 0 {
		t.Errorf("%v, %d offers, %d queued, %d leases", why, len(w.m.offers), len(w.m.queue), len(w.store.List()))
	}
}

// TestOracle: our replies are read by another implementation as we mean them, and we answer what it writes.
func TestOracle(t *testing.T) {
	w := newWorld(t, oneSubnet())
	hardware := []byte{2, 0, 0, 0, 0, 1}
	theirs, err := dhcpv4.NewDiscovery(hardware, dhcpv4.WithRequestedOptions(dhcpv4.OptionRouter, dhcpv4.OptionSubnetMask, dhcpv4.GenericOptionCode(69)))
	if err != nil {
		t.Fatal(err)
	}
	answer := func(question *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		t.Helper()
		var p Packet
		if err := p.Parse(question.ToBytes()); err != nil {
			t.Fatal(err)
		}
		out := w.send(client{}, &p)
		if out.Reply == nil {
			t.Fatal(out.Why)
		}
		b, _ := out.Reply.AppendTo(nil, out.Limit, false)
		read, err := dhcpv4.FromBytes(b)
		if err != nil {
			t.Fatal(err)
		}
		if read.TransactionID != question.TransactionID || read.ClientHWAddr.String() != question.ClientHWAddr.String() || read.OpCode != dhcpv4.OpcodeBootReply {
			t.Errorf("%v", read)
		}
		return read
	}
	offer := answer(theirs)
	request, err := dhcpv4.NewRequestFromOffer(offer)
	if err != nil {
		t.Fatal(err)
	}
	ack := answer(request)
	if offer.MessageType() != dhcpv4.MessageTypeOffer || ack.MessageType() != dhcpv4.MessageTypeAck || !ack.YourIPAddr.Equal(offer.YourIPAddr) || ack.YourIPAddr.String() != "192.0.2.100" {
		t.Errorf("%v\n%v", offer, ack)
	}
	if r := ack.Router(); len(r) != 1 || r[0].String() != "192.0.2.1" || ack.SubnetMask().String() != "ffffff00" || ack.IPAddressLeaseTime(0).Hours() != 12 || ack.ServerIdentifier().String() != "192.0.2.1" {
		t.Errorf("%v", ack)
	}
	release, err := dhcpv4.NewReleaseFromACK(ack)
	if err != nil {
		t.Fatal(err)
	}
	var p Packet
	if err := p.Parse(release.ToBytes()); err != nil {
		t.Fatal(err)
	}
	w.expect("released", w.send(client{direct: true}, &p))
}

// TestIdentifierTooShort: RFC 2132 §9.14: an identifier of one octet is none.
func TestIdentifierTooShort(t *testing.T) {
	w := newWorld(t, oneSubnet())
	w.expect("DHCPOFFER 192.0.2.100", w.discover(client{mac: 1, id: "x"}))
	w.expect("DHCPOFFER 192.0.2.101", w.discover(client{mac: 2, id: "x"}))
	w.expect("DHCPOFFER 192.0.2.100", w.discover(client{mac: 1}))
}

// TestEachAddressIsTheServer: RFC 2131 §4.1: a client may name the server by any of its addresses.
func TestEachAddressIsTheServer(t *testing.T) {
	w := newWorld(t, oneSubnet())
	w.link.Addrs = append(w.link.Addrs, netip.MustParsePrefix("203.0.113.1/24"))
	c := client{mac: 1}
	w.expect("DHCPOFFER 192.0.2.100", w.discover(c))
	w.expect("DHCPACK 192.0.2.100", w.send(c, c.packet(Request, "", addrOption(ServerIdentifier, "203.0.113.1"), addrOption(RequestedAddress, "192.0.2.100"))))
	w.expect(string(WhyOtherServer), w.send(c, c.packet(Request, "", addrOption(ServerIdentifier, "203.0.113.2"), addrOption(RequestedAddress, "192.0.2.100"))))
}

// TestReplyLimit: RFC 2132 §9.10: whatever a client says, it takes a datagram of 576 octets; none gets more than a frame.
func TestReplyLimit(t *testing.T) {
	w := newWorld(t, oneSubnet())
	for size, want := range map[uint16]int{0: 548, 100: 548, 576: 548, 1000: 972, 1500: 1472, 65535: 1472} {
		if out := w.discover(client{mac: 1}, Option{MaximumMessageSize, []byte{byte(size >> 8), byte(size)}}); out.Limit != want {
			t.Errorf("%d: a limit of %d, want %d", size, out.Limit, want)
		}
	}
}
