package test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/test/peer"
)

// server is a `bothy serve` that a test signals.
type server struct {
	*exec.Cmd
	file string
	log  peer.Output
	done chan error
}

// startServer runs `bothy serve` with a configuration.
func startServer(t *testing.T, config string) *server {
	t.Helper()
	dir := t.TempDir()
	s := &server{file: filepath.Join(dir, "bothy.toml"), done: make(chan error, 1)}
	s.write(t, fmt.Sprintf("data = %q\n%s", filepath.Join(dir, "data"), config))
	s.Cmd = exec.Command(program, "serve", "--config", s.file)
	s.Stdout, s.Stderr = &s.log, &s.log
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.Wait() }()
	t.Cleanup(func() {
		s.Process.Kill()
		if t.Failed() || strings.Contains(s.log.String(), "DATA RACE") {
			t.Errorf("bothy serve printed:\n%s", s.log.String())
		}
	})
	return s
}

func (s *server) write(t *testing.T, config string) {
	t.Helper()
	if err := os.WriteFile(s.file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ended waits for the server's end and returns its exit code.
func (s *server) ended(t *testing.T) int {
	t.Helper()
	select {
	case <-s.done:
		return s.ProcessState.ExitCode()
	case <-time.After(waitDelivery):
		t.Fatal("the server did not end")
		return -1
	}
}

// session is an SMTP connection spoken by hand.
type session struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, address string) *session {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return sessionOn(t, conn)
}

// sessionOn takes the greeting on a connection.
func sessionOn(t *testing.T, conn net.Conn) *session {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(waitDelivery))
	s := &session{conn, bufio.NewReader(conn)}
	s.expect(t, "220")
	return s
}

// expect reads a reply, whose last line must begin with the code.
func (s *session) expect(t *testing.T, code string) string {
	t.Helper()
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			t.Fatalf("waiting for %s: %v", code, err)
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, code) {
			t.Fatalf("got %q, want %s", line, code)
		}
		return line
	}
}

func (s *session) say(t *testing.T, code, format string, args ...any) string {
	t.Helper()
	if _, err := fmt.Fprintf(s, format+"\r\n", args...); err != nil {
		t.Fatal(err)
	}
	return s.expect(t, code)
}

// TestStop: an idle session gets 421 (RFC 5321 §3.8), a message under way is finished, and what has its 250 is there after a restart.
func TestStop(t *testing.T) {
	t.Parallel()
	listen := peer.FreePort(t)
	config := fmt.Sprintf("hostname = \"mx.light.example\"\n[smtp]\nlisten = [%q]\n", listen)
	s := startServer(t, config)
	peer.WaitPort(t, listen)
	bothy(t, "account", "add", "--config", s.file, "keeper@light.example")
	idle, busy := dial(t, listen), dial(t, listen)
	idle.say(t, "250", "EHLO a.example")
	busy.say(t, "250", "EHLO b.example")
	busy.say(t, "250", "MAIL FROM:<aunt@elsewhere.example>")
	peer.Eventually(t, waitDelivery, "the new account", func() bool {
		_, err := fmt.Fprintf(busy, "RCPT TO:<keeper@light.example>\r\n")
		line, rerr := busy.r.ReadString('\n')
		return err == nil && rerr == nil && strings.HasPrefix(line, "250")
	})
	busy.say(t, "354", "DATA")
	fmt.Fprintf(busy, "Subject: in the middle of it\r\n\r\n")
	s.Process.Signal(syscall.SIGTERM)
	idle.expect(t, "421")
	fmt.Fprintf(busy, "the rest\r\n.\r\n")
	busy.expect(t, "250")
	busy.expect(t, "421")
	if code := s.ended(t); code != 0 {
		t.Errorf("exit %d after SIGTERM, want 0", code)
	}
}

// TestSecondSignalEndsAtOnce: whoever insists is obeyed, grace or no grace.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	listen := peer.FreePort(t)
	s := startServer(t, fmt.Sprintf("hostname = \"mx.light.example\"\nstop_grace = \"5m\"\n[smtp]\nlisten = [%q]\n[route]\nrelay_from = [\"127.0.0.0/8\"]\n", listen))
	peer.WaitPort(t, listen)
	idle, busy := dial(t, listen), dial(t, listen)
	idle.say(t, "250", "EHLO a.example")
	busy.say(t, "250", "EHLO b.example")
	busy.say(t, "250", "MAIL FROM:<aunt@elsewhere.example>")
	busy.say(t, "250", "RCPT TO:<keeper@far.example>")
	busy.say(t, "354", "DATA")
	s.Process.Signal(syscall.SIGTERM)
	idle.expect(t, "421") // the first was heard
	peer.Eventually(t, waitDelivery, "the end", func() bool { return s.Process.Signal(syscall.SIGTERM) != nil })
	if code := s.ended(t); code == 0 {
		t.Error("exit 0 after a forced end")
	}
}

