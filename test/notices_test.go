package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bothy/test/peer"
)

// remote is a site, its provider and a server elsewhere in the world, set up as the documentation says.
type remote struct {
	site, provider, world *server
	border                string // the provider's
}

func startRemote(t *testing.T, more ...string) *remote {
	t.Helper()
	return startRemoteWith(t, "", more...)
}

// startRemoteWith is startRemote with more of the provider's configuration, which goes on in the table relay.
func startRemoteWith(t *testing.T, provider string, more ...string) *remote {
	t.Helper()
	r := &remote{border: peer.FreePort(t)}
	calls, submit, elsewhere := peer.FreePort(t), peer.FreePort(t), peer.FreePort(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("tanstaaf tanstaaf\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.world = startServer(t, fmt.Sprintf("hostname = \"mx.elsewhere.example\"\n[smtp]\nlisten = [%q]\n[route.via]\n\"clinic.example\" = %q\n[relay]\nvia_tls = \"none\"\n", elsewhere, r.border))
	r.provider = startServer(t, fmt.Sprintf(`hostname = "localhost"
[smtp]
listen = [%q]
[submission]
listen = [%q]
[odmr]
listen_tls = [%q]
[route.via]
"elsewhere.example" = %q
[relay]
via_tls = "none"
`, r.border, submit, calls, elsewhere)+provider)
	peer.WaitPort(t, calls)
	peer.WaitPort(t, elsewhere)
	bothy(t, "account", "add", "--config", r.world.file, "--password-file", secret, "aunt@elsewhere.example")
	bothy(t, "customer", "add", "--config", r.provider.file, "--password-file", secret, "clinic", "clinic.example", "lab.example")
	ca := filepath.Join(filepath.Dir(r.provider.file), "data", "tls", "ca.pem")
	r.site = startServer(t, fmt.Sprintf(`hostname = "mail.clinic.example"
[fetch]
provider = "localhost:%s"
tls = "implicit"
ca_file = %q
username = "clinic"
password_file = %q
domains = ["clinic.example", "lab.example"]
[route]
smarthost = "localhost:%s"
[relay]
username = "clinic"
password_file = %q
ca_file = %q
`, port(calls), ca, secret, port(submit), secret, ca)+strings.Join(more, ""))
	peer.Eventually(t, waitDelivery, "the site's socket", func() bool {
		_, err := os.Stat(filepath.Join(filepath.Dir(r.site.file), "data", "run", "submit.sock"))
		return err == nil
	})
	return r
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// holds reports whether one of an account's messages has all of the texts.
func (s *server) holds(t *testing.T, texts ...string) bool { return s.count(t, texts...) > 0 }

// count counts the messages in mailboxes that have all of the texts.
func (s *server) count(t *testing.T, texts ...string) (found int) {
	t.Helper()
	s.messages(t, func(content string) {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(content, text) }) {
			found++
		}
	})
	return found
}

// lines counts the lines of messages in mailboxes that begin with a text.
func (s *server) lines(t *testing.T, begin string) map[string]int {
	t.Helper()
	found := map[string]int{}
	s.messages(t, func(content string) {
		for line := range strings.SplitSeq(content, "\r\n") {
			if strings.HasPrefix(line, begin) {
				found[line]++
			}
		}
	})
	return found
}

// messages gives each message in mailboxes to see.
func (s *server) messages(t *testing.T, see func(content string)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(s.file), "data", "mailboxes", "accounts", "*", "mail", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, _ := os.ReadFile(file)
		see(string(content))
	}
}

// mail sends a message to the provider as the Internet does.
func (r *remote) mail(t *testing.T, subject, to string) {
	t.Helper()
	s := dial(t, r.border)
	s.say(t, "250", "EHLO mx.elsewhere.example")
	s.say(t, "250", "MAIL FROM:<aunt@elsewhere.example>")
	s.say(t, "250", "RCPT TO:<%s>", to)
	s.say(t, "354", "DATA")
	s.say(t, "250", "From: aunt@elsewhere.example\r\nSubject: %s\r\n\r\nhello\r\n.", subject)
	s.say(t, "221", "QUIT")
}

// fetched has the site call until a message with a text is in a mailbox.
func (r *remote) fetched(t *testing.T, text string) {
	t.Helper()
	peer.Eventually(t, waitDelivery, text, func() bool {
		_, _ = peer.Run(t, "", program, "fetch", "--config", r.site.file)
		return r.site.holds(t, text)
	})
}

