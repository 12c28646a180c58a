package relay

import (
	"slices"
	"sync"
	"time"
)

// health is which servers of a list could not be used lately, so that mail goes to the next one at once and not after a timeout.
// It holds no more than the configuration names.
type health struct {
	mu  sync.Mutex
	ail map[string]illness
}

type illness struct {
	failures int       // in a row
	until    time.Time // when it is worth a try again
}

// How long a server is left alone, if others can be used: the first time, and at most.
const (
	firstRest = time.Minute
	lastRest  = 15 * time.Minute
)

// order returns the servers in the order to try them: the well as they come, then the ill, the next to be well first. One whose rest
// is over counts as well for the first who asks; the others wait grace for what that one finds.
func (h *health) order(servers []string, now time.Time, grace time.Duration) []string {
	if len(servers) == 1 {
		return servers
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	until := make(map[string]time.Time, len(servers))
	for _, s := range servers {
		if ill := h.ail[s]; now.Before(ill.until) {
			until[s] = ill.until
		}
	}
	order := slices.Clone(servers)
	slices.SortStableFunc(order, func(a, b string) int { return until[a].Compare(until[b]) })
	if ill, known := h.ail[order[0]]; known && !now.Before(ill.until) {
		h.ail[order[0]] = illness{ill.failures, now.Add(grace)}
	}
	return order
}

// ill notes that server could not be used.
func (h *health) ill(server string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ail == nil {
		h.ail = make(map[string]illness)
	}
	n := h.ail[server].failures
	h.ail[server] = illness{n + 1, now.Add(min(firstRest<<min(n, 8), lastRest))}
}

// well notes that server can be used.
func (h *health) well(server string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.ail, server)
}

// forget takes every server for well.
func (h *health) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.ail)
}
