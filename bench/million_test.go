package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
)

const (
	million      = 1_000_000
	millionLanes = 10_000
	firsts       = 101 // times that the first message of a lane is asked for
)

// million measures a spool in which very much waits.
func (t *table) million(b *testing.B) {
	o := queue.Options{Dir: b.TempDir(), Router: router("mx"), Config: queue.Config{CommitDelay: 2 * time.Millisecond}}
	took := filled(b, o)
	fmt.Printf("\n%-44s %12s\n", "1,000,000 messages wait in 10,000 lanes", "")
	fmt.Printf("%-44s %12v, worst of %d %v\n", "first message of one more lane, from 250", took[0], firsts, took[1])
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC() // the second frees what pools had kept
	runtime.ReadMemStats(&before)
	began := time.Now()
	s, err := queue.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	start := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if st := s.Stats(); st.Waiting < million {
		b.Fatalf("%d wait", st.Waiting)
	}
	each := float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)) / million
	fmt.Printf("%-44s %12v\n%-44s %10.0f B each\n", "start", start.Round(time.Millisecond), "memory", each)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	t.goal(b, "first message of a lane, 1,000,000 others", float64(took[1].Microseconds())/1000, "<", 50, "ms")
	t.goal(b, "start with 1,000,000 waiting", start.Seconds(), "<", 5, "s")
	t.goal(b, "memory of one that waits", each, "<", 400, "B")
}

// filled leaves such a spool on the disk, and returns what first measured there.
func filled(b *testing.B, o queue.Options) [2]time.Duration {
	b.Helper()
	s := fill(b, o)
	took := first(b, s)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return took
}

// fill makes a spool of a million messages of 1 KiB, and lets Run write what makes the next start quick.
func fill(b *testing.B, o queue.Options) *queue.Spool {
	b.Helper()
	s, err := queue.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	const writers = 1000
	var filling sync.WaitGroup
	for w := range writers {
		filling.Go(func() {
			for i := w; i < million && !b.Failed(); i += writers {
				acceptFor(b, s, fmt.Sprintf("d%d.example", i%millionLanes))
			}
		})
	}
	filling.Wait()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	for segments := s.Stats().Log.Segments; ; time.Sleep(100 * time.Millisecond) {
		heads, err := filepath.Glob(filepath.Join(o.Dir, "log", "*.heads"))
		if err != nil {
			b.Fatal(err)
		}
		if len(heads) >= segments-2 { // all but the segment that is written and the next
			break
		}
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	return s
}

var millionText = "Subject: one of a million\r\n\r\n" + strings.Repeat(strings.Repeat("x", 62)+"\r\n", 16)

func acceptFor(b *testing.B, s *queue.Spool, domain string) {
	env := &message.Envelope{Recipients: []message.Recipient{{Address: message.Address{Local: "a", Domain: domain}}}}
	if err := s.Accept(context.Background(), env, strings.NewReader(millionText)); err != nil {
		b.Error(err)
	}
}

// first returns how long it took from Accept's return to the lease of a message whose lane was told of, in the middle and at worst.
func first(b *testing.B, s *queue.Spool) [2]time.Duration {
	b.Helper()
	lanes, stop := s.Due("mx")
	defer stop()
	for range millionLanes { // those that wait are told of first
		<-lanes
	}
	var all []float64
	for i := range firsts {
		lane := queue.Lane(fmt.Sprintf("mx/first%d.example", i))
		acceptFor(b, s, lane.Name())
		began := time.Now()
		for told := range lanes {
			if told == lane {
				break
			}
		}
		l, err := s.Lease(lane, "bench")
		if err != nil || l == nil {
			b.Fatal(l, err)
		}
		all = append(all, float64(time.Since(began)))
		if err := l.Settle([]queue.Verdict{{Done: true}}); err != nil {
			b.Fatal(err)
		}
	}
	m := median(all)
	return [2]time.Duration{time.Duration(m), time.Duration(all[len(all)-1])}
}
