//go:build dhcp

package dhcp

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/control/dhcp6"
	"bothy/test/peer"
)

// peerServer6 is a DHCPv6 server of somebody else, on br0, that gives 2001:db8:1::100 to ::10f for a short time and says the mail servers. another makes
// it one with another DUID, which has the leases of the first.
type peerServer6 struct {
	name    string
	needs   []string
	start   func(l *lab6, another bool) (*exec.Cmd, *peer.Output)
	prefix  bool // it delegates prefixes
	renewed int  // its shortest time to T1, in seconds
	rebinds bool // another has the leases of the first, and extends them
}

var peerServers6 = []peerServer6{
	{"bothy", nil, func(l *lab6, another bool) (*exec.Cmd, *peer.Output) {
		if another {
			l.cfg6.Identity += "'"
		}
		l.start6()
		return l.cmd, l.log
	}, true, 5, true},
	{"kea", []string{"kea-dhcp6"}, func(l *lab6, another bool) (*exec.Cmd, *peer.Output) {
		id := "01"
		if another {
			id = "02"
		}
		config := l.file("kea6.conf", `{"Dhcp6": {
  "interfaces-config": {"interfaces": ["br0"]}, "preferred-lifetime": 10, "valid-lifetime": 20, "renew-timer": 5, "rebind-timer": 8,
  "server-id": {"type": "EN", "enterprise-id": 32473, "identifier": "`+id+`", "persist": false},
  "lease-database": {"type": "memfile", "name": "`+filepath.Join(l.dir, "kea6.csv")+`"},
  "option-def": [{"name": "imap-servers", "code": 65001, "space": "dhcp6", "type": "ipv6-address", "array": true}],
  "option-data": [{"name": "imap-servers", "data": "2001:db8:1::143, 2001:db8:1::144"}, {"name": "dns-servers", "data": "2001:db8:1::53"}],
  "subnet6": [{"subnet": "2001:db8:1::/64", "interface": "br0", "pools": [{"pool": "2001:db8:1::100 - 2001:db8:1::10f"}],
    "pd-pools": [{"prefix": "2001:db8:100::", "prefix-len": 48, "delegated-len": 56}]}],
  "loggers": [{"name": "kea-dhcp6", "severity": "DEBUG", "debuglevel": 50, "output_options": [{"output": "stdout"}]}]}}`)
		return peer.Start(l.t, "ip", "netns", "exec", l.srv, "env", "KEA_PIDFILE_DIR="+l.dir, "KEA_LOCKFILE_DIR="+l.dir, "kea-dhcp6", "-c", config)
	}, true, 5, true},
	{"dnsmasq", []string{"dnsmasq"}, func(l *lab6, _ bool) (*exec.Cmd, *peer.Output) {
		return peer.Start(l.t, "ip", "netns", "exec", l.srv, "dnsmasq", "-k", "-C", "/dev/null", "--port=0", "--interface=br0", "--bind-interfaces", "--user=root",
			"--dhcp-authoritative", "--log-dhcp", "--log-facility=-", "--pid-file="+filepath.Join(l.dir, "dnsmasq6.pid"), "--dhcp-leasefile="+filepath.Join(l.dir, "dnsmasq6.leases"),
			"--dhcp-range=2001:db8:1::100,2001:db8:1::10f,64,2m", "--dhcp-option=option6:dns-server,[2001:db8:1::53]", "--dhcp-option=option6:65001,[2001:db8:1::143],[2001:db8:1::144]")
	}, false, 60, false},
	{"dhcpd", []string{"dhcpd"}, func(l *lab6, another bool) (*exec.Cmd, *peer.Output) {
		id := 1
		if another {
			id = 2
		}
		config := l.file("dhcpd6.conf", fmt.Sprintf(`default-lease-time 20; preferred-lifetime 10; option dhcp-renewal-time 5; option dhcp-rebinding-time 8; server-duid EN 32473 "0%d";
option dhcp6.imap-servers code 65001 = array of ip6-address; option dhcp6.imap-servers 2001:db8:1::143, 2001:db8:1::144; option dhcp6.name-servers 2001:db8:1::53;
subnet6 2001:db8:1::/64 { range6 2001:db8:1::100 2001:db8:1::10f; prefix6 2001:db8:100:: 2001:db8:100:ff00:: /56; }
`, id))
		leases := filepath.Join(l.dir, "dhcpd6.leases")
		content, _ := os.ReadFile(leases) // none yet
		kept := slices.DeleteFunc(strings.Split(string(content), "\n"), func(line string) bool { return strings.HasPrefix(line, "server-duid") })
		l.file("dhcpd6.leases", strings.Join(kept, "\n"))
		return peer.Start(l.t, "ip", "netns", "exec", l.srv, "dhcpd", "-6", "-f", "-d", "-cf", config, "-lf", leases, "-pf", filepath.Join(l.dir, "dhcpd6.pid"), "br0")
	}, true, 5, true},
}

