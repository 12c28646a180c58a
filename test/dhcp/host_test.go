//go:build dhcp

package dhcp

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"bothy/test/peer"
)

// host is one with a client, before a server that is the whole program.
type host struct {
	*lab   // whose cmd is the client's
	server *site
	ns     string
	told   string // a file: what its hook was told
	wire   *sniffer
}

// run starts the client's program in its namespace.
func (h *host) run(args ...string) {
	h.t.Helper()
	h.cmd, h.log = peer.Start(h.t, "ip", append([]string{"netns", "exec", h.ns}, args...)...)
}

// events counts how often the hook was told of a lease.
func (h *host) events() (n int) {
	content, _ := os.ReadFile(h.told) // not there yet
	for _, e := range []string{"BOUND", "RENEW", "REBIND", "REBOOT", "bound", "renew", "BOUND6", "RENEW6", "REBIND6", "REBOOT6"} {
		n += bytes.Count(content, []byte("event="+e+"\n"))
	}
	return n
}

// dhclient is the start of ISC dhclient for one family, "-4" or "-6".
func (l *lab) dhclient(family string, args ...string) []string {
	kept := []string{"dhclient", family, "-lf", filepath.Join(l.dir, "dhclient.leases"), "-pf", filepath.Join(l.dir, "dhclient.pid")}
	return slices.Concat(kept, args, []string{"eth0"})
}

// dhcpcd has fixed places for its leases and its socket.
func (l *lab) dhcpcd(family, config, script string) []string {
	kept := filepath.Join(l.dir, "kept")
	if err := os.MkdirAll(kept, 0o777); err != nil {
		l.t.Fatal(err)
	}
	start := fmt.Sprintf("mkdir -p /var/lib/dhcpcd /run/dhcpcd && mount --bind %s /var/lib/dhcpcd && mount -t tmpfs none /run && exec dhcpcd %s -B -d -t 0 -f %s -c %s eth0",
		kept, family, l.file("dhcpcd.conf", config), script)
	return []string{"unshare", "-m", "sh", "-c", start}
}

const networkd = "/lib/systemd/systemd-networkd"

// networkd runs systemd-networkd with a /run of its own, where its configuration is and what it remembers, and a /sys that it takes for a container's.
func (l *lab) networkd(config string) []string {
	kept := filepath.Join(l.dir, "run")
	if err := os.MkdirAll(filepath.Join(kept, "systemd", "network"), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(kept, "systemd", "network", "10-eth0.network"), []byte(config), 0o644); err != nil {
		l.t.Fatal(err)
	}
	start := "mount --bind " + kept + " /run && mount -o remount,ro /sys && mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp /run/dbus" +
		" && chown -R systemd-network: /run/systemd/netif && exec " + networkd
	return []string{"unshare", "-m", "sh", "-c", start}
}
