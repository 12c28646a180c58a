package dsn

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
)

// A notice's terms are the queue's, which has something to tell.
type (
	Report  = queue.Report
	Outcome = queue.Outcome
	Action  = queue.Action
)

// RFC 3464 §2.3.3, in the order in which a sender wants to read them.
const (
	Failed    = queue.GivenUp
	Delayed   = queue.Delayed
	Expanded  = queue.Expanded
	Relayed   = queue.Relayed
	Delivered = queue.Delivered
)

// due returns to whom a notice goes and of which outcomes, in the order of their actions; none if there is nothing to tell.
func (c *Composer) due(r *Report) (to message.Address, outcomes []Outcome) {
	to = r.Envelope.ReversePath
	keep := func(o Outcome) bool { return o.Action.Owed(r.Envelope, o.Recipient.Notify) }
	switch {
	case to.IsNull():
		// RFC 3461 §5.2: no notice for a notice, but the postmaster should hear of its failure. If that is what failed, nobody does.
		to = c.postmaster()
		keep = func(o Outcome) bool {
			return c.DoubleBounces && o.Action == Failed && !c.isPostmaster(o.Recipient.Address)
		}
	case c.doubtful(r.Envelope): // whatever it asks for: who would get the notice has most likely not sent the message
		to = c.postmaster()
		keep = func(o Outcome) bool {
			return c.Strangers != "nobody" && o.Action == Failed && !c.isPostmaster(o.Recipient.Address)
		}
	}
	for _, o := range r.Outcomes { // RFC 3461 §5.2.8: and nothing of those that want none
		if keep(o) {
			outcomes = append(outcomes, o)
		}
	}
	slices.SortStableFunc(outcomes, func(a, b Outcome) int { return int(a.Action) - int(b.Action) })
	return to, outcomes
}

// doubtful reports whether no notice goes to the sender of a message because he may be forged.
func (c *Composer) doubtful(env *message.Envelope) bool {
	return env.Unverified && c.Strangers != "sender"
}

// Keeps reports whether a message is the last that anybody could be told: one to the postmaster, who is told of what has no sender to return to.
// It must not be forgotten when it fails (RFC 5321 §6.1).
func (c *Composer) Keeps(env *message.Envelope, to *message.Recipient) bool {
	told := env.ReversePath.IsNull() && c.DoubleBounces || !env.ReversePath.IsNull() && c.doubtful(env) && c.Strangers != "nobody"
	return told && c.isPostmaster(to.Address)
}

// strangers counts the notices about mail whose sender may be forged.
type strangers struct {
	mu     sync.Mutex
	since  time.Time // when the present hour began
	told   int       // in it
	untold int       // reports since the last notice
}

// strangersMax is what Config.StrangersMax of 0 means.
const strangersMax = 20

// count takes one more report: a notice is due, which says how many before it had none, or none is.
func (s *strangers) count(now time.Time, most int) (untold int, tell bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := now.Sub(s.since); age < 0 || age >= time.Hour {
		s.since, s.told = now, 0
	}
	if s.told >= cmp.Or(most, strangersMax) {
		s.untold++
		return 0, false
	}
	s.told++
	untold, s.untold = s.untold, 0
	return untold, true
}

func (c *Composer) postmaster() message.Address {
	if c.Postmaster.IsNull() {
		return message.Address{Local: "postmaster", Domain: c.Hostname}
	}
	return c.Postmaster
}

// isPostmaster reports whether a is where notices of double bounces go; <Postmaster> without a domain is (RFC 5321 §4.5.1).
func (c *Composer) isPostmaster(a message.Address) bool {
	p := c.postmaster()
	return strings.EqualFold(a.Local, p.Local) && strings.EqualFold(a.Domain, p.Domain) ||
		a.Domain == "" && strings.EqualFold(a.Local, "postmaster")
}
