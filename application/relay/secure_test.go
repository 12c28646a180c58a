package relay

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/relay/dane"
	"bothy/application/smtp"
)

// spki is the record that most domains publish: 3 1 1.
func spki(cert *x509.Certificate) dane.Record {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return dane.Record{Usage: dane.EndEntity, Selector: dane.SPKI, Matching: dane.SHA256, Data: sum[:]}
}

// anchor is 2 0 1 of an authority.
func anchor(cert *x509.Certificate) dane.Record {
	sum := sha256.Sum256(cert.Raw)
	return dane.Record{Usage: dane.TrustAnchor, Selector: dane.Cert, Matching: dane.SHA256, Data: sum[:]}
}

// signed is oneExchanger in signed zones, with TLSA records for its exchanger.
func signed(records ...dane.Record) Static {
	s := oneExchanger
	s.Secure = map[string]bool{"far.example": true, "a.far.example": true}
	s.TLSAs = map[string][]dane.Record{"_25._tcp.a.far.example": records}
	return s
}

// noTLSA is a resolver that gets no answer about TLSA records.
type noTLSA struct{ Static }

func (noTLSA) TLSA(context.Context, string) ([]dane.Record, error) {
	return nil, errors.New("answered SERVFAIL")
}

func TestDANE(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	chained := func(a *authority, name string) tls.Certificate {
		cert := a.issue(t, name)
		cert.Certificate = append(cert.Certificate, a.cert.Raw) // RFC 7672 §3.1.2: the trust anchor is sent
		return cert
	}
	right, other := chained(ca, "a.far.example"), chained(ca, "what.ever.example")
	domain := chained(ca, "far.example")
	unusable := dane.Record{Usage: 1, Selector: 1, Matching: 1, Data: spki(right.Leaf).Data}
	insecureMX := signed(spki(other.Leaf))
	insecureMX.Secure = map[string]bool{"a.far.example": true}
	insecureHost := signed(spki(other.Leaf))
	insecureHost.Secure = map[string]bool{"far.example": true}
	for _, test := range []struct {
		name     string
		resolver Resolver
		cert     *tls.Certificate // nil: no STARTTLS
		text     string           // of the deferral; empty: sent
		secured  bool
	}{
		{"3 1 1 matches", signed(spki(right.Leaf)), &right, "", true},
		{"3 1 1 matches, whatever the name", signed(spki(other.Leaf)), &other, "", true},
		{"3 1 1 of another key", signed(spki(other.Leaf)), &right, "4.7.5 no verified TLS", false},
		{"3 1 1 without STARTTLS", signed(spki(right.Leaf)), nil, "4.7.10", false},
		{"2 0 1 names the exchanger", signed(anchor(ca.cert)), &right, "", true},
		{"2 0 1 names the domain", signed(anchor(ca.cert)), &domain, "", true},
		{"2 0 1 names another", signed(anchor(ca.cert)), &other, "4.7.5 no verified TLS", false},
		{"2 0 1 of another authority", signed(anchor(stranger.cert)), &right, "4.7.5 no verified TLS", false},
		{"unusable records want TLS", signed(unusable), &other, "", true},
		{"unusable records without STARTTLS", signed(unusable), nil, "4.7.10", false},
		{"a usable one beside it counts", signed(unusable, spki(right.Leaf)), &other, "4.7.5", false},
		{"no records", signed(), nil, "", false},
		{"insecure MX records", insecureMX, nil, "", false},
		{"insecure addresses", insecureHost, nil, "", false},
		{"no answer about them", noTLSA{signed()}, &right, "4.4.3 DNS did not say", false},
		{"no answer, but the addresses are insecure", noTLSA{oneExchanger}, &right, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				x := newRemote(nil)
				var sni atomic.Value
				if test.cert != nil {
					x.server.TLS = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
						sni.Store(hello.ServerName)
						return test.cert, nil
					}}
				}
				g := newRig(t, at(x), Options{Resolver: test.resolver}, Config{})
				defer g.stop()
				g.accept("hello", "bob@far.example")
				pass(time.Minute)
				if test.text != "" {
					if got := g.lastReply(); got[0] != '4' || !strings.Contains(got, test.text) || x.taken() != "" {
						t.Errorf("the operator reads %q", got)
					}
					return
				}
				if got := x.taken(); got != "hello bob" || x.secured.Load() != test.secured {
					t.Errorf("came: %q, TLS: %v, last reply %q", got, x.secured.Load(), g.lastReply())
				}
				if test.secured && sni.Load() != "a.far.example" { // RFC 7672 §8.1
					t.Errorf("asked for the certificate of %q", sni.Load())
				}
			})
		})
	}
}

