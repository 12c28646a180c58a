package test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/test/peer"
)

// letterbox is a mail server for fetchmail to feed: it keeps what it is given as it came.
type letterbox struct {
	address string
	mu      sync.Mutex
	got     []string // sender, recipients, text
}

// openLetterbox listens until the test ends.
func openLetterbox(t *testing.T) *letterbox {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	l := &letterbox{address: ln.Addr().String()}
	server := &smtp.Server{Hostname: "sink.ship.example", Accept: l}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _ = server.Serve(context.Background(), smtp.NewConn(conn)); conn.Close() }()
		}
	}()
	return l
}

// Accept implements smtp.Acceptor.
func (l *letterbox) Accept(_ context.Context, env *message.Envelope, body io.Reader) error {
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var to []string
	for _, r := range env.Recipients {
		to = append(to, r.Address.String())
	}
	_, text2, _ := strings.Cut(string(text), "Subject: ") // behind the trace fields
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, env.ReversePath.String()+" "+strings.Join(to, ",")+" "+text2)
	return nil
}

func (l *letterbox) letters() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.got)
}

// holder is a provider with a customer "ship" who logs in with CRAM-MD5, for fetchmail to call.
type holder struct {
	*joinable
	plain string // where STARTTLS may come; calls begins with TLS
	ca    string
}

func startHolder(t *testing.T) *holder {
	t.Helper()
	h := &holder{joinable: &joinable{smtp: peer.FreePort(t), calls: peer.FreePort(t)}, plain: peer.FreePort(t)}
	h.server = startServer(t, fmt.Sprintf("hostname = \"localhost\"\n[smtp]\nlisten = [%q]\n[odmr]\nlisten = [%q]\nlisten_tls = [%q]\nnoop_interval = \"10s\"\n[relay]\ndns = [\"127.0.0.1:9\"]\n",
		h.smtp, h.plain, h.calls))
	peer.WaitPort(t, h.calls)
	h.ca = filepath.Join(filepath.Dir(h.file), "data", "tls", "ca.pem")
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("s3cret-odmr\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bothy(t, "customer", "add", "--config", h.file, "--no-dns", "--cram", "--password-file", password, "ship", "ship.example", "crew.ship.example")
	bothy(t, "customer", "add", "--config", h.file, "--no-dns", "--password-file", password, "clinic", "clinic.example")
	return h
}

// fetchmail polls once, and returns the exit code and the dialogue.
func (h *holder) fetchmail(t *testing.T, withTLS bool, into, password string) (output string, exit int) {
	t.Helper()
	home, at, ssl := t.TempDir(), h.plain, ""
	if withTLS {
		at, ssl = h.calls, fmt.Sprintf("ssl sslcertck sslcertfile %q", h.ca)
	}
	_, port, _ := net.SplitHostPort(at)
	rc := filepath.Join(home, "fetchmailrc")
	text := fmt.Sprintf("poll localhost with proto ODMR service %s timeout 20\n user \"ship\" password %q\n fetchdomains ship.example,crew.ship.example\n smtphost %q\n %s\n",
		port, password, strings.Replace(into, ":", "/", 1), ssl)
	if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return peer.RunEnv(t, []string{"HOME=" + home, "FETCHMAILHOME=" + home, "LC_ALL=C"}, "", "fetchmail", "-f", rc, "--pidfile", filepath.Join(home, "pid"), "-vv", "--nodetach", "--nosyslog")
}

// post lets a message come to the provider, for the customer and for another one.
func (h *holder) post(t *testing.T, text string) {
	t.Helper()
	s := dial(t, h.smtp)
	s.say(t, "250", "EHLO a.example")
	s.say(t, "250", "MAIL FROM:<a@sender.example> BODY=8BITMIME")
	s.say(t, "250", "RCPT TO:<joe@ship.example>")
	s.say(t, "250", "RCPT TO:<x@clinic.example>")
	s.say(t, "354", "DATA")
	s.say(t, "250", "%s", strings.ReplaceAll(text, "\n.", "\n..")+".")
	s.say(t, "221", "QUIT")
}

// TestFetchmail: the customer that people have, in clear and with TLS from the first octet: what comes is what was sent, octet by octet; what
// goes wrong shows, and loses nothing.
func TestFetchmail(t *testing.T) {
	t.Parallel()
	peer.Need(t, "fetchmail")
	for _, withTLS := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", withTLS), func(t *testing.T) {
			t.Parallel()
			h, box := startHolder(t), openLetterbox(t)
			fetch := func(into, password string, exit, letters int) {
				t.Helper()
				if out, code := h.fetchmail(t, withTLS, into, password); code != exit || len(box.letters()) != letters {
					t.Errorf("exit %d, want %d; %d letters, want %d\n%s", code, exit, len(box.letters()), letters, out)
				}
			}
			long := strings.Repeat(strings.Repeat("long lines and many of them ", 3)+"\r\n", 3000)
			want := []string{"one\r\n\r\n.dot\r\n", "two\r\n\r\n8bit \xc3\xa9\xff\r\n", "three\r\n\r\n" + long}
			for _, text := range want {
				h.post(t, "Subject: "+text)
			}
			fetch(box.address, "s3cret-odmr", 0, 3)
			for _, text := range want {
				if !slices.Contains(box.letters(), "a@sender.example joe@ship.example "+text) {
					t.Errorf("%.40q did not come as it was sent", text)
				}
			}
			fetch(box.address, "s3cret-odmr", 0, 3) // 453
			h.post(t, "Subject: four\r\n\r\n")
			fetch(box.address, "wrong", 128, 3)
			fetch("127.0.0.1:9", "s3cret-odmr", 2, 3)                           // nobody listens there
			peer.Eventually(t, waitDelivery, "the fourth letter", func() bool { // 450 while the provider still has the session that broke
				_, code := h.fetchmail(t, withTLS, box.address, "s3cret-odmr")
				return code == 0 && len(box.letters()) == 4
			})
			if out := bothy(t, "queue", "list", "--config", h.file); strings.Count(out, "x@clinic.example") != 4 || strings.Contains(out, "joe@") {
				t.Errorf("at the provider wait\n%s", out)
			}
			// It stays, hears NOOP, which the mail server behind it answers, is sent what comes, and takes its leave.
			bothy(t, "customer", "set", "--config", h.file, "ship", "--linger", "12s")
			done := make(chan string, 1)
			go func() {
				out, code := h.fetchmail(t, withTLS, box.address, "s3cret-odmr")
				done <- fmt.Sprintf("exit %d\n%s", code, out)
			}()
			peer.Eventually(t, waitDelivery, "a session that lingers", func() bool {
				return strings.Contains(bothy(t, "customer", "show", "--config", h.file, "ship"), "lingering, for")
			})
			if out := <-done; !strings.HasPrefix(out, "exit 0\n") || !strings.Contains(out, "NOOP") {
				t.Errorf("%s", out)
			}
		})
	}
}
