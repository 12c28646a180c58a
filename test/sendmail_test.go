package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bothy/test/peer"
)

// TestSendmailWaits: what programs of other users send while the server is away is on disk, and leaves when it is back, once; what cannot be sent
// comes back as a notice.
func TestSendmailWaits(t *testing.T) {
	t.Parallel()
	peer.Need(t, "smtp-sink")
	dir, err := os.MkdirTemp("", "sendmail") // open to the users that smtp-sink and sendmail become
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	received := filepath.Join(dir, "received")
	for _, err := range []error{os.Chmod(dir, 0o755), os.Mkdir(received, 0o700), os.Chmod(received, 0o777), os.Chmod(filepath.Dir(program), 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	sink := peer.FreePort(t)
	args := []string{"-d", filepath.Join(received, "%M."), sink, "100"}
	nobody := &syscall.SysProcAttr{}
	if os.Getuid() == 0 {
		args = append([]string{"-u", "postfix"}, args...)
		nobody.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	peer.Start(t, "smtp-sink", args...)
	peer.WaitPort(t, sink)
	file := filepath.Join(dir, "bothy.toml")
	config := fmt.Sprintf("hostname = \"mail.clinic.example\"\ndata = %q\n[route]\nsmarthost = %q\n[relay]\ntls = \"none\"\n", filepath.Join(dir, "data"), sink)
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	sendmail := func(mail string, args ...string) (string, error) {
		cmd := exec.Command(program, append([]string{"sendmail"}, args...)...)
		cmd.Env, cmd.Stdin, cmd.SysProcAttr, cmd.Dir = []string{"BOTHY_CONFIG=" + file, "TMPDIR=" + os.TempDir()}, strings.NewReader(mail), nobody, "/"
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := sendmail("Subject: never\n\nx\n", "aunt@elsewhere.example"); err == nil || !strings.Contains(out, "bothy serve") {
		t.Errorf("no server ever ran here: %v, %s", err, out)
	}
	serving := func() func() {
		s := exec.Command(program, "serve", "--config", file)
		var log peer.Output
		s.Stdout, s.Stderr = &log, &log
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		peer.Eventually(t, waitDelivery, "the server", func() bool { return strings.Contains(log.String(), "bothy is ready") })
		return func() {
			s.Process.Signal(syscall.SIGTERM)
			if err := s.Wait(); err != nil || t.Failed() {
				t.Errorf("%v\n%s", err, log.String())
			}
		}
	}
	serving()()
	for i, to := range []string{"aunt@elsewhere.example", "uncle@elsewhere.example", "uncle@nowhere"} {
		if out, err := sendmail(fmt.Sprintf("From: nobody@mail.clinic.example\nSubject: number %d\n\nhello\n", i), "-f", "nobody@clinic.example", to); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if _, err := sendmail("x", "-bi"); err != nil {
		t.Error(err)
	}
	stop := serving()
	defer stop()
	var all string
	peer.Eventually(t, waitDelivery, "two messages and a notice at the sink", func() bool {
		files, _ := filepath.Glob(filepath.Join(received, "*"))
		all = ""
		for _, file := range files {
			content, _ := os.ReadFile(file)
			all += string(content)
		}
		return len(files) >= 3 && strings.Count(all, "\nSubject: number ") >= 3
	})
	for text, times := range map[string]int{"\nSubject: number 0": 1, "\nSubject: number 1": 1, "Final-Recipient: rfc822;uncle@nowhere": 1, "\nStatus: 5.1.2": 1} {
		if n := strings.Count(all, text); n != times {
			t.Errorf("%q is there %d times\n%s", text, n, all)
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, "data", "drop"))
	if err != nil || len(left) != 0 {
		t.Error(left, err)
	}
}

// TestSendmailToMany: RFC 5321 §4.5.3.1.10: 2,500 recipients of one message go on in further transactions, handed to the server that runs or left for one
// that is killed (SIGKILL) while it collects: everybody has it.
func TestSendmailToMany(t *testing.T) {
	t.Parallel()
	s := startServer(t, "hostname = \"mx.light.example\"\n")
	peer.Eventually(t, waitDelivery, "the socket", func() bool {
		_, err := os.Stat(filepath.Join(filepath.Dir(s.file), "data", "run", "submit.sock"))
		return err == nil
	})
	s.add(t, "nurse@light.example")
	send := func(subject string) {
		t.Helper()
		args := []string{"sendmail", "-C", s.file, "-f", "nurse@light.example"}
		for i := range 2500 {
			args = append(args, fmt.Sprintf("nurse+%s%d@light.example", subject, i))
		}
		if out, code := peer.Run(t, "Subject: "+subject+"\n\nx\n", program, args...); code != 0 {
			t.Fatalf("exit %d\n%s", code, out)
		}
	}
	missing := func(subject string) (n int) {
		lines := s.lines(t, "Delivered-To: nurse+"+subject)
		for i := range 2500 {
			if lines[fmt.Sprintf("Delivered-To: nurse+%s%d@light.example", subject, i)] == 0 {
				n++
			}
		}
		return n
	}
	send("live")
	peer.Eventually(t, waitDelivery, "all copies", func() bool { return missing("live") == 0 })
	if n := s.count(t, "Subject: live"); n != 3 {
		t.Errorf("%d messages", n)
	}
	s.Process.Kill()
	<-s.done
	send("left")
	s.start(t)
	peer.Eventually(t, waitDelivery, "the first copies", func() bool { return missing("left") < 2500 })
	s.restart(t)
	peer.Eventually(t, waitDelivery, "all copies, in the end", func() bool { return missing("left") == 0 })
	peer.Eventually(t, waitDelivery, "an empty folder", func() bool {
		left, err := os.ReadDir(filepath.Join(filepath.Dir(s.file), "data", "drop"))
		return err == nil && len(left) == 0
	})
	if n := s.count(t, "report-type=delivery-status"); n != 0 {
		t.Errorf("%d notices", n)
	}
}
