package sasl

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthenticator()
		a.Throttle = &Throttle{Failures: 3}
		guess := func(peer, name, password string) error {
			t.Helper()
			ch := Channel{Peer: netip.MustParseAddr(peer)}
			return converse(t, SCRAM(name, password, Channel{}, false), start(t, a, SCRAMSHA256, ch))
		}
		for range 3 {
			if err := guess("192.0.2.1", "keeper", "wrong"); !errors.Is(err, ErrCredentials) {
				t.Fatal(err)
			}
		}
		// The wait doubles, and the right password is not looked at while it lasts.
		for wait := time.Second; wait <= 8*time.Second; wait *= 2 {
			time.Sleep(wait - time.Nanosecond)
			if err := guess("192.0.2.1", "keeper", keeperPassword); !errors.Is(err, ErrTemporary) {
				t.Fatalf("before %v: %v", wait, err)
			}
			if err := guess("::ffff:192.0.2.1", "clinic", clinicPassword); !errors.Is(err, ErrTemporary) {
				t.Fatalf("the address waits, whatever the account: %v", err)
			}
			if err := guess("192.0.2.2", "clinic", clinicPassword); err != nil {
				t.Fatalf("a neighbour waits: %v", err)
			}
			time.Sleep(time.Nanosecond)
			if err := guess("192.0.2.1", "keeper", "wrong"); !errors.Is(err, ErrCredentials) {
				t.Fatalf("after %v: %v", wait, err)
			}
		}
		time.Sleep(throttleForget)
		if err := guess("192.0.2.1", "keeper", "wrong"); !errors.Is(err, ErrCredentials) {
			t.Fatal(err)
		}
		if err := guess("192.0.2.1", "keeper", keeperPassword); err != nil {
			t.Fatalf("not forgotten after %v: %v", throttleForget, err)
		}
	})
}

// guesses is an attempt with a wrong password; it returns whether it was looked at.
func guesses(t *Throttle, peer netip.Addr, account string) bool {
	if t.Wait(peer, account) > 0 {
		return false
	}
	t.Failed(peer, account)
	return true
}

// Whoever guesses at an account from one part of the Internet is slowed down; the owner, at an address known, is not.
func TestThrottleAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := &Throttle{}
		home, cafe := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::1")
		throttle.Succeeded(home, "keeper")
		looks := 0
		for i := range 2000 {
			if guesses(throttle, netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 9, byte(i >> 8), byte(i)}), "keeper") {
				looks++
			}
		}
		if want := placeBurst * throttleFailures; looks != want {
			t.Errorf("%d guesses at once, want %d", looks, want)
		}
		if wait := throttle.Wait(cafe, "keeper"); wait != placeEvery {
			t.Errorf("a stranger waits %v", wait)
		}
		if wait := throttle.Wait(cafe, "clinic"); wait != 0 {
			t.Errorf("another account waits %v", wait)
		}
		if wait := throttle.Wait(netip.MustParseAddr("2001:db8::2"), "keeper"); wait != 0 { // the same /64
			t.Errorf("the owner waits %v", wait)
		}
		if wait := throttle.Wait(netip.MustParseAddr("2001:db8:0:7::2"), "keeper"); wait != 0 { // the same /48
			t.Errorf("the owner with a new address waits %v", wait)
		}
		if !guesses(throttle, netip.MustParseAddr("2001:db8:0:8::2"), "keeper") {
			t.Error("his neighbour makes a mistake, and is not looked at")
		}
		for range throttleFailures {
			throttle.Failed(home, "keeper") // but has only so many failures of its own
		}
		for guesses(throttle, home, "keeper") {
		}
		if wait := throttle.Wait(home, "keeper"); wait == 0 {
			t.Error("an address once known does not wait")
		}
		for range 100 {
			throttle.Failed(cafe, "keeper")
		}
		if wait := throttle.Wait(cafe, "clinic"); wait != throttleLongest {
			t.Errorf("longest wait %v", wait)
		}
	})
}

