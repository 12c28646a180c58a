package wal_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bothy/lib/sim"
	"bothy/lib/wal"
)

const hold = 2 * time.Millisecond

// patient is a log that holds groups.
func patient(t *testing.T) *wal.Log {
	t.Helper()
	o := options(sim.NewDisk())
	o.Hold, o.SegmentSize = hold, 1<<20
	l, _ := open(t, o)
	return l
}

// commit makes a record durable and returns how long that took.
func commit(t *testing.T, l *wal.Log) time.Duration {
	t.Helper()
	began := time.Now()
	if _, err := l.Commit([]byte("record")); err != nil {
		t.Error(err)
	}
	return time.Since(began)
}

func TestHoldAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := patient(t)
		for range 10 {
			e := l.Expect()
			time.Sleep(time.Second) // it is being received, from a slow client
			p, err := e.Append([]byte("record"))
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if err := p.Wait(); err != nil || time.Since(began) != 0 {
				t.Fatalf("nobody to wait for, and waited %v, %v", time.Since(began), err)
			}
		}
	})
}

func TestHoldForCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := patient(t)
		const writers = 20
		for round := range 10 {
			before := l.Stats().Syncs
			var wg sync.WaitGroup
			for w := range writers {
				e := l.Expect()
				wg.Go(func() {
					time.Sleep(time.Duration(w) * hold / (2 * writers)) // they come one after the other
					p, err := e.Append(fmt.Append(nil, w))
					if err == nil {
						err = p.Wait()
					}
					if err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			// Two thirds of them ride together, then two thirds of the rest, and so on.
			if got := l.Stats().Syncs - before; got > 5 {
				t.Errorf("round %d: %d syncs for %d records", round, got, writers)
			}
		}
	})
}

func TestHoldIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := patient(t)
		slow := l.Expect()
		var waited, quick int
		for range 300 {
			switch took := commit(t, l); took {
			case 0:
				quick++
			case hold:
				waited++
			default:
				t.Fatalf("waited %v", took)
			}
		}
		// Each wait in vain makes more of those who follow not wait: 1, 2, 4 … 64.
		if waited > 12 || waited < 7 {
			t.Errorf("%d of 300 waited for company that does not come", waited)
		}
		slow.Cancel()
		slow.Cancel() // twice is once
		if took := commit(t, l); took != 0 {
			t.Errorf("waited %v for nobody", took)
		}
	})
}

func TestHoldEnds(t *testing.T) {
	for name, end := range map[string]func(l *wal.Log, e *wal.Expected){
		"when the other gives up": func(_ *wal.Log, e *wal.Expected) { e.Cancel() },
		"when somebody reads it": func(l *wal.Log, _ *wal.Expected) {
			if _, err := l.Read(wal.Position{Segment: 1}, nil); err != nil {
				t.Error(err)
			}
		},
		"when the log is closed": func(l *wal.Log, _ *wal.Expected) { l.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := patient(t)
				other := l.Expect()
				took := make(chan time.Duration)
				go func() { took <- commit(t, l) }()
				time.Sleep(hold / 4)
				synctest.Wait()
				end(l, other)
				if d := <-took; d != hold/4 {
					t.Errorf("waited %v", d)
				}
			})
		})
	}
}
