package link

import (
	"context"
	"time"
)

// State is what is known of one uplink.
type State struct {
	Up      bool
	Metered bool
	Since   time.Time // when Up last changed
	Why     string    // "probe: 192.0.2.1:366 answered in 612ms", "probe: connection refused"
}

// Source watches an uplink and reports what it sees until ctx ends; it reports its first finding as soon as it has one.
type Source interface {
	Run(ctx context.Context, report func(up bool, why string)) error
}

// Link publishes the state of one uplink to whoever listens.
type Link struct{}

// New returns a link that is down, "not yet known".
func New(name string) *Link { panic("contract") }

// Run follows src until ctx ends.
func (l *Link) Run(ctx context.Context, src Source) error { panic("contract") }

// State returns the last state.
func (l *Link) State() State { panic("contract") }

// Watch returns a channel that holds the newest state, the present one at once; older unread states are dropped.
func (l *Link) Watch() (states <-chan State, stop func()) { panic("contract") }
