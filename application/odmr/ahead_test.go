package odmr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/application/sasl"
	"bothy/application/smtp"
	"bothy/lib/sim"
)

// oneAccount knows one account, by password and by any certificate, if not by none.
type oneAccount struct {
	verifier sasl.Verifier
	noKey    bool
}

func (a oneAccount) Verifier(_ context.Context, username string) (sasl.Verifier, error) {
	if username != a.verifier.Account {
		return sasl.Verifier{}, sasl.ErrCredentials
	}
	return a.verifier, nil
}

func (a oneAccount) Certificate(context.Context, *x509.Certificate) (string, error) {
	if a.noKey {
		return "", sasl.ErrCredentials
	}
	return a.verifier.Account, nil
}

// arrival is when the first octet of a message comes to the site.
type arrival struct {
	at   time.Time
	next smtp.Acceptor
}

func (a *arrival) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	first := make([]byte, 1)
	if _, err := io.ReadFull(body, first); err != nil {
		return err
	}
	a.at = time.Now()
	return a.next.Accept(ctx, env, io.MultiReader(strings.NewReader(string(first)), body))
}

// faraway is a provider at the end of a long link, and a site that calls it.
type faraway struct {
	*exchange
	customer *Customer
	auth     *sasl.Authenticator
	arrival  *arrival
	tls      *tls.Config
	dials    int
	resumed  atomic.Int32
	strict   bool // it hangs up on whoever speaks before its greeting
}

// rtt is the link's round trip.
const rtt = 600 * time.Millisecond

// whenValid is a time at which the certificate is: a bubble's is none.
func whenValid() time.Time {
	cert, _ := certificate()
	return cert.Leaf.NotBefore.Add(time.Minute)
}

// newFaraway is a site that logs in with its certificate, or with its password.
func newFaraway(t *testing.T, mode string, external bool) *faraway {
	x := emptyExchange(t)
	verifier, err := sasl.NewVerifier("foobar.net", "ahoy", 4096)
	if err != nil {
		t.Fatal(err)
	}
	f := &faraway{exchange: x, auth: &sasl.Authenticator{Accounts: oneAccount{verifier: verifier}}, arrival: &arrival{next: x.site}, tls: serverTLS()}
	f.tls.ClientAuth, f.tls.Time = tls.RequestClientCert, whenValid
	x.provider.Auth, x.provider.TLS = f.auth, f.tls
	roots := x509.NewCertPool()
	cert, pem := certificate()
	roots.AppendCertsFromPEM(pem)
	base := &tls.Config{RootCAs: roots, Time: whenValid}
	cfg := CustomerConfig{Provider: "provider.example:366", TLS: mode, Username: "foobar.net", Password: "ahoy"}
	if external {
		base.Certificates = []tls.Certificate{cert}
		cfg.Username, cfg.Password = "", ""
	}
	f.customer = &Customer{Hostname: "clinic.example", Config: cfg, TLS: base, Accept: f.arrival, Recipients: mine, Dial: f.dial}
	return f
}

func (f *faraway) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	f.dials++
	time.Sleep(rtt) // SYN, SYN-ACK
	near, far := sim.Pipe(sim.Path{Delay: rtt / 2})
	f.serving.Go(func() {
		conn := net.Conn(far)
		if f.customer.Config.TLS == "implicit" {
			secured := tls.Server(conn, f.tls)
			if secured.HandshakeContext(f.ctx) == nil && secured.ConnectionState().DidResume {
				f.resumed.Add(1)
			}
			conn = secured
			if f.strict && speaks(secured) {
				conn.Close()
				return
			}
		}
		_ = f.provider.Serve(f.ctx, conn)
	})
	return near, nil
}

// speaks reports whether input is there already.
func speaks(conn net.Conn) bool {
	conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	n, _ := conn.Read(make([]byte, 1))
	conn.SetReadDeadline(time.Time{})
	return n > 0
}

