package odmr

import (
	"bytes"
	"cmp"
	"slices"

	"bothy/application/message"
	"bothy/application/queue"
)

// line is the mail of the domains that were asked for, as one queue. Each domain has a lane; their heads are leased and merged by
// age, so that a message to two domains of a customer goes over the thin link once.
type line struct {
	queue   queue.Store
	account string
	domains []string
	heads   []*queue.Lease // by domain; nil: not looked for yet, or taken
	late    []*leased      // tried before: put off until the rest is through
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

func (m *leased) tried() bool {
	return slices.ContainsFunc(m.leases, func(l *queue.Lease) bool { return slices.Max(l.Attempts) > 0 })
}

// maxLate bounds the messages a session puts off. They hold leases and no bodies.
const maxLate = 64

// next returns the next message; nil when nothing is due. What was tried before goes behind what was not, the smallest first: else
// a message too large for the minutes a bad link lasts would keep all others back for ever.
func (l *line) next() (*leased, error) {
	for {
		m, err := l.oldest()
		switch {
		case err != nil:
			return nil, err
		case m != nil && m.tried() && len(l.late) < maxLate:
			l.late = append(l.late, m)
		case m != nil || len(l.late) == 0:
			return m, nil
		default:
			i := l.smallest()
			m = l.late[i]
			l.late = slices.Delete(l.late, i, i+1)
			return m, nil
		}
	}
}

// oldest takes the oldest message of all lanes; nil when they are empty.
func (l *line) oldest() (m *leased, err error) {
	var first *queue.Lease
	for i, d := range l.domains {
		if l.heads[i] == nil {
			if l.heads[i], err = l.queue.Lease(lane(d), "odmr/"+l.account); err != nil {
				return nil, err
			}
		}
		if head := l.heads[i]; head != nil && (first == nil || older(head, first)) {
			first = head
		}
	}
	if first == nil {
		return nil, nil
	}
	m = &leased{}
	for i, head := range l.heads {
		if head != nil && head.Envelope.ID == first.Envelope.ID {
			m.leases, l.heads[i] = append(m.leases, head), nil
		}
	}
	return m, nil
}

func older(a, b *queue.Lease) bool {
	return cmp.Or(a.Accepted.Compare(b.Accepted), bytes.Compare(a.Envelope.ID[:], b.Envelope.ID[:])) < 0
}

func (l *line) smallest() (at int) {
	for i, m := range l.late {
		if m.leases[0].Size < l.late[at].leases[0].Size {
			at = i
		}
	}
	return at
}

// release gives back what did not get its turn.
func (l *line) release() {
	for _, m := range append(l.late, &leased{l.heads}) {
		for _, lease := range m.leases {
			if lease != nil {
				lease.Release()
			}
		}
	}
}
