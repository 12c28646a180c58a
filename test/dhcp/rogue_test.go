//go:build dhcp

package dhcp

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"bothy/control/dhcp4"
	"bothy/control/dhcp6"
	"bothy/test/peer"
)

// rogue answers each message that comes to a port of a namespace's eth0 as it is told: first with forgeries, then with the true answer, so that the forgeries
// come in time, always.
func (l *lab) rogue(ns, network, address string, group net.IP, answers func(datagram []byte) [][]byte, to func(from net.Addr) net.Addr) {
	l.t.Helper()
	var conn net.PacketConn
	inside(l.t, ns, func() error {
		port, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
			cerr := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), "eth0") })
			return errors.Join(cerr, err)
		}}
		conn, err = config.ListenPacket(context.Background(), network, address)
		if err == nil && group != nil {
			err = ipv6.NewPacketConn(conn).JoinGroup(port, &net.UDPAddr{IP: group})
		}
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			for _, a := range answers(b[:n]) {
				conn.WriteTo(a, to(from))
			}
		}
	}()
	l.t.Cleanup(func() {
		conn.Close()
		<-done
	})
}

// forged4 are the answers of a server with 192.0.2.66, the true one last. The others give 192.0.2.200 and the mail server 192.0.2.25.
func forged4(b []byte) (answers [][]byte) {
	var in dhcp4.Packet
	if in.Parse(b) != nil || in.Op != dhcp4.BootRequest {
		return nil
	}
	kind, wrongKind := dhcp4.Offer, dhcp4.Ack
	if in.Type() == dhcp4.Request {
		kind, wrongKind = dhcp4.Ack, dhcp4.Offer
	}
	reply := func(forge func(p *dhcp4.Packet)) {
		p := &dhcp4.Packet{Op: dhcp4.BootReply, HType: in.HType, HLen: in.HLen, XID: in.XID, CHAddr: in.CHAddr, YIAddr: netip.MustParseAddr("192.0.2.200")}
		id, _ := in.Get(dhcp4.ClientIdentifier)
		p.Set(dhcp4.MessageTypeOption, []byte{byte(kind)})
		p.Set(dhcp4.ServerIdentifier, []byte{192, 0, 2, 66})
		p.Set(dhcp4.ClientIdentifier, id)
		p.Set(dhcp4.SubnetMask, []byte{255, 255, 255, 0})
		p.Set(dhcp4.LeaseTime, []byte{0, 0, 14, 16})
		p.Set(dhcp4.SMTPServer, []byte{192, 0, 2, 25})
		forge(p)
		b, _ := p.AppendTo(nil, dhcp4.DefaultSize, false)
		answers = append(answers, b)
	}
	reply(func(p *dhcp4.Packet) { p.XID++ })
	reply(func(p *dhcp4.Packet) { p.CHAddr[5]++ })
	reply(func(p *dhcp4.Packet) { p.Set(dhcp4.ClientIdentifier, []byte("\x00somebody else")) }) // RFC 6842 §3
	reply(func(p *dhcp4.Packet) { p.Set(dhcp4.MessageTypeOption, []byte{byte(wrongKind)}) })
	reply(func(p *dhcp4.Packet) { p.YIAddr = netip.Addr{} })
	if kind == dhcp4.Ack { // from a server that was not asked
		reply(func(p *dhcp4.Packet) { p.Set(dhcp4.ServerIdentifier, []byte{192, 0, 2, 67}) })
		reply(func(p *dhcp4.Packet) {
			p.Set(dhcp4.MessageTypeOption, []byte{byte(dhcp4.Nak)})
			p.Set(dhcp4.ServerIdentifier, []byte{192, 0, 2, 67})
		})
	}
	reply(func(p *dhcp4.Packet) {
		p.YIAddr = netip.MustParseAddr("192.0.2.100")
		p.Set(dhcp4.SMTPServer, []byte{192, 0, 2, 1, 192}) // no list of addresses
		p.Set(dhcp4.POP3Server, []byte{0, 0, 0, 0, 127, 0, 0, 1, 224, 0, 0, 1, 192, 0, 2, 110, 255, 255, 255, 255})
	})
	return answers
}

