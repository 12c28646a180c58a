package odmr

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
)

// Sessions are the customers who are connected, one seat a domain, and what ended the sessions of the others. The zero value is
// ready. It outlives a Provider that is replaced by one of another configuration.
type Sessions struct {
	mu        sync.Mutex
	seats     map[string]*session            // by domain: each is one account's
	accounts  map[string][]*session          // by account: who has seats, each once, the oldest first
	listening int                            // sessions that are told of mail
	failures  map[string]failure             // by account; bounded by the accounts that log in
	digests   map[string]map[message.ID]bool // by domain: what its postmaster was told is held back; bounded by maxHeldBack each
	deaf      func()                         // ends the listening to the queue; nil: nobody waits
}

// failure is how an account's last session that did not end well ended.
type failure struct {
	text string
	at   time.Time
}

// State is what a customer's session is at.
type State int32

// The states of a session.
const (
	StateAway      State = iota // there is none
	StateTurning                // ATRN is being granted
	StateHeld                   // the answer to ATRN is held back until there is mail
	StateSending                // mail goes to the customer
	StateLingering              // all is sent; what comes is sent at once
)

func (s State) String() string {
	return [...]string{"away", "turning", "held", "sending", "lingering"}[s]
}

// MarshalText writes the state as String does.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText has written.
func (s *State) UnmarshalText(text []byte) error {
	for state := StateAway; state <= StateLingering; state++ {
		if state.String() == string(text) {
			*s = state
			return nil
		}
	}
	return fmt.Errorf("odmr: no state %q", text)
}

// Status is what is known of one customer's sessions. Of several, each for other domains, State, Peer and Since are of the one that was
// heard last.
type Status struct {
	Account     string    `json:"account"`
	Sessions    int       `json:"sessions,omitempty"` // that are open
	State       State     `json:"state"`
	Peer        string    `json:"peer,omitempty"`        // host:port
	Since       time.Time `json:"since,omitzero"`        // when it connected
	LastContact time.Time `json:"last_contact,omitzero"` // when it was last heard in the sessions that are open
	Messages    int64     `json:"messages,omitempty"`    // that it has taken in them
	Octets      int64     `json:"octets,omitempty"`      // of their bodies
	LastError   string    `json:"last_error,omitempty"`  // how the last session that did not end well ended
	LastFailure time.Time `json:"last_failure,omitzero"` // when
}

// All returns the customers who are connected or whose last session failed since the start, sorted by account.
func (d *Sessions) All() []Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]Status, 0, len(d.accounts))
	for account := range d.accounts {
		all = append(all, d.status(account))
	}
	for account := range d.failures {
		if d.accounts[account] == nil {
			all = append(all, d.status(account))
		}
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Account, b.Account) })
	return all
}

// Count returns how many sessions are open, by state.
func (d *Sessions) Count() map[State]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	count := map[State]int{}
	for _, open := range d.accounts {
		for _, s := range open {
			count[State(s.stage.Load())]++
		}
	}
	return count
}

// Status returns what is known of one account's sessions.
func (d *Sessions) Status(account string) Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status(account)
}

func (d *Sessions) status(account string) Status {
	failed := d.failures[account]
	st := Status{Account: account, Sessions: len(d.accounts[account]), LastError: failed.text, LastFailure: failed.at}
	for _, s := range d.accounts[account] {
		if heard := s.wire.heard(); !heard.Before(st.LastContact) {
			st.State, st.Peer, st.Since, st.LastContact = State(s.stage.Load()), s.peer, s.since, heard
		}
		st.Messages, st.Octets = st.Messages+s.messages.Load(), st.Octets+s.octets.Load()
	}
	return st
}

// A session is dead, once a newer one asks, when its customer was not heard for ProviderConfig.DeadAfter and nothing passes within proof; at rest, when
// it does not answer NOOP within proof. So the newer one waits for the longer of the two at most.
const (
	silence = 30 * time.Second // where not configured
	proof   = 5 * time.Second
	glance  = 100 * time.Millisecond // between two looks at it
)

