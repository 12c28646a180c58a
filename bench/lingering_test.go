package bench

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/smtp"
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

	"bothy/application/message"
	"bothy/application/odmr"
	"bothy/test/peer"

	_ "modernc.org/sqlite"
)

const (
	lingerers   = 20_000
	filesSpare  = 1100             // open files that a process keeps for other things than connections, and some
	idleWatched = time.Minute      // in which each session at rest is sent one NOOP: four times as many as it would be by default
	pushes      = 500              // messages to one site beside the others
	stormLimit  = 10 * time.Minute // for all to be there again
)

// BenchmarkODMRLingering lets 20,000 customers (BOTHY_BENCH_SESSIONS: another number) stay connected to `bothy serve`, in the clear and with
// TLS, and measures what they take of that process: memory, CPU while nothing happens, the push to one more, and how long it takes until all
// are there again when the provider was killed and they come back together. The customers are another process on the same cores.
func BenchmarkODMRLingering(b *testing.B) {
	sessions := lingerers
	if n, err := strconv.Atoi(os.Getenv("BOTHY_BENCH_SESSIONS")); err == nil {
		sessions = n
	}
	if limit := openFiles(b, sessions+filesSpare); limit < sessions+filesSpare {
		fmt.Printf("\n%d open files are allowed, and %d are needed: %d sessions in place of %d\n", limit, sessions+filesSpare, limit-filesSpare, sessions)
		sessions = limit - filesSpare
	}
	fmt.Printf("\n%-28s %9s %10s %12s %10s %10s %12s %12s\n", "lingering sessions", "sessions", "opened in", "resident", "heap", "stacks", "CPU, NOOP/m", "NOOP/4m")
	program := buildBothy(b)
	for _, secure := range []bool{false, true} {
		name := "plain"
		if secure {
			name = "TLS"
		}
		p := newProvider(b, program, sessions)
		p.start(b)
		before := memoryOf(b, p.pid())
		began := time.Now()
		p.gather(b, sessions, secure)
		p.lingering(b, sessions, stormLimit)
		took := time.Since(began)
		cpu := p.cpu(b)
		time.Sleep(idleWatched)
		cpu = p.cpu(b) - cpu
		each := (memoryOf(b, p.pid()) - before) * 1024 / float64(sessions)
		share := 100 * cpu.Seconds() / idleWatched.Seconds()
		fmt.Printf("%-28s %9d %8.1f s %8.1f KiB %6.1f KiB %6.1f KiB %10.2f %% %10.2f %%\n", name, sessions, took.Seconds(), each,
			p.metric(b, "go_memstats_heap_inuse_bytes")/1024/float64(sessions), p.metric(b, "go_memstats_stack_inuse_bytes")/1024/float64(sessions), share, share/4)
		b.ReportMetric(each, "KiB/"+name)
		b.ReportMetric(share/4, "%CPU/"+name)
		p.push(b, sessions)
		if secure {
			p.storm(b, sessions)
		}
		p.end(b)
	}
}

// openFiles is how many files this process and its children may have open, as many as are wanted if that can be: its own limit is raised, and
// by root the system's bound for it.
func openFiles(b *testing.B, want int) int {
	b.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		b.Fatal(err)
	}
	limit.Max = max(limit.Max, uint64(want))
	limit.Cur = limit.Max
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) == nil { // as is, so that children inherit it
		return int(min(limit.Max, 1<<30))
	}
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		b.Fatal(err)
	}
	return int(limit.Cur)
}

// provider is `bothy serve` with many customers.
type provider struct {
	program, file                  string
	border, plain, secure, metrics string // addresses
	serve, crowd                   *exec.Cmd
}

// newProvider makes a directory of customers c0, c1 ... with a domain each, all with one password, and of the clinic.
func newProvider(b *testing.B, program string, customers int) *provider {
	b.Helper()
	dir := b.TempDir()
	p := &provider{
		program: program, file: filepath.Join(dir, "bothy.toml"),
		border: peer.FreePort(b), plain: peer.FreePort(b), secure: peer.FreePort(b), metrics: peer.FreePort(b),
	}
	config := fmt.Sprintf("hostname = \"provider.example\"\ndata = %q\npassword_iterations = 4096\n[smtp]\nlisten = [%q]\n[odmr]\nlisten = [%q]\nlisten_tls = [%q]\nnoop_interval = %q\n"+
		"[connections]\nconnections = %d\n[metrics]\nlisten = %q\n", filepath.Join(dir, "data"), p.border, p.plain, p.secure, idleWatched, customers+100, p.metrics)
	if err := os.WriteFile(p.file, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"c0", "clinic"} {
		args := []string{"customer", "add", "--no-dns", "--linger", "40m", name, name + ".example"}
		if out, code := peer.RunEnv(b, []string{"BOTHY_CONFIG=" + p.file}, secret+"\n", program, args...); code != 0 {
			b.Fatalf("%s: %s", args, out)
		}
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "data", "directory.db"))
	if err != nil {
		b.Fatal(err)
	}
	const others = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO "
	for _, statement := range []string{
		others + "account (name, disabled, created, salt, iterations, stored_key, server_key) SELECT 'c' || i, disabled, created, salt, iterations, stored_key, server_key FROM n, account WHERE name = 'c0'",
		others + "customer (account, min_interval, empty_turns, linger, last_contact) SELECT 'c' || i, min_interval, empty_turns, linger, last_contact FROM n, customer WHERE account = 'c0'",
		others + "customer_domain (name, account) SELECT 'c' || i || '.example', 'c' || i FROM n",
	} {
		if _, err := db.Exec(statement, customers-1); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	return p
}

