package odmr

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/directory"
	"bothy/lib/sim"
)

// TestClockJumps: the provider's clock is set back and forth between calls and within one. Nothing is lost, nobody is kept waiting for it
// longer than the account's interval, and what was put off comes with the next call.
func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		var off atomic.Int64
		x.provider.Now = func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
		x.set(func(c *directory.Customer) { c.MinInterval = time.Minute })
		jumps := []time.Duration{-time.Hour, 24 * time.Hour, -20 * 365 * 24 * time.Hour, 20 * 365 * 24 * time.Hour, 0}
		x.provider.Observe = func(e Event) {
			if e.What == Transferred {
				off.Store(int64(jumps[0])) // in the middle of a call
			}
		}
		for i, jump := range jumps {
			off.Store(int64(jump))
			x.later(string(rune('p'+i)), "a@clinic.example", "z@light.example")
			if err := x.call(sim.Path{}); err != nil {
				t.Errorf("clock off by %v: %v", jump, err)
			}
			x.set(func(c *directory.Customer) { c.LastContact = x.provider.now() })
			time.Sleep(time.Minute)
		}
		x.provider.Observe = nil
		x.set(func(c *directory.Customer) { c.LastContact = x.provider.now().Add(30 * time.Second) }) // the clock went back
		if err := x.call(sim.Path{}); err != nil && !errors.Is(err, ErrNoMail) {
			t.Error(err)
		}
		x.set(func(c *directory.Customer) { c.MinInterval = 0 })
		x.finish()
		if twice := x.duplicates(); twice != nil {
			t.Errorf("%q came twice", twice)
		}
	})
}
