package test

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"bothy/test/peer"
)

// TestSendAlong: a site that reaches nothing but its provider's port of calls sends its mail there too (fetch.send): one connection brings that and
// then its own. Without odmr.take_mail at the provider nothing is sent and nothing is lost.
func TestSendAlong(t *testing.T) {
	t.Parallel()
	taking := startProvider(t, "take_mail = true\n[route.lan]\n\"elsewhere.example\" = \"127.0.0.1:9\"\n")
	bothy(t, "customer", "add", "--config", taking.file, "--no-dns", "--password-file", secretFile(t), "clinic", "clinic.example")
	_, port, _ := net.SplitHostPort(taking.calls)
	site := startServer(t, fmt.Sprintf("hostname = \"mail.clinic.example\"\n[route]\nsmarthost = \"localhost:9\"\n[relay]\nusername = \"clinic\"\npassword = \"ahoy ahoy\"\n"+
		"[[fetch]]\nprovider = \"localhost:%s\"\ntls = \"implicit\"\nca_file = %q\nusername = \"clinic\"\npassword = \"ahoy ahoy\"\ninterval = \"1h\"\nsend = true\n",
		port, filepath.Join(filepath.Dir(taking.file), "data", "tls", "ca.pem")))
	peer.Eventually(t, waitDelivery, "the account", func() bool {
		_, code := peer.Run(t, "", program, "account", "add", "--config", site.file, "--password-file", secretFile(t), "nurse@clinic.example")
		return code == 0
	})
	write := func(subject, from string) {
		mail := fmt.Sprintf("From: %s\nTo: aunt@elsewhere.example\nSubject: %s\n\nhello\n", from, subject)
		if out, code := peer.Run(t, mail, program, "--config", site.file, "sendmail", "-f", from, "-t"); code != 0 {
			t.Fatalf("sendmail: exit %d\n%s", code, out)
		}
	}
	waits := func(file string) string { return bothy(t, "queue", "list", "--config", file) }
	write("outward", "nurse@clinic.example")
	write("not ours", "nurse@other.example")
	taking.receive(t, "inward", "nurse@clinic.example")

	out := bothy(t, "fetch", "--config", site.file)
	if !strings.Contains(out, "sending\nasking\nreceiving\n") || !strings.Contains(out, "Sent 1 message along.\nFetched 1 message, ") {
		t.Errorf("fetch:\n%s", out)
	}
	if out := waits(taking.file); !strings.Contains(out, "aunt@elsewhere.example") || strings.Contains(out, "nurse@clinic.example:") {
		t.Errorf("at the provider wait:\n%s", out)
	}
	peer.Eventually(t, waitDelivery, "nothing for the smarthost", func() bool { return !strings.Contains(waits(site.file), "aunt@elsewhere.example") })
	if out := bothy(t, "status", "--config", site.file); !strings.Contains(out, "fetched 1 message, 1 message sent along") {
		t.Errorf("status:\n%s", out)
	}
	if log := taking.log.String(); strings.Contains(log, "msg=authenticated service=submission") || !strings.Contains(log, "msg=authenticated service=odmr") {
		t.Errorf("the provider's log:\n%s", log)
	}
	// The sender that is not this customer's was refused, as on port 587: whoever it was is told.
	peer.Eventually(t, waitDelivery, "the word on the other", func() bool {
		return strings.Contains(site.log.String(), "recipient refused") && strings.Contains(site.log.String(), "550 5.7.1")
	})
}