func (s *server) queued(t *testing.T) string { return bothy(t, "queue", "list", "--config", s.file) }

func (s *server) add(t *testing.T, address string) {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bothy(t, "account", "add", "--config", s.file, "--password-file", secret, address)
}

// TestMailForRoot: what programs of the site's machine send to root waits for the first account and is then the postmaster's.
func TestMailForRoot(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	if out, code := peer.Run(t, "Subject: disk failing\n\nsda\n", program, "sendmail", "-C", r.site.file, "root"); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	peer.Eventually(t, waitDelivery, "the mail to wait for an account", func() bool {
		return strings.Contains(r.site.queued(t), "no account yet")
	})
	r.site.add(t, "nurse@clinic.example")
	peer.Eventually(t, waitDelivery, "root's mail at the postmaster", func() bool { // the server looks for new accounts ten times a second
		bothy(t, "queue", "retry", "--config", r.site.file, "--all")
		return r.site.holds(t, "Subject: disk failing")
	})
	if left := r.provider.queued(t); strings.Contains(left, "mail.clinic.example") {
		t.Errorf("the provider has got\n%s", left)
	}
}

// TestDoubleBounceStays: RFC 3461 §5.2: a notice that cannot be returned is told the site's own postmaster, who reads why.
func TestDoubleBounceStays(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	r.site.add(t, "nurse@clinic.example")
	if out, code := peer.Run(t, "Subject: to the wrong place\n\nx\n", program, "sendmail", "-C", r.site.file, "-f", "gone@clinic.example", "nobody@clinic.example"); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	peer.Eventually(t, waitDelivery, "the double bounce at the postmaster", func() bool {
		return r.site.holds(t, "Delivered-To: postmaster@mail.clinic.example", "no such mailbox")
	})
	peer.Eventually(t, waitDelivery, "an empty queue", func() bool {
		return !strings.Contains(r.site.queued(t), "@")
	})
}

// TestDomainWithoutAccounts: the provider keeps mail for a domain in which nobody has an account yet.
func TestDomainWithoutAccounts(t *testing.T) {
	t.Parallel()
	r := startRemote(t)
	r.site.add(t, "nurse@clinic.example")
	r.mail(t, "too early", "doctor@lab.example")
	_, _ = peer.Run(t, "", program, "fetch", "--config", r.site.file)
	peer.Eventually(t, waitDelivery, "the reason in the provider's queue", func() bool {
		return strings.Contains(r.provider.queued(t), "no account in this domain yet")
	})
	r.site.add(t, "doctor@lab.example")
	peer.Eventually(t, waitDelivery, "the doctor's mail", func() bool {
		bothy(t, "queue", "retry", "--config", r.provider.file, "--all")
		_, _ = peer.Run(t, "", program, "fetch", "--config", r.site.file)
		return r.site.holds(t, "Subject: too early", "Delivered-To: doctor@lab.example")
	})
}

// TestRemovedAfterAccepting: RFC 3461 §5.2.6: the sender of mail that was accepted for an account hears that there is none any more, through the
// provider, which relays the notice of its customer's site.
func TestRemovedAfterAccepting(t *testing.T) {
	t.Parallel()
	r := startRemote(t, "[mailbox]\nquota = \"700B\"\n") // room for one message: the other stays in the queue
	r.site.add(t, "nurse@clinic.example")
	r.site.add(t, "doctor@clinic.example")
	r.mail(t, "first", "doctor@clinic.example")
	r.fetched(t, "Subject: first")
	r.mail(t, "lost and told", "doctor@clinic.example")
	peer.Eventually(t, waitDelivery, "the mail in the site's queue", func() bool {
		_, _ = peer.Run(t, "", program, "fetch", "--config", r.site.file)
		return strings.Contains(r.site.queued(t), "452")
	})
	bothy(t, "account", "remove", "--config", r.site.file, "doctor@clinic.example")
	peer.Eventually(t, waitDelivery, "the notice at the sender's", func() bool {
		bothy(t, "queue", "retry", "--config", r.site.file, "--all")
		return r.world.holds(t, "postmaster@mail.clinic.example", "Subject: lost and told", "no such mailbox")
	})
}
