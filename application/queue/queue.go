package queue

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/lib/wal"
)

// Lane names where recipients wait: what will carry them on, and for whom. "mailbox/clinic.example", "odmr/clinic.example",
// "smarthost/provider", "mx/example.net". A lane is derived from the recipient by the Router and never stored:
// a change of routes moves waiting mail.
type Lane string

// Kind is what stands before the slash.
func (l Lane) Kind() string { k, _, _ := strings.Cut(string(l), "/"); return k }

// Name is what stands behind it.
func (l Lane) Name() string { _, n, _ := strings.Cut(string(l), "/"); return n }

// Router names the lane of each recipient. It does no I/O that can fail: what cannot be decided now gets a lane to wait in,
// and it keeps neither argument.
type Router interface {
	Lane(env *message.Envelope, to *message.Recipient) Lane
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

	// Join makes one lease of several of the same message, in their order: its recipients are then settled together, and their sender gets one
	// notice. The leases that were joined end.
	Join(leases ...*Lease) *Lease

	// Waiting counts the recipients of a lane that are due now and those in all, in constant time.
	Waiting(lane Lane) (due, all int)

	// Lane counts what waits in a lane, in constant time.
	Lane(lane Lane) LaneCount

	// Due returns a channel of lanes of one kind that have come to have due mail; a lane is sent at least once after the last
	// Lease that returned nil. The channel is closed by stop.
	Due(kind string) (lanes <-chan Lane, stop func())

	// Flush makes every deferred recipient of some lanes due now, FlushKind of all lanes of a kind. Reroute asks the Router again for the messages
	// with a recipient in one of the lanes that may have changed; nil: for all.
	Flush(lanes ...Lane)
	FlushKind(kind string)
	Reroute(changed func(Lane) bool)

	// Pause stops the clocks of a kind of lane (its link is down): nothing there becomes due or grows older until Resume, which
	// also flushes. A pause lasts over a restart until the store is opened again; whoever paused pauses anew.
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

	spool  *Spool
	entry  *entry
	rows   []*row
	holder string
	ended  bool // guarded by the spool's mutex
}

// Open reads the body from its start. Close it. The body stays readable as long as the lease is held.
func (l *Lease) Open() (io.ReadCloser, error) { return l.spool.openBody(l.entry) }

// Verdict is what became of one leased recipient.
type Verdict struct {
	Done   bool       // delivered or relayed: forget it
	Action Action     // of a Done one: Relayed or Delivered, told to a sender who asked for that; zero: nothing is to be told
	Failed bool       // refused for good: notice, then forget it
	Reply  smtp.Reply // what was answered; kept for the operator when deferred
	Remote string     // who answered
	Retry  time.Time  // neither Done nor Failed: when to try again; zero means at once
	Tracks bool       // a Done one was handed to a server that can be asked what became of it (RFC 3885)
	held   bool       // neither Done nor Failed: kept until an operator releases it

	// Expanded says that the recipient stands for several, each of whom is to have the message: a sender who asked for success is told so, once,
	// and from then on has asked for none (RFC 3461 §5.2.7.3 (c)). Action is zero.
	Expanded bool
}

// ErrFenced says that the lease is not held any more: another holder has the recipients, or they are settled.
var ErrFenced = errors.New("queue: lease lost")

// ErrClosed says that the spool was closed.
var ErrClosed = errors.New("queue: closed")

// Settle ends the lease with one verdict for each recipient. What the sender is told of is on disk with its notice when it returns; other
// deliveries are on disk soon after: a crash between delivers twice, which RFC 1047 allows. Where a failure finds no room on the
// disk, its recipients stay, to be tried again in a minute, and the error says so.
func (l *Lease) Settle(v []Verdict) error {
	now := l.spool.o.Now()
	return l.spool.settle(l, v, func(i int) Outcome { return Outcome{Reply: v[i].Reply, Remote: v[i].Remote, LastTry: now} })
}

// Release ends the lease and changes nothing else: the recipients are due again, in their old place.
func (l *Lease) Release() { l.spool.release(l) }

