package relay

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestOneTryARound: what waits for a dead next hop does not dial it a hundred times (RFC 5321 §4.5.4.1), and goes as soon as it lives.
func TestOneTryARound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := &internet{errs: map[string]error{"192.0.2.1:25": syscall.ECONNREFUSED}}
		g := newRig(t, n, Options{Resolver: oneExchanger}, plainConfig)
		defer g.stop()
		for range 100 {
			g.accept("hello", "bob@far.example")
		}
		pass(30 * time.Second)
		g.left("mx/far.example", 0, 100)
		pass(10 * time.Minute)
		if dials := strings.Count(n.dials(), "25"); dials > 4 {
			t.Errorf("%d dials in ten minutes", dials)
		}
		x := newRemote(nil)
		n.mu.Lock()
		n.errs, n.servers = nil, map[string]func(net.Conn){"192.0.2.1:25": x.serve}
		n.mu.Unlock()
		g.accept("new", "bob@far.example")
		pass(time.Minute) // a fresh message finds it alive: the rest does not wait for its clocks
		g.left("mx/far.example", 0, 0)
		if got := strings.Count(x.taken(), "bob"); got != 101 {
			t.Errorf("%d messages came", got)
		}
	})
}

// TestStopFinishes: the message under way is finished, the rest stays.
func TestStopFinishes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		x.during = func() error { time.Sleep(5 * time.Second); return nil }
		g := newRig(t, at(x), Options{}, plainConfig)
		g.accept("one", "bob@home.example")
		g.accept("two", "bob@home.example")
		pass(time.Second)
		g.stop()
		g.expect("mail.provider.example:587 bob 250")
		g.left("smarthost/mail.provider.example:587", 1, 1)
	})
}

// TestStopReleases: a server that takes longer than the grace does not hold us, and the message is neither lost nor counted as tried.
func TestStopReleases(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		x.during = func() error { time.Sleep(time.Hour); return errors.New("never") }
		g := newRig(t, at(x), Options{}, Config{TLS: tlsNone, Grace: 3 * time.Second})
		g.accept("one", "bob@home.example")
		pass(time.Second)
		start := time.Now()
		g.stop()
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("stopped after %v", took)
		}
		g.expect("")
		g.left("smarthost/mail.provider.example:587", 1, 1)
		time.Sleep(time.Hour)
	})
}

// TestStopWhileDialling: a dial that we broke off ourselves is no try.
func TestStopWhileDialling(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(t, &internet{}, Options{}, plainConfig)
		g.accept("one", "bob@far.example")
		pass(time.Second)
		start := time.Now()
		g.stop()
		if took := time.Since(start); took > time.Second {
			t.Errorf("stopped after %v", took)
		}
		g.expect("")
		g.left("mx/far.example", 1, 1)
	})
}

// TestBound: no more connections than configured, and every lane gets its turn.
func TestBound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		x.during = func() error { time.Sleep(2 * time.Second); return nil }
		n := at(x)
		resolver := Static{Exchangers: map[string][]MX{}, Addresses: map[string][]netip.Addr{"a.far.example": addrs("192.0.2.1")}}
		domains := []string{"d1.example", "d2.example", "d3.example", "d4.example", "d5.example", "d6.example"}
		for _, d := range domains {
			resolver.Exchangers[d] = []MX{{10, "a.far.example"}}
		}
		open, most := 0, 0
		n.servers["192.0.2.1:25"] = func(c net.Conn) {
			n.mu.Lock()
			open++
			most = max(most, open)
			n.mu.Unlock()
			x.serve(c)
			n.mu.Lock()
			open--
			n.mu.Unlock()
		}
		g := newRig(t, n, Options{Resolver: resolver}, Config{Connections: 2})
		defer g.stop()
		for _, d := range domains {
			g.accept("hello", "bob@"+d)
		}
		pass(9 * time.Second) // idle sessions make room at once: 6 messages, 2 at a time, 2 s each
		if got := strings.Count(x.taken(), "bob"); got != 6 {
			t.Errorf("%d of 6 came", got)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if most != 2 {
			t.Errorf("%d connections at once", most)
		}
	})
}

// TestBigMessageHoldsUpNobody: behind a message that takes long, others get a connection of their own.
func TestBigMessageHoldsUpNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		var later atomic.Bool
		x.during = func() error {
			if !later.Swap(true) {
				time.Sleep(5 * time.Minute)
			}
			return nil
		}
		g := newRig(t, at(x), Options{}, plainConfig)
		defer g.stop()
		g.accept("big", "bob@home.example")
		g.accept("small", "bob@home.example")
		pass(patience + time.Second)
		if got := x.taken(); got != "small bob" {
			t.Errorf("after %v: %q", patience, got)
		}
		pass(5 * time.Minute)
	})
}

// TestBurstGrows: much mail is worth more connections, up to the lane's bound.
func TestBurstGrows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		x.during = func() error { time.Sleep(time.Second); return nil }
		g := newRig(t, at(x), Options{}, Config{TLS: tlsNone, SmarthostConnections: 3})
		defer g.stop()
		for range 60 {
			g.accept("hello", "bob@home.example")
		}
		pass(time.Minute)
		if dials := strings.Count(g.net.dials(), "587"); dials != 3 {
			t.Errorf("%d connections", dials)
		}
		g.left("smarthost/mail.provider.example:587", 0, 0)
	})
}

// TestLostSessions: a server that hangs up on every message is not asked a hundred times.
func TestLostSessions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := &internet{servers: map[string]func(net.Conn){"192.0.2.1:25": script("220 hi", "250 hi")}}
		g := newRig(t, n, Options{Resolver: oneExchanger}, Config{MXConnections: 1})
		defer g.stop()
		for range 50 {
			g.accept("hello", "bob@far.example")
		}
		pass(time.Minute)
		if dials := strings.Count(n.dials(), "25"); dials > 2*maxLost {
			t.Errorf("%d dials", dials)
		}
		g.left("mx/far.example", 0, 50)
	})
}
