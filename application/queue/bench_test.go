package queue_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/queue/queuetest"
)

// BenchmarkAccept is durable intake of 4 KiB messages, without SMTP.
func BenchmarkAccept(b *testing.B) {
	text := []byte(strings.Repeat("0123456789 the quick brown fox jumps over the lazy dog.......\r\n", 64))
	for _, writers := range []int{1, 20, 100} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := queuetest.OpenWith(b, queue.Options{Config: queue.Config{SegmentSize: 64 << 20}})
			to := envelope(b, "a@b.example", "c@d.example").Recipients
			from := envelope(b, "a@b.example").ReversePath
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			work := make(chan struct{}, b.N)
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			b.ResetTimer()
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					var r bytes.Reader
					for range work {
						r.Reset(text)
						env := message.Envelope{ReversePath: from, Recipients: to}
						if err := s.Accept(context.Background(), &env, &r); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			st := s.Stats()
			b.ReportMetric(float64(st.Log.Syncs)/float64(b.N), "fsyncs/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// BenchmarkSettle leases and settles what was accepted before.
func BenchmarkSettle(b *testing.B) {
	s := queuetest.OpenWith(b, queue.Options{Config: queue.Config{SegmentSize: 64 << 20}})
	text := strings.Repeat("x", 4<<10)
	to := envelope(b, "a@b.example", "c@d.example").Recipients
	work := make(chan struct{}, b.N)
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range work {
				env := message.Envelope{Recipients: to}
				if err := s.Accept(context.Background(), &env, strings.NewReader(text)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		l, err := s.Lease("test/d.example", "bench")
		if err != nil || l == nil {
			b.Fatal(l, err)
		}
		if err := l.Settle([]queue.Verdict{{Done: true}}); err != nil {
			b.Fatal(err)
		}
	}
}

// benchMessages is how many messages BenchmarkOpen has waiting; `go test -bench Open -args -waiting 1000000` is the promise of the spool.
var benchMessages = flag.Int("waiting", 50_000, "messages that wait in BenchmarkOpen and BenchmarkReroute")

// BenchmarkOpen recovers a spool of messages of 4 KiB with one recipient each, and of some with many.
func BenchmarkOpen(b *testing.B) {
	for _, recipients := range []int{1, 50} {
		messages := *benchMessages / recipients
		o := queue.Options{Dir: b.TempDir(), Router: queuetest.Router(queuetest.ByDomain)}
		fill(b, o, messages, recipients)
		b.Run(fmt.Sprintf("recipients=%d", recipients), func(b *testing.B) {
			var before, after runtime.MemStats
			for range b.N {
				b.StopTimer()
				runtime.GC()
				runtime.ReadMemStats(&before)
				b.StartTimer()
				s, err := queue.Open(b.Context(), o)
				if err != nil {
					b.Fatal(err)
				}
				if st := s.Stats(); st.Waiting != messages*recipients {
					b.Fatalf("%+v", st)
				}
				b.StopTimer()
				runtime.GC()
				runtime.ReadMemStats(&after)
				s.Close()
				b.StartTimer()
			}
			waiting := float64(messages * recipients)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/waiting, "ns/recipient")
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/waiting, "B/recipient")
		})
	}
}

// fill makes a spool in which messages wait, and lets Run look after it until their heads are written.
func fill(b *testing.B, o queue.Options, messages, recipients int) {
	b.Helper()
	s, err := queue.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	var to []string
	for i := range recipients {
		to = append(to, fmt.Sprintf("recipient%d@domain%d.example", i, i%7))
	}
	text := "Subject: x\r\n\r\n" + strings.Repeat("0123456789abcdef", 256)
	work := make(chan struct{}, messages)
	for range messages {
		work <- struct{}{}
	}
	close(work)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range work {
				if err := s.Accept(context.Background(), envelope(b, "a@b.example", to...), strings.NewReader(text)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	for segments := s.Stats().Log.Segments; ; time.Sleep(10 * time.Millisecond) {
		names, err := filepath.Glob(filepath.Join(o.Dir, "log", "*.heads"))
		if err != nil {
			b.Fatal(err)
		}
		if len(names) >= segments-2 { // all but the active segment and the next
			break
		}
	}
	cancel()
	<-ended
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkReroute is a change of the routes of one domain, and of all, while messages of 100,000 others wait.
func BenchmarkReroute(b *testing.B) {
	s := queuetest.OpenWith(b, queue.Options{Config: queue.Config{SegmentSize: 64 << 20}})
	work := make(chan int, *benchMessages)
	for i := range *benchMessages {
		work <- i
	}
	close(work)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for i := range work {
				env := message.Envelope{Recipients: []message.Recipient{{Address: message.Address{Local: "a", Domain: fmt.Sprintf("d%d.example", i%100_000)}}}}
				if err := s.Accept(context.Background(), &env, strings.NewReader("Subject: waits\r\n\r\n")); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for name, changed := range map[string]func(queue.Lane) bool{"one": func(l queue.Lane) bool { return l.Name() == "d7.example" }, "all": nil} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s.Reroute(changed)
			}
		})
	}
}