// Config of a queue.
type Config struct {
	Lifetime    time.Duration         `doc:"How long a message is tried before its sender gets it back; time without a link does not count (RFC 5321 §4.5.4.1: at least 4 to 5 days)." default:"120h" min:"1h"`
	DelayNotice time.Duration         `doc:"How long a message waits before its sender is told so, once, and as his NOTIFY allows; time without a link does not count (RFC 3461 §5.2.5). 0: never." default:"4h"`
	Lanes       map[string]LaneConfig `doc:"What is different for one lane (\"odmr/clinic.example\", \"mx/partner.example\") or one kind of lane (\"odmr\", \"mx\"), named as in bothy status; the lane comes before its kind." reload:"restart"`
	CommitDelay time.Duration         `doc:"How long a message that has arrived whole may wait for others that are arriving, so that one sync of the disk serves them all; each still gets its 250 after that sync, and one that is alone never waits. 0: nobody waits." default:"2ms" min:"0" max:"100ms" reload:"restart"`
	FreeSpace   int64                 `unit:"bytes" doc:"New mail is refused with 452 while less than this is free on the disk of the spool: what was accepted must still be settled. At least two segments, which is what 0 means." default:"0" min:"0"`
	SegmentSize int64                 `unit:"bytes" doc:"Size of one file of the spool's log; two of them are always there. 0: a fortieth of the file system, from 4MiB to 64MiB." default:"0" min:"0" max:"1GiB" reload:"restart"`
	InlineBody  int64                 `unit:"bytes" doc:"Message bodies up to this size stand in the log, larger ones in files of their own; also the memory that one incoming message takes." default:"128KiB" min:"4KiB" max:"1MiB" reload:"restart"`
}

// LaneConfig is what is different for one lane or one kind of lane. The zero value of each field means that nothing is.
type LaneConfig struct {
	Lifetime    time.Duration `doc:"As lifetime above." min:"1h"`
	DelayNotice time.Duration `doc:"As delay_notice above; longer than the lifetime for never." min:"1m"`
}

// LifetimeOf is how long a recipient may wait in a lane: what the configuration says of the lane, else of its kind, else of all.
func (c *Config) LifetimeOf(l Lane) time.Duration {
	return cmp.Or(c.Lanes[string(l)].Lifetime, c.Lanes[l.Kind()].Lifetime, c.Lifetime, defaultLifetime)
}

// DelayNoticeOf is how long it may wait there before its sender is told, if usual is what holds where nothing is said of the lane or its kind.
func (c *Config) DelayNoticeOf(l Lane, usual time.Duration) time.Duration {
	return cmp.Or(c.Lanes[string(l)].DelayNotice, c.Lanes[l.Kind()].DelayNotice, usual)
}

// Options of a Spool. Dir and Router are required.
type Options struct {
	Config   Config // zero fields mean the defaults of the tags, but for DelayNotice and CommitDelay
	Dir      string
	Router   Router
	Notifier Notifier // nil: failures are forgotten without a notice
	// Keep reports what fails with nobody to be told: it is held for an operator, not forgotten (RFC 5321 §6.1). nil: nothing.
	Keep func(*message.Envelope, *message.Recipient) bool
	// Track hears of each message that somebody may ask about when it is accepted, with no outcomes, and of all that becomes of its recipients,
	// before it is on disk (RFC 3885). nil: nobody does.
	Track    func(env *message.Envelope, outcomes []Outcome, now time.Time)
	Lifetime func(Lane) time.Duration // how long a recipient may wait on its lane's clock; then it fails with 5.4.7. nil: Config.Lifetime
	Delay    func(Lane) time.Duration // how long it may wait there before its sender is told; 0 for never. nil: Config.DelayNotice
	Log      *slog.Logger             // nil: silent
	Now      func() time.Time         // nil: time.Now
	Running  func() time.Duration     // how long the machine runs, whatever its clock is set to. nil: as Now's times tell
	FS       wal.FS                   // nil: the machine's
}

const (
	defaultLifetime   = 5 * 24 * time.Hour // RFC 5321 §4.5.4.1
	defaultInlineBody = 128 << 10

	// The default segment is a share of the file system within bounds, so that a small one holds mail too: the two that are always
	// there take 5 % of it, and the reserve of FreeSpace, two more, as much again.
	segmentShare        = 40
	leastDefaultSegment = 4 << 20
	mostDefaultSegment  = 64 << 20
)

// defaults fills what is zero, but for FS.
func (o *Options) defaults() {
	c := &o.Config
	if c.SegmentSize == 0 {
		c.SegmentSize = mostDefaultSegment
		if total, err := o.FS.Total(o.Dir); err == nil {
			c.SegmentSize = min(max(total/segmentShare, leastDefaultSegment), mostDefaultSegment)
		}
	}
	c.FreeSpace = max(c.FreeSpace, 2*c.SegmentSize)
	c.InlineBody = min(cmp.Or(c.InlineBody, defaultInlineBody), maxPiece/2, c.SegmentSize/4)
	if o.Lifetime == nil {
		o.Lifetime = o.Config.LifetimeOf
	}
	if o.Delay == nil {
		o.Delay = func(l Lane) time.Duration { return o.Config.DelayNoticeOf(l, o.Config.DelayNotice) }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

func (o *Options) terms() terms { return terms{o.Lifetime, o.Delay} }
