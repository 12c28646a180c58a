package link

import (
	"cmp"
	"context"
	"sync"
)

// AlwaysUp is the source of a link that is not watched.
type AlwaysUp struct{}

// Run reports up once.
func (AlwaysUp) Run(ctx context.Context, report func(up bool, why string)) error {
	report(true, "always up by configuration")
	<-ctx.Done()
	return nil
}

// Manual is a switch somebody holds in their hand. It heeds no evidence. The zero Manual is down. Safe for concurrent use.
type Manual struct {
	By string // who holds it, for Why; "by hand" when empty. Set it before use

	mu     sync.Mutex
	up     bool
	why    string
	report func(up bool, why string) // nil while nobody follows
}

// Set turns the switch. When it returns, the link that follows it has the new state.
func (m *Manual) Set(up bool, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.up, m.why = up, why
	if m.report != nil {
		m.report(up, m.label()+why)
	}
}

// Run reports each turn of the switch, and where it stands at first.
func (m *Manual) Run(ctx context.Context, report func(up bool, why string)) error {
	m.mu.Lock()
	m.report = report
	report(m.up, m.label()+m.why)
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.report = nil
	m.mu.Unlock()
	return nil
}

func (m *Manual) label() string { return cmp.Or(m.By, "by hand") + ": " }
