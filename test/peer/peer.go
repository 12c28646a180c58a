// Package peer runs the other programs that tests and benchmarks talk to: Postfix, smtp-source, fetchmail and whatever has a command line.
// Everything listens on loopback and ends with the test.
package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// Need skips the test when a program is missing; where BOTHY_PEERS is "required" it fails instead. The word is printed either way, so
// that a run shows what it did not do.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		Missing(t, fmt.Sprintf("peer %s is missing: run test/peers as root", p))
	}
}

// NeedRoot is Need for what only root may do, such as starting Postfix.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		Missing(t, "this peer must be started as root")
	}
}

// Missing skips the test because of what this machine lacks; where BOTHY_PEERS is "required" it fails.
func Missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("BOTHY_PEERS") == "required" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// Run runs a program to its end and returns what it printed on both outputs, and its exit code. It is killed after two minutes.
func Run(t testing.TB, stdin string, name string, args ...string) (output string, exit int) {
	t.Helper()
	return RunEnv(t, nil, stdin, name, args...)
}

// RunEnv is Run with further environment variables, "KEY=value".
func RunEnv(t testing.TB, env []string, stdin string, name string, args ...string) (output string, exit int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	var exited *exec.ExitError
	switch {
	case errors.As(err, &exited):
		return string(out), exited.ExitCode()
	case err != nil:
		t.Fatalf("%s: %v", name, err)
	}
	return string(out), 0
}

// given are the addresses that FreePort has returned: what a test has not yet opened is no other's.
var given sync.Map

// FreePort returns a loopback address nobody listens on now. Its port is below those that the kernel gives to whoever dials or listens on
// port 0 (ip_local_port_range), so that nobody gets it before the test's program does.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 16_384+rand.IntN(16_384))
		if _, again := given.LoadOrStore(addr, true); again {
			continue
		}
		if ln, err := net.Listen("tcp", addr); err == nil {
			ln.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

// WaitPort waits until something accepts connections at addr.
func WaitPort(t testing.TB, addr string) {
	t.Helper()
	Eventually(t, time.Minute, "a listener at "+addr, func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// Eventually fails the test when ok is not true within the wait.
func Eventually(t testing.TB, wait time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(wait); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain for %s", wait, what)
		}
	}
}

// Output collects what a running program prints.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Start runs a program until the test ends; then it gets SIGTERM and, after 10 seconds, SIGKILL.
func Start(t testing.TB, name string, args ...string) (*exec.Cmd, *Output) {
	t.Helper()
	out := new(Output)
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 5 * time.Second // its children may keep what it printed to open
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
			<-done
		}
		if strings.Contains(out.String(), "DATA RACE") {
			t.Errorf("%s has a data race", name)
		}
		if t.Failed() {
			t.Logf("%s printed:\n%s", name, out)
		}
	})
	return cmd, out
}
