package odmr

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/directory"
	"bothy/lib/sim"
)

// TestSeeds makes a few calls under dice: octets come in pieces, connections are slow and break anywhere in any manner, two calls
// happen at once, the provider restarts in between. In the end everything is where it belongs.
func TestSeeds(t *testing.T) {
	seeds := 300
	if testing.Short() {
		seeds = 30
	}
	sim.Seeds(t, seeds, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) {
			dice := rand.New(rand.NewPCG(seed, 2645))
			x := newExchange(t)
			x.compress = dice.IntN(2) == 0
			for range 1 + dice.IntN(4) {
				if dice.IntN(3) == 0 {
					x.restart(dice)
				}
				if dice.IntN(3) == 0 {
					x.callTwice(randomPath(dice), randomPath(dice))
				} else {
					_ = x.call(randomPath(dice))
				}
				time.Sleep(time.Duration(dice.IntN(100)) * time.Minute)
			}
			x.finish()
			x.duplicates()
		})
	})
}

// TestSeedsLingering: sites that linger, over bad connections; one of them has a twin with the same account; messages come all the while,
// and the provider restarts or loses power under open sessions.
func TestSeedsLingering(t *testing.T) {
	seeds := 150
	if testing.Short() {
		seeds = 30
	}
	sim.Seeds(t, seeds, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) {
			dice := rand.New(rand.NewPCG(seed, 1))
			x := newExchange(t)
			x.compress = dice.IntN(2) == 0
			x.lingering(time.Duration(1+dice.IntN(60)) * time.Minute)
			if dice.IntN(2) == 0 {
				x.set(func(c *directory.Customer) { c.Linger, c.LongPoll = 0, 4*time.Minute })
			}
			for range dice.IntN(12) {
				x.paths = append(x.paths, randomPath(dice))
			}
			end := []func(){run(x.customer())}
			if dice.IntN(2) == 0 {
				end = append(end, run(x.customer()))
			}
			for i := range 1 + dice.IntN(8) {
				time.Sleep(time.Duration(dice.IntN(20*60_000)) * time.Millisecond)
				switch dice.IntN(6) {
				case 0:
					x.restartOpen(dice)
				default:
					x.post(letter{fmt.Sprintf("push%d", i), "x\r\n", mail[dice.IntN(2)].to})
				}
			}
			time.Sleep(time.Duration(dice.IntN(60)) * time.Minute)
			for _, end := range end {
				end()
			}
			x.serving.Wait()
			x.set(func(c *directory.Customer) { c.Linger, c.LongPoll = 0, 0 })
			x.finish()
			x.duplicates()
		})
	})
}

// restartOpen is restart while sessions are open: they end with QUIT, or their connections are reset.
func (x *exchange) restartOpen(dice *rand.Rand) {
	x.mu.Lock()
	x.stop()
	for _, end := range x.ends {
		if dice.IntN(2) == 0 {
			end.Close()
		}
	}
	directory := x.provider.Directory
	x.down = true
	x.mu.Unlock()
	x.serving.Wait()
	x.restart(dice)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.provider.Directory, x.down = directory, false
	x.ctx, x.stop = context.WithCancel(context.Background())
}

// randomPath is a connection with faults.
func randomPath(dice *rand.Rand) sim.Path {
	most := 1 + dice.IntN(64)
	path := sim.Path{
		Delay: time.Duration(dice.IntN(2000)) * time.Millisecond,
		Rate:  int64(dice.IntN(2)) * int64(300+dice.IntN(10_000)),
		Cut:   &sim.Cut{Side: sim.Side(dice.IntN(2)), After: int64(dice.IntN(2500)), How: sim.How(dice.IntN(4))},
	}
	if dice.IntN(2) == 0 {
		sizes := rand.New(rand.NewPCG(dice.Uint64(), 1))
		path.Chunk = func() int { return 1 + sizes.IntN(most) }
	}
	return path
}

// callTwice makes two calls of one account at once. One may be told to come later.
func (x *exchange) callTwice(paths ...sim.Path) {
	x.paths = paths
	ended := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := x.customer().Call(context.Background(), nil)
			ended <- err
		}()
	}
	for range 2 {
		if err := <-ended; err != nil && !errors.Is(err, ErrLater) && !errors.Is(err, ErrNoMail) &&
			!errors.Is(err, ErrUnreachable) && !errors.Is(err, ErrInterrupted) {
			x.t.Errorf("a call ended with %v", err)
		}
	}
	x.serving.Wait()
}

// restart is the provider's process ending and beginning again, or its machine losing power: then what was delivered and not yet
// written down comes again.
func (x *exchange) restart(dice *rand.Rand) {
	if dice.IntN(2) == 0 {
		x.disk = x.disk.PowerCut(sim.Survival(dice.IntN(3)), dice.Uint64())
	} else if err := x.hold.Close(); err != nil {
		x.t.Fatal(err)
	}
	x.hold = openSpool(x.t, x.disk, providerRouter)
	x.provider = newCutProvider(x.hold)
}
