//go:build dhcp

package dhcp

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/control/dhcp4"
	"bothy/operational/iface"
	"bothy/test/peer"
)

const asClient = "BOTHY_TEST_DHCP4_CLIENT"

// uplink is what our client is told that this program becomes in a namespace.
type uplink struct {
	Config dhcp4.ClientConfig
	File   string
}

func client(text string) error {
	var u uplink
	if err := json.Unmarshal([]byte(text), &u); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	wire, err := dhcp4.Dial(u.Config.Interface)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := dhcp4.ClientService{Config: u.Config, File: u.File, Host: iface.Interface(u.Config.Interface), Log: log}
	return c.Run(ctx, wire)
}

// peerServer is a DHCP server of somebody else: it serves br0 from 192.0.2.1, with the addresses .100 and .101, for a short time, without asking first
// whether they are free.
type peerServer struct {
	name     string
	needs    []string
	start    func(l *lab) (log *peer.Output)
	released string // what its log says of a DHCPRELEASE
	declined string
}

func (l *lab) file(name, content string) string {
	l.t.Helper()
	file := filepath.Join(l.dir, name)
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		l.t.Fatal(err)
	}
	return file
}

var peerServers = []peerServer{
	{"bothy", nil, func(l *lab) *peer.Output {
		cfg := &l.cfg.Config
		cfg.DefaultLease, cfg.MinLease = 16*time.Second, 16*time.Second
		cfg.Subnets[0].Pools[0].Last = cfg.Subnets[0].Pools[0].First.Next()
		l.start()
		return l.log
	}, "lease released", "lease declined"},
	{"kea", []string{"kea-dhcp4"}, func(l *lab) *peer.Output {
		config := l.file("kea.conf", `{"Dhcp4": {
  "interfaces-config": {"interfaces": ["br0"]}, "calculate-tee-times": true, "valid-lifetime": 16, "authoritative": true,
  "lease-database": {"type": "memfile", "name": "`+filepath.Join(l.dir, "kea.csv")+`"},
  "subnet4": [{"subnet": "192.0.2.0/24", "pools": [{"pool": "192.0.2.100 - 192.0.2.101"}], "option-data": [
    {"name": "routers", "data": "192.0.2.1"}, {"name": "domain-name", "data": "clinic.example"},
    {"name": "smtp-server", "data": "192.0.2.25"}, {"name": "pop-server", "data": "192.0.2.110"}]}],
  "loggers": [{"name": "kea-dhcp4", "severity": "DEBUG", "debuglevel": 50, "output_options": [{"output": "stdout"}]}]}}`)
		_, log := peer.Start(l.t, "ip", "netns", "exec", l.srv, "env", "KEA_PIDFILE_DIR="+l.dir, "KEA_LOCKFILE_DIR="+l.dir, "kea-dhcp4", "-c", config)
		return log
	}, "DHCP4_RELEASE ", "DHCP4_DECLINE_LEASE"},
	{"dnsmasq", []string{"dnsmasq"}, func(l *lab) *peer.Output {
		_, log := peer.Start(l.t, "ip", "netns", "exec", l.srv, "dnsmasq", "-k", "-C", "/dev/null", "--port=0", "--interface=br0", "--bind-interfaces", "--user=root", "--no-ping",
			"--dhcp-authoritative", "--log-dhcp", "--log-facility=-", "--pid-file="+filepath.Join(l.dir, "dnsmasq.pid"), "--dhcp-leasefile="+filepath.Join(l.dir, "dnsmasq.leases"),
			"--dhcp-range=192.0.2.100,192.0.2.101,255.255.255.0,2m", "--dhcp-option=option:T1,8", "--dhcp-option=option:T2,14", // its shortest lease is two minutes
			"--dhcp-option=option:router,192.0.2.1", "--domain=clinic.example", "--dhcp-option=69,192.0.2.25", "--dhcp-option=70,192.0.2.110")
		return log
	}, "DHCPRELEASE(br0)", "DHCPDECLINE(br0)"},
	{"dhcpd", []string{"dhcpd"}, func(l *lab) *peer.Output {
		config := l.file("dhcpd.conf", `authoritative; default-lease-time 16; max-lease-time 16; min-lease-time 16; ping-check false; option domain-name "clinic.example";
option smtp-server 192.0.2.25; option pop-server 192.0.2.110;
subnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.100 192.0.2.101; option routers 192.0.2.1; }
`)
		_, log := peer.Start(l.t, "ip", "netns", "exec", l.srv, "dhcpd", "-4", "-f", "-d", "-cf", config, "-lf", l.file("dhcpd.leases", ""), "-pf", filepath.Join(l.dir, "dhcpd.pid"), "br0")
		return log
	}, "DHCPRELEASE of", "DHCPDECLINE of"},
}

