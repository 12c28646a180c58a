package relay

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
)

func TestRequireTLS(t *testing.T) { // RFC 8689 §4.2.1
	ca := newAuthority(t)
	right, other := ca.issue(t, "a.far.example"), ca.issue(t, "what.ever.example")
	smarthost := ca.issue(t, "mail.provider.example")
	plain := oneExchanger
	policed := oneExchanger
	policed.Addresses = map[string][]netip.Addr{"a.far.example": addrs("192.0.2.1"), "mta-sts.far.example": addrs("192.0.2.80")}
	policed.Texts = map[string][]string{"_mta-sts.far.example": {"v=STSv1; id=1"}}
	const policy = "version: STSv1\nmode: testing\nmx: a.far.example\nmax_age: 86400\n"
	elsewhere := policed
	elsewhere.Exchangers = map[string][]MX{"far.example": {{10, "c.far.example"}}}
	elsewhere.Addresses = map[string][]netip.Addr{"c.far.example": addrs("192.0.2.1"), "mta-sts.far.example": addrs("192.0.2.80")}
	third := ca.issue(t, "c.far.example")
	for _, test := range []struct {
		name     string
		to       string
		resolver Static
		cert     *tls.Certificate // nil: no STARTTLS
		offered  bool             // REQUIRETLS
		err      error
		failed   string // enhanced code; "later": it waits; empty: sent
	}{
		{"signed, verified by authority", "bob@far.example", signed(), &right, true, nil, ""},
		{"signed, verified by TLSA", "bob@far.example", signed(spki(other.Leaf)), &other, true, nil, ""},
		{"signed, TLSA of another", "bob@far.example", signed(spki(right.Leaf)), &other, true, nil, "later"}, // as all of the lane
		{"named by a policy", "bob@far.example", policed, &right, true, nil, ""},
		{"named by a policy, another certificate", "bob@far.example", policed, &other, true, nil, "5.7.10"},
		{"a policy names another", "bob@far.example", elsewhere, &third, true, nil, "5.7.10"},
		{"neither signed nor named", "bob@far.example", plain, &right, true, nil, "5.7.10"},
		{"another certificate", "bob@far.example", signed(), &other, true, nil, "5.7.10"},
		{"no STARTTLS", "bob@far.example", signed(), nil, true, nil, "5.7.10"},
		{"no REQUIRETLS", "bob@far.example", signed(), &right, false, nil, "5.7.30"},
		{"not there just now", "bob@far.example", signed(), &right, true, syscall.ECONNREFUSED, "later"},
		{"smarthost", "bob@home.example", plain, &smarthost, true, nil, ""},
		{"smarthost without REQUIRETLS", "bob@home.example", plain, &smarthost, false, nil, "5.7.30"},
		{"smarthost with another certificate", "bob@home.example", plain, &other, true, nil, "5.7.10"},
		{"a server beside us", "bob@lan.example", plain, &smarthost, true, nil, "5.7.10"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				x := newRemote(nil)
				x.server.Offer.RequireTLS = test.offered
				if test.cert != nil {
					x.server.TLS = &tls.Config{Certificates: []tls.Certificate{*test.cert}}
				}
				n := at(x)
				n.servers["192.168.1.5:25"] = x.serve
				n.servers["192.0.2.80:443"] = policyHost(ca.issue(t, "mta-sts.far.example"), policy, new(atomic.Int32))
				if test.err != nil {
					n.errs = map[string]error{"192.0.2.1:25": test.err}
				}
				o := Options{Resolver: test.resolver, Policies: t.TempDir(), TLS: &tls.Config{RootCAs: ca.pool}}
				g := newRig(t, n, o, Config{TLS: tlsOpportunistic})
				defer g.stop()
				g.accept("other", test.to)
				g.acceptAs("secret", test.to, func(env *message.Envelope) { env.RequireTLS = true })
				g.accept("more", test.to)
				pass(time.Minute)
				failed := ""
				if test.failed != "" && test.failed != "later" {
					failed = test.to + " " + test.failed
				}
				if got := g.failures(); got != failed {
					t.Errorf("failed: %q, want %q; last reply %q", got, failed, g.lastReply())
				}
				got := x.taken()
				if sent := strings.Contains(got, "secret bob"); sent != (test.failed == "") {
					t.Errorf("came: %q", got)
				}
				// RFC 8689 §4.2.1: the rest of the lane goes as ever, unless its records forbid.
				if others := strings.Count(got, "other bob") + strings.Count(got, "more bob"); others != 2 && test.err == nil && !strings.HasPrefix(test.name, "signed, TLSA of another") {
					t.Errorf("came: %q", got)
				}
			})
		})
	}
}

