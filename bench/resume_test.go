package bench

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/checkpoint"
	"bothy/application/message"
	"bothy/application/odmr"
	"bothy/application/queue"
	"bothy/application/sasl"
	"bothy/application/smtp"
	"bothy/application/submission"
	"bothy/lib/sim"
)

// These measure over a link that is cut, in the time of a synctest bubble: a quarter of an hour takes seconds. testing.B has no bubbles, so they are
// tests, which run with -bench only.

func measuring(t *testing.T) {
	t.Helper()
	if flag.Lookup("test.bench").Value.String() == "" {
		t.Skip("a measurement: make bench")
	}
}

// brittle is a link that is cut now and then: what is under way is lost, and both ends learn of it.
type brittle struct {
	delay time.Duration
	rate  int64
	every func() time.Duration // until the next cut

	serve   func(net.Conn)
	serving sync.WaitGroup
	cuts    atomic.Int64
	up      atomic.Int64 // octets that the client has sent, those that were lost included
	down    atomic.Int64 // and the server
	ended   atomic.Int64 // when the last connection was over, in nanoseconds since 1970; 0: there was none
	away    atomic.Int64 // nanoseconds between one connection and the next
}

func (l *brittle) dial(context.Context, string, string) (net.Conn, error) {
	if ended := l.ended.Load(); ended > 0 {
		l.away.Add(time.Now().UnixNano() - ended)
	}
	near, far := sim.Pipe(sim.Path{Delay: l.delay, Rate: l.rate})
	over := make(chan struct{})
	l.serving.Go(func() {
		defer far.Close()
		l.serve(far)
		l.up.Add(near.Left())
		l.down.Add(far.Left())
		l.ended.Store(time.Now().UnixNano())
		close(over)
	})
	l.serving.Go(func() {
		select {
		case <-time.After(l.every()):
			l.cuts.Add(1)
			near.Break(sim.Lost)
		case <-over:
		}
	})
	return near, nil
}

// certificate is a server's TLS, and that of a client that trusts it.
func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"provider.example"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: roots, ServerName: "provider.example"}
}

