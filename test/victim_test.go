package test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bothy/test/peer"
)

var rounds = flag.Int("rounds", 0, "how often the tests of kills, power cuts and failing disks do their worst; 0: a sample of it")

// often is how many rounds a test makes: what the flag says, or its own sample.
func often(sample int) int {
	if *rounds > 0 {
		return *rounds
	}
	return sample
}

// shown prints a test's result for the table of test/soak.
func shown(t *testing.T, format string, args ...any) {
	fmt.Printf("result: %s: %s\n", t.Name(), fmt.Sprintf(format, args...))
}

// victim is a `bothy serve` that is killed and started again.
type victim struct {
	*exec.Cmd
	file, data, listen string
	log                peer.Output // of all its lives
	ended              chan struct{}
}

// newVictim writes the configuration of a server whose first port is listen. It does not start it.
func newVictim(t *testing.T, data, listen, config string) *victim {
	t.Helper()
	v := &victim{file: filepath.Join(t.TempDir(), "bothy.toml"), data: data, listen: listen}
	if err := os.WriteFile(v.file, []byte(fmt.Sprintf("data = %q\n%s", data, config)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if v.Cmd != nil {
			v.kill()
		}
		if t.Failed() || strings.Contains(v.log.String(), "DATA RACE") {
			t.Errorf("bothy serve printed, at its end:\n%s", ending(v.log.String(), 20_000))
		}
	})
	return v
}

func ending(s string, most int) string { return s[max(0, len(s)-most):] }

// start begins a life, and returns when the port is open.
func (v *victim) start(t *testing.T) {
	t.Helper()
	v.try(t)
	if v.listen == "" {
		return
	}
	peer.Eventually(t, time.Minute, "a listener at "+v.listen, func() bool {
		select {
		case <-v.ended: // somebody who dials while nobody listens may be given this very port to dial from
			if !strings.HasSuffix(strings.TrimSpace(v.log.String()), "(see `ss -ltnp`)") {
				t.Fatal("the server has ended")
			}
			v.try(t)
		default:
		}
		conn, err := dialFrom(t.Context(), "127.0.0.2", v.listen)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// dialFrom dials from another address of loopback: from the same one, a port that nobody listens on may be connected to itself.
func dialFrom(ctx context.Context, ip, address string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 10 * time.Second}
	return d.DialContext(ctx, "tcp", address)
}

// try begins a life that may be short.
func (v *victim) try(t *testing.T) {
	t.Helper()
	v.Cmd = exec.Command(program, "serve", "--config", v.file)
	v.Stdout, v.Stderr = &v.log, &v.log
	if err := v.Start(); err != nil {
		t.Fatal(err)
	}
	cmd, ended := v.Cmd, make(chan struct{})
	v.ended = ended
	go func() { cmd.Wait(); close(ended) }()
}

// kill is SIGKILL.
func (v *victim) kill() {
	v.Process.Kill()
	<-v.ended
}

// runUntil runs a program until it or ctx ends.
func runUntil(ctx context.Context, name string, args ...string) error {
	return exec.CommandContext(ctx, name, args...).Run()
}
