package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/lib/sim"
)

// TestPowerCuts has a spool do what the seed says, and cuts the power again and again, also while it recovers.
func TestPowerCuts(t *testing.T) {
	sim.Seeds(t, 150, func(t *testing.T, seed uint64) {
		dice := rand.New(rand.NewPCG(seed, 3))
		w := newWitness(sim.NewDisk())
		lives := 1 + dice.IntN(4)
		for life := range lives {
			w.disk.CrashAt = 1 + dice.IntN(300)
			if err := w.roam(dice); err != nil && !errors.Is(err, sim.ErrPower) && !errors.As(err, new(smtp.Reply)) && !errors.Is(err, ErrFenced) {
				t.Fatalf("life %d: %v", life, err)
			}
			w.cut(dice)
		}
		w.check(t, w.disk)
	})
}

// cut takes the power away. What was done and not known to be on disk may be done or not.
func (w *witness) cut(dice *rand.Rand) {
	w.disk = w.disk.PowerCut(sim.Survival(dice.IntN(3)), dice.Uint64())
	for k := range w.done {
		if !w.certain[k] {
			w.perhaps[k] = true
		}
	}
	w.done, w.deferred = maps.Clone(w.certain), maps.Clone(w.waits)
}

// roam lives until something fails or the dice say that it is enough.
func (w *witness) roam(dice *rand.Rand) error {
	if err := w.open(); err != nil {
		return err
	}
	defer func() { // of the last one of several
		if w.spool != nil {
			w.spool.Close()
		}
	}()
	domain := func() string { return []string{"a.example", "b.example", "c.example"}[dice.IntN(3)] }
	for range 10 + dice.IntN(60) {
		var err error
		switch dice.IntN(12) {
		case 0, 1, 2, 3:
			var to []string
			for i := range 1 + dice.IntN(4) {
				to = append(to, fmt.Sprintf("%s%d@%s", []string{"done", "later", "fail"}[dice.IntN(3)], i, domain()))
			}
			_, err = w.accept(100+dice.IntN(3000), to...)
		case 4, 5, 6:
			err = w.settle(domain())
		case 7:
			err = w.settle("notice.example")
		case 8:
			w.spool.work(context.Background())
			err = w.spool.log.Err()
		case 9:
			w.spool.Pause("kind")
			w.now = w.now.Add(time.Duration(dice.IntN(10)) * time.Minute)
			w.spool.Resume("kind")
		case 10:
			err = w.fill(1 + dice.IntN(7))
		case 11:
			if dice.IntN(2) == 0 {
				err = w.reopen()
			} else {
				err = w.deleteAny(dice)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteAny deletes a message none of whose recipients has failed.
func (w *witness) deleteAny(dice *rand.Rand) error {
	var ids []message.ID
	for k := range w.promised {
		ids = append(ids, k.id)
	}
	slices.SortFunc(ids, func(a, b message.ID) int { return slices.Compare(a[:], b[:]) })
	ids = slices.Compact(ids)
	if len(ids) == 0 {
		return nil
	}
	id := ids[dice.IntN(len(ids))]
	for k := range w.doubtful {
		if k.id == id {
			return nil
		}
	}
	return w.delete(id)
}
