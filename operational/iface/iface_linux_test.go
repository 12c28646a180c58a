package iface

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// An address and a route come and go, on an interface of the test's own.
func TestInterface(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may make interfaces")
	}
	const name = "bothytest0"
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "bothytest1"}
	if err := netlink.LinkAdd(link); errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EPERM) {
		t.Skipf("no virtual interfaces here: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer netlink.LinkDel(link)
	peer, err := netlink.LinkByName("bothytest1")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(netlink.LinkSetUp(link), netlink.LinkSetUp(peer)); err != nil {
		t.Fatal(err)
	}
	i := Interface(name)
	has := func(address string) bool {
		dev, err := net.InterfaceByName(name)
		if err != nil {
			t.Fatal(err)
		}
		all, err := dev.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(all, func(a net.Addr) bool { return a.String() == address })
	}
	for _, p := range []string{"192.0.2.7/24", "2001:db8::7/128"} {
		prefix := netip.MustParsePrefix(p)
		for range 2 { // the second time it has it already
			if err := i.SetAddress(prefix, time.Hour, 2*time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		if !has(p) {
			t.Errorf("%s is not there", p)
		}
	}
	to, via := netip.MustParsePrefix("198.51.100.0/24"), netip.MustParseAddr("192.0.2.1")
	for range 2 {
		if err := i.SetRoute(to, via, 100); err != nil {
			t.Fatal(err)
		}
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
	if err != nil || !slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Gw.String() == via.String() && r.Dst.String() == to.String() }) {
		t.Errorf("%v, %v", routes, err)
	}
	for range 2 {
		if err := i.RemoveRoute(to, via, 100); err != nil {
			t.Error(err)
		}
	}
	if done, duplicate, err := i.Check(netip.MustParseAddr("2001:db8::7")); duplicate || err != nil {
		t.Errorf("%v %v %v", done, duplicate, err)
	}
	for _, p := range []string{"192.0.2.7/24", "2001:db8::7/128"} {
		for range 2 {
			if err := i.RemoveAddress(netip.MustParsePrefix(p)); err != nil {
				t.Error(err)
			}
		}
		if has(p) {
			t.Errorf("%s is still there", p)
		}
	}
	if err := Interface("none0").SetAddress(netip.MustParsePrefix("192.0.2.7/24"), 0, 0); err == nil {
		t.Error("an interface that is not there took an address")
	}
}
