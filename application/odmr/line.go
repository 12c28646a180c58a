package odmr

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
)

// line is the mail of the domains that were asked for, as one queue. Each domain has a lane; their heads are leased and merged by
// age, so that a message to two domains of a customer goes over the thin link once. Of those next by age the smallest goes first.
type line struct {
	queue   queue.Store
	account string
	domains []string
	keeps   bool           // the customer keeps what came of a message, and it goes on there
	heads   []*queue.Lease // by domain; nil: not looked for yet, or taken
	ahead   []*leased      // the next by age
}

// leased is one message with its recipients in the domains that were asked for: one lease for each of them that has some.
type leased struct{ leases []*queue.Lease }

// envelope is the message's with all of the leased recipients, in the order of the leases.
func (m *leased) envelope() *message.Envelope {
	env := m.leases[0].Envelope
	env.Recipients = nil
	for _, l := range m.leases {
		env.Recipients = append(env.Recipients, l.Envelope.Recipients...)
	}
	return &env
}

// tries is how often one of the recipients was tried.
func (m *leased) tries() (most int) {
	for _, l := range m.leases {
		most = max(most, slices.Max(l.Attempts))
	}
	return most
}

const (
	// maxAhead bounds the messages that a session chooses from. They hold leases and no bodies.
	maxAhead = 32
	// A message of more than smallSize octets makes way for those that came up to one second later for each agingRate octets
	// it is larger: a small one never waits long for a large one, and a large one never for ever.
	smallSize = 64 << 10
	agingRate = 4 << 10
	// A message that broke off keeps its place so often where it goes on at the customer: each try brings more of it.
	triesInPlace = 3
)

// rank is when the message would have come if large ones came later.
func (m *leased) rank() time.Time {
	l := m.leases[0]
	return l.Accepted.Add(time.Duration(max(0, l.Size-smallSize)) * time.Second / agingRate)
}

// behind reports whether a message goes behind those that have not failed yet.
func (l *line) behind(m *leased) bool {
	if l.keeps {
		return m.tries() > triesInPlace
	}
	return m.tries() > 0
}

// before orders what is next: by priority (RFC 6710 §5), then by age. What was tried in vain goes behind what was not, the smallest first, else a message too large for
// the minutes a bad link lasts would keep all others back for ever.
func (l *line) before(a, b *leased) int {
	switch at, bt := l.behind(a), l.behind(b); {
	case at && bt:
		return cmp.Compare(a.leases[0].Size, b.leases[0].Size)
	case at:
		return +1
	case bt:
		return -1
	}
	return cmp.Or(cmp.Compare(b.leases[0].Envelope.Priority, a.leases[0].Envelope.Priority), a.rank().Compare(b.rank()))
}

// next returns the next message; nil when nothing is due.
func (l *line) next() (*leased, error) {
	for len(l.ahead) < maxAhead {
		m, err := l.oldest()
		if err != nil {
			return nil, err
		}
		if m == nil {
			break
		}
		l.ahead = append(l.ahead, m)
	}
	if len(l.ahead) == 0 {
		return nil, nil
	}
	first := 0
	for i, m := range l.ahead {
		if l.before(m, l.ahead[first]) < 0 {
			first = i
		}
	}
	m := l.ahead[first]
	l.ahead = slices.Delete(l.ahead, first, first+1)
	return m, nil
}

// oldest takes the oldest message of all lanes; nil when they are empty.
func (l *line) oldest() (m *leased, err error) {
	var first *queue.Lease
	at := 0 // its domain
	for i := range l.domains {
		if err := l.look(i); err != nil {
			return nil, err
		}
		if head := l.heads[i]; head != nil && (first == nil || older(head, first)) {
			first, at = head, i
		}
	}
	if first == nil {
		return nil, nil
	}
	for i := range at { // it may have come, to all of its lanes, when these had been found empty
		if err := l.look(i); err != nil {
			return nil, err
		}
	}
	m = &leased{}
	for i, head := range l.heads {
		if head != nil && head.Envelope.ID == first.Envelope.ID {
			m.leases, l.heads[i] = append(m.leases, head), nil
		}
	}
	return m, nil
}

// look leases the head of a domain's lane, unless that is done.
func (l *line) look(i int) (err error) {
	if l.heads[i] == nil {
		l.heads[i], err = l.queue.Lease(lane(l.domains[i]), "odmr/"+l.account)
	}
	return err
}

// older is the order of the queue's lanes: else a message in two of them might be met twice.
func older(a, b *queue.Lease) bool {
	return cmp.Or(cmp.Compare(b.Envelope.Priority, a.Envelope.Priority), a.Accepted.Compare(b.Accepted), bytes.Compare(a.Envelope.ID[:], b.Envelope.ID[:])) < 0
}

// release gives back what did not get its turn.
func (l *line) release() {
	for _, m := range append(l.ahead, &leased{l.heads}) {
		m.release()
	}
}

// release gives a message back unchanged.
func (m *leased) release() {
	for _, lease := range m.leases {
		if lease != nil {
			lease.Release()
		}
	}
}
