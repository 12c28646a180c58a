//go:build dhcp

package dhcp

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"bothy/test/peer"
)

// clients4 are the DHCPv4 clients that people have.
var clients4 = []client4{
	{
		name: "dhclient", needs: []string{"dhclient"},
		start: func(d *desk) {
			config := "initial-interval 1;\nbackoff-cutoff 2;\n" + snippet(d.t, "dhcp.md", "/etc/dhcp/dhclient.conf") // it repeats itself slowly
			d.run(d.dhclient("-4", "-d", "-cf", d.file("dhclient.conf", config), "-sf", d.hook4("$reason", "$new_ip_address", "$new_routers"))...)
		},
		told:    []string{"new_smtp_server=192.0.2.1\n", "new_pop_server=192.0.2.110\n"},
		stop:    kill, // it has written its lease down
		release: func(d *desk) { d.run(d.dhclient("-4", "-r", "-sf", "/bin/true")...) },
	},
	{
		name: "dhcpcd", needs: []string{"dhcpcd", "unshare"},
		start: func(d *desk) {
			config := "ipv4only\nnoarp\nclientid\npersistent\noption domain_name, routers\n" + snippet(d.t, "dhcp.md", "/etc/dhcpcd.conf")
			d.run(d.dhcpcd("-4", config, d.hook4("$reason", "", ""))...) // it sets the address itself
		},
		told:    []string{"new_smtp_server=192.0.2.1\n", "new_pop_server=192.0.2.110\n"},
		stop:    syscall.SIGTERM,
		release: func(d *desk) { d.cmd.Process.Signal(syscall.SIGALRM) },
	},
	{
		name: "udhcpc", needs: []string{"udhcpc"},
		start: func(d *desk) {
			args := strings.Fields(snippet(d.t, "dhcp.md", "udhcpc"))
			d.run(append(args, "-f", "-t", "5", "-T", "2", "-s", d.hook4("$1", "$ip", "$router"))...)
		},
		told:    []string{"opt69=c0000201\n", "opt70=c000026e\n"},
		renew:   func(d *desk) { d.cmd.Process.Signal(syscall.SIGUSR1) },
		stop:    kill,
		forgets: "it keeps no lease on a disk; the server knows the client again",
		release: func(d *desk) { d.cmd.Process.Signal(syscall.SIGUSR2) },
	},
	{
		name: "systemd-networkd", needs: []string{networkd, "unshare"},
		start: func(d *desk) {
			config := snippet(d.t, "dhcp.md", "/etc/systemd/network/10-eth0.network")
			d.run(d.networkd(strings.Replace(config, "[Network]", "[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no", 1))...)
		},
		untold: "it shows no mail servers in its files, and networkctl none",
		says:   "DHCPv4 address",
		reboot: func(d *desk) { // it asks for its address again when its link is back
			n := strings.Count(d.log.String(), "Lost carrier")
			d.cable(d.ns, false)
			peer.Eventually(d.t, within, "the end of the lease without its link", func() bool { return strings.Count(d.log.String(), "Lost carrier") > n })
			d.cable(d.ns, true)
		},
		release: func(d *desk) { d.cmd.Process.Signal(syscall.SIGTERM) },
	},
}

// udhcpc runs a client in a namespace, and returns the file of what its script is told.
func (l *lab) udhcpc(ns, name string) (told string) {
	script, told := l.hook(name, "$1", "$ip")
	peer.Start(l.t, "ip", "netns", "exec", ns, "udhcpc", "-f", "-i", "eth0", "-s", script, "-t", "5", "-T", "3")
	return told
}

// TestSquatter: RFC 2131 §3.1: the server finds out by ARP that somebody without a lease uses an address.
func TestSquatter(t *testing.T) {
	t.Parallel()
	peer.Need(t, "udhcpc")
	l := newLab(t)
	server := l.site("site", l.srv, strings.Replace(serving4, "[[dhcp4.subnet]]", "probe = \"1s\"\n[[dhcp4.subnet]]", 1))
	squatter := l.plug("q", l.srv)
	run(t, "ip", "-n", squatter, "addr", "add", "192.0.2.100/24", "dev", "eth0")
	told := l.udhcpc(l.plug("c", l.srv), "udhcpc")
	server.said(`"address is in use by somebody without a lease" service=dhcp4 address=192.0.2.100`, 1)
	server.said(`"lease bound" service=dhcp4 address=192.0.2.101`, 1)
	l.sees(told, "ip=192.0.2.101\n")
}

// TestKilledServer: RFC 2131 §2.2: a lease outlives kill -9 of the server, and nobody else gets its address.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	peer.Need(t, "udhcpc")
	l := newLab(t)
	server := l.site("site", l.srv, strings.ReplaceAll(serving4, `"40s"`, `"1h"`))
	for i := range 3 {
		l.sees(l.udhcpc(l.plug("c", l.srv), fmt.Sprint("udhcpc", i)), fmt.Sprintf("ip=192.0.2.%d\n", 100+i))
		server.again()
	}
}

// behind makes a second subnet, 198.51.100.0/24, behind a router that has 192.0.2.2: the router's namespace, whose br1 leads there, and a client's.
func (l *lab) behind() (relay, ns string) {
	l.t.Helper()
	relay = l.plug("r", l.srv)
	run(l.t, "ip", "-n", relay, "addr", "add", "192.0.2.2/24", "dev", "eth0")
	l.bridge(relay, "br1")
	run(l.t, "ip", "-n", relay, "addr", "add", "198.51.100.1/24", "dev", "br1")
	run(l.t, "ip", "netns", "exec", relay, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	run(l.t, "ip", "-n", l.srv, "route", "add", "198.51.100.0/24", "via", "192.0.2.2")
	return relay, l.plug("c", relay)
}