// ours is our client, running in a namespace.
type ours struct {
	l   *lab
	ns  string
	cfg uplink
	cmd *exec.Cmd
	log *peer.Output
}

func (l *lab) uplink() *ours {
	l.t.Helper()
	c := &ours{l: l, ns: l.plug("u", l.srv), cfg: uplink{File: filepath.Join(l.dir, "binding")}}
	c.cfg.Config = dhcp4.ClientConfig{Interface: "eth0", Hostname: "light", VendorClass: "bothy", DefaultRoute: true, Metric: 100, Check: 600 * time.Millisecond}
	return c
}

func (c *ours) start() {
	c.l.t.Helper()
	text, err := json.Marshal(c.cfg)
	if err != nil {
		c.l.t.Fatal(err)
	}
	c.cmd, c.log = peer.Start(c.l.t, "ip", "netns", "exec", c.ns, "env", asClient+"="+string(text), os.Args[0])
}

// says waits until the client has logged what, n times.
func (c *ours) says(what string, n int) {
	c.l.t.Helper()
	peer.Eventually(c.l.t, 60*time.Second, fmt.Sprintf("%q, %d times, of our client", what, n), func() bool {
		return strings.Count(c.log.String(), what) >= n
	})
}

// next waits until the client is bound once more, and returns what was logged meanwhile.
func (c *ours) next(after string) string {
	c.l.t.Helper()
	n := strings.Count(c.log.String(), "state=BOUND address=192.0.2.")
	c.says("state="+after, strings.Count(c.log.String(), "state="+after)+1)
	c.says("state=BOUND address=192.0.2.", n+1)
	return c.log.String()
}

func (c *ours) has(what string, args ...string) bool {
	return strings.Contains(run(c.l.t, "ip", append([]string{"-n", c.ns, "-4"}, args...)...), what)
}

// TestUplink: RFC 2131 §4.4, RFC 2131 §3.2: our client binds, renews, rebinds, reboots after kill -9, releases and declines, against other servers and our own.
func TestUplink(t *testing.T) {
	for _, s := range peerServers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			peer.Need(t, s.needs...)
			l := newLab(t)
			log := s.start(l)
			c := l.uplink()
			hook := l.file("hook", "#!/bin/sh\ncat >> "+filepath.Join(l.dir, "told")+"\n")
			if err := os.Chmod(hook, 0o755); err != nil {
				t.Fatal(err)
			}
			c.cfg.Config.Hook = hook
			c.start()
			c.says("state=BOUND address=192.0.2.", 1)
			address := "192.0.2.100"
			if !strings.Contains(c.log.String(), "address="+address) {
				address = "192.0.2.101"
			}
			if !c.has("inet "+address+"/24", "addr", "show", "eth0") || !c.has("default via 192.0.2.1 dev eth0 proto dhcp", "route") {
				t.Errorf("address or route is missing: %s", run(t, "ip", "-n", c.ns, "-4", "route"))
			}
			l.sees(filepath.Join(l.dir, "told"), `"domain":"clinic.example"`)
			l.sees(filepath.Join(l.dir, "told"), `"pop3":["192.0.2.110"]`)
			if got := c.next("RENEWING"); strings.Contains(got, "REBINDING") {
				t.Error("rebound instead of renewed")
			}
			unicast(t, c.ns, false)
			c.next("REBINDING")
			unicast(t, c.ns, true)

			end(t, c.cmd, syscall.SIGKILL)
			c.cfg.Config.Release = true
			c.start()
			c.says("state=REBOOTING", 1)
			c.says("state=BOUND address="+address, 1)
			if strings.Contains(c.log.String(), "SELECTING") {
				t.Error("asked for another address")
			}
			end(t, c.cmd, syscall.SIGINT)
			peer.Eventually(t, 10*time.Second, "the release", func() bool { return strings.Contains(log.String(), s.released) })
			if c.has("inet ", "addr", "show", "eth0") || c.has("default", "route") {
				t.Error("address or route is still there after the release")
			}

			squatter := l.plug("q", l.srv)
			run(t, "ip", "-n", squatter, "addr", "add", "192.0.2.100/24", "dev", "eth0")
			run(t, "ip", "-n", squatter, "addr", "add", "192.0.2.101/24", "dev", "eth0")
			c.start()
			c.says("is in use by somebody else: declined", 1)
			free := "192.0.2.100"
			if strings.Contains(c.log.String(), "192.0.2.100 is in use") {
				free = "192.0.2.101"
			}
			run(t, "ip", "-n", squatter, "addr", "del", free+"/24", "dev", "eth0")
			c.says("state=BOUND address="+free, 1)
			if !strings.Contains(log.String(), s.declined) {
				t.Error("the server saw no DHCPDECLINE")
			}
		})
	}
}
