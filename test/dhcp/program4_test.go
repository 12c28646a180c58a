//go:build dhcp

package dhcp

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/control/dhcp4"
	"bothy/control/lease"
	"bothy/test/peer"
)

// program is the whole program in a lab's namespace.
type program struct {
	*lab
	binary, config string
}

// bothy writes a configuration for a subnet of 65,536 addresses.
func (l *lab) bothy() *program {
	t := l.t
	t.Helper()
	peer.Need(t, "perfdhcp")
	run(t, "ip", "-n", l.srv, "addr", "add", "10.0.0.1/16", "dev", "br0")
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{lab: l, binary: binary}
	p.config = l.file("bothy.toml", `hostname = "site.clinic.example"
data = "`+filepath.Join(l.dir, "data")+`"
[smtp]
listen = [":25"]
[pop3]
listen = [":110"]
[dhcp4]
interfaces = ["br0"]
probe = "0s"
[[dhcp4.subnet]]
prefix = "192.0.2.0/24"
pool = [{first = "192.0.2.100", last = "192.0.2.109"}]
[[dhcp4.subnet]]
prefix = "10.0.0.0/16"
pool = [{first = "10.0.1.0", last = "10.0.40.255"}]
`)
	return p
}

const poolSize = 40 * 256

// start runs the program, under another one perhaps.
func (p *program) start(under ...string) {
	p.t.Helper()
	args := slices.Concat([]string{"netns", "exec", p.srv}, under, []string{p.binary, "serve", "--config", p.config})
	p.cmd, p.log = peer.Start(p.t, "ip", args...)
	p.said(`msg="bothy is ready"`, 1)
}

// load makes a namespace from which perfdhcp asks, as a relay agent would.
func (p *program) load() (ns string) {
	ns = p.plug("l", p.srv)
	run(p.t, "ip", "-n", ns, "addr", "add", "10.0.0.2/16", "dev", "eth0")
	return ns
}

var (
	perfLease    = regexp.MustCompile(`(?m)^([0-9a-f:]+),(10\.[0-9.]+|2001:[0-9a-f:]+),`)
	perfReceived = regexp.MustCompile(`(?m)^received packets: (\d+)$`)
	perfDrops    = regexp.MustCompile(`(?m)^drops: (\d+)$`)
	perfTwice    = regexp.MustCompile(`(?m)^non unique addresses: (\d+)$`)
)

// leases are the acknowledged addresses that perfdhcp printed, by client. Offers, which it prints before, promise nothing: a server that was killed may
// make one again to somebody else.
func leases(t *testing.T, printed string) map[string]netip.Addr {
	t.Helper()
	_, statistics, _ := strings.Cut(printed, "***Statistics for: REQUEST-") // ACK or REPLY
	_, acknowledged, ok := strings.Cut(statistics, "***Leases for REQUEST-")
	if !ok {
		t.Fatalf("perfdhcp: %.2000s", printed)
	}
	all := map[string]netip.Addr{}
	for _, m := range perfLease.FindAllStringSubmatch(acknowledged, -1) {
		all[m[1]] = netip.MustParseAddr(m[2])
	}
	if m := perfTwice.FindStringSubmatch(statistics); m == nil || m[1] != "0" {
		t.Errorf("addresses given twice: %q", m)
	}
	return all
}

// TestProgram: a host is told of the site's own mail servers, without anybody saying it twice.
func TestProgram(t *testing.T) {
	t.Parallel()
	peer.Need(t, "udhcpc")
	p := newLab(t).bothy()
	p.start()
	ns := p.plug("c", p.srv)
	script, file := p.hook("udhcpc", "$1", "$ip")
	peer.Start(t, "ip", "netns", "exec", ns, "udhcpc", "-f", "-i", "eth0", "-s", script, "-O", "69", "-O", "70", "-t", "5", "-T", "2")
	for _, what := range []string{"event=bound", "ip=192.0.2.100", "opt69=c0000201", "opt70=c0000201"} {
		p.sees(file, what)
	}
	out := run(t, "ip", "netns", "exec", ns, p.binary, "mail", "discover", "eth0", "--json", "--timeout", "5s")
	if !strings.Contains(strings.Join(strings.Fields(out), ""), `"pop3":[{"address":"192.0.2.1","by":"DHCPv4","from":"192.0.2.1","trust":"unproven"}],"smtp":[{"address":"192.0.2.1"`) {
		t.Errorf("mail discover: %s", out)
	}
}

// A configuration is read again and again under load: nobody is left without an answer.
func TestReloadUnderLoad(t *testing.T) {
	p := newLab(t).bothy()
	p.start()
	ns := p.load()
	done := make(chan string)
	go func() {
		out, _ := exec.Command("ip", "netns", "exec", ns, "perfdhcp", "-4", "-u", "-g", "single", "-r", "400", "-R", "1000000", "-n", "2000", "-W", "1000000", "10.0.0.1").CombinedOutput()
		done <- string(out)
	}()
	tick := time.NewTicker(150 * time.Millisecond)
	defer tick.Stop()
	for reloads := 0; ; {
		select {
		case <-tick.C:
			p.cmd.Process.Signal(syscall.SIGHUP)
			reloads++
		case out := <-done:
			for _, m := range perfDrops.FindAllStringSubmatch(out, -1) {
				if m[1] != "0" {
					t.Errorf("%s packets were lost", m[1])
				}
			}
			if n := strings.Count(out, "received packets: 2000"); n != 2 || reloads < 10 {
				t.Errorf("%d reloads, %s", reloads, out)
			}
			return
		}
	}
}

