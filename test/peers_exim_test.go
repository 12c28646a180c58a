package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bothy/test/peer"
)

// TestFetchmailIntoExim feeds Debian's own mail server: mixed recipients, over several domains of the customer's and another's.
func TestFetchmailIntoExim(t *testing.T) {
	t.Parallel()
	peer.Need(t, "fetchmail", "swaks")
	exim := peer.NewExim(t, "bookworm", eximTakes("ship.example : crew.ship.example", ""))
	d := startDemo(t)
	into := exim.Serve(t)
	for i := range 3 {
		mailTo(t, d, fmt.Sprintf("mixed %d", i), "mate@ship.example", "nurse@clinic.example", "cook@crew.ship.example")
	}
	if out, code := fetch(t, d, d.ready.Provider.ODMR, into, ""); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
	peer.Eventually(t, waitDelivery, "three messages for each of the two", func() bool {
		return strings.Count(exim.Mail("mate"), "\nSubject: mixed ") == 3 && strings.Count(exim.Mail("cook"), "\nSubject: mixed ") == 3
	})
	mailTo(t, d, "over TLS", "cook@crew.ship.example", "nurse@clinic.example")
	if out, code := fetch(t, d, d.ready.Provider.ODMRS, into, "ssl sslcertfile \""+d.ready.CA+"\""); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
	peer.Eventually(t, waitDelivery, "one more", func() bool { return strings.Contains(exim.Mail("cook"), "\nSubject: over TLS") })
	if log := exim.Log(); strings.Contains(log, "nurse@clinic.example") || strings.Count(log, " <= ") != 4 {
		t.Errorf("Exim was given more, or each recipient by itself:\n%s", log)
	}
}

