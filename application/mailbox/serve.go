package mailbox

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"bothy/application/message"
	"bothy/application/message/convert"
	"bothy/application/queue"
)

// Kind is the kind of the lanes that end here.
const Kind = "mailbox"

// leaseRetry is how long a lane rests when the queue failed to lease from it.
const leaseRetry = time.Second

// Resolver knows the accounts that an address is delivered to; none when there is no such address. The directory is one.
type Resolver interface {
	Resolve(message.Address) []string
}

// Last knows who gets mail for an address without accounts that this site must not lose; ok with nobody: it has to wait for an
// account. The directory's method of this name is one.
type Last func(message.Address) (accounts []string, ok bool)

// Deliverer takes messages of lanes of Kind from the queue into mailboxes.
type Deliverer struct {
	Queue      queue.Store
	Store      *Store
	Directory  Resolver
	Last       Last                                // nil: what Directory does not know fails
	Deliveries int                                 // most at the same time; 0: 8
	Delivered  func(account string, id message.ID) // told of each delivery, a repeated one too; may be nil
	Settled    func(queue.Verdict)                 // hears what became of each recipient; may be nil
	Log        *slog.Logger                        // nil: none
	Now        func() time.Time                    // nil: time.Now
}

// Run delivers until ctx ends, a message a lane in turn. It returns nil when every delivery under way is settled or given back.
func (d *Deliverer) Run(ctx context.Context) error {
	lanes, stop := d.Queue.Due(Kind)
	defer stop()
	var work sync.WaitGroup
	defer work.Wait()
	slots := make(chan struct{}, cmp.Or(d.Deliveries, defaultDeliveries))
	rested := make(chan queue.Lane)
	var ready []queue.Lane // each once
	for {
		var free chan struct{}
		if len(ready) > 0 {
			free = slots
		}
		var lane queue.Lane
		var ok bool
		select {
		case <-ctx.Done():
			return nil
		case lane, ok = <-lanes:
			if !ok {
				return nil
			}
		case lane = <-rested:
		case free <- struct{}{}:
			lane, ready = ready[0], ready[1:]
			lease, err := d.Queue.Lease(lane, Kind)
			if err != nil {
				d.log().Error("queue did not lease", "lane", lane, "err", err)
				work.Go(func() { rest(ctx, lane, rested) })
			}
			if lease == nil {
				<-slots
				continue
			}
			work.Go(func() {
				defer func() { <-slots }()
				d.deliver(ctx, lease)
			})
		}
		if !slices.Contains(ready, lane) {
			ready = append(ready, lane)
		}
	}
}

// rest returns a lane after a while.
func rest(ctx context.Context, lane queue.Lane, rested chan<- queue.Lane) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(leaseRetry):
	}
	select {
	case <-ctx.Done():
	case rested <- lane:
	}
}

// deliver settles one lease.
func (d *Deliverer) deliver(ctx context.Context, lease *queue.Lease) {
	verdicts := d.attempt(ctx, &lease.Envelope, lease.Attempts, lease.Size, lease.Open)
	if verdicts == nil { // stopped
		lease.Release()
		return
	}
	if err := lease.Settle(verdicts); err != nil { // it comes again, and changes nothing then
		d.log().Error("delivery not settled", "id", lease.Envelope.ID, "err", err)
		return
	}
	for _, v := range verdicts {
		if d.Settled != nil {
			d.Settled(v)
		}
	}
}

// attempt tries to deliver a message to every account of its recipients, and returns a verdict for each recipient; nil when
// ctx ended before.
func (d *Deliverer) attempt(ctx context.Context, env *message.Envelope, attempts []int, size int64, open func() (io.ReadCloser, error)) []queue.Verdict {
	if by := env.DeliverBy; by.Return && !d.now().Before(by.At) {
		return slices.Repeat([]queue.Verdict{{Failed: true, Reply: errExpired}}, len(env.Recipients))
	}
	accounts := make([][]string, len(env.Recipients)) // of each recipient
	through := map[string][]message.Recipient{}       // and the recipients of each account
	for i, to := range env.Recipients {
		accounts[i] = d.accounts(env, to.Address)
		for _, account := range accounts[i] {
			through[account] = append(through[account], to)
		}
	}
	outcome := map[string]error{nobodyYet: errNobodyYet}
	for account, recipients := range through {
		if account == nobodyYet {
			continue
		}
		mine := *env
		mine.Recipients = recipients
		err := d.into(ctx, account, &mine, size, open)
		if ctx.Err() != nil && err != nil {
			return nil
		}
		outcome[account] = err
	}
	verdicts := make([]queue.Verdict, len(env.Recipients))
	for i := range verdicts {
		var outcomes []error
		for _, account := range accounts[i] {
			outcomes = append(outcomes, outcome[account])
		}
		tries := 0
		if i < len(attempts) {
			tries = attempts[i]
		}
		verdicts[i] = verdict(outcomes, tries, d.now())
		switch {
		case len(accounts[i]) > 1:
			verdicts[i].Expanded = true // RFC 3461 §5.2.7.3: an alias of several: told in place of each delivery
		case verdicts[i].Done:
			verdicts[i].Action = queue.Delivered // RFC 3461 §5.2.3: told a sender who asked for it
		}
	}
	return verdicts
}

// nobodyYet stands for the account that mail waits for where there is none at all.
const nobodyYet = ""

// accounts are those that get a recipient's mail. RFC 5321 §6.1: what was accepted is delivered or somebody is told. Mail of our own,
// from a program here or a notice, has nobody else to be told, and every server has a postmaster: theirs it is if nobody has the name.
func (d *Deliverer) accounts(env *message.Envelope, to message.Address) []string {
	all := d.Directory.Resolve(to)
	own := env.Account != "" || env.ReversePath.IsNull() || strings.EqualFold(to.Local, "postmaster")
	if len(all) > 0 || d.Last == nil || !own {
		return all
	}
	all, ok := d.Last(to)
	if ok && len(all) == 0 {
		return []string{nobodyYet}
	}
	return all
}

// into delivers to one account, which reads the body for itself.
func (d *Deliverer) into(ctx context.Context, account string, env *message.Envelope, size int64, open func() (io.ReadCloser, error)) error {
	log := d.log().With("id", env.ID, "account", account)
	plan, err := convert.Fit(env.Body, message.Body8Bit, size, open) // RFC 1939 §3: what is read from a mailbox is lines
	var body io.ReadCloser
	if err == nil {
		body, err = open()
	}
	if err != nil {
		log.Error("queued message not readable", "err", err)
		return err
	}
	defer body.Close()
	if plan.Body == message.BodyBinary {
		return errBinary
	}
	mine := *env
	mine.Body, size = plan.Body, plan.Size
	if err := d.Store.Deliver(ctx, account, &mine, plan.Reader(body), size); err != nil {
		log.Warn("message not delivered", "err", err)
		return err
	}
	log.Info("message delivered", "bytes", size)
	if d.Delivered != nil {
		d.Delivered(account, env.ID)
	}
	return nil
}

func (d *Deliverer) log() *slog.Logger {
	if d.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return d.Log
}

func (d *Deliverer) now() time.Time {
	if d.Now == nil {
		return time.Now()
	}
	return d.Now()
}
