package odmr

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
)

// Sessions are the customers who are connected, one seat an account, and what ended the sessions of the others. The zero value is
// ready. It outlives a Provider that is replaced by one of another configuration.
type Sessions struct {
	mu       sync.Mutex
	seats    map[string]*session            // by account
	lanes    map[queue.Lane]*session        // those who wait for what comes, by where it comes
	failures map[string]failure             // by account; bounded by the accounts that log in
	digests  map[string]map[message.ID]bool // by account: what it was told is held back; bounded by maxHeldBack each
	deaf     func()                         // ends the listening to the queue; nil: nobody waits
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

// Status is what is known of one customer's sessions.
type Status struct {
	Account     string    `json:"account"`
	State       State     `json:"state"`
	Peer        string    `json:"peer,omitempty"`        // host:port
	Since       time.Time `json:"since,omitzero"`        // when it connected
	LastContact time.Time `json:"last_contact,omitzero"` // when it was last heard in the session that is open
	Messages    int64     `json:"messages,omitempty"`    // that it has taken in this session
	Octets      int64     `json:"octets,omitempty"`      // of their bodies
	LastError   string    `json:"last_error,omitempty"`  // how the last session that did not end well ended
	LastFailure time.Time `json:"last_failure,omitzero"` // when
}

// All returns the customers who are connected or whose last session failed since the start, sorted by account.
func (d *Sessions) All() []Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]Status, 0, len(d.seats))
	for account := range d.seats {
		all = append(all, d.status(account))
	}
	for account := range d.failures {
		if d.seats[account] == nil {
			all = append(all, d.status(account))
		}
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Account, b.Account) })
	return all
}

// Status returns what is known of one account's sessions.
func (d *Sessions) Status(account string) Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status(account)
}

func (d *Sessions) status(account string) Status {
	failed := d.failures[account]
	st := Status{Account: account, LastError: failed.text, LastFailure: failed.at}
	if s := d.seats[account]; s != nil {
		st.State, st.Peer, st.Since, st.LastContact = State(s.stage.Load()), s.peer, s.since, s.wire.heard()
		st.Messages, st.Octets = s.messages.Load(), s.octets.Load()
	}
	return st
}

// A session is dead, once a newer one asks, when its customer was not heard for silence and nothing passes within proof; at rest, when
// it does not answer NOOP within proof.
const (
	silence = 30 * time.Second
	proof   = 5 * time.Second
	glance  = 100 * time.Millisecond // between two looks at it
)

// take gives s the seat of an account. A session that has it and is dead gives way; beside one that is alive it returns a Reply.
func (d *Sessions) take(ctx context.Context, s *session, account string) error {
	for {
		old, gone := d.sit(s, account)
		if old == nil {
			return nil
		}
		if err := old.yield(ctx, gone); err != nil {
			return err
		}
	}
}

// sit takes a free seat, or returns who has it, and what is closed when it has left.
func (d *Sessions) sit(s *session, account string) (old *session, gone <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if old = d.seats[account]; old != nil {
		return old, old.gone
	}
	if d.seats == nil {
		d.seats, d.lanes, d.failures = map[string]*session{}, map[queue.Lane]*session{}, map[string]failure{}
	}
	s.account, s.seated, s.gone = account, true, make(chan struct{})
	s.stage.Store(int32(StateTurning))
	d.seats[account] = s
	return nil, nil
}

// yield waits until the session has left its seat; if it does not by itself and shows no life, it is ended. Its leases end with it, so
// that what was in flight is settled or due again when yield returns nil. It returns the Reply for the newer session when this one is alive.
func (s *session) yield(ctx context.Context, gone <-chan struct{}) error {
	s.ring(ringSeat)
	began, in, out := time.Now(), s.wire.in.Load(), s.wire.out.Load()
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
			limit = max(proof, silence-began.Sub(s.wire.heard()))
		}
		switch {
		case cut:
		case s.wire.in.Load() != in, sending && s.wire.out.Load() != out:
			return replyBusy
		case time.Since(began) >= limit:
			cut = true
			s.log.Warn("session taken over", "peer", s.peer, "silent since", s.wire.heard())
			_ = s.wire.Close()
		}
	}
}

// leave gives the seat back, if the session has one.
func (s *session) leave() {
	d := s.provider.sessions()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !s.seated {
		return
	}
	delete(d.seats, s.account)
	for _, domain := range s.domains {
		if d.lanes[lane(domain)] == s {
			delete(d.lanes, lane(domain))
		}
	}
	if len(d.lanes) == 0 && d.deaf != nil {
		d.deaf()
		d.deaf = nil
	}
	if s.err != nil {
		d.failures[s.account] = failure{s.err.Error(), time.Now()}
	}
	s.seated = false
	s.stage.Store(int32(StateAway))
	close(s.gone)
}

// listen makes mail for the session's domains ring it. One goroutine listens to the queue for all, as long as there is anybody.
func (d *Sessions) listen(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, domain := range s.domains {
		d.lanes[lane(domain)] = s
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
		s := d.lanes[l]
		d.mu.Unlock()
		if s != nil {
			s.ring(ringMail)
		}
	}
}
