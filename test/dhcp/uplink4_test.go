//go:build dhcp

package dhcp

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bothy/control/dhcp4"
	"bothy/test/peer"
)

const asking4 = `[dhcp4_client]
interface = "eth0"
hostname = "light"
vendor_class = "bothy"
check = "600ms"
`

// uplink4 is our DHCPv4 client.
type uplink4 struct {
	uplink
	server server4
	path   path4
	theirs *peer.Output // the server's log
	has    netip.Addr
}

// TestUplink: RFC 2131 §4.4, RFC 2131 §3.2, RFC 2131 §3.7: our client binds, renews, rebinds, reboots after kill -9 and when its link was away, releases and declines,
// against other servers and our own, directly and through relay agents.
func TestUplink(t *testing.T) {
	for _, s := range servers4 {
		for _, p := range paths4 {
			t.Run(s.name+" "+p.name, func(t *testing.T) {
				t.Parallel()
				peer.Need(t, slices.Concat(s.needs, p.needs)...)
				l := newLab(t)
				u := &uplink4{server: s, path: p, theirs: s.start(l)}
				defer func() {
					if t.Failed() {
						t.Log(u.theirs)
					}
				}()
				u.uplink = l.uplink(p.lay(l), asking4)
				u.bind()
				u.extend()
				u.unplug()
				u.reboot()
				u.release()
				if p.name == "direct" { // nobody else is on the link behind a relay agent
					u.decline()
				}
			})
		}
	}
}

// acked waits for a DHCPACK to a message of a kind, after the first n.
func (u *uplink4) acked(kind string, n int) {
	u.t.Helper()
	peer.Eventually(u.t, within, "a DHCPACK to a "+kind, func() bool {
		_, ack, ok := u.wire.acked4(kind, n)
		if ok && !u.has.IsValid() {
			u.has = ack.YIAddr
		}
		if ok && ack.YIAddr != u.has {
			u.t.Errorf("%s: %v instead of %v", kind, ack.YIAddr, u.has)
		}
		return ok
	})
	if kind != selecting && slices.Contains(u.wire.asked4(n), dhcp4.Discover.String()) {
		u.t.Error("asked for another address")
	}
}

// bind: the host has address and route, the program tells of mail servers and link.
func (u *uplink4) bind() {
	u.t.Helper()
	u.dial(false)
	u.acked(selecting, 0)
	if !netip.MustParsePrefix(u.path.prefix).Contains(u.has) {
		u.t.Errorf("%v is not in %s", u.has, u.path.prefix)
	}
	u.link(true, u.has.String())
	u.discovers("smtp", "192.0.2.1")
	u.discovers("pop3", "192.0.2.110")
	if !u.shows(u.has.String()+"/24", "addr", "show", "dev", "eth0") || !u.shows("default via "+u.path.gateway+" dev eth0 proto dhcp", "route") {
		u.t.Error("address or route is missing: " + run(u.t, "ip", "-n", u.ns, "-4", "route"))
	}
	u.sees(u.hooked, `"domain":"clinic.example"`)
	u.sees(u.hooked, `"pop3":["192.0.2.110"]`)
}

func (u *uplink4) extend() {
	u.t.Helper()
	u.acked(renewing, len(u.wire.heard()))
	n := len(u.wire.heard())
	unicast(u.t, u.ns, u.path.gateway, false)
	u.acked(rebinding, n)
	unicast(u.t, u.ns, u.path.gateway, true)
	u.link(true, u.has.String())
}

// unplug: while the cable is out nothing can be used; then the client asks whether it may keep what it has.
func (u *uplink4) unplug() {
	u.t.Helper()
	u.cable(u.ns, false)
	u.link(false, "no address")
	n := len(u.wire.heard())
	u.cable(u.ns, true)
	u.acked(initReboot, n)
	u.link(true, u.has.String())
}

func (u *uplink4) reboot() {
	u.t.Helper()
	n := len(u.wire.heard())
	u.dial(true)
	u.acked(initReboot, n)
	u.link(true, u.has.String())
}

func (u *uplink4) release() {
	u.t.Helper()
	end(u.t, u.ours.cmd, syscall.SIGTERM)
	peer.Eventually(u.t, within, "the release", func() bool { return strings.Contains(u.theirs.String(), u.server.released) })
	if u.shows("inet ", "addr", "show", "dev", "eth0") || u.shows("default", "route") {
		u.t.Error("address or route is still there after the release")
	}
}

// decline: somebody has both addresses; when one is free, the client gets it.
func (u *uplink4) decline() {
	u.t.Helper()
	squatter := u.plug("q", u.srv)
	run(u.t, "ip", "-n", squatter, "addr", "add", "192.0.2.100/24", "dev", "eth0")
	run(u.t, "ip", "-n", squatter, "addr", "add", "192.0.2.101/24", "dev", "eth0")
	u.dial(false)
	u.ours.said("is in use by somebody else: declined", 1)
	free := "192.0.2.100"
	if strings.Contains(u.ours.log.String(), "192.0.2.100 is in use") {
		free = "192.0.2.101"
	}
	run(u.t, "ip", "-n", squatter, "addr", "del", free+"/24", "dev", "eth0")
	u.link(true, free)
	if !strings.Contains(u.theirs.String(), u.server.declined) {
		u.t.Error("the server saw no DHCPDECLINE")
	}
}
