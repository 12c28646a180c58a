package test

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bothy/test/peer"
)

// handheld is a customer that is no Bothy, spoken by hand: the account "clinic" of a provider, over TLS from the first octet.
func (p *joinable) handheld(t *testing.T) *session {
	t.Helper()
	conn, err := tls.Dial("tcp", p.calls, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	return sessionOn(t, conn)
}

func (s *session) login(t *testing.T) {
	t.Helper()
	s.say(t, "235", "AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00clinic\x00ahoy ahoy")))
}

// turn sends ATRN and greets; the provider says EHLO.
func (s *session) turn(t *testing.T) {
	t.Helper()
	s.say(t, "250", "ATRN clinic.example")
	s.answer(t, "220 mail.clinic.example ESMTP", "EHLO")
}

// answer speaks as a server: it says a reply and reads the client's next command, which begins as wanted.
func (s *session) answer(t *testing.T, reply, want string) string {
	t.Helper()
	fmt.Fprintf(s, "%s\r\n", reply)
	return s.command(t, want)
}

// command reads the client's next line.
func (s *session) command(t *testing.T, want string) string {
	t.Helper()
	line, err := s.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, want) {
		t.Fatalf("the provider says %q, %v; want %s", line, err, want)
	}
	return line
}

// TestBothWays: with odmr.take_mail one connection carries a customer's mail out, under the rules and with the extensions of the submission
// port, and then its mail in; without it MAIL is 502 (RFC 2645 §5.4).
func TestBothWays(t *testing.T) {
	t.Parallel()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("ahoy ahoy\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := startProvider(t, "")
	bothy(t, "customer", "add", "--config", plain.file, "--no-dns", "--password-file", password, "clinic", "clinic.example")
	s := plain.handheld(t)
	s.hello(t)
	s.login(t)
	s.say(t, "502", "MAIL FROM:<nurse@clinic.example>")

	taking := startProvider(t, "take_mail = true\n[route.lan]\n\"elsewhere.example\" = \"127.0.0.1:9\"\n")
	bothy(t, "customer", "add", "--config", taking.file, "--no-dns", "--password-file", password, "clinic", "clinic.example")
	taking.arrive(t, "inward", "nurse@clinic.example")

	s = taking.handheld(t)
	offered := s.hello(t)
	submit := dial(t, taking.submission)
	submit.hello(t)
	keywords := func(reply string) (all []string) {
		for line := range strings.Lines(reply) {
			switch word, _, _ := strings.Cut(strings.TrimSpace(line[4:]), " "); word { // a date in it may be a second later
			case "localhost", "ATRN", "XAHEAD", "STARTTLS":
			default:
				all = append(all, word)
			}
		}
		slices.Sort(all)
		return all
	}
	if a, b := keywords(offered), keywords(submit.encrypt(t)); !slices.Equal(a, b) {
		t.Errorf("the port of calls offers\n%q, that of submission\n%q", a, b)
	}
	s.login(t)
	s.say(t, "550", "MAIL FROM:<somebody@elsewhere.example>") // as on port 587: not an address of its own
	s.say(t, "250", "MAIL FROM:<nurse@clinic.example> MT-PRIORITY=3")
	s.say(t, "250", "RCPT TO:<aunt@elsewhere.example> NOTIFY=SUCCESS,FAILURE")
	s.say(t, "354", "DATA")
	s.say(t, "250", "From: nurse@clinic.example\r\nSubject: outward\r\n\r\nhello\r\n.")
	s.turn(t)
	s.answer(t, "250-mail.clinic.example\r\n250 ENHANCEDSTATUSCODES", "MAIL FROM:<aunt@elsewhere.example>")
	s.answer(t, "250 2.1.0 ok", "RCPT TO:<nurse@clinic.example>")
	s.answer(t, "250 2.1.5 ok", "DATA")
	text := s.answer(t, "354 go", "")
	for !strings.HasSuffix(text, "\r\n.\r\n") {
		text += s.command(t, "")
	}
	if !strings.Contains(text, "Subject: inward\r\n") {
		t.Errorf("%q", text)
	}
	s.answer(t, "250 2.0.0 taken", "QUIT")
	fmt.Fprint(s, "221 2.0.0 bye\r\n")
	peer.Eventually(t, waitDelivery, "only the mail outward waits", func() bool {
		out := bothy(t, "queue", "list", "--config", taking.file)
		return strings.Contains(out, "aunt@elsewhere.example") && !strings.Contains(out, "nurse@clinic.example:")
	})
}

// TestLearnedStrangers: how the customer stands is in the metrics, and of a site that is no Bothy the provider learns who is not there, by what it refuses.
func TestLearnedStrangers(t *testing.T) {
	t.Parallel()
	metrics := peer.FreePort(t)
	p := startProvider(t, fmt.Sprintf("[metrics]\nlisten = %q\n", metrics))
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("ahoy ahoy\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bothy(t, "customer", "add", "--config", p.file, "--no-dns", "--password-file", password, "clinic", "clinic.example")
	p.arrive(t, "one", "nurse@clinic.example", "nobody@clinic.example")
	told := func() string {
		r, err := http.Get("http://" + metrics + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if text := told(); !strings.Contains(text, "bothy_odmr_customer_messages{account=\"clinic\"} 1\n") || strings.Contains(text, "bothy_odmr_customer_last_contact_timestamp_seconds{") {
		t.Errorf("before the call:\n%s", text)
	}
	s := p.handheld(t)
	s.hello(t)
	s.login(t)
	s.turn(t)
	s.answer(t, "250-mail.clinic.example\r\n250 ENHANCEDSTATUSCODES", "MAIL FROM:<aunt@elsewhere.example>")
	s.answer(t, "250 2.1.0 ok", "RCPT TO:<nurse@clinic.example>")
	s.answer(t, "250 2.1.5 ok", "RCPT TO:<nobody@clinic.example>")
	s.answer(t, "550 5.1.1 nobody here", "DATA")
	for line := s.answer(t, "354 go", ""); line != ".\r\n"; line = s.command(t, "") {
	}
	s.answer(t, "250 2.0.0 taken", "QUIT")
	fmt.Fprint(s, "221 2.0.0 bye\r\n")
	if text := told(); !strings.Contains(text, "bothy_odmr_customer_messages{account=\"clinic\"} 0\n") || !strings.Contains(text, "bothy_odmr_customer_last_contact_timestamp_seconds{account=\"clinic\"} ") {
		t.Errorf("after it:\n%s", text)
	}
	mx := dial(t, p.smtp)
	mx.say(t, "250", "EHLO mx.elsewhere.example")
	mx.say(t, "250", "MAIL FROM:<aunt@elsewhere.example>")
	mx.say(t, "250", "RCPT TO:<nurse@clinic.example>")
	if line := mx.say(t, "450", "RCPT TO:<nobody@clinic.example>"); !strings.Contains(line, "4.1.1") {
		t.Error(line)
	}
	mx.say(t, "250", "RCPT TO:<somebody@clinic.example>")
}
