package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bothy/test/peer"
)

const (
	messageSize = 4096
	runs        = 5    // medians of so many
	perSession  = 100  // messages of one session in a measured run
	syncsOver   = 2000 // messages over which syncs are counted, in a run of its own: strace slows everything
)

// BenchmarkIntake measures durable intake: smtp-source keeps sessions open and sends 4 KiB messages, each answered after it is on disk.
// What is taken in waits (bothy: for a customer that never calls; Postfix: on hold), so that delivery costs neither of them anything.
func BenchmarkIntake(b *testing.B) {
	peer.Need(b, "smtp-source", "smtp-sink", "postfix", "strace")
	peer.NeedRoot(b)
	type server struct {
		name, address string
		pid           int
		recipient     string
	}
	bothy, pid := startBothy(b)
	postfix := peer.StartPostfix(b, "smtpd_client_restrictions = static:HOLD\n")
	sink := peer.FreePort(b)
	peer.Start(b, "smtp-sink", "-u", "postfix", sink, "1000")
	peer.WaitPort(b, sink)
	servers := []server{
		{"bothy", bothy, pid, "nurse@clinic.example"},
		{"postfix", postfix.Address, postfix.PID(b), "nurse@clinic.example"},
		{"smtp-sink (stores nothing)", sink, 0, "nurse@clinic.example"},
	}
	fmt.Printf("\n%-28s %9s %12s %12s %12s %12s\n", "durable intake, 4 KiB", "sessions", "messages/s", "min", "max", "syncs/msg")
	for _, sessions := range []int{1, 20, 100} {
		rates := map[string][]float64{}
		for range runs { // in turn, so that a change of the machine's speed hits all of them
			for _, s := range servers {
				count := sessions * perSession
				rates[s.name] = append(rates[s.name], float64(count)/load(b, s.address, s.recipient, sessions, count).Seconds())
			}
		}
		for _, s := range servers {
			slices.Sort(rates[s.name])
			syncs := "-"
			if s.pid != 0 {
				n := peer.CountSyncs(b, s.pid, func() { load(b, s.address, s.recipient, sessions, syncsOver) })
				syncs = fmt.Sprintf("%.3f", float64(n)/syncsOver)
			}
			r := rates[s.name]
			fmt.Printf("%-28s %9d %12.0f %12.0f %12.0f %12s\n", s.name, sessions, r[len(r)/2], r[0], r[len(r)-1], syncs)
		}
		median := func(name string) float64 { return rates[name][runs/2] }
		b.ReportMetric(median("bothy"), fmt.Sprintf("msg/s@%d", sessions))
		b.ReportMetric(median("bothy")/median("postfix"), fmt.Sprintf("xPostfix@%d", sessions))
		fmt.Printf("%-28s %9d %11.1fx Postfix, %.0f %% of smtp-sink\n", "ratio of medians", sessions,
			median("bothy")/median("postfix"), 100*median("bothy")/median("smtp-sink (stores nothing)"))
	}
}

// load sends count messages over sessions that stay open and returns how long that took.
func load(b *testing.B, address, recipient string, sessions, count int) time.Duration {
	b.Helper()
	began := time.Now()
	out, code := peer.Run(b, "", "smtp-source", "-d", "-s", fmt.Sprint(sessions), "-m", fmt.Sprint(count),
		"-l", fmt.Sprint(messageSize), "-f", "meter@light.example", "-t", recipient, address)
	if code != 0 {
		b.Fatalf("smtp-source: exit %d\n%s", code, out)
	}
	return time.Since(began)
}

// startBothy builds and starts a provider that holds clinic.example.
func startBothy(b *testing.B) (address string, pid int) {
	b.Helper()
	address = peer.FreePort(b)
	return address, startWith(b, fmt.Sprintf("[smtp]\nlisten = [%q]\n", address), address, []string{"customer", "add", "clinic", "clinic.example"})
}

// startWith builds a provider, runs commands that set it up, with the secret as their input, and starts it; it is there when address answers.
func startWith(b *testing.B, config, address string, commands ...[]string) (pid int) {
	b.Helper()
	dir := b.TempDir()
	program := filepath.Join(dir, "bothy")
	if out, err := exec.Command("go", "build", "-o", program, "bothy/cmd/bothy").CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	file := filepath.Join(dir, "bothy.toml")
	config = fmt.Sprintf("hostname = \"provider.example\"\ndata = %q\n%s", filepath.Join(dir, "data"), config)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, args := range commands {
		if out, code := peer.RunEnv(b, []string{"BOTHY_CONFIG=" + file}, secret+"\n", program, args...); code != 0 {
			b.Fatalf("%s: %s", args, out)
		}
	}
	cmd, _ := peer.Start(b, program, "serve", "--config", file)
	peer.WaitPort(b, address)
	return cmd.Process.Pid
}
