package relay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/sasl"
	"bothy/application/smtp"
)

// bubble runs a test of a rig: time is simulated.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// at is an internet with x on the exchanger of far.example and on the smarthost.
func at(x *remote) *internet {
	return &internet{servers: map[string]func(net.Conn){"192.0.2.1:25": x.serve, "mail.provider.example:587": x.serve}}
}

var plainConfig = Config{TLS: tlsNone}

func TestVerdictsByRecipient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(map[string]smtp.Reply{
			"carol": {Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "who?"},
			"dave":  {Code: 450, Enhanced: [3]int{4, 2, 0}, Text: "come back"},
		})
		g := newRig(t, at(x), Options{}, plainConfig)
		defer g.stop()
		g.accept("hello", "bob@far.example carol@far.example dave@far.example erin@far.example")
		pass(time.Second)
		g.expect("far.example bob 250, far.example carol 550, far.example dave 450, far.example erin 250")
		if got := x.taken(); got != "hello bob erin" {
			t.Errorf("the exchanger got %q", got)
		}
		if got := g.failures(); got != "carol@far.example 5.1.1" {
			t.Errorf("failed: %q", got)
		}
		g.left("mx/far.example", 0, 1)

		x.relent("dave") // greylisting: RetryAfter(1) later it passes
		pass(5*time.Minute - 2*time.Second)
		g.expect("")
		pass(3 * time.Second)
		g.expect("far.example dave 250")
		g.left("mx/far.example", 0, 0)
	})
}

// TestReuse: a burst pays for one handshake, mail within Idle too; then the connection is closed.
func TestReuse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		g := newRig(t, at(x), Options{}, plainConfig)
		defer g.stop()
		for _, text := range []string{"one", "two", "three"} {
			g.accept(text, "bob@home.example")
		}
		pass(9 * time.Second)
		g.accept("four", "bob@home.example")
		pass(9 * time.Second)
		if got := x.taken(); got != "one bob, two bob, three bob, four bob" {
			t.Errorf("got %q, oldest first", got)
		}
		if got := g.net.dials(); got != "mail.provider.example:587" {
			t.Errorf("dialled %s", got)
		}
		pass(2 * time.Second)
		g.accept("five", "bob@home.example")
		pass(time.Second)
		if got := g.net.dials(); got != "mail.provider.example:587" || x.taken() != "five bob" {
			t.Errorf("after Idle: dialled %q", got)
		}
	})
}

// TestIdleSessionLost: a server that hung up while we kept the session costs the message nothing.
func TestIdleSessionLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		x.server.Limits.CommandTimeout = 5 * time.Second
		g := newRig(t, at(x), Options{}, plainConfig)
		defer g.stop()
		g.accept("one", "bob@home.example")
		pass(7 * time.Second)
		g.accept("two", "bob@home.example")
		pass(time.Second)
		g.expect("mail.provider.example:587 bob 250, mail.provider.example:587 bob 250")
	})
}

