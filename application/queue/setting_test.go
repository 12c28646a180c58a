package queue_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/queue"
	"bothy/application/queue/queuetest"
	"bothy/application/smtp"
	"bothy/lib/sim"
	"bothy/lib/wal"
)

// TestClockIsSet: the time of day jumps under a running spool and between two runs. Nothing is given up or tried for that before its time,
// and nothing waits for a time that is years ahead.
func TestClockIsSet(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		by      time.Duration
		restart bool
	}{
		"a week ahead":                   {7 * 24 * time.Hour, false},
		"from 1970 to now":               {56 * year, false},
		"ten years back":                 {-10 * year, false},
		"an hour back":                   {-time.Hour, false},
		"a second ahead":                 {time.Second, false},
		"ten years back and a restart":   {-10 * year, true},
		"a week ahead, then it restarts": {7 * 24 * time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var offset atomic.Int64
				var told reporter
				o := queue.Options{
					Dir: "spool", FS: sim.NewDisk(), Router: queuetest.Router(queuetest.ByDomain), Notifier: &told, Log: slog.New(slog.DiscardHandler),
					Config: queue.Config{SegmentSize: wal.MinSegmentSize, FreeSpace: 1},
					Now:    func() time.Time { return time.Now().Add(time.Duration(offset.Load())).Round(0) }, Running: func() time.Duration { return time.Since(start) },
				}
				var s *queue.Spool
				var wg sync.WaitGroup
				stop := func() {}
				open := func() {
					stop()
					var err error
					if s, err = queue.Open(t.Context(), o); err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithCancel(t.Context())
					wg.Go(func() { s.Run(ctx) })
					stop = func() {
						cancel()
						wg.Wait()
						if err := s.Close(); err != nil {
							t.Error(err)
						}
					}
				}
				open()
				defer func() { stop() }()
				pass := func(d time.Duration) {
					time.Sleep(d)
					synctest.Wait()
				}
				due := func(lane queue.Lane, want int) {
					t.Helper()
					if got, all := s.Waiting(lane); got != want || all != 1 {
						t.Errorf("%s: %d due of %d, want %d of 1", lane, got, all, want)
					}
				}

				accept(t, s, envelope(t, "a@home.example", "b@d.example"))
				pass(time.Minute)
				l, err := s.Lease("test/d.example", "test")
				if err != nil || l == nil {
					t.Fatal(err)
				}
				if err := l.Settle([]queue.Verdict{{Reply: smtp.Reply{Code: 450, Text: "busy"}, Retry: o.Now().Add(4 * time.Hour)}}); err != nil {
					t.Fatal(err)
				}
				pass(time.Hour)
				due("test/d.example", 0)

				if c.restart && c.by > 0 { // it jumps while somebody looks, and what was learnt outlives the process
					offset.Store(int64(c.by))
					pass(2 * time.Minute)
					open()
				} else if offset.Store(int64(c.by)); c.restart {
					open()
				}
				pass(2 * time.Minute)
				due("test/d.example", map[bool]int{true: 1}[c.restart && c.by < 0 || c.by > 0 && c.restart])
				pass(3 * time.Hour) // four in all
				due("test/d.example", 1)

				pass(4 * 24 * time.Hour)
				due("test/d.example", 1) // by now it is four days old, whatever anybody says
				if c.by > 0 || !c.restart && c.by > -24*time.Hour {
					pass(24 * time.Hour)
					if _, all := s.Waiting("test/d.example"); all != 0 {
						t.Error("it is not given up after five days")
					}
				}
			})
		})
	}
}
