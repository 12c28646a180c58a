package relay

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/smtp"
	"bothy/operational/link"
)

func TestHealthOrder(t *testing.T) {
	var h health
	now := time.Unix(1000, 0)
	expect := func(after time.Duration, want string) {
		t.Helper()
		if got := strings.Join(h.order([]string{"a", "b", "c"}, now.Add(after), 30*time.Second), " "); got != want {
			t.Errorf("after %v: %s, want %s", after, got, want)
		}
	}
	expect(0, "a b c")
	h.ill("a", now)
	expect(1, "b c a")
	h.ill("b", now.Add(time.Second))
	expect(2*time.Second, "c a b")
	h.ill("c", now.Add(-time.Second))
	expect(2*time.Second, "c a b")                // all ill: whose rest ends first
	expect(firstRest, "a c b")                    // the first who asks tries it
	expect(firstRest+time.Second, "b c a")        // the others wait for what that one finds
	h.ill("a", now.Add(firstRest+10*time.Second)) // again: for longer
	h.well("b")
	h.well("c")
	expect(firstRest+10*time.Second+firstRest, "b c a")
	h.well("a")
	expect(2*time.Minute, "a b c")
	for range 100 {
		h.ill("a", now)
	}
	expect(lastRest+time.Second, "a b c")
	h.ill("a", now)
	h.forget()
	expect(0, "a b c")
}

// hub is three servers for the lane of the first.
var hub = []string{"mail.provider.example:587", "mail2.provider.example:587", "192.0.2.9:25"}

// newHub starts a relay with all of hub.
func newHub(t *testing.T, n *internet, o Options, cfg Config) *rig {
	t.Helper()
	g := newRig(t, n, o, cfg)
	if err := g.relay.Set(cfg, hub...); err != nil {
		t.Fatal(err)
	}
	return g
}

// TestFailOver: mail goes to the next smarthost at once, and back to the first when that is well again.
func TestFailOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x, y := newRemote(nil), newRemote(nil)
		n := &internet{servers: map[string]func(net.Conn){hub[1]: y.serve}} // the first is silent
		g := newHub(t, n, Options{}, plainConfig)
		defer g.stop()
		g.accept("one", "bob@home.example")
		pass(31 * time.Second)
		if got := y.taken(); got != "one bob" {
			t.Fatalf("the second got %q", got)
		}
		g.accept("two", "bob@home.example")
		pass(time.Second)
		pass(15 * time.Second) // past Idle
		n.dials()
		g.accept("three", "bob@home.example") // a new session does not wait for the first again
		pass(time.Second)
		if got, dials := y.taken(), n.dials(); got != "two bob, three bob" || dials != hub[1] {
			t.Errorf("the second got %q after dialling %s", got, dials)
		}
		n.mu.Lock()
		n.servers[hub[0]] = x.serve
		n.mu.Unlock()
		for range 20 { // a session that never gets idle does not keep mail with the second
			g.accept("more", "bob@home.example")
			pass(5 * time.Second)
		}
		if !strings.HasPrefix(x.taken(), "more bob") {
			t.Error("the first gets nothing though it is well")
		}
		y.taken()
		g.accept("last", "bob@home.example")
		pass(time.Second)
		if got := y.taken(); got != "" {
			t.Errorf("the second still gets %q", got)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, line := range g.sent {
			if !strings.HasSuffix(line, "250") {
				t.Error(line)
			}
		}
	})
}

// TestFailOverReasons: whatever makes a smarthost of no use; and one server's word about a recipient is not another's to overrule.
func TestFailOverReasons(t *testing.T) {
	refuses := newRemote(map[string]smtp.Reply{"bob": {Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "who?"}})
	for _, test := range []struct {
		name  string
		first func(net.Conn)
		err   error
		cfg   Config
		want  string
	}{
		{"refused", nil, syscall.ECONNREFUSED, plainConfig, "hello bob"},
		{"busy", script("421 4.3.2 busy"), nil, plainConfig, "hello bob"},
		{"refuses us", script("554 5.7.1 go away", "221 bye"), nil, plainConfig, "hello bob"},
		{"the recipient is unknown", refuses.serve, nil, plainConfig, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				y := newRemote(nil)
				n := &internet{servers: map[string]func(net.Conn){hub[0]: test.first, hub[1]: y.serve}, errs: map[string]error{hub[0]: test.err}}
				g := newHub(t, n, Options{}, test.cfg)
				defer g.stop()
				g.accept("hello", "bob@home.example")
				pass(time.Minute)
				if got := y.taken(); got != test.want {
					t.Errorf("the second got %q", got)
				}
			})
		})
	}
}