// start runs the server, with its log in a file.
func (p *provider) start(b *testing.B) {
	b.Helper()
	p.serve, _ = peer.Start(b, "sh", "-c", `exec "$0" serve --config "$1" 2>> "$1.log"`, p.program, p.file)
	peer.WaitPort(b, p.plain)
}

func (p *provider) pid() int { return p.serve.Process.Pid }

// gone reports whether the server has ended.
func (p *provider) gone() bool { return syscall.Kill(p.pid(), 0) != nil }

// gather starts the customers.
func (p *provider) gather(b *testing.B, sessions int, secure bool) {
	b.Helper()
	addr := p.plain
	if secure {
		addr = p.secure
	}
	p.crowd = exec.Command(os.Args[0], "-test.run", "^TestCrowd$")
	p.crowd.Env = append(os.Environ(), fmt.Sprintf("BOTHY_CROWD=%s %d %v", addr, sessions, secure))
	said, err := os.Create(p.file + ".crowd")
	if err != nil {
		b.Fatal(err)
	}
	p.crowd.Stderr = said
	if err := p.crowd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.crowd.Process.Kill() })
}

// end stops customers and server.
func (p *provider) end(b *testing.B) {
	b.Helper()
	_ = p.crowd.Process.Kill()
	_ = p.crowd.Wait() // it was killed
	if err := p.serve.Process.Signal(syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	peer.Eventually(b, time.Minute, "the end of the server", p.gone)
}

// lingering waits until so many sessions have nothing to do.
func (p *provider) lingering(b *testing.B, count int, limit time.Duration) {
	b.Helper()
	for until := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		n := p.metric(b, `bothy_odmr_sessions{state="lingering"}`)
		if int(n) >= count {
			return
		}
		if time.Now().After(until) {
			b.Fatalf("%v of %d sessions linger; of the customers: %s", n, count, tail(p.file+".crowd"))
		}
	}
}

// metric is one value of the server's metrics; 0 where there is none.
func (p *provider) metric(b *testing.B, name string) float64 {
	b.Helper()
	answer, err := http.Get("http://" + p.metrics + "/metrics")
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		b.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(text)
	if found == nil {
		return 0
	}
	n, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// cpu is what the server has used, in ticks of 10 ms.
func (p *provider) cpu(b *testing.B) time.Duration {
	b.Helper()
	stat := read(b, fmt.Sprintf("/proc/%d/stat", p.pid()))
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')'):])
	user, err1 := strconv.ParseInt(fields[12], 10, 64)
	system, err2 := strconv.ParseInt(fields[13], 10, 64)
	if err := cmp.Or(err1, err2); err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// push measures from the server's 250 to that of one more site, while all others linger.
func (p *provider) push(b *testing.B, others int) {
	b.Helper()
	arrived := make(chan time.Time, 1)
	site := openSpool(b, "mailbox")
	customer := newCustomer(p.secure, acceptor(func(ctx context.Context, env *message.Envelope, body io.Reader) error {
		err := site.Accept(ctx, env, body)
		arrived <- time.Now()
		return err
	}))
	customer.Config.TLS, customer.Config.Password = "implicit", secret
	customer.TLS = &tls.Config{InsecureSkipVerify: true}
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- customer.Run(ctx) }()
	peer.Eventually(b, time.Minute, "the site", func() bool {
		return customer.Standing().Stage >= odmr.Receiving && customer.Standing().Stage != odmr.Ended
	})
	client, err := smtp.Dial(p.border)
	if err != nil {
		b.Fatal(err)
	}
	text := []byte("Subject: push\r\n\r\n" + strings.Repeat(strings.Repeat("x", 62)+"\r\n", 63))
	var took []time.Duration
	for range pushes {
		err := cmp.Or(client.Mail("aunt@elsewhere.example"), client.Rcpt("nurse@clinic.example"))
		if err != nil {
			b.Fatal(err)
		}
		w, err := client.Data()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(w, bytes.NewReader(text)); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		took = append(took, (<-arrived).Sub(began))
		time.Sleep(5 * time.Millisecond) // the session is at rest again
	}
	_ = client.Quit()
	stop()
	<-ended
	slices.Sort(took)
	q := func(q int) time.Duration { return took[(len(took)-1)*q/100].Round(10 * time.Microsecond) }
	fmt.Printf("  push to one more, %d linger: 4 KiB from 250 to 250, p50 %v, p99 %v, at most %v\n", others, q(50), q(99), q(100))
	b.ReportMetric(float64(q(99).Microseconds())/1000, "ms@p99push")
}

// storm kills the server and starts it again; everybody comes back at once.
func (p *provider) storm(b *testing.B, sessions int) {
	b.Helper()
	if err := p.serve.Process.Kill(); err != nil {
		b.Fatal(err)
	}
	peer.Eventually(b, time.Minute, "the end of the server", p.gone)
	began := time.Now()
	p.start(b)
	p.lingering(b, sessions*9/10, stormLimit)
	most := time.Since(began)
	p.lingering(b, sessions, stormLimit)
	took := time.Since(began)
	failed := strings.Count(tail(p.file+".crowd"), "\n")
	fmt.Printf("  killed, started: nine of ten linger again after %.1f s, all %d after %.1f s; %d calls failed before; memory at most %.0f MiB (%.1f KiB each)\n",
		most.Seconds(), sessions, took.Seconds(), failed, peakMemory(b, p.pid()), peakMemory(b, p.pid())*1024/float64(sessions))
	b.ReportMetric(took.Seconds(), "s/storm")
}

// tail is what a file has, at the end.
func tail(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
