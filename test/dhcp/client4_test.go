//go:build dhcp

package dhcp

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/control/dhcp4"
	"bothy/test/peer"
)

// unicast lets a client reach the server directly, or not, so that it must rebind: it believes the server at a wrong hardware address.
func unicast(t *testing.T, ns string, possible bool) {
	t.Helper()
	if possible {
		run(t, "ip", "-n", ns, "neigh", "del", "192.0.2.1", "dev", "eth0")
		return
	}
	run(t, "ip", "-n", ns, "neigh", "replace", "192.0.2.1", "lladdr", "02:00:00:00:00:ff", "dev", "eth0", "nud", "permanent")
}

func TestUdhcpc(t *testing.T) {
	t.Parallel()
	peer.Need(t, "udhcpc")
	l := newLab(t)
	l.start()
	ns := l.plug("c", l.srv)
	script, file := l.hook("udhcpc", "$1", "$ip")
	cmd, _ := peer.Start(t, "ip", "netns", "exec", ns, "udhcpc", "-f", "-i", "eth0", "-s", script, "-O", "69", "-O", "70", "-t", "5", "-T", "2")
	l.said(`"lease bound" address=192.0.2.100`, 1)
	for _, what := range []string{"event=bound", "ip=192.0.2.100", "router=192.0.2.1", "subnet=255.255.255.0", "domain=clinic.example", "opt69=c0000201", "opt70=c000026e", "lease=12"} {
		l.sees(file, what)
	}
	cmd.Process.Signal(syscall.SIGUSR1) // or it waits for 15 seconds
	l.said(`"lease renewed" address=192.0.2.100`, 1)
	l.sees(file, "event=renew")
	unicast(t, ns, false)
	l.said(`"lease rebound" address=192.0.2.100`, 1)
	unicast(t, ns, true)
	cmd.Process.Signal(syscall.SIGUSR2)
	l.said(`"lease released" address=192.0.2.100`, 1)
}