// TestAllSmarthostsFail: the operator reads of the preferred one; the link hears of it only when none was reached.
func TestAllSmarthostsFail(t *testing.T) {
	for _, test := range []struct {
		third    error
		evidence string
	}{{syscall.EHOSTUNREACH, "down"}, {syscall.ECONNREFUSED, ""}} {
		bubble(t, func(t *testing.T) {
			n := &internet{errs: map[string]error{hub[0]: syscall.ENETUNREACH, hub[1]: syscall.EHOSTUNREACH, hub[2]: test.third}}
			w := &witness{states: make(chan link.State, 1)}
			w.states <- link.State{Up: true}
			g := newHub(t, n, Options{Link: w}, plainConfig)
			g.accept("hello", "bob@home.example")
			pass(time.Minute)
			if got := g.lastReply(); !strings.Contains(got, "cannot reach mail.provider.example:587") {
				t.Errorf("the operator reads %q", got)
			}
			if got := n.dials(); got != strings.Join(hub, " ")+" "+strings.Join(hub, " ") {
				t.Errorf("dialled %s", got)
			}
			g.stop()
			if got := strings.Join(w.told, " "); strings.TrimSpace(strings.ReplaceAll(got, "down down", "down")) != test.evidence {
				t.Errorf("the link was told %q", got)
			}
		})
	}
}

// TestLoginByNextHop: each server is shown its own login, and none but those the configuration names for it.
func TestLoginByNextHop(t *testing.T) {
	ca := newAuthority(t)
	bubble(t, func(t *testing.T) {
		n := &internet{servers: map[string]func(net.Conn){}}
		at := map[string]*remote{}
		for address, account := range map[string]string{hub[0]: "site", hub[1]: "site", "192.168.1.5:25": "shed", "192.0.2.1:25": "nobody"} {
			x := newRemote(nil)
			x.server.TLS = sharedTLS(t, ca)
			x.server.Auth = accounts(account, "secret")
			at[address], n.servers[address] = x, x.serve
		}
		cfg := Config{TLS: tlsOpportunistic, Username: "site", Password: "secret", NextHops: map[string]NextHop{"192.168.1.5:25": {Username: "shed", Password: "secret"}}}
		g := newHub(t, n, Options{Resolver: oneExchanger}, cfg)
		defer g.stop()
		for to, want := range map[string][2]string{
			"bob@home.example": {hub[0], "site"}, "bob@lan.example": {"192.168.1.5:25", "shed"}, "bob@far.example": {"192.0.2.1:25", ""},
		} {
			g.accept("hello", to)
			pass(20 * time.Second)
			if x := at[want[0]]; x.taken() != "hello bob" || x.identity() != want[1] {
				t.Errorf("%s was sent as %q", to, x.identity())
			}
		}
		n.mu.Lock()
		n.errs = map[string]error{hub[0]: syscall.ECONNREFUSED}
		n.mu.Unlock()
		g.accept("hello", "bob@home.example")
		pass(20 * time.Second)
		if x := at[hub[1]]; x.taken() != "hello bob" || x.identity() != "site" {
			t.Errorf("the fallback saw %q", x.identity())
		}
	})
}

// TestRelayDenied: "not authorized" from a smarthost that does not know us is a mistake to mend; from one that does it is final, and so
// is it from anybody else.
func TestRelayDenied(t *testing.T) {
	ca := newAuthority(t)
	denied := smtp.Reply{Code: 554, Enhanced: [3]int{5, 7, 1}, Text: "Relay access denied"}
	for _, test := range []struct {
		to, username, failed string
	}{
		{"bob@home.example", "", ""},
		{"bob@home.example", "site", "bob@home.example 5.7.1"},
		{"bob@lan.example", "", "bob@lan.example 5.7.1"},
		{"bob@far.example", "", "bob@far.example 5.7.1"},
		{"bob@home.example carol@home.example", "", "bob@home.example 5.7.1"}, // it relays for us, but not to bob
	} {
		bubble(t, func(t *testing.T) {
			x := newRemote(map[string]smtp.Reply{"bob": denied})
			x.server.TLS, x.server.Auth = sharedTLS(t, ca), accounts("site", "secret")
			n := at(x)
			n.servers["192.168.1.5:25"] = x.serve
			cfg := Config{TLS: tlsOpportunistic, Username: test.username}
			if test.username != "" {
				cfg.Password = "secret"
			}
			g := newRig(t, n, Options{Resolver: oneExchanger}, cfg)
			defer g.stop()
			g.accept("hello", test.to)
			pass(time.Minute)
			synctest.Wait()
			if got := g.failures(); got != test.failed {
				t.Errorf("%s as %q: failed %q, want %q", test.to, test.username, got, test.failed)
			}
			if got := g.lastReply(); test.failed == "" && !strings.Contains(got, "554 5.7.1 Relay access denied") {
				t.Errorf("the operator reads %q", got)
			}
		})
	}
}
