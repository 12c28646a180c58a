package odmr

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"bothy/lib/sim"
	"bothy/operational/link"
)

// fakeLink is a link the test takes up and down.
type fakeLink chan link.State

func (l fakeLink) Watch() (<-chan link.State, func()) { return l, func() {} }
func (fakeLink) Evidence(bool, string)                {}

// dials notes when calls begin; each fails at once.
type dials struct {
	start time.Time
	at    []time.Duration
}

func (d *dials) dial(context.Context, string, string) (net.Conn, error) {
	d.at = append(d.at, time.Since(d.start).Round(time.Second))
	return nil, errors.New("network is unreachable")
}

func TestRunBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dials{start: time.Now()}
		c := &Customer{Config: CustomerConfig{Provider: "provider.example:366"}, Dial: d.dial}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		time.Sleep(2 * time.Hour)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for i, want := range []time.Duration{15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute} {
			gap := d.at[i+1] - d.at[i]
			if gap < want/2-time.Second || gap > min(want*3/2, 11*time.Minute)+time.Second {
				t.Errorf("wait %d was %v, want %v give or take a half", i, gap, want)
			}
		}
	})
}

func TestRunFollowsTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dials{start: time.Now()}
		states := make(fakeLink)
		c := &Customer{Config: CustomerConfig{Provider: "provider.example:366"}, Dial: d.dial, Link: states}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()

		states <- link.State{Up: false}
		time.Sleep(time.Hour)
		if len(d.at) != 0 {
			t.Fatalf("called at %v while the link was down", d.at)
		}
		states <- link.State{Up: true}
		time.Sleep(time.Second)
		states <- link.State{Up: false}
		time.Sleep(time.Hour)
		c.Poke()
		c.Poke()
		time.Sleep(time.Hour)
		states <- link.State{Up: true}
		states <- link.State{Up: true}
		synctest.Wait()
		cancel()
		<-ended
		if want := []time.Duration{time.Hour, 2*time.Hour + time.Second, 3*time.Hour + time.Second}; !slices.Equal(d.at[:min(len(d.at), 3)], want) || len(d.at) > 4 {
			t.Errorf("called at %v, want %v", d.at, want)
		}
	})
}

// TestRunGivesUpADeadCall: the link was gone in the middle of a call, came back with another address, and the connection never says so.
func TestRunGivesUpADeadCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		states := make(fakeLink)
		c := &Customer{Config: CustomerConfig{Provider: "provider.example:366"}, Link: states}
		c.Dial = func(context.Context, string, string) (net.Conn, error) {
			at = append(at, time.Since(start))
			conn, _ := sim.Pipe(sim.Path{}) // nobody will ever greet
			return conn, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		states <- link.State{Up: true}
		time.Sleep(time.Minute)
		states <- link.State{Up: false}
		time.Sleep(time.Minute)
		states <- link.State{Up: true}
		time.Sleep(stall + time.Second)
		cancel()
		<-ended
		if want := []time.Duration{0, 2*time.Minute + stall}; !slices.Equal(at, want) {
			t.Errorf("called at %v, want %v", at, want)
		}
	})
}

// TestStanding: the operator sees how the last call ended, how often in a row that was so, and when the next comes.
func TestStanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dials{start: time.Now()}
		c := &Customer{Config: CustomerConfig{Provider: "provider.example:366", Username: "clinic", Password: "x"}, Dial: d.dial}
		if s := c.Standing(); s.Stage != Ended || !s.LastEnd.IsZero() || !s.Next.IsZero() {
			t.Errorf("before the first call: %+v", s)
		}
		defer run(c)()
		time.Sleep(time.Minute)
		s := c.Standing()
		wait, want := s.Next.Sub(s.LastEnd), pause(s.LastErr, s.Failures, interval)
		if s.Stage != Ended || s.Failures != len(d.at) || s.Failures < 2 || !errors.Is(s.LastErr, ErrUnreachable) || wait < want/2 || wait > want*3/2 || s.Account != "clinic" {
			t.Errorf("after %d calls: %+v, %v", len(d.at), s, wait)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		defer x.stop()
		x.lingering(time.Hour)
		c := x.customer()
		defer run(c)()
		time.Sleep(time.Minute)
		if s := c.Standing(); s.Stage != Lingering || s.Messages == 0 || s.Octets == 0 || s.Began.IsZero() || !s.LastEnd.IsZero() || !s.Next.IsZero() {
			t.Errorf("in a session that lingers: %+v", s)
		}
	})
}
