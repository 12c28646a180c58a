package test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bothy/test/peer"
)

// The id stands in the server's 250 and in the Received field of what arrives: the one proves the promise, the other that it was kept.
var (
	promisedID = regexp.MustCompile(`250 2\.0\.0 ([0-9a-v]{20}) `)
	arrivedID  = regexp.MustCompile(`\bid ([0-9a-v]{20})`)
)

// TestKill9 kills `bothy serve` with SIGKILL under load from 20 sessions of smtp-source, again and again, then lets it deliver: every
// message that got its 250 must reach the next hop (RFC 5321 §6.1). Duplicates are counted; RFC 1047 allows them.
func TestKill9(t *testing.T) {
	t.Parallel()
	killUnderLoad(t, often(3), "light.example")
}

// TestKill9Relay has a next hop that dies as well: what was taken from us and not yet acknowledged comes again, and nothing goes between.
func TestKill9Relay(t *testing.T) {
	t.Parallel()
	killUnderLoad(t, often(2), "light.example", "hub.example")
}

// killUnderLoad puts servers in a row, load at the one end and smtp-sink at the other, and kills one of them in each round.
func killUnderLoad(t *testing.T, rounds int, names ...string) {
	peer.Need(t, "smtp-source", "smtp-sink")
	box := startSink(t)
	next := box.listen
	row := make([]*victim, len(names))
	for i := len(names) - 1; i >= 0; i-- {
		listen := peer.FreePort(t)
		row[i] = newVictim(t, filepath.Join(t.TempDir(), "data"), listen, fmt.Sprintf(`hostname = %q
[smtp]
listen = [%q]
[route]
smarthost = %q
relay_from = ["127.0.0.0/8"]
[relay]
tls = "none"
first_retry = "10s"
`, names[i], listen, next))
		row[i].start(t)
		next = listen
	}

	promised := map[string]bool{}
	for range rounds {
		load := exec.Command("smtp-source", "-v", "-d", "-s", "20", "-m", "100000", "-l", "4096", "-f", "meter@light.example", "-t", "keeper@far.example", next)
		said := new(peer.Output)
		load.Stdout, load.Stderr = said, said
		if err := load.Start(); err != nil {
			t.Fatal(err)
		}
		peer.Eventually(t, waitDelivery, "the first mail to be accepted", func() bool { return len(promisedID.FindAllString(said.String(), 5)) == 5 })
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond)
		one := row[rand.IntN(len(row))]
		one.kill()
		load.Process.Kill()
		load.Wait()
		for _, m := range promisedID.FindAllStringSubmatch(said.String(), -1) {
			promised[m[1]] = true
		}
		one.start(t)
	}
	if len(promised) < 5*rounds {
		t.Fatalf("only %d messages accepted: the load did not run", len(promised))
	}

	lost := func() (n int) {
		box.read(t)
		for id := range promised {
			if box.arrived[id] == 0 {
				n++
			}
		}
		return n
	}
	deadline := time.Now().Add(2*time.Minute + time.Duration(rounds)*5*time.Second)
	for wait := 200 * time.Millisecond; lost() > 0 && time.Now().Before(deadline); wait = min(2*wait, 5*time.Second) {
		time.Sleep(wait)
	}
	twice := 0
	for _, n := range box.arrived {
		if n > 1 {
			twice++
		}
	}
	shown(t, "killed %d times: accepted %d, delivered %d (%d of them more than once), lost %d", rounds, len(promised), len(box.arrived), twice, lost())
	if n := lost(); n > 0 {
		t.Errorf("%d messages that got 250 were not delivered", n)
	}
}

// sinkBox is a running smtp-sink and what it has got.
type sinkBox struct {
	listen, dir string
	seen        map[string]bool
	arrived     map[string]int // by the id that the first of our servers gave it
}

// startSink runs smtp-sink, which keeps each message in a file.
func startSink(t *testing.T) *sinkBox {
	t.Helper()
	dir, err := os.MkdirTemp("", "sink") // open to the user that smtp-sink becomes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o777)
	box := &sinkBox{listen: peer.FreePort(t), dir: dir, seen: map[string]bool{}, arrived: map[string]int{}}
	args := []string{"-d", filepath.Join(dir, "%M."), box.listen, "500"}
	if os.Getuid() == 0 {
		args = append([]string{"-u", "postfix"}, args...)
	}
	peer.Start(t, "smtp-sink", args...)
	peer.WaitPort(t, box.listen)
	return box
}

// read adds the ids in the files that smtp-sink has finished since the last call.
func (b *sinkBox) read(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if b.seen[e.Name()] {
			continue
		}
		content, err := os.ReadFile(filepath.Join(b.dir, e.Name()))
		if err != nil || !strings.Contains(string(content), "\n\n") {
			continue // still being written
		}
		header, _, _ := strings.Cut(string(content), "\n\n")
		if ids := arrivedID.FindAllStringSubmatch(header, -1); len(ids) > 0 {
			b.seen[e.Name()] = true
			b.arrived[ids[len(ids)-1][1]]++ // the lowest trace field is the first server's (RFC 5321 §4.4)
		}
	}
}
