//go:build dhcp

package dhcp

import (
	"fmt"
	"net/netip"
	"os"
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
	"bothy/control/dhcp6"
	"bothy/test/peer"
)

// What is measured: four messages for each new client, to a server that was just started with an empty store.
const (
	mostUnfinished = 2.5 // percent of the exchanges at a rate that counts as carried
	tries          = 2   // at one rate: a machine has other things to do, too
	searches       = 3   // of which the median counts
	seconds        = 4   // of one probe
	lowest         = 500 // new clients a second: both the slowest probe and the difference between two
	highest        = 16_500
	slowestP99     = 10 * time.Millisecond
)

// contest is our server beside Kea: the same perfdhcp with the same arguments, in turns, on one machine.
type contest struct {
	*lab
	ns    string   // where perfdhcp is
	asks  []string // its arguments: of which protocol, and whom
	port  string   // that servers listen on
	begin map[string]func(store string)
	n     int // stores used up
}

var contestants = []string{"kea", "bothy"}

// outcome is what perfdhcp found at one rate.
type outcome struct {
	unfinished float64         // percent of the exchanges
	took       []time.Duration // by the 99th of 100: the first answers, and the second, with -x t
}

var (
	dropRatio = regexp.MustCompile(`drops ratio: ([\d.]+) %`)
	timestamp = regexp.MustCompile(`(?m)^sent / received: (\d+\.\d+) / (\d+\.\d+)$`)
)

