//go:build dhcp

package dhcp

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/control/dhcp6"
	"bothy/control/ra"
	"bothy/test/peer"
)

const (
	hangup = syscall.SIGHUP
	kill   = syscall.SIGKILL
)

const dhclientMail = `option dhcp6.imap-servers code 65001 = array of ip6-address;
option dhcp6.pop3-servers code 65002 = array of ip6-address;
option dhcp6.smtp-servers code 65003 = array of ip6-address;
also request dhcp6.imap-servers, dhcp6.pop3-servers, dhcp6.smtp-servers;
`

func (l *lab6) dhclient(ns, config, file string, flags ...string) []string {
	args := []string{"netns", "exec", ns, "dhclient", "-6", "-d", "-cf", l.file(file+".conf", config), "-lf", filepath.Join(l.dir, file+".leases"), "-pf", filepath.Join(l.dir, file+".pid")}
	return append(args, flags...)
}

// seesMail waits until a hook was told of all three lists.
func (l *lab6) seesMail(file, prefix, smtp string) {
	l.t.Helper()
	for _, what := range []string{"imap_servers=2001:db8:1::143 2001:db8:1::144", "pop3_servers=" + smtp, "smtp_servers=" + smtp} {
		l.sees(file, prefix+what)
	}
}

// All of a lease's life with dhclient; the draft's options come where they are asked for, and nowhere else (the draft, §7).
func TestDhclient6(t *testing.T) {
	t.Parallel()
	peer.Need(t, "dhclient")
	l := newLab6(t)
	l.start6()
	ns := l.plug6("c", l.srv)
	script, file := l.hook6("dhclient6", "$reason", "$new_ip6_address")
	args := l.dhclient(ns, dhclientMail, "dhclient6", "-sf", script, "-N", "-P", "eth0")
	cmd, _ := peer.Start(t, "ip", args...)
	l.said(`"lease bound" prefix=2001:db8:1::1`, 1)
	l.said(`"lease bound" prefix=2001:db8:100:`, 1)
	l.said("came Solicit asks=3", 1)
	l.said("went Advertise asks=0 mail=3", 1)
	l.said("went Reply asks=0 mail=3", 1)
	l.sees(file, "event=BOUND6")
	l.seesMail(file, "new_dhcp6_", "2001:db8:1::1")
	l.said("came Renew asks=3", 1)
	l.said(`"lease renewed" prefix=2001:db8:1::1`, 1)
	l.sees(file, "event=RENEW6")
	l.another()
	l.said("came Rebind asks=3", 1)
	l.said(`"lease renewed" prefix=2001:db8:1::1`, 1)
	l.seesTimes(file, "event=REBIND6", 1)
	end(t, cmd, kill)
	plain := l.plug6("p", l.srv) // who asks for nothing is told nothing
	script2, file2 := l.hook6("plain", "$reason", "$new_ip6_address")
	mailed := strings.Count(l.log.String(), "mail=3")
	peer.Start(t, "ip", l.dhclient(plain, "", "plain", "-sf", script2, "eth0")...)
	l.sees(file2, "event=BOUND6")
	if n := strings.Count(l.log.String(), "mail=3"); n != mailed || !strings.Contains(l.log.String(), "came Solicit asks=0") {
		t.Errorf("mail servers sent unasked\n%s", l.log)
	}
	args = l.dhclient(ns, dhclientMail, "dhclient6", "-sf", script, "-r", "-N", "-P", "eth0")
	run(t, "ip", append(args[:4:4], args[4:]...)...)
	l.said(`"lease released" prefix=2001:db8:1::1`, 1)
	if strings.Contains(l.log.String(), "went Reply asks=0 mail=1") {
		t.Error("one list alone")
	}
}

// RFC 9915 §18.2.3: dhclient asks whether its lease still fits the link, with an Option Request that is ignored there (the draft, §7).
func TestDhclient6Confirm(t *testing.T) {
	t.Parallel()
	peer.Need(t, "dhclient")
	l := newLab6(t)
	l.cfg6.Config.Preferred, l.cfg6.Config.Valid = time.Hour, time.Hour
	l.start6()
	ns := l.plug6("c", l.srv)
	script, file := l.hook6("confirm", "$reason", "$new_ip6_address")
	args := l.dhclient(ns, dhclientMail, "confirm", "-sf", script, "eth0")
	cmd, _ := peer.Start(t, "ip", args...)
	l.sees(file, "event=BOUND6")
	end(t, cmd, kill)
	peer.Start(t, "ip", args...)
	l.said("came Confirm asks=3", 1)
	l.said("went Reply asks=0 mail=0", 1)
}

// RFC 9915 §6.1: without a lease.
func TestDhclient6Stateless(t *testing.T) {
	t.Parallel()
	peer.Need(t, "dhclient")
	l := newLab6(t)
	l.start6()
	ns := l.plug6("c", l.srv)
	script, file := l.hook6("stateless", "$reason", "")
	peer.Start(t, "ip", l.dhclient(ns, dhclientMail, "stateless", "-sf", script, "-S", "eth0")...)
	l.said("came Information-request asks=3", 1)
	l.said("went Reply asks=0 mail=3", 1)
	l.seesMail(file, "new_dhcp6_", "2001:db8:1::1")
}

const dhcpcdMail = `ipv6only
noipv6rs
nodhcp
duid
define6 65001 array ip6address imap_servers
define6 65002 array ip6address pop3_servers
define6 65003 array ip6address smtp_servers
option dhcp6_imap_servers, dhcp6_pop3_servers, dhcp6_smtp_servers
`

