package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bothy/test/peer"
)

// fetch runs fetchmail once as the demo's second customer, delivering to the SMTP server at into, and returns its exit code.
func fetch(t *testing.T, d *demo, provider, into, options string) (output string, exit int) {
	t.Helper()
	ship := d.ready.Customers[1]
	_, port, _ := net.SplitHostPort(provider)
	home := t.TempDir()
	rc := filepath.Join(home, "fetchmailrc")
	content := fmt.Sprintf("poll localhost with proto ODMR service %s timeout 20\n user %q password %q\n fetchdomains %s\n smtphost %q\n %s\n",
		port, ship.Account, ship.Password, strings.Join(ship.Domains, ","), strings.Replace(into, ":", "/", 1), options)
	if err := os.WriteFile(rc, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return peer.RunEnv(t, []string{"HOME=" + home, "FETCHMAILHOME=" + home}, "", "fetchmail", "-f", rc, "--pidfile", filepath.Join(home, "pid"), "-v", "--nodetach", "--nosyslog")
}

// mailTo sends one message from the Internet to recipients, in one transaction.
func mailTo(t *testing.T, d *demo, subject string, recipients ...string) {
	t.Helper()
	out, code := peer.Run(t, "", "swaks", "--server", d.ready.Provider.SMTP, "--from", "aunt@elsewhere.example", "--to", strings.Join(recipients, ","),
		"--header", "Subject: "+subject, "--body", ".dot\nlast line of "+subject)
	if code != 0 {
		t.Fatalf("swaks: exit %d\n%s", code, out)
	}
}

// TestFetchmailIntoPostfix is the oldest customer there is, feeding the most common server there is.
func TestFetchmailIntoPostfix(t *testing.T) {
	t.Parallel()
	peer.Need(t, "fetchmail", "swaks", "smtp-sink", "postfix")
	peer.NeedRoot(t)
	d := startDemo(t)
	sink := peer.FreePort(t)
	peer.Start(t, "smtp-sink", "-u", "postfix", sink, "100")
	peer.WaitPort(t, sink)
	// Postfix takes the customer's domains and no others, as it should behind fetchmail: all mail seems to come from 127.0.0.1.
	postfix := peer.StartPostfix(t, fmt.Sprintf("relay_domains = ship.example, crew.ship.example\nrelay_recipient_maps =\nmynetworks =\nsmtpd_recipient_restrictions = reject_unauth_destination\nrelayhost = [127.0.0.1]:%s\n", sink[strings.LastIndex(sink, ":")+1:]))

	if out, code := fetch(t, d, d.ready.Provider.ODMR, postfix.Address, ""); code != 0 || !strings.Contains(out, "453") {
		t.Errorf("no mail: exit %d, want 0 after a 453\n%s", code, out)
	}
	// Mixed recipients, the customer's and another's, in each of three messages.
	for i := range 3 {
		mailTo(t, d, fmt.Sprintf("mixed %d", i), "mate@ship.example", "nurse@clinic.example", "cook@crew.ship.example")
	}
	if out, code := fetch(t, d, d.ready.Provider.ODMR, postfix.Address, ""); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
	peer.Eventually(t, waitDelivery, "three messages to two recipients each", func() bool { return strings.Count(postfix.Log(), "status=sent") == 6 })
	if strings.Contains(postfix.Log(), "nurse@clinic.example") {
		t.Error("another customer's recipient went down this customer's connection")
	}
	if out, code := fetch(t, d, d.ready.Provider.ODMR, postfix.Address, ""); code != 0 || !strings.Contains(out, "453") {
		t.Errorf("everything fetched: exit %d, want 0 after a 453\n%s", code, out)
	}
	if _, code := fetch(t, d, d.ready.Provider.ODMR, postfix.Address, "password \"wrong\""); code == 0 {
		t.Error("a wrong password was taken")
	}
	// The other customer's recipients were not touched: the site still gets them.
	bothy(t, "fetch", "--config", d.ready.Configs["site"])
	peer.Eventually(t, waitDelivery, "the nurse's three messages", func() bool {
		return strings.Count(pop3(t, d, d.ready.Site.POP3S, 0, ""), "\n") == 2+3
	})
}

// TestFetchmailIntoBothy feeds a server of ours, in clear and over TLS, where fetchmail stalls unless each line is a TLS record of its own.
func TestFetchmailIntoBothy(t *testing.T) {
	t.Parallel()
	peer.Need(t, "fetchmail", "swaks", "curl")
	d := startDemo(t)
	smtp, pop := peer.FreePort(t), peer.FreePort(t)
	file := serve(t, fmt.Sprintf("hostname = \"ship.example\"\n[smtp]\nlisten = [%q]\n[pop3]\nlisten_tls = [%q]\n", smtp, pop), smtp, pop)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("ahoy ahoy\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bothy(t, "account", "add", "--config", file, "--password-file", password, "mate@ship.example")
	ca := filepath.Join(filepath.Dir(file), "data", "tls", "ca.pem")
	count := func() int {
		out, code := peer.Run(t, "", "curl", "--silent", "--cacert", ca, "--user", "mate@ship.example:ahoy ahoy", "pop3s://"+pop+"/")
		if code != 0 {
			t.Fatalf("curl: exit %d\n%s", code, out)
		}
		return strings.Count(out, "\n")
	}
	for i, way := range []struct{ name, provider, options string }{
		{"plain", d.ready.Provider.ODMR, ""},
		{"TLS", d.ready.Provider.ODMRS, "ssl sslcertfile \"" + d.ready.CA + "\""},
	} {
		mailTo(t, d, "one "+way.name, "mate@ship.example")
		mailTo(t, d, "two "+way.name, "mate@ship.example", "nurse@clinic.example")
		if out, code := fetch(t, d, way.provider, smtp, way.options); code != 0 {
			t.Errorf("%s: exit %d\n%s", way.name, code, out)
		}
		peer.Eventually(t, waitDelivery, way.name+" in the mate's maildrop", func() bool { return count() == 2*(i+1) })
	}
}

// TestFetchmailIsPushed: with a long poll and with a session that lingers, plain and over TLS, what comes while fetchmail waits is fetched at once.
func TestFetchmailIsPushed(t *testing.T) {
	t.Parallel()
	peer.Need(t, "fetchmail", "swaks", "smtp-sink", "postfix")
	peer.NeedRoot(t)
	d := startDemo(t)
	sink, received := peer.FreePort(t), t.TempDir()
	if err := os.Chmod(received, 0o777); err != nil {
		t.Fatal(err)
	}
	peer.Start(t, "smtp-sink", "-u", "postfix", "-R", received, "-d", "mail.", sink, "100")
	peer.WaitPort(t, sink)
	provider := d.ready.Configs["provider"]
	ship := d.ready.Customers[1].Account
	ways := 0
	for _, mode := range []struct{ flags, state string }{{"--linger=0s --long-poll=60s", "held"}, {"--linger=8s --long-poll=0s", "lingering"}} {
		bothy(t, append([]string{"customer", "set", "--config", provider, ship}, strings.Fields(mode.flags)...)...)
		for _, at := range []struct{ address, options string }{{d.ready.Provider.ODMR, ""}, {d.ready.Provider.ODMRS, "ssl sslcertfile \"" + d.ready.CA + "\""}} {
			ways++
			fetched := make(chan string, 1)
			go func() {
				out, code := fetch(t, d, at.address, sink, at.options)
				fetched <- fmt.Sprintf("exit %d\n%s", code, out)
			}()
			peer.Eventually(t, waitDelivery, "a session that is "+mode.state, func() bool {
				return strings.Contains(bothy(t, "customer", "show", "--config", provider, ship), mode.state+", for")
			})
			mailTo(t, d, fmt.Sprintf("pushed %d", ways), "mate@ship.example")
			peer.Eventually(t, waitDelivery, "the message", func() bool {
				files, err := filepath.Glob(filepath.Join(received, "mail.*"))
				return err == nil && len(files) == ways
			})
			if end := <-fetched; !strings.HasPrefix(end, "exit 0\n") {
				t.Errorf("%s, %q: %s", mode.state, at.options, end)
			}
		}
	}
}

// TestPostfixRelaysIn is the Internet's most common server delivering to the provider, with STARTTLS.
func TestPostfixRelaysIn(t *testing.T) {
	t.Parallel()
	peer.Need(t, "postfix", "smtp-source")
	peer.NeedRoot(t)
	d := startDemo(t)
	_, port, _ := net.SplitHostPort(d.ready.Provider.SMTP)
	postfix := peer.StartPostfix(t, "relayhost = [127.0.0.1]:"+port+"\nsmtp_tls_security_level = encrypt\nsmtp_tls_loglevel = 1\n")
	if out, code := peer.Run(t, "", "smtp-source", "-m", "20", "-s", "5", "-l", "70000", "-f", "aunt@elsewhere.example", "-t", "doctor@lab.clinic.example", postfix.Address); code != 0 {
		t.Fatalf("smtp-source: %d\n%s", code, out)
	}
	peer.Eventually(t, waitDelivery, "20 messages relayed", func() bool { return strings.Count(postfix.Log(), "status=sent") == 20 })
	if !strings.Contains(postfix.Log(), "TLS connection established") {
		t.Error("Postfix did not use TLS")
	}
	bothy(t, "fetch", "--config", d.ready.Configs["site"])
	peer.Eventually(t, waitDelivery, "20 messages in the doctor's maildrop", func() bool {
		return strings.Count(pop3(t, d, d.ready.Site.POP3S, 1, ""), "\n") == 20
	})
	// A stranger's recipient is refused there and bounced by Postfix, not by us.
	peer.Run(t, "", "smtp-source", "-m", "1", "-f", "aunt@elsewhere.example", "-t", "x@nowhere.example", postfix.Address)
	peer.Eventually(t, waitDelivery, "a bounce", func() bool { return strings.Contains(postfix.Log(), "550 5.7.1") })
}

// TestPostfixReceivesOut relays to Postfix as the next hop.
func TestPostfixReceivesOut(t *testing.T) {
	t.Parallel()
	peer.Need(t, "postfix", "smtp-source", "smtp-sink")
	peer.NeedRoot(t)
	sink, smtp := peer.FreePort(t), peer.FreePort(t)
	peer.Start(t, "smtp-sink", "-u", "postfix", sink, "100")
	peer.WaitPort(t, sink)
	postfix := peer.StartPostfix(t, "relayhost = [127.0.0.1]:"+sink[strings.LastIndex(sink, ":")+1:]+"\nsmtpd_recipient_restrictions = check_recipient_access static:OK\n")
	file := serve(t, fmt.Sprintf("hostname = \"relay.example\"\n[smtp]\nlisten = [%q]\n[route]\nsmarthost = %q\nrelay_from = [\"127.0.0.0/8\"]\n[relay]\ntls = \"none\"\n", smtp, postfix.Address), smtp)
	began := time.Now()
	if out, code := peer.Run(t, "", "smtp-source", "-d", "-m", "50", "-s", "5", "-r", "3", "-l", "300000", "-f", "meter@light.example", "-t", "keeper@far.example", smtp); code != 0 {
		t.Fatalf("smtp-source: %d\n%s", code, out)
	}
	peer.Eventually(t, 2*waitDelivery, "50 messages to 3 recipients through Postfix", func() bool { return strings.Count(postfix.Log(), "status=sent") == 150 })
	t.Logf("50 messages of 300 kB to 3 recipients each in %v", time.Since(began))
	peer.Eventually(t, waitDelivery, "an empty queue", func() bool { return !strings.Contains(bothy(t, "queue", "list", "--config", file), "far.example") })
}
