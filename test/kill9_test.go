package test

import (
	"bytes"
	"flag"
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

var rounds = flag.Int("rounds", 3, "how many times TestKill9 kills the server under load")

// The id stands in the server's 250 and in the Received field of what arrives: the one proves the promise, the other that it was kept.
var (
	promisedID = regexp.MustCompile(`250 2\.0\.0 ([0-9a-v]{20}) `)
	arrivedID  = regexp.MustCompile(`(?s)Received: from .{1,400}?\bid ([0-9a-v]{20})`)
)

// TestKill9 kills `bothy serve` with SIGKILL under load from 20 sessions of smtp-source, again and again, then lets it deliver: every
// message that got its 250 must reach the next hop (RFC 5321 §6.1). Duplicates are counted; RFC 1047 allows them.
func TestKill9(t *testing.T) {
	peer.Need(t, "smtp-source", "smtp-sink")
	dir := t.TempDir()
	sinkDir, err := os.MkdirTemp("", "sink") // open to the user that smtp-sink becomes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sinkDir) })
	os.Chmod(sinkDir, 0o777)
	sink, listen := peer.FreePort(t), peer.FreePort(t)
	args := []string{"-d", filepath.Join(sinkDir, "%M."), sink, "500"}
	if os.Getuid() == 0 {
		args = append([]string{"-u", "postfix"}, args...)
	}
	peer.Start(t, "smtp-sink", args...)
	peer.WaitPort(t, sink)

	file := filepath.Join(dir, "bothy.toml")
	config := fmt.Sprintf(`hostname = "relay.example"
data = %q
[smtp]
listen = [%q]
[route]
smarthost = %q
relay_from = ["127.0.0.0/8"]
[relay]
tls = "none"
`, filepath.Join(dir, "data"), listen, sink)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	serve := func() *exec.Cmd {
		cmd := exec.Command(program, "serve", "--config", file)
		cmd.Stdout, cmd.Stderr = &log, &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		peer.WaitPort(t, listen)
		return cmd
	}

	promised := map[string]bool{}
	for round := range *rounds {
		server := serve()
		load := exec.Command("smtp-source", "-v", "-d", "-s", "20", "-m", "100000", "-l", "4096", "-f", "meter@light.example", "-t", "keeper@far.example", listen)
		said := new(peer.Output)
		load.Stdout, load.Stderr = said, said
		if err := load.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(300+rand.IntN(1200)) * time.Millisecond)
		server.Process.Kill()
		server.Wait()
		load.Process.Kill()
		load.Wait()
		before := len(promised)
		for _, m := range promisedID.FindAllStringSubmatch(said.String(), -1) {
			promised[m[1]] = true
		}
		t.Logf("round %d: %d accepted before the kill", round+1, len(promised)-before)
	}
	if len(promised) < 20**rounds {
		t.Fatalf("only %d messages accepted: the load did not run\n%s", len(promised), log.String())
	}

	server := serve()
	defer func() {
		server.Process.Signal(os.Interrupt)
		server.Wait()
		if t.Failed() {
			t.Logf("bothy printed:\n%s", log.String())
		}
	}()
	arrived := map[string]int{}
	seen := map[string]bool{}
	lost := func() (n int) {
		readSink(t, sinkDir, seen, arrived)
		for id := range promised {
			if arrived[id] == 0 {
				n++
			}
		}
		return n
	}
	for deadline := time.Now().Add(time.Minute + time.Duration(*rounds)*5*time.Second); lost() > 0 && time.Now().Before(deadline); {
		time.Sleep(200 * time.Millisecond)
	}
	delivered, twice := 0, 0
	for _, n := range arrived {
		delivered++
		if n > 1 {
			twice++
		}
	}
	fmt.Printf("kill -9, %d times: accepted %d, delivered %d (%d of them more than once), lost %d\n", *rounds, len(promised), delivered, twice, lost())
	if n := lost(); n > 0 {
		t.Errorf("%d messages that got 250 were not delivered", n)
	}
}

// readSink adds the ids in the files that smtp-sink has finished since the last call.
func readSink(t *testing.T, dir string, seen map[string]bool, arrived map[string]int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if seen[e.Name()] {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil || !strings.Contains(string(content), "\n\n") {
			continue // still being written
		}
		if m := arrivedID.FindSubmatch(content); m != nil {
			seen[e.Name()] = true
			arrived[string(m[1])]++
		}
	}
}