func TestDhclient(t *testing.T) {
	t.Parallel()
	peer.Need(t, "dhclient")
	l := newLab(t)
	l.cfg.Config.DefaultLease, l.cfg.Config.MinLease = 16*time.Second, 16*time.Second // it repeats itself slowly, and 2 seconds are left for rebinding
	l.start()
	ns := l.plug("c", l.srv)
	script, file := l.hook("dhclient", "$reason", "$new_ip_address")
	config := filepath.Join(l.dir, "dhclient.conf")
	if err := os.WriteFile(config, []byte("initial-interval 1;\nbackoff-cutoff 2;\nalso request smtp-server, pop-server;\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"netns", "exec", ns, "dhclient", "-4", "-d", "-cf", config, "-sf", script,
		"-lf", filepath.Join(l.dir, "dhclient.leases"), "-pf", filepath.Join(l.dir, "dhclient.pid"), "eth0",
	}
	cmd, _ := peer.Start(t, "ip", args...)
	l.said(`"lease bound" address=192.0.2.100`, 1)
	for _, what := range []string{"event=BOUND", "new_smtp_server=192.0.2.1", "new_pop_server=192.0.2.110", "new_dhcp_lease_time=16", "new_routers=192.0.2.1"} {
		l.sees(file, what)
	}
	l.said(`"lease renewed" address=192.0.2.100`, 1)
	unicast(t, ns, false)
	l.said(`"lease rebound" address=192.0.2.100`, 1)
	l.seesTimes(file, "event=RENEW", 2) // now it has written it down
	unicast(t, ns, true)
	end(t, cmd, syscall.SIGKILL) // it remembers its lease: INIT-REBOOT
	peer.Start(t, "ip", args...)
	l.said(`"lease confirmed" address=192.0.2.100`, 1)
	l.sees(file, "event=REBOOT")
	args[4] = "-r"
	run(t, "ip", append([]string{"netns", "exec", ns, "dhclient"}, args[4:]...)...)
	l.said(`"lease released" address=192.0.2.100`, 1)
}

func TestDhcpcd(t *testing.T) {
	t.Parallel()
	peer.Need(t, "dhcpcd", "unshare")
	l := newLab(t)
	l.start()
	ns := l.plug("c", l.srv)
	script, file := l.hook("dhcpcd", "$reason", "$new_ip_address")
	config, released := filepath.Join(l.dir, "dhcpcd.conf"), filepath.Join(l.dir, "release.conf")
	for name, last := range map[string]string{config: "persistent", released: "release"} {
		if err := os.WriteFile(name, []byte("ipv4only\nnoarp\nclientid\noption smtp_server, pop_server, domain_name, routers\n"+last+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept := filepath.Join(l.dir, "kept")
	if err := os.Mkdir(kept, 0o777); err != nil {
		t.Fatal(err)
	}
	// its lease and its socket have fixed places
	start := fmt.Sprintf("mkdir -p /var/lib/dhcpcd /run/dhcpcd && mount --bind %s /var/lib/dhcpcd && mount -t tmpfs none /run && exec dhcpcd -4 -B -d -t 0 -f %s -c %s eth0", kept, config, script)
	args := []string{"netns", "exec", ns, "unshare", "-m", "sh", "-c", start}
	cmd, _ := peer.Start(t, "ip", args...)
	l.said(`"lease bound" address=192.0.2.100`, 1)
	for _, what := range []string{"event=BOUND", "new_smtp_server=192.0.2.1", "new_pop_server=192.0.2.110", "new_dhcp_lease_time=12"} {
		l.sees(file, what)
	}
	l.said(`"lease renewed" address=192.0.2.100`, 1)
	l.sees(file, "event=RENEW")
	end(t, cmd, syscall.SIGTERM)
	args[len(args)-1] = strings.Replace(start, config, released, 1)
	cmd, _ = peer.Start(t, "ip", args...)
	l.said(`"lease confirmed" address=192.0.2.100`, 1)
	unicast(t, ns, false)
	l.said(`"lease rebound" address=192.0.2.100`, 1)
	unicast(t, ns, true)
	end(t, cmd, syscall.SIGTERM)
	l.said(`"lease released" address=192.0.2.100`, 1)
}

func TestNetworkd(t *testing.T) {
	t.Parallel()
	const networkd = "/lib/systemd/systemd-networkd"
	peer.Need(t, networkd, "unshare")
	l := newLab(t)
	l.start()
	ns := l.plug("c", l.srv)
	config := "[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv4\\nLinkLocalAddressing=no\\nIPv6AcceptRA=no\\n[DHCPv4]\\nRequestOptions=69 70\\n"
	start := "mount -t tmpfs none /run && mount -o remount,ro /sys && mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp /run/dbus" +
		" && chown -R systemd-network: /run/systemd/netif && printf '" + config + "' > /run/systemd/network/10-eth0.network && exec " + networkd
	peer.Start(t, "ip", "netns", "exec", ns, "unshare", "-m", "sh", "-c", start)
	l.said(`"lease bound" address=192.0.2.100`, 1)
	peer.Eventually(t, 20*time.Second, "an address on eth0", func() bool {
		return strings.Contains(run(t, "ip", "-n", ns, "-4", "addr", "show", "eth0"), "192.0.2.100/24")
	})
	l.said(`"lease renewed" address=192.0.2.100`, 1)
}

// TestSquatter: RFC 2131 §3.1: the server finds out by ARP that somebody without a lease uses an address.
func TestSquatter(t *testing.T) {
	t.Parallel()
	peer.Need(t, "udhcpc")
	l := newLab(t)
	l.cfg.Config.Probe = time.Second
	l.start()
	squatter := l.plug("q", l.srv)
	run(t, "ip", "-n", squatter, "addr", "add", "192.0.2.100/24", "dev", "eth0")
	ns := l.plug("c", l.srv)
	script, file := l.hook("udhcpc", "$1", "$ip")
	peer.Start(t, "ip", "netns", "exec", ns, "udhcpc", "-f", "-i", "eth0", "-s", script, "-t", "5", "-T", "3")
	l.said(`"address is in use by somebody without a lease" address=192.0.2.100`, 1)
	l.said(`"lease bound" address=192.0.2.101`, 1)
	l.sees(file, "ip=192.0.2.101")
}

// TestKilledServer: RFC 2131 §2.2: a lease outlives kill -9 of the server, and nobody else gets its address.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	peer.Need(t, "udhcpc")
	l := newLab(t)
	l.cfg.Config.DefaultLease = time.Hour
	l.start()
	for i := range 3 {
		ns := l.plug("c", l.srv)
		script, file := l.hook(fmt.Sprint("udhcpc", i), "$1", "$ip")
		peer.Start(t, "ip", "netns", "exec", ns, "udhcpc", "-f", "-i", "eth0", "-s", script, "-t", "5", "-T", "2")
		l.sees(file, fmt.Sprintf("ip=192.0.2.%d\n", 100+i))
		end(t, l.cmd, syscall.SIGKILL)
		l.start()
	}
}

// TestRelay: RFC 2131 §4.3.1, RFC 3046 §2.2: through ISC dhcrelay, which says where the client is.
func TestRelay(t *testing.T) {
	t.Parallel()
	peer.Need(t, "udhcpc", "dhcrelay")
	l := newLab(t)
	relay, ns, port := l.behind()
	l.start()
	peer.Start(t, "ip", "netns", "exec", relay, "dhcrelay", "-4", "-d", "-a", "-iu", "eth0", "-id", port, "192.0.2.1")
	script, file := l.hook("udhcpc", "$1", "$ip")
	withRoute(t, script)
	peer.Start(t, "ip", "netns", "exec", ns, "udhcpc", "-f", "-i", "eth0", "-s", script, "-O", "69", "-O", "70", "-t", "5", "-T", "2")
	l.said(`"lease bound" address=198.51.100.50`, 1)
	for _, what := range []string{"ip=198.51.100.50", "router=198.51.100.1", "opt69=c0000201"} {
		l.sees(file, what)
	}
	l.said(`"lease renewed" address=198.51.100.50`, 1) // directly, from behind the router
}

// TestRelayAgent: RFC 1542 §4.1, RFC 3046 §2.1: our own relay agent, between dhclient and a server: ours, or ISC dhcpd, which want to know the circuit or not.
func TestRelayAgent(t *testing.T) {
	for _, server := range []string{"bothy", "dhcpd"} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			peer.Need(t, "dhclient")
			l := newLab(t)
			relay, ns, port := l.behind()
			var log *peer.Output
			if server == "dhcpd" {
				peer.Need(t, server)
				config := l.file("dhcpd.conf", "authoritative; default-lease-time 16; max-lease-time 16; option smtp-server 192.0.2.1; subnet 192.0.2.0 netmask 255.255.255.0 {}\n"+
					"subnet 198.51.100.0 netmask 255.255.255.0 { range 198.51.100.50 198.51.100.59; option routers 198.51.100.1; }\n")
				_, log = peer.Start(t, "ip", "netns", "exec", l.srv, "dhcpd", "-4", "-f", "-d", "-cf", config, "-lf", l.file("dhcpd.leases", ""), "-pf", filepath.Join(l.dir, "dhcpd.pid"), "br0")
			} else {
				l.cfg.Config.DefaultLease, l.cfg.Config.MinLease = 16*time.Second, 16*time.Second
				l.start()
				log = l.log
			}
			text, err := json.Marshal(dhcp4.RelayConfig{Interfaces: []string{port}, Servers: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, MaxHops: 4, CircuitID: true})
			if err != nil {
				t.Fatal(err)
			}
			_, relayed := peer.Start(t, "ip", "netns", "exec", relay, "env", asRelay+"="+string(text), os.Args[0])
			peer.Eventually(t, 10*time.Second, "the relay agent", func() bool { return strings.Contains(relayed.String(), "ready") })
			script, file := l.hook("dhclient", "$reason", "$new_ip_address")
			config := l.file("dhclient.conf", "initial-interval 1;\nbackoff-cutoff 2;\nalso request smtp-server;\n")
			args := []string{
				"netns", "exec", ns, "dhclient", "-4", "-d", "-cf", config, "-sf", script,
				"-lf", filepath.Join(l.dir, "dhclient.leases"), "-pf", filepath.Join(l.dir, "dhclient.pid"), "eth0",
			}
			cmd, _ := peer.Start(t, "ip", args...)
			for _, what := range []string{"event=BOUND", "new_ip_address=198.51.100.5", "new_smtp_server=192.0.2.1", "new_routers=198.51.100.1"} {
				l.sees(file, what)
			}
			l.sees(filepath.Join(l.dir, "dhclient.leases"), "fixed-address 198.51.100.5")
			end(t, cmd, syscall.SIGKILL)
			peer.Start(t, "ip", args...)
			l.sees(file, "event=REBOOT")
			if server == "dhcpd" && !strings.Contains(log.String(), "via 198.51.100.1") {
				t.Error("the server was reached in another way")
			}
			for _, what := range []string{"type=DHCPDISCOVER to=192.0.2.1:67 hops=1", "type=DHCPACK to=198.51.100.5"} {
				if !strings.Contains(relayed.String(), what) {
					t.Errorf("%q was not relayed", what)
				}
			}
		})
	}
}

