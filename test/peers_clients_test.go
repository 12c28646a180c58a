package test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bothy/test/peer"
)

// submitter is an account of a demonstration as a mail program is set up with it.
type submitter struct {
	*demo
	dir               string
	address, password string
	host              string // "localhost", which the certificate has too: not every program takes an address for a name
	port, tlsPort     string // STARTTLS, TLS from the start
	cert, key         string // of a client certificate that the account has registered
}

func newSubmitter(t *testing.T) *submitter {
	t.Helper()
	peer.Need(t, "openssl")
	d := startDemo(t)
	nurse := d.ready.Accounts[0]
	s := &submitter{demo: d, dir: t.TempDir(), address: nurse.Address, password: nurse.Password, host: "localhost"}
	_, s.port, _ = net.SplitHostPort(d.ready.Site.Submission)
	_, s.tlsPort, _ = net.SplitHostPort(d.ready.Site.Submissions)
	s.cert, s.key = filepath.Join(s.dir, "cert.pem"), filepath.Join(s.dir, "key.pem")
	if out, code := peer.Run(t, "", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-keyout", s.key, "-out", s.cert, "-days", "2", "-subj", "/CN=nurse"); code != 0 {
		t.Fatal(out)
	}
	bothy(t, "account", "certificate", "--config", d.ready.Configs["site"], nurse.Address, s.cert)
	return s
}

