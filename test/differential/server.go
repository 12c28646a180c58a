package differential

import (
	"bufio"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bothy/test/peer"
)

// Server is one that the inputs are played to.
type Server struct {
	Name       string
	Border     string         // address of the port for other servers
	Submission string         // address of the port for people; empty where there is none
	ID         *regexp.Regexp // finds a message's id in the reply that accepts it
	Sink       *Sink
	Fetch      func() // makes the sink call for the mail; nil where it is sent
	Parallel   int    // sessions at once
}

// The account that may log in, and what all servers take at most.
const (
	account     = "nurse@light.example"
	password    = "snow and heather"
	messageSize = 100_000
)

// StartBothy starts the program, which holds mail for far.example.
func StartBothy(t testing.TB, program string) *Server {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "bothy.toml")
	s := &Server{
		Name: "Bothy", Border: peer.FreePort(t), Submission: peer.FreePort(t), Sink: new(Sink), Parallel: 32,
		ID: regexp.MustCompile(`^250 2\.0\.0 ([0-9a-v]{20}) accepted`),
	}
	held := peer.FreePort(t)
	write(t, file, fmt.Sprintf(`hostname = "mx.bothy.example"
data = %q
log_level = "warn"
[smtp]
listen = [%q]
[smtp.limits]
message_size = %d
[submission]
listen = [%q]
[odmr]
listen_tls = [%q]
`, filepath.Join(dir, "data"), s.Border, messageSize, s.Submission, held))
	secret := filepath.Join(dir, "secret")
	write(t, secret, password+"\n")
	_, output := peer.Start(t, program, "serve", "--config", file)
	t.Cleanup(func() {
		if strings.Contains(output.String(), "DATA RACE") || strings.Contains(output.String(), "panic") {
			t.Errorf("bothy serve printed:\n%s", output)
		}
	})
	peer.WaitPort(t, s.Border)
	for _, args := range [][]string{
		{"customer", "add", "--config", file, "--password-file", secret, "far", "far.example", "bin.example"},
		{"account", "add", "--config", file, "--password-file", secret, account},
	} {
		if out, code := peer.Run(t, "", program, args...); code != 0 {
			t.Fatalf("bothy %s: exit %d\n%s", strings.Join(args, " "), code, out)
		}
	}
	s.Fetch = func() {
		// A domain whose next hop takes lines and one whose next hop takes chunks.
		s.Sink.fetch(t, held, "far.example", "8BITMIME", "SMTPUTF8", "DSN", "PIPELINING")
		s.Sink.fetch(t, held, "bin.example", "8BITMIME", "SMTPUTF8", "DSN", "PIPELINING", "CHUNKING", "BINARYMIME")
	}
	return s
}

// fetch calls for the mail of a domain by ODMR (RFC 2645 §4): the sink is the customer.
func (s *Sink) fetch(t testing.TB, address, domain string, keywords ...string) {
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReaderSize(conn, 1) // nothing of the turned session may be read here
	said := func() (line string) {
		for line = "   -"; len(line) > 3 && line[3] == '-'; {
			if line, err = r.ReadString('\n'); err != nil {
				t.Errorf("ATRN %s: %v", domain, err)
				return ""
			}
		}
		return line
	}
	said()
	for _, command := range []string{"EHLO far.example", "AUTH PLAIN " + plain("", "far", password), "ATRN " + domain} {
		fmt.Fprintf(conn, "%s\r\n", command)
		line := said()
		if strings.HasPrefix(line, "453") { // no mail
			return
		}
		if !strings.HasPrefix(line, "2") {
			t.Errorf("%s: %q", command[:4], line)
			return
		}
	}
	s.Serve(&buffered{conn, r}, keywords...)
}

// buffered is a connection of which something was read already.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// plain is a message of SASL PLAIN (RFC 4616 §2).
func plain(as, name, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(as + "\x00" + name + "\x00" + password))
}

