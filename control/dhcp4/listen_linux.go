package dhcp4

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	receiveBuffer = 4 << 20 // octets the kernel keeps while we are busy; it may allow less
	linksLast     = 2 * time.Second
	pktinfoSize   = 12  // struct in_pktinfo
	maxBatch      = 128 // packets that are read at once
	maxFailed     = 100 // reads in a row that fail before it is no passing error
)

// sockets are port 67 and a way past ARP.
type sockets struct {
	udp      *net.UDPConn
	batches  *ipv4.PacketConn // it, to read many packets at once
	messages []ipv4.Message   // the memory of a batch
	received []Received       // and what it is made of
	packet   int              // AF_PACKET; it receives nothing
	names    []string

	read time.Time // when links and own were looked up

	mu    sync.Mutex
	links map[int]*Link // the interfaces that are served, by index
	own   map[netip.Addr]bool
}

// Listen opens port 67 for the named interfaces; packets on others are ignored. Without names, as a relay agent needs it, it is for all. It needs CAP_NET_BIND_SERVICE and CAP_NET_RAW.
func Listen(interfaces []string) (Wire, error) {
	s := &sockets{names: interfaces, packet: -1, messages: make([]ipv4.Message, maxBatch), received: make([]Received, 0, maxBatch)}
	for i := range s.messages {
		s.messages[i].Buffers, s.messages[i].OOB = [][]byte{make([]byte, MaxSize+1)}, make([]byte, 128) // one octet more tells what is too long
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return cmp.Or(raw.Control(func(fd uintptr) {
			err = cmp.Or(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), // a relay or another server on other interfaces
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1),
			)
			if len(interfaces) == 1 && err == nil {
				err = unix.BindToDevice(int(fd), interfaces[0])
			}
		}), err)
	}}
	conn, err := config.ListenPacket(context.Background(), "udp4", fmt.Sprintf(":%d", ServerPort))
	if err != nil {
		return nil, fmt.Errorf("dhcp4: %w", err)
	}
	s.udp, s.batches = conn.(*net.UDPConn), ipv4.NewPacketConn(conn)
	if err := s.udp.SetReadBuffer(receiveBuffer); err != nil {
		s.udp.Close()
		return nil, fmt.Errorf("dhcp4: %w", err)
	}
	if s.packet, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		s.udp.Close()
		return nil, fmt.Errorf("dhcp4: AF_PACKET: %w", err)
	}
	if err := s.look(time.Now()); err != nil {
		s.Close()
		return nil, fmt.Errorf("dhcp4: %w", err)
	}
	return s, nil
}

// Close ends Receive.
func (s *sockets) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.packet >= 0 {
		unix.Close(s.packet)
		s.packet = -1
	}
	return s.udp.Close()
}

// Receive reads the packets of interfaces that are served.
func (s *sockets) Receive() ([]Received, error) {
	for failed := 0; ; {
		n, err := s.batches.ReadBatch(s.messages, 0)
		if errors.Is(err, net.ErrClosed) || err != nil && failed == maxFailed {
			return nil, err
		}
		if err != nil {
			failed++ // an ICMP error about what was sent before
			continue
		}
		failed = 0
		if s.sort(s.messages[:n]); len(s.received) > 0 {
			return s.received, nil
		}
	}
}

// sort makes s.received of what was read.
func (s *sockets) sort(all []ipv4.Message) {
	s.refresh()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = s.received[:0]
	own := s.isOwn
	for i := range all {
		m := &all[i]
		index, to, ok := pktinfo(m.OOB[:m.NN])
		link := s.links[index]
		if !ok || link == nil {
			continue
		}
		raw := m.Buffers[0][:m.N]
		relayed := len(raw) >= fixedSize && given(addr4(raw[24:]))
		from := m.Addr.(*net.UDPAddr).AddrPort().Addr().Unmap()
		s.received = append(s.received, Received{raw, Arrival{Link: link, Direct: s.own[to] && !relayed, Source: from, Own: own}})
	}
}

// pktinfo reads the interface and the destination of a datagram out of its control message: ip(7), IP_PKTINFO.
func pktinfo(oob []byte) (index int, to netip.Addr, ok bool) {
	header := unix.CmsgLen(0)
	if len(oob) < header+pktinfoSize {
		return 0, netip.Addr{}, false
	}
	level, kind := binary.NativeEndian.Uint32(oob[header-8:]), binary.NativeEndian.Uint32(oob[header-4:])
	if level != unix.IPPROTO_IP || kind != unix.IP_PKTINFO {
		return 0, netip.Addr{}, false
	}
	data := oob[header:]
	return int(binary.NativeEndian.Uint32(data)), addr4(data[8:]), true
}

func (s *sockets) isOwn(a netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own[a]
}

// refresh looks at the interfaces when that was long ago.
func (s *sockets) refresh() {
	if now := time.Now(); now.Sub(s.read) > linksLast {
		s.look(now) // what is known stays when this fails
	}
}

// look finds out which interfaces there are and which addresses they have.
func (s *sockets) look(now time.Time) error {
	all, err := net.Interfaces()
	if err != nil {
		return err
	}
	links, own := map[int]*Link{}, map[netip.Addr]bool{}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue // gone meanwhile
		}
		link := &Link{Name: i.Name, Index: i.Index}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && p.Addr().Is4() {
				link.Addrs = append(link.Addrs, p)
				own[p.Addr()] = true
			}
		}
		if len(s.names) == 0 || slices.Contains(s.names, i.Name) {
			links[i.Index] = link
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links, s.own, s.read = links, own, now
	return nil
}

// Send sends a reply where the machine said. RFC 2131 §4.1.
func (s *sockets) Send(b []byte, to Destination) error {
	if to.Hardware {
		return s.sendPast(b, to)
	}
	info := make([]byte, unix.CmsgSpace(pktinfoSize))
	header := unix.CmsgLen(0)
	putCmsgLen(info, unix.CmsgLen(pktinfoSize))
	binary.NativeEndian.PutUint32(info[header-8:], unix.IPPROTO_IP)
	binary.NativeEndian.PutUint32(info[header-4:], unix.IP_PKTINFO)
	if to.AddrPort.Addr() == limited {
		binary.NativeEndian.PutUint32(info[header:], uint32(to.Link.Index))
	}
	source := to.Source.As4()
	copy(info[header+4:], source[:])
	_, _, err := s.udp.WriteMsgUDPAddrPort(b, info, to.AddrPort)
	return err
}

// putCmsgLen writes the length of a control message, which is as long as a pointer.
func putCmsgLen(info []byte, n int) {
	if unix.CmsgLen(0) == 16 {
		binary.NativeEndian.PutUint64(info, uint64(n))
		return
	}
	binary.NativeEndian.PutUint32(info, uint32(n))
}

// sendPast sends to a client that has its address only when it has read this: its hardware address is known, so nobody is asked by ARP.
func (s *sockets) sendPast(b []byte, to Destination) error {
	hardware := [8]byte{}
	copy(hardware[:ethernetSize], b[28:])
	datagram := appendDatagram(make([]byte, 0, ipSize+udpSize+len(b)), b, netip.AddrPortFrom(to.Source, ServerPort), to.AddrPort)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.packet < 0 {
		return net.ErrClosed
	}
	return unix.Sendto(s.packet, datagram, 0, &unix.SockaddrLinklayer{
		Protocol: network(unix.ETH_P_IP), Ifindex: to.Link.Index, Halen: ethernetSize, Addr: hardware,
	})
}