func spoolIn(t *testing.T, kind string) *queue.Spool {
	t.Helper()
	s, err := queue.Open(context.Background(), queue.Options{Dir: t.TempDir(), Router: router(kind)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keptIn(t *testing.T, s *queue.Spool) *checkpoint.Store {
	t.Helper()
	c, err := checkpoint.Open(checkpoint.Options{Dir: t.TempDir(), Accepted: s.Transaction})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// verifier is every account's.
func verifier(t *testing.T) accounts {
	t.Helper()
	v, err := sasl.NewVerifier("", "secret", 4096)
	if err != nil {
		t.Fatal(err)
	}
	return accounts{v}
}

// TestMeasureSubmissionCut submits 20 MB over 1 Mbit/s and 100 ms, cut at 50 random points, with CHECKPOINT; and says what starting from the beginning
// after each cut costs: that never ends, so it is cut off after ten times the message.
func TestMeasureSubmissionCut(t *testing.T) {
	measuring(t)
	const size, cuts = 20_000_000, 50
	text := incompressible(size)
	fmt.Printf("\n%-34s %6s %12s %12s %12s %9s\n", "20 MB, 1 Mbit/s, 50 cuts", "cuts", "octets", "sent twice", "s", "arrived")
	for _, resume := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			server, client := certificate(t)
			spool := spoolIn(t, "mx")
			defer spool.Close()
			agent := submission.New(submission.Options{Hostname: "provider.example", Directory: submission.Anyone{}, Next: spool})
			if resume {
				agent.Checkpoints = keptIn(t, spool)
			}
			srv := agent.Server(server, &sasl.Authenticator{Accounts: verifier(t), Hostname: "provider.example", Allowed: sasl.All()})
			dice := rand.New(rand.NewPCG(1, 2))
			left := cuts
			whole := time.Duration(float64(size) / (1_000_000 / 8) * float64(time.Second))
			link := &brittle{delay: 50 * time.Millisecond, rate: 1_000_000 / 8, serve: func(c net.Conn) {
				_ = srv.Serve(context.Background(), smtp.NewConn(tls.Server(c, server)))
			}}
			link.every = func() time.Duration { // cuts at random points of the time that the message takes
				if left == 0 {
					return 24 * time.Hour
				}
				left--
				return time.Second + time.Duration(dice.ExpFloat64()*float64(whole)/cuts*0.9)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			sender := &submission.Sender{
				Hostname: "site.example", Server: "provider.example:465", TLS: "implicit", Config: client, Username: "keeper", Password: "secret", Dial: link.dial,
				Progress: func(submission.Attempt) {
					if link.up.Load() > 10*size {
						cancel()
					}
				},
			}
			env := &message.Envelope{ReversePath: addressOf("keeper@site.example"), Recipients: []message.Recipient{{Address: addressOf("doctor@hospital.example")}}}
			began := time.Now()
			replies, err := sender.Send(ctx, env, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }, int64(len(text)))
			took := time.Since(began)
			link.serving.Wait()
			_, all := spool.Waiting("mx/hospital.example")
			twice := float64(link.up.Load()-int64(len(text))) / float64(len(text))
			name := "with CHECKPOINT"
			if !resume {
				name = "from the beginning each time"
			}
			fmt.Printf("%-34s %6d %12d %11.1f%% %12.0f %9d\n", name, link.cuts.Load(), link.up.Load(), 100*twice, took.Seconds(), all)
			if resume && (err != nil || replies[0].Code != 250 || all != 1 || link.cuts.Load() < cuts || twice > 0.05) {
				t.Errorf("%v %v, %d messages, %d cuts, %.3f sent twice", replies, err, all, link.cuts.Load(), twice)
			}
		})
	}
}

// TestMeasureODMRCut fetches 1 GB over 10 Mbit/s and 100 ms, cut every 30 s on average, in messages of several sizes. Beside what is progress it says
// what of the rest went by between the calls; what else is missing went into logins, what the cuts lost on its way, TLS and SMTP.
func TestMeasureODMRCut(t *testing.T) {
	measuring(t)
	const rate = 10_000_000 / 8
	fmt.Printf("\n%-34s %6s %12s %12s %12s %9s %12s\n", "10 Mbit/s, 100 ms, cut every 30 s", "cuts", "octets", "s", "of link", "twice", "between")
	for _, c := range []struct {
		name  string
		count int
		sizes []int // in turn
	}{
		{"1 GB in messages of 10 MB", 100, []int{10_000_000}},
		{"1 GB in messages of 1 MB", 1000, []int{1_000_000}},
		{"200 MB, 4 KB to 5 MB", 250, []int{4_000, 20_000, 40_000, 70_000, 150_000, 250_000, 400_000, 600_000, 1_500_000, 5_000_000}},
	} {
		synctest.Test(t, func(t *testing.T) {
			server, client := certificate(t)
			hold, site := spoolIn(t, "odmr"), spoolIn(t, "mailbox")
			defer hold.Close()
			defer site.Close()
			provider := &odmr.Provider{
				Hostname: "provider.example", TLS: server, Queue: hold, Sessions: new(odmr.Sessions),
				Directory: customers{"clinic": {Account: "clinic", Domains: []string{"clinic.example"}}},
				Auth:      &sasl.Authenticator{Accounts: verifier(t), Hostname: "provider.example", Allowed: sasl.All()},
			}
			text := incompressible(slices.Max(c.sizes))
			var size int // of all
			for i := range c.count {
				text := text[:c.sizes[i%len(c.sizes)]]
				text = text[:strings.LastIndex(text, "\r\n")+2]
				size += len(text)
				env := &message.Envelope{ID: message.NewID(time.Now()), Recipients: []message.Recipient{{Address: addressOf("nurse@clinic.example")}}}
				if err := hold.Accept(context.Background(), env, io.MultiReader(strings.NewReader(fmt.Sprintf("Subject: %d\r\n", i)), strings.NewReader(text))); err != nil {
					t.Fatal(err)
				}
			}
			dice := rand.New(rand.NewPCG(3, 4))
			link := &brittle{delay: 50 * time.Millisecond, rate: rate, serve: func(nc net.Conn) {
				_ = provider.Serve(context.Background(), tls.Server(nc, server))
			}}
			link.every = func() time.Duration { return time.Duration(dice.ExpFloat64() * 30 * float64(time.Second)) }
			customer := newCustomer("provider.example:366", acceptor(site.Accept))
			customer.TLS, customer.Dial, customer.Config.TLS, customer.Checkpoints = client, link.dial, "implicit", keptIn(t, site)
			ctx, stop := context.WithCancel(context.Background())
			began := time.Now()
			done := make(chan struct{})
			go func() { defer close(done); _ = customer.Run(ctx) }()
			for {
				if _, all := hold.Waiting("odmr/clinic.example"); all == 0 {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			took := time.Since(began)
			stop()
			<-done
			link.serving.Wait()
			_, all := site.Waiting("mailbox/clinic.example")
			of, away := float64(size)/took.Seconds()/rate, time.Duration(link.away.Load()).Seconds()/took.Seconds()
			fmt.Printf("%-34s %6d %12d %12.0f %11.1f%% %9d %11.1f%%\n", c.name, link.cuts.Load(), link.down.Load(), took.Seconds(), 100*of, all-c.count, 100*away)
			if all != c.count || of < 0.88 {
				t.Errorf("%d messages of %d, %.3f of the link's capacity is progress", all, c.count, of)
			}
		})
	}
}

// incompressible is a text of about size octets in lines.
func incompressible(size int) string {
	dice := rand.New(rand.NewPCG(5, 6))
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	var b bytes.Buffer
	b.WriteString("From: keeper@site.example\r\nSubject: x\r\n\r\n")
	line := make([]byte, 78)
	line[76], line[77] = '\r', '\n'
	for b.Len() < size {
		for i := range 76 {
			line[i] = letters[dice.IntN(len(letters))]
		}
		b.Write(line)
	}
	return b.String()
}

func addressOf(s string) message.Address {
	a, err := message.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}
