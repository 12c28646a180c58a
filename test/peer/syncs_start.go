package peer

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// StartCounting is Start under strace, and returns how many syncs the program has asked for so far. CountSyncs attaches to a program that
// runs, and so halts it at every system call: what would ride together then comes one by one. Here a filter in the kernel halts
// it at its syncs alone.
func StartCounting(t testing.TB, name string, args ...string) (syncs func() int) {
	t.Helper()
	Need(t, "strace")
	log := filepath.Join(t.TempDir(), "strace")
	cmd := exec.Command("strace", append([]string{"--seccomp-bpf", "-f", "-qq", "-e", "trace=" + syncCalls, "-o", log, name}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, pid := range family(cmd.Process.Pid)[1:] { // strace itself takes no orders
			if p, err := os.FindProcess(pid); err == nil {
				p.Signal(os.Interrupt)
			}
		}
		hung := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		defer hung.Stop()
		cmd.Wait()
	})
	return func() int {
		t.Helper()
		out, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return len(syncCall.FindAll(out, -1))
	}
}
