//go:build dhcp

package dhcp

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/control/dhcp4"
	"bothy/test/peer"
)

// client4 is a row of the matrix.
type client4 struct {
	name  string
	needs []string
	start func(d *desk) // as a host starts it, and starts it again

	told   []string // what its hook is told of options 69 and 70
	untold string   // or why nobody is told
	says   string   // what it says itself, each time it is bound, where it has no hook

	renew   func(d *desk)  // nil: it waits for T1
	stop    syscall.Signal // that ends it with its lease kept
	reboot  func(d *desk)  // nil: it is stopped and started
	forgets string         // why it does not ask for its address in INIT-REBOOT
	release func(d *desk)
}

// path4 is how a client's messages come to the server: a column of the matrix.
type path4 struct {
	name    string
	needs   []string
	lay     func(l *lab) (ns string) // makes the client's namespace, and what is between it and the server
	prefix  string                   // of the address that it must be given
	gateway string                   // the next hop to the server
}

var paths4 = []path4{
	{"direct", nil, func(l *lab) string { return l.plug("c", l.srv) }, "192.0.2.100/30", "192.0.2.1"},
	{"dhcrelay", []string{"dhcrelay"}, func(l *lab) string {
		relay, ns := l.behind()
		peer.Start(l.t, "ip", "netns", "exec", relay, "dhcrelay", "-4", "-d", "-a", "-iu", "eth0", "-id", "br1", "192.0.2.1")
		return ns
	}, "198.51.100.100/30", "198.51.100.1"},
	{"bothy", nil, func(l *lab) string {
		relay, ns := l.behind()
		l.site("relay", relay, "[dhcp4_relay]\ninterfaces = [\"br1\"]\nservers = [\"192.0.2.1\"]\n")
		return ns
	}, "198.51.100.100/30", "198.51.100.1"},
}

// serving4 is the server's configuration. The leases are short, and yet leave seconds between T2 and their end on a busy machine.
const serving4 = `[smtp]
listen = [":25"]
[pop3]
listen = ["192.0.2.110:110"]
[dhcp4]
interfaces = ["br0"]
default_lease = "40s"
min_lease = "40s"
[[dhcp4.subnet]]
prefix = "192.0.2.0/24"
options = {routers = "192.0.2.1", domain-name = "clinic.example"}
pool = [{first = "192.0.2.100", last = "192.0.2.103"}]
[[dhcp4.subnet]]
prefix = "198.51.100.0/24"
options = {routers = "198.51.100.1", domain-name = "clinic.example"}
pool = [{first = "198.51.100.100", last = "198.51.100.103"}]
`

// desk is a host with a DHCPv4 client.
type desk struct {
	host
	client client4
	path   path4
	has    netip.Addr
}

// steps4 are what a host lives through.
var steps4 = []struct {
	name string
	run  func(d *desk)
}{
	{"bind", (*desk).bind},
	{"options", (*desk).options},
	{"renew", func(d *desk) { d.extend(renewing) }},
	{"rebind", func(d *desk) {
		d.unicast(false)
		d.extend(rebinding)
		d.unicast(true)
	}},
	{"reboot", (*desk).reboot},
	{"server restarted", func(d *desk) {
		d.server.again()
		d.reboot()
	}},
	{"release", (*desk).giveBack},
}

// TestMatrix4: RFC 2131 §4.3.2, RFC 1542 §4.1, RFC 3046 §2.1, RFC 3046 §2.2: each client, directly and through relay agents, ours too, is served by the whole program in
// each state that it can be in.
func TestMatrix4(t *testing.T) {
	for _, c := range clients4 {
		for _, p := range paths4 {
			t.Run(c.name+" "+p.name, func(t *testing.T) {
				t.Parallel()
				peer.Need(t, slices.Concat(c.needs, p.needs)...)
				l := newLab(t)
				d := &desk{host: host{lab: l, told: filepath.Join(l.dir, "told")}, client: c, path: p}
				d.server = l.site("site", l.srv, serving4)
				d.ns = p.lay(l)
				d.wire = sniff(t, d.ns, "eth0")
				for _, s := range steps4 {
					began := time.Now()
					s.run(d)
					t.Logf("%s: %.1f s", s.name, time.Since(began).Seconds())
				}
			})
		}
	}
}

// acked waits for a DHCPACK to a message of a kind, which names the address that the host has.
func (d *desk) acked(kind string, after int) (asked, ack *dhcp4.Packet) {
	d.t.Helper()
	peer.Eventually(d.t, within, "a DHCPACK to a "+kind, func() (ok bool) {
		asked, ack, ok = d.wire.acked4(kind, after)
		return ok
	})
	if d.has.IsValid() && ack.YIAddr != d.has {
		d.t.Errorf("%s: %v instead of %v", kind, ack.YIAddr, d.has)
	}
	return asked, ack
}

