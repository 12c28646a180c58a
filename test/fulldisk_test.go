package test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/test/peer"
)

// TestFullDisk fills a small disk with something else: new mail gets 452, the people read and remove theirs, the program starts, an
// account is added; and when there is room mail is taken again, without help.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	peer.NeedRoot(t)
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o711); err != nil {
		t.Fatal(err)
	}
	if out, code := peer.Run(t, "", "mount", "-t", "tmpfs", "-o", "size=150m", "none", data); code != 0 {
		t.Skip("no tmpfs: ", out)
	}
	t.Cleanup(func() { exec.Command("umount", "--lazy", data).Run() })
	smtp, pop := peer.FreePort(t), peer.FreePort(t)
	config := fmt.Sprintf("data = %q\nhostname = \"mx.light.example\"\n[smtp]\nlisten = [%q]\n[pop3]\nlisten_tls = [%q]\n", data, smtp, pop)
	s := &server{file: filepath.Join(dir, "bothy.toml")}
	s.write(t, config)
	s.start(t)
	peer.WaitPort(t, pop)
	add := func(name string) {
		t.Helper()
		if out, code := peer.Run(t, "ahoy ahoy\n", program, "account", "add", "--config", s.file, name); code != 0 {
			t.Fatal(out)
		}
	}
	add("keeper@light.example")
	add("nurse@light.example")
	peer.Eventually(t, waitDelivery, "the accounts", func() bool { return offer(t, smtp, "nurse@light.example") == "250" })
	peer.Eventually(t, waitDelivery, "the first message", func() bool { return offer(t, smtp, "keeper@light.example") == "250" })
	if code := offer(t, smtp, "keeper@light.example"); code != "250" { // on a disk of 150 MB
		t.Fatalf("%s while there is room", code)
	}
	peer.Eventually(t, waitDelivery, "both", func() bool { return maildrop(t, pop, "keeper", "STAT") >= "+OK 2" })

	filler := filepath.Join(data, "filler")
	fill(t, filler)
	for range 2 {
		if code := offer(t, smtp, "keeper@light.example"); code != "452" { // RFC 3463 §3.4: 4.3.1
			t.Errorf("%s on a full disk", code)
		}
	}
	if n := strings.Count(s.log.String(), "spool refuses mail: the disk is full"); n != 1 {
		t.Errorf("told %d times:\n%s", n, s.log.String())
	}
	for _, end := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} { // the second leaves SQLite's journals behind, the first must make them
		s.Process.Signal(end)
		<-s.done
		fill(t, filler)
		s.start(t)
		peer.WaitPort(t, pop)
	}
	if got := maildrop(t, pop, "keeper", "RETR 1"); got[:3] != "+OK" {
		t.Error(got)
	}
	fill(t, filler)
	if got := maildrop(t, pop, "keeper", "DELE 1", "QUIT"); got[:3] != "+OK" {
		t.Error(got)
	}
	if got := maildrop(t, pop, "keeper", "STAT"); got[:5] != "+OK 1" {
		t.Error(got)
	}
	add("mate@light.example")

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	peer.Eventually(t, waitDelivery, "250 again", func() bool { return offer(t, smtp, "mate@light.example") == "250" })
	peer.Eventually(t, waitDelivery, "the mate's mail", func() bool { return maildrop(t, pop, "mate", "STAT")[:5] == "+OK 1" })
	if !strings.Contains(s.log.String(), "spool takes mail again") {
		t.Errorf("not told that there is room:\n%s", s.log.String())
	}
	for _, ballast := range []string{"directory.db.ballast", "mailboxes/ballast"} {
		peer.Eventually(t, waitDelivery, ballast, func() bool { _, err := os.Stat(filepath.Join(data, ballast)); return err == nil })
	}
}

// start runs the program on s.file, a second time too.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.log, s.done = peer.Output{}, make(chan error, 1)
	s.Cmd = exec.Command(program, "serve", "--config", s.file)
	s.Stdout, s.Stderr = &s.log, &s.log
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	cmd, done := s.Cmd, s.done
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		if t.Failed() || strings.Contains(s.log.String(), "DATA RACE") {
			t.Errorf("bothy serve printed:\n%s", s.log.String())
		}
	})
}

// fill writes to a file until the disk is full.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
}

// offer sends a message and returns the code of the first refusal, or that of the end.
func offer(t *testing.T, smtp, to string) (code string) {
	t.Helper()
	c := dial(t, smtp)
	defer c.Close()
	for _, line := range []string{"EHLO a.example", "MAIL FROM:<>", "RCPT TO:<" + to + ">", "DATA", "Subject: hello\r\n\r\nhello\r\n."} {
		fmt.Fprintf(c, "%s\r\n", line)
		for {
			reply, err := c.r.ReadString('\n')
			if err != nil || len(reply) < 4 {
				t.Fatalf("%s: %q, %v", line, reply, err)
			}
			if code = reply[:3]; reply[3] != '-' {
				break
			}
		}
		if code[0] > '3' {
			break
		}
	}
	return code
}

// maildrop logs in, gives commands and returns the first line of the last answer.
func maildrop(t *testing.T, address, user string, commands ...string) (answer string) {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(waitDelivery))
	c := textproto.NewConn(conn)
	answer, err = c.ReadLine()
	for _, command := range append([]string{"USER " + user + "@light.example", "PASS ahoy ahoy"}, commands...) {
		if err == nil {
			err = c.PrintfLine("%s", command)
		}
		if err == nil {
			answer, err = c.ReadLine()
		}
		if err == nil && strings.HasPrefix(command, "RETR") && strings.HasPrefix(answer, "+OK") {
			_, err = io.Copy(io.Discard, c.DotReader())
		}
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
	}
	return answer
}
