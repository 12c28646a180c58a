package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bothy/test/peer"
)

// TestPush: a site that lingers gets its mail the moment the provider has it, over the connection it opened, long before its next call.
func TestPush(t *testing.T) {
	t.Parallel()
	peer.Need(t, "curl")
	smtp, calls, pop := peer.FreePort(t), peer.FreePort(t), peer.FreePort(t)
	provider := startServer(t, fmt.Sprintf("hostname = \"localhost\"\n[smtp]\nlisten = [%q]\n[odmr]\nlisten_tls = [%q]\n", smtp, calls))
	peer.WaitPort(t, calls)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("ahoy ahoy\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bothy(t, "customer", "add", "--config", provider.file, "--password-file", password, "--linger", "40m", "clinic", "clinic.example")
	_, port, _ := net.SplitHostPort(calls)
	site := startServer(t, fmt.Sprintf("hostname = \"mail.clinic.example\"\n[pop3]\nlisten_tls = [%q]\n[fetch]\nprovider = \"localhost:%s\"\ntls = \"implicit\"\nca_file = %q\nusername = \"clinic\"\npassword_file = %q\ninterval = \"1h\"\n",
		pop, port, filepath.Join(filepath.Dir(provider.file), "data", "tls", "ca.pem"), password))
	peer.WaitPort(t, pop)
	bothy(t, "account", "add", "--config", site.file, "--password-file", password, "nurse@clinic.example")
	ca := filepath.Join(filepath.Dir(site.file), "data", "tls", "ca.pem")
	arrived := func() int {
		out, _ := peer.Run(t, "", "curl", "--silent", "--cacert", ca, "--user", "nurse@clinic.example:ahoy ahoy", "pop3s://"+pop+"/")
		return strings.Count(out, "\n")
	}
	// The one call of this hour may come before the account is known; from then on everything is pushed.
	peer.Run(t, "", program, "fetch", "--config", site.file)
	for i := range 3 {
		mx := dial(t, smtp)
		mx.say(t, "250", "EHLO a.example")
		mx.say(t, "250", "MAIL FROM:<aunt@elsewhere.example>")
		mx.say(t, "250", "RCPT TO:<nurse@clinic.example>")
		mx.say(t, "354", "DATA")
		began := time.Now()
		mx.say(t, "250", "Subject: push %d\r\n\r\nhello\r\n.", i)
		peer.Eventually(t, waitDelivery, "a pushed message", func() bool { return arrived() == i+1 })
		t.Logf("readable by POP3 after %v", time.Since(began).Round(time.Millisecond))
	}
}
