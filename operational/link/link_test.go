package link

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// follow runs src in l until the test ends.
func follow(t *testing.T, l *Link, src Source) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Run(ctx, src) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	synctest.Wait()
}

func TestNewIsDown(t *testing.T) {
	s := New("uplink").State()
	if s.Up || s.Why != "not yet known" || s.Since.IsZero() {
		t.Fatalf("a new link is %+v", s)
	}
}

func TestAlwaysUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New("uplink")
		follow(t, l, AlwaysUp{})
		l.Evidence(false, "a call failed")
		synctest.Wait()
		if !l.State().Up {
			t.Fatal("not up")
		}
	})
}

func TestWatchHoldsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, m := New("uplink"), new(Manual)
		states, stop := l.Watch()
		if s := <-states; s.Up {
			t.Fatalf("at first %+v", s)
		}
		follow(t, l, m)
		if s := <-states; s.Up || s.Why != "by hand: " {
			t.Fatalf("first finding: %+v", s)
		}
		m.Set(true, "one")
		m.Set(false, "two")
		m.Set(true, "three")
		if s := <-states; !s.Up || s.Why != "by hand: three" {
			t.Fatalf("newest: %+v", s)
		}
		since := l.State().Since
		pass(time.Minute)
		m.Set(true, "four")
		select {
		case s := <-states:
			t.Fatalf("woken for the same state: %+v", s)
		default:
		}
		if s := l.State(); s.Why != "by hand: four" || !s.Since.Equal(since) {
			t.Fatalf("state %+v, since should stay %v", s, since)
		}
		l.SetMetered(true)
		if s := <-states; !s.Metered {
			t.Fatalf("metered: %+v", s)
		}
		stop()
		stop()
		if _, open := <-states; open {
			t.Fatal("stop did not close the channel")
		}
		m.Set(false, "nobody listens")
		if len(l.watchers) != 0 {
			t.Fatalf("%d watchers left", len(l.watchers))
		}
	})
}

// TestProof: who failed over a link that is then found up hears of it, once.
func TestProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New("uplink")
		follow(t, l, probe(new(network)))
		states, stop := l.Watch()
		defer stop()
		<-states
		pass(time.Minute)
		l.Evidence(false, "relay: no route to host")
		pass(time.Minute)
		if s := <-states; !s.Up || s.Proofs != 1 {
			t.Fatalf("%+v", s)
		}
		pass(time.Hour)
		select {
		case s := <-states:
			t.Fatalf("told again: %+v", s)
		default:
		}
	})
}

func TestManualHeedsNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, m := New("uplink"), new(Manual)
		follow(t, l, m)
		m.Set(false, "pulled the plug")
		l.Evidence(true, "a call that was under way")
		synctest.Wait()
		if l.State().Up {
			t.Fatal("evidence turned the switch")
		}
	})
}

func TestRunReturnsTheSourcesError(t *testing.T) {
	broken := errors.New("no such interface")
	l := New("uplink")
	if err := l.Run(t.Context(), failing{broken}); !errors.Is(err, broken) {
		t.Fatalf("Run: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Run(context.Context, func(bool, string)) error { return f.err }

// network is what a probe dials: err refuses, hang never answers, else a service that writes greeting after latency.
type network struct {
	mu       sync.Mutex
	err      error
	hang     bool
	latency  time.Duration
	greeting string
	dials    []time.Duration // since start
	start    time.Time
}

func (n *network) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	n.mu.Lock()
	n.dials = append(n.dials, time.Since(n.start))
	hang, latency, err, greeting := n.hang, n.latency, n.err, n.greeting
	n.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
	}
	time.Sleep(latency)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Err: err}
	}
	near, far := net.Pipe()
	go func() {
		io.WriteString(far, greeting)
		io.Copy(io.Discard, far)
		far.Close()
	}()
	return near, nil
}

// set changes the network while it is in use.
func (n *network) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

func (n *network) dialed() []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials
}

// pass lets time go by and everybody finish what they then do.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func probe(n *network) *Probe {
	n.start = time.Now()
	return &Probe{Dial: n.Dial, Address: "192.0.2.1:366", Rand: func() float64 { return 0.5 }}
}

