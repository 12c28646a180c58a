package route

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"
	"bothy/lib/sim"
	"bothy/lib/transcript"
)

// house is a directory: mailboxes of light.example, mail held for clinic.
type house struct{}

func (house) Local(domain string) bool {
	return slices.Contains([]string{"light.example", "xn--bcher-kva.example"}, domain)
}

func (house) Held(domain string) (string, bool) {
	return "clinic", domain == "clinic.example" || domain == "ward.clinic.example"
}

func (house) Resolve(a message.Address) []string {
	if a == (message.Address{Local: "keeper", Domain: "light.example"}) {
		return []string{"keeper@light.example"}
	}
	return nil
}

func (house) Address(account string) (message.Address, bool) {
	a, err := message.ParseAddress(account)
	return a, err == nil
}

func newRouter(t *testing.T, cfg Config) *Router {
	t.Helper()
	r, err := New("MX.light.example", house{}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAmong: a lane that holds mail for a domain now, or did before the domain was local, held or neither, is among the domain's.
func TestAmong(t *testing.T) {
	among := Among([]string{"clinic.example"})
	for _, r := range []*Router{
		newRouter(t, Config{}), newRouter(t, Config{Smarthost: "mail.provider.example:587"}),
		newRouter(t, Config{Via: map[string]string{".example": "192.0.2.7:25"}}), newRouter(t, Config{LAN: map[string]string{"clinic.example": "192.168.1.5:25"}}),
	} {
		for _, directory := range []Directory{house{}, nobody{}, nobody{"clinic.example"}} {
			r.directory = directory
			to := message.Recipient{Address: message.Address{Local: "nurse", Domain: "Clinic.example"}}
			if lane := r.Lane(nil, &to); !among(lane) {
				t.Errorf("%s is not among those of its domain", lane)
			}
		}
	}
	for _, lane := range []queue.Lane{"odmr/other.example", "mx/example", "mailbox/ward.clinic.example"} {
		if among(lane) {
			t.Errorf("%s is among those of another domain", lane)
		}
	}
}

// nobody is a directory of local domains only.
type nobody []string

func (n nobody) Local(domain string) bool                 { return slices.Contains(n, domain) }
func (nobody) Held(string) (account string, ok bool)      { return "", false }
func (nobody) Resolve(message.Address) []string           { return nil }
func (nobody) Address(string) (a message.Address, _ bool) { return a, false }

func TestLane(t *testing.T) {
	direct := newRouter(t, Config{})
	hub := newRouter(t, Config{
		Smarthost: "mail.provider.example:587",
		Via: map[string]string{
			"partner.example":        "192.0.2.7:25",
			".partner.example":       "192.0.2.8:25",
			".deep.Partner.example":  "192.0.2.9:25",
			"light.example":          "192.0.2.66:25", // never asked: it is local
			"Bücher.partner.example": "[2001:db8::25]:25",
		},
		LAN: map[string]string{".shed.Partner.example": "192.168.1.5:25", "desk.example": "192.168.1.6:25"},
	})
	for _, test := range []struct {
		router  *Router
		address message.Address
		want    queue.Lane
	}{
		{direct, message.Address{Local: "Postmaster"}, "mailbox/mx.light.example"},
		{direct, message.Address{Local: "root", Domain: "MX.Light.example"}, "mailbox/mx.light.example"},
		{hub, message.Address{Local: "postmaster", Domain: "mx.light.example"}, "mailbox/mx.light.example"}, // never to a smarthost
		{direct, message.Address{Local: "keeper", Domain: "light.example"}, "mailbox/light.example"},
		{direct, message.Address{Local: "keeper", Domain: "bücher.example"}, "mailbox/xn--bcher-kva.example"},
		{direct, message.Address{Local: "nurse", Domain: "ward.clinic.example"}, "odmr/ward.clinic.example"},
		{direct, message.Address{Local: "a", Domain: "far.example"}, "mx/far.example"},
		{direct, message.Address{Local: "a", Domain: "sub.light.example"}, "mx/sub.light.example"},
		{direct, message.Address{Local: "a", Domain: "müller.example"}, "mx/xn--mller-kva.example"},
		{direct, message.Address{Local: "a", Domain: "[1.2.3.4]"}, "mx/[1.2.3.4]"},
		{direct, message.Address{Local: "a", Domain: "[ipv6:2001:db8::1]"}, "mx/[ipv6:2001:db8::1]"},
		{hub, message.Address{Local: "keeper", Domain: "light.example"}, "mailbox/light.example"},
		{hub, message.Address{Local: "nurse", Domain: "clinic.example"}, "odmr/clinic.example"},
		{hub, message.Address{Local: "a", Domain: "partner.example"}, "smarthost/192.0.2.7:25"},
		{hub, message.Address{Local: "a", Domain: "x.y.partner.example"}, "smarthost/192.0.2.8:25"},
		{hub, message.Address{Local: "a", Domain: "x.deep.partner.example"}, "smarthost/192.0.2.9:25"},
		{hub, message.Address{Local: "a", Domain: "deep.partner.example"}, "smarthost/192.0.2.8:25"},
		{hub, message.Address{Local: "a", Domain: "bücher.partner.example"}, "smarthost/[2001:db8::25]:25"},
		{hub, message.Address{Local: "a", Domain: "x.shed.partner.example"}, "lan/192.168.1.5:25"},
		{hub, message.Address{Local: "a", Domain: "DESK.example"}, "lan/192.168.1.6:25"},
		{hub, message.Address{Local: "a", Domain: "notpartner.example"}, "smarthost/mail.provider.example:587"},
		{hub, message.Address{Local: "a", Domain: "[1.2.3.4]"}, "smarthost/mail.provider.example:587"},
	} {
		if got := test.router.Lane(nil, &message.Recipient{Address: test.address}); got != test.want {
			t.Errorf("%v goes to %s, want %s", test.address, got, test.want)
		}
	}
}

func TestSmarthosts(t *testing.T) {
	cfg := Config{Smarthost: "a.example:587", SmarthostFallback: []string{"b.example:587", "c.example:25"}}
	if got := cfg.Smarthosts(); !slices.Equal(got, []string{"a.example:587", "b.example:587", "c.example:25"}) {
		t.Errorf("got %q", got)
	}
	if got := new(Config).Smarthosts(); got != nil {
		t.Errorf("none are %q", got)
	}
}

func TestSetWhileRunning(t *testing.T) {
	r := newRouter(t, Config{})
	far := &message.Recipient{Address: message.Address{Local: "a", Domain: "far.example"}}
	if err := r.Set(Config{Smarthost: "mail.provider.example:587"}); err != nil {
		t.Fatal(err)
	}
	if got := r.Lane(nil, far); got != "smarthost/mail.provider.example:587" {
		t.Fatalf("after Set: %s", got)
	}
	if err := r.Set(Config{Smarthost: "mail.provider.example"}); err == nil {
		t.Fatal("a smarthost without a port was taken")
	}
	if got := r.Lane(nil, far); got != "smarthost/mail.provider.example:587" {
		t.Fatalf("a bad Config changed the routes: %s", got)
	}
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		cfg  Config
		keys []string
	}{
		{Config{}, nil},
		{Config{Smarthost: "mail.provider.example:587", Via: map[string]string{".a.example": "[2001:db8::1]:25"}}, nil},
		{Config{Smarthost: "a.example:587", SmarthostFallback: []string{"b.example:587"}, LAN: map[string]string{"a.example": "b.example:25"}}, nil},
		{Config{SmarthostFallback: []string{"b.example:587"}}, []string{"smarthost_fallback"}},
		{Config{Smarthost: "a.example:587", SmarthostFallback: []string{"b.example"}}, []string{"smarthost_fallback"}},
		{Config{Via: map[string]string{"a.example": "b.example:25"}, LAN: map[string]string{"a.example": "c.example:25"}}, []string{`lan."a.example"`}},
		{Config{LAN: map[string]string{"a.example": "b"}}, []string{`lan."a.example"`}},
		{Config{Smarthost: ":587"}, []string{"smarthost"}},
		{Config{Smarthost: "2001:db8::1"}, []string{"smarthost"}},
		{Config{Smarthost: "a.example:submission"}, nil},
		{Config{Smarthost: "a.example:smtpx"}, []string{"smarthost"}},
		{Config{Smarthost: "a.example:0", SmarthostFallback: []string{"b.example:65536"}}, []string{"smarthost", "smarthost_fallback"}},
		{Config{Via: map[string]string{"*.a.example": "b.example:25"}}, []string{`via."*.a.example"`}},
		{Config{Via: map[string]string{"a.example": "b.example"}}, []string{`via."a.example"`}},
		{Config{RelayFrom: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}, []string{"relay_from"}},
		{Config{RelayFrom: []netip.Prefix{netip.MustParsePrefix("::/0")}}, []string{"relay_from"}},
		{Config{Forward: map[string]string{"a@b.example": "c@d.example"}, Moved: map[string]string{"b@b.example": "c@d.example"}, NoMail: []string{"www.b.example"}}, nil},
		{Config{Forward: map[string]string{"b.example": "c@d.example"}}, []string{`forward."b.example"`}},
		{Config{Moved: map[string]string{"a@b.example": "c"}}, []string{`moved."a@b.example"`}},
		{Config{Forward: map[string]string{"a@b.example": "c@d.example"}, Moved: map[string]string{"A@b.example": "c@d.example"}}, []string{`moved."a@b.example"`}},
		{Config{NoMail: []string{"@b.example"}}, []string{"no_mail"}},
	} {
		var keys []string
		test.cfg.CheckConfig(func(key string, err error) { keys = append(keys, key) })
		if !slices.Equal(keys, test.keys) {
			t.Errorf("%+v: faults in %q, want %q", test.cfg, keys, test.keys)
		}
	}
}

// from is a session of a peer.
func from(peer string) *smtp.Session {
	return &smtp.Session{Conn: smtp.NewConn(remote{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(peer))})}
}