// The owner has a new address each time, in one network or in any, and strangers guess from as many places as they can without using up
// what the account may.
func TestThrottleLockout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := &Throttle{}
		looks, next := 0, 0
		strangers := func(n int) {
			for range n {
				next++
				if guesses(throttle, netip.AddrFrom4([4]byte{10, byte(next % 200), byte(next >> 16), byte(next >> 8)}), "cust") {
					looks++
				}
			}
		}
		owner := func(i int, peer [4]byte) {
			t.Helper()
			if wait := throttle.Wait(netip.AddrFrom4(peer), "cust"); wait != 0 {
				t.Fatalf("try %d: the owner at %v waits %v", i, peer, wait)
			}
			throttle.Succeeded(netip.AddrFrom4(peer), "cust")
		}
		for i := range 255 {
			strangers(400)
			owner(i, [4]byte{192, 0, 2, byte(i)})
			owner(i, [4]byte{100, byte(i), byte(i), 1})
			time.Sleep(time.Second)
		}
		owner(0, [4]byte{198, 51, 0, 1}) // a right password costs nothing
		for i := range 200 {
			owner(i, [4]byte{198, 51, byte(i), 1})
		}
		if most := 200 * (placeBurst*throttleFailures + 1); looks > most {
			t.Errorf("%d guesses were looked at, want %d at most", looks, most)
		}
	})
}

// However many addresses there are, the guesses against one account are those of its budget.
func TestThrottleTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := &Throttle{}
		looks, next := 0, uint32(0)
		const hours = 12
		for range hours * 60 {
			for range 150 {
				next += 0x9e3779b1 // all over the place
				if guesses(throttle, netip.AddrFrom4([4]byte{byte(next >> 24), byte(next >> 16), byte(next >> 8), byte(next)}), "cust") {
					looks++
				}
			}
			time.Sleep(time.Minute)
		}
		most := accountBurst*throttleFailures + int(hours*time.Hour/accountEvery)
		if looks > most || looks < most/2 {
			t.Errorf("%d guesses in half a day, want %d at most and not much less", looks, most)
		}
	})
}

// A refusal names the account for the log, and nothing that a stranger typed.
func TestRefusalNames(t *testing.T) {
	a := newAuthenticator()
	a.Throttle = &Throttle{Failures: 2}
	guess := func(name string) error {
		return converse(t, SCRAM(name, "wrong", Channel{}, false), start(t, a, SCRAMSHA256, plainChannel))
	}
	if err := guess("keeper@light.example"); !errors.Is(err, ErrCredentials) || !strings.HasSuffix(err.Error(), ", account keeper") {
		t.Error(err)
	}
	if err := guess("my secret"); !errors.Is(err, ErrCredentials) || !strings.HasSuffix(err.Error(), ", account unknown") {
		t.Error(err)
	}
	if err := guess("my secret"); !errors.Is(err, ErrThrottled) || !errors.Is(err, ErrTemporary) || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

// Guesses at many names do not make the Throttle forget what was guessed at one.
func TestThrottleForgetting(t *testing.T) {
	throttle := &Throttle{Entries: 10}
	stranger := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}) }
	i := 0
	for ; guesses(throttle, stranger(i), "cust"); i++ {
	}
	for range 1000 {
		i++
		guesses(throttle, stranger(i), fmt.Sprint(i))
	}
	if guesses(throttle, stranger(i+1), "cust") {
		t.Error("forgotten")
	}
}

func TestThrottleBounded(t *testing.T) {
	throttle := &Throttle{Entries: 10}
	for i := range 1000 {
		peer := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
		throttle.Wait(peer, fmt.Sprint(i))
		throttle.Failed(peer, fmt.Sprint(i))
		throttle.Succeeded(peer, fmt.Sprint(i))
	}
	for _, table := range []*table{&throttle.peers, &throttle.known} {
		if len(table.entries) > 10 || table.recent.Len() != len(table.entries) {
			t.Errorf("%d entries, %d in the list", len(table.entries), table.recent.Len())
		}
	}
	for _, b := range []*budgets{&throttle.places, &throttle.accounts} {
		if len(b.spent) > 10 || len(b.order) != len(b.spent) {
			t.Errorf("%d budgets, %d in order", len(b.spent), len(b.order))
		}
	}
	throttle.Failed(netip.Addr{}, "x") // a pipe has no address
	if wait := throttle.Wait(netip.Addr{}, "y"); wait != 0 {
		t.Errorf("without an address: %v", wait)
	}
}
