package queue

import (
	"bytes"
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
)

var actions = [...]string{GivenUp: "failed", Delayed: "delayed", Expanded: "expanded", Relayed: "relayed", Delivered: "delivered"}

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

// Composer composes the notice (RFC 3464) of what became of recipients; nil when none is due. The envelope's Size is that of
// content, which the queue reads and closes. The queue accepts the notice in the same commit as what it tells, so it is sent exactly once.
type Composer interface {
	Compose(r *Report) (notice *message.Envelope, content io.ReadCloser)
}

// Notifier is a Composer that is asked about failures only. One that is also a Composer is asked as that about everything.
type Notifier interface {
	Failure(env *message.Envelope, failed []Failed, header []byte, now time.Time) (notice *message.Envelope, content []byte)
}

// Failed is one recipient that will not get the message, and why.
type Failed struct {
	Recipient message.Recipient
	Reply     smtp.Reply
	Remote    string    // the server that said so; empty when we did
	LastTry   time.Time // zero when never tried
}

// failures makes a Notifier a Composer.
type failures struct{ Notifier }

func (f failures) Compose(r *Report) (*message.Envelope, io.ReadCloser) {
	var failed []Failed
	for _, o := range r.Outcomes {
		if o.Action == GivenUp {
			failed = append(failed, Failed{Recipient: o.Recipient, Reply: o.Reply, Remote: o.Remote, LastTry: o.LastTry})
		}
	}
	if len(failed) == 0 {
		return nil, nil
	}
	notice, content := f.Failure(r.Envelope, failed, r.Header, r.Now)
	return notice, io.NopCloser(bytes.NewReader(content))
}

// composer returns who composes notices; nil when there are to be none.
func (o *Options) composer() Composer {
	switch n := o.Notifier.(type) {
	case nil:
		return nil
	case Composer:
		return n
	default:
		return failures{n}
	}
}