type remote struct {
	net.Conn
	addr net.Addr
}

func (r remote) RemoteAddr() net.Addr { return r.addr }

func TestBorder(t *testing.T) {
	const stranger, friend = "203.0.113.9:4711", "[::ffff:192.0.2.5]:4711"
	border := newRouter(t, Config{
		Smarthost: "mail.provider.example:587", // having a way out does not open it to strangers
		RelayFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/28")},
	}).Border()
	const ok, unknown, denied = "", "550 5.1.1", "550 5.7.1"
	for _, test := range []struct {
		peer, local, domain string
		want                string
	}{
		{stranger, "keeper", "light.example", ok},
		{stranger, "nobody", "light.example", unknown},
		{stranger, "POSTMASTER", "", ok},
		{stranger, "postMaster", "light.example", ok},
		{stranger, "anyone", "clinic.example", ok},
		{stranger, "postmaster", "clinic.example", ok},
		{stranger, "postmaster", "mx.light.example", ok},
		{stranger, "root", "mx.light.example", unknown},
		{stranger, "postmaster", "far.example", denied},
		{stranger, "victim", "far.example", denied},
		{stranger, "victim", "[198.51.100.1]", denied},
		{stranger, "victim", "[127.0.0.1]", denied},
		{stranger, "keeper", "light.example.far.example", denied},
		{stranger, "keeper", "notlight.example", denied},
		// The ways to hide a foreign domain in a local part: each is an unknown name of ours, never a route.
		{stranger, "victim%far.example", "light.example", unknown},
		{stranger, "victim@far.example", "light.example", unknown},
		{stranger, "far.example!victim", "light.example", unknown},
		{stranger, "@light.example:victim@far.example", "light.example", unknown},
		{stranger, "victim@far.example", "", unknown},
		{stranger, "victim%far.example", "", unknown},
		{stranger, "victim@light.example", "far.example", denied},
		{stranger, "victim%light.example", "far.example", denied},
		// A customer's server may still read them as routes, so they do not get that far.
		{stranger, "victim%far.example", "clinic.example", denied},
		{stranger, "victim@far.example", "clinic.example", denied},
		{stranger, "far.example!victim", "clinic.example", denied},
		{friend, "victim", "far.example", ok},
		{friend, "nobody", "light.example", unknown},
		{friend, "anyone", "clinic.example", ok},
		{"192.0.2.16:25", "victim", "far.example", denied},
		{"[2001:db8::1]:25", "victim", "far.example", denied},
	} {
		to := &message.Recipient{Address: message.Address{Local: test.local, Domain: test.domain}}
		err := border.Rcpt(t.Context(), from(test.peer), &message.Envelope{}, to)
		got := ""
		if reply := (smtp.Reply{}); errors.As(err, &reply) {
			got = reply.Error()[:9]
		}
		if got != test.want || err != nil && got == "" {
			t.Errorf("%s to %q at %q: %v, want %q", test.peer, test.local, test.domain, err, test.want)
		}
	}
}

