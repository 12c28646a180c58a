package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bothy/lib/sim"
	"bothy/test/peer"
)

// farConfig is a server that people submit to, and that tells what became of their mail.
func farConfig(submit, asked string) string {
	return fmt.Sprintf("hostname = \"localhost\"\n[submission]\nlisten_tls = [%q]\n[mtqp]\nlisten = [%q]\n", submit, asked)
}

// withPassword makes an account on a server and returns the environment of who submits to it.
func withPassword(t *testing.T, s *server, name string) []string {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("ahoy ahoy\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bothy(t, "account", "add", "--config", s.file, "--password-file", password, name)
	return []string{"BOTHY_PASSWORD=ahoy ahoy", "SSL_CERT_FILE=" + filepath.Join(filepath.Dir(s.file), "data", "tls", "ca.pem")}
}

// TestSubmissionGoesOn: a message is submitted over a link that is cut, to a server that is killed and started again while it comes. It
// arrives once, and most of it was sent once.
func TestSubmissionGoesOn(t *testing.T) {
	t.Parallel()
	submit, asked := peer.FreePort(t), peer.FreePort(t)
	s := startServer(t, farConfig(submit, asked))
	peer.WaitPort(t, submit)
	env := withPassword(t, s, "keeper@localhost")
	line, err := sim.OpenLine("127.0.0.1:0", submit)
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	line.SetRate(1_000_000)
	text := "From: keeper@localhost\nTo: keeper@localhost\nSubject: x-ray\n\n" + strings.Repeat(strings.Repeat("x", 70)+"\n", 50_000)
	_, port, _ := net.SplitHostPort(line.Addr())
	cmd := exec.CommandContext(t.Context(), program, "sendmail", "--server", "smtps://keeper@localhost@localhost:"+port, "--json", "-f", "keeper@localhost", "keeper@localhost")
	cmd.Env, cmd.Stdin = append(os.Environ(), env...), strings.NewReader(text)
	var said peer.Output
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	partial := filepath.Join(filepath.Dir(s.file), "data", "spool", "partial")
	has := func(octets int64) func() bool {
		return func() bool {
			var sum int64
			files, _ := os.ReadDir(partial)
			for _, f := range files {
				if info, err := f.Info(); err == nil {
					sum += info.Size()
				}
			}
			return sum >= octets
		}
	}
	peer.Eventually(t, waitDelivery, "a first part", has(500_000))
	line.Down()
	if err := line.Up(); err != nil {
		t.Fatal(err)
	}
	peer.Eventually(t, waitDelivery, "a second part", has(1_500_000))
	s.Process.Kill()
	<-s.done
	config, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	again := exec.Command(program, "serve", "--config", s.file)
	again.Stdout, again.Stderr = &s.log, &s.log
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	defer again.Wait()
	defer again.Process.Kill()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, said.String(), config)
	}
	if !strings.Contains(said.String(), `"code": 250`) || strings.Count(said.String(), "attempt") < 2 {
		t.Errorf("sendmail printed %s", said.String())
	}
	if log := s.log.String(); strings.Count(log, "message goes on") < 2 || strings.Count(log, "message accepted") != 1 {
		t.Error("the message did not go on")
	}
}

// TestTrack: who sent a message asks what became of it: one recipient has it, the other's waits.
func TestTrack(t *testing.T) {
	t.Parallel()
	submit, asked := peer.FreePort(t), peer.FreePort(t)
	s := startServer(t, farConfig(submit, asked))
	peer.WaitPort(t, asked)
	env := withPassword(t, s, "keeper@localhost")
	_, port, _ := net.SplitHostPort(submit)
	out, code := peer.RunEnv(t, env, "Subject: x\n\nhello\n", program, "sendmail", "--server", "smtps://keeper@localhost@localhost:"+port, "--track",
		"-f", "keeper@localhost", "keeper@localhost", "doctor@hospital.example")
	m := regexp.MustCompile(`bothy track (\S+) (\S+)`).FindStringSubmatch(out)
	if code != 0 || m == nil {
		t.Fatalf("exit %d: %s", code, out)
	}
	_, port, _ = net.SplitHostPort(asked)
	var answer string
	peer.Eventually(t, waitDelivery, "a delivery", func() bool {
		answer, _ = peer.RunEnv(t, env, "", program, "track", "--server", "localhost:"+port, m[1], m[2])
		return strings.Contains(answer, "Action: delivered")
	})
	if !strings.Contains(answer, "Final-Recipient: rfc822; doctor@hospital.example\nAction: ") || !strings.Contains(answer, "Original-Envelope-Id: "+m[1]+"\n") {
		t.Error(answer)
	}
	began := time.Now()
	if out, code := peer.RunEnv(t, env, "", program, "track", "--server", "localhost:"+port, m[1], "AAAA"); code != 1 || !strings.Contains(out, "knows nothing") {
		t.Errorf("without the secret: exit %d after %v: %s", code, time.Since(began), out)
	}
}