func (d *desk) bind() {
	d.client.start(d)
	_, ack := d.acked(selecting, 0)
	d.has = ack.YIAddr
	if !netip.MustParsePrefix(d.path.prefix).Contains(d.has) {
		d.t.Fatalf("%v is not in %s", d.has, d.path.prefix)
	}
	peer.Eventually(d.t, within, "the address on eth0", func() bool {
		return strings.Contains(run(d.t, "ip", "-n", d.ns, "-4", "addr", "show", "dev", "eth0"), d.has.String()+"/24")
	})
	if !d.server.holds(netip.PrefixFrom(d.has, 32)) {
		d.t.Errorf("the server has no lease of %v", d.has)
	}
}

// options: the client asks for options 69 and 70, is sent them, and shows them, or shows them to nobody.
func (d *desk) options() {
	asked, ack := d.acked(selecting, 0)
	list, _ := asked.Get(dhcp4.ParameterRequestList)
	for code, want := range map[dhcp4.Code]string{dhcp4.SMTPServer: "192.0.2.1", dhcp4.POP3Server: "192.0.2.110"} {
		if got, ok := ack.Addr(code); !bytes.Contains(list, []byte{byte(code)}) || !ok || got.String() != want {
			d.t.Errorf("option %d: asked for in % x, sent %v", code, list, got)
		}
	}
	for _, what := range d.client.told {
		d.sees(d.told, what)
	}
	if d.client.untold == "" {
		return
	}
	err := filepath.WalkDir(filepath.Join(d.dir, "run"), func(file string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(file)
		if bytes.Contains(content, []byte("192.0.2.110")) {
			d.t.Errorf("%s has the server of POP3, though it is said that %s\n%s", file, d.client.untold, content)
		}
		return err
	})
	if err != nil {
		d.t.Error(err)
	}
}

// extend has the lease extended; then the client has written it down.
func (d *desk) extend(kind string) {
	n, told := len(d.wire.heard()), d.events()
	if d.client.renew != nil {
		d.client.renew(d)
	}
	d.acked(kind, n)
	if d.client.says == "" {
		d.settled(told)
	}
	if slices.Contains(d.wire.asked4(n), dhcp4.Discover.String()) {
		d.t.Error("the client had to begin anew")
	}
}

// events counts how often the client was bound.
func (d *desk) events() int {
	if d.client.says != "" {
		return strings.Count(d.log.String(), d.client.says)
	}
	return d.host.events()
}

// settled waits until the client has taken an answer, after it had told events: its hook is called when it has written its lease down.
func (d *desk) settled(told int) {
	d.t.Helper()
	peer.Eventually(d.t, within, "the client's word that it is bound", func() bool { return d.events() > told })
}

// unicast lets the client reach the server directly, or not, so that it must rebind: it believes the next hop at a wrong hardware address.
func (d *desk) unicast(possible bool) { unicast(d.t, d.ns, d.path.gateway, possible) }

func unicast(t *testing.T, ns, gateway string, possible bool) {
	t.Helper()
	if possible {
		run(t, "ip", "-n", ns, "neigh", "del", gateway, "dev", "eth0")
		return
	}
	run(t, "ip", "-n", ns, "neigh", "replace", gateway, "lladdr", "02:00:00:00:00:ff", "dev", "eth0", "nud", "permanent")
}

// reboot: the client is started again, as with its host, and keeps its address.
func (d *desk) reboot() {
	n, told := len(d.wire.heard()), d.events()
	if d.client.reboot != nil {
		d.client.reboot(d)
	} else {
		end(d.t, d.cmd, d.client.stop)
		d.client.start(d)
	}
	defer d.settled(told)
	if d.client.forgets == "" {
		d.acked(initReboot, n)
		return
	}
	d.acked(selecting, n)
	if kinds := d.wire.asked4(n); kinds[0] != dhcp4.Discover.String() {
		d.t.Errorf("%q, though it is said that %s", kinds, d.client.forgets)
	}
}

func (d *desk) giveBack() {
	n := len(d.wire.heard())
	var last time.Time
	peer.Eventually(d.t, within, "a DHCPRELEASE, and the end of the lease", func() bool {
		if time.Since(last) > 5*time.Second { // dhcpcd loses signals while its hook runs
			d.client.release(d)
			last = time.Now()
		}
		return slices.Contains(d.wire.asked4(n), dhcp4.Release.String()) && !d.server.holds(netip.PrefixFrom(d.has, 32))
	})
}

// hook4 is a script that notes what it is told, and sets address and route unless the client does so itself.
func (d *desk) hook4(reason, address, router string) (script string) {
	content := fmt.Sprintf("#!/bin/sh\n{ echo \"event=%s\"; env; } >> %s\n", reason, d.told)
	if address != "" {
		content += fmt.Sprintf(`ip link set eth0 up
if [ -z "%[1]s" ]; then ip addr flush dev eth0; exit 0; fi
ip addr replace %[1]s/24 dev eth0
if [ -n "%[2]s" ]; then ip route replace default via %[2]s; fi
`, address, router)
	}
	script = d.file("hook.sh", content)
	if err := os.Chmod(script, 0o755); err != nil {
		d.t.Fatal(err)
	}
	return script
}
