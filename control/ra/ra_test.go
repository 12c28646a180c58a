package ra

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var host = netip.MustParseAddr("fe80::2")

func whole() LinkConfig {
	return LinkConfig{
		Interface: "eth1", Managed: true, Other: true, HopLimit: 64, MTU: 1400, Preference: "high",
		Prefixes: []PrefixConfig{
			{netip.MustParsePrefix("2001:db8:1::/64"), true, true, 30 * 24 * time.Hour, 7 * 24 * time.Hour},
			{netip.MustParsePrefix("2001:db8:2::/60"), true, false, forever, time.Hour},
		},
		DNS: []netip.Addr{netip.MustParseAddr("2001:db8:1::53")}, Search: []string{"clinic.example"},
	}
}

// RFC 4861 §4.2, §4.6, RFC 4191 §2.2, RFC 8106 §5: every field where the RFC has it.
func TestWire(t *testing.T) {
	l := whole()
	l.fill()
	a, err := l.advertisement()
	if err != nil {
		t.Fatal(err)
	}
	b := a.AppendTo(nil, []byte{2, 0, 0, 0, 0, 1})
	want := slices.Concat(
		[]byte{134, 0, 0, 0, 64, 0xc8, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}, // M, O, high; 1800 s
		[]byte{1, 1, 2, 0, 0, 0, 0, 1},
		[]byte{5, 1, 0, 0, 0, 0, 0x05, 0x78},
		[]byte{3, 4, 64, 0xc0, 0, 0x27, 0x8d, 0, 0, 9, 0x3a, 0x80, 0, 0, 0, 0}, netip.MustParseAddr("2001:db8:1::").AsSlice(),
		[]byte{3, 4, 60, 0x80, 255, 255, 255, 255, 0, 0, 0x0e, 0x10, 0, 0, 0, 0}, netip.MustParseAddr("2001:db8:2::").AsSlice(),
		[]byte{25, 3, 0, 0, 0, 0, 0x07, 0x08}, netip.MustParseAddr("2001:db8:1::53").AsSlice(),
		[]byte{31, 3, 0, 0, 0, 0, 0x07, 0x08}, []byte("\x06clinic\x07example\x00"),
	)
	if !bytes.Equal(b, want) {
		t.Errorf("\n%x, want\n%x", b, want)
	}
	back, err := Parse(b, host, hopLimit)
	if err != nil || !reflect.DeepEqual(back, a) {
		t.Errorf("%+v, %v; want %+v", back, err, a)
	}
	a.Lifetime = 0
	if b = a.AppendTo(nil, nil); b[5] != 0xc0 { // RFC 4191 §2.2
		t.Errorf("flags %x", b[5])
	}
}

