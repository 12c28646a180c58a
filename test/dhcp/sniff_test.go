//go:build dhcp

package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"bothy/control/dhcp4"
	"bothy/control/dhcp6"
)

// sniffer hears the DHCP messages that pass an interface, both ways.
type sniffer struct {
	mu  sync.Mutex
	all []heard
}

// heard is one of them.
type heard struct {
	sent     bool // by the host whose interface it is
	from, to netip.AddrPort
	payload  []byte
}

// sniff listens on an interface of a namespace until the test ends.
func sniff(t *testing.T, ns, name string) *sniffer {
	t.Helper()
	var fd int
	inside(t, ns, func() error {
		port, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		fd, err = packetSocket(port.Index)
		return err
	})
	file := os.NewFile(uintptr(fd), "sniffer on "+name)
	raw, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	s, done := &sniffer{}, make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1<<16)
		for s.read(raw, b) {
		}
	}()
	t.Cleanup(func() {
		file.Close()
		<-done
		if t.Failed() {
			t.Logf("on %s of %s passed:\n%s", name, ns, s)
		}
	})
	return s
}

// packetSocket hears, and sends, all of one interface, without link headers.
func packetSocket(index int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: index}); err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// inside does something in a network namespace; sockets opened there stay there.
func inside(t *testing.T, ns string, do func() error) {
	t.Helper()
	failed := make(chan error)
	go func() {
		failed <- func() error {
			runtime.LockOSThread()
			own, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			defer own.Close()
			other, err := os.Open("/run/netns/" + ns)
			if err != nil {
				return err
			}
			defer other.Close()
			if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			done := do()
			if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
				return err // and the thread, still locked, ends with this goroutine
			}
			runtime.UnlockOSThread()
			return done
		}()
	}()
	if err := <-failed; err != nil {
		t.Fatalf("in namespace %s: %v", ns, err)
	}
}

// read takes the next packet; false is the end.
func (s *sniffer) read(raw interface {
	Read(func(fd uintptr) bool) error
}, b []byte,
) bool {
	var n int
	var from unix.Sockaddr
	var err error
	if raw.Read(func(fd uintptr) bool {
		n, from, err = unix.Recvfrom(int(fd), b, 0)
		return err != unix.EAGAIN
	}) != nil {
		return false
	}
	if err != nil { // the interface is down: ENETDOWN, once
		return true
	}
	l, ok := from.(*unix.SockaddrLinklayer)
	if h, dhcp := datagram(b[:n]); ok && dhcp {
		h.sent = l.Pkttype == unix.PACKET_OUTGOING
		s.mu.Lock()
		s.all = append(s.all, h)
		s.mu.Unlock()
	}
	return true
}

// datagram reads a message of DHCP out of an IP packet.
func datagram(b []byte) (h heard, ok bool) {
	var from, to netip.Addr
	switch {
	case len(b) >= 20 && b[0]>>4 == 4 && b[9] == unix.IPPROTO_UDP && binary.BigEndian.Uint16(b[6:])&0x3fff == 0:
		from, to = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		b = b[min(int(b[0]&15)*4, len(b)):min(int(binary.BigEndian.Uint16(b[2:])), len(b))]
	case len(b) >= 40 && b[0]>>4 == 6 && b[6] == unix.IPPROTO_UDP:
		from, to = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		b = b[40:]
	default:
		return h, false
	}
	if len(b) < 8 {
		return h, false
	}
	h.from, h.to = netip.AddrPortFrom(from, binary.BigEndian.Uint16(b)), netip.AddrPortFrom(to, binary.BigEndian.Uint16(b[2:]))
	h.payload = slices.Clone(b[8:])
	return h, slices.Contains([]uint16{dhcp4.ServerPort, dhcp4.ClientPort, dhcp6.ServerPort, dhcp6.ClientPort}, h.to.Port())
}

// heard is everything so far.
func (s *sniffer) heard() []heard {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

func (s *sniffer) String() (text string) {
	for _, h := range s.heard() {
		text += h.String() + "\n"
	}
	return text
}

func (h heard) String() string {
	way := "<"
	if h.sent {
		way = ">"
	}
	var p dhcp4.Packet
	var m dhcp6.Message
	switch {
	case h.from.Addr().Is4() && p.Parse(h.payload) == nil:
		return fmt.Sprintf("%s %v to %v %s xid=%08x ciaddr=%v yiaddr=%v giaddr=%v", way, h.from, h.to, h.kind4(&p), p.XID, p.CIAddr, p.YIAddr, p.GIAddr)
	case h.from.Addr().Is6() && m.Parse(h.payload) == nil:
		return fmt.Sprintf("%s %v to %v %v xid=%06x", way, h.from, h.to, m.Type, m.XID)
	}
	return fmt.Sprintf("%s %v to %v % x", way, h.from, h.to, h.payload)
}

// The kinds of DHCPREQUEST that a client sends, by its state.
const (
	selecting  = "DHCPREQUEST when SELECTING"
	initReboot = "DHCPREQUEST when INIT-REBOOT"
	renewing   = "DHCPREQUEST when RENEWING"
	rebinding  = "DHCPREQUEST when REBINDING"
)

// kind4 is what a message is; of DHCPREQUESTs, in which state: RFC 2131 §4.3.2, table 4.
func (h heard) kind4(p *dhcp4.Packet) string {
	_, server := p.Get(dhcp4.ServerIdentifier)
	_, wanted := p.Get(dhcp4.RequestedAddress)
	switch {
	case p.Type() != dhcp4.Request:
		return p.Type().String()
	case server:
		return selecting
	case wanted:
		return initReboot
	case h.to.Addr() == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return rebinding
	}
	return renewing
}

// asked4 are the kinds of messages that the host sent after the first n, one word each.
func (s *sniffer) asked4(n int) (kinds []string) {
	for _, h := range s.heard()[n:] {
		var p dhcp4.Packet
		if h.sent && p.Parse(h.payload) == nil {
			kinds = append(kinds, h.kind4(&p))
		}
	}
	return kinds
}

// acked4 is the DHCPACK to a message of a kind that the host sent after the first n, and what it answers; false while there is none.
func (s *sniffer) acked4(kind string, n int) (asked, ack *dhcp4.Packet, ok bool) {
	xids := map[uint32]*dhcp4.Packet{}
	for _, h := range s.heard()[n:] {
		p := new(dhcp4.Packet)
		switch {
		case p.Parse(h.payload) != nil:
		case h.sent && h.kind4(p) == kind:
			xids[p.XID] = p
		case !h.sent && p.Type() == dhcp4.Ack && xids[p.XID] != nil:
			return xids[p.XID], p, true
		}
	}
	return nil, nil, false
}
