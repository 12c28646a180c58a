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

// What ends a call that is taken for dead.
var (
	errStalled  = errors.New("odmr: the call did not outlive its link")
	errLinkDown = errors.New("odmr: the link is down")
)

const (
	lasting = 30 * time.Second // a session that lingered so long is followed by the next at once
	rejoin  = 3 * time.Second  // at once: not all in the same moment when a provider restarts

	moving = 32 << 10               // octets: a call that was cut when it had read so much, and did not linger, was bringing mail
	again  = 250 * time.Millisecond // it is followed by another as soon
	eager  = time.Second            // and if that one is not reached or cut before it brings anything, by the next; then twice that, and so on
)

// Poke makes Run call now, whatever it thinks of the link.
func (c *Customer) Poke() {
	c.init()
	select {
	case c.poke <- struct{}{}:
	default: // one is on its way
	}
}

// Run calls when it starts, at every Config.Interval, when the link comes up and when poked, until ctx ends; then it returns nil. While
// the link is down it does not call on schedule. A session that lingers it keeps as long as the provider and the link do, and follows it
// with another at once. After a failure it waits as long as the kind of failure asks.
func (c *Customer) Run(ctx context.Context) error {
	c.init()
	c.mu.Lock()
	c.running = ctx
	c.mu.Unlock()
	s := &schedule{customer: c, ended: make(chan *call, 1), up: c.Link == nil, next: time.NewTimer(0)}
	var states <-chan link.State
	if c.Link != nil {
		var stop func()
		states, stop = c.Link.Watch()
		defer stop()
	}
	defer c.linked(true, true) // nobody calls any more
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
		case k := <-c.adopt:
			s.keep(k)
		case <-s.check:
			s.checkStall()
		case k := <-s.ended:
			s.finish(ctx, k)
		}
	}
}

// schedule is the state of Run. One goroutine owns it; a call runs beside it.
type schedule struct {
	customer *Customer
	up       bool
	since    time.Time // of up
	next     *time.Timer
	failures int              // calls in a row that ended without mail for a fault
	call     *call            // under way; nil: none
	ended    chan *call       // it has
	check    <-chan time.Time // when to look whether it stands still
	octets   int64            // that it had read when the link came up
	again    bool             // call again as soon as it has ended
	broken   bool             // mail was on its way when the trouble began
}

// start calls, unless a call is under way: that fetches everything there is.
func (s *schedule) start(ctx context.Context) {
	if s.call == nil {
		s.keep(s.customer.join(ctx, nil))
	}
}

// keep makes a call the one under way.
func (s *schedule) keep(k *call) {
	if s.call == nil {
		s.call = k
		go func() {
			<-k.done
			s.ended <- k
		}()
	}
}

// linked calls when the link has come up. It was down in between if that was not seen but has another beginning.
func (s *schedule) linked(ctx context.Context, state link.State) {
	came := state.Up && (!s.up || !state.Since.Equal(s.since))
	s.up, s.since = state.Up, state.Since
	s.customer.linked(state.Up, s.call != nil)
	switch {
	case !state.Up && s.call != nil && s.call.lingers(): // it could only wait for its timeout
		s.call.cancel(errLinkDown)
	case came && s.call == nil:
		s.failures = 0 // whatever failed, failed on another day's network
		s.start(ctx)
	case came:
		s.check, s.octets = time.After(stall), s.customer.octets.Load()
	}
}

// checkStall ends a call that has not read an octet since the link came up.
func (s *schedule) checkStall() {
	s.check = nil
	if s.call != nil && s.customer.octets.Load() == s.octets {
		s.again = true
		s.call.cancel(errStalled)
	}
}

// finish notes how a call went and sets the time of the next.
func (s *schedule) finish(ctx context.Context, k *call) {
	s.call, s.check = nil, nil
	attrs := []any{"messages", k.report.Messages, "octets", k.report.Octets, "sent", k.report.Sent, "took", k.report.Took}
	well := k.err == nil || errors.Is(k.err, ErrNoMail)
	if well {
		s.customer.Log.Info("call ended", attrs...)
	} else {
		s.customer.Log.Warn("call failed", append(attrs, "err", k.err)...)
	}
	switch {
	case well, k.moved:
		s.failures = 0
	case k.report.Messages > 0, k.lingered() > lasting: // it works, if with interruptions
		s.failures = 1
	default:
		s.failures++
	}
	wait := s.wait(k)
	s.next.Reset(wait)
	s.customer.due(wait)
	if s.again || s.customer.underWay() != nil { // a Call has begun another already
		s.again = false
		s.start(ctx)
	}
}

// wait is how long after a call the next one follows.
func (s *schedule) wait(k *call) time.Duration {
	usual := cmp.Or(s.customer.Config.Interval, interval)
	wait := spread(pause(k.err, s.failures, usual), k.err, usual, rand.Float64())
	cut := errors.Is(k.err, ErrInterrupted)
	switch {
	case k.moved: // what came is kept, and the rest is wanted
		s.broken = true
		return time.Duration(rand.Float64() * float64(again))
	case s.broken && (cut || errors.Is(k.err, ErrUnreachable)):
		return min(wait, spread(eager<<min(s.failures-1, 20), nil, usual, rand.Float64()))
	case (k.err == nil || cut) && k.lingered() > lasting:
		wait = time.Duration(rand.Float64() * float64(rejoin))
	}
	s.broken = false
	return wait
}

// stop waits for the call under way, whose ctx has ended.
func (s *schedule) stop() {
	s.next.Stop()
	if s.call != nil {
		<-s.ended
	}
}