// TestDANERefusedSTARTTLS: a server that offers STARTTLS and then refuses it gets nothing in the clear (RFC 7672 §2.2).
func TestDANERefusedSTARTTLS(t *testing.T) {
	bubble(t, func(t *testing.T) {
		said := script("220 a.far.example ESMTP", "250-a.far.example\r\n250 STARTTLS", "454 4.7.0 not now", "250 ok", "250 ok", "354 go")
		n := &internet{servers: map[string]func(net.Conn){"192.0.2.1:25": said}}
		g := newRig(t, n, Options{Resolver: signed(spki(newAuthority(t).cert))}, Config{})
		defer g.stop()
		g.accept("hello", "bob@far.example")
		pass(time.Minute)
		if got := g.lastReply(); !strings.Contains(got, "4.7.10 192.0.2.1:25 refuses STARTTLS, which is required") {
			t.Errorf("the operator reads %q", got)
		}
	})
}

// TestDANEResumed: a session that was resumed must fit the records of now (RFC 7672 §3), as one that is new; and what somebody began without
// proof is not taken for proof later.
func TestDANEResumed(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "a.far.example")
	for name, began := range map[string]Static{"by other records": signed(spki(cert.Leaf)), "by none": signed()} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				x := newRemote(nil)
				x.server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
				g := newRig(t, at(x), Options{Resolver: began}, Config{})
				defer g.stop()
				g.accept("hello", "bob@far.example")
				pass(time.Minute)
				if got := x.taken(); got != "hello bob" || !x.secured.Load() {
					t.Fatalf("came: %q, last reply %q", got, g.lastReply())
				}
				began.TLSAs["_25._tcp.a.far.example"] = []dane.Record{spki(ca.cert)}
				g.accept("hello", "bob@far.example")
				pass(time.Minute)
				if got := x.taken(); got != "" || !strings.Contains(g.lastReply(), "4.7.5 no verified TLS") {
					t.Errorf("came: %q, last reply %q", got, g.lastReply())
				}
			})
		})
	}
}

// TestDANENextExchanger: one that fails its records is passed over like one that is not there (RFC 7672 §2.2).
func TestDANENextExchanger(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, "what.ever.example")
	bubble(t, func(t *testing.T) {
		x, y := newRemote(nil), newRemote(nil)
		x.server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "a.far.example")}}
		y.server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		resolver := Static{
			Exchangers: map[string][]MX{"far.example": {{10, "a.far.example"}, {20, "c.far.example"}}}, Addresses: world.Addresses,
			Secure: map[string]bool{"far.example": true, "a.far.example": true, "c.far.example": true},
			TLSAs:  map[string][]dane.Record{"_25._tcp.a.far.example": {spki(cert.Leaf)}, "_25._tcp.c.far.example": {spki(cert.Leaf)}},
		}
		n := &internet{servers: map[string]func(net.Conn){"192.0.2.1:25": x.serve, "192.0.2.3:25": y.serve}}
		g := newRig(t, n, Options{Resolver: resolver}, Config{})
		defer g.stop()
		g.accept("hello", "bob@far.example")
		pass(time.Minute)
		if x.taken() != "" || y.taken() != "hello bob" {
			t.Errorf("last reply %q", g.lastReply())
		}
	})
}