// StartPostfix starts a private Postfix.
func StartPostfix(t testing.TB) *Server {
	t.Helper()
	sink := new(Sink)
	cert, key := certificate(t)
	sasl := filepath.Join(filepath.Dir(cert), "auth")
	dovecot(t, sasl)
	p := peer.StartPostfix(t, fmt.Sprintf(`mynetworks =
relay_domains = far.example, bin.example
relay_recipient_maps =
relayhost = [127.0.0.1]:%s
smtpd_recipient_restrictions = reject_unauth_destination
local_header_rewrite_clients =
message_size_limit = %d
smtpd_tls_security_level = may
smtpd_tls_cert_file = %s
smtpd_tls_key_file = %s
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = %s
smtpd_tls_auth_only = yes
mydestination = postfix.example
`, port(sink.Listen(t)), messageSize, cert, key, sasl))
	return &Server{
		Name: "Postfix", Border: p.Address, Submission: p.Address, Sink: sink, Parallel: 16,
		ID: regexp.MustCompile(`queued as ([0-9A-Za-z]+)`),
	}
}

// dovecot is as much of Dovecot's authentication service as Postfix needs: one account, PLAIN.
func dovecot(t testing.TB, socket string) {
	t.Helper()
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(socket, 0o777)
	t.Cleanup(func() { ln.Close() })
	serve := func(conn net.Conn) {
		defer conn.Close()
		fmt.Fprint(conn, "VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0123456789abcdef0123456789abcdef\nDONE\n")
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			f := strings.Split(lines.Text(), "\t")
			if f[0] != "AUTH" && f[0] != "CONT" {
				continue
			}
			_, response, given := strings.Cut(lines.Text(), "resp=")
			if f[0] == "CONT" {
				response, given = f[len(f)-1], true
			}
			switch {
			case !given:
				fmt.Fprintf(conn, "CONT\t%s\t\n", f[1])
			case response == plain("", account, password):
				fmt.Fprintf(conn, "OK\t%s\tuser=%s\n", f[1], account)
			default:
				fmt.Fprintf(conn, "FAIL\t%s\n", f[1])
			}
		}
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
}

// unpacked is where the script mta puts the packages that cannot be installed beside Postfix.
const unpacked = "../../bin/mta"

// house prepares a private view of the file system for a server that has its paths and users built in: its own /var, users and
// libexec, seen by nobody else. It returns the directory and the command line that starts a program inside.
func house(t testing.TB, users string) (dir string, enter func(program string, args ...string) []string) {
	t.Helper()
	peer.NeedRoot(t)
	root, err := filepath.Abs(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(root); err != nil {
		t.Skip("the other servers are missing: run test/differential/mta")
	}
	dir, err = os.MkdirTemp("", "mta") // open to the users that the servers become
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	for file, lines := range map[string]string{"passwd": users, "group": groups(users)} {
		system, err := os.ReadFile("/etc/" + file)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, file), string(system)+lines)
		os.Chmod(filepath.Join(dir, file), 0o644)
	}
	write(t, filepath.Join(dir, "resolv.conf"), "nameserver 127.0.0.1\n") // nobody answers there, at once
	os.Chmod(filepath.Join(dir, "resolv.conf"), 0o644)
	for _, sub := range []string{"var", "var/run", "var/spool", "var/lib", "var/log", "var/tmp"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf(`set -e
mount --bind %[1]s/passwd /etc/passwd
mount --bind %[1]s/group /etc/group
mount --bind %[1]s/resolv.conf /etc/resolv.conf
mount --bind %[1]s/var /var
mount --bind %[2]s/usr/libexec /usr/libexec
export LD_LIBRARY_PATH=%[2]s/lib
exec "$@"`, dir, root)
	return dir, func(program string, args ...string) []string {
		return append([]string{"--mount", "--propagation", "private", "sh", "-c", script, "sh", filepath.Join(root, program)}, args...)
	}
}

// groups are the groups of users, which have their names and numbers.
func groups(users string) string {
	var b strings.Builder
	for line := range strings.Lines(users) {
		f := strings.Split(line, ":")
		fmt.Fprintf(&b, "%s:x:%s:\n", f[0], f[3])
	}
	return b.String()
}

