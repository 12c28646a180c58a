package odmr

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/directory"
	"bothy/application/queue"
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

// TestClockJumpsLingering: the provider's clock is set while a message is leased to a session that lingers: what is under way is settled, what
// comes is pushed, what was put off for ten minutes comes after ten minutes at the latest, and the session stays.
func TestClockJumpsLingering(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, jump := range []time.Duration{-20 * year, -time.Hour, -time.Second, time.Hour, 24 * time.Hour, 20 * year} {
		t.Run(jump.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := emptyExchange(t)
				x.hold.Close()
				var off atomic.Int64
				start := time.Now()
				now := func() time.Time { return time.Now().Add(time.Duration(off.Load())).Round(0) }
				var err error
				x.hold, err = queue.Open(t.Context(), queue.Options{
					Dir: "/spool", FS: x.disk, Router: routerFunc(providerRouter), Notifier: notices{}, Config: queue.Config{SegmentSize: 16 << 10, FreeSpace: 1},
					Now: now, Running: func() time.Duration { return time.Since(start) },
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { x.hold.Close() })
				x.provider = newCutProvider(x.hold)
				x.provider.Now = now
				var armed atomic.Bool
				x.provider.Observe = func(e Event) {
					if armed.Load() && e.What == Transferred {
						off.Store(int64(jump)) // its lease is not settled yet, nor are those of the others under way
					}
				}
				ctx, stop := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { _ = x.hold.Run(ctx) })
				x.lingering(24 * time.Hour)
				end := run(x.customer())
				time.Sleep(10 * time.Second)

				x.post(letter{"four", "put off\r\n", []string{"a@clinic.example", "z@light.example"}})
				time.Sleep(time.Second)
				armed.Store(true)
				for i := range 3 {
					x.later(fmt.Sprint("under", i), "a@clinic.example", "z@light.example")
				}
				time.Sleep(time.Second)
				x.later("push", "a@clinic.example")
				time.Sleep(time.Second)
				if x.arrived("under0")+x.arrived("under1")+x.arrived("under2") != 3 || x.arrived("push") != 1 {
					t.Errorf("%q", x.arrivals)
				}
				time.Sleep(sameCall - 10*time.Second)
				if x.arrived("four") != 0 && jump <= 0 { // set ahead, the clock says that it is time, until the queue has noticed
					t.Error("what was put off came early")
				}
				time.Sleep(time.Minute)
				if x.arrived("four") != 1 {
					t.Error("what was put off has not come")
				}
				if len(x.ends) != 1 || x.provider.own.Status("foobar.net").State != StateLingering {
					t.Errorf("%d connections, %+v", len(x.ends), x.provider.own.Status("foobar.net"))
				}
				end()
				x.serving.Wait()
				if twice := x.duplicates(); twice != nil {
					t.Errorf("%q came twice", twice)
				}
				stop()
				running.Wait()
			})
		})
	}
}