// TestRogue: RFC 2131 §4.4.1, RFC 6842 §3: what does not answer what our client asked, and whom, counts for nothing; of poisoned lists of mail servers, what could be one is shown.
func TestRogue(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	rogue := l.plug("x", l.srv)
	run(t, "ip", "-n", rogue, "addr", "add", "192.0.2.66/24", "dev", "eth0")
	l.rogue(rogue, "udp4", ":67", nil, forged4, func(net.Addr) net.Addr { return &net.UDPAddr{IP: net.IPv4bcast, Port: dhcp4.ClientPort} })
	u := &uplink4{uplink: l.uplink(l.plug("u", l.srv), asking4)}
	u.dial(false)
	u.link(true, "192.0.2.100")
	u.discovers("pop3", "192.0.2.110")
	u.discovers("smtp")
	if asked := u.wire.asked4(0); !slices.Equal(asked, []string{dhcp4.Discover.String(), selecting}) {
		t.Errorf("the client was led astray: %q", asked)
	}
}

// forged6 are the answers of a server, the true one last. The others give 2001:db8:66::66 and the mail server 2001:db8:66::25.
func forged6(b []byte) (answers [][]byte) {
	var in dhcp6.Message
	if in.Parse(b) != nil {
		return nil
	}
	kind := dhcp6.Reply
	if in.Type == dhcp6.Solicit {
		kind = dhcp6.Advertise
	}
	client, _ := in.Find(dhcp6.ClientID)
	ia, _ := in.Find(dhcp6.IANonTemporary)
	honest, other := []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 1}, []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 0x66}
	option := func(b []byte, code dhcp6.Code, value []byte) []byte {
		b = binary.BigEndian.AppendUint16(b, uint16(code))
		b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
		return append(b, value...)
	}
	list := func(texts ...string) (b []byte) {
		for _, text := range texts {
			b = append(b, netip.MustParseAddr(text).AsSlice()...)
		}
		return b
	}
	reply := func(xid uint32, client, server []byte, address string, smtp, pop3 []byte) {
		b := binary.BigEndian.AppendUint32(nil, uint32(kind)<<24|xid)
		if client != nil {
			b = option(b, dhcp6.ClientID, client)
		}
		if server != nil {
			b = option(b, dhcp6.ServerID, server)
		}
		if len(ia) >= 4 {
			inner := append(slices.Clone(ia[:4]), 0, 0, 7, 8, 0, 0, 11, 64) // T1 and T2
			b = option(b, dhcp6.IANonTemporary, option(inner, dhcp6.IAAddress, append(list(address), 0, 0, 14, 16, 0, 0, 14, 16)))
		}
		answers = append(answers, option(option(b, 65003, smtp), 65002, pop3))
	}
	const bad = "2001:db8:66::66"
	lured := list("2001:db8:66::25")
	reply(in.XID^1, client, honest, bad, lured, lured)
	reply(in.XID, other, honest, bad, lured, lured)
	reply(in.XID, nil, honest, bad, lured, lured)
	reply(in.XID, client, nil, bad, lured, lured)
	if in.Type == dhcp6.Request { // from a server that was not asked
		reply(in.XID, client, other, bad, lured, lured)
	}
	reply(in.XID, client, honest, "2001:db8:1::1000", list("2001:db8:1::1")[:15], list("::", "ff02::1", "::ffff:192.0.2.1", "2001:db8:1::110", "::1"))
	return answers
}

// TestRogue6: RFC 9915 §16.3, §16.10, §18.2.10: what does not answer what our client asked, and whom, counts for nothing; a poisoned list of mail servers is ignored, or what
// could be one is shown.
func TestRogue6(t *testing.T) {
	t.Parallel()
	l := newLab6(t)
	l.rogue(l.plug6("x", l.srv), "udp6", "[::]:547", net.ParseIP("ff02::1:2"), forged6, func(from net.Addr) net.Addr { return from })
	u := l.uplink6(false)
	u.dial(false)
	u.link(true, "2001:db8:1::1000")
	u.discovers("pop3", "2001:db8:1::110")
	u.discovers("smtp")
	if asked := u.wire.asked6(0); !slices.Equal(asked, []dhcp6.MessageType{dhcp6.Solicit, dhcp6.Request}) {
		t.Errorf("the client was led astray: %v", asked)
	}
	peer.Eventually(t, within, "the address", func() bool { return u.shows("2001:db8:1::1000/128", "-6", "addr", "show", "dev", "eth0") })
	if u.shows("2001:db8:66:", "-6", "addr") {
		t.Error("a forged address was taken")
	}
}