// TestRelaying holds the whole dialogue of a stranger who tries everything.
func TestRelaying(t *testing.T) {
	border := newRouter(t, Config{
		Smarthost: "mail.provider.example:587", NoMail: []string{"www.light.example"},
		Forward: map[string]string{"Mate@light.example": "mate@far.example"}, Moved: map[string]string{"cook@light.example": "cook@far.example"},
	}).Border()
	transcript.Run(t, "testdata/*.txt", func(t *testing.T, _ string) net.Conn {
		near, far := sim.Pipe(sim.Path{})
		s := &smtp.Server{Hostname: "mx.light.example", Policy: border, Verify: border.Verify, Expand: border.Expand(house{}), Accept: shows{}, Log: slog.New(slog.DiscardHandler), Now: time.Now}
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Serve(context.Background(), smtp.NewConn(far))
			far.Close()
		}()
		t.Cleanup(func() { near.Close(); <-done })
		return near
	})
}

// shows is an Acceptor that says to whom the mail goes.
type shows struct{}

func (shows) Accept(_ context.Context, env *message.Envelope, body io.Reader) error {
	var to []string
	for _, r := range env.Recipients {
		to = append(to, r.Address.String())
	}
	_, err := io.Copy(io.Discard, body)
	return errors.Join(err, smtp.Reply{Code: 250, Text: "to " + strings.Join(to, ", ")})
}

