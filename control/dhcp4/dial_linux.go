package dhcp4

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"bothy/operational/iface"
)

// clientSocket is port 68 of one interface: a packet socket for what comes before there is an address, and a UDP socket for what goes to one server.
type clientSocket struct {
	port   *net.Interface
	packet *os.File
	raw    syscall.RawConn
	udp    *ipv4.PacketConn
	frame  []byte
	oob    []byte
}

// toClient passes unfragmented UDP to port 68. The packet starts with its IPv4 header.
var toClient = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 9, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 6},
	bpf.LoadAbsolute{Off: 6, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: 4}, // more fragments, or not the first
	bpf.LoadMemShift{Off: 0},
	bpf.LoadIndirect{Off: 2, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: ClientPort, SkipTrue: 1},
	bpf.RetConstant{Val: 1 << 16},
	bpf.RetConstant{Val: 0},
}

// Dial opens port 68 on an interface. It needs CAP_NET_BIND_SERVICE and CAP_NET_RAW.
func Dial(name string) (ClientWire, error) {
	port, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("dhcp4: %s: %w", name, err)
	}
	if len(port.HardwareAddr) != ethernetSize {
		return nil, fmt.Errorf("dhcp4: %s is no Ethernet interface", name)
	}
	s := &clientSocket{port: port, frame: make([]byte, 1<<16), oob: make([]byte, 64)}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		cerr := raw.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.BindToDevice(int(fd), name))
		})
		return errors.Join(cerr, err)
	}}
	udp, err := config.ListenPacket(context.Background(), "udp4", fmt.Sprintf(":%d", ClientPort)) // also keeps the kernel from refusing renewals by ICMP
	if err != nil {
		return nil, fmt.Errorf("dhcp4: %s: %w", name, err)
	}
	s.udp = ipv4.NewPacketConn(udp)
	if err := s.open(); err != nil {
		s.udp.Close()
		return nil, fmt.Errorf("dhcp4: %s: AF_PACKET: %w", name, err)
	}
	return s, nil
}

// open makes the packet socket. The filter is there before the interface, so nothing else is ever read.
func (s *clientSocket) open() error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	s.packet = os.NewFile(uintptr(fd), "dhcp4 client")
	filter, err := bpf.Assemble(toClient)
	if err == nil {
		program := unix.SockFprog{Len: uint16(len(filter)), Filter: (*unix.SockFilter)(unsafe.Pointer(&filter[0]))} // the same four fields
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	}
	if err == nil {
		err = cmp.Or(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network(unix.ETH_P_IP), Ifindex: s.port.Index}),
		)
	}
	if err == nil {
		s.raw, err = s.packet.SyscallConn()
	}
	if err != nil {
		s.packet.Close()
	}
	return err
}

// Hardware is the interface's Ethernet address.
func (s *clientSocket) Hardware() net.HardwareAddr { return s.port.HardwareAddr }

// Receive reads the next packet. One whose checksums are wrong is passed over.
func (s *clientSocket) Receive(b []byte) (int, error) {
	for {
		var n, oobn int
		var from unix.Sockaddr
		var err error
		rerr := s.raw.Read(func(fd uintptr) bool {
			n, oobn, _, from, err = unix.Recvmsg(int(fd), s.frame, s.oob, 0)
			return err != unix.EAGAIN
		})
		if rerr != nil {
			return 0, rerr
		}
		if err != nil { // the interface is down: ENETDOWN, once
			continue
		}
		if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if payload, ok := datagram(s.frame[:n], !unfinished(s.oob[:oobn])); ok {
			return copy(b, payload), nil
		}
	}
}

// unfinished reports whether the kernel says that the checksum of a packet from this very machine is yet to be made: packet(7), TP_STATUS_CSUMNOTREADY.
func unfinished(oob []byte) bool {
	header := unix.CmsgLen(0)
	return len(oob) >= header+4 && binary.NativeEndian.Uint32(oob[header:])&unix.TP_STATUS_CSUMNOTREADY != 0
}

// Send sends by broadcast past the host's routes, which there are none of yet, or to one server along them.
func (s *clientSocket) Send(b []byte, out *Sent) error {
	if out.To.IsValid() {
		_, err := s.udp.WriteTo(b, &ipv4.ControlMessage{Src: out.From.AsSlice(), IfIndex: s.port.Index}, &net.UDPAddr{IP: out.To.AsSlice(), Port: ServerPort})
		return err
	}
	from := netip.IPv4Unspecified()
	if out.From.IsValid() {
		from = out.From
	}
	d := appendDatagram(nil, b, netip.AddrPortFrom(from, ClientPort), netip.AddrPortFrom(limited, ServerPort))
	return s.broadcast(d, unix.ETH_P_IP)
}

// broadcast sends to everybody on the link.
func (s *clientSocket) broadcast(b []byte, protocol uint16) error {
	var err error
	cerr := s.raw.Control(func(fd uintptr) {
		err = unix.Sendto(int(fd), b, 0, &unix.SockaddrLinklayer{
			Protocol: network(protocol), Ifindex: s.port.Index, Halen: ethernetSize, Addr: [8]byte{255, 255, 255, 255, 255, 255},
		})
	})
	return cmp.Or(cerr, err)
}

// InUse asks by ARP.
func (s *clientSocket) InUse(ctx context.Context, a netip.Addr) (bool, error) {
	return arp(ctx, Question{Addr: a, Link: &Link{Name: s.port.Name, Index: s.port.Index}})
}

// Announce broadcasts an ARP reply: RFC 2131 §4.4.1.
func (s *clientSocket) Announce(a netip.Addr) error {
	return s.broadcast(arpReply(s.port.HardwareAddr, a), unix.ETH_P_ARP)
}

// Carrier looks whether the interface is there, up and connected.
func (s *clientSocket) Carrier() (bool, error) { return iface.Running(s.port) }

// Close ends Receive.
func (s *clientSocket) Close() error { return errors.Join(s.packet.Close(), s.udp.Close()) }
