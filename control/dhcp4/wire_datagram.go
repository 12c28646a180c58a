package dhcp4

import (
	"encoding/binary"
	"net/netip"
)

// The sizes and numbers of what is below a message.
const (
	ipSize      = 20
	udpSize     = 8
	protocolUDP = 17
)

// appendDatagram appends an IPv4 and UDP datagram. RFC 791 §3.1, RFC 768.
func appendDatagram(d, payload []byte, from, to netip.AddrPort) []byte {
	const ttl = 64
	length := udpSize + len(payload)
	d = append(d, 0x45, 0)
	d = binary.BigEndian.AppendUint16(d, uint16(ipSize+length))
	d = append(d, 0, 0, 0, 0, ttl, protocolUDP, 0, 0)
	d = appendAddr(appendAddr(d, from.Addr()), to.Addr())
	binary.BigEndian.PutUint16(d[10:], checksum(0, d))
	d = binary.BigEndian.AppendUint16(d, from.Port())
	d = binary.BigEndian.AppendUint16(d, to.Port())
	d = binary.BigEndian.AppendUint16(d, uint16(length))
	d = append(append(d, 0, 0), payload...)
	if c := checksum(pseudo(d, length), d[ipSize:]); c != 0 {
		binary.BigEndian.PutUint16(d[ipSize+6:], c)
	} else {
		binary.BigEndian.PutUint16(d[ipSize+6:], 0xffff)
	}
	return d
}

// datagram returns what an IPv4 and UDP datagram carries; false when it is cut short, a fragment, or its checksums are wrong. The checksum of UDP
// counts where it is checked and given: RFC 768.
func datagram(d []byte, check bool) (payload []byte, ok bool) {
	if len(d) < ipSize || d[0]>>4 != 4 || d[9] != protocolUDP {
		return nil, false
	}
	header, whole := int(d[0]&15)*4, int(binary.BigEndian.Uint16(d[2:]))
	switch {
	case header < ipSize || whole < header+udpSize || len(d) < whole: // what is behind is padding of the link
		return nil, false
	case binary.BigEndian.Uint16(d[6:])&0x3fff != 0 || checksum(0, d[:header]) != 0:
		return nil, false
	}
	udp := d[header:whole]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if length < udpSize || length > len(udp) {
		return nil, false
	}
	if check && binary.BigEndian.Uint16(udp[6:]) != 0 && checksum(pseudo(d, length), udp[:length]) != 0 {
		return nil, false
	}
	return udp[udpSize:length], true
}

// pseudo is the sum of the pseudo header of RFC 768.
func pseudo(d []byte, length int) uint32 {
	sum := uint32(protocolUDP + length)
	for i := 12; i < ipSize; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(d[i:]))
	}
	return sum
}
