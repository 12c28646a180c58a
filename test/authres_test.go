package test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"bothy/application/authres"
	"bothy/test/peer"
)

// startDNS answers for the texts of some names, and that all others are not there; it returns its address.
func startDNS(t *testing.T, texts map[string]string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		name := strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))
		switch text, ok := texts[name]; {
		case ok && q.Question[0].Qtype == dns.TypeTXT:
			answer.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: []string{text}}}
		case !ok:
			answer.Rcode = dns.RcodeNameError
			fallthrough
		default:
			answer.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60}, Ns: "ns.example.", Mbox: "x.example.", Minttl: 60}}
		}
		_ = w.WriteMsg(answer)
	})}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return conn.LocalAddr().String()
}

// checking is a provider that looks at mail from this machine as if it came from elsewhere, with a DNS of our own.
func checking(t *testing.T, keys ...*authres.Key) string {
	t.Helper()
	texts := map[string]string{"elsewhere.example": "v=spf1 ip4:127.0.0.1 -all", "forged.example": "v=spf1 -all"}
	for _, k := range keys {
		record, err := k.Record()
		if err != nil {
			t.Fatal(err)
		}
		texts[k.Name()] = record
	}
	server := startDNS(t, texts)
	return fmt.Sprintf("dns = [%q]\n[authres]\nloopback = true\n", server)
}

// send sends a message to the provider as the Internet does, from whoever it says.
func (r *remote) send(t *testing.T, from, to, header string) {
	t.Helper()
	s := dial(t, r.border)
	s.say(t, "250", "EHLO mx.elsewhere.example")
	s.say(t, "250", "MAIL FROM:<%s>", from)
	s.say(t, "250", "RCPT TO:<%s>", to)
	s.say(t, "354", "DATA")
	s.say(t, "250", "%s\r\n%s\r\n.", header, sentBody())
	s.say(t, "221", "QUIT")
}

// sentBody is what every message that send sends says.
func sentBody() string { return strings.Repeat("0123456789\r\n", 200) }

// signed is a header with the signature of a key before it, for a message of send's.
func signed(t *testing.T, k *authres.Key, header string) string {
	t.Helper()
	field, err := (&authres.Signer{Keys: []*authres.Key{k}}).Sign(func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(header + "\r\n" + sentBody())), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(field) + header
}

// TestVerdicts: what the provider finds out about a message is in its header at the site, and nothing that only claims to be (RFC 8601 §5).
func TestVerdicts(t *testing.T) {
	t.Parallel()
	key, err := authres.NewKey("elsewhere.example", "s1", "ed25519")
	if err != nil {
		t.Fatal(err)
	}
	r := startRemoteWith(t, checking(t, key))
	r.site.add(t, "nurse@clinic.example")
	const forged = "Authentication-Results: localhost; spf=pass smtp.mailfrom=bank.example; dmarc=pass header.from=bank.example\r\n" +
		"Authentication-Results: MAIL.clinic.example; dkim=pass header.d=bank.example\r\n"
	r.send(t, "aunt@elsewhere.example", "nurse@clinic.example", forged+"Subject: honest\r\n")
	r.send(t, "bank@forged.example", "nurse@clinic.example", forged+"Subject: forged\r\n")
	good := signed(t, key, "From: aunt@elsewhere.example\r\nSubject: signed\r\n")
	r.send(t, "aunt@elsewhere.example", "nurse@clinic.example", forged+good)
	r.send(t, "aunt@elsewhere.example", "nurse@clinic.example", forged+strings.Replace(good, "Subject: signed", "Subject: changed", 1))
	peer.Eventually(t, waitDelivery, "all four messages", func() bool {
		_, _ = peer.Run(t, "", program, "fetch", "--config", r.site.file)
		return r.site.holds(t, "Subject: honest", "spf=pass") && r.site.holds(t, "Subject: forged", "spf=fail") &&
			r.site.holds(t, "Subject: signed", "dkim=pass header.d=elsewhere.example") && r.site.holds(t, "Subject: changed", "dkim=fail")
	})
	for _, text := range []string{"bank.example", "MAIL.clinic.example"} {
		if r.site.holds(t, text) {
			t.Errorf("%q was delivered", text)
		}
	}
	if !r.site.holds(t, "Authentication-Results: localhost; spf=pass smtp.mailfrom=elsewhere.example;\r\n dkim=none;") {
		t.Error("not the provider's field")
	}
}

// TestBackscatter: mail that cannot be delivered after it was accepted goes back to a sender who is vouched for; of a forged one the
// postmaster is told. Provider and site remember which is which over a kill.
func TestBackscatter(t *testing.T) {
	t.Parallel()
	r := startRemoteWith(t, checking(t), "[mailbox]\nquota = \"4KB\"\n") // room for one message: the others stay in the queue
	r.site.add(t, "nurse@clinic.example")
	r.site.add(t, "doctor@clinic.example")
	r.send(t, "aunt@elsewhere.example", "doctor@clinic.example", "Subject: first\r\n")
	r.fetched(t, "Subject: first")
	r.send(t, "aunt@elsewhere.example", "doctor@clinic.example", "Subject: honest and lost\r\n")
	r.send(t, "aunt@forged.example", "doctor@clinic.example", "Subject: forged and lost\r\n")
	r.provider.restart(t)
	peer.Eventually(t, waitDelivery, "the mail in the site's queue", func() bool {
		_, _ = peer.Run(t, "", program, "fetch", "--config", r.site.file)
		return strings.Count(r.site.queued(t), "452") == 2
	})
	r.site.restart(t)
	peer.Eventually(t, waitDelivery, "the site", func() bool {
		_, code := peer.Run(t, "", program, "status", "--config", r.site.file)
		return code == 0
	})
	bothy(t, "account", "remove", "--config", r.site.file, "doctor@clinic.example")
	peer.Eventually(t, waitDelivery, "both notices", func() bool {
		bothy(t, "queue", "retry", "--config", r.site.file, "--all")
		return r.world.holds(t, "postmaster@mail.clinic.example", "Subject: honest and lost", "no such mailbox") &&
			r.site.holds(t, "Delivered-To: postmaster@mail.clinic.example", "Subject: forged and lost", "the address may be forged")
	})
	for _, s := range []*server{r.world, r.provider, r.site} {
		if queued := s.queued(t); strings.Contains(queued, "forged.example") {
			t.Errorf("a notice for the forged sender waits:\n%s", queued)
		}
	}
}

// restart kills the server and starts it again.
func (s *server) restart(t *testing.T) {
	t.Helper()
	s.Process.Kill()
	<-s.done
	s.start(t)
}