// TestSyncBeforeACK: RFC 2131 §3.1: the binding is on the disk before the DHCPACK, for each of forty clients that come one by one, and of a thousand that
// come together.
func TestSyncBeforeACK(t *testing.T) {
	peer.Need(t, "strace")
	p := newLab(t).bothy()
	trace := filepath.Join(p.dir, "trace")
	p.start(tracing(trace)...)
	ns := p.load()
	var out string
	come := func(rate, n, wait, mac string) (acked int) { // perfdhcp asks once only, and counts what it did not wait for as lost
		printed, _ := peer.Run(t, "", "ip", "netns", "exec", ns, "perfdhcp", "-4", "-u", "-g", "single", "-r", rate, "-R", "1000000", "-n", n, "-W", wait, "-b", "mac="+mac, "10.0.0.1")
		out += printed
		if m := perfReceived.FindAllStringSubmatch(printed, -1); len(m) == 2 { // of DISCOVER-OFFER, of REQUEST-ACK
			acked, _ = strconv.Atoi(m[1][1])
		}
		return acked
	}
	come("20", "42", "500000", "00:0c:00:00:00:00")
	for i, rate := range []string{"1000", "500", "250", "120"} { // who is watched is slow, and slower on a busy machine: what finds no room in its socket is lost
		if come(rate, "1000", "2000000", fmt.Sprintf("00:0c:%02x:00:00:00", i+1)) >= 500 {
			break
		}
	}
	for _, pid := range strings.Fields(run(t, "ip", "netns", "pids", p.srv)) { // strace takes no orders, but ends with what it watches
		if n, err := strconv.Atoi(pid); err == nil {
			syscall.Kill(n, syscall.SIGTERM)
		}
	}
	peer.Eventually(t, 20*time.Second, "the end of the program", func() bool { return run(t, "ip", "netns", "pids", p.srv) == "" })
	acks, durable := answers(t, trace, func(b []byte) (client []byte) {
		var m dhcp4.Packet
		if m.Parse(b) != nil || m.Type() != dhcp4.Ack {
			return nil
		}
		return m.Hardware()
	})
	if acks < 500 || durable != acks {
		t.Errorf("the lease on the disk before %d of %d DHCPACKs\n%s", durable, acks, out)
	}
	t.Logf("%d DHCPACKs", acks)
}

// The server is killed in the middle of a load: who has a DHCPACK has the address, and nobody else gets it, to the last address of the pool.
func TestKilledUnderLoad(t *testing.T) {
	p := newLab(t).bothy()
	p.start()
	ns := p.load()
	perf := func(mac, n, rate string) string {
		out, _ := exec.Command("ip", "netns", "exec", ns, "perfdhcp", "-4", "-u", "-x", "l", "-g", "single", "-r", rate, "-R", "1000000", "-n", n, "-W", "1000000",
			"-b", "mac="+mac, "10.0.0.1").CombinedOutput() // not all is answered, and that is no success to it
		return string(out)
	}
	first := make(chan string)
	go func() { first <- perf("00:0c:01:00:00:00", "4000", "1000") }()
	p.said(`"lease bound"`, 500)
	end(t, p.cmd, syscall.SIGKILL)
	p.start()
	given := leases(t, <-first)
	if len(given) < 400 {
		t.Fatalf("only %d leases before and after the kill", len(given))
	}
	stored := p.stored()
	for client, a := range given {
		if l, ok := stored[a]; !ok || !strings.HasSuffix(strings.ReplaceAll(l.Client.String(), ":", ""), client[2:]) {
			t.Errorf("%v was acknowledged to %s and is %+v", a, client, l)
		}
	}
	holder := map[netip.Addr]string{}
	for client, a := range given {
		holder[a] = client
	}
	for client, a := range leases(t, perf("00:0c:02:00:00:00", "11000", "2000")) { // more than there are
		if other := holder[a]; other != "" {
			t.Errorf("%v was given to %s and to %s", a, other, client)
		}
		holder[a] = client
	}
	t.Logf("%d leases before the second load, %d of %d in the end", len(given), len(holder), poolSize)
	if len(holder) < poolSize*9/10 {
		t.Errorf("only %d of %d addresses were given", len(holder), poolSize)
	}
}

// stored are the leases as the command line shows them.
func (p *program) stored() map[netip.Addr]lease.Lease {
	p.t.Helper()
	var rows []lease.Lease
	out := run(p.t, "ip", "netns", "exec", p.srv, p.binary, "lease", "list", "--json", "--config", p.config)
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		p.t.Fatalf("%v: %.200s", err, out)
	}
	all := map[netip.Addr]lease.Lease{}
	for _, l := range rows {
		all[l.Prefix.Addr()] = l
	}
	return all
}
