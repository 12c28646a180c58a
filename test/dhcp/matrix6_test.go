//go:build dhcp

package dhcp

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/control/dhcp6"
	"bothy/test/peer"
)

// client6 is a row of the matrix: a client in one way of using it.
type client6 struct {
	name  string
	needs []string
	start func(d *desk6) // as a host starts it, and starts it again

	stateless bool // it wants no lease
	lazy      bool // its timers are inexact by ten seconds: T1 and T2 must be further apart
	told      bool // its hook is told the lists
	untold    string

	stop    syscall.Signal    // that ends it with its lease kept
	reboot  dhcp6.MessageType // what it asks when it is back
	why     string            // that is neither Confirm nor Rebind
	release func(d *desk6)    // nil: it does not, see stays
	stays   string
}

// path6 is a column.
type path6 struct {
	name  string
	needs []string
	lay   func(l *lab6) (ns string)
	link  string // prefix of the addresses there
}

var paths6 = []path6{
	{"direct", nil, func(l *lab6) string { return l.plug6("c", l.srv) }, "2001:db8:1::/64"},
	{"dhcrelay", []string{"dhcrelay"}, func(l *lab6) string {
		relay, ns := l.behind6()
		peer.Start(l.t, "ip", "netns", "exec", relay, "dhcrelay", "-6", "-d", "-I", "-l", "br1", "-u", "2001:db8:1::1%eth0", "-pf", filepath.Join(l.dir, "relay.pid"))
		return ns
	}, "2001:db8:2::/64"},
}

// serving6 is the server's configuration. Renewals come soon, and no lease ends on a busy machine.
const serving6 = `[smtp]
listen = [":25"]
[pop3]
listen = [":110"]
[dhcp6]
interfaces = ["br0"]
preferred = "20s"
valid = "5m"
dns = ["2001:db8:1::53"]
search = ["clinic.example"]
mail = {imap_code = 65001, pop3_code = 65002, smtp_code = 65003, imap = ["2001:db8:1::143", "2001:db8:1::144"], pop3 = ["2001:db8:1::110"]}
[[dhcp6.subnet]]
prefix = "2001:db8:1::/64"
pool = [{first = "2001:db8:1::1000", last = "2001:db8:1::1fff"}]
delegate = [{prefix = "2001:db8:100::/48", length = 56}]
[[dhcp6.subnet]]
prefix = "2001:db8:2::/64"
pool = [{first = "2001:db8:2::1000", last = "2001:db8:2::1fff"}]
delegate = [{prefix = "2001:db8:200::/48", length = 56}]
`

// desk6 is a host with a DHCPv6 client.
type desk6 struct {
	host
	client client6
	path   path6
	has    []netip.Prefix
}

var steps6 = []struct {
	name      string
	stateless bool // is for those too who want no lease
	run       func(d *desk6)
}{
	{"bind", true, (*desk6).bind},
	{"options", true, (*desk6).options},
	{"renew", false, func(d *desk6) { d.extended(dhcp6.Renew, func() {}) }},
	{"rebind", false, func(d *desk6) { // the server is another now, which has its leases: RFC 9915 §18.2.5
		end(d.t, d.server.cmd, kill)
		if err := os.Remove(filepath.Join(d.server.data, "dhcp6.identity")); err != nil {
			d.t.Fatal(err)
		}
		d.extended(dhcp6.Rebind, d.server.start)
	}},
	{"reboot", false, (*desk6).reboot},
	{"server restarted", false, func(d *desk6) {
		d.server.again()
		d.reboot()
	}},
	{"release", false, (*desk6).giveBack},
}

// TestMatrix6: RFC 9915 §6.1, §18.2.3, §18.3, §19.1: each client, with a lease or without, directly and through a relay agent, is served by the whole program in each message that
// it sends; the mail servers come in the answers to those who ask for them, and in no others (the draft, §7).
func TestMatrix6(t *testing.T) {
	for _, c := range clients6 {
		for _, p := range paths6 {
			t.Run(c.name+" "+p.name, func(t *testing.T) {
				t.Parallel()
				peer.Need(t, slices.Concat(c.needs, p.needs)...)
				l := newLab6(t)
				d := &desk6{host: host{lab: l.lab, told: filepath.Join(l.dir, "told")}, client: c, path: p}
				settings := serving6
				if c.lazy {
					settings = strings.Replace(settings, `"20s"`, `"60s"`, 1)
				}
				d.server = l.site("site", l.srv, settings)
				d.ns = p.lay(l)
				d.wire = sniff(t, d.ns, "eth0")
				for _, s := range steps6 {
					began := time.Now()
					if !c.stateless || s.stateless {
						s.run(d)
					}
					t.Logf("%s: %.1f s", s.name, time.Since(began).Seconds())
				}
				d.mail()
			})
		}
	}
}

