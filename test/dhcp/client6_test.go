//go:build dhcp

package dhcp

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/control/dhcp6"
	"bothy/test/peer"
)

const (
	hangup = syscall.SIGHUP
	kill   = syscall.SIGKILL
)

// clients6 are the DHCPv6 clients that people have, as they use them.
var clients6 = []client6{
	{
		name: "dhclient -6", needs: []string{"dhclient"},
		start: startDhclient6(), stop: kill, told: true,
		reboot: dhcp6.Confirm, release: releaseDhclient6(),
	},
	{
		name: "dhclient -6 -P", needs: []string{"dhclient"},
		start: startDhclient6("-P"), stop: kill, told: true,
		reboot: dhcp6.Rebind, release: releaseDhclient6("-P"),
	},
	{
		name: "dhclient -6 -N -P", needs: []string{"dhclient"},
		start: startDhclient6("-N", "-P"), stop: kill, told: true,
		reboot: dhcp6.Rebind, release: releaseDhclient6("-N", "-P"),
	},
	{
		name: "dhclient -6 -S", needs: []string{"dhclient"}, stateless: true,
		start: startDhclient6("-S"), stop: kill, told: true,
	},
	{
		name: "dhcpcd ia_na", needs: []string{"dhcpcd", "unshare"},
		start: startDhcpcd6("ia_na 1"), stop: syscall.SIGTERM, told: true,
		reboot: dhcp6.Confirm, release: releaseDhcpcd6,
	},
	{
		name: "dhcpcd ia_pd", needs: []string{"dhcpcd", "unshare"},
		start: startDhcpcd6("ia_pd 1"), stop: syscall.SIGTERM, told: true,
		reboot: dhcp6.Rebind, release: releaseDhcpcd6,
	},
	{
		name: "dhcpcd inform6", needs: []string{"dhcpcd", "unshare"}, stateless: true,
		start: startDhcpcd6("inform6"), stop: syscall.SIGTERM, told: true,
	},
	{
		name: "systemd-networkd", needs: []string{networkd, "unshare"}, lazy: true,
		start: func(d *desk6) {
			d.run(d.networkd("[Match]\nName=eth0\n[Network]\nDHCP=ipv6\nIPv6AcceptRA=no\n[DHCPv6]\nWithoutRA=solicit\n")...)
		},
		untold: "it asks for options up to 254 only: TestNetworkd6",
		stop:   syscall.SIGUSR2, reboot: dhcp6.Request, why: "it remembers nothing, solicits, and the server knows it again",
		stays: "it sends no Release",
	},
}

// startDhclient6 starts dhclient -6, for an address unless told otherwise.
func startDhclient6(flags ...string) func(d *desk6) {
	return func(d *desk6) {
		config := d.file("dhclient6.conf", snippet(d.t, "dhcp6.md", "/etc/dhcp/dhclient6.conf"))
		d.run(d.dhclient("-6", append(flags, "-d", "-cf", config, "-sf", d.hook6("$reason", "$new_ip6_address"))...)...)
	}
}

func releaseDhclient6(flags ...string) func(d *desk6) {
	return func(d *desk6) { d.run(d.dhclient("-6", append(flags, "-d", "-r", "-sf", "/bin/true")...)...) }
}

func startDhcpcd6(wish string) func(d *desk6) {
	return func(d *desk6) {
		config := "ipv6only\nnoipv6rs\nnodhcp\nduid\npersistent\n" + snippet(d.t, "dhcp6.md", "/etc/dhcpcd.conf") + wish + "\n"
		d.run(d.dhcpcd("-6", config, d.hook6("$reason", ""))...)
	}
}

func releaseDhcpcd6(d *desk6) { d.cmd.Process.Signal(syscall.SIGALRM) }

// RFC 9915 §18.3: who asks for no mail servers is told of none, whatever it asks else (the draft, §7).
func TestUnasked6(t *testing.T) {
	t.Parallel()
	peer.Need(t, "dhclient")
	l := newLab6(t)
	l.site("site", l.srv, serving6)
	h := &host{lab: l.lab, ns: l.plug6("c", l.srv), told: l.dir + "/told"}
	h.wire = sniff(t, h.ns, "eth0")
	h.run(l.dhclient("-6", "-d", "-cf", l.file("plain.conf", ""), "-sf", h.hook6("$reason", "$new_ip6_address"), "-N", "-P")...)
	l.sees(h.told, "event=BOUND6\n")
	peer.Eventually(t, within, "a renewal", func() bool {
		_, _, ok := h.wire.replied6(dhcp6.Renew, 0)
		return ok
	})
	if types := h.wire.mail6(t); len(types) > 0 {
		t.Errorf("told in answers to %v", types)
	}
}

// Its DHCPv6 client starts because of our M flag (RFC 4861 §4.2), and the kernel takes us for its router. It cannot ask for the mail servers: the codes that it knows
// end at 254.
func TestNetworkd6(t *testing.T) {
	t.Parallel()
	peer.Need(t, networkd, "unshare")
	l := newLab6(t)
	run(t, "ip", "netns", "exec", l.srv, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
	server := l.site("site", l.srv, serving6+`[[ra.link]]
interface = "br0"
managed = true
max_interval = "4s"
preference = "high"
hop_limit = 61
prefix = [{prefix = "2001:db8:1::/64", valid = "1h", preferred = "1h"}]
`)
	h := &host{lab: l.lab, ns: l.plug6("c", l.srv)}
	h.wire = sniff(t, h.ns, "eth0")
	h.run(l.networkd("[Match]\nName=eth0\n[Network]\nDHCP=ipv6\nIPv6AcceptRA=yes\n[DHCPv6]\nRequestOptions=65001\n")...)
	for _, asked := range []dhcp6.MessageType{dhcp6.Request, dhcp6.Renew} {
		peer.Eventually(t, within, "a lease, and its renewal", func() bool {
			_, _, ok := h.wire.replied6(asked, 0)
			return ok
		})
	}
	if types := h.wire.mail6(t); len(types) > 0 || !strings.Contains(h.log.String(), "valid range is 1-254") {
		t.Errorf("networkd can ask now, in %v", types)
	}

	other := l.plug6("h", l.srv) // the kernel alone
	route := func() string { return run(t, "ip", "-n", other, "-6", "route", "show", "default") }
	peer.Eventually(t, within, "a default route and an address by autoconfiguration", func() bool {
		return strings.Contains(route(), "proto ra") && strings.Contains(run(t, "ip", "-n", other, "-6", "addr", "show", "dev", "eth0"), "2001:db8:1:")
	})
	if out := route(); !strings.Contains(out, "pref high") || !strings.Contains(out, "hoplimit 61") {
		t.Errorf("%s", out)
	}
	end(t, server.cmd, syscall.SIGINT) // RFC 4861 §6.2.5
	peer.Eventually(t, within, "no default route any more", func() bool { return !strings.Contains(route(), "via") })
}

// hook6 is a script that notes what it is told, and sets the address unless the client does so itself.
func (h *host) hook6(reason, address string) (script string) {
	content := "#!/bin/sh\n{ echo \"event=" + reason + "\"; env; } >> " + h.told + "\nip link set eth0 up\n"
	if address != "" {
		content += "if [ -n \"" + address + "\" ]; then ip -6 addr replace " + address + "/128 dev eth0 nodad; fi\n"
	}
	script = h.file("hook6.sh", content)
	if err := os.Chmod(script, 0o755); err != nil {
		h.t.Fatal(err)
	}
	return script
}

// within bounds each wait for what must happen: only what has failed takes so long, on however busy a machine.
const within = time.Minute
