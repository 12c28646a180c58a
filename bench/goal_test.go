package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"bothy/test/peer"
)

const runs = 5 // medians of so many

// BenchmarkGoals measures what was promised of the spool and the relay, and says how it stands with each.
func BenchmarkGoals(b *testing.B) {
	var t table
	b.Run("intake", t.intake)
	b.Run("relay", t.relay)
	b.Run("large", t.large)
	b.Run("idle", t.idle)
	b.Run("million", t.million)
	t.print()
}

// table is what was to be reached, and what was.
type table struct{ rows [][4]string }

// goal adds a line. A unit goes behind the figures.
func (t *table) goal(b *testing.B, what string, measured float64, relation string, wanted float64, unit string) {
	met := map[string]bool{">=": measured >= wanted, "<=": measured <= wanted, "<": measured < wanted}[relation]
	verdict := "no"
	if met {
		verdict = "yes"
	}
	t.rows = append(t.rows, [4]string{what, fmt.Sprintf("%s %.4g %s", relation, wanted, unit), fmt.Sprintf("%.3g %s", measured, unit), verdict})
	b.ReportMetric(measured, strings.ReplaceAll(what+","+unit, " ", "_"))
}

func (t *table) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nwork\tgoal\tmeasured\tmet")
	for _, r := range t.rows {
		fmt.Fprintln(w, strings.Join(r[:], "\t"))
	}
	w.Flush()
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// buildBothy builds the program.
func buildBothy(b *testing.B) (program string) {
	b.Helper()
	program = filepath.Join(b.TempDir(), "bothy")
	if out, err := exec.Command("go", "build", "-o", program, "bothy/cmd/bothy").CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

// configured writes a configuration with further lines, and returns its file and the address of the border port.
func configured(b *testing.B, program, lines string) (file, address string) {
	b.Helper()
	dir := b.TempDir()
	address = peer.FreePort(b)
	file = filepath.Join(dir, "bothy.toml")
	config := fmt.Sprintf("hostname = \"provider.example\"\ndata = %q\n[smtp]\nlisten = [%q]\n%s", filepath.Join(dir, "data"), address, lines)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	if out, code := peer.Run(b, "", program, "customer", "add", "--config", file, "clinic", "clinic.example"); code != 0 {
		b.Fatalf("customer add: %s", out)
	}
	return file, address
}

// startBothy starts a provider that holds clinic.example, with its log in a file.
func startBothy(b *testing.B, program, lines string) (address string, pid int) {
	b.Helper()
	file, address := configured(b, program, lines)
	cmd, _ := peer.Start(b, "sh", "-c", `exec "$0" serve --config "$1" 2> "$1.log"`, program, file)
	peer.WaitPort(b, address)
	return address, cmd.Process.Pid
}

// load sends count messages of size octets over sessions that stay open.
func load(b *testing.B, address string, sessions, count, size int) {
	b.Helper()
	out, code := peer.Run(b, "", "smtp-source", "-d", "-s", fmt.Sprint(sessions), "-m", fmt.Sprint(count),
		"-l", fmt.Sprint(size), "-f", "meter@light.example", "-t", "nurse@clinic.example", address)
	if code != 0 {
		b.Fatalf("smtp-source: exit %d\n%s", code, out)
	}
}

// startWith builds a provider, runs commands that set it up, with the secret as their input, and starts it; it is there when address answers.
func startWith(b *testing.B, config, address string, commands ...[]string) (pid int) {
	b.Helper()
	dir := b.TempDir()
	program := buildBothy(b)
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