// TestNeverPermanent: what passes is deferred with a text that says what to mend, and still there after many tries.
func TestNeverPermanent(t *testing.T) {
	ca := newAuthority(t)
	cert, wrong := ca.issue(t, "mail.provider.example"), ca.issue(t, "mail.other.example")
	hop, mx := "mail.provider.example:587", "192.0.2.1:25"
	secure := func(cert tls.Certificate, auth smtp.Authenticator) func(net.Conn) {
		x := newRemote(nil)
		x.server.TLS, x.server.Auth = &tls.Config{Certificates: []tls.Certificate{cert}}, auth
		return x.serve
	}
	login := Config{Username: "site", Password: "secret"}
	for _, test := range []struct {
		name  string
		to    string
		serve func(net.Conn)
		err   error
		cfg   Config
		text  string
	}{
		{"exchanger silent", "bob@far.example", nil, nil, plainConfig, "4.4.1 cannot reach 192.0.2.1:25"},
		{"exchanger refuses connections", "bob@far.example", nil, syscall.ECONNREFUSED, plainConfig, "connection refused"},
		{"no route", "bob@far.example", nil, syscall.ENETUNREACH, plainConfig, "network is unreachable"},
		{"hangs up at once", "bob@far.example", func(net.Conn) {}, nil, plainConfig, "4.4.2"},
		{"busy greeting", "bob@far.example", script("421 4.3.2 too many connections"), nil, plainConfig, "421 4.3.2"},
		{"no SMTP", "bob@far.example", script("SSH-2.0-OpenSSH_9.2"), nil, plainConfig, "4."},
		{"hangs up after EHLO", "bob@far.example", script("220 hi", "250 hi"), nil, plainConfig, "4.4.2"},
		{"MAIL deferred", "bob@far.example", script("220 hi", "250 hi", "451 4.3.0 later", "221 bye"), nil, plainConfig, "451 4.3.0"},
		{"smarthost refuses us", "bob@home.example", script("554 5.7.1 your network is listed", "221 bye"), nil, plainConfig, "554 5.7.1 your network is listed"},
		{"smarthost without STARTTLS", "bob@home.example", script("220 hi", "250 hi", "221 bye"), nil, Config{}, "does not offer STARTTLS"},
		{"smarthost's certificate by nobody", "bob@home.example", secure(cert, nil), nil, Config{}, "ca_file"},
		{"smarthost's certificate for another", "bob@home.example", secure(wrong, nil), nil, Config{CAFile: "ca"}, "4.7.5 no verified TLS"},
		{"smarthost without AUTH", "bob@home.example", secure(cert, nil), nil, Config{CAFile: "ca", Username: "site", Password: "x"}, "does not offer AUTH"},
		{"smarthost's password wrong", "bob@home.example", secure(cert, accounts("site", "other")), nil, Config{CAFile: "ca", Username: "site", Password: "x"}, "refuses the login of \"site\": 535"},
		{"smarthost would see the password", "bob@home.example", script("220 hi", "250-hi\r\n250 AUTH PLAIN LOGIN", "221 bye"), nil, Config{TLS: tlsNone, Username: "site", Password: "x"}, "no way to log in"},
		{"smarthost wants AUTH", "bob@home.example", script("220 hi", "250 hi", "530 5.7.0 log in first", "221 bye"), nil, plainConfig, "530 5.7.0"},
		{"smarthost not verified may not see the password", "bob@home.example", secure(wrong, &sasl.Authenticator{Accounts: oneAccount{"site", "x"}, Allowed: []string{"PLAIN"}}), nil, Config{TLS: tlsOpportunistic, Username: "site", Password: "x"}, "no way to log in"},
		{"nobody may take the password", "bob@home.example", secure(wrong, accounts("site", "x")), nil, func() Config { c := login; c.TLS = tlsRequired; return c }(), "4.7.5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := &internet{servers: map[string]func(net.Conn){}, errs: map[string]error{}}
				if test.serve != nil {
					n.servers[hop], n.servers[mx] = test.serve, test.serve
				}
				if test.err != nil {
					n.errs[hop], n.errs[mx] = test.err, test.err
				}
				o := Options{Resolver: oneExchanger, TLS: new(tls.Config)}
				if test.cfg.CAFile != "" { // stands for the file
					test.cfg.CAFile, o.TLS.RootCAs = "", ca.pool
				}
				g := newRig(t, n, o, test.cfg)
				defer g.stop()
				g.accept("hello", test.to)
				pass(24 * time.Hour)
				g.mu.Lock()
				tries := len(g.sent)
				g.mu.Unlock()
				if tries < 10 || tries > 16 {
					t.Errorf("%d tries in a day", tries)
				}
				if got := g.failures(); got != "" {
					t.Errorf("given up: %s", got)
				}
				if got := g.lastReply(); got == "" || got[0] != '4' && test.text != "530 5.7.0" || !strings.Contains(got, test.text) {
					t.Errorf("the operator reads %q, want %q in it", got, test.text)
				}
			})
		})
	}
}

// oneExchanger is a world with one exchanger at one address.
var oneExchanger = Static{
	Exchangers: map[string][]MX{"far.example": {{10, "a.far.example"}}},
	Addresses:  map[string][]netip.Addr{"a.far.example": addrs("192.0.2.1")},
}

// accounts authenticates one account.
func accounts(name, password string) smtp.Authenticator {
	return &sasl.Authenticator{Accounts: oneAccount{name, password}, Hostname: "mail.provider.example"}
}

func TestPermanent(t *testing.T) {
	refuse := script("554 no SMTP service here", "221 bye")
	never := script("521 host does not accept mail")
	for _, test := range []struct {
		to, failed string
		servers    map[string]func(net.Conn)
	}{
		{"bob@nowhere.example", "bob@nowhere.example 5.1.2", nil},
		{"bob@null.example", "bob@null.example 5.1.10", nil},
		{"bob@empty.example", "bob@empty.example 5.4.4", nil},
		{"bob@loop.example", "bob@loop.example 5.4.6", nil},
		// Every exchanger refuses: RFC 5321 §3.1, RFC 7504 §3.
		{"bob@far.example", "bob@far.example 0.0.0", map[string]func(net.Conn){"192.0.2.1:25": refuse, "[2001:db8::2]:25": never, "192.0.2.3:25": refuse}},
		{"bob@plain.example", "bob@plain.example 0.0.0", map[string]func(net.Conn){"192.0.2.9:25": never}},
	} {
		t.Run(test.to, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newRig(t, &internet{servers: test.servers}, Options{}, plainConfig)
				defer g.stop()
				g.accept("hello", test.to)
				pass(time.Minute)
				if got := g.failures(); got != test.failed {
					t.Errorf("failed: %q, want %q", got, test.failed)
				}
			})
		})
	}
}