func TestDhcpcd6(t *testing.T) {
	t.Parallel()
	peer.Need(t, "dhcpcd", "unshare")
	for _, c := range []struct{ name, config, said string }{
		{"ia_na", "ia_na 1\n", `"lease bound" prefix=2001:db8:1::1`},
		{"ia_pd", "ia_pd 1\n", `"lease bound" prefix=2001:db8:100:`},
		{"inform6", "inform6\n", "came Information-request asks=3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab6(t)
			l.start6()
			ns := l.plug6("c", l.srv)
			script, file := l.hook6("dhcpcd6", "$reason", "")
			config := l.file("dhcpcd.conf", dhcpcdMail+c.config)
			start := fmt.Sprintf("mkdir -p /var/lib/dhcpcd /run/dhcpcd && mount -t tmpfs none /var/lib/dhcpcd && mount -t tmpfs none /run && exec dhcpcd -6 -B -d -t 0 -f %s -c %s eth0", config, script)
			peer.Start(t, "ip", "netns", "exec", ns, "unshare", "-m", "sh", "-c", start)
			l.said(c.said, 1)
			l.seesMail(file, "new_dhcp6_", "2001:db8:1::1")
			if c.name != "inform6" {
				l.said(strings.Replace(c.said, "bound", "renewed", 1), 1)
			}
		})
	}
}

// Its DHCPv6 client starts because of our M flag (RFC 4861 §4.2), and the kernel takes us for its router.
func TestNetworkd6(t *testing.T) {
	t.Parallel()
	const networkd = "/lib/systemd/systemd-networkd"
	peer.Need(t, networkd, "unshare")
	l := newLab6(t)
	run(t, "ip", "netns", "exec", l.srv, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
	l.cfg6.Router = []ra.LinkConfig{{Interface: "br0", Managed: true, MaxInterval: 4 * time.Second, Preference: "high", HopLimit: 61, Prefixes: []ra.PrefixConfig{
		{Prefix: netip.MustParsePrefix("2001:db8:1::/64"), OnLink: true, Autonomous: true, Valid: time.Hour, Preferred: time.Hour},
	}}}
	l.start6()
	ns := l.plug6("c", l.srv)
	config := "[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv6\\nIPv6AcceptRA=yes\\n"
	start := "mount -t tmpfs none /run && mount -o remount,ro /sys && mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp /run/dbus" +
		" && chown -R systemd-network: /run/systemd/netif && printf '" + config + "' > /run/systemd/network/10-eth0.network && exec " + networkd
	peer.Start(t, "ip", "netns", "exec", ns, "unshare", "-m", "sh", "-c", start)
	l.said(`"lease bound" prefix=2001:db8:1::1`, 1)
	l.said(`"lease renewed" prefix=2001:db8:1::1`, 1)

	host := l.plug6("h", l.srv) // the kernel alone
	peer.Eventually(t, 30*time.Second, "a default route and an address by autoconfiguration", func() bool {
		return strings.Contains(run(t, "ip", "-n", host, "-6", "route", "show", "default"), "proto ra") &&
			strings.Contains(run(t, "ip", "-n", host, "-6", "addr", "show", "dev", "eth0"), "2001:db8:1:")
	})
	route := run(t, "ip", "-n", host, "-6", "route", "show", "default")
	if !strings.Contains(route, "pref high") || !strings.Contains(route, "hoplimit 61") {
		t.Errorf("%s", route)
	}
	end(t, l.cmd, syscall.SIGINT) // RFC 4861 §6.2.5
	peer.Eventually(t, 20*time.Second, "no default route any more", func() bool {
		return !strings.Contains(run(t, "ip", "-n", host, "-6", "route", "show", "default"), "via")
	})
}

// Through a relay agent, which says where the client is: RFC 9915 §19.
func TestRelay6(t *testing.T) {
	t.Parallel()
	peer.Need(t, "dhclient", "dhcrelay")
	l := newLab6(t)
	l.cfg6.Config.Subnets = append(l.cfg6.Config.Subnets, dhcp6.SubnetConfig{
		Prefix: netip.MustParsePrefix("2001:db8:2::/64"),
		Pools:  []dhcp6.PoolConfig{{First: netip.MustParseAddr("2001:db8:2::100"), Last: netip.MustParseAddr("2001:db8:2::1ff")}},
	})
	relay := l.plug6("r", l.srv)
	run(t, "ip", "-n", relay, "addr", "add", "2001:db8:1::2/64", "dev", "eth0", "nodad")
	ns := l.plug("c", relay)
	port := ""
	for _, word := range strings.Fields(run(t, "ip", "-n", relay, "-o", "link", "show", "type", "veth")) {
		if name, _, ok := strings.Cut(word, "@"); ok && name != "eth0" {
			port = name
		}
	}
	run(t, "ip", "-n", relay, "addr", "add", "2001:db8:2::1/64", "dev", port, "nodad")
	l.settled(ns, "eth0")
	l.settled(relay, port)
	l.start6()
	peer.Start(t, "ip", "netns", "exec", relay, "dhcrelay", "-6", "-d", "-I", "-l", port, "-u", "2001:db8:1::1%eth0", "-pf", filepath.Join(l.dir, "relay.pid"))
	script, file := l.hook6("relayed", "$reason", "$new_ip6_address")
	peer.Start(t, "ip", l.dhclient(ns, dhclientMail, "relayed", "-sf", script, "eth0")...)
	l.said("came Solicit asks=3 mail=0 relayed=1", 1)
	l.said(`"lease bound" prefix=2001:db8:2::1`, 1)
	l.said("mail=3 relayed=1", 2)
	l.sees(file, "event=BOUND6")
	l.seesMail(file, "new_dhcp6_", "2001:db8:1::1")
	l.said(`"lease renewed" prefix=2001:db8:2::1`, 1)
}
