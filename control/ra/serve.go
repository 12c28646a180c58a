package ra

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Wire is the link. Listen opens the machine's own.
type Wire interface {
	// Receive reads one ICMPv6 message for routers into b; it blocks. hops is its hop limit.
	Receive(b []byte) (n int, from netip.Addr, hops int, err error)
	// Send sends to all nodes of the link.
	Send(b []byte) error
	// Link is the link-layer address of our end, if it has any, and whether this host passes packets on there.
	Link() (hardware []byte, forwarding bool)
	// Close ends Receive.
	Close() error
}

// Router advertises on one link. Run it once.
type Router struct {
	Config   LinkConfig
	Host     Host // nil: this host takes no address of delegated prefixes
	Withdraw bool // the delegated prefixes are given back after the end, so hosts are told that they are over (RFC 9915 §18.2.7)
	Log      *slog.Logger
	Rand     *rand.Rand // nil: seeded by the runtime

	once      sync.Once
	delegated delegated
	renewed   chan struct{} // holds one when what is delegated has changed
}

func (r *Router) init() {
	r.once.Do(func() { r.delegated.subnets, r.renewed = r.Config.Subnets, make(chan struct{}, 1) })
}

// The bounds of a running router.
const (
	retry    = 3 * time.Second // after a message that could not be sent: the interface has no address yet, perhaps
	remarks  = time.Minute     // between two remarks about other routers
	maxInbox = 64              // messages that wait; more are lost
)

type arrived struct {
	b    []byte
	from netip.Addr
	hops int
}

// Run advertises until ctx ends, says then that this router is one no more, and closes the wire.
func (r *Router) Run(ctx context.Context, w Wire) error {
	defer w.Close()
	r.init()
	l := r.Config
	l.fill()
	told, err := l.advertisement()
	if err != nil {
		return fmt.Errorf("ra: %s: %w", l.Interface, err)
	}
	if r.Rand == nil {
		r.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	inbox, failed, done := make(chan arrived, maxInbox), make(chan error, 1), make(chan struct{})
	defer close(done)
	go func() { failed <- receive(w, inbox, done) }()
	t := timer{min: l.MinInterval, max: l.MaxInterval, rand: r.Rand, next: time.Now()}
	var remarked time.Time
	for {
		clock := time.NewTimer(max(time.Until(t.next), 0))
		select {
		case <-ctx.Done():
			clock.Stop()
			if !t.last.IsZero() {
				told.Lifetime, told.NamesLast = 0, 0 // RFC 4861 §6.2.5, RFC 8106 §5.1
				if r.Withdraw {
					r.delegated.take(time.Now(), nil)
					r.settle(time.Now())
				}
				if err := r.send(w, told); err != nil {
					r.Log.Warn("hosts were not told that the router stops", "error", err)
				}
			}
			return nil
		case err := <-failed:
			clock.Stop()
			return fmt.Errorf("ra: %s: %w", l.Interface, err)
		case m := <-inbox:
			if m.b[0] == typeSolicitation {
				if CheckSolicitation(m.b, m.from, m.hops) == nil {
					t.solicited(time.Now())
				}
			} else if other, err := Parse(m.b, m.from, m.hops); err == nil && time.Since(remarked) > remarks {
				if what := told.differs(&other); what != "" {
					remarked = time.Now()
					r.Log.Warn("another router says something else than we do", "interface", l.Interface, "router", m.from, "about", what)
				}
			}
		case <-r.renewed:
			r.settle(time.Now())
			t.changed(time.Now())
		case <-clock.C:
			if err := r.send(w, told); err != nil {
				r.Log.Warn("not advertised", "interface", l.Interface, "error", err)
				t.next = time.Now().Add(retry)
				break
			}
			t.sent(time.Now())
		}
		clock.Stop()
	}
}

// send advertises; who passes nothing on says that it is no default router (RFC 4861 §6.2.5).
func (r *Router) send(w Wire, a Advertisement) error {
	hardware, forwarding := w.Link()
	if !forwarding && a.Lifetime > 0 {
		r.Log.Warn("this host forwards no packets here, so it is advertised as no default router", "interface", r.Config.Interface, "set", "net.ipv6.conf.all.forwarding=1")
		a.Lifetime = 0
	}
	a.Prefixes = slices.Concat(a.Prefixes, r.delegated.now(time.Now()))
	return w.Send(a.AppendTo(nil, hardware))
}

func receive(w Wire, to chan<- arrived, done <-chan struct{}) error {
	b := make([]byte, maxMessage)
	for {
		n, from, hops, err := w.Receive(b)
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		select {
		case to <- arrived{slices.Clone(b[:n]), from, hops}:
		case <-done:
			return nil
		default:
		}
	}
}