// RFC 4861 §6.1.1, §6.1.2: what must be discarded.
func TestValid(t *testing.T) {
	solicitation := []byte{133, 0, 0, 0, 0, 0, 0, 0}
	source := []byte{1, 1, 2, 0, 0, 0, 0, 1}
	for _, c := range []struct {
		name string
		b    []byte
		from netip.Addr
		hops int
		want error
	}{
		{"valid", solicitation, host, 255, nil},
		{"with its address", append(slices.Clone(solicitation), source...), host, 255, nil},
		{"nobody's", solicitation, netip.IPv6Unspecified(), 255, nil},
		{"nobody's address", append(slices.Clone(solicitation), source...), netip.IPv6Unspecified(), 255, ErrOption},
		{"hop limit", solicitation, host, 254, ErrFar},
		{"code", []byte{133, 1, 0, 0, 0, 0, 0, 0}, host, 255, ErrCode},
		{"short", solicitation[:7], host, 255, ErrShort},
		{"option of nothing", append(slices.Clone(solicitation), 1, 0, 0, 0, 0, 0, 0, 0), host, 255, ErrOption},
		{"option cut off", append(slices.Clone(solicitation), 1, 2, 0, 0, 0, 0, 0, 0), host, 255, ErrOption},
		{"unknown option", append(slices.Clone(solicitation), 200, 1, 0, 0, 0, 0, 0, 0), host, 255, nil},
	} {
		if err := CheckSolicitation(c.b, c.from, c.hops); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	a := (&Advertisement{}).AppendTo(nil, nil)
	for _, c := range []struct {
		name string
		b    []byte
		from string
		hops int
		want error
	}{
		{"valid", a, "fe80::2", 255, nil},
		{"not of the link", a, "2001:db8::1", 255, ErrSource},
		{"hop limit", a, "fe80::2", 64, ErrFar},
		{"short", a[:15], "fe80::2", 255, ErrShort},
		{"option of nothing", append(slices.Clone(a), 3, 0, 0, 0, 0, 0, 0, 0), "fe80::2", 255, ErrOption},
	} {
		if _, err := Parse(c.b, netip.MustParseAddr(c.from), c.hops); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// RFC 4861 §6.2.1: the bounds of what may be set.
func TestConfig(t *testing.T) {
	for name, change := range map[string]func(*LinkConfig){
		"min_interval":   func(l *LinkConfig) { l.MaxInterval, l.MinInterval = 20*time.Second, 16*time.Second },
		"too often":      func(l *LinkConfig) { l.MinInterval = time.Second },
		"lifetime":       func(l *LinkConfig) { l.Lifetime = time.Minute },
		"preference":     func(l *LinkConfig) { l.Preference = "highest" },
		"mtu":            func(l *LinkConfig) { l.MTU = 576 },
		"link-local":     func(l *LinkConfig) { l.Prefixes[0].Prefix = netip.MustParsePrefix("fe80::/64") },
		"autonomous /60": func(l *LinkConfig) { l.Prefixes[1].Autonomous = true },
		"preferred":      func(l *LinkConfig) { l.Prefixes[0].Preferred = forever },
		"dns":            func(l *LinkConfig) { l.DNS[0] = netip.MustParseAddr("192.0.2.1") },
		"search":         func(l *LinkConfig) { l.Search[0] = "a..b" },
		"size":           func(l *LinkConfig) { l.Prefixes = slices.Repeat(l.Prefixes, 40) },
	} {
		cfg := Config{Links: []LinkConfig{whole()}}
		change(&cfg.Links[0])
		var err error
		cfg.CheckConfig(func(_ string, e error) { err = errors.Join(err, e) })
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	twice := Config{Links: []LinkConfig{whole(), whole()}}
	n := 0
	twice.CheckConfig(func(string, error) { n++ })
	good := Config{Links: []LinkConfig{whole()}}
	good.CheckConfig(func(key string, err error) { t.Errorf("%s: %v", key, err) })
	if n != 1 {
		t.Errorf("%d errors of a link that is there twice", n)
	}
}

// pipe is a link in memory.
type pipe struct {
	mu         sync.Mutex // guards sent and last
	start      time.Time
	in         chan arrived
	sent       []time.Duration
	last       Advertisement
	forwarding atomic.Bool
	t          *testing.T
}

func (p *pipe) Receive(b []byte) (int, netip.Addr, int, error) {
	m, ok := <-p.in
	if !ok {
		return 0, netip.Addr{}, 0, net.ErrClosed
	}
	return copy(b, m.b), m.from, m.hops, nil
}

// told is what was sent, and when.
func (p *pipe) told() (last Advertisement, sent []time.Duration) {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last, slices.Clone(p.sent)
}

func (p *pipe) Send(b []byte) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, time.Since(p.start))
	if p.last, err = Parse(b, host, hopLimit); err != nil {
		p.t.Error(err)
	}
	return nil
}

func (p *pipe) Link() ([]byte, bool) { return []byte{2, 0, 0, 0, 0, 1}, p.forwarding.Load() }
func (p *pipe) Close() error         { close(p.in); return nil }

// RFC 4861 §6.2.4: the first three soon, then at random within the bounds; §6.2.5: a last one with a lifetime of 0; §6.2.6: solicitations are
// answered within half a second, all of them by one message, and never two within three seconds.
func TestRouter(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			p := &pipe{start: time.Now(), in: make(chan arrived), t: t}
			p.forwarding.Store(true)
			r := &Router{Config: whole(), Log: slog.New(slog.DiscardHandler), Rand: rand.New(rand.NewPCG(seed, 1))}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- r.Run(ctx, p) }()
			time.Sleep(3 * time.Hour)
			synctest.Wait()
			for i, at := range p.sent[1:] {
				gap := at - p.sent[i]
				if i < maxInitial && gap != maxInitialInterval || i >= maxInitial && (gap < 200*time.Second || gap > 600*time.Second) {
					t.Fatalf("advertisement %d after %v", i+1, gap)
				}
			}
			if p.last.Lifetime != 30*time.Minute || !p.last.Managed || len(p.last.Prefixes) != 2 {
				t.Errorf("%+v", p.last)
			}
			ask := func() { p.in <- arrived{[]byte{133, 0, 0, 0, 0, 0, 0, 0}, host, hopLimit} }
			time.Sleep(minDelayBetween)
			for range 30 {
				before, at := len(p.sent), time.Since(p.start)
				for range 10 {
					ask()
				}
				time.Sleep(minDelayBetween + maxDelay)
				synctest.Wait()
				if n := len(p.sent) - before; n != 1 || p.sent[before]-at > minDelayBetween+maxDelay {
					t.Fatalf("%d answers at %v, asked at %v", n, p.sent[before:], at)
				}
			}
			for i, at := range p.sent[1:] {
				if at-p.sent[i] < minDelayBetween {
					t.Fatalf("two within %v", at-p.sent[i])
				}
			}
			p.in <- arrived{[]byte{133, 0, 0, 0, 0, 0, 0, 0}, host, 64} // from afar
			before := len(p.sent)
			time.Sleep(time.Minute)
			synctest.Wait()
			if len(p.sent) != before {
				t.Error("answered a message that passed a router")
			}
			p.forwarding.Store(false)
			time.Sleep(time.Hour)
			synctest.Wait()
			if p.last.Lifetime != 0 { // §6.2.5
				t.Error("a default router that passes nothing on")
			}
			p.forwarding.Store(true)
			before = len(p.sent)
			stop()
			if err := <-ended; err != nil || len(p.sent) != before+1 || p.last.Lifetime != 0 {
				t.Errorf("the end: %v, %d more, %+v", err, len(p.sent)-before, p.last)
			}
		})
	}
}

