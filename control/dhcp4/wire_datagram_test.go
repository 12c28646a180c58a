package dhcp4

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
)

func TestDatagramRead(t *testing.T) {
	from, to := netip.MustParseAddrPort("192.0.2.1:67"), netip.MustParseAddrPort("255.255.255.255:68")
	for _, payload := range [][]byte{{}, {1}, bytes.Repeat([]byte{7}, 301), bytes.Repeat([]byte{255}, MaxSize)} {
		d := appendDatagram(nil, payload, from, to)
		got, ok := datagram(append(slices.Clone(d), 0, 0, 0), true) // a link pads
		if !ok || !bytes.Equal(got, payload) {
			t.Errorf("%d octets became %d, %v", len(payload), len(got), ok)
		}
		for n := range d {
			if _, ok := datagram(d[:n], true); ok {
				t.Errorf("%d of %d octets were read", n, len(d))
			}
		}
		for i := range min(len(d), ipSize+udpSize) { // checksums cover all
			bad := slices.Clone(d)
			bad[i] ^= 0x10
			if got, ok := datagram(bad, true); ok {
				t.Errorf("octet %d is wrong: %x", i, got)
			}
		}
	}
	d := appendDatagram(nil, []byte{1, 2}, from, to)
	d[ipSize+6]++
	if _, ok := datagram(d, false); !ok { // from this machine: the checksum is made later
		t.Error("refused though the checksum does not count")
	}
	d[ipSize+6], d[ipSize+7] = 0, 0
	if _, ok := datagram(d, true); !ok { // RFC 768: no checksum was made
		t.Error("refused though there is no checksum")
	}
}

func FuzzDatagram(f *testing.F) {
	f.Add(appendDatagram(nil, []byte("hello"), netip.MustParseAddrPort("192.0.2.1:67"), netip.MustParseAddrPort("255.255.255.255:68")), true)
	f.Fuzz(func(t *testing.T, d []byte, check bool) {
		if payload, ok := datagram(d, check); ok && len(payload) > len(d)-ipSize-udpSize {
			t.Errorf("%d octets of %d", len(payload), len(d))
		}
	})
}
