package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bothy/test/peer"
)

// TestDeliveredNotice: RFC 3461 §5.2.3: who asks for it is told of the delivery, once.
func TestDeliveredNotice(t *testing.T) {
	t.Parallel()
	peer.Need(t, "curl")
	smtp, pop := peer.FreePort(t), peer.FreePort(t)
	s := startServer(t, fmt.Sprintf("hostname = \"mx.light.example\"\n[smtp]\nlisten = [%q]\n[pop3]\nlisten_tls = [%q]\n", smtp, pop))
	peer.WaitPort(t, pop)
	for _, name := range []string{"keeper@light.example", "nurse@light.example"} {
		if out, code := peer.Run(t, "ahoy ahoy\n", program, "account", "add", "--config", s.file, name); code != 0 {
			t.Fatal(out)
		}
	}
	ca := filepath.Join(filepath.Dir(s.file), "data", "tls", "ca.pem")
	read := func(path string) string {
		out, _ := peer.Run(t, "", "curl", "--silent", "--cacert", ca, "--user", "keeper@light.example:ahoy ahoy", "pop3s://"+pop+"/"+path)
		return out
	}
	peer.Eventually(t, waitDelivery, "the accounts", func() bool {
		c := dial(t, smtp)
		fmt.Fprintf(c, "EHLO a.example\r\nMAIL FROM:<>\r\nRCPT TO:<nurse@light.example>\r\n")
		c.expect(t, "250")
		c.expect(t, "250")
		line, _ := c.r.ReadString('\n')
		return strings.HasPrefix(line, "250")
	})
	c := dial(t, smtp)
	c.say(t, "250", "EHLO a.example")
	c.say(t, "250", "MAIL FROM:<keeper@light.example> RET=HDRS ENVID=QQ314159")
	c.say(t, "250", "RCPT TO:<nurse@light.example> NOTIFY=SUCCESS ORCPT=rfc822;Nurse@light.example")
	c.say(t, "354", "DATA")
	c.say(t, "250", "Subject: tell me\r\nMessage-ID: <1@light.example>\r\n\r\nhello\r\n.")
	peer.Eventually(t, waitDelivery, "the notice", func() bool { return strings.Count(read(""), "\n") == 1 })
	notice := read("1")
	for _, want := range []string{
		"Return-Path: <>", "report-type=delivery-status", "Original-Envelope-Id: QQ314159", "Action: delivered", "Status: 2.",
		"Original-Recipient: rfc822;Nurse@light.example", "Final-Recipient: rfc822;", "Subject: tell me",
	} {
		if !strings.Contains(strings.ReplaceAll(notice, "rfc822; ", "rfc822;"), want) {
			t.Errorf("no %q in\n%s", want, notice)
		}
	}
}

// TestExpandedNotice: RFC 3461 §5.2.7.3: who asks for success of mail to an alias of several hears once that it was expanded, though the server is
// killed while one of them has to wait, and nothing when that one has it.
func TestExpandedNotice(t *testing.T) {
	t.Parallel()
	config := "hostname = \"mx.light.example\"\n"
	s := startServer(t, config+"[mailbox]\nquota = \"8KB\"\n")
	peer.Eventually(t, waitDelivery, "the socket", func() bool {
		_, err := os.Stat(filepath.Join(filepath.Dir(s.file), "data", "run", "submit.sock"))
		return err == nil
	})
	for _, name := range []string{"keeper@light.example", "nurse@light.example", "cook@light.example"} {
		s.add(t, name)
	}
	bothy(t, "account", "alias", "add", "--config", s.file, "crew@light.example", "nurse@light.example", "cook@light.example")
	send := func(text, to string, wishes ...string) {
		t.Helper()
		args := append([]string{"sendmail", "-C", s.file, "-f", "keeper@light.example"}, append(wishes, to)...)
		if out, code := peer.Run(t, text, program, args...); code != 0 {
			t.Fatalf("exit %d\n%s", code, out)
		}
	}
	send("Subject: large\n\n"+strings.Repeat("0123456789\n", 600), "nurse@light.example")
	peer.Eventually(t, waitDelivery, "the large one", func() bool { return s.holds(t, "Subject: large") })
	send("Subject: to the crew\n\n"+strings.Repeat("0123456789\n", 200), "crew@light.example", "-N", "success", "-V", "QQ314159")
	peer.Eventually(t, waitDelivery, "the notice", func() bool {
		return s.holds(t, "Delivered-To: keeper@light.example", "Action: expanded", "Final-Recipient: rfc822;crew@light.example", "Original-Envelope-Id: QQ314159", "Subject: to the crew")
	})
	if waits := s.queued(t); !strings.Contains(waits, "crew@light.example") || !strings.Contains(waits, "452") {
		t.Errorf("the queue holds\n%s", waits)
	}
	s.write(t, fmt.Sprintf("data = %q\n%s", filepath.Join(filepath.Dir(s.file), "data"), config))
	s.restart(t)
	peer.Eventually(t, waitDelivery, "the other's copy", func() bool {
		peer.Run(t, "", program, "queue", "retry", "--config", s.file, "--all")
		return s.count(t, "Delivered-To: crew@light.example", "Subject: to the crew") == 2
	})
	peer.Eventually(t, waitDelivery, "an empty queue", func() bool { return !strings.Contains(s.queued(t), "@") })
	if n := s.count(t, "report-type=delivery-status"); n != 1 {
		t.Errorf("%d notices", n)
	}
}

// TestWishesAcrossHops: RFC 3461 §5.2.1: ENVID, RET, NOTIFY and ORCPT of a message that a site sends through its provider arrive where it is
// delivered, and the notice comes back the whole way, through the provider's queue to the site that fetches it.
func TestWishesAcrossHops(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	r.site.add(t, "nurse@clinic.example")
	out, code := peer.Run(t, "Subject: tell me all\n\nx\n", program, "sendmail", "-C", r.site.file, "-f", "nurse@clinic.example",
		"-N", "success,failure", "-V", "QQ314159", "-R", "hdrs", "Aunt@elsewhere.example")
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	peer.Eventually(t, 2*waitDelivery, "the notice", func() bool {
		_, _ = peer.Run(t, "", program, "fetch", "--config", r.site.file)
		return r.site.holds(t, "Original-Envelope-Id: QQ314159", "Reporting-MTA: dns; mx.elsewhere.example", "Action: delivered", "Subject: tell me all",
			"Final-Recipient: rfc822;Aunt@elsewhere.example")
	})
}