// TestRequireTLSNextExchanger: RFC 8689 §4.2.1: from a server that does not promise what is required the client parts with QUIT, and goes to the next.
func TestRequireTLSNextExchanger(t *testing.T) {
	ca := newAuthority(t)
	bubble(t, func(t *testing.T) {
		x, y := newRemote(nil), newRemote(nil)
		x.server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "a.far.example")}}
		y.server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "c.far.example")}}
		y.server.Offer.RequireTLS = true
		resolver := Static{
			Exchangers: map[string][]MX{"far.example": {{10, "a.far.example"}, {20, "c.far.example"}}}, Addresses: world.Addresses,
			Secure: map[string]bool{"far.example": true},
		}
		var parted atomic.Value
		n := &internet{servers: map[string]func(net.Conn){"192.0.2.3:25": y.serve, "192.0.2.1:25": func(conn net.Conn) {
			parted.Store(fmt.Sprint(x.server.Serve(t.Context(), smtp.NewConn(conn))))
		}}}
		g := newRig(t, n, Options{Resolver: resolver, TLS: &tls.Config{RootCAs: ca.pool}}, Config{})
		defer g.stop()
		g.acceptAs("secret", "bob@far.example", func(env *message.Envelope) { env.RequireTLS = true })
		pass(time.Minute)
		if x.taken() != "" || y.taken() != "secret bob" || parted.Load() != "<nil>" {
			t.Errorf("last reply %q; the first session ended with %v", g.lastReply(), parted.Load())
		}
	})
}

// TestTLSNotRequired: RFC 8689 §4.1: mail whose sender asks for it goes whatever the domain's records or policy demand, with TLS where
// there is any; other mail of the lane waits, before it and behind it, and nothing of it goes over that connection.
func TestTLSNotRequired(t *testing.T) {
	ca := newAuthority(t)
	right, other := ca.issue(t, "a.far.example"), ca.issue(t, "what.ever.example")
	for _, test := range []struct {
		name     string
		resolver Static
		cert     *tls.Certificate // nil: no STARTTLS
		next     string           // what relay.next_hop says of the domain
		came     string
		secured  bool
	}{
		{"TLSA records of another", signed(spki(right.Leaf)), &other, "", "report bob", true},
		{"TLSA records, no STARTTLS", signed(spki(right.Leaf)), nil, "", "report bob", false},
		{"TLSA records that fit", signed(spki(right.Leaf)), &right, "", "other bob, report bob, more bob", true},
		{"it is we who require it", oneExchanger, nil, tlsRequired, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				x := newRemote(nil)
				if test.cert != nil {
					x.server.TLS = &tls.Config{Certificates: []tls.Certificate{*test.cert}}
				}
				cfg := Config{}
				if test.next != "" {
					cfg.NextHops = map[string]NextHop{"far.example": {TLS: test.next}}
				}
				n := at(x)
				g := newRig(t, n, Options{Resolver: test.resolver}, cfg)
				defer g.stop()
				g.accept("other", "bob@far.example")
				g.acceptAs("report", "bob@far.example", func(env *message.Envelope) { env.TLSOptional = true })
				g.accept("more", "bob@far.example")
				pass(time.Minute)
				if got := x.taken(); got != test.came || x.secured.Load() != test.secured {
					t.Errorf("came: %q, TLS %v; last reply %q", got, x.secured.Load(), g.lastReply())
				}
				if tries := strings.Count(n.dials(), "192.0.2.1:25"); tries > 4 { // who asks for it is tried no oftener than others
					t.Errorf("dialled %d times", tries)
				}
			})
		})
	}
}

// TestRequireTLSNotice: RFC 8689 §5: a notice goes on without.
func TestRequireTLSNotice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		g := newRig(t, at(x), Options{Resolver: oneExchanger}, Config{})
		defer g.stop()
		g.acceptAs("notice", "bob@far.example", func(env *message.Envelope) { env.RequireTLS, env.ReversePath = true, message.Address{} })
		pass(time.Second)
		g.expect("far.example bob 250")
	})
}

// old is a server that knows RFC 821, and what EHLO adds in ehlo; it hands over what it is sent.
func old(ehlo string, got chan<- string) func(net.Conn) {
	return func(conn net.Conn) {
		heard := bufio.NewReader(conn)
		fmt.Fprintf(conn, "220 old.example\r\n")
		for {
			line, err := heard.ReadString('\n')
			if err != nil {
				return
			}
			reply := "250 ok"
			switch verb := strings.ToUpper(line[:4]); verb {
			case "EHLO":
				reply = "250-old.example" + strings.ReplaceAll("\n"+ehlo, "\n", "\r\n250-")
				reply = strings.TrimSuffix(reply, "\r\n250-") + "\r\n250 HELP"
			case "MAIL":
				got <- strings.TrimSpace(line)
			case "DATA":
				io.WriteString(conn, "354 go\r\n")
				text := ""
				for line = ""; line != ".\r\n"; line, _ = heard.ReadString('\n') {
					text += line
				}
				got <- text
			}
			io.WriteString(conn, reply+"\r\n")
		}
	}
}

