package dhcp6

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// The multicast addresses (RFC 9915 §7.1).
var (
	allAgents  = netip.MustParseAddr("ff02::1:2") // All_DHCP_Relay_Agents_and_Servers, on the link
	allServers = netip.MustParseAddr("ff05::1:3") // All_DHCP_Servers, in the site: relay agents use it
)

const (
	receiveBuffer = 4 << 20 // octets the kernel keeps while we are busy; it may allow less
	linksLast     = 2 * time.Second
	maxBatch      = 128 // datagrams that are read at once
	maxFailed     = 100 // reads in a row that fail before it is no passing error
)

// sockets are port 547.
type sockets struct {
	conn     *ipv6.PacketConn
	messages []ipv6.Message // the memory of a batch
	arrived  []Arrival      // and what it is made of
	names    []string

	mu    sync.Mutex
	links map[int]*Link // the interfaces that are served, by index
	read  time.Time     // when links was looked up
}

// Listen opens port 547 for the named interfaces; messages on others are ignored. It needs CAP_NET_BIND_SERVICE.
func Listen(interfaces []string) (Wire, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		cerr := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) // a client or a relay on other interfaces
			if len(interfaces) == 1 && err == nil {
				err = unix.BindToDevice(int(fd), interfaces[0])
			}
		})
		return errors.Join(cerr, err)
	}}
	udp, err := config.ListenPacket(context.Background(), "udp6", net.JoinHostPort("::", strconv.Itoa(ServerPort)))
	if err != nil {
		return nil, fmt.Errorf("dhcp6: %w", err)
	}
	s := &sockets{conn: ipv6.NewPacketConn(udp), messages: make([]ipv6.Message, maxBatch), arrived: make([]Arrival, 0, maxBatch), names: interfaces}
	for i := range s.messages {
		s.messages[i].Buffers, s.messages[i].OOB = [][]byte{make([]byte, MaxSize)}, make([]byte, 128)
	}
	err = errors.Join(udp.(*net.UDPConn).SetReadBuffer(receiveBuffer), s.conn.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true), s.look(time.Now()))
	for _, name := range interfaces {
		i, nerr := net.InterfaceByName(name)
		if nerr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, nerr))
			continue
		}
		for _, group := range []netip.Addr{allAgents, allServers} {
			err = errors.Join(err, s.conn.JoinGroup(i, &net.UDPAddr{IP: group.AsSlice()}))
		}
	}
	if err != nil {
		s.conn.Close()
		return nil, fmt.Errorf("dhcp6: %w", err)
	}
	return s, nil
}

// Close ends Receive.
func (s *sockets) Close() error { return s.conn.Close() }

// Receive reads the datagrams of interfaces that are served.
func (s *sockets) Receive() ([]Arrival, error) {
	for failed := 0; ; {
		n, err := s.conn.ReadBatch(s.messages, 0)
		if errors.Is(err, net.ErrClosed) || err != nil && failed == maxFailed {
			return nil, err
		}
		if err != nil {
			failed++ // an ICMP error about what was sent before
			continue
		}
		failed = 0
		s.arrived = s.arrived[:0]
		for i := range s.messages[:n] {
			m := &s.messages[i]
			var info ipv6.ControlMessage
			if info.Parse(m.OOB[:m.NN]) != nil {
				continue
			}
			if link := s.link(info.IfIndex); link != nil {
				s.arrived = append(s.arrived, Arrival{
					Datagram: m.Buffers[0][:m.N], Link: link, Source: m.Addr.(*net.UDPAddr).AddrPort(), Multicast: info.Dst.IsMulticast(),
				})
			}
		}
		if len(s.arrived) > 0 {
			return s.arrived, nil
		}
	}
}

// Send sends a reply out of the interface the message came in by (RFC 9915 §18.3.10).
func (s *sockets) Send(b []byte, to netip.AddrPort, link *Link) error {
	_, err := s.conn.WriteTo(b, &ipv6.ControlMessage{IfIndex: link.Index}, net.UDPAddrFromAddrPort(to))
	return err
}

// Link returns an interface that is served; nil for others.
func (s *sockets) Link(name string) *Link {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil
	}
	return s.link(i.Index)
}

// link is Link by index.
func (s *sockets) link(index int) *Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.read) > linksLast {
		s.look(now) // what is known stays when this fails
	}
	return s.links[index]
}

// look finds out which interfaces there are and which addresses they have. The caller holds mu, but for the first time.
func (s *sockets) look(now time.Time) error {
	all, err := net.Interfaces()
	if err != nil {
		return err
	}
	links := map[int]*Link{}
	for _, i := range all {
		if !slices.Contains(s.names, i.Name) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // gone meanwhile
		}
		link := &Link{Name: i.Name, Index: i.Index}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() {
				link.Addrs = append(link.Addrs, p)
			}
		}
		links[i.Index] = link
	}
	s.links, s.read = links, now
	return nil
}
