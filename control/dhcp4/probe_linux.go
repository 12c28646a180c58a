package dhcp4

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const arpSize = 28 // for Ethernet and IPv4: RFC 826

// arp sends an ARP probe and waits for somebody who has the address, or wants it. RFC 5227 §2.1.1: the sender's address is 0.0.0.0, so that
// nobody's cache changes.
func arp(ctx context.Context, q Question) (bool, error) {
	port, err := net.InterfaceByIndex(q.Link.Index)
	if err != nil {
		return false, err
	}
	if len(port.HardwareAddr) != ethernetSize {
		return false, nil // no ARP here
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	file := os.NewFile(uintptr(fd), "arp")
	defer file.Close()
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network(unix.ETH_P_ARP), Ifindex: port.Index}); err != nil {
		return false, err
	}
	defer context.AfterFunc(ctx, func() { file.SetDeadline(time.Unix(1, 0)) })()
	if err := file.SetDeadline(deadline(ctx)); err != nil {
		return false, err
	}
	everybody := &unix.SockaddrLinklayer{Protocol: network(unix.ETH_P_ARP), Ifindex: port.Index, Halen: ethernetSize, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	if err := unix.Sendto(fd, arpProbe(port.HardwareAddr, q.Addr), 0, everybody); err != nil {
		return false, err
	}
	b := make([]byte, 128)
	for {
		n, err := file.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if has, ok := arpSender(b[:n], q.Addr); ok && !bytes.Equal(has, q.Hardware) && !bytes.Equal(has, port.HardwareAddr) {
			return true, nil
		}
	}
}

// arpProbe asks who has an address. RFC 826, "Packet format".
func arpProbe(from net.HardwareAddr, a netip.Addr) []byte {
	b := make([]byte, 0, arpSize)
	b = append(b, 0, ethernet, 8, 0, ethernetSize, 4, 0, 1)
	b = append(append(b, from...), 0, 0, 0, 0)
	return appendAddr(append(b, make([]byte, ethernetSize)...), a)
}

// arpReply says who has an address, to nobody who asked. RFC 826; RFC 2131 §4.4.1.
func arpReply(from net.HardwareAddr, a netip.Addr) []byte {
	b := make([]byte, 0, arpSize)
	b = append(b, 0, ethernet, 8, 0, ethernetSize, 4, 0, 2)
	b = appendAddr(append(b, from...), a)
	return appendAddr(append(b, 255, 255, 255, 255, 255, 255), a)
}

// arpSender returns the hardware address of a packet's sender if its protocol address is a, or if it probes for a itself: RFC 5227 §2.1.1.
func arpSender(b []byte, a netip.Addr) ([]byte, bool) {
	if len(b) < arpSize || !bytes.Equal(b[:6], []byte{0, ethernet, 8, 0, ethernetSize, 4}) {
		return nil, false
	}
	sender, target := addr4(b[14:]), addr4(b[24:])
	return b[8:14], sender == a || sender.IsUnspecified() && target == a
}

// network is a protocol number as AF_PACKET wants it: in network byte order.
func network(protocol uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(protocol >> 8), byte(protocol)})
}
