package test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"bothy/test/peer"
)

// encrypt puts TLS on a session, whoever the server is, and says EHLO again.
func (s *session) encrypt(t *testing.T) (offered string) {
	t.Helper()
	s.say(t, "220", "STARTTLS")
	conn := tls.Client(s.Conn, &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	s.Conn = conn
	s.r.Reset(conn)
	return s.hello(t)
}

// hello says EHLO and returns all of the reply.
func (s *session) hello(t *testing.T) (offered string) {
	t.Helper()
	fmt.Fprint(s, "EHLO mx.elsewhere.example\r\n")
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if offered += line; !strings.HasPrefix(line, "250-") {
			return offered
		}
	}
}

// TestExtensions: what a sender asks of the provider holds at the site too: a binary message with a deadline, a priority, solicitation class
// keywords and TLS all the way is fetched, read as lines, and its sender hears where it went (RFC 3030 §3, RFC 2852 §4.1.4, RFC 6710
// §4, RFC 3865 §2.6, RFC 8689 §4).
func TestExtensions(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	r.site.add(t, "nurse@clinic.example")
	s := dial(t, r.border)
	clear := s.hello(t)
	secure := s.encrypt(t)
	for _, keyword := range []string{
		"PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "SIZE 50000000", "BINARYMIME", "DSN", "LIMITS RCPTMAX=1000", "MT-PRIORITY", "DELIVERBY 1",
		"NO-SOLICITING", "ETRN", "ENHANCEDSTATUSCODES", "STARTTLS", "REQUIRETLS",
	} {
		if in := strings.Contains(clear, keyword+"\r\n"); in == (keyword == "REQUIRETLS") {
			t.Errorf("in the clear, %s: %v", keyword, in)
		}
		if in := strings.Contains(secure, keyword+"\r\n"); in == (keyword == "STARTTLS") {
			t.Errorf("under TLS, %s: %v", keyword, in)
		}
	}
	text := "From: aunt@elsewhere.example\r\nSubject: picture\r\nSolicitation: net.example:FUN\r\nMIME-Version: 1.0\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n\x1a\n\x00"
	s.say(t, "250", "MAIL FROM:<aunt@elsewhere.example> BODY=BINARYMIME BY=3600;NT MT-PRIORITY=-3 SOLICIT=net.example:FUN REQUIRETLS")
	s.say(t, "250", "RCPT TO:<nurse@clinic.example>")
	if _, err := fmt.Fprintf(s, "BDAT %d LAST\r\n%s", len(text), text); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "250")
	peer.Eventually(t, waitDelivery, "the picture", func() bool {
		_, _ = peer.Run(t, "", program, "fetch", "--config", r.site.file)
		return r.site.holds(t, "Subject: picture", "Content-Transfer-Encoding: base64", "iVBORw0KGgoA")
	})
	if !r.site.holds(t, "Subject: picture", "by mail.clinic.example via ODMR with ESMTPS\r\n\t(SOLICIT=net.example:FUN)", "by localhost with ESMTPS\r\n\t(SOLICIT=net.example:FUN)") {
		t.Error("the trace does not tell of the keywords at both")
	}
	if !r.site.holds(t, "priority -3;\r\n\t", "Subject: picture") {
		t.Error("the trace does not tell of the priority")
	}
	peer.Eventually(t, waitDelivery, "the notice of the relay", func() bool {
		return r.world.holds(t, "Action: relayed", "Deliver-By-Date: ", "Subject: picture")
	})
}

// TestDeadline: RFC 2852 §4.1.3: what has not been fetched in time goes back.
func TestDeadline(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	s := dial(t, r.border)
	s.hello(t)
	s.say(t, "501", "MAIL FROM:<aunt@elsewhere.example> BY=2;RX")
	s.say(t, "501", "MAIL FROM:<aunt@elsewhere.example> BY=0;R")
	s.say(t, "250", "MAIL FROM:<aunt@elsewhere.example> BY=2;R")
	s.say(t, "250", "RCPT TO:<doctor@lab.example>")
	s.say(t, "354", "DATA")
	s.say(t, "250", "Subject: urgent\r\n\r\nhello\r\n.")
	peer.Eventually(t, waitDelivery, "the notice", func() bool { return r.world.holds(t, "Action: failed", "Status: 5.4.7", "Subject: urgent") })
}

