package queue_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

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

// BenchmarkOpen recovers a spool of many recipients in few octets.
func BenchmarkOpen(b *testing.B) {
	const messages, recipients = 2_000, 50
	o := queue.Options{Dir: b.TempDir(), Router: queuetest.Router(queuetest.ByDomain)}
	s, err := queue.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	var to []string
	for i := range recipients {
		to = append(to, fmt.Sprintf("recipient%d@domain%d.example", i, i%7))
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range messages / 20 {
				if err := s.Accept(context.Background(), envelope(b, "a@b.example", to...), strings.NewReader("Subject: x\r\n\r\n")); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		s, err := queue.Open(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		if st := s.Stats(); st.Waiting != messages*recipients {
			b.Fatalf("%+v", st)
		}
		s.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(messages*recipients), "ns/recipient")
}
