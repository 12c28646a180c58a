package queue

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/lib/sim"
)

// Many at once, with compaction under way: everything that was accepted is delivered once, whole.
func TestConcurrent(t *testing.T) {
	crowd(t, newWitness(sim.NewDisk()), 1)
}

// The same, and the power fails.
func TestConcurrentCrash(t *testing.T) {
	for seed := range uint64(30) {
		w := newWitness(sim.NewDisk())
		w.disk.CrashAt = 20 + int(seed)*23
		crowd(t, w, seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// crowd has many writers and many holders at a spool until all is done or the power fails, and then compares.
func crowd(t *testing.T, w *witness, seed uint64) {
	t.Helper()
	crash := w.disk.CrashAt > 0
	if err := w.open(); err != nil {
		return // the power failed already
	}
	s := w.spool
	var mu sync.Mutex
	bodies, promised, settled := map[message.ID]string{}, map[message.ID]bool{}, map[message.ID]int{}
	ctx, cancel := context.WithCancel(t.Context())
	var writers, holders, others sync.WaitGroup
	others.Go(func() { s.Run(ctx) })
	others.Go(func() {
		for ctx.Err() == nil && s.log.Err() == nil {
			s.compact()
			s.Reroute(nil)
			s.List(Filter{}, message.ID{}, 5)
			runtime.Gosched()
		}
	})
	for i := range 6 {
		writers.Go(func() {
			dice := rand.New(rand.NewPCG(seed, uint64(i)))
			for range 30 {
				text := fmt.Sprint(i, strings.Repeat("x", dice.IntN(1500)))
				env := &message.Envelope{ID: message.NewID(time.Now()), Recipients: []message.Recipient{{Address: message.Address{Local: "done", Domain: "a.example"}}}}
				mu.Lock()
				bodies[env.ID] = text
				mu.Unlock()
				if err := s.Accept(ctx, env, strings.NewReader(text)); err != nil {
					if !crash {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				promised[env.ID] = true
				mu.Unlock()
			}
		})
	}
	var accepted atomic.Bool
	for range 4 {
		holders.Go(func() {
			for {
				last := accepted.Load()
				l, err := s.Lease("kind/a.example", "crowd")
				if err != nil || l == nil && last {
					return
				}
				if l == nil {
					runtime.Gosched()
					continue
				}
				text, err := bodyOf(l)
				mu.Lock()
				if err == nil && text != bodies[l.Envelope.ID] {
					t.Errorf("wrong body of %d octets", len(text))
				}
				settled[l.Envelope.ID]++
				mu.Unlock()
				if err == nil {
					err = l.Settle([]Verdict{{Done: true}})
				}
				if err != nil && !crash {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	accepted.Store(true)
	holders.Wait()
	cancel()
	others.Wait()
	s.Close()
	w.disk = w.disk.PowerCut(sim.Torn, seed)
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	for id, e := range w.spool.index.messages {
		b, err := w.spool.openBody(e)
		if err != nil {
			t.Error(err)
			continue
		}
		text, err := io.ReadAll(b)
		b.Close()
		if err != nil || !bytes.Equal(text, []byte(bodies[id])) || !crash {
			t.Errorf("%v is there: %d octets, %v", id, len(text), err)
		}
	}
	for id := range promised {
		if settled[id] == 0 && w.spool.find(id) == nil || settled[id] > 1 {
			t.Errorf("%v: promised, settled %d times, and not there", id, settled[id])
		}
	}
}
