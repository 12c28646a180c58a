//go:build dhcp

package dhcp

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"bothy/test/peer"
)

// server4 is a DHCPv4 server on br0, with two addresses for each of the two subnets, which it gives without asking first whether they are free. T1 comes after
// some seconds; T2 a while before the lease ends.
type server4 struct {
	name     string
	needs    []string
	start    func(l *lab) *peer.Output
	released string // what its log says of a DHCPRELEASE
	declined string
}

var servers4 = []server4{
	{"bothy", nil, func(l *lab) *peer.Output {
		return l.site("site", l.srv, strings.NewReplacer("100.103", "100.101", "192.0.2.103", "192.0.2.101", "[[dhcp4.subnet]]\nprefix = \"192.0.2.0/24\"", "probe = \"0s\"\n[[dhcp4.subnet]]\nprefix = \"192.0.2.0/24\"").Replace(serving4)).log
	}, "lease released", "lease declined"},
	{"kea", []string{"kea-dhcp4"}, func(l *lab) *peer.Output {
		config := l.file("kea.conf", `{"Dhcp4": {
  "interfaces-config": {"interfaces": ["br0"]}, "renew-timer": 8, "rebind-timer": 14, "valid-lifetime": 60, "authoritative": true,
  "lease-database": {"type": "memfile", "name": "`+filepath.Join(l.dir, "kea.csv")+`"},
  "option-data": [{"name": "domain-name", "data": "clinic.example"}, {"name": "smtp-server", "data": "192.0.2.1"}, {"name": "pop-server", "data": "192.0.2.110"}],
  "subnet4": [
    {"subnet": "192.0.2.0/24", "pools": [{"pool": "192.0.2.100 - 192.0.2.101"}], "option-data": [{"name": "routers", "data": "192.0.2.1"}]},
    {"subnet": "198.51.100.0/24", "pools": [{"pool": "198.51.100.100 - 198.51.100.101"}], "option-data": [{"name": "routers", "data": "198.51.100.1"}]}],
  "loggers": [{"name": "kea-dhcp4", "severity": "DEBUG", "debuglevel": 50, "output_options": [{"output": "stdout"}]}]}}`)
		_, log := l.run("env", "KEA_PIDFILE_DIR="+l.dir, "KEA_LOCKFILE_DIR="+l.dir, "kea-dhcp4", "-c", config)
		return log
	}, "DHCP4_RELEASE ", "DHCP4_DECLINE_LEASE"},
	{"dnsmasq", []string{"dnsmasq"}, func(l *lab) *peer.Output { // its shortest lease is two minutes
		_, log := l.run("dnsmasq", "-k", "-C", "/dev/null", "--port=0", "--interface=br0", "--bind-interfaces", "--user=root", "--no-ping",
			"--dhcp-authoritative", "--log-dhcp", "--log-facility=-", "--pid-file="+filepath.Join(l.dir, "dnsmasq.pid"), "--dhcp-leasefile="+filepath.Join(l.dir, "dnsmasq.leases"),
			"--dhcp-range=set:near,192.0.2.100,192.0.2.101,255.255.255.0,2m", "--dhcp-option=tag:near,option:router,192.0.2.1",
			"--dhcp-range=set:far,198.51.100.100,198.51.100.101,255.255.255.0,2m", "--dhcp-option=tag:far,option:router,198.51.100.1",
			"--dhcp-option=option:T1,8", "--dhcp-option=option:T2,14", "--domain=clinic.example", "--dhcp-option=69,192.0.2.1", "--dhcp-option=70,192.0.2.110")
		return log
	}, "DHCPRELEASE(br0)", "DHCPDECLINE(br0)"},
	{"dhcpd", []string{"dhcpd"}, func(l *lab) *peer.Output {
		config := l.file("dhcpd.conf", `authoritative; default-lease-time 60; max-lease-time 60; min-lease-time 60; ping-check false; option domain-name "clinic.example";
option dhcp-renewal-time 8; option dhcp-rebinding-time 14; option smtp-server 192.0.2.1; option pop-server 192.0.2.110;
subnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.100 192.0.2.101; option routers 192.0.2.1; }
subnet 198.51.100.0 netmask 255.255.255.0 { range 198.51.100.100 198.51.100.101; option routers 198.51.100.1; }
`)
		_, log := l.run("dhcpd", "-4", "-f", "-d", "-cf", config, "-lf", l.file("dhcpd.leases", ""), "-pf", filepath.Join(l.dir, "dhcpd.pid"), "br0")
		return log
	}, "DHCPRELEASE of", "DHCPDECLINE of"},
}

// run starts a program beside the bridge.
func (l *lab) run(args ...string) (*exec.Cmd, *peer.Output) {
	l.t.Helper()
	return peer.Start(l.t, "ip", append([]string{"netns", "exec", l.srv}, args...)...)
}

// server6 is a DHCPv6 server on br0, which gives addresses from 2001:db8:1::1000 on and says the mail servers. Another makes it one with another DUID, which
// has the leases of the first.
type server6 struct {
	name    string
	needs   []string
	start   func(l *lab6, another bool) (*exec.Cmd, *peer.Output)
	prefix  bool // it delegates prefixes
	renews  bool // it lets clients renew within seconds; the shortest lease of dnsmasq is two minutes
	rebinds bool // another has the leases of the first, and extends them
}