// TestBorderFollowsSet: a network taken off the list may not relay any more, at once.
func TestBorderFollowsSet(t *testing.T) {
	r := newRouter(t, Config{RelayFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	border, to := r.Border(), &message.Recipient{Address: message.Address{Local: "a", Domain: "far.example"}}
	if err := border.Rcpt(t.Context(), from("192.0.2.1:25"), nil, to); err != nil {
		t.Fatal(err)
	}
	if err := r.Set(Config{}); err != nil {
		t.Fatal(err)
	}
	if err := border.Rcpt(t.Context(), from("192.0.2.1:25"), nil, to); err == nil {
		t.Fatal("still relays")
	}
}

func TestBorderTakesTheNullPath(t *testing.T) { // RFC 5321 §4.5.5
	if err := newRouter(t, Config{}).Border().Mail(t.Context(), from("203.0.113.9:4711"), &message.Envelope{}); err != nil {
		t.Fatal(err)
	}
}

func TestRefusalsHelpAHuman(t *testing.T) {
	border := newRouter(t, Config{}).Border()
	for domain, words := range map[string]string{"light.example": "spelt right", "far.example": "submission port"} {
		err := border.Rcpt(t.Context(), from("203.0.113.9:4711"), nil, &message.Recipient{Address: message.Address{Local: "nobody", Domain: domain}})
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v lacks %q", domain, err, words)
		}
	}
}

// heldHost is a directory in which the server's own name is a customer's.
type heldHost struct{ house }

func (heldHost) Held(domain string) (string, bool) { return "clinic", domain == "mx.light.example" }

func TestHostnameHeld(t *testing.T) {
	r, err := New("mx.light.example", heldHost{}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Lane(nil, &message.Recipient{Address: message.Address{Local: "a", Domain: "mx.light.example"}}); got != "odmr/mx.light.example" {
		t.Errorf("goes to %s", got)
	}
}