// fetch posts a message and calls for it; it returns how many round trips passed from dialing to its first octet.
func (f *faraway) fetch(t *testing.T) float64 {
	t.Helper()
	f.post(letter{"hello", "hello\r\n", []string{"a@clinic.example"}})
	start := time.Now()
	if _, err := f.customer.Call(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return float64(f.arrival.at.Sub(start)) / float64(rtt)
}

func (f *faraway) finish() {
	f.stop()
	f.serving.Wait()
}

// TestRoundTrips counts from dialing to the first octet of mail, in the order of the RFC and between two of us who have met before.
func TestRoundTrips(t *testing.T) {
	certificate() // outside of the bubble
	for _, c := range []struct {
		name, mode    string
		external      bool
		first, second float64 // at most
	}{
		{"SCRAM, TLS first", "implicit", false, 10, 7},
		{"EXTERNAL, TLS first", "implicit", true, 8, 5},
		{"SCRAM, STARTTLS", "required", false, 13, 10},
		{"EXTERNAL, STARTTLS", "required", true, 11, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFaraway(t, c.mode, c.external)
				defer f.finish()
				const slack = 0.05 // looks for input behind a command take a millisecond each
				for call, most := range []float64{c.first, c.second, c.second} {
					if trips := f.fetch(t); trips > most+slack {
						t.Errorf("call %d: %.2f round trips, at most %v", call+1, trips, most)
					} else {
						t.Logf("call %d: %.2f round trips", call+1, trips)
					}
				}
				if f.dials != 3 {
					t.Errorf("%d connections for 3 calls", f.dials)
				}
				if c.mode == "implicit" && f.resumed.Load() != 2 {
					t.Errorf("%d TLS sessions of 2 were resumed", f.resumed.Load())
				}
			})
		})
	}
}

// TestCertificateFirst: with both, the certificate logs in and saves its round trips; where it is not known, or not any more, the password does,
// in the same call, and the next call does not try again.
func TestCertificateFirst(t *testing.T) {
	certificate()
	for _, mode := range []string{"implicit", "required"} {
		synctest.Test(t, func(t *testing.T) {
			f := newFaraway(t, mode, true)
			defer f.finish()
			f.customer.Config.Username, f.customer.Config.Password, f.customer.Config.Certificate = "foobar.net", "ahoy", true
			known := f.auth.Accounts.(oneAccount)
			unknown := known
			unknown.noKey = true
			most := map[string][]float64{"implicit": {8, 5, 15, 7, 7}, "required": {11, 8, 22, 10, 10}}[mode]
			for call, accounts := range []oneAccount{known, known, unknown, unknown, unknown} {
				f.auth.Accounts, f.dials = accounts, 0
				trips, again := f.fetch(t), call == 2
				t.Logf("%s, call %d: %.2f round trips", mode, call+1, trips)
				if trips > most[call]+0.05 {
					t.Errorf("%s, call %d: %.2f round trips, at most %v", mode, call+1, trips, most[call])
				}
				if again != (f.dials == 2) {
					t.Errorf("%s, call %d: %d connections", mode, call+1, f.dials)
				}
			}
			f.customer.forget()
			f.dials = 0
			if trips := f.fetch(t); trips > most[0]+3.05 || f.dials != 1 { // EXTERNAL fails, SCRAM follows on the same connection
				t.Errorf("%s, a stranger's first call: %.2f round trips, %d connections", mode, trips, f.dials)
			}
		})
	}
}

// TestAheadFallsBack: a provider that is not what it was is asked once more, in the order of the RFC, in the same call.
func TestAheadFallsBack(t *testing.T) {
	certificate()
	for _, c := range []struct {
		name   string
		change func(*faraway)
		dials  int
		want   error
	}{
		{"it is the same", func(*faraway) {}, 1, nil},
		{"other mechanisms", func(f *faraway) { f.auth.Allowed = []string{sasl.PLAIN} }, 2, nil},
		{"more mechanisms", func(f *faraway) { f.auth.Allowed = sasl.All() }, 2, nil},
		{"one that hangs up on who talks early", func(f *faraway) { f.strict = true }, 2, nil},
		{"another password", func(f *faraway) {
			f.auth.Accounts = oneAccount{verifier: sasl.Verifier{Account: "foobar.net", Salt: []byte("salt"), Iterations: 4096, Keys: sasl.Keys{StoredKey: []byte("?"), ServerKey: []byte("?")}}}
		}, 1, ErrDenied},
		{"TLS 1.2 only", func(f *faraway) { f.tls.MaxVersion = tls.VersionTLS12 }, 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFaraway(t, "implicit", false)
				defer f.finish()
				f.fetch(t)
				f.dials = 0
				c.change(f)
				f.post(letter{"again", "again\r\n", []string{"a@clinic.example"}})
				report, err := f.customer.Call(t.Context(), nil)
				if !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
				if (err == nil) != (report.Messages == 1) {
					t.Errorf("%d messages came", report.Messages)
				}
				if f.dials != c.dials {
					t.Errorf("%d connections, want %d", f.dials, c.dials)
				}
			})
		})
	}
}
