package queue

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
)

// Lane names where recipients wait: what will carry them on, and for whom. "mailbox/clinic.example", "odmr/clinic",
// "smarthost/provider", "mx/example.net". A lane is derived from the recipient by the Router and never stored:
// a change of routes moves waiting mail.
type Lane string

// Kind is what stands before the slash.
func (l Lane) Kind() string { k, _, _ := strings.Cut(string(l), "/"); return k }

// Name is what stands behind it.
func (l Lane) Name() string { _, n, _ := strings.Cut(string(l), "/"); return n }

// Router names the lane of each recipient. It does no I/O that can fail: what cannot be decided now gets a lane to wait in.
type Router interface {
	Lane(env *message.Envelope, to *message.Recipient) Lane
}

// Notifier composes the failure notice (RFC 3464) for recipients that failed for good; nil when none is due. The queue
// accepts the notice in the same commit as the failure, so it is sent exactly once.
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

// Store keeps accepted mail until each recipient is settled. The unit of state is (message, recipient); a body is
// stored once. Every method is safe for concurrent use. Spool is the implementation on one machine.
type Store interface {
	// Accept has env and the whole body on disk, synced, when it returns nil. It returns a Reply: 452 4.3.1 when the disk
	// is full, 451 4.3.0 when it fails, and the body reader's own error as it is.
	Accept(ctx context.Context, env *message.Envelope, body io.Reader) error

	// Lease takes the next due message of a lane with all of its recipients there that are due; nil when there is none.
	// The holder names itself for the operator. A lease ends by Settle or Release, or with the process.
	Lease(lane Lane, holder string) (*Lease, error)

	// Waiting counts the recipients of a lane that are due now and those in all, in constant time.
	Waiting(lane Lane) (due, all int)

	// Due returns a channel of lanes of one kind that have come to have due mail; a lane is sent at least once after the last
	// Lease that returned nil. The channel is closed by stop.
	Due(kind string) (lanes <-chan Lane, stop func())

	// Flush makes every deferred recipient of the lanes that match due now. Reroute asks the Router again for all.
	Flush(match func(Lane) bool)
	Reroute()

	// Pause stops the clocks of a kind of lane (its link is down): nothing there becomes due or grows older until Resume, which
	// also flushes.
	Pause(kind string)
	Resume(kind string)
}

// Lease is one message and some of its recipients, held by one session.
type Lease struct {
	Envelope message.Envelope // Recipients are the leased ones only
	Attempts []int            // tries already made, for each recipient
	Size     int64            // octets of the body
	Accepted time.Time
	Fence    uint64 // rises with every lease of the same recipient
	// ...
}

// Open reads the body from its start. Close it.
func (l *Lease) Open() (io.ReadCloser, error) { panic("contract") }

// Verdict is what became of one leased recipient.
type Verdict struct {
	Done   bool       // delivered or relayed: forget it
	Failed bool       // refused for good: notice, then forget it
	Reply  smtp.Reply // what was answered; kept for the operator when deferred
	Remote string     // who answered
	Retry  time.Time  // neither Done nor Failed: when to try again; zero means at once
}

// ErrFenced says that the lease is not held any more: another holder has the recipients, or they are settled.
var ErrFenced = errors.New("queue: lease lost")

// Settle ends the lease with one verdict for each recipient. Failures are on disk with their notice when it returns; deliveries
// are on disk soon after: a crash between delivers twice, which RFC 1047 allows.
func (l *Lease) Settle(v []Verdict) error { panic("contract") }

// Release ends the lease and changes nothing else: the recipients are due again, in their old place.
func (l *Lease) Release() {}

// Options of a Spool.
type Options struct {
	Dir      string
	Router   Router
	Notifier Notifier
	Lifetime func(Lane) time.Duration // how long a recipient may wait on its lane's clock; then it fails with 5.4.7. nil: 5 days (RFC 5321 §4.5.4.1)
	Log      *slog.Logger
	Now      func() time.Time
	// and FS for fault injection, segment size, inline limit: see the implementation
}
