//go:build dhcp

package dhcp

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/control/dhcp6"
	"bothy/test/peer"
)

// What the measurement is: four messages for each new client, the highest rate at which no more than one in forty is not served.
const (
	mostLost = 2.5 // percent
	probe    = 4   // seconds
)

var lost = regexp.MustCompile(`drops ratio: ([\d.]+) %`)

// carried reports whether a server serves so many new clients a second.
func (l *lab6) carried(ns string, rate int) bool {
	l.t.Helper()
	out, _ := peer.Run(l.t, "", "ip", "netns", "exec", ns, "perfdhcp", "-6", "-l", "eth0", "-r", strconv.Itoa(rate), "-p", strconv.Itoa(probe), "-R", "100000000", "-g", "single", "-W", "500000")
	all := lost.FindAllStringSubmatch(out, -1)
	if len(all) < 2 {
		l.t.Fatalf("perfdhcp: %s", out)
	}
	worst, whole := 0.0, 100.0
	for _, m := range all {
		share, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			l.t.Fatal(err)
		}
		worst, whole = max(worst, share), whole*(1-share/100)
	}
	return 100-whole <= mostLost
}

// TestMeasure6 compares new leases a second, and the latency of a lease at half of that, with Kea's in memory, which syncs nothing. Each probe has a
// server of its own with an empty store. `make bench-dhcp` runs it.
func TestMeasure6(t *testing.T) {
	if os.Getenv("BOTHY_BENCH_DHCP") == "" {
		t.Skip("only for make bench-dhcp")
	}
	peer.Need(t, "perfdhcp", "kea-dhcp6")
	first, last := netip.MustParseAddr("2001:db8:1::1:0"), netip.MustParseAddr("2001:db8:1::f:ffff")
	n := 0
	servers := map[string]func(l *lab6){
		"bothy": func(l *lab6) {
			l.cfg6.Quiet, l.cfg6.Dir = true, filepath.Join(l.dir, fmt.Sprint("leases", n))
			l.cfg6.Config.Preferred, l.cfg6.Config.Valid = time.Hour, time.Hour
			l.cfg6.Config.Subnets[0].Pools = []dhcp6.PoolConfig{{First: first, Last: last}}
			l.start6()
		},
		"kea": func(l *lab6) {
			config := l.file("kea.conf", fmt.Sprintf(`{"Dhcp6": {"interfaces-config": {"interfaces": ["br0"]}, "preferred-lifetime": 3600, "valid-lifetime": 3600,
  "server-id": {"type": "EN", "enterprise-id": 32473, "identifier": "01", "persist": false},
  "lease-database": {"type": "memfile", "persist": true, "lfc-interval": 0, "name": "%s"},
  "subnet6": [{"subnet": "2001:db8:1::/64", "interface": "br0", "pools": [{"pool": "%v - %v"}]}],
  "loggers": [{"name": "kea-dhcp6", "severity": "WARN", "output_options": [{"output": "stdout"}]}]}}`, filepath.Join(l.dir, fmt.Sprint("kea", n, ".csv")), first, last))
			l.cmd, l.log = peer.Start(t, "ip", "netns", "exec", l.srv, "env", "KEA_PIDFILE_DIR="+l.dir, "KEA_LOCKFILE_DIR="+l.dir, "kea-dhcp6", "-c", config)
		},
	}
	best := map[string]int{}
	for _, name := range []string{"bothy", "kea"} {
		l := newLab6(t)
		ns := l.plug6("c", l.srv)
		with := func(work func()) {
			n++
			servers[name](l)
			text, err := json.Marshal(load6{Count: 1, Window: 1}) // it asks until a server answers
			if err != nil {
				t.Fatal(err)
			}
			if out := run(t, "ip", "netns", "exec", ns, "env", asLoad6+"="+string(text), os.Args[0]); !strings.Contains(out, "ack") {
				t.Fatalf("%s does not serve: %s", name, out)
			}
			work()
			end(t, l.cmd, syscall.SIGKILL)
		}
		try := func(rate int) (ok bool) {
			with(func() { ok = l.carried(ns, rate) })
			return ok
		}
		rate := 1000
		for try(rate) {
			best[name], rate = rate, rate*3/2
		}
		if more := (best[name] + rate) / 2; try(more) {
			best[name] = more
		}
		half := max(best[name]/2, 1)
		var took []int
		with(func() {
			out := l.load(ns, load6{Count: half * probe, Rate: half})
			peer.Eventually(t, 60*time.Second, "the load's end", func() bool { return strings.Contains(out.String(), "done") })
			for line := range strings.Lines(out.String()) {
				if f := strings.Fields(line); len(f) == 4 && f[0] == "ack" {
					us, _ := strconv.Atoi(f[3])
					took = append(took, us)
				}
			}
		})
		slices.Sort(took)
		if len(took) < half*probe*9/10 {
			t.Errorf("%s: %d of %d served at half load", name, len(took), half*probe)
			continue
		}
		t.Logf("%-6s %6d new leases a second; at half of that a Reply takes %v, p99 %v", name, best[name],
			time.Duration(took[len(took)/2])*time.Microsecond, time.Duration(took[len(took)*99/100])*time.Microsecond)
		if p99 := took[len(took)*99/100]; name == "bothy" && p99 > 10_000 {
			t.Errorf("p99 %d µs", p99)
		}
	}
	t.Logf("%.2f of Kea", float64(best["bothy"])/float64(max(best["kea"], 1)))
	if best["bothy"] < best["kea"] {
		t.Errorf("%d leases a second, and Kea %d", best["bothy"], best["kea"])
	}
}
