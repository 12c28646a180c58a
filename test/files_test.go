package test

import (
	"bufio"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bothy/test/peer"
)

// TestFewFiles: where the limit of open files has no room for the connections that are configured, the server says so at the start and so does
// `bothy config check`; it uses the hard limit; connections beyond it are told to come later, and mail on the others finds the files it needs.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	const limit, room = 300, 225
	listen := peer.FreePort(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "bothy.toml")
	s := &server{file: file, done: make(chan error, 1)}
	s.write(t, fmt.Sprintf("hostname = \"mx.light.example\"\ndata = %q\n[smtp]\nlisten = [%q]\n", filepath.Join(dir, "data"), listen))
	bothy(t, "account", "add", "--config", file, "nurse@light.example")
	few := fmt.Sprintf("ulimit -Sn %d; ulimit -Hn %d; exec %s", limit/2, limit, program)
	s.Cmd = exec.Command("sh", "-c", few+" serve --config "+file)
	s.Stdout, s.Stderr = &s.log, &s.log
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Process.Kill()
		s.Wait()
	})
	peer.WaitPort(t, listen)
	said := fmt.Sprintf("with room for %d connections", room)
	if !strings.Contains(s.log.String(), said) {
		t.Errorf("not said: %s\n%s", said, &s.log)
	}
	if out, code := peer.Run(t, "", "sh", "-c", few+" config check "+file); code != 0 || !strings.Contains(out, said) {
		t.Errorf("config check: exit %d\n%s", code, out)
	}
	var open []*session
	for range room {
		open = append(open, dial(t, listen))
	}
	if line := firstLine(t, listen); !strings.HasPrefix(line, "421 ") {
		t.Errorf("one too many: %q", line)
	}
	last := open[room-1]
	for _, step := range [][2]string{
		{"EHLO light.example", "250"}, {"MAIL FROM:<a@sender.example>", "250"}, {"RCPT TO:<nurse@light.example>", "250"}, {"DATA", "354"}, {"Subject: full\r\n\r\n.", "250"}, {"QUIT", "221"},
	} {
		last.say(t, step[1], "%s", step[0])
	}
	last.Close()
	peer.Eventually(t, waitDelivery, "a place", func() bool { return strings.HasPrefix(firstLine(t, listen), "220 ") })
}

// firstLine is what a server says first.
func firstLine(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	line, _ := bufio.NewReader(conn).ReadString('\n') // what came before the end is what was said
	return line
}