// TestNextExchanger: one that refuses, is silent or hangs up is passed over (RFC 5321 §5.1).
func TestNextExchanger(t *testing.T) {
	for name, first := range map[string]func(net.Conn){
		"silent": nil, "554": script("554 go away", "221 bye"), "421": script("421 busy"), "hangs up": func(net.Conn) {},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				x := newRemote(nil)
				n := &internet{servers: map[string]func(net.Conn){"192.0.2.1:25": first, "192.0.2.2:25": x.serve}, errs: map[string]error{"[2001:db8::2]:25": syscall.ENETUNREACH}}
				g := newRig(t, n, Options{}, plainConfig)
				defer g.stop()
				g.accept("hello", "bob@far.example")
				pass(time.Minute)
				g.expect("far.example bob 250")
			})
		})
	}
}

// TestReusedSessionEnds: a session that the server ends after it carried mail proves nothing against the next message: it goes at once.
func TestReusedSessionEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mails atomic.Int32
		x := newRemote(nil)
		x.mail = func(s *smtp.Session) error {
			if mails.Add(1) == 2 {
				return smtp.Reply{Code: 421, Enhanced: [3]int{4, 7, 0}, Text: "enough for now"}
			}
			return nil
		}
		g := newRig(t, at(x), Options{}, plainConfig)
		defer g.stop()
		g.accept("one", "bob@home.example")
		g.accept("two", "bob@home.example")
		pass(5 * time.Second)
		if got := x.taken(); got != "one bob, two bob" {
			t.Errorf("got %q", got)
		}
	})
}

// TestOpportunisticTLS: RFC 7435: encrypted where it works, in the clear where it does not.
func TestOpportunisticTLS(t *testing.T) {
	ca := newAuthority(t)
	for _, test := range []struct {
		name    string
		tls     *tls.Config
		dials   string
		secured bool
	}{
		{"anybody's certificate", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "what.ever.example")}}, "192.0.2.1:25", true},
		{"broken", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "a.far.example")}, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return nil, errors.New("broken")
		}}, "192.0.2.1:25 192.0.2.1:25", false},
		{"none", nil, "192.0.2.1:25", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				x := newRemote(nil)
				x.server.TLS = test.tls
				g := newRig(t, at(x), Options{Resolver: oneExchanger}, Config{})
				defer g.stop()
				g.accept("hello", "bob@far.example")
				pass(time.Second)
				g.expect("far.example bob 250")
				if got := g.net.dials(); got != test.dials {
					t.Errorf("dialled %q", got)
				}
				if x.secured.Load() != test.secured {
					t.Errorf("TLS: %v", x.secured.Load())
				}
			})
		})
	}
}

// TestLoginIsForTheSmarthost: nobody else is shown the name or the password, and SCRAM needs no certificate.
func TestLoginIsForTheSmarthost(t *testing.T) {
	ca := newAuthority(t)
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		x.server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "what.ever.example")}}
		x.server.Auth = accounts("site", "secret")
		n := at(x)
		n.servers["192.168.1.5:25"] = x.serve
		g := newRig(t, n, Options{}, Config{TLS: tlsOpportunistic, Username: "site", Password: "secret"})
		defer g.stop()
		for to, want := range map[string]string{"bob@home.example": "site", "bob@lan.example": "", "bob@far.example": ""} {
			g.accept("hello", to)
			pass(20 * time.Second)
			if x.taken() != "hello bob" || x.identity() != want || !x.secured.Load() {
				t.Errorf("%s was sent as %q", to, x.identity())
			}
		}
	})
}

