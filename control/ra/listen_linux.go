package ra

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// socket hears and sends the messages of routers on one interface.
type socket struct {
	conn *ipv6.PacketConn
	name string
}

// Listen opens an interface. It needs CAP_NET_RAW.
func Listen(name string) (Wire, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		cerr := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), name) })
		return errors.Join(cerr, err)
	}}
	raw, err := config.ListenPacket(context.Background(), "ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, fmt.Errorf("ra: %s: %w", name, err)
	}
	s := &socket{ipv6.NewPacketConn(raw), name}
	if err := s.set(); err != nil {
		raw.Close()
		return nil, fmt.Errorf("ra: %s: %w", name, err)
	}
	return s, nil
}

func (s *socket) set() error {
	i, err := net.InterfaceByName(s.name)
	if err != nil {
		return err
	}
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeRouterSolicitation)
	filter.Accept(ipv6.ICMPTypeRouterAdvertisement)
	return errors.Join(
		s.conn.SetICMPFilter(&filter), s.conn.SetControlMessage(ipv6.FlagHopLimit, true),
		s.conn.SetMulticastHopLimit(hopLimit), s.conn.SetMulticastLoopback(false), s.conn.SetMulticastInterface(i),
		s.conn.JoinGroup(i, &net.UDPAddr{IP: net.IPv6linklocalallrouters}), // RFC 4861 §6.2.2
	)
}

// Receive reads a solicitation or an advertisement.
func (s *socket) Receive(b []byte) (int, netip.Addr, int, error) {
	for {
		n, info, from, err := s.conn.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return 0, netip.Addr{}, 0, err
		}
		if err != nil || info == nil {
			continue
		}
		if a, ok := netip.AddrFromSlice(from.(*net.IPAddr).IP); ok {
			return n, a, info.HopLimit, nil
		}
	}
}

// Send sends from our link-local address (RFC 4861 §4.2).
func (s *socket) Send(b []byte) error {
	i, err := net.InterfaceByName(s.name)
	if err != nil {
		return err
	}
	addrs, err := i.Addrs()
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if own, ok := a.(*net.IPNet); ok && own.IP.To4() == nil && own.IP.IsLinkLocalUnicast() {
			_, err := s.conn.WriteTo(b, &ipv6.ControlMessage{Src: own.IP, IfIndex: i.Index, HopLimit: hopLimit}, &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: s.name})
			return err
		}
	}
	return errors.New("the interface has no link-local address")
}

// Link reads what the interface is like now.
func (s *socket) Link() (hardware []byte, forwarding bool) {
	if i, err := net.InterfaceByName(s.name); err == nil {
		hardware = i.HardwareAddr
	}
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + s.name + "/forwarding")
	return hardware, err == nil && strings.TrimSpace(string(b)) != "0"
}

// Close ends Receive.
func (s *socket) Close() error { return s.conn.Close() }
