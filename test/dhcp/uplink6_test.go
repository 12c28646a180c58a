//go:build dhcp

package dhcp

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bothy/control/dhcp6"
	"bothy/test/peer"
)

// uplink6 is our DHCPv6 client.
type uplink6 struct {
	uplink
	lab6 *lab6
	has  []netip.Prefix
}

func (l *lab6) uplink6(prefix bool) *uplink6 {
	l.t.Helper()
	u := &uplink6{lab6: l}
	u.uplink = l.uplink(l.plug6("u", l.srv), snippet(l.t, "dhcp6.md", "/etc/bothy/bothy.toml")+fmt.Sprintf("prefix = %v\n", prefix))
	return u
}

// TestUplink6: RFC 9915 §18.2, RFC 9915 §18.2.12: our client binds, renews, rebinds, asks whether what it has still fits after kill -9 and when its link was away, releases, and
// declines an address that somebody has, at other servers and our own.
func TestUplink6(t *testing.T) {
	for _, s := range servers6 {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			peer.Need(t, s.needs...)
			l := newLab6(t)
			cmd, theirs := s.start(l, false)
			defer func() {
				if t.Failed() {
					t.Log(theirs)
				}
			}()
			u := l.uplink6(s.prefix)
			u.bind()
			if s.renews {
				u.replied(dhcp6.Renew, len(u.wire.heard()))
			}
			if s.rebinds {
				end(t, cmd, kill)
				n := len(u.wire.heard())
				_, theirs = s.start(l, true)
				u.replied(dhcp6.Rebind, n)
			}
			fits := dhcp6.Confirm
			if s.prefix { // RFC 9915 §18.2.12
				fits = dhcp6.Rebind
			}
			u.unplug(fits)
			n := len(u.wire.heard())
			u.dial(true)
			u.replied(fits, n)
			u.link(true, u.address().String())
			u.release()
			u.decline()
			u.wire.mail6(t)
		})
	}
}

// replied waits for a Reply to a message of a type, after the first n, that has what the client has.
func (u *uplink6) replied(asked dhcp6.MessageType, n int) {
	u.t.Helper()
	peer.Eventually(u.t, within, fmt.Sprintf("a Reply to a %v", asked), func() bool {
		_, reply, ok := u.wire.replied6(asked, n)
		if !ok || asked == dhcp6.Confirm {
			return ok
		}
		has := resources6(u.t, reply)
		if u.has == nil {
			u.has = has
		}
		if !slices.Equal(has, u.has) {
			u.t.Errorf("%v: %v instead of %v", asked, has, u.has)
		}
		return true
	})
	if asked != dhcp6.Request && slices.Contains(u.wire.asked6(n), dhcp6.Solicit) {
		u.t.Error("the client began anew")
	}
}

// address is the one that the client has.
func (u *uplink6) address() netip.Addr {
	for _, p := range u.has {
		if p.IsSingleIP() {
			return p.Addr()
		}
	}
	u.t.Fatalf("no address in %v", u.has)
	return netip.Addr{}
}

// bind: the host has the address, the program tells of mail servers and link.
func (u *uplink6) bind() {
	u.t.Helper()
	u.dial(false)
	u.replied(dhcp6.Request, 0)
	u.link(true, u.address().String())
	u.discovers("imap", "2001:db8:1::143", "2001:db8:1::144")
	u.discovers("pop3", "2001:db8:1::110")
	u.discovers("smtp", "2001:db8:1::1")
	u.hasAddress()
	u.sees(u.hooked, `"imap":["2001:db8:1::143","2001:db8:1::144"]`)
}

func (u *uplink6) hasAddress() {
	u.t.Helper()
	peer.Eventually(u.t, within, "the address on eth0", func() bool {
		return u.shows(u.address().String()+"/128", "-6", "addr", "show", "dev", "eth0")
	})
}

// unplug: while the cable is out nothing can be used; then the client asks whether what it has still fits. The host's end is put down and up again, by which
// the kernel forgets the address.
func (u *uplink6) unplug(fits dhcp6.MessageType) {
	u.t.Helper()
	run(u.t, "ip", "-n", u.ns, "link", "set", "eth0", "down")
	u.link(false, "no address")
	n := len(u.wire.heard())
	run(u.t, "ip", "-n", u.ns, "link", "set", "eth0", "up")
	u.replied(fits, n)
	u.link(true, u.address().String())
	u.hasAddress()
}

func (u *uplink6) release() {
	u.t.Helper()
	n := len(u.wire.heard())
	end(u.t, u.ours.cmd, syscall.SIGTERM)
	peer.Eventually(u.t, within, "a Reply to a Release", func() bool {
		_, _, ok := u.wire.replied6(dhcp6.Release, n)
		return ok
	})
	if u.shows(u.address().String(), "-6", "addr", "show", "dev", "eth0") {
		u.t.Error("released, and the address is still there")
	}
}

// decline: somebody has the address that the client is given again.
func (u *uplink6) decline() {
	u.t.Helper()
	squatter := u.lab6.plug6("q", u.srv)
	run(u.t, "ip", "-n", squatter, "addr", "add", u.address().String()+"/64", "dev", "eth0", "nodad")
	n := len(u.wire.heard())
	u.dial(false)
	u.ours.said("somebody else on the link has the address", 1)
	peer.Eventually(u.t, within, "a Reply to a Decline", func() bool {
		_, _, ok := u.wire.replied6(dhcp6.Decline, n)
		return ok
	})
	u.link(true, "2001:db8:1::1")
	u.link(true, "/128 on eth0")
	if u.shows(u.address().String()+"/128", "-6", "addr", "show", "dev", "eth0") {
		u.t.Error("the declined address is still there")
	}
}

// TestReconfigured6: RFC 9915 §18.3.11, §18.2.11: told by the server of a new configuration, the client has it long before its lease calls for a Renew.
func TestReconfigured6(t *testing.T) {
	t.Parallel()
	l := newLab6(t)
	settings := strings.Replace(serving6, `preferred = "20s"`+"\n"+`valid = "5m"`, "reconfigure = true", 1)
	server := l.site("site", l.srv, settings)
	u := l.uplink6(false)
	u.settings += "reconfigure = true\n"
	u.bind()
	content, err := os.ReadFile(server.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(server.config, []byte(strings.Replace(string(content), `"2001:db8:1::143", "2001:db8:1::144"`, `"2001:db8:1::993"`, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	n := len(u.wire.heard())
	if err := server.cmd.Process.Signal(hangup); err != nil {
		t.Fatal(err)
	}
	u.discovers("imap", "2001:db8:1::993")
	u.replied(dhcp6.Renew, n)
}
