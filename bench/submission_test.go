package bench

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/application/sasl"
	"bothy/test/peer"
)

const (
	submitter  = "meter@light.example"
	secret     = "correct horse"
	scramCount = 500 // logins of which the cost is measured
)

// BenchmarkSubmission measures authenticated submission of 4 KiB messages over sessions that stay open, with TLS: EHLO, STARTTLS, EHLO, AUTH
// PLAIN, and then message after message, each command after the reply to the last, as mail programs do. Each 250 comes after the message is
// on disk. The load is the same for both servers, and takes its share of the processors; logins are not in the time. What is taken in waits.
func BenchmarkSubmission(b *testing.B) {
	peer.Need(b, "postfix", "saslpasswd2", "openssl")
	peer.NeedRoot(b)
	bothy, plain, pid := startSubmission(b)
	servers := []struct{ name, address string }{{"bothy", bothy}, {"postfix", startPostfixSubmission(b)}}
	fmt.Printf("\n%-28s %9s %12s %12s %12s\n", "submission, TLS, 4 KiB", "sessions", "messages/s", "min", "max")
	for _, sessions := range []int{1, 20} {
		rates := map[string][]float64{}
		for range runs { // in turn, so that a change of the machine's speed hits both
			for _, s := range servers {
				took := submit(b, s.address, sessions, perSession)
				rates[s.name] = append(rates[s.name], float64(sessions*perSession)/took.Seconds())
			}
		}
		for _, s := range servers {
			r := rates[s.name]
			slices.Sort(r)
			fmt.Printf("%-28s %9d %12.0f %12.0f %12.0f\n", s.name, sessions, r[len(r)/2], r[0], r[len(r)-1])
		}
		ratio := rates["bothy"][runs/2] / rates["postfix"][runs/2]
		fmt.Printf("%-28s %9d %11.1fx Postfix\n", "ratio of medians", sessions, ratio)
		b.ReportMetric(rates["bothy"][runs/2], fmt.Sprintf("msg/s@%d", sessions))
		b.ReportMetric(ratio, fmt.Sprintf("xPostfix@%d", sessions))
	}
	cost := scramCost(b, plain, pid)
	fmt.Printf("%-28s %9.3f ms of the server's CPU, connection, EHLO and QUIT included\n", "login by SCRAM-SHA-256", float64(cost)/float64(time.Millisecond))
	b.ReportMetric(float64(cost)/float64(time.Millisecond), "ms/SCRAM")
}

// voice is a client that sends what it is told and wants one reply for it.
type voice struct {
	net.Conn
	r *bufio.Reader
}

func dialVoice(address string) (*voice, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	v := &voice{conn, bufio.NewReader(conn)}
	return v, v.hear("220")
}

func (v *voice) say(want string, line []byte) error {
	if _, err := v.Write(line); err != nil {
		return err
	}
	return v.hear(want)
}

// hear reads one reply.
func (v *voice) hear(want string) error {
	for {
		line, err := v.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(line, []byte(want)) {
			return fmt.Errorf("%q, want %s", line, want)
		}
		if line[3] == ' ' {
			return nil
		}
	}
}

// login goes as far as a client that may send.
func (v *voice) login() error {
	ehlo := []byte("EHLO meter.light.example\r\n")
	if err := v.say("250", ehlo); err != nil {
		return err
	}
	if err := v.say("220", []byte("STARTTLS\r\n")); err != nil {
		return err
	}
	secured := tls.Client(v.Conn, &tls.Config{InsecureSkipVerify: true})
	v.Conn, v.r = secured, bufio.NewReader(secured)
	if err := v.say("250", ehlo); err != nil {
		return err
	}
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + submitter + "\x00" + secret))
	return v.say("235", []byte("AUTH PLAIN "+plain+"\r\n"))
}

