package queue

import (
	"io"
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
	GivenUp   Action = iota // "failed"
	Delayed                 // still being tried
	Expanded                // passed on to the several addresses behind an alias (RFC 3461 §5.2.7.3)
	Relayed                 // handed to a server that sends no notices of success (RFC 3461 §5.2.2)
	Delivered               // in the mailbox, or with a mailing list

	// Transferred is RFC 3886 §3.3.3: handed to a server that can be asked in turn. No notice tells of it.
	Transferred
)

var actions = [...]string{GivenUp: "failed", Delayed: "delayed", Expanded: "expanded", Relayed: "relayed", Delivered: "delivered", Transferred: "transferred"}

// String writes the value of the Action field.
func (a Action) String() string {
	if int(a) < len(actions) {
		return actions[a]
	}
	return "?"
}

// Wanted reports whether a recipient's NOTIFY asks for a notice of this action. Without NOTIFY it is one of failure or delay
// (RFC 3461 §5.2.2, §5.2.3, §5.2.5, §5.2.6, §5.2.7.3).
func (a Action) Wanted(n message.Notify) bool {
	switch a {
	case GivenUp:
		return n == 0 || n&message.NotifyFailure != 0
	case Delayed:
		return n == 0 || n&message.NotifyDelay != 0
	case Expanded, Relayed, Delivered:
		return n&message.NotifySuccess != 0
	}
	return false
}

// Owed is Wanted for a recipient of env: one that has a deadline is told of each relay, if it does not want to hear of nothing (RFC 2852
// §4.1.4). Who relayed it knows whether this was one to tell of.
func (a Action) Owed(env *message.Envelope, n message.Notify) bool {
	if a == Relayed && !env.DeliverBy.At.IsZero() {
		return n&message.NotifyNever == 0
	}
	return a.Wanted(n)
}

// Notifier composes the notice (RFC 3464) of what became of recipients; nil when none is due. The envelope's Size is that of
// content, which the queue reads and closes. The queue accepts the notice in the same commit as what it tells, so it is sent exactly once.
type Notifier interface {
	Compose(r *Report) (notice *message.Envelope, content io.ReadCloser)
}
