package dhcp4

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDatagram(t *testing.T) { // RFC 791 §3.1, RFC 768: what a receiver checks
	for _, payload := range []string{"", "a", "abc", "abcd", string(make([]byte, 300))} {
		d := appendDatagram(nil, []byte(payload), netip.MustParseAddrPort("192.0.2.1:67"), netip.MustParseAddrPort("192.0.2.100:68"))
		pseudo := append(append([]byte{}, d[12:20]...), 0, 17, d[24], d[25])
		if checksum(0, d[:20]) != 0 || checksum(0, append(pseudo, d[20:]...)) != 0 {
			t.Errorf("%d octets: wrong checksum", len(payload))
		}
		if int(binary.BigEndian.Uint16(d[2:])) != len(d) || int(binary.BigEndian.Uint16(d[24:])) != len(payload)+8 || d[9] != 17 {
			t.Errorf("%d octets: %x", len(payload), d[:28])
		}
	}
}

func TestPktinfo(t *testing.T) {
	b := make([]byte, unix.CmsgSpace(pktinfoSize))
	header := unix.CmsgLen(0)
	putCmsgLen(b, unix.CmsgLen(pktinfoSize))
	binary.NativeEndian.PutUint32(b[header-8:], unix.IPPROTO_IP)
	binary.NativeEndian.PutUint32(b[header-4:], unix.IP_PKTINFO)
	binary.NativeEndian.PutUint32(b[header:], 7)
	copy(b[header+8:], []byte{192, 0, 2, 1})
	if index, to, ok := pktinfo(b); !ok || index != 7 || to != netip.MustParseAddr("192.0.2.1") {
		t.Error(index, to, ok)
	}
	if all, err := unix.ParseSocketControlMessage(b); err != nil || len(all) != 1 || len(all[0].Data) < pktinfoSize {
		t.Errorf("%v, %v", all, err)
	}
	for n := range len(b) - 4 {
		if _, _, ok := pktinfo(b[:n]); ok && n < header+pktinfoSize {
			t.Errorf("%d octets were read", n)
		}
	}
}

func TestARP(t *testing.T) { // RFC 826, RFC 5227 §2.1.1
	a, mac := netip.MustParseAddr("192.0.2.100"), []byte{2, 0, 0, 0, 0, 9}
	probe := arpProbe(mac, a)
	if has, ok := arpSender(probe, a); !ok || string(has) != string(mac) {
		t.Error("somebody who probes for the address wants it too")
	}
	answer := append([]byte{}, probe...)
	answer[7] = 2
	copy(answer[14:], a.AsSlice())
	if _, ok := arpSender(answer, a); !ok {
		t.Error("an answer was not understood")
	}
	if _, ok := arpSender(answer, netip.MustParseAddr("192.0.2.101")); ok {
		t.Error("an answer for another address")
	}
	for n := range arpSize {
		if _, ok := arpSender(answer[:n], a); ok {
			t.Errorf("%d octets were read", n)
		}
	}
}
