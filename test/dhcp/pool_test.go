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

	"bothy/test/peer"
)

// crowd has perfdhcp ask for addresses, which it writes down, for n new clients whose hardware addresses begin with prefix.
func (l *lab) crowd(ns, prefix string, n, rate int, more ...string) string {
	args := slices.Concat([]string{
		"netns", "exec", ns, "perfdhcp", "-u", "-x", "l", "-g", "single", "-r", strconv.Itoa(rate), "-R", "1000000", "-n", strconv.Itoa(n), "-W", "1000000",
		"-b", "mac=" + prefix + ":00:00:00",
	}, more)
	out, _ := exec.Command("ip", args...).CombinedOutput() // not all is answered, and that is no success to it
	return string(out)
}

// fill has crowds ask until the pool is full, which the caller knows by the leases of the last crowd. None of its addresses is given twice, and nearly all
// are known to perfdhcp, which loses what comes faster than it reads.
func (l *lab) fill(ns string, size int, full func(last int) bool, more ...string) {
	l.t.Helper()
	holder := map[netip.Addr]string{}
	for round := 0; ; round++ {
		if round == 40 {
			l.t.Fatalf("the pool is not full, %d of %d addresses were given", len(holder), size)
		}
		got := leases(l.t, l.crowd(ns, fmt.Sprintf("00:0c:%02x", round), max((size-len(holder))*5/4, 200), 1000, more...))
		for client, a := range got {
			if other := holder[a]; other != "" {
				l.t.Fatalf("%v was given to %s and to %s", a, other, client)
			}
			holder[a] = client
		}
		if full(len(got)) {
			break
		}
	}
	if l.t.Logf("%d of %d addresses are known to have been given", len(holder), size); len(holder) < size*9/10 {
		l.t.Errorf("%d of %d addresses were given", len(holder), size)
	}
}

var resident = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// memory is what the processes in the server's namespace have in memory, in octets.
func (l *lab) memory() (n int) {
	l.t.Helper()
	for _, pid := range strings.Fields(run(l.t, "ip", "netns", "pids", l.srv)) {
		status, err := os.ReadFile("/proc/" + pid + "/status")
		if err != nil {
			continue
		}
		if m := resident.FindSubmatch(status); m != nil {
			kilos, _ := strconv.Atoi(string(m[1]))
			n += kilos << 10
		}
	}
	return n
}

// growth bounds what a hundred thousand clients that are not there may cost, in octets: room for the garbage of a busy server, and less than 500 octets
// for each of them.
const growth = 48 << 20

// TestWholePool4: every address is given, and each to one client. Then a hundred thousand clients that are not there meet silence, the operator hears of it
// in one line a minute, and nothing grows.
func TestWholePool4(t *testing.T) {
	p := newLab(t).bothy()
	p.start()
	ns, began := p.load(), time.Now()
	p.fill(ns, poolSize, func(int) bool { return len(p.stored()) == poolSize }, "-4", "10.0.0.1")
	before := p.memory()
	out := p.crowd(ns, "00:0d:00", 100_000, 20_000, "-4", "10.0.0.1")
	if !strings.Contains(out, "received packets: 0\n") {
		t.Errorf("%.1000s", out)
	}
	p.said(`"addresses are used up"`, 1)
	if n, most := strings.Count(p.log.String(), `"addresses are used up"`), 1+int(time.Since(began)/time.Minute); n > most {
		t.Errorf("%d lines", n)
	}
	if n, most := strings.Count(p.log.String(), "packet not answered"), 20*(2+int(time.Since(began)/time.Second)); n > most {
		t.Errorf("%d lines about packets that are not answered, and %d should be the most", n, most)
	}
	if after := p.memory(); after > before+growth {
		t.Errorf("%d MiB in memory, and before %d", after>>20, before>>20)
	}
	t.Logf("%d MiB in memory, before %d", p.memory()>>20, before>>20)
}