// TestTLSABase: RFC 7672 §2.2.2, §2.2.3: which names are asked for.
func TestTLSABase(t *testing.T) {
	record := dane.Record{Usage: 3, Selector: 1, Matching: 1, Data: make([]byte, 32)}
	r := newRelay(t, Options{Resolver: Static{TLSAs: map[string][]dane.Record{
		"_25._tcp.real.example": {record}, "_25._tcp.mx.example": {record}, "_25._tcp.only.example": {record},
		"_25._tcp.other.example": {{Usage: 1, Selector: 1, Matching: 1, Data: make([]byte, 32)}},
	}}}, Config{}, "")
	secure := Origin{Name: "far.example", Secure: true}
	for _, test := range []struct {
		host   string
		mx     Origin
		origin Origin
		base   string
	}{
		{"mx.example", secure, Origin{"mx.example", true, false}, "mx.example"},
		{"mx.example", secure, Origin{"real.example", true, false}, "real.example"},
		{"only.example", secure, Origin{"bare.example", true, false}, "only.example"},
		{"mx.example", secure, Origin{"real.example", false, true}, "mx.example"},
		{"mx.example", secure, Origin{"other.example", true, false}, "other.example"},
		{"mx.example", secure, Origin{"real.example", false, false}, ""},
		{"mx.example", Origin{Name: "far.example"}, Origin{"mx.example", true, false}, ""},
		{"bare.example", secure, Origin{"bare.example", true, false}, ""},
	} {
		got, base, err := r.tlsa(t.Context(), r.set.Load(), exchanger{host: test.host, mx: test.mx, origin: test.origin})
		if err != nil || base != test.base || (len(got) > 0) != (test.base != "") {
			t.Errorf("%s %+v: %v at %q, %v", test.host, test.origin, got, base, err)
		}
		h, f := r.secure(t.Context(), r.set.Load(), exchanger{host: test.host, mx: test.mx, origin: test.origin}, nil, ordinary)
		if f != nil || h.sni != cmp.Or(test.base, test.host) || h.mandatory() != (test.base != "") { // RFC 7672 §8.1
			t.Errorf("%s %+v: asks for the certificate of %q, %v", test.host, test.origin, h.sni, f)
		}
		if h = h.strictly(); h.tls == tlsRequired && h.sni != test.host { // RFC 8689 §4.2.1: the name in the MX record
			t.Errorf("%s %+v: required of %q", test.host, test.origin, h.sni)
		}
	}
	x := exchanger{host: "mx.example", domain: "alias.example", mx: Origin{Name: "far.example"}}
	if got := fmt.Sprint(x.names("mx.example")); got != "[mx.example alias.example far.example]" { // RFC 7672 §3.2.2
		t.Errorf("names %s", got)
	}
}

