package link

import (
	"context"
	"sync"
	"time"
)

// State is what is known of one uplink.
type State struct {
	Up      bool
	Metered bool
	Since   time.Time // when Up last changed
	Why     string    // "probe: 192.0.2.1:366 answered in 612ms", "probe: connection refused"
	Proofs  int       // times it was found up after evidence against it: what failed in between may be tried again
}

// Source watches an uplink and reports what it sees until ctx ends; it reports its first finding as soon as it has one.
type Source interface {
	Run(ctx context.Context, report func(up bool, why string)) error
}

// Witness is a Source that also weighs what others saw of the uplink. Evidence returns at once.
type Witness interface {
	Source
	Evidence(up bool, why string)
}

// Link publishes the state of one uplink to whoever listens. Safe for concurrent use.
type Link struct {
	name string

	mu       sync.Mutex
	state    State
	known    bool // a source has reported
	doubted  bool // somebody saw it fail since then
	source   Source
	watchers map[chan State]struct{}
}

// New returns a link that is down, "not yet known".
func New(name string) *Link {
	return &Link{
		name:     name,
		state:    State{Since: time.Now(), Why: "not yet known"},
		watchers: make(map[chan State]struct{}),
	}
}

// Name is what the operator calls the link.
func (l *Link) Name() string { return l.name }

// SetMetered says whether octets on this link cost money. Watchers are told when it changes.
func (l *Link) SetMetered(metered bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.Metered != metered {
		l.state.Metered = metered
		l.publish()
	}
}

// Run follows src until ctx ends, then returns nil; or returns src's error when src ends before. The state stays as it was last.
// A link follows one source at a time; after Run has returned it may follow another.
func (l *Link) Run(ctx context.Context, src Source) error {
	l.follow(src)
	defer l.follow(nil)
	err := src.Run(ctx, l.report)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Evidence tells what a service saw of the link: a call that succeeded, or one that failed in a way that may be the link's fault.
// The source weighs it; one that is no Witness is not swayed.
func (l *Link) Evidence(up bool, why string) {
	l.mu.Lock()
	l.doubted = l.doubted || !up
	w, ok := l.source.(Witness)
	l.mu.Unlock()
	if ok {
		w.Evidence(up, why)
	}
}

// State returns the last state.
func (l *Link) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Watch returns a channel that holds the newest state, the present one at once; older unread states are dropped. A new state
// is one whose Up, Metered or Proofs differs, or the first finding: a new Why alone wakes nobody. stop closes the channel; it may be called twice.
func (l *Link) Watch() (states <-chan State, stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ch := make(chan State, 1)
	ch <- l.state
	l.watchers[ch] = struct{}{}
	return ch, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if _, ok := l.watchers[ch]; ok {
			delete(l.watchers, ch)
			close(ch)
		}
	}
}

func (l *Link) follow(src Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.source = src
}

// report takes a source's finding.
func (l *Link) report(up bool, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Why = why
	proved := up && l.doubted
	l.doubted = l.doubted && !up
	if proved {
		l.state.Proofs++
	}
	if l.known && l.state.Up == up && !proved {
		return
	}
	if l.state.Up != up {
		l.state.Up, l.state.Since = up, time.Now()
	}
	l.known = true
	l.publish()
}

// publish puts the state into every watcher's channel. The caller holds mu, so nobody else sends and the send cannot block.
func (l *Link) publish() {
	for ch := range l.watchers {
		select {
		case <-ch:
		default:
		}
		ch <- l.state
	}
}