// RFC 4861 §6.2.7: what routers of a link must agree about.
func TestDiffers(t *testing.T) {
	l := whole()
	l.fill()
	ours, _ := l.advertisement()
	for want, change := range map[string]func(*Advertisement){
		"":                             func(a *Advertisement) { a.Lifetime, a.Preference = 0, Low },
		"M flag":                       func(a *Advertisement) { a.Managed = false },
		"O flag":                       func(a *Advertisement) { a.Other = false },
		"MTU":                          func(a *Advertisement) { a.MTU = 1500 },
		"hop limit":                    func(a *Advertisement) { a.HopLimit = 32 },
		"lifetimes of 2001:db8:1::/64": func(a *Advertisement) { a.Prefixes[0].Valid = time.Hour },
	} {
		other, _ := l.advertisement()
		change(&other)
		if got := ours.differs(&other); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	l := whole()
	a, _ := l.advertisement()
	f.Add(a.AppendTo(nil, []byte{2, 0, 0, 0, 0, 1}), byte(255))
	f.Add([]byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1}, byte(255))
	f.Fuzz(func(t *testing.T, b []byte, hops byte) {
		CheckSolicitation(b, host, int(hops))
		a, err := Parse(b, host, int(hops))
		if err != nil {
			return
		}
		again, err := Parse(a.AppendTo(nil, nil), host, hopLimit)
		if err != nil || again.Managed != a.Managed || len(again.Prefixes) != len(a.Prefixes) || !slices.Equal(again.Servers, a.Servers) {
			t.Fatalf("%+v, then %+v, %v", a, again, err)
		}
	})
}
