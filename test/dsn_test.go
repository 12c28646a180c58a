package test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bothy/test/peer"
)

// TestDeliveredNotice: who asks for it is told of the delivery, once (RFC 3461 §4.1, §6), and of a failure by RFC 3464.
func TestDeliveredNotice(t *testing.T) {
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
	peer.Eventually(t, 5*time.Second, "the accounts", func() bool {
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