// submit sends count messages over each of some sessions, and returns how long that took behind the logins.
func submit(b *testing.B, address string, sessions, count int) time.Duration {
	b.Helper()
	const header = "From: " + submitter + "\r\nTo: nurse@clinic.example\r\nSubject: reading\r\nDate: Fri, 02 Jan 2026 15:04:05 +0000\r\nMessage-ID: <1@meter.light.example>\r\n\r\n"
	line := strings.Repeat("z", 78) + "\r\n"
	text := []byte(header + strings.Repeat(line, (messageSize-len(header))/len(line)) + ".\r\n")
	steps := []struct {
		want string
		line []byte
	}{
		{"250", []byte("MAIL FROM:<" + submitter + ">\r\n")},
		{"250", []byte("RCPT TO:<nurse@clinic.example>\r\n")},
		{"354", []byte("DATA\r\n")},
		{"250", text},
	}
	voices := make([]*voice, sessions)
	errs := make([]error, sessions)
	var all sync.WaitGroup
	each := func(do func(i int) error) {
		for i := range sessions {
			all.Go(func() { errs[i] = do(i) })
		}
		all.Wait()
		for _, err := range errs {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	each(func(i int) (err error) {
		if voices[i], err = dialVoice(address); err != nil {
			return err
		}
		return voices[i].login()
	})
	began := time.Now()
	each(func(i int) error {
		for range count {
			for _, s := range steps {
				if err := voices[i].say(s.want, s.line); err != nil {
					return err
				}
			}
		}
		return nil
	})
	took := time.Since(began)
	each(func(i int) error {
		defer voices[i].Close()
		return voices[i].say("221", []byte("QUIT\r\n"))
	})
	return took
}

// scramCost is the CPU time of a process for one session that logs in by SCRAM-SHA-256 and does nothing else, TLS aside.
func scramCost(b *testing.B, address string, pid int) time.Duration {
	b.Helper()
	before := processTime(b, pid)
	for range scramCount {
		if err := scram(address); err != nil {
			b.Fatal(err)
		}
	}
	return (processTime(b, pid) - before) / scramCount
}

func scram(address string) error {
	v, err := dialVoice(address)
	if err != nil {
		return err
	}
	defer v.Close()
	if err := v.say("250", []byte("EHLO meter.light.example\r\n")); err != nil {
		return err
	}
	c, err := sasl.Choose([]string{sasl.SCRAMSHA256}, sasl.Channel{}, sasl.Credentials{Username: submitter, Password: secret})
	if err != nil {
		return err
	}
	response, err := c.Start()
	if err != nil {
		return err
	}
	line := "AUTH SCRAM-SHA-256 " + base64.StdEncoding.EncodeToString(response)
	for {
		if _, err := v.Write([]byte(line + "\r\n")); err != nil {
			return err
		}
		reply, err := v.r.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.HasPrefix(reply, "235") {
			break
		}
		challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(strings.TrimPrefix(reply, "334 ")))
		if err != nil {
			return fmt.Errorf("%q: %w", reply, err)
		}
		if response, err = c.Next(challenge); err != nil {
			return err
		}
		line = base64.StdEncoding.EncodeToString(response)
	}
	return v.say("221", []byte("QUIT\r\n"))
}

// processTime is what a process has used of the CPU, in ticks of 10 ms.
func processTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat := read(b, fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')'):])
	var ticks int64
	for _, f := range fields[12:14] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// startSubmission starts a provider that holds clinic.example and takes mail from the meter: with STARTTLS, and at another port of another
// process without.
func startSubmission(b *testing.B) (address, plain string, pid int) {
	b.Helper()
	start := func(settings string) (address string, pid int) {
		address = peer.FreePort(b)
		pid = startWith(b, fmt.Sprintf("[submission]\nlisten = [%q]\n%s", address, settings), address,
			[]string{"customer", "add", "clinic", "clinic.example"}, []string{"account", "add", submitter, "--password-file", "-"})
		return address, pid
	}
	address, _ = start("")
	plain, pid = start("plaintext = true\n")
	return address, plain, pid
}

// startPostfixSubmission starts a Postfix that takes mail from the meter, checked by Cyrus SASL against a file, and puts it on hold.
func startPostfixSubmission(b *testing.B) (address string) {
	b.Helper()
	p := peer.StartPostfix(b, `smtpd_client_restrictions = static:HOLD
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
smtpd_sasl_auth_enable = yes
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_tls_cert_file = $config_directory/cert.pem
smtpd_tls_key_file = $config_directory/key.pem
`)
	etc := filepath.Join(p.Dir, "etc")
	if err := os.Mkdir(filepath.Join(etc, "sasl"), 0o755); err != nil { // where Debian's Postfix has Cyrus SASL look
		b.Fatal(err)
	}
	users := filepath.Join(etc, "sasl", "users")
	conf := fmt.Sprintf("pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: %s\nmech_list: PLAIN LOGIN\n", users)
	if err := os.WriteFile(filepath.Join(etc, "sasl", "smtpd.conf"), []byte(conf), 0o644); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		stdin string
		args  []string
	}{
		{secret, []string{"saslpasswd2", "-p", "-c", "-f", users, "-u", "light.example", "meter"}},
		{"", []string{"chmod", "644", users}},
		{"", []string{
			"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
			"-keyout", filepath.Join(etc, "key.pem"), "-out", filepath.Join(etc, "cert.pem"), "-days", "2", "-subj", "/CN=postfix.example",
		}},
		{"", []string{"postfix", "-c", etc, "reload"}},
	} {
		if out, code := peer.Run(b, c.stdin, c.args[0], c.args[1:]...); code != 0 {
			b.Fatalf("%q: exit %d\n%s", c.args, code, out)
		}
	}
	return p.Address
}
