package test

import (
	"fmt"
	"strings"
	"testing"

	"bothy/test/peer"
)

// TestQuota: a customer with as much waiting as may gets no more until it has called, and somebody else is told of it, once.
func TestQuota(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	r.world.add(t, "boss@elsewhere.example")
	r.site.add(t, "nurse@clinic.example")
	bothy(t, "customer", "set", "--config", r.provider.file, "clinic", "--quota-messages", "2", "--lifetime", "10d", "--warn", "boss@elsewhere.example")
	if shown := bothy(t, "customer", "show", "--config", r.provider.file, "clinic"); !strings.Contains(shown, "2 messages") || !strings.Contains(shown, "mail waits for       10d\n") || !strings.Contains(shown, "boss@elsewhere.example") {
		t.Errorf("%s", shown)
	}
	if out, code := peer.Run(t, "", program, "customer", "set", "--config", r.provider.file, "clinic", "--warn", "nurse@clinic.example"); code == 0 {
		t.Errorf("a warning that would wait with the rest: %s", out)
	}
	rcpt := func() string {
		s := dial(t, r.border)
		s.say(t, "250", "EHLO mx.elsewhere.example")
		s.say(t, "250", "MAIL FROM:<aunt@elsewhere.example>")
		fmt.Fprintf(s, "RCPT TO:<nurse@clinic.example>\r\n")
		line, _ := s.r.ReadString('\n')
		return line
	}
	peer.Eventually(t, waitDelivery, "452 for the third", func() bool {
		if strings.HasPrefix(rcpt(), "452 4.2.2") {
			return true
		}
		r.mail(t, "one of two", "nurse@clinic.example")
		return false
	})
	peer.Eventually(t, waitDelivery, "the warning", func() bool {
		return r.world.holds(t, "Subject: Mail waits for clinic", "2 of 2 messages")
	})
	peer.Eventually(t, waitDelivery, "room", func() bool {
		_, _ = peer.Run(t, "", program, "fetch", "--config", r.site.file)
		return strings.HasPrefix(rcpt(), "250")
	})
}