// StartExim starts Debian's Exim with the checks of its shipped configuration.
func StartExim(t testing.TB) *Server {
	t.Helper()
	dir, enter := house(t, "Debian-exim:x:64001:64001::/var/spool/exim4:/usr/sbin/nologin\n")
	sink := new(Sink)
	cert, key := certificate(t)
	os.Chown(key, 64001, 64001)
	address := peer.FreePort(t)
	for _, sub := range []string{"var/spool/exim4", "var/log/exim4", "var/lib/exim4"} {
		os.Mkdir(filepath.Join(dir, sub), 0o755)
		os.Chown(filepath.Join(dir, sub), 64001, 64001)
	}
	root, _ := filepath.Abs(unpacked)
	write(t, filepath.Join(dir, "var/lib/exim4/config.autogenerated"), fmt.Sprintf(`exim_path = %[1]s/usr/sbin/exim4
primary_hostname = mx.exim.example
spool_directory = /var/spool/exim4
log_file_path = /var/log/exim4/%%slog
daemon_smtp_ports = %[2]s
local_interfaces = 127.0.0.1
smtp_accept_max = 200
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
message_size_limit = %[3]d
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts = *
tls_certificate = %[4]s
tls_privatekey = %[5]s
auth_advertise_hosts = ${if def:tls_in_cipher{*}}
acl_smtp_rcpt = check_rcpt
acl_smtp_data = check_data
begin acl
check_rcpt:
  deny message = Restricted characters in address
       local_parts = ^[.] : ^.*[@%%!/|]
  accept domains = far.example : bin.example
  accept local_parts = postmaster
         domains = mx.exim.example
  deny message = relay not permitted
check_data:
  deny condition = ${if > {$max_received_linelength}{998}}
       message = maximum allowed line length is 998 octets
  accept
begin routers
far:
  driver = manualroute
  domains = far.example : bin.example
  transport = sink
  route_list = * 127.0.0.1::%[6]s
  self = send
  no_more
rest:
  driver = redirect
  data = :blackhole:
begin transports
sink:
  driver = smtp
  allow_localhost
  hosts_try_fastopen =
begin retry
* * F,1h,1h
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{%[7]s}}{eq{$auth3}{%[8]s}}}}
  server_set_id = $auth2
`, root, port(address), messageSize, cert, key, port(sink.Listen(t)), account, password))
	os.Chmod(filepath.Join(dir, "var/lib/exim4/config.autogenerated"), 0o644)
	peer.Start(t, "unshare", enter("usr/sbin/exim4", "-bdf")...)
	peer.WaitPort(t, address)
	return &Server{
		Name: "Exim", Border: address, Submission: address, Sink: sink, Parallel: 16,
		ID: regexp.MustCompile(`OK id=([0-9A-Za-z-]+)`),
	}
}

// StartOpenSMTPD starts Debian's OpenSMTPD.
func StartOpenSMTPD(t testing.TB) *Server {
	t.Helper()
	dir, enter := house(t, "opensmtpd:x:64002:64002::/var/lib/opensmtpd/empty:/usr/sbin/nologin\nopensmtpq:x:64003:64003::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n")
	os.MkdirAll(filepath.Join(dir, "var/lib/opensmtpd/empty"), 0o755)
	sink := new(Sink)
	cert, key := certificate(t)
	border, submission := peer.FreePort(t), peer.FreePort(t)
	hash, err := exec.Command("openssl", "passwd", "-6", password).Output()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "logins"), account+" "+string(hash))
	os.Chmod(filepath.Join(dir, "logins"), 0o644)
	config := filepath.Join(dir, "smtpd.conf")
	write(t, config, fmt.Sprintf(`pki border cert %q
pki border key %q
table logins file:%s
smtp max-message-size "%d"
listen on 127.0.0.1 port %s tls pki border hostname mx.opensmtpd.example
listen on 127.0.0.1 port %s tls pki border auth <logins> hostname mx.opensmtpd.example
action out relay host "smtp://127.0.0.1:%s"
match from any for domain { "far.example", "bin.example" } action out
`, cert, key, filepath.Join(dir, "logins"), messageSize, port(border), port(submission), port(sink.Listen(t))))
	peer.Start(t, "unshare", enter("usr/sbin/smtpd", "-d", "-f", config)...)
	peer.WaitPort(t, border)
	return &Server{
		Name: "OpenSMTPD", Border: border, Submission: submission, Sink: sink, Parallel: 16,
		ID: regexp.MustCompile(`250 2\.0\.0:? ([0-9a-f]{8}) Message accepted`),
	}
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// certificate makes one that signs itself, in files whose directory is open to all users.
func certificate(t testing.TB) (cert, key string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "tls")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	name := pkix.Name{CommonName: "mx.example"}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: name, DNSNames: []string{"mx.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, form, form, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	os.Chmod(cert, 0o644)
	return cert, key
}
