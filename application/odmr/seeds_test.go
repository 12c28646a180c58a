package odmr

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

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