// policyHost serves text over TLS with cert, one request a connection.
func policyHost(cert tls.Certificate, text string, asked *atomic.Int32) func(net.Conn) {
	return func(conn net.Conn) {
		tc := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
		if _, err := http.ReadRequest(bufio.NewReader(tc)); err == nil {
			asked.Add(1)
			fmt.Fprintf(tc, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
		tc.Close()
	}
}

func TestMTASTS(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	right, other := ca.issue(t, "a.far.example"), ca.issue(t, "what.ever.example")
	unknown := stranger.issue(t, "a.far.example")
	policy := func(mode, mx string) string {
		return "version: STSv1\nmode: " + mode + "\nmx: " + mx + "\nmax_age: 86400\n"
	}
	withTLSA := func(cert tls.Certificate) func(*Static) {
		return func(s *Static) {
			s.Secure, s.TLSAs = signed().Secure, signed(spki(cert.Leaf)).TLSAs
		}
	}
	unusable := func(s *Static) {
		s.Secure, s.TLSAs = signed().Secure, signed(dane.Record{Usage: 1, Selector: 1, Matching: 1, Data: spki(right.Leaf).Data}).TLSAs
	}
	for _, test := range []struct {
		name    string
		policy  string
		cert    *tls.Certificate
		change  func(*Static)
		cfg     Config
		text    string // of the deferral; empty: sent
		secured bool
	}{
		{"enforce", policy("enforce", "a.far.example"), &right, nil, Config{}, "", true},
		{"enforce by wildcard", policy("enforce", "*.far.example"), &right, nil, Config{}, "", true},
		{"enforce, another name", policy("enforce", "a.far.example"), &other, nil, Config{}, "4.7.5 no verified TLS", false},
		{"enforce, nobody's authority", policy("enforce", "a.far.example"), &unknown, nil, Config{}, "4.7.5 no verified TLS", false},
		{"enforce, no STARTTLS", policy("enforce", "a.far.example"), nil, nil, Config{}, "does not offer STARTTLS", false},
		{"enforce, another exchanger", policy("enforce", "b.far.example"), &right, nil, Config{}, "does not name its exchanger a.far.example", false},
		{"testing, another exchanger", policy("testing", "b.far.example"), &right, nil, Config{}, "", true},
		{"testing, another name", policy("testing", "a.far.example"), &other, nil, Config{}, "", true},
		{"testing, no STARTTLS", policy("testing", "a.far.example"), nil, nil, Config{}, "", false},
		{"none", policy("none", "b.far.example"), nil, nil, Config{}, "", false},
		{"no policy, other certificate", "", &other, nil, Config{}, "", true},
		{"the operator wants none of it", policy("enforce", "b.far.example"), nil, nil, Config{MTASTS: "off"}, "", false},
		{"the operator knows better", policy("enforce", "b.far.example"), nil, nil, Config{NextHops: map[string]NextHop{"far.example": {TLS: tlsOpportunistic}}}, "", false},
		{"the operator demands it himself", "", &other, nil, Config{NextHops: map[string]NextHop{"far.example": {TLS: tlsRequired}}}, "4.7.5 no verified TLS", false},
		// RFC 8461 §2: a policy does not overrule TLSA records, be it to allow or to refuse.
		{"TLSA fails, enforce holds", policy("enforce", "a.far.example"), &right, withTLSA(other), Config{}, "4.7.5 no verified TLS", false},
		{"TLSA holds, nobody's authority", policy("enforce", "a.far.example"), &unknown, withTLSA(unknown), Config{}, "", true},
		// RFC 8461 §5: a record that says nothing does not relieve of the policy.
		{"TLSA unusable, enforce holds", policy("enforce", "a.far.example"), &right, unusable, Config{}, "", true},
		{"TLSA unusable, enforce fails", policy("enforce", "a.far.example"), &unknown, unusable, Config{}, "4.7.5 no verified TLS", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				x := newRemote(nil)
				if test.cert != nil {
					x.server.TLS = &tls.Config{Certificates: []tls.Certificate{*test.cert}}
				}
				n, asked := at(x), new(atomic.Int32)
				n.servers["192.0.2.80:443"] = policyHost(ca.issue(t, "mta-sts.far.example"), test.policy, asked)
				resolver := oneExchanger
				resolver.Addresses = map[string][]netip.Addr{"a.far.example": addrs("192.0.2.1"), "mta-sts.far.example": addrs("192.0.2.80")}
				if test.policy != "" {
					resolver.Texts = map[string][]string{"_mta-sts.far.example": {"v=STSv1; id=1"}}
				}
				if test.change != nil {
					test.change(&resolver)
				}
				var log strings.Builder
				o := Options{Resolver: resolver, Policies: t.TempDir(), TLS: &tls.Config{RootCAs: ca.pool}, Log: slog.New(slog.NewTextHandler(&log, nil))}
				g := newRig(t, n, o, test.cfg)
				defer g.stop()
				g.accept("hello", "bob@far.example")
				pass(time.Minute)
				if test.text != "" {
					if got := g.lastReply(); got == "" || got[0] != '4' || !strings.Contains(got, test.text) || x.taken() != "" {
						t.Errorf("the operator reads %q", got)
					}
				} else if got := x.taken(); got != "hello bob" || x.secured.Load() != test.secured {
					t.Errorf("came: %q, TLS: %v, last reply %q", got, x.secured.Load(), g.lastReply())
				}
				pass(24 * time.Hour)
				if got := g.failures(); got != "" { // RFC 8461 §5: transient
					t.Errorf("given up: %s", got)
				}
				if got := asked.Load(); got > 2 || got > 0 && len(test.cfg.NextHops) > 0 {
					t.Errorf("%d fetches", got)
				}
				// RFC 8461 §5: what goes though the policy does not hold is noted, and so is nothing else.
				noted := strings.HasPrefix(test.name, "testing, ")
				if got := log.String(); strings.Contains(got, "MTA-STS policy in testing") != noted {
					t.Errorf("noted: %s", got)
				}
			})
		})
	}
}

