package iface

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Interface is one interface of this host, by name; it is looked up anew each time, for interfaces come and go.
type Interface string

// routeProtocol marks our routes: RTPROT_DHCP of rtnetlink(7).
const routeProtocol = unix.RTPROT_DHCP

// SetAddress gives the interface an address, or new lifetimes for one it has. A lifetime of a year and more is for ever.
func (i Interface) SetAddress(p netip.Prefix, preferred, valid time.Duration) error {
	link, err := netlink.LinkByName(string(i))
	if err != nil {
		return fmt.Errorf("%s: %w", i, err)
	}
	a := &netlink.Addr{IPNet: ipNet(p), PreferedLft: lifetime(preferred), ValidLft: lifetime(valid)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NOPREFIXROUTE // RFC 9915 §18.2.10.1: an address says nothing of who else is on the link
	}
	if err := netlink.AddrReplace(link, a); err != nil {
		return fmt.Errorf("%s: address %v: %w", i, p, err)
	}
	return nil
}

// RemoveAddress takes it away; one that is gone already is no error.
func (i Interface) RemoveAddress(p netip.Prefix) error {
	link, err := netlink.LinkByName(string(i))
	if err != nil {
		return fmt.Errorf("%s: %w", i, err)
	}
	err = netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(p)})
	if err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
		return fmt.Errorf("%s: address %v: %w", i, p, err)
	}
	return nil
}

// Check reports whether the kernel's duplicate address detection for an IPv6 address is over, and whether somebody else has it
// (RFC 4862 §5.4).
func (i Interface) Check(a netip.Addr) (done, duplicate bool, err error) {
	link, err := netlink.LinkByName(string(i))
	if err != nil {
		return false, false, fmt.Errorf("%s: %w", i, err)
	}
	all, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return false, false, fmt.Errorf("%s: %w", i, err)
	}
	for _, have := range all {
		if ip, ok := netip.AddrFromSlice(have.IP); ok && ip == a {
			return have.Flags&unix.IFA_F_TENTATIVE == 0 || have.Flags&unix.IFA_F_DADFAILED != 0, have.Flags&unix.IFA_F_DADFAILED != 0, nil
		}
	}
	return true, link.Attrs().OperState == netlink.OperUp, nil // the kernel removes one with a lifetime whose detection failed; and all of them when a link goes down
}

// SetRoute leads a destination through the interface, by way of a router unless via is the zero Addr.
func (i Interface) SetRoute(to netip.Prefix, via netip.Addr, metric int) error {
	return i.route(to, via, metric, netlink.RouteReplace)
}

// RemoveRoute takes it away; one that is gone already is no error.
func (i Interface) RemoveRoute(to netip.Prefix, via netip.Addr, metric int) error {
	err := i.route(to, via, metric, netlink.RouteDel)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

func (i Interface) route(to netip.Prefix, via netip.Addr, metric int, change func(*netlink.Route) error) error {
	link, err := netlink.LinkByName(string(i))
	if err != nil {
		return fmt.Errorf("%s: %w", i, err)
	}
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to), Priority: metric, Protocol: routeProtocol, Scope: netlink.SCOPE_UNIVERSE}
	if via.IsValid() {
		r.Gw = via.AsSlice()
	} else if to.Addr().Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	if err := change(r); err != nil {
		return fmt.Errorf("%s: route to %v: %w", i, to, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// lifetime is in seconds; 0 would be for ever to the library.
func lifetime(d time.Duration) int {
	if d >= 365*24*time.Hour {
		return 1<<32 - 1
	}
	return max(int(d/time.Second), 1)
}