var servers6 = []server6{
	{"bothy", nil, func(l *lab6, another bool) (*exec.Cmd, *peer.Output) {
		if another {
			if err := os.Remove(filepath.Join(l.dir, "site", "dhcp6.identity")); err != nil {
				l.t.Fatal(err)
			}
		}
		s := l.site("site", l.srv, serving6)
		return s.cmd, s.log
	}, true, true, true},
	{"kea", []string{"kea-dhcp6"}, func(l *lab6, another bool) (*exec.Cmd, *peer.Output) {
		id := "01"
		if another {
			id = "02"
		}
		config := l.file("kea6.conf", `{"Dhcp6": {
  "interfaces-config": {"interfaces": ["br0"]}, "preferred-lifetime": 60, "valid-lifetime": 120, "renew-timer": 5, "rebind-timer": 8,
  "server-id": {"type": "EN", "enterprise-id": 32473, "identifier": "`+id+`", "persist": false},
  "lease-database": {"type": "memfile", "name": "`+filepath.Join(l.dir, "kea6.csv")+`"},
  "option-def": [{"name": "imap-servers", "code": 65001, "space": "dhcp6", "type": "ipv6-address", "array": true},
    {"name": "pop3-servers", "code": 65002, "space": "dhcp6", "type": "ipv6-address", "array": true},
    {"name": "smtp-servers", "code": 65003, "space": "dhcp6", "type": "ipv6-address", "array": true}],
  "option-data": [{"name": "imap-servers", "data": "2001:db8:1::143, 2001:db8:1::144"}, {"name": "pop3-servers", "data": "2001:db8:1::110"},
    {"name": "smtp-servers", "data": "2001:db8:1::1"}, {"name": "dns-servers", "data": "2001:db8:1::53"}],
  "subnet6": [{"subnet": "2001:db8:1::/64", "interface": "br0", "pools": [{"pool": "2001:db8:1::1000 - 2001:db8:1::100f"}],
    "pd-pools": [{"prefix": "2001:db8:100::", "prefix-len": 48, "delegated-len": 56}]}],
  "loggers": [{"name": "kea-dhcp6", "severity": "DEBUG", "debuglevel": 50, "output_options": [{"output": "stdout"}]}]}}`)
		return l.run("env", "KEA_PIDFILE_DIR="+l.dir, "KEA_LOCKFILE_DIR="+l.dir, "kea-dhcp6", "-c", config)
	}, true, true, true},
	{"dnsmasq", []string{"dnsmasq"}, func(l *lab6, _ bool) (*exec.Cmd, *peer.Output) {
		return l.run("dnsmasq", "-k", "-C", "/dev/null", "--port=0", "--interface=br0", "--bind-interfaces", "--user=root",
			"--dhcp-authoritative", "--log-dhcp", "--log-facility=-", "--pid-file="+filepath.Join(l.dir, "dnsmasq6.pid"), "--dhcp-leasefile="+filepath.Join(l.dir, "dnsmasq6.leases"),
			"--dhcp-range=2001:db8:1::1000,2001:db8:1::100f,64,2m", "--dhcp-option=option6:dns-server,[2001:db8:1::53]",
			"--dhcp-option=option6:65001,[2001:db8:1::143],[2001:db8:1::144]", "--dhcp-option=option6:65002,[2001:db8:1::110]", "--dhcp-option=option6:65003,[2001:db8:1::1]")
	}, false, false, false},
	{"dhcpd", []string{"dhcpd"}, func(l *lab6, another bool) (*exec.Cmd, *peer.Output) {
		id := 1
		if another {
			id = 2
		}
		config := l.file("dhcpd6.conf", fmt.Sprintf(`default-lease-time 120; preferred-lifetime 60; option dhcp-renewal-time 5; option dhcp-rebinding-time 8; server-duid EN 32473 "0%d";
option dhcp6.imap-servers code 65001 = array of ip6-address; option dhcp6.imap-servers 2001:db8:1::143, 2001:db8:1::144; option dhcp6.name-servers 2001:db8:1::53;
option dhcp6.pop3-servers code 65002 = array of ip6-address; option dhcp6.pop3-servers 2001:db8:1::110;
option dhcp6.smtp-servers code 65003 = array of ip6-address; option dhcp6.smtp-servers 2001:db8:1::1;
subnet6 2001:db8:1::/64 { range6 2001:db8:1::1000 2001:db8:1::100f; prefix6 2001:db8:100:: 2001:db8:100:ff00:: /56; }
`, id))
		leases := filepath.Join(l.dir, "dhcpd6.leases")
		content, _ := os.ReadFile(leases) // none yet
		kept := slices.DeleteFunc(strings.Split(string(content), "\n"), func(line string) bool { return strings.HasPrefix(line, "server-duid") })
		l.file("dhcpd6.leases", strings.Join(kept, "\n"))
		return l.run("dhcpd", "-6", "-f", "-d", "-cf", config, "-lf", leases, "-pf", filepath.Join(l.dir, "dhcpd6.pid"), "br0")
	}, true, true, true},
}
