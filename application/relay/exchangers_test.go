package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bothy/lib/sim"
)

// internet is what a relay dials: what answers at an address, or what dialling it fails with. An address with neither is silent.
type internet struct {
	mu      sync.Mutex
	servers map[string]func(net.Conn)
	errs    map[string]error
	dialed  []string
}

func (n *internet) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dialed = append(n.dialed, address)
	serve, err := n.servers[address], n.errs[address]
	n.mu.Unlock()
	switch {
	case err != nil:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	case serve == nil:
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
	}
	near, far := sim.Pipe(sim.Path{Delay: time.Millisecond})
	go func() {
		defer far.Close()
		serve(far)
	}()
	return near, nil
}

// dials returns what was dialled, and forgets it.
func (n *internet) dials() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	dialed := strings.Join(n.dialed, " ")
	n.dialed = nil
	return dialed
}

func addrs(list string) []netip.Addr {
	var out []netip.Addr
	for s := range strings.FieldsSeq(list) {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// world is a Static with exchangers in several shapes.
var world = Static{
	Exchangers: map[string][]MX{
		"far.example":   {{20, "b.far.example"}, {10, "a.far.example"}, {30, "c.far.example"}},
		"equal.example": {{10, "a.far.example"}, {10, "b.far.example"}, {10, "c.far.example"}},
		"null.example":  {{0, ""}},
		"odd.example":   {{0, ""}, {10, "a.far.example"}},
		"ours.example":  {{10, "a.far.example"}, {20, "MX.light.example"}, {20, "b.far.example"}, {30, "c.far.example"}},
		"loop.example":  {{10, "mx.light.example"}, {20, "a.far.example"}},
		"loop2.example": {{10, "alias.light.example"}, {20, "a.far.example"}},
		"bare.example":  {{10, "nowhere.example"}, {20, "far.example"}},
		"half.example":  {{10, "nowhere.example"}, {20, "a.far.example"}},
		"many.example":  {{10, "big.far.example"}, {20, "big.far.example"}, {30, "big.far.example"}, {40, "a.far.example"}},
		"empty.example": nil,
	},
	Addresses: map[string][]netip.Addr{
		"a.far.example":       addrs("192.0.2.1"),
		"b.far.example":       addrs("2001:db8::2 192.0.2.2"),
		"c.far.example":       addrs("192.0.2.3"),
		"big.far.example":     addrs("192.0.2.11 192.0.2.12 192.0.2.13 192.0.2.14"),
		"alias.light.example": addrs("198.51.100.1"),
		"plain.example":       addrs("192.0.2.9"),
	},
}

func newRelay(t *testing.T, o Options, cfg Config, smarthost string) *Relay {
	t.Helper()
	o.Hostname = "mx.light.example"
	o.Self = func(at netip.AddrPort) bool { return at == netip.MustParseAddrPort("198.51.100.1:25") }
	if o.Resolver == nil {
		o.Resolver = world
	}
	if o.Rand == nil {
		o.Rand = func() float64 { return 0.5 }
	}
	r, err := New(o, cfg, smarthost)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestOrder: RFC 5321 §5.1, all of it that shows in which addresses are dialled.
func TestOrder(t *testing.T) {
	for _, test := range []struct {
		domain, dialled, reply string
	}{
		{"far.example", "192.0.2.1:25 [2001:db8::2]:25 192.0.2.2:25 192.0.2.3:25", "451 4.4.1 cannot reach 192.0.2.1:25"},
		{"plain.example", "192.0.2.9:25", "451 4.4.1"},                                                         // the implicit MX
		{"odd.example", "192.0.2.1:25", "451 4.4.1"},                                                           // RFC 7505 §3
		{"ours.example", "192.0.2.1:25", "451 4.4.1"},                                                          // only what is preferred to us
		{"half.example", "192.0.2.1:25", "451 4.4.1"},                                                          // one exchanger is bogus
		{"many.example", "192.0.2.11:25 192.0.2.12:25 192.0.2.11:25 192.0.2.12:25 192.0.2.11:25", "451 4.4.1"}, // bounded
		{"[192.0.2.77]", "192.0.2.77:25", "451 4.4.1"},
		{"[ipv6:2001:db8::77]", "[2001:db8::77]:25", "451 4.4.1"},
		{"null.example", "", "556 5.1.10"},
		{"nowhere.example", "", "550 5.1.2"},
		{"empty.example", "", "550 5.4.4"},
		{"bare.example", "", "550 5.4.4"},
		{"loop.example", "", "554 5.4.6"},
		{"loop2.example", "", "554 5.4.6"},
		{"[198.51.100.1]", "", "554 5.4.6"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var n internet
			r := newRelay(t, Options{Dial: n.Dial}, Config{}, "")
			s, f := r.connectMX(t.Context(), r.set.Load(), test.domain, ordinary)
			if s != nil || f == nil {
				t.Fatalf("%s: %v, %v", test.domain, s, f)
			}
			if got := n.dials(); got != test.dialled {
				t.Errorf("%s: dialled %s, want %s", test.domain, got, test.dialled)
			}
			if !strings.HasPrefix(f.Error(), test.reply) || strings.Contains(f.reply.Text, "\n") {
				t.Errorf("%s: %v, want %s", test.domain, f, test.reply)
			}
			if f.unreached != f.reply.Temporary() {
				t.Errorf("%s: unreached %v with %v", test.domain, f.unreached, f)
			}
		})
	}
}

// TestEqualExchangersTakeTurns: RFC 5321 §5.1: randomize, to spread the load.
func TestEqualExchangersTakeTurns(t *testing.T) {
	first := make(map[string]bool)
	for seed := range 6 {
		dice := []float64{0.1, 0.2, 0.3}
		at := seed
		r := newRelay(t, Options{Rand: func() float64 { at++; return dice[at%3] }}, Config{}, "")
		groups, _, f := r.exchangers(t.Context(), r.set.Load(), "equal.example")
		if f != nil || len(groups) != 1 || len(groups[0]) != 3 {
			t.Fatalf("%v, %v", groups, f)
		}
		first[groups[0][0]] = true
	}
	if len(first) != 3 {
		t.Errorf("only %v come first", first)
	}
}

// faulty is a resolver that has no answers.
type faulty struct {
	Static
	mx, addrs error
}

func (f faulty) MX(_ context.Context, domain string) ([]MX, Origin, error) {
	return []MX{{10, "mx." + domain}}, Origin{}, f.mx
}

func (f faulty) Addrs(context.Context, string) ([]netip.Addr, Origin, error) {
	return nil, Origin{}, f.addrs
}

// TestNoAnswerIsNeverPermanent: whatever DNS and the network fail with.
func TestNoAnswerIsNeverPermanent(t *testing.T) {
	for _, err := range []error{
		errUnproven, errors.New("answered SERVFAIL"), errors.New("no DNS server is known"), context.DeadlineExceeded, os.ErrDeadlineExceeded,
		fmt.Errorf("DNS server 192.0.2.53:53: %w", syscall.ENETUNREACH), &net.DNSError{IsNotFound: true},
	} {
		for _, resolver := range []faulty{{mx: err}, {addrs: err}} {
			r := newRelay(t, Options{Resolver: resolver}, Config{}, "")
			_, f := r.connectMX(t.Context(), r.set.Load(), "far.example", ordinary)
			if f == nil || !f.reply.Temporary() || f.reply.Enhanced != [3]int{4, 4, 3} || !f.unreached {
				t.Errorf("%+v: %+v", resolver, f)
			}
		}
	}
	for _, err := range []error{
		syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EACCES, syscall.EPERM, os.ErrDeadlineExceeded,
		&net.DNSError{Err: "no such host", Name: "mail.provider.example", IsNotFound: true},
	} {
		n := &internet{errs: map[string]error{"192.0.2.9:25": err, "mail.provider.example:587": err}}
		r := newRelay(t, Options{Dial: n.Dial}, Config{}, "mail.provider.example:587")
		for _, connect := range []func() (*session, *failure){
			func() (*session, *failure) { return r.connectMX(t.Context(), r.set.Load(), "plain.example", ordinary) },
			func() (*session, *failure) {
				return r.connectHops(t.Context(), r.set.Load(), []string{"mail.provider.example:587"}, false)
			},
		} {
			_, f := connect()
			if f == nil || !f.reply.Temporary() || f.reply.Enhanced != [3]int{4, 4, 1} {
				t.Errorf("%v: %v", err, f)
			}
			if f.unreached != !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%v: unreached is %v", err, f.unreached)
			}
		}
	}
}

func TestDNSTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &internet{servers: map[string]func(net.Conn){"192.0.2.53:53": func(c net.Conn) { io.Copy(io.Discard, c) }}}
		d := &DNS{Servers: []string{"192.0.2.53"}, Dial: n.Dial}
		start := time.Now()
		_, _, err := d.MX(t.Context(), "far.example")
		if err == nil || errors.Is(err, ErrNoDomain) {
			t.Errorf("%v", err)
		}
		if took := time.Since(start); took != queryRounds*queryTimeout {
			t.Errorf("gave up after %v", took)
		}
	})
}
