package lease

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"bothy/lib/sim"
)

func pool(t *testing.T, first, last string) *Pool {
	t.Helper()
	p, err := NewPool(netip.MustParseAddr(first), netip.MustParseAddr(last))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func next(p *Pool, now time.Time) string {
	a, ok := p.Next(now)
	if !ok {
		return "none"
	}
	return a.String()
}

func TestPoolOrder(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	p := pool(t, "192.0.2.254", "192.0.3.1")
	at := func(a string, until time.Time, want string) {
		t.Helper()
		p.Hold(netip.MustParseAddr(a), until)
		if got := next(p, now); got != want {
			t.Errorf("after %s: %s, want %s", a, got, want)
		}
	}
	if p.Size() != 4 || next(p, now) != "192.0.2.254" {
		t.Error(p.Size(), next(p, now))
	}
	at("192.0.2.254", now.Add(time.Minute), "192.0.2.255")
	at("192.0.2.255", now.Add(-time.Minute), "192.0.3.0") // never used before used long ago
	at("192.0.3.0", now.Add(-time.Hour), "192.0.3.1")
	at("192.0.3.1", time.Time{}, "192.0.3.0") // the one free longest
	at("192.0.3.0", now.Add(time.Hour), "192.0.2.255")
	at("192.0.2.255", now.Add(time.Hour), "none")
	at("192.0.4.1", now, "none") // not ours
	now = now.Add(time.Minute)
	at("192.0.4.1", now, "192.0.2.254")
}

func TestPoolBounds(t *testing.T) {
	for _, c := range []struct {
		first, last string
		ok          bool
	}{
		{"10.0.0.0", "10.15.255.255", true},
		{"10.0.0.0", "10.16.0.0", false},
		{"192.0.2.2", "192.0.2.1", false},
		{"192.0.2.1", "2001:db8::1", false},
		{"2001:db8::1", "2001:db8::ff", true},
		{"2001:db8::1", "2001:db8:1::1", false},
		{"0.0.0.0", "255.255.255.255", false},
	} {
		if _, err := NewPool(netip.MustParseAddr(c.first), netip.MustParseAddr(c.last)); (err == nil) != c.ok {
			t.Errorf("%s to %s: %v", c.first, c.last, err)
		}
	}
	p := pool(t, "2001:db8::1", "2001:db8::ff")
	if !p.Contains(netip.MustParseAddr("2001:db8::ff")) || p.Contains(netip.MustParseAddr("2001:db9::1")) || p.Contains(netip.MustParseAddr("0.0.0.1")) ||
		next(p, time.Now()) != "2001:db8::1" {
		t.Error("IPv6")
	}
}

// A pool that follows a store never names an address that somebody holds, and names one when there is one.
func TestPoolFollowsStore(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	c := newClocks()
	s := open(t, sim.NewDisk(), c)
	bind(t, s, "192.0.2.3", "early", time.Hour)
	p := pool(t, "192.0.2.0", "192.0.2.7")
	defer s.Watch(p.Follow)()
	for range 2000 {
		c.pass(time.Duration(dice.IntN(400)) * time.Second)
		now := s.Now()
		a, ok := p.Next(now)
		free := 0
		for i := range byte(8) {
			if l, known := s.Get(Host(netip.AddrFrom4([4]byte{192, 0, 2, i}))); !known || !l.Holds(now) {
				free++
			}
		}
		if ok != (free > 0) {
			t.Fatalf("%v, and %d are free", ok, free)
		}
		client := ID([]byte{byte(dice.IntN(20))})
		if ok {
			if l, known := s.Get(Host(a)); known && l.Holds(now) {
				t.Fatalf("%v is held", a)
			}
			if _, err := s.Bind(Lease{Prefix: Host(a), Client: client, Expires: now.Add(time.Duration(dice.IntN(3000)) * time.Second)}); err != nil {
				t.Fatal(err)
			}
		}
		for _, l := range s.Client(client, 0) {
			switch dice.IntN(8) {
			case 0:
				s.Release(l.Prefix, client, 0)
			case 1:
				s.Decline(l.Prefix, client, 0, now.Add(10*time.Minute))
			case 2:
				s.Pin(l.Prefix, dice.IntN(3) == 0)
			case 3:
				s.Delete(l.Prefix)
			}
		}
	}
}