// TestDownConversion: RFC 6152 §3, RFC 3030 §3: what a server cannot take is encoded; what cannot be encoded goes back.
func TestDownConversion(t *testing.T) {
	for _, test := range []struct {
		name, ehlo  string
		body        message.BodyType
		text        string
		mail, parts string // what comes; empty: nothing
		failed      string
	}{
		{"8-bit", "", message.Body8Bit, "gr\u00fc\u00dfe, and a good deal of plain text", "MAIL FROM:<keeper@light.example>", "Content-Transfer-Encoding: quoted-printable|gr=C3=BC=C3=9Fe", ""},
		{"8-bit that is none", "", message.Body8Bit, "hello", "MAIL FROM:<keeper@light.example>", "hello", ""},
		{"8-bit, offered", "8BITMIME", message.Body8Bit, "gr\u00fc\u00dfe", "MAIL FROM:<keeper@light.example> BODY=8BITMIME", "gr\u00fc\u00dfe", ""},
		{"binary", "8BITMIME", message.BodyBinary, "a\x00b", "MAIL FROM:<keeper@light.example>", "Content-Transfer-Encoding:", ""},
		{"signed", "", message.Body8Bit, "SIGNED", "", "", "bob@far.example 5.6.3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				got := make(chan string, 10)
				n := &internet{servers: map[string]func(net.Conn){"192.0.2.1:25": old(test.ehlo, got)}}
				g := newRig(t, n, Options{Resolver: oneExchanger}, Config{})
				defer g.stop()
				text := test.text
				head := "Subject: x\r\n\r\n"
				if text == "SIGNED" {
					head = "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n"
					text = "--b\r\nContent-Type: text/plain\r\n\r\ngr\u00fc\u00dfe\r\n--b\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--b--"
				}
				g.acceptText(head+text+"\r\n", "bob@far.example", func(env *message.Envelope) { env.Body = test.body })
				pass(time.Minute)
				if got := g.failures(); got != test.failed {
					t.Errorf("failed %q, last reply %q", got, g.lastReply())
				}
				if test.mail == "" {
					return
				}
				if mail := <-got; mail != test.mail {
					t.Errorf("got %q", mail)
				}
				text = <-got
				for part := range strings.SplitSeq(test.parts, "|") {
					if !strings.Contains(text, part) {
						t.Errorf("got %q without %q", text, part)
					}
				}
			})
		})
	}
}

// TestRelayedNotice: RFC 3461 §5.2.2: where DSN ends, who asked for notices of success hears that.
func TestRelayedNotice(t *testing.T) {
	for _, dsn := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			x := newRemote(nil)
			x.server.Offer.DSN = dsn
			g := newRig(t, at(x), Options{}, plainConfig)
			defer g.stop()
			g.acceptAs("hello", "bob@home.example carol@home.example", func(env *message.Envelope) { env.Recipients[0].Notify = message.NotifySuccess })
			pass(time.Second)
			g.mu.Lock()
			defer g.mu.Unlock()
			if got := strings.Join(g.onward, " "); (got == "bob@home.example") != !dsn || dsn && got != "" {
				t.Errorf("DSN offered: %v, told of %q", dsn, got)
			}
		})
	}
}

// TestDomainLimitReached: RFC 9422 §4.3: a message none of whose recipients the session still takes goes in the next, at once.
func TestDomainLimitReached(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		x.server.Extensions = []smtp.Extension{{Verb: "XLIM", Keyword: "LIMITS RCPTDOMAINMAX=1"}}
		g := newRig(t, at(x), Options{}, Config{TLS: tlsOpportunistic, SmarthostConnections: 1})
		defer g.stop()
		g.accept("one", "a@home.example")
		g.accept("two", "b@work.example")
		pass(5 * time.Second)
		if got := x.taken(); got != "one a, two b" {
			t.Errorf("came as %s", got)
		}
	})
}

// TestDomainLimit: RFC 9422 §4.3: what one session does not take goes in the next, at once.
func TestDomainLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		x.server.Extensions = []smtp.Extension{{Verb: "XLIM", Keyword: "LIMITS RCPTDOMAINMAX=1"}}
		g := newRig(t, at(x), Options{}, plainConfig)
		defer g.stop()
		g.accept("one", "a@home.example b@work.example c@home.example")
		g.accept("two", "d@work.example")
		pass(5 * time.Second)
		if got := x.taken(); got != "one a c, one b, two d" {
			t.Errorf("came as %s", got)
		}
		if got := strings.Count(g.net.dials(), "587"); got != 2 {
			t.Errorf("%d connections", got)
		}
	})
}