// replied waits for a Reply to a message of a type that has what the host has.
func (d *desk6) replied(asked dhcp6.MessageType, after int) (question, reply *dhcp6.Message) {
	d.t.Helper()
	peer.Eventually(d.t, within, fmt.Sprintf("a Reply to a %v", asked), func() (ok bool) {
		question, reply, ok = d.wire.replied6(asked, after)
		return ok
	})
	if has := resources6(d.t, reply); asked != dhcp6.Confirm && len(d.has) > 0 && !slices.Equal(has, d.has) {
		d.t.Errorf("%v: %v instead of %v", asked, has, d.has)
	}
	return question, reply
}

// extended waits until the leases are extended because of what is done, and the client has written that down, which is before it calls its hook.
func (d *desk6) extended(asked dhcp6.MessageType, do func()) {
	d.t.Helper()
	n, told := len(d.wire.heard()), d.events()
	do()
	d.replied(asked, n)
	if d.client.told {
		peer.Eventually(d.t, within, "the hook's call", func() bool { return d.events() > told })
	}
}

func (d *desk6) bind() {
	d.client.start(d)
	if d.client.stateless {
		d.replied(dhcp6.InformationRequest, 0)
		return
	}
	_, reply := d.replied(dhcp6.Request, 0)
	d.has = resources6(d.t, reply)
	if len(d.has) == 0 {
		d.t.Fatal("an empty Reply")
	}
	for _, p := range d.has {
		if !d.server.holds(p) {
			d.t.Errorf("the server has no lease of %v", p)
		}
		if !p.IsSingleIP() {
			continue
		}
		if !netip.MustParsePrefix(d.path.link).Overlaps(p) {
			d.t.Errorf("%v is not in %s", p, d.path.link)
		}
		peer.Eventually(d.t, within, "the address on eth0", func() bool {
			return strings.Contains(run(d.t, "ip", "-n", d.ns, "-6", "addr", "show", "dev", "eth0"), p.Addr().String()+"/")
		})
	}
}

// options: the hook is told the lists, in their order.
func (d *desk6) options() {
	if !d.client.told {
		return
	}
	for _, what := range []string{"imap_servers=2001:db8:1::143 2001:db8:1::144", "pop3_servers=2001:db8:1::110", "smtp_servers=2001:db8:1::1"} {
		d.sees(d.told, "new_dhcp6_"+what+"\n")
	}
}

// mail looks at all that passed: the client asked for the lists in each kind of message that it may ask in, or in none.
func (d *desk6) mail() {
	types := d.wire.mail6(d.t)
	var want []dhcp6.MessageType
	switch {
	case d.client.untold != "":
	case d.client.stateless:
		want = []dhcp6.MessageType{dhcp6.InformationRequest}
	default:
		want = []dhcp6.MessageType{dhcp6.Solicit, dhcp6.Request, dhcp6.Renew, dhcp6.Rebind}
	}
	slices.Sort(types)
	slices.Sort(want)
	if !slices.Equal(types, want) {
		d.t.Errorf("the lists came in answers to %v, not %v", types, want)
	}
}

// reboot: the client is started again, as with its host, and keeps what it has.
func (d *desk6) reboot() {
	end(d.t, d.cmd, d.client.stop)
	n := len(d.wire.heard())
	d.client.start(d)
	d.replied(d.client.reboot, n)
}

func (d *desk6) giveBack() {
	if d.client.release == nil {
		return
	}
	n := len(d.wire.heard())
	var last time.Time
	peer.Eventually(d.t, within, "a Reply to a Release, and the end of the leases", func() bool {
		if time.Since(last) > 5*time.Second { // dhcpcd loses signals while its hook runs, and does not release what it is about to renew
			if !last.IsZero() && d.cmd.Process.Signal(syscall.Signal(0)) != nil {
				d.client.start(d)
			} else {
				d.client.release(d)
			}
			last = time.Now()
		}
		_, _, ok := d.wire.replied6(dhcp6.Release, n)
		return ok && !slices.ContainsFunc(d.has, d.server.holds)
	})
}

// behind6 makes a second link, 2001:db8:2::/64, behind a router: its namespace, whose br1 leads there, and that of a client.
func (l *lab6) behind6() (relay, ns string) {
	relay = l.plug6("r", l.srv)
	run(l.t, "ip", "-n", relay, "addr", "add", "2001:db8:1::2/64", "dev", "eth0", "nodad")
	l.bridge(relay, "br1")
	run(l.t, "ip", "-n", relay, "addr", "add", "2001:db8:2::1/64", "dev", "br1", "nodad")
	ns = l.plug6("c", relay)
	l.settled(relay, "br1")
	return relay, ns
}
