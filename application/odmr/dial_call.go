package odmr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// call is one call, from dialing to its end, which may be a day later when the provider lingers. One goroutine makes it; any number attend it.
type call struct {
	customer *Customer
	cfg      CustomerConfig
	watch    func(Progress) // hears of each step, from one goroutine at a time; may be nil
	all      bool           // without bounds
	kept     bool           // it belongs to Run and outlives who began it
	cancel   context.CancelCauseFunc
	last     atomic.Int64 // when the provider was last heard, in nanoseconds since 1970
	began    time.Time
	along    bool          // mail goes along
	stranger bool          // the provider does not know our certificate: the password has to do
	done     chan struct{} // closed at the end; err is valid then
	err      error

	mu           sync.Mutex
	at           Stage
	report       Report
	waited       int // messages that the provider had for us
	waitedOctets int64
	read         atomic.Int64 // octets
	moved        bool         // it was cut while it was bringing mail, valid after done
	partial      int64        // octets of the message under way
	told         int64        // of them when somebody was told last
	open         bool         // a message is under way, as far as the policy sees
	turned       int64        // the customer's octets when the connection was turned
	lull         *time.Timer  // looks whether the provider has gone quiet; nil before the turn
	quiet        time.Time    // when it first had
	attendants   map[*attendant]bool
}

// see makes the call and tells of its end.
func (k *call) see(ctx context.Context) {
	c := k.customer
	start := time.Now()
	c.reserve()
	k.err = k.run(ctx)
	if ctx.Err() == nil && (errors.Is(k.err, ErrUnreachable) || errors.Is(k.err, ErrInterrupted)) {
		c.evidence(false, k.err.Error())
	}
	k.mu.Lock()
	if k.lull != nil {
		k.lull.Stop()
	}
	k.report.Took = time.Since(start)
	k.moved = errors.Is(k.err, ErrInterrupted) && k.at == Receiving && k.read.Load() >= moving
	k.mu.Unlock()
	k.tell(Ended)
	k.cancel(nil)
	c.note(k)
	c.mu.Lock()
	c.current = nil
	away := c.away
	c.mu.Unlock()
	if !away { // else it is kept for the call that follows when the link is up
		c.handBack()
	}
	close(k.done)
}

func (k *call) run(ctx context.Context) error {
	if err := k.cfg.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	nc, conn, err := k.connect(ctx)
	if err != nil {
		return err
	}
	defer nc.Close()
	defer closeAfter(ctx, nc)()
	if err := conn.Turn(); err != nil {
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	}
	k.listen()
	err = k.receive(ctx, conn)
	if err != nil && errors.Is(context.Cause(ctx), errEnough) {
		return k.part(conn.Conn)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	}
	return nil
}

// errEnough ends a call in which the provider has gone quiet and nobody stays to hear more.
var errEnough = errors.New("odmr: nothing more came")

// part waits until the provider has taken note that we left, which shows that it was there and had nothing to say.
func (k *call) part(nc net.Conn) error {
	_ = nc.SetReadDeadline(time.Now().Add(grace)) // where it fails, so does the read
	const most = 64 << 10
	if _, err := io.CopyN(io.Discard, nc, most); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the provider does not answer: %w", ErrInterrupted, err)
	}
	if k.sum().Messages == 0 {
		return ErrNoMail
	}
	return nil
}

// tell tells of a step.
func (k *call) tell(s Stage) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.step(s)
}

// step is tell for who holds mu.
func (k *call) step(s Stage) {
	if s == Receiving && k.at == Lingering {
		k.lull.Reset(lull)
	}
	k.at = s
	p := Progress{s, k.report.Messages, k.report.Octets + k.partial, k.waited, k.waitedOctets}
	if k.watch != nil {
		k.watch(p)
	}
	for a := range k.attendants {
		a.add(p)
	}
}

// promise notes what the provider has for us.
func (k *call) promise(messages int, octets int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waited, k.waitedOctets = messages, octets
}

// sum is what the call has brought so far.
func (k *call) sum() Report {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.report
}

// heard is when the provider was last heard.
func (k *call) heard() time.Time { return time.Unix(0, k.last.Load()) }

const (
	// lull is the silence that shows that a provider which turned the connection has sent all it has. No message may be under way.
	lull = 5 * time.Second
	// patience is the same while one is, or while nothing at all was heard since the turn.
	patience = time.Minute
)

// listen is the begin of the reversed state.
func (k *call) listen() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.turned = k.customer.octets.Load()
	k.lull = time.AfterFunc(lull, k.look)
	k.step(Receiving)
}

// look finds out whether the provider has gone quiet, or when to look again.
func (k *call) look() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.at != Receiving {
		return
	}
	limit := lull
	if k.open || k.customer.octets.Load() == k.turned {
		limit = patience
	}
	if left := limit - time.Since(k.heard()); left > 0 {
		k.lull.Reset(min(left, lull)) // by then the message may be through
		return
	}
	if k.quiet.IsZero() {
		k.quiet = time.Now()
	}
	k.step(Lingering)
}

// begun notes that a message is under way.
func (k *call) begun() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open = true
	if k.at == Lingering {
		k.step(Receiving)
	}
}

// lingers reports whether the provider has sent all and stays.
func (k *call) lingers() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.at == Lingering
}

// lingered is how long ago the provider first went quiet; 0 if it never did.
func (k *call) lingered() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.quiet.IsZero() {
		return 0
	}
	return time.Since(k.quiet)
}
