package bench

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"bothy/test/peer"
)

const (
	messageSize = 4096
	perSession  = 100  // messages of one session in a measured run
	syncsOver   = 2000 // messages over which syncs are counted, in a run of its own: strace slows everything
)

// server is one that takes mail.
type server struct {
	name, address string
	pid           int
}

const sinkName = "smtp-sink (stores nothing)"

// intake measures durable intake: smtp-source keeps sessions open and sends 4 KiB messages, each answered after it is on disk.
func (t *table) intake(b *testing.B) {
	peer.Need(b, "smtp-source", "smtp-sink", "postfix", "strace")
	peer.NeedRoot(b)
	program := buildBothy(b)
	address, pid := startBothy(b, program, "")
	postfix := peer.StartPostfix(b, "smtpd_client_restrictions = static:HOLD\n")
	sink, _ := startSink(b)
	servers := []server{{"bothy", address, pid}, {"postfix", postfix.Address, postfix.PID(b)}, {sinkName, sink, 0}}
	fmt.Printf("\n%-28s %9s %12s %12s %12s\n", "durable intake, 4 KiB", "sessions", "messages/s", "min", "max")
	ratio, ofSink := map[int]float64{}, map[int]float64{}
	for _, sessions := range []int{1, 20, 100} {
		rates := compare(b, servers, sessions, sessions*perSession, messageSize)
		ours := median(rates["bothy"])
		ratio[sessions], ofSink[sessions] = ours/median(rates["postfix"]), 100*ours/median(rates[sinkName])
		fmt.Printf("%-28s %9d %11.1fx Postfix, %.0f %% of smtp-sink\n", "ratio of medians", sessions, ratio[sessions], ofSink[sessions])
	}
	syncs := map[int]float64{}
	file, counted := configured(b, program, "")
	ours := peer.StartCounting(b, program, "serve", "--config", file)
	peer.WaitPort(b, counted)
	for _, sessions := range []int{1, 20, 100} {
		before := ours()
		load(b, counted, sessions, syncsOver, messageSize)
		syncs[sessions] = float64(ours()-before) / syncsOver
		theirs := peer.CountSyncs(b, postfix.PID(b), func() { load(b, postfix.Address, sessions, syncsOver/4, messageSize) })
		fmt.Printf("%-28s %9d %12.3f %12.3f Postfix\n", "syncs a message", sessions, syncs[sessions], float64(theirs)/(syncsOver/4))
	}
	t.goal(b, "intake 4 KiB, 20 sessions", ratio[20], ">=", 5, "x Postfix")
	t.goal(b, "intake 4 KiB, 20 sessions", ofSink[20], ">=", 50, "% of smtp-sink")
	t.goal(b, "intake 4 KiB, 1 session", ratio[1], ">=", 1.7, "x Postfix")
	t.goal(b, "syncs a message, 20 sessions", syncs[20], "<=", 0.3, "")
	t.goal(b, "syncs a message, 100 sessions", syncs[100], "<=", 0.1, "")
}

// compare measures how many messages a second each server takes, and prints the medians.
func compare(b *testing.B, servers []server, sessions, count, size int) map[string][]float64 {
	b.Helper()
	rates := map[string][]float64{}
	for range runs {
		for _, s := range servers {
			began := time.Now()
			load(b, s.address, sessions, count, size)
			rates[s.name] = append(rates[s.name], float64(count)/time.Since(began).Seconds())
		}
	}
	for _, s := range servers {
		m := median(rates[s.name])
		fmt.Printf("%-28s %9d %12.0f %12.0f %12.0f\n", s.name, sessions, m, rates[s.name][0], rates[s.name][runs-1])
	}
	return rates
}

// large measures intake of 1 MiB messages, and what memory they take.
func (t *table) large(b *testing.B) {
	peer.Need(b, "smtp-source", "postfix")
	peer.NeedRoot(b)
	const sessions, count = 20, 100
	address, pid := startBothy(b, buildBothy(b), "")
	postfix := peer.StartPostfix(b, "smtpd_client_restrictions = static:HOLD\nmessage_size_limit = 0\n")
	fmt.Printf("\n%-28s %9s %12s %12s %12s\n", "durable intake, 1 MiB", "sessions", "messages/s", "min", "max")
	rates := compare(b, []server{{name: "bothy", address: address}, {name: "postfix", address: postfix.Address}}, sessions, count, 1<<20)
	peak := peakMemory(b, pid)
	load(b, address, sessions, sessions, 16<<20)
	larger := peakMemory(b, pid)
	fmt.Printf("%-28s %9d %8.1f MiB with 1 MiB each, %.1f MiB with 16 MiB\n", "peak memory of the process", sessions, peak, larger)
	t.goal(b, "intake 1 MiB, 20 sessions", median(rates["bothy"])/median(rates["postfix"]), ">=", 2, "x Postfix")
	t.goal(b, "memory, 20 sessions of 1 and 16 MiB", max(peak, larger), "<", 64, "MiB")
}

var (
	highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)
	inMemory  = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)
)

// peakMemory is the most that a process has had in memory, and memory what it has, in MiB: its program too, as far as it is there.
func peakMemory(b *testing.B, pid int) float64 { return statusField(b, pid, highWater) }
func memoryOf(b *testing.B, pid int) float64   { return statusField(b, pid, inMemory) }

func statusField(b *testing.B, pid int, field *regexp.Regexp) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	found := field.FindSubmatch(status)
	if err != nil || found == nil {
		b.Fatalf("memory of process %d: %v", pid, err)
	}
	n, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return n / 1024
}
