package bench

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/test/peer"
)

// BenchmarkCustomers measures a provider with 100,000 customers in its directory: what the operator waits for, and what that takes.
func BenchmarkCustomers(b *testing.B) {
	const count = 100_000
	program := buildBothy(b)
	p := newProvider(b, program, count)
	fmt.Printf("\n%-44s %12s %12s\n", "100,000 customers", "takes", "")
	row := func(what string, took time.Duration, more string) {
		fmt.Printf("%-44s %12v %12s\n", what, took.Round(100*time.Microsecond), more)
		b.ReportMetric(float64(took.Microseconds())/1000, strings.ReplaceAll(what, " ", "_")+",ms")
	}
	began := time.Now()
	p.start(b)
	row("start, until the port answers", time.Since(began), fmt.Sprintf("%.0f MiB", memoryOf(b, p.pid())))

	began = time.Now()
	answer, err := http.Get("http://" + p.metrics + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	scraped, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil {
		b.Fatal(err)
	}
	row("a scrape of /metrics", time.Since(began), fmt.Sprintf("%d lines", strings.Count(string(scraped), "\n")))

	run := func(args ...string) (out string, took time.Duration, memory string) {
		b.Helper()
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "BOTHY_CONFIG="+p.file)
		cmd.Stdin = strings.NewReader(secret + "\n")
		began := time.Now()
		text, err := cmd.Output()
		if err != nil {
			b.Fatalf("%q: %v", args, err)
		}
		usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		return string(text), time.Since(began), fmt.Sprintf("%d MiB", usage.Maxrss>>10)
	}
	out, took, memory := run("customer", "list", "--json")
	if n := strings.Count(out, `"account"`); n < 2*count {
		b.Fatalf("%d accounts listed", n)
	}
	row("bothy customer list --json", took, memory)
	_, took, memory = run("customer", "show", "c77777")
	row("bothy customer show", took, memory)
	_, took, memory = run("customer", "add", "--no-dns", "late", "late.example")
	row("bothy customer add", took, memory)
	began = time.Now()
	_, held, _ := run("customer", "add", "--no-dns", "later", "later.example")
	began = began.Add(held)
	peer.Eventually(b, time.Minute, "the new domain", func() bool { return accepts(p.border, "nurse@later.example") })
	row("from its end until mail is taken", time.Since(began), "")

	began = time.Now()
	if err := p.serve.Process.Signal(syscall.SIGHUP); err != nil {
		b.Fatal(err)
	}
	peer.Eventually(b, time.Minute, "the reload", func() bool { return strings.Contains(read(b, p.file+".log"), "new configuration in force") })
	row("reload (SIGHUP)", time.Since(began), fmt.Sprintf("%.0f MiB", memoryOf(b, p.pid())))
}

// accepts reports whether a server takes a recipient.
func accepts(border, to string) bool {
	v, err := dialVoice(border)
	if err != nil {
		return false
	}
	defer v.Close()
	for _, line := range []string{"EHLO meter.light.example", "MAIL FROM:<>", "RCPT TO:<" + to + ">"} {
		if v.say("250", []byte(line+"\r\n")) != nil {
			return false
		}
	}
	return true
}
