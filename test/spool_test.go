package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bothy/test/peer"
)

// waiting starts a provider at which messages wait for a customer who does not call.
func waiting(t *testing.T, messages int) (s *server, config string) {
	t.Helper()
	listen := peer.FreePort(t)
	config = fmt.Sprintf("hostname = \"provider.example\"\n[smtp]\nlisten = [%q]\n", listen)
	s = startServer(t, config)
	peer.WaitPort(t, listen)
	bothy(t, "customer", "add", "--config", s.file, "clinic", "clinic.example")
	c := dial(t, listen)
	c.say(t, "250", "EHLO light.example")
	for i := range messages {
		c.say(t, "250", "MAIL FROM:<keeper@light.example>")
		c.say(t, "250", "RCPT TO:<nurse@clinic.example>")
		c.say(t, "354", "DATA")
		c.say(t, "250", "Subject: number %d\r\n\r\n%s\r\n.", i, strings.Repeat("all is well\r\n", 100))
	}
	return s, config
}

// end stops a server.
func (s *server) end(t *testing.T) {
	t.Helper()
	s.Process.Signal(os.Interrupt)
	if code := s.ended(t); code != 0 {
		t.Fatalf("exit %d", code)
	}
}

// tool runs a command on the spool of a server and returns what it said; JSON goes into got.
func (s *server) tool(t *testing.T, got any, args ...string) (code int, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(program, append([]string{"queue"}, append(args, "--json", "--config", s.file)...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if got != nil {
		if err := json.Unmarshal(out.Bytes(), got); err != nil {
			t.Errorf("%v: %q %s", args, out.String(), errs.String())
		}
	}
	return cmd.ProcessState.ExitCode(), errs.String()
}

// The tools for a whole spool, with the server running and without.
func TestSpoolTools(t *testing.T) {
	t.Parallel()
	const messages = 5
	type count struct {
		Messages int
		Damaged  []string
	}
	a, _ := waiting(t, messages)
	b, _ := waiting(t, 0)
	dir := t.TempDir()
	for _, running := range []bool{true, false} {
		if !running {
			a.end(t)
			b.end(t)
		}
		var got count
		if code, errs := a.tool(t, &got, "verify"); code != 0 || got.Messages != messages {
			t.Errorf("running %v: verify: %d %+v %s", running, code, got, errs)
		}
		file := filepath.Join(dir, fmt.Sprint("export-", running))
		if code, errs := a.tool(t, &got, "export", file); code != 0 || got.Messages != messages {
			t.Errorf("running %v: export: %d %+v %s", running, code, got, errs)
		}
		if code, errs := a.tool(t, nil, "export", file); code != 1 || !strings.Contains(errs, "exists") {
			t.Errorf("running %v: exported over a file: %d %s", running, code, errs)
		}
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		var errs strings.Builder
		cut := exec.Command(program, "queue", "export", "--config", a.file)
		cut.Stdout, cut.Stderr = full, &errs
		if err := cut.Run(); cut.ProcessState.ExitCode() != 1 || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("running %v: exported to a full disk: %v %s", running, err, errs.String())
		}
		full.Close()
		want := messages // the second time they are there already
		if !running {
			want = 0
		}
		if code, errs := b.tool(t, &got, "import", file); code != 0 || got.Messages != want {
			t.Errorf("running %v: import: %d %+v %s", running, code, got, errs)
		}
		if code, errs := a.tool(t, &got, "backup", filepath.Join(dir, fmt.Sprint("backup-", running))); code != 0 || got.Messages != messages {
			t.Errorf("running %v: backup: %d %+v %s", running, code, got, errs)
		}
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		whole[len(whole)/2] ^= 1
		if err := os.WriteFile(file+"-changed", whole, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, errs := b.tool(t, nil, "import", file+"-changed"); code != 1 || running && !strings.Contains(errs, "not a whole export") {
			t.Errorf("running %v: imported what was changed: %d %s", running, code, errs)
		}
	}
}

// A backup in the place of the spool: the server starts and holds what was in it, and the customer would get it.
func TestBackupRestored(t *testing.T) {
	t.Parallel()
	a, _ := waiting(t, 3)
	spool := filepath.Join(filepath.Dir(a.file), "data", "spool")
	backup := filepath.Join(t.TempDir(), "backup")
	if code, errs := a.tool(t, nil, "backup", backup); code != 0 {
		t.Fatal(errs)
	}
	a.end(t)
	if err := os.RemoveAll(spool); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(backup, spool); err != nil {
		t.Fatal(err)
	}
	// Now the domain is local: what was held for the customer goes to a mailbox.
	bothy(t, "customer", "remove", "--config", a.file, "clinic")
	bothy(t, "account", "add", "--config", a.file, "nurse@clinic.example")
	b := &server{file: a.file, done: make(chan error, 1), Cmd: exec.Command(program, "serve", "--config", a.file)}
	b.Stdout, b.Stderr = &b.log, &b.log
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	defer b.Process.Kill()
	go func() { b.done <- b.Wait() }()
	peer.Eventually(t, waitDelivery, "three messages in the mailbox", func() bool { return b.count(t, "Subject: number ") == 3 })
	b.end(t)
}

// One octet that is not what was written is found, and said.
func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	s, _ := waiting(t, 3)
	logs, err := filepath.Glob(filepath.Join(filepath.Dir(s.file), "data", "spool", "log", "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	flipped := false
	for _, name := range logs {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 1<<20)
		n, _ := f.ReadAt(head, 0)
		if i := bytes.Index(head[:n], []byte("Subject: number 1")); i >= 0 {
			f.WriteAt([]byte{'?'}, int64(i))
			flipped = true
		}
		f.Close()
	}
	if !flipped {
		t.Fatal("no message found in the log")
	}
	var got struct {
		Messages int
		Damaged  []string
	}
	if code, errs := s.tool(t, &got, "verify"); code != 1 || got.Messages != 2 || len(got.Damaged) != 1 || !strings.Contains(errs, "damaged") {
		t.Errorf("exit %d, %+v, %s", code, got, errs)
	}
}
