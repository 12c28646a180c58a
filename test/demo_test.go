package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bothy/test/peer"
)

// demo is a running `bothy try --json`, as a script sees it.
type demo struct {
	ready readyEvent
	lines chan string
}

type services struct {
	SMTP, Submission, Submissions, ODMR, ODMRS, POP3, POP3S string
}

type readyEvent struct {
	Event          string
	CA             string
	Provider, Site services
	Accounts       []struct{ At, Address, Password string }
	Customers      []struct {
		Account, Password string
		Domains           []string
	}
	Outside string
	Configs map[string]string
}

// startDemo runs `bothy try --json` until the test ends and returns when its journeys are over.
func startDemo(t *testing.T) *demo {
	t.Helper()
	cmd := exec.Command(program, "try", "--json", "--data", t.TempDir())
	var logged peer.Output
	cmd.Stderr = &logged
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &demo{lines: make(chan string, 10_000)}
	go func() {
		defer close(d.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case d.lines <- s.Text():
			default: // the test does not look
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("bothy try ended with %v", err)
			}
		case <-time.After(20 * time.Second):
			cmd.Process.Kill()
			t.Error("bothy try did not stop within 20 seconds of an interrupt")
		}
		if text := logged.String(); t.Failed() || strings.Contains(text, "DATA RACE") {
			t.Errorf("bothy try logged:\n%s", text)
		}
	})
	first := <-d.lines
	if !strings.HasPrefix(first, `{"event":"ready",`) {
		t.Fatalf("the first line is not \"ready\": %s", first)
	}
	if err := json.Unmarshal([]byte(first), &d.ready); err != nil {
		t.Fatal(err, first)
	}
	d.await(t, "done")
	return d
}

// await returns the first line with the event.
func (d *demo) await(t *testing.T, event string) string {
	t.Helper()
	return d.awaitLine(t, fmt.Sprintf(`{"event":%q`, event))
}

// awaitLine returns the first line from now on that holds every one of the texts.
func (d *demo) awaitLine(t *testing.T, texts ...string) string {
	t.Helper()
	timer := time.NewTimer(waitDelivery)
	defer timer.Stop()
next:
	for {
		select {
		case line, ok := <-d.lines:
			if !ok {
				t.Fatalf("bothy try ended while the test waited for %q", texts)
			}
			for _, text := range texts {
				if !strings.Contains(line, text) {
					continue next
				}
			}
			return line
		case <-timer.C:
			t.Fatalf("%v passed without %q", waitDelivery, texts)
		}
	}
}

// outsideHas waits until the stand-in for the Internet has received a message with the subject: it shows as a hop at the provider.
func (d *demo) relayedOut(t *testing.T, recipient string) {
	t.Helper()
	d.awaitLine(t, `"where":"provider"`, `"what":"relayed"`, fmt.Sprintf(`"recipient":%q`, recipient))
}

// pop3Count asks a maildrop for its number of messages with curl.
func pop3(t *testing.T, d *demo, server string, account int, path string) string {
	t.Helper()
	a := d.ready.Accounts[account]
	out, code := peer.Run(t, "", "curl", "--silent", "--show-error", "--cacert", d.ready.CA, "--user", a.Address+":"+a.Password, "pop3s://"+server+"/"+path)
	if code != 0 {
		t.Fatalf("curl pop3s: exit %d\n%s", code, out)
	}
	return out
}

func TestTryOnce(t *testing.T) {
	began := time.Now()
	out, code := peer.Run(t, "", program, "try", "--once")
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the journeys took %v, more than 15 s", took)
	}
	for _, want := range []string{"on disk", "held", "called", "turned", "relayed", "delivered", "link down", "link up", "waiting in lane", "pushed: on the disk here", "read by POP3", "Every message arrived."} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not shown", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// TestTryKeepsItsWord holds the shape of the ready event, which scripts stand on.
func TestTryReady(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	if len(d.ready.Customers) != 2 || len(d.ready.Customers[0].Domains) != 2 || len(d.ready.Customers[1].Domains) != 2 {
		t.Errorf("customers: %+v", d.ready.Customers)
	}
	for _, a := range []string{
		d.ready.Provider.SMTP, d.ready.Provider.Submission, d.ready.Provider.Submissions, d.ready.Provider.ODMR, d.ready.Provider.ODMRS,
		d.ready.Provider.POP3, d.ready.Provider.POP3S, d.ready.Site.SMTP, d.ready.Site.Submission, d.ready.Site.Submissions, d.ready.Site.ODMR,
		d.ready.Site.ODMRS, d.ready.Site.POP3, d.ready.Site.POP3S, d.ready.Outside,
	} {
		if !strings.HasPrefix(a, "127.0.0.1:") {
			t.Errorf("address %q", a)
		}
	}
	if _, err := os.Stat(d.ready.CA); err != nil {
		t.Error(err)
	}
}

// TestTryPrintsWhatWorks runs the commands that `bothy try` prints for a person, as they are.
func TestTryPrintsWhatWorks(t *testing.T) {
	t.Parallel()
	peer.Need(t, "swaks", "curl", "fetchmail")
	dir := t.TempDir()
	_, out := peer.Start(t, program, "try", "--data", dir)
	peer.Eventually(t, time.Minute, "the end of the journeys", func() bool { return strings.Contains(out.String(), "the CA of both servers") })
	_, printed, _ := strings.Cut(out.String(), "In another terminal:\n")
	var commands []string
	for block := range strings.SplitSeq(printed, "\n\n") {
		title, command, _ := strings.Cut(block, ":\n")
		if command = strings.TrimSpace(command); command != "" {
			commands = append(commands, command)
			t.Log(strings.TrimSpace(title))
		}
	}
	if len(commands) != 7 {
		t.Fatalf("%d commands are printed, want 7:\n%s", len(commands), printed)
	}
	for _, command := range commands {
		command = strings.ReplaceAll(command, "bin/bothy ", program+" ")
		command = strings.Replace(command, "fetchmail ", "fetchmail --pidfile "+filepath.Join(dir, "pid")+" ", 1)
		if text, code := peer.RunEnv(t, []string{"HOME=" + dir}, "", "bash", "-c", command); code != 0 {
			t.Errorf("exit %d: %s\n%s", code, command, text)
		}
	}
	for _, arrived := range []string{"for aunt@elsewhere.example", "delivered to nurse@clinic.example", "for mate@ship.example"} {
		peer.Eventually(t, waitDelivery, arrived, func() bool {
			_, after, _ := strings.Cut(out.String(), "the CA of both servers")
			return strings.Contains(after, arrived)
		})
	}
}

// serve runs `bothy serve` with a configuration until the test ends, and returns its file.
func serve(t *testing.T, config string, listen ...string) (file string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "bothy.toml")
	content := fmt.Sprintf("data = %q\n%s", filepath.Join(dir, "data"), config)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	peer.Start(t, program, "serve", "--config", file)
	for _, l := range listen {
		peer.WaitPort(t, l)
	}
	return file
}

// bothy runs one subcommand and returns what it printed.
func bothy(t *testing.T, args ...string) string {
	t.Helper()
	out, code := peer.Run(t, "", program, args...)
	if code != 0 {
		t.Fatalf("bothy %s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// waitDelivery is how long a message, or anything else that a test waits for, may take on an idle machine, times thirty.
const waitDelivery = 45 * time.Second