// behind makes a second subnet, 198.51.100.0/24, behind a router that has 192.0.2.2: the router's namespace, a client's, and the router's port towards
// the client.
func (l *lab) behind() (relay, ns, port string) {
	t := l.t
	t.Helper()
	second := l.cfg.Config.Subnets[0]
	second.Prefix = netip.MustParsePrefix("198.51.100.0/24")
	second.Pools = []dhcp4.PoolConfig{{First: netip.MustParseAddr("198.51.100.50"), Last: netip.MustParseAddr("198.51.100.59")}}
	second.Options = map[string]string{"routers": "198.51.100.1"}
	l.cfg.Config.Subnets = append(l.cfg.Config.Subnets, second)
	relay = l.plug("r", l.srv)
	run(t, "ip", "-n", relay, "addr", "add", "192.0.2.2/24", "dev", "eth0")
	ns = l.plug("c", relay)
	for _, word := range strings.Fields(run(t, "ip", "-n", relay, "-o", "link", "show", "type", "veth")) {
		if name, _, ok := strings.Cut(word, "@"); ok && name != "eth0" {
			port = name
		}
	}
	run(t, "ip", "-n", relay, "addr", "add", "198.51.100.1/24", "dev", port)
	run(t, "ip", "netns", "exec", relay, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	run(t, "ip", "-n", l.srv, "route", "add", "198.51.100.0/24", "via", "192.0.2.2")
	return relay, ns, port
}

// withRoute lets a hook of udhcpc set the default route too.
func withRoute(t *testing.T, script string) {
	t.Helper()
	content, err := os.ReadFile(script)
	if err == nil {
		err = os.WriteFile(script, []byte(strings.Replace(string(content), "exit 0", "[ -z \"$router\" ] || ip route replace default via $router\nexit 0", 1)), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}