// TestReload: SIGHUP opens what is new, closes what is gone, keeps what stays, and changes nothing when the file has an error.
func TestReload(t *testing.T) {
	t.Parallel()
	kept, gone, fresh := peer.FreePort(t), peer.FreePort(t), peer.FreePort(t)
	config := func(listen ...string) string {
		return fmt.Sprintf("hostname = \"mx.light.example\"\n[smtp]\nlisten = [%q]\n", strings.Join(listen, `", "`))
	}
	quoted := func(listen ...string) string { return strings.ReplaceAll(config(listen...), `\"`, `"`) }
	s := startServer(t, quoted(kept, gone))
	data := fmt.Sprintf("data = %q\n", filepath.Join(filepath.Dir(s.file), "data"))
	peer.WaitPort(t, kept)
	old := dial(t, kept)
	old.say(t, "250", "EHLO a.example")

	s.write(t, data+quoted(kept, fresh)+"[smtp.limits]\nmessage_size = \"1MB\"\n")
	s.Process.Signal(syscall.SIGHUP)
	peer.WaitPort(t, fresh)
	peer.Eventually(t, waitDelivery, "the closed port", func() bool {
		conn, err := net.Dial("tcp", gone)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	old.say(t, "250", "NOOP") // a session that was open goes on
	s1 := dial(t, kept)
	s1.say(t, "250", "EHLO a.example")
	s1.say(t, "552", "MAIL FROM:<a@b.example> SIZE=2000000")

	s.write(t, data+quoted(kept)+"[smtp.limits]\nmesage_size = \"2MB\"\n")
	s.Process.Signal(syscall.SIGHUP)
	peer.Eventually(t, waitDelivery, "the word about the error", func() bool {
		return strings.Contains(s.log.String(), "the old one stays in force") && strings.Contains(s.log.String(), "message_size")
	})
	dial(t, fresh)
	s.Process.Signal(syscall.SIGTERM)
	if code := s.ended(t); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// TestReloadMovesServices: a port may change its service and its TLS; what needs a restart stays as it was, whole.
func TestReloadMovesServices(t *testing.T) {
	t.Parallel()
	smtp, submission := peer.FreePort(t), peer.FreePort(t)
	s := startServer(t, fmt.Sprintf("hostname = \"mx.light.example\"\n[smtp]\nlisten = [%q]\n[submission]\nlisten = [%q]\n", smtp, submission))
	peer.WaitPort(t, smtp)
	dir := filepath.Dir(s.file)
	dial(t, submission).say(t, "250", "EHLO a.example")

	s.write(t, fmt.Sprintf("data = %q\nhostname = \"other.light.example\"\n[smtp]\nlisten = [%q]\n[submission]\nlisten_tls = [%q]\n", filepath.Join(dir, "other"), smtp, submission))
	s.Process.Signal(syscall.SIGHUP)
	peer.Eventually(t, waitDelivery, "the reload", func() bool { return strings.Contains(s.log.String(), "new configuration in force") })
	secured, err := tls.Dial("tcp", submission, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatalf("the submission port does not begin with TLS: %v", err)
	}
	defer secured.Close()
	secured.SetDeadline(time.Now().Add(waitDelivery))
	if line, err := bufio.NewReader(secured).ReadString('\n'); err != nil || !strings.HasPrefix(line, "220 mx.light.example") {
		t.Errorf("submission over TLS greets with %q, %v", line, err)
	}
	conn, err := net.Dial("tcp", smtp)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if line, _ := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, "220 mx.light.example") {
		t.Errorf("the hostname changed without a restart: %q", line)
	}
	if _, err := os.Stat(filepath.Join(dir, "other")); err == nil {
		t.Error("the new data directory was used without a restart")
	}
	s.write(t, fmt.Sprintf("data = %q\nhostname = \"mx.light.example\"\n", filepath.Join(dir, "data")))
	if out, code := peer.Run(t, "", program, "status", "--config", s.file); code != 0 {
		t.Errorf("bothy status: exit %d\n%s", code, out)
	}
}

// TestInvalidConfigStartsNothing: every error is named with file and line, and no port was open for a moment.
func TestInvalidConfigStartsNothing(t *testing.T) {
	t.Parallel()
	listen := peer.FreePort(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "bothy.toml")
	content := fmt.Sprintf("hostname = \"mx.light.example\"\ndata = %q\n[smtp]\nlisten = [%q]\n[pop3]\nidle_timeout = \"1s\"\n[rout]\n", filepath.Join(dir, "data"), listen)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"serve", "--config", file}, {"config", "check", "--config", file}} {
		out, code := peer.Run(t, "", program, args...)
		if code == 0 || !strings.Contains(out, file+":6:") || !strings.Contains(out, "RFC 1939") || !strings.Contains(out, file+":7:") || !strings.Contains(out, `"route"`) {
			t.Errorf("bothy %s: exit %d\n%s", strings.Join(args, " "), code, out)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		t.Error("state was made for a configuration that is not valid")
	}

	// A port that is taken stops the start too, before any other is opened.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	content = fmt.Sprintf("hostname = \"mx.light.example\"\ndata = %q\n[smtp]\nlisten = [%q, %q]\n", filepath.Join(dir, "data"), listen, taken.Addr())
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := peer.Run(t, "", program, "serve", "--config", file); code == 0 || !strings.Contains(out, "another program") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestFetchWithCertificate: a site without a password calls with its own certificate, which the provider knows by its key (EXTERNAL).
func TestFetchWithCertificate(t *testing.T) {
	t.Parallel()
	smtp, calls := peer.FreePort(t), peer.FreePort(t)
	provider := startServer(t, fmt.Sprintf("hostname = \"localhost\"\n[smtp]\nlisten = [%q]\n[odmr]\nlisten_tls = [%q]\n", smtp, calls))
	peer.WaitPort(t, calls)
	_, port, _ := net.SplitHostPort(calls)
	ca := filepath.Join(filepath.Dir(provider.file), "data", "tls", "ca.pem")
	site := startServer(t, fmt.Sprintf("hostname = \"mail.clinic.example\"\n[fetch]\nprovider = \"localhost:%s\"\ntls = \"implicit\"\nca_file = %q\n", port, ca))
	own := filepath.Join(filepath.Dir(site.file), "data", "tls", "cert.pem")
	peer.Eventually(t, waitDelivery, "the site's certificate", func() bool { _, err := os.Stat(own); return err == nil })
	bothy(t, "customer", "add", "--config", provider.file, "--linger", "0s", "clinic", "clinic.example")
	bothy(t, "account", "add", "--config", site.file, "nurse@clinic.example")

	if out, code := peer.Run(t, "", program, "fetch", "--config", site.file); code != 5 {
		t.Errorf("a certificate nobody knows: exit %d, want 5 (denied)\n%s", code, out)
	}
	bothy(t, "account", "certificate", "--config", provider.file, "clinic", own)
	peer.Eventually(t, waitDelivery, "the provider to know the certificate", func() bool {
		_, code := peer.Run(t, "", program, "fetch", "--config", site.file)
		return code == 3 // no mail
	})
	mx := dial(t, smtp)
	mx.say(t, "250", "EHLO a.example")
	mx.say(t, "250", "MAIL FROM:<aunt@elsewhere.example>")
	mx.say(t, "250", "RCPT TO:<nurse@clinic.example>")
	mx.say(t, "354", "DATA")
	mx.say(t, "250", "Subject: hello\r\n\r\nhello\r\n.")
	if out, code := peer.Run(t, "", program, "fetch", "--config", site.file); code != 0 || !strings.Contains(out, "1 message") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestSignedOnTheWayOut: mail of a local program gets a DKIM signature once there is a key for its domain, after a reload.
func TestSignedOnTheWayOut(t *testing.T) {
	t.Parallel()
	peer.Need(t, "smtp-sink")
	dir, err := os.MkdirTemp("", "sink") // open to the user that smtp-sink becomes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o777)
	sink := peer.FreePort(t)
	args := []string{"-d", filepath.Join(dir, "%M."), sink, "100"}
	if os.Getuid() == 0 {
		args = append([]string{"-u", "postfix"}, args...)
	}
	peer.Start(t, "smtp-sink", args...)
	peer.WaitPort(t, sink)
	s := startServer(t, fmt.Sprintf("hostname = \"mail.clinic.example\"\n[route]\nsmarthost = %q\n[relay]\ntls = \"none\"\n", sink))
	socket := filepath.Join(filepath.Dir(s.file), "data", "run", "submit.sock")
	peer.Eventually(t, waitDelivery, "the local socket", func() bool { _, err := os.Stat(socket); return err == nil })
	send := func(subject string) string {
		mail := "From: nurse@clinic.example\nTo: aunt@elsewhere.example\nSubject: " + subject + "\n\nhello\n"
		if out, code := peer.RunEnv(t, []string{"BOTHY_CONFIG=" + s.file}, mail, program, "sendmail", "-i", "-f", "nurse@clinic.example", "aunt@elsewhere.example"); code != 0 {
			t.Fatalf("sendmail: exit %d\n%s", code, out)
		}
		var content string
		peer.Eventually(t, waitDelivery, "\""+subject+"\" at the sink", func() bool {
			files, _ := filepath.Glob(filepath.Join(dir, "*"))
			for _, file := range files {
				if b, _ := os.ReadFile(file); strings.Contains(string(b), "Subject: "+subject) && strings.Contains(string(b), "hello") {
					content = string(b)
				}
			}
			return content != ""
		})
		return content
	}
	if content := send("unsigned"); strings.Contains(content, "DKIM-Signature") {
		t.Errorf("signed without a key:\n%s", content)
	}
	bothy(t, "dkim", "add", "--config", s.file, "clinic.example", "--selector", "ed1", "--algorithm", "ed25519")
	s.Process.Signal(syscall.SIGHUP)
	peer.Eventually(t, waitDelivery, "the reload", func() bool { return strings.Contains(s.log.String(), "new configuration in force") })
	if content := send("signed"); !strings.Contains(content, "DKIM-Signature: v=1; a=ed25519-sha256;") || !strings.Contains(content, "d=clinic.example") {
		t.Errorf("not signed:\n%s", content)
	}
}