// file writes a file that the program at hand reads.
func (s *submitter) file(t *testing.T, name, content string) string {
	t.Helper()
	name = filepath.Join(s.dir, name)
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// mail is a message to a recipient, with line ends of CRLF.
func (s *submitter) mail(recipient string) string {
	return fmt.Sprintf("From: %s\r\nTo: %s\r\nSubject: hello\r\n\r\nhello\r\n", s.address, recipient)
}

// TestClientsSubmit: RFC 6409, as mail programs speak it: each sends with each mechanism that it has, under TLS, and the message leaves.
func TestClientsSubmit(t *testing.T) {
	t.Parallel()
	clients := map[string]struct {
		mechanisms []string
		run        func(t *testing.T, s *submitter, mechanism, recipient string) (out string, code int)
	}{
		"swaks":   {[]string{"PLAIN", "LOGIN", "CRAM-MD5"}, swaksSends},
		"msmtp":   {[]string{"plain", "login", "cram-md5", "scram-sha-256", "external"}, msmtpSends},
		"mutt":    {[]string{"plain", "login", "cram-md5", "scram-sha-256"}, muttSends},
		"s-nail":  {[]string{"plain", "login", "cram-md5"}, nailSends},
		"curl":    {[]string{"PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL"}, curlSends},
		"python3": {[]string{"PLAIN", "LOGIN", "CRAM-MD5"}, smtplibSends},
	}
	s := newSubmitter(t)
	for name, client := range clients {
		t.Run(name, func(t *testing.T) {
			peer.Need(t, name)
			for _, mechanism := range client.mechanisms {
				t.Run(mechanism, func(t *testing.T) {
					recipient := "aunt." + strings.ToLower(strings.Map(letters, name+mechanism)) + "@elsewhere.example"
					if out, code := client.run(t, s, mechanism, recipient); code != 0 {
						t.Fatalf("exit %d\n%s", code, out)
					}
					s.relayedOut(t, recipient)
				})
			}
		})
	}
}

func swaksSends(t *testing.T, s *submitter, mechanism, recipient string) (string, int) {
	return peer.Run(t, "", "swaks", "--server", s.host+":"+s.tlsPort, "--tls-on-connect", "--tls-verify", "--tls-ca-path", s.ready.CA, "--auth", mechanism,
		"--auth-user", s.address, "--auth-password", s.password, "--from", s.address, "--to", recipient)
}

func msmtpSends(t *testing.T, s *submitter, mechanism, recipient string) (string, int) {
	content := fmt.Sprintf("account default\nhost %s\nport %s\nfrom %s\ntls on\ntls_starttls on\ntls_trust_file %s\nauth %s\nuser %[3]s\npassword %[6]s\n",
		s.host, s.port, s.address, s.ready.CA, mechanism, s.password)
	if mechanism == "external" {
		content += fmt.Sprintf("tls_cert_file %s\ntls_key_file %s\n", s.cert, s.key)
	}
	return peer.Run(t, s.mail(recipient), "msmtp", "-C", s.file(t, "msmtprc", content), "--debug", recipient)
}

func muttSends(t *testing.T, s *submitter, mechanism, recipient string) (string, int) {
	rc := s.file(t, "muttrc", fmt.Sprintf("set ssl_starttls=yes\nset ssl_force_tls=yes\nset certificate_file=%s\nset ssl_verify_host=yes\nset from=%s\nset use_from=yes\n"+
		"set envelope_from_address=%[2]s\nset copy=no\nset smtp_url=smtp://%s@%s:%s/\nset smtp_pass=%s\nset smtp_authenticators=%s\n",
		s.ready.CA, s.address, url.QueryEscape(s.address), s.host, s.port, s.password, mechanism))
	return peer.RunEnv(t, []string{"HOME=" + s.dir}, "hello\n", "mutt", "-n", "-F", rc, "-s", "hello", recipient)
}

func nailSends(t *testing.T, s *submitter, mechanism, recipient string) (string, int) {
	args := []string{"-:/", "-s", "hello"}
	for _, set := range []string{
		"v15-compat=yes", fmt.Sprintf("mta=smtp://%s:%s@%s:%s", url.QueryEscape(s.address), s.password, s.host, s.port), "smtp-auth=" + mechanism,
		"smtp-use-starttls", "tls-verify=strict", "tls-ca-file=" + s.ready.CA, "tls-ca-no-defaults", "from=" + s.address, "hostname=desk.clinic.example", "sendwait", "nosave",
	} {
		args = append(args, "-S", set)
	}
	return peer.RunEnv(t, []string{"HOME=" + s.dir}, "hello\n", "s-nail", append(args, "-.", recipient)...)
}

func curlSends(t *testing.T, s *submitter, mechanism, recipient string) (string, int) {
	args := []string{
		"--silent", "--show-error", "--ssl-reqd", "--cacert", s.ready.CA, "--url", "smtp://" + s.host + ":" + s.port, "--login-options", "AUTH=" + mechanism,
		"--mail-from", s.address, "--mail-rcpt", recipient, "--upload-file", "-",
	}
	user := s.address + ":" + s.password
	if mechanism == "EXTERNAL" {
		user = s.address + ":"
		args = append(args, "--cert", s.cert, "--key", s.key)
	}
	return peer.Run(t, s.mail(recipient), "curl", append(args, "--user", user)...)
}

const smtplib = `import smtplib, ssl, sys
host, port, ca, user, password, mechanism, recipient = sys.argv[1:]
s = smtplib.SMTP(host, int(port))
s.starttls(context=ssl.create_default_context(cafile=ca))
s.ehlo()
s.user, s.password = user, password
s.auth(mechanism, getattr(s, "auth_" + mechanism.lower().replace("-", "_")))
s.sendmail(user, [recipient], sys.stdin.read())
s.quit()
`

func smtplibSends(t *testing.T, s *submitter, mechanism, recipient string) (string, int) {
	return peer.Run(t, s.mail(recipient), "python3", s.file(t, "send.py", smtplib), s.host, s.port, s.ready.CA, s.address, s.password, mechanism, recipient)
}

// TestPostfixSubmits: a Postfix at the desk hands its mail to the site as its relay host, logged in with each mechanism that Cyrus SASL gives it.
func TestPostfixSubmits(t *testing.T) {
	t.Parallel()
	peer.Need(t, "swaks", "postfix")
	peer.NeedRoot(t)
	s := newSubmitter(t)
	next := fmt.Sprintf("[%s]:%s", s.host, s.port)
	ca, err := os.ReadFile(s.ready.CA)
	if err != nil {
		t.Fatal(err)
	}
	desk := peer.StartPostfix(t, fmt.Sprintf(`relayhost = %[1]s
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = inline:{ {%[1]s = %[2]s:%[3]s} }
smtp_sasl_security_options = noanonymous
smtp_sasl_tls_security_options = noanonymous
smtp_tls_security_level = verify
smtp_tls_CAfile = ${queue_directory}/../etc/ca.pem
smtp_tls_verify_cert_match = hostname
`, next, s.address, s.password))
	if err := os.WriteFile(filepath.Join(desk.Dir, "etc", "ca.pem"), ca, 0o644); err != nil {
		t.Fatal(err)
	}
	etc := filepath.Join(desk.Dir, "etc")
	for _, mechanism := range []string{"plain", "login", "cram-md5", "scram-sha-256"} {
		t.Run(mechanism, func(t *testing.T) {
			if out, code := peer.Run(t, "", "postconf", "-c", etc, "-e", "smtp_sasl_mechanism_filter="+mechanism); code != 0 {
				t.Fatal(out)
			}
			if out, code := peer.Run(t, "", "postfix", "-c", etc, "reload"); code != 0 {
				t.Fatal(out)
			}
			recipient := "aunt.postfix" + strings.Map(letters, mechanism) + "@elsewhere.example"
			if out, code := peer.Run(t, "", "swaks", "--server", desk.Address, "--from", s.address, "--to", recipient); code != 0 {
				t.Fatal(out)
			}
			peer.Eventually(t, waitDelivery, "Postfix's word about "+recipient, func() bool { return strings.Contains(desk.Log(), "to=<"+recipient+">") })
			if log := desk.Log(); !strings.Contains(log[strings.Index(log, "to=<"+recipient+">"):], "status=sent (250 2.0.0 ") {
				t.Fatal(log)
			}
			s.relayedOut(t, recipient)
		})
	}
}
