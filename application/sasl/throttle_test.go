package sasl

import (
	"errors"
	"fmt"
	"net/netip"
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

// Whoever guesses at an account from everywhere is slowed down; the owner, at an address known, is not.
func TestThrottleAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := &Throttle{}
		home, cafe := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::1")
		throttle.Succeeded(home, "keeper")
		for i := range 200 {
			throttle.Failed(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), "keeper")
		}
		if wait := throttle.Wait(cafe, "keeper"); wait != accountLongestWait {
			t.Errorf("a stranger waits %v", wait)
		}
		if wait := throttle.Wait(cafe, "clinic"); wait != 0 {
			t.Errorf("another account waits %v", wait)
		}
		if wait := throttle.Wait(netip.MustParseAddr("2001:db8::2"), "keeper"); wait != 0 { // the same /64
			t.Errorf("the owner waits %v", wait)
		}
		for range throttleFailures {
			throttle.Failed(home, "keeper") // but has only so many failures of its own
		}
		if wait := throttle.Wait(home, "keeper"); wait != accountLongestWait {
			t.Errorf("an address once known waits %v", wait)
		}
		for range 100 {
			throttle.Failed(cafe, "keeper")
		}
		if wait := throttle.Wait(cafe, "clinic"); wait != throttleLongest {
			t.Errorf("longest wait %v", wait)
		}
	})
}

func TestThrottleBounded(t *testing.T) {
	throttle := &Throttle{Entries: 10}
	for i := range 1000 {
		peer := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
		throttle.Failed(peer, fmt.Sprint(i))
		throttle.Succeeded(peer, fmt.Sprint(i))
	}
	for _, table := range []*table{&throttle.peers, &throttle.accounts, &throttle.known} {
		if len(table.entries) > 10 || table.recent.Len() != len(table.entries) {
			t.Errorf("%d entries, %d in the list", len(table.entries), table.recent.Len())
		}
	}
	throttle.Failed(netip.Addr{}, "x") // a pipe has no address
	if wait := throttle.Wait(netip.Addr{}, "y"); wait != 0 {
		t.Errorf("without an address: %v", wait)
	}
}