// probe has perfdhcp bind new clients at a rate.
func (c *contest) probe(name string, rate int, more ...string) (o outcome) {
	c.t.Helper()
	c.n++
	c.begin[name](filepath.Join(c.dir, fmt.Sprint("store", c.n)))
	defer end(c.t, c.cmd, syscall.SIGKILL)
	peer.Eventually(c.t, 20*time.Second, name, func() bool {
		return strings.Contains(run(c.t, "ip", "netns", "exec", c.srv, "ss", "-lun"), c.port)
	})
	args := slices.Concat([]string{"netns", "exec", c.ns, "perfdhcp", "-g", "single", "-r", strconv.Itoa(rate), "-R", "100000000", "-p", strconv.Itoa(seconds), "-W", "500000"}, more, c.asks)
	printed, _ := exec.Command("ip", args...).CombinedOutput() // what was lost is no success to it
	ratios := dropRatio.FindAllStringSubmatch(string(printed), -1)
	if len(ratios) != 2 {
		c.t.Fatalf("perfdhcp: %.2000s", printed)
	}
	finished := 100.0
	for _, m := range ratios {
		finished *= 1 - number(c.t, m[1])/100
	}
	o.unfinished = 100 - finished
	for i, part := range strings.Split(string(printed), "Timestamps for packets: ") {
		var took []time.Duration
		for _, m := range timestamp.FindAllStringSubmatch(part, -1) {
			took = append(took, time.Duration((number(c.t, m[2])-number(c.t, m[1]))*float64(time.Second)))
		}
		if slices.Sort(took); i > 0 && len(took) > 0 {
			o.took = append(o.took, took[len(took)*99/100])
		}
	}
	return o
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// carries reports whether a server finishes the exchanges of a rate, and how many it does not.
func (c *contest) carries(name string, rate int) (ok bool, unfinished float64) {
	for range tries {
		if unfinished = c.probe(name, rate).unfinished; unfinished <= mostUnfinished {
			return true, unfinished
		}
	}
	return false, unfinished
}

// run compares the new leases a second that each carries, and the latencies at half of what either does. Who else uses the machine is in the way of both:
// they take turns at every step.
func (c *contest) run() {
	rates, lost := map[string][]int{}, map[string][]string{}
	for range searches {
		low, high, best := map[string]int{}, map[string]int{}, map[string]float64{}
		for _, name := range contestants {
			high[name] = highest
		}
		for range 5 { // highest - lowest is 32 steps
			for _, name := range contestants {
				rate := max((low[name]+high[name])/2/lowest*lowest, lowest)
				if ok, unfinished := c.carries(name, rate); ok {
					low[name], best[name] = rate, unfinished
				} else {
					high[name] = rate
				}
			}
		}
		for _, name := range contestants {
			rates[name], lost[name] = append(rates[name], low[name]), append(lost[name], fmt.Sprintf("%.1f %%", best[name]))
		}
	}
	median := map[string]int{}
	for _, name := range contestants {
		sorted := slices.Sorted(slices.Values(rates[name]))
		median[name] = sorted[len(sorted)/2]
		c.t.Logf("%-6s %6d new leases a second, of %v; unfinished at those: %s", name, median[name], rates[name], strings.Join(lost[name], ", "))
	}
	for _, of := range contestants {
		rate := max(median[of]/2, 1)
		for _, name := range contestants {
			o := c.probe(name, rate, "-x", "t")
			if len(o.took) != 2 {
				c.t.Fatal("perfdhcp printed no times")
			}
			c.t.Logf("%-6s at %d a second, half of what %s does: p99 %v of the first answers, %v of the second; %.1f %% unfinished", name, rate, of, o.took[0], o.took[1], o.unfinished)
			if worst := max(o.took[0], o.took[1]); name == "bothy" && worst > slowestP99 {
				c.t.Errorf("p99 %v", worst)
			}
		}
	}
	c.t.Logf("%.2f of Kea", float64(median["bothy"])/float64(max(median["kea"], 1)))
	if median["bothy"] < median["kea"] {
		c.t.Errorf("%d leases a second, and Kea %d", median["bothy"], median["kea"])
	}
}

// kea starts Kea with a configuration.
func (l *lab) kea(program, config string) {
	l.cmd, l.log = peer.Start(l.t, "ip", "netns", "exec", l.srv, "env", "KEA_PIDFILE_DIR="+l.dir, "KEA_LOCKFILE_DIR="+l.dir, program, "-c", l.file("kea.conf", config))
}

func needMeasure(t *testing.T, programs ...string) {
	t.Helper()
	if os.Getenv("BOTHY_BENCH_DHCP") == "" {
		t.Skip("only for make bench-dhcp")
	}
	peer.Need(t, append(programs, "perfdhcp", "ss")...)
}

// TestMeasure4 compares DHCPv4 with Kea's memfile, which syncs nothing. `make bench-dhcp` runs it.
func TestMeasure4(t *testing.T) {
	needMeasure(t, "kea-dhcp4")
	l := newLab(t)
	run(t, "ip", "-n", l.srv, "addr", "add", "10.0.0.1/8", "dev", "br0")
	c := contest{lab: l, ns: l.plug("l", l.srv), asks: []string{"-4", "10.0.0.1"}, port: ":67 "}
	run(t, "ip", "-n", c.ns, "addr", "add", "10.0.0.2/8", "dev", "eth0")
	l.cfg.Quiet = true
	l.cfg.Config = dhcp4.Config{Interfaces: []string{"br0"}, DefaultLease: time.Hour, Subnets: []dhcp4.SubnetConfig{{
		Prefix: netip.MustParsePrefix("10.0.0.0/8"),
		Pools:  []dhcp4.PoolConfig{{First: netip.MustParseAddr("10.0.1.0"), Last: netip.MustParseAddr("10.15.255.255")}},
	}}}
	c.begin = map[string]func(string){
		"bothy": func(store string) { l.cfg.Dir = store; l.start() },
		"kea": func(store string) {
			l.kea("kea-dhcp4", fmt.Sprintf(`{"Dhcp4": {"interfaces-config": {"interfaces": ["br0"], "dhcp-socket-type": "udp"}, "valid-lifetime": 3600,
  "lease-database": {"type": "memfile", "persist": true, "lfc-interval": 0, "name": %q},
  "subnet4": [{"subnet": "10.0.0.0/8", "pools": [{"pool": "10.0.1.0 - 10.15.255.255"}]}],
  "loggers": [{"name": "kea-dhcp4", "severity": "WARN", "output_options": [{"output": "stdout"}]}]}}`, store))
		},
	}
	c.run()
}

// TestMeasure6 compares DHCPv6 with Kea's memfile, which syncs nothing. `make bench-dhcp` runs it.
func TestMeasure6(t *testing.T) {
	needMeasure(t, "kea-dhcp6")
	l := newLab6(t)
	c := contest{lab: l.lab, ns: l.plug6("c", l.srv), asks: []string{"-6", "-l", "eth0"}, port: ":547 "}
	first, last := netip.MustParseAddr("2001:db8:1::1:0"), netip.MustParseAddr("2001:db8:1::f:ffff")
	l.cfg6.Quiet, l.cfg6.Config.Preferred, l.cfg6.Config.Valid = true, time.Hour, time.Hour
	l.cfg6.Config.Subnets[0].Pools = []dhcp6.PoolConfig{{First: first, Last: last}}
	c.begin = map[string]func(string){
		"bothy": func(store string) { l.cfg6.Dir = store; l.start6() },
		"kea": func(store string) {
			l.kea("kea-dhcp6", fmt.Sprintf(`{"Dhcp6": {"interfaces-config": {"interfaces": ["br0"]}, "preferred-lifetime": 3600, "valid-lifetime": 3600,
  "server-id": {"type": "EN", "enterprise-id": 32473, "identifier": "01", "persist": false},
  "lease-database": {"type": "memfile", "persist": true, "lfc-interval": 0, "name": %q},
  "subnet6": [{"subnet": "2001:db8:1::/64", "interface": "br0", "pools": [{"pool": "%v - %v"}]}],
  "loggers": [{"name": "kea-dhcp6", "severity": "WARN", "output_options": [{"output": "stdout"}]}]}}`, store, first, last))
		},
	}
	c.run()
}