// TestEximCalls: an Exim that knows ATRN calls a provider of ours: STARTTLS, CRAM-MD5, one of its domains, all of them, and a session that lingers.
func TestEximCalls(t *testing.T) {
	t.Parallel()
	p := &joinable{smtp: peer.FreePort(t), calls: peer.FreePort(t)}
	p.server = startServer(t, fmt.Sprintf("hostname = \"localhost\"\n[smtp]\nlisten = [%q]\n[odmr]\nlisten = [%q]\n[relay]\ndns = [\"127.0.0.1:9\"]\n", p.smtp, p.calls))
	peer.WaitPort(t, p.calls)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("ahoy ahoy\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bothy(t, "customer", "add", "--config", p.file, "--no-dns", "--cram", "--password-file", password, "ship", "ship.example", "crew.ship.example")
	bothy(t, "customer", "add", "--config", p.file, "--no-dns", "--cram", "--password-file", password, "clinic", "clinic.example")
	_, port, _ := net.SplitHostPort(p.calls)
	exim := peer.NewExim(t, "sid", eximTakes("ship.example : crew.ship.example", `provider:
  driver = manualroute
  condition = ${if eq{$atrn_mode}{C}}
  route_list = * localhost byname
  self = send
  transport = call
  no_more
`)+fmt.Sprintf(`call:
  driver = smtp
  port = %s
  allow_localhost
  hosts_require_tls = *
  tls_verify_certificates = /etc/ca.pem
  tls_verify_cert_hostnames = *
  hosts_require_auth = *
  hosts_try_fastopen =
  command_timeout = 10m
begin authenticators
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  client_name = ship
  client_secret = ahoy ahoy
`, port))
	ca, err := os.ReadFile(filepath.Join(filepath.Dir(p.file), "data", "tls", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	exim.Write(t, "etc/ca.pem", string(ca))

	call := func(domains string) {
		t.Helper()
		if out, code := exim.Run(t, "", "-atrn", "localhost", domains); code != 0 {
			t.Errorf("-atrn %q: exit %d\n%s", domains, code, out)
		}
	}
	came := func(name, subject string, n int) {
		t.Helper()
		peer.Eventually(t, waitDelivery, fmt.Sprintf("%d of %q for %s", n, subject, name), func() bool {
			return strings.Count(exim.Mail(name), "\nSubject: "+subject) == n
		})
	}
	call("") // 453
	for i := range 3 {
		p.arrive(t, fmt.Sprintf("mixed %d", i), "mate@ship.example", "nurse@clinic.example", "cook@crew.ship.example")
	}
	call("crew.ship.example")
	came("cook", "mixed", 3)
	came("mate", "mixed", 0)
	call("")
	came("mate", "mixed", 3)
	p.arrive(t, "both", "nurse@clinic.example", "mate@ship.example", "cook@crew.ship.example")
	call("ship.example,crew.ship.example")
	came("mate", "both", 1)
	came("cook", "both", 1)
	if strings.Count(exim.Log(), "<= aunt@elsewhere.example") != 7 {
		t.Error("it was not given each message for all of its recipients at once")
	}
	call("ship.example,clinic.example") // 450
	bothy(t, "customer", "set", "--config", p.file, "--linger", "40m", "ship")
	exim.Start(t, "-atrn", "localhost", "")
	peer.Eventually(t, waitDelivery, "a session that lingers", func() bool {
		return strings.Contains(bothy(t, "customer", "show", "--config", p.file, "ship"), "lingering, for")
	})
	p.arrive(t, "pushed", "nurse@clinic.example", "cook@crew.ship.example")
	came("cook", "pushed", 1)
	if out := bothy(t, "queue", "list", "--config", p.file); strings.Count(out, "nurse@clinic.example") != 5 || strings.Contains(out, "ship.example") {
		t.Errorf("at the provider wait\n%s", out)
	}
	if strings.Contains(exim.Log(), "nurse@") {
		t.Error("Exim was offered mail of another customer's")
	}
}

// TestEximHolds: an Exim that knows ATRN holds the mail of a site of ours. It sends whole messages, with the recipients of other customers: the
// site takes its own, and never those, though it has an account of that name.
func TestEximHolds(t *testing.T) {
	t.Parallel()
	exim := peer.NewExim(t, "sid", `primary_hostname = provider.example
acl_smtp_rcpt = accept
acl_smtp_atrn = check
queue_only
queue_run_in_order
begin acl
check:
  warn set acl_m0 = ${map{<, $smtp_command_argument}{${if inlist{$item}{clinic.example:lab.clinic.example}{$value}}}}
  deny condition = ${if !def:acl_m0}
  defer !atrn_domains = <, $acl_m0
        message = 453 You have no mail
  accept
begin routers
customer:
  driver = manualroute
  condition = ${if eq{$atrn_mode}{P}}
  route_list = * 127.0.0.1
  self = send
  transport = customer
begin transports
customer:
  driver = smtp
  allow_localhost
begin retry
* * F,1h,1h
begin authenticators
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${if eq{$auth1}{clinic}{ahoy ahoy}fail}
  server_set_id = $auth1
`)
	provider := exim.Serve(t)
	site := startServer(t, fmt.Sprintf("hostname = \"mail.clinic.example\"\n[fetch]\nprovider = %q\ntls = \"none\"\nusername = \"clinic\"\npassword = \"ahoy ahoy\"\ninterval = \"1h\"\ndomains = [\"clinic.example\", \"lab.clinic.example\"]\n", provider))
	for _, address := range []string{"nurse@clinic.example", "doctor@lab.clinic.example", "crew@ship.example"} {
		site.add(t, address)
	}
	post := func(subject string, to ...string) {
		t.Helper()
		s := dial(t, provider)
		s.say(t, "250", "EHLO a.example")
		s.say(t, "250", "MAIL FROM:<aunt@elsewhere.example>")
		for _, r := range to {
			s.say(t, "250", "RCPT TO:<%s>", r)
		}
		s.say(t, "354", "DATA")
		s.say(t, "250", "Subject: %s\r\n\r\n.dot\r\n.", subject)
		s.say(t, "221", "QUIT")
	}
	fetched := func(code int) {
		t.Helper()
		peer.Eventually(t, waitDelivery, fmt.Sprintf("a call that ends with %d", code), func() bool {
			out, got := peer.Run(t, "", program, "fetch", "--config", site.file)
			return got == code || code == 0 && strings.Contains(out, "Fetched ")
		})
	}
	for i := range 3 {
		post(fmt.Sprintf("own %d", i), "nurse@clinic.example", "doctor@lab.clinic.example")
	}
	fetched(0)
	fetched(3)         // 453
	for i := range 2 { // after a refusal Exim takes no leave and bounces what stands behind
		post(fmt.Sprintf("mixed %d", i), "crew@ship.example", "nurse@clinic.example")
	}
	fetched(0)
	peer.Eventually(t, waitDelivery, "five messages for the nurse", func() bool {
		return site.count(t, "Delivered-To: nurse@clinic.example", "Subject: own") == 3 && site.count(t, "Delivered-To: nurse@clinic.example", "Subject: mixed") == 2
	})
	if n := site.count(t, "Delivered-To: doctor@lab.clinic.example", "Subject: own"); n != 3 {
		t.Errorf("%d messages for the doctor", n)
	}
	if !strings.Contains(exim.Log(), "RCPT TO:<crew@ship.example>: 550 5.7.1") {
		t.Error("it was never tried")
	}
	if site.holds(t, "Delivered-To: crew@ship.example") || strings.Contains(site.queued(t), "ship.example") {
		t.Error("mail for another customer was taken")
	}
}

// eximTakes is the configuration of an Exim that takes mail for domains and no others, and puts it into a file for each local part; more
// comes behind it.
func eximTakes(domains, more string) string {
	return fmt.Sprintf(`primary_hostname = exim.example
domainlist mine = %s
acl_smtp_rcpt = check
begin acl
check:
  accept domains = +mine
  deny message = relay not permitted
begin routers
%s
files:
  driver = accept
  domains = +mine
  local_parts = mate : cook
  transport = ${if eq{$local_part}{mate}{mate}{cook}}
begin transports
mate:
  driver = appendfile
  file = /var/mail/mate
  user = Debian-exim
cook:
  driver = appendfile
  file = /var/mail/cook
  user = Debian-exim
`, domains, more)
}