// TestSetMends: who corrects the password does not wait for the next attempt.
func TestSetMends(t *testing.T) {
	ca := newAuthority(t)
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		x.server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "mail.provider.example")}}
		x.server.Auth = accounts("site", "secret")
		cfg := Config{Username: "site", Password: "wrong"}
		g := newRig(t, at(x), Options{TLS: &tls.Config{RootCAs: ca.pool}}, cfg)
		defer g.stop()
		g.accept("one", "bob@home.example")
		pass(time.Second)
		g.left("smarthost/mail.provider.example:587", 0, 1)
		cfg.TLS = "mandatory"
		if err := g.relay.Set(cfg, "mail.provider.example:587"); err == nil {
			t.Error("a faulty Config was taken")
		}
		cfg.TLS, cfg.Password = tlsRequired, "secret"
		if err := g.relay.Set(cfg, "mail.provider.example:587"); err != nil {
			t.Fatal(err)
		}
		g.accept("two", "bob@home.example")
		pass(time.Second)
		if got := x.taken(); got != "one bob, two bob" {
			t.Errorf("got %q", got)
		}
	})
}

// TestManyRecipients: RFC 5321 §4.5.3.1.8: a hundred a transaction, whatever the queue hands over.
func TestManyRecipients(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		g := newRig(t, at(x), Options{}, plainConfig)
		defer g.stop()
		to := ""
		for i := range 250 {
			to += fmt.Sprintf("bob%d@home.example ", i)
		}
		g.accept("hello", to)
		pass(time.Minute)
		var sizes []int
		for line := range strings.SplitSeq(x.taken(), ", ") {
			sizes = append(sizes, strings.Count(line, "bob"))
		}
		if len(sizes) != 3 || sizes[0] != 100 || sizes[2] != 50 {
			t.Errorf("transactions of %v recipients", sizes)
		}
	})
}

// TestLimits: RFC 9422 §4.
func TestLimits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		x.server.Extensions = []smtp.Extension{{Verb: "XLIM", Keyword: "LIMITS MAILMAX=2 RCPTMAX=3"}}
		g := newRig(t, at(x), Options{}, plainConfig)
		defer g.stop()
		g.accept("four", "b1@home.example b2@home.example b3@home.example b4@home.example")
		g.accept("one", "bob@home.example")
		pass(time.Second)
		if got := x.taken(); got != "four b1 b2 b3, four b4, one bob" {
			t.Errorf("came as %s", got)
		}
		if got := strings.Count(g.net.dials(), "587"); got != 2 {
			t.Errorf("%d connections", got)
		}
	})
}

// TestRecipientLimits: RFC 9422 §4.2, §3.7, RFC 5321 §4.5.3.1.8: as many recipients with one message as the server says, as every server must take
// where it says nothing that can be understood.
func TestRecipientLimits(t *testing.T) {
	for keyword, want := range map[string]string{
		"LIMITS RCPTMAX=200": "[200 50]", "LIMITS RCPTMAX=200;": "[100 100 50]", "LIMITS RCPTMAX=0200": "[100 100 50]", "SIZE": "[100 100 50]",
	} {
		bubble(t, func(t *testing.T) {
			x := newRemote(nil)
			x.server.Extensions = []smtp.Extension{{Verb: "XLIM", Keyword: keyword}}
			g := newRig(t, at(x), Options{}, plainConfig)
			defer g.stop()
			var to strings.Builder
			for i := range 250 {
				fmt.Fprintf(&to, "b%d@home.example ", i)
			}
			g.accept("many", strings.TrimSpace(to.String()))
			pass(time.Second)
			var sizes []int
			for came := range strings.SplitSeq(x.taken(), ", ") {
				sizes = append(sizes, strings.Count(came, " "))
			}
			if got := fmt.Sprint(sizes); got != want {
				t.Errorf("%s: %s, want %s", keyword, got, want)
			}
		})
	}
}

// TestLateGreeting: RFC 5321 §4.5.3.2.1: a connection that fails is told apart from one that is taken and never greeted: the one says
// something of the way, the other of the server.
func TestLateGreeting(t *testing.T) {
	for name, c := range map[string]struct {
		server func(net.Conn)
		err    error
		want   string
		after  time.Duration
	}{
		"no connection": {nil, syscall.ECONNREFUSED, "4.4.1 cannot reach", time.Second},
		"no greeting":   {func(conn net.Conn) { io.Copy(io.Discard, conn) }, nil, "4.4.2 a.far.example took the connection and did not greet within 5m0s", 12 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := &internet{servers: map[string]func(net.Conn){"192.0.2.1:25": c.server}}
				if c.err != nil {
					n.errs = map[string]error{"192.0.2.1:25": c.err}
				}
				g := newRig(t, n, Options{Resolver: oneExchanger}, Config{})
				defer g.stop()
				g.accept("hello", "bob@far.example")
				pass(c.after + 2*time.Minute)
				if got := g.lastReply(); !strings.Contains(got, c.want) {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		})
	}
}
