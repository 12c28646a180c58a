package dsn

import (
	"slices"
	"strings"

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
	if to.IsNull() {
		// RFC 3461 §5.2: no notice for a notice, but the postmaster should hear of its failure. If that is what failed, nobody does.
		to = c.postmaster()
		keep = func(o Outcome) bool {
			return c.DoubleBounces && o.Action == Failed && !c.isPostmaster(o.Recipient.Address)
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

// Keeps reports whether a message is the last that anybody could be told: a notice to whom double bounces go. It must not be forgotten
// when it fails (RFC 5321 §6.1).
func (c *Composer) Keeps(env *message.Envelope, to *message.Recipient) bool {
	return c.DoubleBounces && env.ReversePath.IsNull() && c.isPostmaster(to.Address)
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