// TestMTASTSResumed: a session begun when the domain had no policy, with a certificate of nobody's authority, is no proof once it has one.
func TestMTASTSResumed(t *testing.T) {
	ca := newAuthority(t)
	unknown := newAuthority(t).issue(t, "a.far.example")
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		x.server.TLS = &tls.Config{Certificates: []tls.Certificate{unknown}}
		n := at(x)
		n.servers["192.0.2.80:443"] = policyHost(ca.issue(t, "mta-sts.far.example"), "version: STSv1\nmode: enforce\nmx: a.far.example\nmax_age: 86400\n", new(atomic.Int32))
		resolver := oneExchanger
		resolver.Addresses = map[string][]netip.Addr{"a.far.example": addrs("192.0.2.1"), "mta-sts.far.example": addrs("192.0.2.80")}
		resolver.Texts = map[string][]string{}
		g := newRig(t, n, Options{Resolver: resolver, Policies: t.TempDir(), TLS: &tls.Config{RootCAs: ca.pool}}, Config{})
		defer g.stop()
		g.accept("hello", "bob@far.example")
		pass(time.Minute)
		if got := x.taken(); got != "hello bob" || !x.secured.Load() {
			t.Fatalf("came: %q, last reply %q", got, g.lastReply())
		}
		resolver.Texts["_mta-sts.far.example"] = []string{"v=STSv1; id=1"}
		pass(time.Hour)
		g.accept("hello", "bob@far.example")
		pass(time.Minute)
		if got := x.taken(); got != "" || !strings.Contains(g.lastReply(), "4.7.5 no verified TLS") {
			t.Errorf("came: %q, last reply %q", got, g.lastReply())
		}
	})
}

// TestRealDANE: real sockets, a DNS server that says its answers are secure, and a certificate by nobody.
func TestRealDANE(t *testing.T) {
	cert := newAuthority(t).issue(t, "what.ever.example")
	for name, key := range map[string]*x509.Certificate{"the key": cert.Leaf, "another key": newAuthority(t).cert} {
		t.Run(name, func(t *testing.T) {
			x := newRemote(nil)
			x.server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
					x.serve(conn)
					conn.Close()
				}
			}()
			at := netip.MustParseAddrPort(l.Addr().String())
			server := nameserver(t, zone{
				"far.example MX":     {"AD", "far.example. 60 IN MX 10 a.far.example."},
				"a.far.example A":    {"AD", "a.far.example. 60 IN A 127.0.0.1"},
				"a.far.example AAAA": {"AD", soa},
				fmt.Sprintf("_%d._tcp.a.far.example TLSA", at.Port()): {
					"AD", fmt.Sprintf("_%d._tcp.a.far.example. 60 IN TLSA 3 1 1 %s", at.Port(), hex.EncodeToString(spki(key).Data)),
				},
			}.ServeDNS)
			q := openQueue(t, oneLane("mx/far.example"), nil)
			sent := make(chan string, 1)
			r, err := New(Options{
				Queue: q, Hostname: "light.example", Log: slog.New(slog.DiscardHandler), MXPort: at.Port(),
				Sent: func(_ queue.Lane, _ message.ID, _ message.Address, reply smtp.Reply) { sent <- reply.Error() },
			}, Config{DNS: []string{server}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- r.Run(ctx) }()
			env := &message.Envelope{ID: message.NewID(time.Now()), Recipients: []message.Recipient{{Address: message.Address{Local: "bob", Domain: "far.example"}}}}
			if err := q.Accept(t.Context(), env, strings.NewReader("Subject: x\r\n\r\nhello\r\n")); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-sent:
				if ok := strings.HasPrefix(got, "250"); ok != (name == "the key") || !ok && !strings.HasPrefix(got, "451 4.7.5") {
					t.Errorf("the reply is %q", got)
				}
			case <-time.After(10 * time.Second):
				t.Error("nothing was sent")
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if got := x.taken(); (got == "hello bob") != (name == "the key") {
				t.Errorf("it got %q", got)
			}
		})
	}
}
