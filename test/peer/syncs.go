package peer

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// syncCalls are the system calls that are counted.
const syncCalls = "fsync,fdatasync,sync_file_range,msync"

var syncCall = regexp.MustCompile(`(?m)\b(?:fsync|fdatasync|sync_file_range|msync)\(`)

// CountSyncs runs work while strace watches the process and all of its children, and returns how many times they asked the
// kernel to write to the disk.
func CountSyncs(t testing.TB, pid int, work func()) int {
	t.Helper()
	Need(t, "strace")
	log := filepath.Join(t.TempDir(), "strace")
	args := []string{"-f", "-qq", "-e", "trace=" + syncCalls, "-o", log}
	for _, p := range family(pid) {
		args = append(args, "-p", strconv.Itoa(p))
	}
	cmd := exec.Command("strace", args...)
	errs := new(Output)
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 10*time.Second, "strace to attach", func() bool { return traced(pid) })
	work()
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	out, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err, errs)
	}
	return len(syncCall.FindAll(out, -1))
}

// family returns pid and its descendants.
func family(pid int) []int {
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(pids[i]) + "/task/*/children")
		for _, file := range tasks {
			children, _ := os.ReadFile(file)
			for _, c := range strings.Fields(string(children)) {
				if n, err := strconv.Atoi(c); err == nil {
					pids = append(pids, n)
				}
			}
		}
	}
	return pids
}

func traced(pid int) bool {
	status, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	return regexp.MustCompile(`(?m)^TracerPid:\s+[1-9]`).Match(status)
}
