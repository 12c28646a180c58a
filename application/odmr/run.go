package odmr

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"bothy/operational/link"
)

// Link tells whether calling makes sense, and is told what a call saw of it; link.Link has it.
type Link interface {
	Watch() (states <-chan link.State, stop func())
	Evidence(up bool, why string)
}

// interval is between calls when none is configured.
const interval = 10 * time.Minute

// stall is how long a call may stand still once the link has come up again, before a new one takes its place: its connection
// most likely died with the old address.
const stall = 30 * time.Second

// errStalled ends a call that stood still.
var errStalled = errors.New("odmr: the call did not outlive its link")

// Poke makes Run call now, whatever it thinks of the link.
func (c *Customer) Poke() {
	c.init()
	select {
	case c.poke <- struct{}{}:
	default: // one is on its way
	}
}

// Run calls when it starts, at every Config.Interval, when the link comes up and when poked, until ctx ends; then it returns nil. While
// the link is down it does not call on schedule. After a failure it waits as long as the kind of failure asks.
func (c *Customer) Run(ctx context.Context) error {
	c.init()
	s := &schedule{customer: c, ended: make(chan outcome, 1), up: c.Link == nil, next: time.NewTimer(0)}
	var states <-chan link.State
	if c.Link != nil {
		var stop func()
		states, stop = c.Link.Watch()
		defer stop()
	}
	defer s.stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case state := <-states:
			s.linked(ctx, state)
		case <-c.poke:
			s.start(ctx)
		case <-s.next.C:
			if s.up {
				s.start(ctx)
			}
		case <-s.check:
			s.checkStall()
		case o := <-s.ended:
			s.finish(ctx, o)
		}
	}
}

// schedule is the state of Run. One goroutine owns it; a call runs beside it.
type schedule struct {
	customer *Customer
	up       bool
	since    time.Time // of up
	next     *time.Timer
	failures int                     // calls in a row that ended without mail for a fault
	cancel   context.CancelCauseFunc // of the call under way; nil: none
	ended    chan outcome
	check    <-chan time.Time // when to look whether the call under way stands still
	octets   int64            // that it had read when the link came up
	again    bool             // call again as soon as it has ended
}

type outcome struct {
	report Report
	err    error
}

// start calls, unless a call is under way: that fetches everything there is.
func (s *schedule) start(ctx context.Context) {
	if s.cancel != nil {
		return
	}
	ctx, s.cancel = context.WithCancelCause(ctx)
	go func() {
		report, err := s.customer.Call(ctx, s.customer.Watch)
		s.ended <- outcome{report, err}
	}()
}

// linked calls when the link has come up. It was down in between if that was not seen but has another beginning.
func (s *schedule) linked(ctx context.Context, state link.State) {
	came := state.Up && (!s.up || !state.Since.Equal(s.since))
	s.up, s.since = state.Up, state.Since
	switch {
	case came && s.cancel == nil:
		s.failures = 0 // whatever failed, failed on another day's network
		s.start(ctx)
	case came:
		s.check, s.octets = time.After(stall), s.customer.octets.Load()
	}
}

// checkStall ends a call that has not read an octet since the link came up.
func (s *schedule) checkStall() {
	s.check = nil
	if s.cancel != nil && s.customer.octets.Load() == s.octets {
		s.again = true
		s.cancel(errStalled)
	}
}

// finish notes how a call went and sets the time of the next.
func (s *schedule) finish(ctx context.Context, o outcome) {
	s.cancel(nil)
	s.cancel, s.check = nil, nil
	attrs := []any{"messages", o.report.Messages, "octets", o.report.Octets, "took", o.report.Took}
	switch {
	case o.err == nil, errors.Is(o.err, ErrNoMail):
		s.failures = 0
		s.customer.Log.Info("call ended", attrs...)
	case o.report.Messages > 0: // it works, if with interruptions
		s.failures = 1
		s.customer.Log.Warn("call failed", append(attrs, "err", o.err)...)
	default:
		s.failures++
		s.customer.Log.Warn("call failed", append(attrs, "err", o.err)...)
	}
	wait := pause(o.err, s.failures, cmp.Or(s.customer.Config.Interval, interval))
	s.next.Reset(spread(wait, rand.Float64()))
	if s.again {
		s.again = false
		s.start(ctx)
	}
}

// stop waits for the call under way, whose ctx has ended.
func (s *schedule) stop() {
	s.next.Stop()
	if s.cancel != nil {
		s.cancel(nil)
		<-s.ended
	}
}