// take gives s the seats of all of an account's domains that were asked for, or none. A session that has one and is dead gives way; beside one
// that is alive it returns a Reply.
func (d *Sessions) take(ctx context.Context, s *session, account string, domains []string) error {
	for {
		old, gone := d.sit(s, account, domains)
		if old == nil {
			return nil
		}
		if err := old.yield(ctx, gone, old.account != account); err != nil {
			return err
		}
	}
}

// sit takes the seats if all are free, or returns who has one, and what is closed when it has left.
func (d *Sessions) sit(s *session, account string, domains []string) (old *session, gone <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, domain := range domains {
		if old = d.seats[domain]; old != nil {
			return old, old.gone
		}
	}
	if d.seats == nil {
		d.seats, d.accounts, d.failures = map[string]*session{}, map[string][]*session{}, map[string]failure{}
	}
	s.account, s.domains, s.seated, s.gone = account, domains, true, make(chan struct{})
	s.stage.Store(int32(StateTurning))
	for _, domain := range domains {
		d.seats[domain] = s
	}
	d.accounts[account] = append(d.accounts[account], s)
	return nil, nil
}

// yield waits until the session has left its seat; if it does not by itself and shows no life, it is ended. Its leases end with it, so
// that what was in flight is settled or due again when yield returns nil. It returns the Reply for the newer session when this one is alive;
// where a domain has moved to another account since, being alive does not help it.
func (s *session) yield(ctx context.Context, gone <-chan struct{}, moved bool) error {
	began, in, out := time.Now(), s.wire.in.Load(), s.wire.out.Load()
	s.ring(ringSeat) // after the look at what has passed: its answer may come at once
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for cut := false; ; {
		select {
		case <-gone:
			return nil
		case <-ctx.Done():
			return replyStop
		case <-tick.C:
		}
		limit := proof
		sending := State(s.stage.Load()) != StateLingering
		if sending {
			limit = max(proof, cmp.Or(s.provider.Config.DeadAfter, silence)-began.Sub(s.wire.heard()))
		}
		switch {
		case cut:
		case !moved && (s.wire.in.Load() != in || sending && s.wire.out.Load() != out):
			return replyBusy
		case time.Since(began) >= limit:
			cut = true
			s.log.Warn("session taken over", "peer", s.peer, "silent since", s.wire.heard())
			_ = s.wire.Close()
		}
	}
}

// leave gives the seats back, if the session has any.
func (s *session) leave() {
	d := s.provider.sessions()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !s.seated {
		return
	}
	for _, domain := range s.domains {
		delete(d.seats, domain)
	}
	if others := slices.DeleteFunc(d.accounts[s.account], func(o *session) bool { return o == s }); len(others) > 0 {
		d.accounts[s.account] = others
	} else {
		delete(d.accounts, s.account)
	}
	if s.listening {
		d.listening--
	}
	if d.listening == 0 && d.deaf != nil {
		d.deaf()
		d.deaf = nil
	}
	if s.err != nil {
		d.failures[s.account] = failure{strings.ReplaceAll(s.err.Error(), "odmr: ", ""), time.Now()}
	}
	s.seated, s.listening = false, false
	s.stage.Store(int32(StateAway))
	close(s.gone)
}

// listen makes mail for the session's domains ring it. One goroutine listens to the queue for all, as long as there is anybody.
func (d *Sessions) listen(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !s.listening {
		s.listening = true
		d.listening++
	}
	if d.deaf == nil {
		var lanes <-chan queue.Lane
		lanes, d.deaf = s.provider.Queue.Due("odmr")
		go d.call(lanes)
	}
}

// call rings those for whom there is mail.
func (d *Sessions) call(lanes <-chan queue.Lane) {
	for l := range lanes {
		d.mu.Lock()
		s := d.seats[domainOf(l)]
		rings := s != nil && s.listening
		d.mu.Unlock()
		if rings {
			s.ring(ringMail)
		}
	}
}
