package dsn

import (
	"io"
	"slices"
	"strings"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
)

// Report is what is to be told about one message.
type Report struct {
	Envelope *message.Envelope // the message's own; its Recipients are not looked at
	Outcomes []Outcome
	Now      time.Time

	// Header is the header section, or as much of it as there is; nil if it cannot be read.
	Header []byte
	// Open reads the whole message of Size octets from its start, for RET=FULL; nil: it is not returned.
	Open func() (io.ReadCloser, error)
	Size int64
}

// Outcome is what became of one recipient.
type Outcome struct {
	Action     Action
	Recipient  message.Recipient
	Reply      smtp.Reply
	Remote     string    // the server that gave the reply; empty when we did
	LastTry    time.Time // zero when never tried
	RetryUntil time.Time // of a Delayed one: when it will be given up; zero when not known
}

// Action is what was done with a recipient (RFC 3464 §2.3.3).
type Action uint8

// RFC 3464 §2.3.3, in the order in which a sender wants to read them.
const (
	Failed    Action = iota // given up
	Delayed                 // still being tried
	Expanded                // passed on to the several addresses behind an alias (RFC 3461 §5.2.7.3)
	Relayed                 // handed to a server that sends no notices of success (RFC 3461 §5.2.2)
	Delivered               // in the mailbox, or with a mailing list
)

var actions = [...]string{Failed: "failed", Delayed: "delayed", Expanded: "expanded", Relayed: "relayed", Delivered: "delivered"}

// String writes the value of the Action field.
func (a Action) String() string {
	if int(a) < len(actions) {
		return actions[a]
	}
	return "?"
}

// wanted reports whether a recipient's NOTIFY asks for a notice of this action. Without NOTIFY it is one of failure or delay
// (RFC 3461 §5.2.2, §5.2.3, §5.2.5, §5.2.6, §5.2.7.3).
func (a Action) wanted(n message.Notify) bool {
	switch a {
	case Failed:
		return n == 0 || n&message.NotifyFailure != 0
	case Delayed:
		return n == 0 || n&message.NotifyDelay != 0
	case Expanded, Relayed, Delivered:
		return n&message.NotifySuccess != 0
	}
	return false
}

// due returns to whom a notice goes and of which outcomes, in the order of their actions; none if there is nothing to tell.
func (c *Composer) due(r *Report) (to message.Address, outcomes []Outcome) {
	to = r.Envelope.ReversePath
	keep := func(o Outcome) bool { return o.Action.wanted(o.Recipient.Notify) }
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