func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{latency: 612 * time.Millisecond}
		l := New("uplink")
		follow(t, l, probe(n))
		pass(time.Second)
		if s := l.State(); !s.Up || s.Why != "probe: 192.0.2.1:366 answered in 612ms" {
			t.Fatalf("%+v", s)
		}

		n.set(func() { n.latency, n.err = 0, syscall.ECONNREFUSED })
		pass(30 * time.Second) // the second probe fails: not down yet
		if s := l.State(); !s.Up {
			t.Fatalf("down after one failure: %+v", s)
		}
		pass(firstRetry) // the third
		if s := l.State(); s.Up || s.Why != "probe: connection refused" {
			t.Fatalf("%+v", s)
		}

		n.set(func() { n.err = nil })
		pass(2 * firstRetry)
		if s := l.State(); !s.Up {
			t.Fatalf("not up at the first success: %+v after %v", s, n.dialed())
		}
	})
}

func TestProbeTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{hang: true}
		l := New("uplink")
		follow(t, l, probe(n))
		pass(24 * time.Second) // 10 s, 3 s, 10 s
		if s := l.State(); s.Up || s.Why != "probe: no answer" {
			t.Fatalf("%+v", s)
		}
	})
}

func TestProbeBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{err: syscall.ENETUNREACH}
		follow(t, New("uplink"), probe(n))
		pass(2 * time.Minute)
		want := []time.Duration{0, 3, 9, 21, 45, 75, 105}
		dials := n.dialed()
		if len(dials) != len(want) {
			t.Fatalf("dials at %v", dials)
		}
		for i := range want {
			if dials[i] != want[i]*time.Second {
				t.Fatalf("dials at %v, want %v s", dials, want)
			}
		}
	})
}

func TestProbeJitter(t *testing.T) {
	for random, want := range map[float64]time.Duration{0: 27 * time.Second, 0.5: 30 * time.Second, 1: 33 * time.Second} {
		p := &Probe{Rand: func() float64 { return random }}
		if got := p.pause(0); got.Round(time.Millisecond) != want {
			t.Errorf("random %v: pause %v, want %v", random, got, want)
		}
	}
}

func TestProbeGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{greeting: "220 odmr.provider.example\r\n"}
		p := probe(n)
		p.Greeting = true
		l := New("uplink")
		follow(t, l, p)
		if s := l.State(); !s.Up {
			t.Fatalf("%+v", s)
		}
		n.set(func() { n.greeting = "" }) // a satellite modem answers the connection; the provider is not there
		pass(30*time.Second + 10*time.Second + firstRetry + 10*time.Second)
		synctest.Wait()
		if s := l.State(); s.Up || !strings.Contains(s.Why, "no greeting") {
			t.Fatalf("%+v", s)
		}
	})
}

func TestEvidenceUpCountsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{hang: true}
		l := New("uplink")
		follow(t, l, probe(n)) // its first probe is under way
		l.Evidence(true, "odmr: called")
		synctest.Wait()
		if s := l.State(); !s.Up || s.Why != "odmr: called" {
			t.Fatalf("%+v", s)
		}
	})
}

func TestEvidenceUpSavesAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		l := New("uplink")
		follow(t, l, probe(n))
		for range 10 {
			pass(20 * time.Second)
			l.Evidence(true, "smtp: sent")
		}
		synctest.Wait()
		if len(n.dialed()) != 1 {
			t.Fatalf("dials at %v", n.dialed())
		}
	})
}

func TestEvidenceDownProbesNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		l := New("uplink")
		follow(t, l, probe(n))
		pass(5 * time.Second)
		n.set(func() { n.err = syscall.EHOSTUNREACH })
		for range 100 {
			l.Evidence(false, "smtp: no route to host")
		}
		pass(firstRetry)
		synctest.Wait()
		if s := l.State(); s.Up {
			t.Fatalf("%+v, dials at %v", s, n.dialed())
		}
		if len(n.dialed()) != 3 {
			t.Fatalf("a hundred complaints made dials at %v", n.dialed())
		}
	})
}

func TestConfig(t *testing.T) {
	n := new(network)
	for _, test := range []struct {
		cfg Config
		err string
	}{
		{Config{}, ""},
		{Config{Source: "always"}, ""},
		{Config{Source: "probe", Address: "odmr.provider.example:366"}, ""},
		{Config{Source: "probe", Address: "odmr.provider.example"}, "not host:port"},
		{Config{Source: "lease"}, ""},
		{Config{Source: "ping"}, "none of"},
	} {
		src, err := test.cfg.Open(n.Dial, &Manual{By: "lease"})
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%+v: %v", test.cfg, err)
		}
		if (src == nil) != (err != nil) {
			t.Errorf("%+v: source %v", test.cfg, src)
		}
	}
}
