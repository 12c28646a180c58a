package test

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bothy/test/peer"
)

// TestSubmissionPolicies: what the configuration and `bothy account` say about submission holds in the whole program: RFC 6409 §3.2, §3.3, §5.2, §6.
func TestSubmissionPolicies(t *testing.T) {
	t.Parallel()
	peer.Need(t, "curl")
	submission, mailbox := peer.FreePort(t), peer.FreePort(t)
	s := startServer(t, fmt.Sprintf("hostname = \"localhost\"\n[submission]\nlisten = [%q]\nplaintext = true\npop_window = \"20m\"\nrefusals = \"bounce\"\nforbid = [\"X-Mailer: mass\"]\n"+
		"[pop3]\nlisten_tls = [%q]\n", submission, mailbox))
	peer.WaitPort(t, mailbox)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	bothy(t, "account", "add", "--config", s.file, "nurse@clinic.example", "--password-file", password)
	bothy(t, "account", "rights", "--config", s.file, "nurse@clinic.example", "--send-to", "local", "--size", "1KB")
	app := bothy(t, "account", "app", "add", "--config", s.file, "nurse@clinic.example", "telephone")
	app = strings.TrimSpace(app[strings.LastIndexByte(app, ' ')+1:])
	ca := filepath.Join(filepath.Dir(s.file), "data", "tls", "ca.pem")
	read := func(password, what string) (string, int) {
		return peer.Run(t, "", "curl", "--silent", "--show-error", "--cacert", ca, "--user", "nurse@clinic.example:"+password, "pop3s://"+strings.Replace(mailbox, "127.0.0.1", "localhost", 1)+"/"+what)
	}

	stranger := dial(t, submission)
	stranger.SetDeadline(time.Now().Add(time.Minute))
	stranger.say(t, "250", "EHLO desk.clinic.example")
	stranger.say(t, "530 5.7.0", "MAIL FROM:<nurse@clinic.example>")
	peer.Eventually(t, waitDelivery, "the new password", func() bool {
		_, code := read(app, "")
		return code == 0
	})
	stranger.say(t, "250", "MAIL FROM:<nurse@clinic.example>") // RFC 6409 §3.3: read by POP3 just now
	stranger.say(t, "550 5.7.1", "RCPT TO:<aunt@elsewhere.example>")
	stranger.say(t, "250", "RCPT TO:<nurse@clinic.example>")
	stranger.say(t, "354", "DATA")
	stranger.say(t, "250", "From: nurse@clinic.example\r\nTo: a b c\r\nSubject: crooked\r\n\r\nx\r\n.") // RFC 6409 §3.2: accepted, and returned
	stranger.say(t, "250", "MAIL FROM:<>")
	stranger.say(t, "250", "RCPT TO:<nurse@clinic.example>")
	stranger.say(t, "354", "DATA")
	stranger.say(t, "550 5.7.0", "From: nurse@clinic.example\r\nX-Mailer: Mass Mailer\r\n\r\nx\r\n.") // RFC 6409 §6.3; nobody to return it to
	stranger.say(t, "552 5.3.4", "MAIL FROM:<nurse@clinic.example> SIZE=1001")

	var list string
	peer.Eventually(t, waitDelivery, "the notice", func() bool {
		list, _ = read("secret", "")
		return strings.HasPrefix(list, "1 ")
	})
	notice, code := read("secret", "1")
	for _, want := range []string{"multipart/report", "\nStatus: 5.6.0", "\nSubject: crooked", "holds something that is not an address"} {
		if code != 0 || !strings.Contains(notice, want) {
			t.Errorf("no %q in the notice\n%s", want, notice)
		}
	}
	faults := bothy(t, "faults", "--config", s.file)
	for _, want := range []string{"nurse@clinic.example", "sends what this site forbids", "writes to whom it may not", "sends without having logged in"} {
		if !strings.Contains(faults, want) {
			t.Errorf("no %q among the faults\n%s", want, faults)
		}
	}
	// A password of a program logs in by itself.
	phone := dial(t, submission)
	phone.say(t, "250", "EHLO phone.clinic.example")
	phone.say(t, "220", "STARTTLS")
	secured := tls.Client(phone.Conn, &tls.Config{InsecureSkipVerify: true})
	phone.Conn = secured
	phone.r.Reset(secured)
	phone.say(t, "250", "EHLO phone.clinic.example")
	phone.say(t, "235", "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00nurse@clinic.example\x00"+app)))
	bothy(t, "account", "app", "remove", "--config", s.file, "nurse@clinic.example", "telephone")
	peer.Eventually(t, waitDelivery, "the password's end", func() bool {
		_, code := read(app, "")
		return code != 0
	})
}
