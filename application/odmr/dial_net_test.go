package odmr

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"bothy/lib/sim"
)

func dialTo(conn net.Conn) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) { return conn, nil }
}

// TestCustomerWaits: RFC 2645 §5.2.1 gives the provider 10 minutes to think about ATRN.
func TestCustomerWaits(t *testing.T) {
	for _, c := range []struct {
		think time.Duration
		want  error
	}{
		{10*time.Minute - time.Second, ErrNoMail},
		{10*time.Minute + time.Second, ErrUnreachable},
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := sim.Pipe(sim.Path{})
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				defer far.Close()
				lines := bufio.NewReader(far)
				for _, reply := range []string{"220 p\r\n", "250-p\r\n250-AUTH CRAM-MD5\r\n250 ATRN\r\n", "334 PDEuMkBwPg==\r\n", "235 ok\r\n"} {
					if _, err := io.WriteString(far, reply); err != nil {
						t.Error(err)
					}
					if _, err := lines.ReadString('\n'); err != nil {
						t.Error(err)
					}
				}
				time.Sleep(c.think)
				io.WriteString(far, "453 You have no mail\r\n")
				lines.ReadString('\n') // QUIT
				io.WriteString(far, "221 bye\r\n")
			}()
			customer := &Customer{
				Hostname: "clinic.example", Dial: dialTo(near),
				Config: CustomerConfig{Provider: "p.example:366", TLS: "none", Username: "clinic", Password: "x"},
			}
			if _, err := customer.Call(t.Context(), nil); !errors.Is(err, c.want) {
				t.Errorf("after %v of thought: %v", c.think, err)
			}
			<-ended
		})
	}
}

// TestCustomerTLS: the provider is who its certificate says, or nothing is shown to it.
func TestCustomerTLS(t *testing.T) {
	dir := t.TempDir()
	_, pem := certificate()
	ca, empty := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "empty.pem")
	if err := errors.Join(os.WriteFile(ca, pem, 0o600), os.WriteFile(empty, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, mode, provider, ca string
		want                     error
	}{
		{"STARTTLS", "required", "provider.example:366", ca, ErrNoMail},
		{"TLS first", "implicit", "provider.example:366", ca, ErrNoMail},
		{"STARTTLS by default", "", "provider.example:366", ca, ErrNoMail},
		{"STARTTLS, another name", "required", "other.example:366", ca, ErrInsecure},
		{"TLS first, another name", "implicit", "other.example:366", ca, ErrInsecure},
		{"STARTTLS, unknown authority", "required", "provider.example:366", "", ErrInsecure},
		{"TLS first, unknown authority", "implicit", "provider.example:366", "", ErrInsecure},
		{"no such file", "required", "provider.example:366", ca + "x", ErrConfig},
		{"empty file", "implicit", "provider.example:366", empty, ErrConfig},
		{"no such mode", "perhaps", "provider.example:366", ca, ErrConfig},
		{"nobody to call", "required", "", ca, ErrConfig},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newCutProvider(openSpool(t, sim.NewDisk(), providerRouter))
			p.TLS = serverTLS()
			var named []string
			p.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				named = hello.SupportedProtos
				return nil, nil
			}
			near, far := sim.Pipe(sim.Path{})
			served := make(chan struct{})
			go func() {
				defer close(served)
				conn := net.Conn(far)
				if c.mode == "implicit" {
					conn = tls.Server(far, p.TLS)
				}
				_ = p.Serve(context.Background(), conn)
			}()
			var stages []Stage
			customer := &Customer{
				Hostname: "clinic.example", Dial: dialTo(near),
				Config: CustomerConfig{Provider: c.provider, TLS: c.mode, CAFile: c.ca, Username: "foobar.net", Password: "x"},
			}
			_, err := customer.Call(t.Context(), func(p Progress) { stages = append(stages, p.Stage) })
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			for _, s := range stages {
				if s == LoggingIn && c.want != ErrNoMail {
					t.Error("it logged in all the same")
				}
			}
			near.Close()
			far.Close()
			<-served
			if first := c.mode == "implicit" && c.want != ErrConfig; first != slices.Equal(named, Protocols()) || !first && len(named) > 0 {
				t.Errorf("it names the protocols %q", named) // RFC 7301 §3.1
			}
		})
	}
}

// TestCustomerStops: a call ends soon after its context does, at any stage.
func TestCustomerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := sim.Pipe(sim.Path{}) // nobody greets
		customer := &Customer{Dial: dialTo(near), Config: CustomerConfig{Provider: "p.example:366", TLS: "none", Username: "a", Password: "b"}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, err := customer.Call(ctx, nil)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Minute+grace {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}
