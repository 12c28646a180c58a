package odmr

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/application/directory"
	"bothy/application/queue"
	"bothy/application/sasl"
	"bothy/application/smtp"
	"bothy/lib/sim"
)

// TestFetchmail lets the customer that people have call our provider, as it is in Debian 12.
func TestFetchmail(t *testing.T) {
	if _, err := exec.LookPath("fetchmail"); err != nil {
		if os.Getenv("BOTHY_PEERS") == "required" {
			t.Fatal("fetchmail is missing")
		}
		t.Skip("fetchmail is missing")
	}
	for _, useTLS := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", useTLS), func(t *testing.T) {
			spool := openSpool(t, sim.NewDisk(), providerRouter)
			in := &intake{}
			f := &fetchmail{provider: listenProvider(t, spool, useTLS, directory.Customer{}), sink: listenSink(t, in), tls: useTLS, password: "s3cret-odmr"}

			long := strings.Repeat(strings.Repeat("long lines and many of them ", 3)+"\r\n", 3000)
			for _, m := range []string{"one\r\n\r\n.dot\r\n", "two\r\n\r\n8bit \xc3\xa9\xff\r\n", "three\r\n\r\n" + long} {
				send(t, spool, "a@sender.example", "Subject: "+m, "joe@clinic.example", "x@light.example")
			}
			if exit, out := f.run(t); exit != 0 || len(in.messages) != 3 {
				t.Fatalf("exit %d, %d messages\n%s", exit, len(in.messages), out)
			}
			for _, want := range []string{" one\r\n\r\n.dot\r\n", " two\r\n\r\n8bit \xc3\xa9\xff\r\n", " three\r\n\r\n" + long} {
				if !slices.Contains(in.messages, "a@sender.example joe@clinic.example "+want) {
					t.Errorf("%.40q did not come as it was sent", want)
				}
			}
			if exit, out := f.run(t); exit != 0 || len(in.messages) != 3 { // 453
				t.Errorf("no mail: exit %d, %d messages\n%s", exit, len(in.messages), out)
			}

			send(t, spool, "a@sender.example", "Subject: four\r\n\r\n", "joe@clinic.example")
			f.password = "wrong"
			if exit, out := f.run(t); exit != 128 {
				t.Errorf("wrong password: exit %d\n%s", exit, out)
			}
			f.password = "s3cret-odmr"
			sink := f.sink
			f.sink = refusingPort(t)
			if exit, out := f.run(t); exit != 2 {
				t.Errorf("no mail server: exit %d\n%s", exit, out)
			}
			waitFor(t, func() bool { due, _ := spool.Waiting(lane("clinic.example")); return due == 1 })
			f.sink = sink
			if exit, out := f.run(t); exit != 0 || len(in.messages) != 4 {
				t.Errorf("after it came back: exit %d, %d messages\n%s", exit, len(in.messages), out)
			}
			if _, all := spool.Waiting(lane("light.example")); all != 3 {
				t.Errorf("%d recipients wait for the other customer, want 3", all)
			}
		})
	}
}

// TestFetchmailIsPushed: it knows nothing of sessions that linger or of answers held back, and gets its mail at once all the same.
func TestFetchmailIsPushed(t *testing.T) {
	if _, err := exec.LookPath("fetchmail"); err != nil {
		if os.Getenv("BOTHY_PEERS") == "required" {
			t.Fatal("fetchmail is missing")
		}
		t.Skip("fetchmail is missing")
	}
	for name, c := range map[string]directory.Customer{
		"linger": {Linger: time.Hour}, "long poll": {LongPoll: 5 * time.Second},
	} {
		for _, useTLS := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s tls=%v", name, useTLS), func(t *testing.T) {
				spool := openSpool(t, sim.NewDisk(), providerRouter)
				in := &intake{}
				f := &fetchmail{provider: listenProvider(t, spool, useTLS, c), sink: listenSink(t, in), tls: useTLS, password: "s3cret-odmr"}
				var posting sync.WaitGroup
				posting.Go(func() {
					time.Sleep(500 * time.Millisecond)
					send(t, spool, "a@sender.example", "Subject: push\r\n\r\n", "joe@clinic.example")
				})
				defer posting.Wait()
				if exit, out := f.run(t); exit != 0 || len(in.messages) != 1 {
					t.Errorf("exit %d, %d messages\n%s", exit, len(in.messages), out)
				}
			})
		}
	}
}

// fetchmail is one set of options.
type fetchmail struct {
	provider, sink net.Addr
	tls            bool
	password       string
}

// run polls once and returns the exit code and the dialogue.
func (f *fetchmail) run(t *testing.T) (exit int, dialogue string) {
	t.Helper()
	dir := t.TempDir()
	ssl := ""
	if f.tls {
		cert := filepath.Join(dir, "ca.pem")
		_, pem := certificate()
		if err := os.WriteFile(cert, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		ssl = fmt.Sprintf("ssl sslcertck sslcertfile %q", cert)
	}
	port := func(a net.Addr) int { return a.(*net.TCPAddr).Port }
	rc := filepath.Join(dir, "rc")
	text := fmt.Sprintf("poll localhost with proto ODMR service %d timeout 10\n user \"customer1\" password %q\n"+
		" fetchdomains clinic.example,clinic.example.net\n smtphost \"127.0.0.1/%d\"\n %s\n", port(f.provider), f.password, port(f.sink), ssl)
	if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "fetchmail", "-f", rc, "--pidfile", filepath.Join(dir, "pid"), "-vv", "--nodetach", "--nosyslog")
	cmd.Env = append(os.Environ(), "HOME="+dir, "FETCHMAILHOME="+dir, "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// accounts knows customer1, who has opted in to CRAM-MD5.
type accounts struct{ verifier sasl.Verifier }

func (a accounts) Verifier(_ context.Context, username string) (sasl.Verifier, error) {
	if username != a.verifier.Account {
		return sasl.Verifier{}, sasl.ErrCredentials
	}
	return a.verifier, nil
}

func (accounts) Certificate(context.Context, *x509.Certificate) (string, error) {
	return "", sasl.ErrCredentials
}

func listenProvider(t *testing.T, spool *queue.Spool, useTLS bool, c directory.Customer) net.Addr {
	c.Account, c.Domains = "customer1", []string{"clinic.example", "clinic.example.net"}
	v, err := sasl.NewVerifier("customer1", "s3cret-odmr", 4096)
	if err != nil {
		t.Fatal(err)
	}
	v.CRAMSecret = []byte("s3cret-odmr")
	p := &Provider{
		Hostname: "odmr.provider.example", Queue: spool,
		Auth: &sasl.Authenticator{
			Accounts: accounts{v}, Hostname: "odmr.provider.example", Allowed: []string{sasl.SCRAMSHA256, sasl.PLAIN, sasl.CRAMMD5},
		},
		Directory: customers{"customer1": c}, Config: ProviderConfig{NoopInterval: 100 * time.Millisecond},
	}
	return listen(t, useTLS, func(c net.Conn) { _ = p.Serve(context.Background(), c) })
}

func listenSink(t *testing.T, in *intake) net.Addr {
	s := &smtp.Server{Hostname: "sink.clinic.example", Accept: in}
	return listen(t, false, func(c net.Conn) { _ = s.Serve(context.Background(), smtp.NewConn(c)); c.Close() })
}