// TestTLSRequired: RFC 8689 §4.2.1, §5: what cannot go by TLS that is proved goes back, without its text; TLS-Required: No goes as ever.
func TestTLSRequired(t *testing.T) {
	t.Parallel()
	near, far := peer.FreePort(t), peer.FreePort(t)
	world := startServer(t, fmt.Sprintf("hostname = \"mx.elsewhere.example\"\n[smtp]\nlisten = [%q]\n", far))
	server := startServer(t, fmt.Sprintf("hostname = \"mx.light.example\"\n[smtp]\nlisten = [%q]\n[notices]\nfull_size = \"1MB\"\n[route]\nrelay_from = [\"127.0.0.0/8\"]\n[route.via]\n\"elsewhere.example\" = %q\n[relay]\nvia_tls = \"opportunistic\"\n", near, far))
	peer.WaitPort(t, near)
	peer.WaitPort(t, far)
	world.add(t, "aunt@elsewhere.example")
	server.add(t, "keeper@light.example")
	for _, c := range []struct{ subject, parameter, field string }{{"secret", " REQUIRETLS RET=FULL", ""}, {"report", "", "TLS-Required: No\r\n"}} {
		s := dial(t, near)
		s.hello(t)
		s.encrypt(t)
		s.say(t, "250", "MAIL FROM:<keeper@light.example>%s", c.parameter)
		s.say(t, "250", "RCPT TO:<aunt@elsewhere.example>")
		s.say(t, "354", "DATA")
		s.say(t, "250", "Subject: %s\r\n%s\r\nthe very text\r\n.", c.subject, c.field)
	}
	peer.Eventually(t, waitDelivery, "the notice", func() bool { return server.holds(t, "Status: 5.7.10", "Subject: secret") })
	if server.holds(t, "the very text") {
		t.Error("the notice holds the message")
	}
	peer.Eventually(t, waitDelivery, "the report", func() bool { return world.holds(t, "Subject: report", "the very text") })
	if world.holds(t, "Subject: secret") {
		t.Error("it went without TLS that is proved")
	}
}

// TestBorderPolicies: RFC 5321 §3.4, §3.5, §4.5.3.1.10, RFC 7504 §3: what the configuration of the border says, the border does.
func TestBorderPolicies(t *testing.T) {
	t.Parallel()
	open, closed := peer.FreePort(t), peer.FreePort(t)
	s := startServer(t, fmt.Sprintf(`hostname = "mx.light.example"
[smtp]
listen = [%q]
verify = true
expand = true
refuse_8bit = true
zone_name = true
[smtp.limits]
recipients = 100
excess = "reject"
[route]
no_mail = ["www.light.example"]
[route.forward]
"mate@light.example" = "keeper@light.example"
[route.moved]
"cook@light.example" = "cook@far.example"
`, open))
	startServer(t, fmt.Sprintf("hostname = \"mx.dark.example\"\n[smtp]\nlisten = [%q]\nno_mail = true\n", closed))
	peer.WaitPort(t, open)
	peer.WaitPort(t, closed)
	s.add(t, "keeper@light.example")
	bothy(t, "account", "alias", "add", "--config", s.file, "crew@light.example", "keeper@light.example")

	c := dial(t, open)
	c.hello(t)
	peer.Eventually(t, waitDelivery, "the account", func() bool {
		fmt.Fprint(c, "VRFY crew@light.example\r\n")
		return strings.HasPrefix(c.expect(t, ""), "250")
	})
	c.say(t, "250 2.1.5 <keeper@light.example>", "EXPN crew@light.example")
	c.say(t, "550 5.1.1", "VRFY nobody@light.example")
	c.say(t, "250", "MAIL FROM:<a@far.example>")
	c.say(t, "551 5.1.6", "RCPT TO:<cook@light.example>")
	c.say(t, "556 5.1.10", "RCPT TO:<a@www.light.example>")
	c.say(t, "251 2.1.5", "RCPT TO:<mate@light.example>")
	c.say(t, "354", "DATA")
	c.say(t, "554 5.6.3", "Subject: gr\u00fc\u00dfe\r\n.")
	c.say(t, "250", "MAIL FROM:<a@far.example>")
	c.say(t, "251 2.1.5", "RCPT TO:<mate@light.example>")
	c.say(t, "354", "DATA")
	c.say(t, "250", "Subject: forwarded\r\nTo: a@far.example%s\r\n.", strings.Repeat(",\r\n somebody@far.example", 5000)) // RFC 5321 §4.5.3.1.8
	peer.Eventually(t, waitDelivery, "the forwarded mail", func() bool { return s.holds(t, "Subject: forwarded", "Delivered-To: keeper@light.example") })
	c.say(t, "250", "MAIL FROM:<a@far.example>")
	for i := range 100 {
		c.say(t, "250", "RCPT TO:<keeper+%d@light.example>", i)
	}
	c.say(t, "452 4.5.3", "RCPT TO:<keeper@light.example>")
	c.say(t, "503 5.5.3", "DATA")

	conn, err := net.Dial("tcp", closed)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, "521 mx.dark.example") {
		t.Errorf("greeted with %q, %v", line, err)
	}
}
