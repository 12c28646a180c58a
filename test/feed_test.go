package test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bothy/test/peer"
)

// feed is a site whose mail another server behind it takes, and its provider.
func feed(t *testing.T, server, more string) (p *joinable, file string) {
	t.Helper()
	p = startProvider(t, "")
	dir := t.TempDir()
	file = filepath.Join(dir, "bothy.toml")
	bothy(t, append(p.invite(t, "clinic.example"), "--config", file, "--data", filepath.Join(dir, "data"), "--no-start")...)
	bothy(t, "account", "remove", "--config", file, "postmaster@clinic.example") // all of the domain is the other server's
	highPorts(t, file)
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, "\n[route.lan]\n\"clinic.example\" = %q\n%s", server, more)
	f.Close()
	peer.Start(t, program, "serve", "--config", file)
	return p, file
}

// sender is where mail comes from, which no server behind the site could know by itself.
const sender = "127.0.0.77"

// arrive lets a message come to the provider.
func (p *joinable) arrive(t *testing.T, subject string, to ...string) {
	t.Helper()
	conn, err := dialFrom(t.Context(), sender, p.smtp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	mx := &session{conn, bufio.NewReader(conn)}
	mx.expect(t, "220")
	mx.say(t, "250", "EHLO mx.elsewhere.example")
	mx.say(t, "250", "MAIL FROM:<aunt@elsewhere.example>")
	for _, a := range to {
		mx.say(t, "250", "RCPT TO:<%s>", a)
	}
	mx.say(t, "354", "DATA")
	mx.say(t, "250", "Subject: %s\r\n\r\nhello\r\n.", subject)
}

// TestFeedPostfix: a Postfix behind the site gets the mail as if whoever sent it to the provider stood at its own door.
func TestFeedPostfix(t *testing.T) {
	t.Parallel()
	postfix := peer.StartPostfix(t, "smtpd_authorized_xclient_hosts = 127.0.0.0/8\nrelay_domains = clinic.example\nsmtpd_relay_restrictions = permit_auth_destination, reject\n"+
		"smtpd_recipient_restrictions = permit_auth_destination, reject\ndefault_transport = discard:\nrelay_transport = discard:\n")
	p, _ := feed(t, postfix.Address, "")
	p.arrive(t, "one", "nurse@clinic.example")
	peer.Eventually(t, waitDelivery, "the message in Postfix's log", func() bool {
		return strings.Contains(postfix.Log(), "to=<nurse@clinic.example>") && strings.Contains(postfix.Log(), "status=sent")
	})
	if want := "client=unknown[" + sender + "]"; !strings.Contains(postfix.Log(), want) {
		t.Errorf("%q is not in Postfix's log", want)
	}
}

// lmtpPeer puts mail into mailboxes: "full" has no room.
type lmtpPeer struct {
	address string
	mu      sync.Mutex
	got     []string // recipients that were served
	xclient []string
}

func startLMTP(t *testing.T) *lmtpPeer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	l := &lmtpPeer{address: ln.Addr().String()}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go l.serve(conn)
		}
	}()
	return l
}

func (l *lmtpPeer) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	say := func(s string) { fmt.Fprintf(conn, "%s\r\n", s) }
	say("220 mailboxes LMTP")
	var to []string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch verb {
		case "LHLO":
			say("250-mailboxes\r\n250-PIPELINING\r\n250-XCLIENT ADDR HELO\r\n250 8BITMIME")
		case "XCLIENT":
			l.mu.Lock()
			l.xclient = append(l.xclient, line)
			l.mu.Unlock()
			say("220 mailboxes LMTP")
		case "MAIL", "RSET":
			to = nil
			say("250 ok")
		case "RCPT":
			if strings.Contains(line, "nobody@") {
				say("550 5.1.1 nobody")
				continue
			}
			to = append(to, line)
			say("250 ok")
		case "DATA":
			say("354 go")
			for line != "." && err == nil {
				line, err = in.ReadString('\n')
				line = strings.TrimRight(line, "\r\n")
			}
			for _, a := range to {
				if strings.Contains(a, "full@") {
					say("552 5.2.2 full")
					continue
				}
				l.mu.Lock()
				l.got = append(l.got, a)
				l.mu.Unlock()
				say("250 2.0.0 in the mailbox")
			}
		case "QUIT":
			say("221 bye")
			return
		default:
			say("500 what")
		}
	}
}

// TestFeedLMTP: a server that speaks LMTP answers for each recipient, and each answer counts.
func TestFeedLMTP(t *testing.T) {
	t.Parallel()
	l := startLMTP(t)
	p, file := feed(t, l.address, fmt.Sprintf("[relay.next_hops.%q]\nprotocol = \"lmtp\"\n", l.address))
	p.arrive(t, "one", "nurse@clinic.example", "full@clinic.example", "nobody@clinic.example", "doctor@clinic.example")
	peer.Eventually(t, waitDelivery, "mail in two mailboxes, and the rest told to its sender", func() bool {
		l.mu.Lock()
		got := strings.Join(l.got, " ")
		l.mu.Unlock()
		return got == "RCPT TO:<nurse@clinic.example> RCPT TO:<doctor@clinic.example>" &&
			strings.Contains(bothy(t, "queue", "list", "--config", p.file), "aunt@elsewhere.example")
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.xclient) == 0 || l.xclient[0] != "XCLIENT ADDR="+sender+" HELO=mx.elsewhere.example" {
		t.Errorf("it was told %q", l.xclient)
	}
	if out := bothy(t, "queue", "list", "--config", file); !strings.Contains(out, "Nothing waits.") {
		t.Errorf("at the site:\n%s", out)
	}
}
