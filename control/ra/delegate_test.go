package ra

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// addresses is a Host in memory.
type addresses struct {
	mu  sync.Mutex
	has []string
}

func (a *addresses) list() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.has)
}

func (a *addresses) SetAddress(p netip.Prefix, preferred, valid time.Duration) error {
	return a.set(p.String())
}

func (a *addresses) SetRoute(to netip.Prefix, via netip.Addr, metric int) error {
	return a.set("to " + to.String())
}

func (a *addresses) set(what string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Contains(a.has, what) {
		a.has = append(a.has, what)
	}
	return nil
}

func (a *addresses) RemoveAddress(p netip.Prefix) error { return a.remove(p.String()) }

func (a *addresses) RemoveRoute(to netip.Prefix, via netip.Addr, metric int) error {
	return a.remove("to " + to.String())
}

func (a *addresses) remove(what string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.has = slices.DeleteFunc(a.has, func(other string) bool { return other == what })
	return nil
}

// said is what the last advertisement says of delegated prefixes.
func said(a *Advertisement) (all []string) {
	for _, p := range a.Prefixes {
		all = append(all, fmt.Sprintf("%v %v %v", p.Prefix, p.Preferred, p.Valid))
	}
	return all
}

// TestDelegated: RFC 9915 §6.3, §18.2.10.1: no lifetime is longer than what is left of the delegation; RFC 9915 §18.2.7: a prefix that is lost, or given back at the
// end, is advertised with lifetimes of 0; RFC 4862 §5.5.3: that is said as long as hosts keep its addresses, two hours.
func TestDelegated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipe{start: time.Now(), in: make(chan arrived), t: t}
		p.forwarding.Store(true)
		kernel := &addresses{}
		l := LinkConfig{Interface: "eth1", Subnets: []SubnetConfig{{Number: 1, OnLink: true, Autonomous: true}}}
		r := &Router{Config: l, Host: kernel, Withdraw: true, Log: slog.New(slog.DiscardHandler), Rand: rand.New(rand.NewPCG(1, 1))}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- r.Run(ctx, p) }()
		expect := func(when string, want ...string) {
			t.Helper()
			last, _ := p.told()
			if got := said(&last); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
		}
		has := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			if has := kernel.list(); !slices.Equal(has, want) {
				t.Errorf("%s: this host has %q, want %q", when, has, want)
			}
		}
		time.Sleep(time.Hour)
		expect("before")

		until := time.Now().Add(90 * time.Minute)
		first := []Delegation{{netip.MustParsePrefix("2001:db8:100::/56"), until.Add(-time.Hour), until}}
		r.Delegate(first)
		expect("at once", "2001:db8:100:1::/64 30m0s 1h30m0s")
		has("at once", "2001:db8:100:1::1/64", "to 2001:db8:100:1::/64")
		r.Delegate(first)
		_, before := p.told()
		time.Sleep(time.Second)
		if _, sent := p.told(); len(sent) != len(before) {
			t.Error("told again though nothing is new")
		}
		for range 120 { // at whatever moment
			time.Sleep(30 * time.Second)
			last, times := p.told()
			sent := p.start.Add(times[len(times)-1])
			for _, q := range last.Prefixes {
				if q.Valid > until.Sub(sent) || q.Preferred > max(until.Add(-time.Hour).Sub(sent), 0) {
					t.Fatalf("%v after %v", said(&last), time.Since(p.start))
				}
			}
		}

		time.Sleep(minDelayBetween)
		until = time.Now().Add(time.Hour) // renumbered
		r.Delegate([]Delegation{{netip.MustParsePrefix("2001:db8:200::/48"), until, until}})
		expect("renumbered", "2001:db8:100:1::/64 0s 0s", "2001:db8:200:1::/64 1h0m0s 1h0m0s")
		has("renumbered", "2001:db8:200:1::1/64", "to 2001:db8:200:1::/64")
		time.Sleep(10 * time.Second)
		_, sent := p.told()
		if n := len(sent); sent[n-1]-sent[n-2] < minDelayBetween {
			t.Errorf("two within %v", sent[n-1]-sent[n-2])
		}
		r.Delegate(nil)
		time.Sleep(minDelayBetween)
		expect("lost", "2001:db8:100:1::/64 0s 0s", "2001:db8:200:1::/64 0s 0s")
		has("lost")
		time.Sleep(deprecated + 20*time.Minute)
		expect("long ago")

		until = time.Now().Add(time.Hour)
		r.Delegate([]Delegation{{netip.MustParsePrefix("2001:db8:100::/56"), until, until}, {netip.MustParsePrefix("2001:db8:300::/64"), until, until}})
		time.Sleep(minDelayBetween)
		has("back", "2001:db8:100:1::1/64", "to 2001:db8:100:1::/64") // a /64 has no second /64
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		expect("the end", "2001:db8:100:1::/64 0s 0s")
		has("the end")
	})
}

// TestSubnet: the /64s of a delegated prefix are counted, and none is outside.
func TestSubnet(t *testing.T) {
	for _, c := range []struct {
		prefix string
		number int
		want   string
	}{
		{"2001:db8:100::/48", 0, "2001:db8:100::/64"},
		{"2001:db8:100::/48", 65535, "2001:db8:100:ffff::/64"},
		{"2001:db8:100:ab00::/56", 255, "2001:db8:100:abff::/64"},
		{"2001:db8:100:ab00::/56", 256, ""},
		{"2001:db8:100:1::/64", 0, "2001:db8:100:1::/64"},
		{"2001:db8:100:1::/64", 1, ""},
		{"2001:db8:100:1::/80", 0, ""},
		{"::/0", 65535, "0:0:0:ffff::/64"},
		{"192.0.2.0/24", 0, ""},
	} {
		got, ok := subnet(netip.MustParsePrefix(c.prefix), c.number)
		if ok != (c.want != "") || ok && got != netip.MustParsePrefix(c.want) {
			t.Errorf("%s, %d: %v, %v", c.prefix, c.number, got, ok)
		}
	}
}

// Prefixes that come and go without end fill no memory and no message.
func TestManyLost(t *testing.T) {
	d := delegated{subnets: []SubnetConfig{{}}}
	now := time.Unix(1_000_000, 0)
	for i := range byte(100) {
		now = now.Add(time.Second)
		a := netip.MustParseAddr("2001:db8::").As16()
		a[7] = i
		d.take(now, []Delegation{{netip.PrefixFrom(netip.AddrFrom16(a), 64), now.Add(time.Hour), now.Add(time.Hour)}})
	}
	if n := len(d.now(now)); n != 1+maxLost {
		t.Errorf("%d prefixes", n)
	}
}
