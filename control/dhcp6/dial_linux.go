package dhcp6

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"bothy/operational/iface"
)

// clientSocket is port 546 of one interface.
type clientSocket struct {
	port *net.Interface
	conn *ipv6.PacketConn
	to   *net.UDPAddr
}

// Dial opens port 546 on an interface. It needs CAP_NET_BIND_SERVICE.
func Dial(name string) (ClientWire, error) {
	port, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("dhcp6: %s: %w", name, err)
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		cerr := raw.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.BindToDevice(int(fd), name))
		})
		return errors.Join(cerr, err)
	}}
	udp, err := config.ListenPacket(context.Background(), "udp6", net.JoinHostPort("::", strconv.Itoa(ClientPort)))
	if err != nil {
		return nil, fmt.Errorf("dhcp6: %s: %w", name, err)
	}
	s := &clientSocket{port, ipv6.NewPacketConn(udp), &net.UDPAddr{IP: allAgents.AsSlice(), Port: ServerPort, Zone: name}}
	if err := s.conn.SetControlMessage(ipv6.FlagDst, true); err != nil {
		s.conn.Close()
		return nil, fmt.Errorf("dhcp6: %s: %w", name, err)
	}
	return s, nil
}

// Receive reads the next datagram that was sent to us alone.
func (s *clientSocket) Receive(b []byte) (int, error) {
	for {
		n, info, _, err := s.conn.ReadFrom(b)
		switch {
		case errors.Is(err, net.ErrClosed):
			return 0, err
		case err == nil && info != nil && !info.Dst.IsMulticast():
			return n, nil
		}
	}
}

// Send sends to the servers and relay agents of the link.
func (s *clientSocket) Send(b []byte) error {
	_, err := s.conn.WriteTo(b, nil, s.to)
	return err
}

// Carrier looks whether the interface is there, up and connected.
func (s *clientSocket) Carrier() (bool, error) { return iface.Running(s.port) }

// Close ends Receive.
func (s *clientSocket) Close() error { return s.conn.Close() }