// ours6 is our DHCPv6 client, running in a namespace.
type ours6 struct {
	l   *lab6
	cmd *exec.Cmd
	log *peer.Output
}

func (l *lab6) uplink6(ns string, u uplink6) *ours6 {
	l.t.Helper()
	text, err := json.Marshal(u)
	if err != nil {
		l.t.Fatal(err)
	}
	c := &ours6{l: l}
	c.cmd, c.log = peer.Start(l.t, "ip", "netns", "exec", ns, "env", asClient6+"="+string(text), os.Args[0])
	return c
}

func (c *ours6) says(what string, n int) {
	c.l.t.Helper()
	peer.Eventually(c.l.t, 70*time.Second, fmt.Sprintf("%q, %d times, of our client", what, n), func() bool {
		return strings.Count(c.log.String(), what) >= n
	})
}

// Our client binds, renews, rebinds and releases at each server, and declines an address that somebody has: RFC 9915 §18.2.
func TestUplink6(t *testing.T) {
	t.Parallel()
	for _, s := range peerServers6 {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			peer.Need(t, s.needs...)
			l := newLab6(t)
			mail := l.cfg6.Config.Mail
			cmd, log := s.start(l, false)
			defer func() {
				if t.Failed() {
					t.Log(log.String())
				}
			}()
			ns := l.plug6("u", l.srv)
			u := uplink6{Dir: l.dir, Config: dhcp6.ClientConfig{Interface: "eth0", Address: true, Prefix: s.prefix, Release: true, IMAPCode: mail.IMAPCode}}
			c := l.uplink6(ns, u)
			c.says(`\"imap\":[\"2001:db8:1::143\",\"2001:db8:1::144\"]`, 1)
			if s.prefix {
				c.says(`prefixes=[2001:db8:100:`, 1)
			}
			address := func() string {
				_, rest, _ := strings.Cut(c.log.String(), `state=bound addresses=[`)
				a, _, _ := strings.Cut(rest, "/128")
				return a
			}
			c.says(`state=bound addresses=[2001:db8:1::1`, 1)
			had := address()
			peer.Eventually(t, 20*time.Second, "the address on eth0", func() bool {
				return strings.Contains(run(t, "ip", "-n", ns, "-6", "addr", "show", "dev", "eth0"), had+"/128")
			})
			if s.renewed < 30 {
				c.says("sends Renew", 1)
				c.says(`state=bound addresses=[`+had, 2)
			}
			if s.rebinds {
				end(t, cmd, syscall.SIGKILL)
				_, log = s.start(l, true)
				n := strings.Count(c.log.String(), `state=bound addresses=[`+had)
				c.says("sends Rebind", 1)
				c.says(`state=bound addresses=[`+had, n+1)
			}
			end(t, c.cmd, syscall.SIGINT)
			c.says("sends Release", 1)
			if out := run(t, "ip", "-n", ns, "-6", "addr", "show", "dev", "eth0"); strings.Contains(out, had) {
				t.Errorf("released, and still there:\n%s", out)
			}
			squatter := l.plug6("q", l.srv) // has the address that our client is given again
			run(t, "ip", "-n", squatter, "addr", "add", had+"/64", "dev", "eth0", "nodad")
			c = l.uplink6(ns, u)
			c.says("somebody else on the link has the address", 1)
			c.says("sends Decline", 1)
			peer.Eventually(t, 60*time.Second, "another address", func() bool {
				all := strings.Split(c.log.String(), `state=bound addresses=[`)
				last := all[len(all)-1]
				return strings.HasPrefix(last, "2001:db8:1::1") && !strings.HasPrefix(last, had)
			})
			end(t, c.cmd, syscall.SIGINT)
		})
	}
}

// RFC 9915 §18.3.11, §18.2.11: told by the server of a new configuration, the client has it long before its lease calls for a Renew.
func TestReconfigured6(t *testing.T) {
	t.Parallel()
	l := newLab6(t)
	l.cfg6.Config.Preferred, l.cfg6.Config.Valid, l.cfg6.Config.Reconfigure = time.Hour, time.Hour, true
	changed := l.cfg6.Config
	changed.Mail.IMAP = []netip.Addr{netip.MustParseAddr("2001:db8:1::993")}
	l.cfg6.Changed = &changed
	l.start6()
	c := l.uplink6(l.plug6("u", l.srv), uplink6{Dir: l.dir, Config: dhcp6.ClientConfig{Interface: "eth0", Address: true, Reconfigure: true, IMAPCode: 65001}})
	c.says(`\"imap\":[\"2001:db8:1::143\",\"2001:db8:1::144\"]`, 1)
	if err := l.cmd.Process.Signal(hangup); err != nil {
		t.Fatal(err)
	}
	l.said("went Reconfigure", 1)
	c.says("sends Renew", 1)
	c.says(`\"imap\":[\"2001:db8:1::993\"]`, 1)
}
