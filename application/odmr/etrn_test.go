package odmr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/lib/sim"
)

// Held implements Hosts.
func (c customers) Held(domain string) (account string, ok bool) {
	for account, customer := range c {
		for _, d := range customer.Domains {
			if d == domain {
				return account, true
			}
		}
	}
	return "", false
}

func (g *guarded) Held(domain string) (account string, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.customers.Held(domain)
}

var _ Hosts = (*directory.Directory)(nil)

// TestEtrnNodes: whose mail is started, and what is said (RFC 1985 §5.1, §5.3).
func TestEtrnNodes(t *testing.T) {
	known := customers{
		"clinic": {Account: "clinic", Host: "mail.clinic.example:25", Domains: []string{"clinic.example", "lab.clinic.example", "clinic.example.net"}},
		"light":  {Account: "light", Domains: []string{"light.example"}},
	}
	for _, c := range []struct{ node, want, domains string }{
		{"clinic.example", "250 2.0.0 OK, queuing for node clinic.example started", "clinic.example"},
		{"Lab.Clinic.Example", "250", "lab.clinic.example"},
		{"@clinic.example", "250", "clinic.example lab.clinic.example"},
		{"@lab.clinic.example", "250", "lab.clinic.example"},
		{"#clinic", "250", "clinic.example lab.clinic.example clinic.example.net"},
		{"@example", "459", ""},
		{"evilclinic.example", "459", ""},
		{"clinic.example.evil.example", "459", ""},
		{"light.example", "459 4.7.1 Node light.example not allowed: no host to deliver to is known for it", ""},
		{"#light", "459", ""},
		{"#nobody", "459", ""},
		{"#", "459", ""},
	} {
		s := &Starter{Directory: known}
		reply := s.Etrn(t.Context(), &smtp.Session{}, c.node)
		got := ""
		select {
		case a := <-s.asked:
			got = strings.Join(a.domains, " ")
		default:
		}
		if !strings.HasPrefix(reply.Error(), c.want) || got != c.domains {
			t.Errorf("%s: %v, %q", c.node, reply, got)
		}
		if again := s.Etrn(t.Context(), &smtp.Session{}, c.node); reply.Code == 250 && again.Code != 458 {
			t.Errorf("%s, again at once: %v", c.node, again)
		}
	}
}

// TestEtrn: what waits goes to the customer's host, and nothing of others; a session in the seat of one that called keeps it.
func TestEtrn(t *testing.T) {
	certificate() // outside of the bubble
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		x.set(func(c *directory.Customer) { c.Host = "mail.clinic.example:25" })
		var dials atomic.Int32
		var refuse atomic.Bool
		starter := &Starter{
			Provider: func() *Provider { return x.provider }, Directory: x.provider.Directory.(*guarded),
			Dial: func(_ context.Context, _, address string) (net.Conn, error) {
				if dials.Add(1); address != "mail.clinic.example:25" || refuse.Load() {
					return nil, errors.New("nobody there")
				}
				near, far := sim.Pipe(sim.Path{Delay: time.Second})
				host := &smtp.Server{Hostname: "clinic.example", TLS: serverTLS(), Accept: x, Policy: gate{nil, mine, nil, func() {}}}
				go func() { _ = host.Serve(context.Background(), smtp.NewConn(near)); near.Close() }()
				return far, nil
			},
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- starter.Run(ctx) }()
		ask := func(code int) {
			t.Helper()
			if r := starter.Etrn(ctx, &smtp.Session{}, "#foobar.net"); r.Code != code {
				t.Errorf("%v, want %d", r, code)
			}
		}
		ask(250)
		ask(458)
		time.Sleep(time.Minute)
		if x.arrived("one") != 1 || x.arrived("three") != 1 || x.arrived("four") != 0 {
			t.Errorf("%q", x.arrivals)
		}
		refuse.Store(true)
		ask(250) // nobody is there: all stays
		time.Sleep(time.Minute)
		refuse.Store(false)
		ask(250) // what was put off
		time.Sleep(time.Minute)
		if x.arrived("four") != 1 || dials.Load() != 3 {
			t.Errorf("%q after %d calls", x.arrivals, dials.Load())
		}
		ask(250)
		time.Sleep(time.Minute)
		if dials.Load() != 3 {
			t.Error("it called for nothing")
		}
		x.lingering(time.Hour)
		end := run(x.customer())
		time.Sleep(10 * time.Second)
		if st := x.provider.own.Status("foobar.net"); st.State != StateLingering {
			t.Fatalf("%+v", st)
		}
		x.set(func(c *directory.Customer) { c.Linger = 0 })
		x.later("push", "a@clinic.example")
		ask(250)
		time.Sleep(time.Minute)
		if x.arrived("push") != 1 {
			t.Errorf("%q", x.arrivals)
		}
		end()
		x.serving.Wait()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		x.duplicates()
	})
}

// TestEtrnRequireTLS: RFC 8689 §4.2.1: what requires TLS with a server that proves who it is does not go to a host that proves nothing, though that
// promises REQUIRETLS; it waits for the customer's own call. All else goes.
func TestEtrnRequireTLS(t *testing.T) {
	certificate() // outside of the bubble
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		x.set(func(c *directory.Customer) { c.Host = "mail.clinic.example:25" })
		secret := &message.Envelope{
			ID: message.NewID(time.Now()), ReversePath: address(t, "a@sender.example"), RequireTLS: true,
			Recipients: []message.Recipient{{Address: address(t, "a@clinic.example")}},
		}
		if err := x.hold.Accept(t.Context(), secret, strings.NewReader("Subject: secret\r\n\r\nsecret\r\n")); err != nil {
			t.Fatal(err)
		}
		starter := &Starter{
			Provider: func() *Provider { return x.provider }, Directory: x.provider.Directory.(*guarded),
			Dial: func(context.Context, string, string) (net.Conn, error) {
				near, far := sim.Pipe(sim.Path{Delay: time.Second})
				host := &smtp.Server{
					Hostname: "clinic.example", TLS: serverTLS(), Accept: x, Policy: gate{nil, mine, nil, func() {}}, Offer: smtp.Offer{RequireTLS: true},
				}
				go func() { _ = host.Serve(context.Background(), smtp.NewConn(near)); near.Close() }()
				return far, nil
			},
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- starter.Run(ctx) }()
		if r := starter.Etrn(ctx, &smtp.Session{}, "#foobar.net"); r.Code != 250 {
			t.Error(r)
		}
		time.Sleep(time.Minute)
		if _, all := x.hold.Waiting(lane("clinic.example")); x.arrived("one") != 1 || x.arrived("secret") != 0 || all != 2 { // "four", which is refused at first, waits too
			t.Errorf("%q, %d wait", x.arrivals, all)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestProves(t *testing.T) {
	_, pem := certificate()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	near, far := net.Pipe()
	defer near.Close()
	go func() { _ = tls.Server(far, serverTLS()).Handshake(); far.Close() }()
	conn := tls.Client(near, &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	state := conn.ConnectionState()
	if !proves(&state, "provider.example", roots) || proves(&state, "mail.clinic.example", roots) || proves(&state, "provider.example", x509.NewCertPool()) {
		t.Error("what a certificate proves is misread")
	}
}