// TestWholePool6: as TestWholePool4, but who comes too late is told so: NoAddrsAvail (RFC 9915 §18.3.2).
func TestWholePool6(t *testing.T) {
	t.Parallel()
	peer.Need(t, "perfdhcp")
	l := newLab6(t)
	const size = 4096
	l.cfg6.Quiet, l.cfg6.Config.Preferred, l.cfg6.Config.Valid = true, time.Hour, time.Hour
	l.cfg6.Config.Subnets[0].Pools[0].First, l.cfg6.Config.Subnets[0].Pools[0].Last = netip.MustParseAddr("2001:db8:1::1:0"), netip.MustParseAddr("2001:db8:1::1:fff")
	l.start6()
	ns := l.plug6("c", l.srv)
	l.fill(ns, size, func(last int) bool { return last == 0 }, "-6", "-l", "eth0")
	before := l.memory()
	out := l.crowd(ns, "00:0d:00", 100_000, 10_000, "-6", "-l", "eth0")
	m := regexp.MustCompile(`received packets: (\d+)\ndrops: \d+\n.*\n.*\nrejected leases: (\d+)`).FindStringSubmatch(out)
	if m == nil || m[1] != m[2] || len(m[1]) < 5 {
		t.Errorf("of those who were answered all are to be told that there is none: %q\n%.1500s", m, out)
	}
	if after := l.memory(); after > before+growth {
		t.Errorf("%d MiB in memory, and before %d", after>>20, before>>20)
	}
	t.Logf("%q, %d MiB in memory, before %d", m, l.memory()>>20, before>>20)
}

// tear does to the newest log of leases in a directory what a power cut may do.
func tear(t *testing.T, dir string, how func(f *os.File, end int64) error) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range slices.Backward(names) {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		end := len(content)
		for end > 0 && content[end-1] == 0 { // allocated ahead
			end--
		}
		if end == 0 {
			continue
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := how(f, int64(end)); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no records in %v", names)
}

// halfWritten leaves what a power cut leaves of a group that nobody was told of: a sector of nonsense behind the records.
func halfWritten(f *os.File, end int64) error {
	const sector = 512
	_, err := f.WriteAt([]byte(strings.Repeat("half a record ", 20)), (end+sector)/sector*sector)
	return err
}

// TestTornRecord kills the whole program under load again and again and damages the end of its log: what was torn behind the acknowledged leases costs none
// of them, and a torn last record costs that one at most. No address that is still known to be held is given to another.
func TestTornRecord(t *testing.T) {
	p := newLab(t).bothy()
	p.start()
	ns := p.load()
	given := map[netip.Addr]string{}
	for round, c := range []struct {
		name    string
		mayLose int
		how     func(f *os.File, end int64) error
	}{
		{"a group half written", 0, halfWritten},
		{"the last record garbled", 1, func(f *os.File, end int64) error {
			_, err := f.WriteAt([]byte("garbled!"), end-8)
			return err
		}},
		{"the last record not written to its end", 1, func(f *os.File, end int64) error {
			_, err := f.WriteAt(make([]byte, 8), end-8)
			return err
		}},
		{"the file cut within the last record", 1, func(f *os.File, end int64) error { return f.Truncate(end - 8) }},
	} {
		perf := make(chan string)
		go func() { perf <- p.crowd(ns, fmt.Sprintf("00:0c:%02x", round), 1500, 1000, "-4", "10.0.0.1") }()
		p.said(`"lease bound"`, 300)
		end(t, p.cmd, syscall.SIGKILL)
		got := leases(t, <-perf)
		tear(t, filepath.Join(p.dir, "data", "leases4"), c.how)
		p.start()
		for client, a := range got {
			if other := given[a]; other != "" {
				t.Errorf("%s: %v was given to %s and to %s", c.name, a, other, client)
			}
			given[a] = client
		}
		stored, lost := p.stored(), 0
		for a, client := range given {
			if l, ok := stored[a]; !ok || !strings.HasSuffix(strings.ReplaceAll(l.Client.String(), ":", ""), client[2:]) {
				lost++
				delete(given, a)
			}
		}
		if t.Logf("%s: %d leases acknowledged, %d lost", c.name, len(got), lost); lost > c.mayLose || len(got) < 250 {
			t.Errorf("%s: %d leases of %d were lost", c.name, lost, len(got))
		}
		if strings.Contains(p.log.String(), "leases damaged") {
			t.Errorf("%s: taken for damage\n%s", c.name, p.log)
		}
	}
}
