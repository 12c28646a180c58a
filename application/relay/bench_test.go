package relay

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/queue/queuetest"
	"bothy/application/smtp"
)

// BenchmarkRelay takes messages of 4 KiB that wait on a disk to a server that stores nothing, over TCP: lease, send, settle.
func BenchmarkRelay(b *testing.B) {
	const hop = "192.0.2.1:25"
	q := queuetest.OpenWith(b, queue.Options{Router: oneLane("smarthost/" + hop), Config: queue.Config{SegmentSize: 64 << 20}})
	fillWith(b, q, b.N)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	sink := &smtp.Server{Hostname: "sink.example", Protocol: smtp.Relay, Accept: forgetful{}}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go sink.Serve(b.Context(), smtp.NewConn(conn))
		}
	}()
	var left sync.WaitGroup
	left.Add(b.N)
	r, err := New(Options{
		Queue: q, Hostname: "relay.example",
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, ln.Addr().String())
		},
		Sent: func(queue.Lane, message.ID, message.Address, smtp.Reply) { left.Done() },
	}, Config{TLS: tlsNone}, hop)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	b.ReportAllocs()
	b.ResetTimer()
	go func() { ended <- r.Run(ctx) }()
	left.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// forgetful is an Acceptor that stores nothing.
type forgetful struct{}

func (forgetful) Accept(_ context.Context, _ *message.Envelope, body io.Reader) error {
	_, err := io.Copy(io.Discard, body)
	return err
}

// fillWith has messages wait.
func fillWith(b *testing.B, q *queue.Spool, messages int) {
	b.Helper()
	text := "Subject: bench\r\n\r\n" + strings.Repeat("0123456789 the quick brown fox jumps over the lazy dog.......\r\n", 64)
	work := make(chan struct{}, messages)
	for range messages {
		work <- struct{}{}
	}
	close(work)
	var filling sync.WaitGroup
	for range 100 {
		filling.Go(func() {
			for range work {
				env := &message.Envelope{Recipients: []message.Recipient{{Address: message.Address{Local: "aunt", Domain: "away.example"}}}}
				if err := q.Accept(context.Background(), env, strings.NewReader(text)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	filling.Wait()
}
