package hook

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func program(t *testing.T, script string) (file, out string) {
	t.Helper()
	dir := t.TempDir()
	file, out = filepath.Join(dir, "hook"), filepath.Join(dir, "out")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+strings.ReplaceAll(script, "OUT", out)), 0o755); err != nil {
		t.Fatal(err)
	}
	return file, out
}

func TestHook(t *testing.T) {
	t.Setenv("SECRET", "swordfish")
	file, out := program(t, "cat >> OUT; env >> OUT\n")
	h := New(file, slog.New(slog.DiscardHandler))
	h.Tell(Event{"dhcp4", "eth0", "BOUND", map[string]string{"address": "192.0.2.7/24"}})
	h.Close() // what was told is told, though it is over
	got, err := os.ReadFile(out)
	want := `{"protocol":"dhcp4","interface":"eth0","state":"BOUND","binding":{"address":"192.0.2.7/24"}}` + "\n"
	if err != nil || !strings.HasPrefix(string(got), want) || strings.Contains(string(got), "swordfish") {
		t.Errorf("%q, %v", got, err)
	}
}

// While one runs, only the newest waits.
func TestHookNewest(t *testing.T) {
	file, out := program(t, "cat >> OUT; [ -e OUT.ran ] || { : > OUT.ran; read x < OUT.go; }\n") // only the first waits
	gate := out + ".go"
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Skip(err)
	}
	h := New(file, slog.New(slog.DiscardHandler))
	h.Tell(Event{State: "first"})
	f, err := os.OpenFile(gate, os.O_WRONLY, 0) // the first has started
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"second", "third", "last"} {
		h.Tell(Event{State: s})
	}
	f.Close()
	h.Close()
	got, err := os.ReadFile(out)
	if n := bytes.Count(got, []byte("\n")); err != nil || n != 2 || !bytes.Contains(got, []byte("first")) || !bytes.Contains(got, []byte("last")) {
		t.Errorf("%s, %v", got, err)
	}
}

func TestHookFails(t *testing.T) {
	file, _ := program(t, "yes too much | head -c 100000; exit 3\n")
	var log bytes.Buffer
	h := New(file, slog.New(slog.NewTextHandler(&log, nil)))
	h.Tell(Event{})
	h.Close()
	if s := log.String(); !strings.Contains(s, "exit status 3") || !strings.Contains(s, "too much") || len(s) > 3*maxOutput {
		t.Errorf("%d octets: %.300s", len(s), s)
	}
	New("", slog.New(slog.DiscardHandler)).Close()
}
