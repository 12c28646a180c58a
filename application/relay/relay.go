package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/relay/mtasts"
	"bothy/application/smtp"
	"bothy/operational/link"
)

// Link is the uplink as the relay sees it; *link.Link has it.
type Link interface {
	Watch() (states <-chan link.State, stop func())
	Evidence(up bool, why string)
}

// Options are what a Relay stands on.
type Options struct {
	Queue    queue.Store
	Hostname string           // what we call ourselves in EHLO; an exchanger of this name is ourselves
	Link     Link             // nil: always up
	Log      *slog.Logger     // nil: discarded
	Now      func() time.Time // nil: time.Now
	Rand     func() float64   // in [0,1), for jitter and the order of equal exchangers; nil: math/rand

	// Resolver finds mail exchangers; nil: a DNS with the servers of Config.DNS, asked over Dial. Self reports whether an exchanger's
	// address is ours; nil: none is. MXPort is 25 when 0.
	Resolver Resolver
	Self     func(netip.AddrPort) bool
	MXPort   uint16

	// Dial opens every connection, those to DNS servers too; nil: net.Dialer's. A smarthost's name is resolved by it. TLS, which may be
	// nil, is the base of every client configuration: roots, and the certificate to log in at the smarthost with.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	TLS  *tls.Config

	// Policies is the directory of MTA-STS policies; empty: they are not looked for.
	Policies string

	// Sign returns the DKIM-Signature fields for a message that was submitted here, to stand before it. Open reads the text as it will be
	// sent. Nil: nothing is signed.
	Sign func(open func() (io.ReadCloser, error)) (fields []byte, err error)

	// Sent, when set, hears of every reply to a recipient, and of those we gave ourselves where no server could be asked. It must return soon.
	Sent func(lane queue.Lane, id message.ID, to message.Address, reply smtp.Reply)
}

// Relay takes due lanes of the kinds "smarthost", "mx" and "lan" to their next hop.
type Relay struct {
	o   Options
	set atomic.Pointer[settings]

	up    atomic.Bool   // the link
	flaps atomic.Uint64 // times it went down or came up

	crew   crew
	health health
	begun  begun
	holds  holds
}

// settings are a Config made ready.
type settings struct {
	Config     // with defaults
	smarthosts []string
	tls        *tls.Config
	resolver   Resolver
	policies   *mtasts.Store // nil: nobody's
}

// The kinds of lane a Relay serves.
var (
	kinds       = []string{"smarthost", "mx", "lan"}
	uplinkKinds = []string{"smarthost", "mx"} // those that need the uplink; servers on this side of it have lanes of the kind "lan"
)

func needsUplink(lane queue.Lane) bool { return slices.Contains(uplinkKinds, lane.Kind()) }

// New returns a relay that goes by cfg. smarthosts, as host:port, are those that cfg's username and password are for; mail for the lane of
// the first goes to the next ones while that cannot be used.
func New(o Options, cfg Config, smarthosts ...string) (*Relay, error) {
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.TLS == nil {
		o.TLS = new(tls.Config)
	}
	if o.Self == nil {
		o.Self = func(netip.AddrPort) bool { return false }
	}
	if o.MXPort == 0 {
		o.MXPort = 25 // RFC 5321 §4.5.4.2
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	r := &Relay{o: o}
	r.crew.relay, r.crew.closed = r, true // until Run
	return r, r.Set(cfg, smarthosts...)
}

// Set replaces the configuration; sessions that are open end under the old one. What was deferred is tried again, for it may be what
// the change mends. A cfg with a fault changes nothing.
func (r *Relay) Set(cfg Config, smarthosts ...string) error {
	var errs []error
	cfg.CheckConfig(func(key string, err error) { errs = append(errs, fmt.Errorf("relay: %s: %w", key, err)) })
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	base := r.o.TLS.Clone()
	if roots, err := cfg.roots(); err != nil {
		return fmt.Errorf("relay: ca_file: %w", err)
	} else if roots != nil {
		base.RootCAs = roots
	}
	resolver := r.o.Resolver
	if resolver == nil {
		resolver = &DNS{Servers: cfg.DNS, TrustAD: cfg.TrustAD, Dial: r.o.Dial, Now: r.o.Now}
	}
	base.ClientSessionCache = tls.NewLRUClientSessionCache(sessionCache)
	next := &settings{Config: cfg.withDefaults(), tls: base, resolver: resolver}
	if r.o.Policies != "" && next.MTASTS == "on" {
		next.policies = &mtasts.Store{
			Dir: r.o.Policies, TXT: resolver.TXT, Client: mtasts.NewClient(r.dialHost(resolver), base), Log: r.o.Log, Now: r.o.Now,
		}
	}
	next.smarthosts = slices.DeleteFunc(slices.Clone(smarthosts), func(address string) bool { return address == "" })
	if old := r.set.Swap(next); old != nil {
		r.health.forget()
		r.crew.forgive()
		for _, kind := range kinds {
			r.o.Queue.FlushKind(kind)
		}
	}
	return nil
}

// Run relays until ctx ends. Then it takes nothing new, gives messages under way Config.Grace to finish, and releases the rest.
func (r *Relay) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	if r.o.Link == nil {
		r.turn(true, "no link is watched")
	} else {
		states, stop := r.o.Link.Watch()
		defer stop()
		first := <-states // Watch holds the present state at once
		r.turn(first.Up, first.Why)
		wg.Go(func() {
			for state := range states {
				switch {
				case state.Up != r.up.Load():
					r.turn(state.Up, state.Why)
				case state.Up: // the link has proved itself
					r.crew.settleDoubts()
				}
			}
		})
	}
	finish, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	r.crew.start(ctx, finish)
	for _, kind := range kinds {
		lanes, stop := r.o.Queue.Due(kind)
		defer stop()
		wg.Go(func() {
			for lane := range lanes {
				r.crew.wake(lane)
			}
		})
	}
	<-ctx.Done()
	grace := time.AfterFunc(r.set.Load().Grace, cut)
	defer grace.Stop()
	r.crew.finish()
	return nil
}

// turn follows the link.
func (r *Relay) turn(up bool, why string) {
	r.up.Store(up)
	r.flaps.Add(1)
	if !up {
		r.o.Log.Info("relay waits for the link", "why", why)
		for _, kind := range uplinkKinds {
			r.o.Queue.Pause(kind)
		}
		r.crew.dismiss(needsUplink)
		return
	}
	r.o.Log.Info("relay runs", "why", why)
	for _, kind := range uplinkKinds {
		r.o.Queue.Resume(kind)
	}
	r.health.forget()
	r.crew.resume()
}

// runs reports whether lane can be served: the link is up, or it needs none.
func (r *Relay) runs(lane queue.Lane) bool { return r.up.Load() || !needsUplink(lane) }

// begins reports whether somebody may begin to work on lane.
func (r *Relay) begins(lane queue.Lane) bool { return r.runs(lane) && !r.holds.has(lane) }

// flapsOf counts the changes of the link that lane depends on.
func (r *Relay) flapsOf(lane queue.Lane) uint64 {
	if !needsUplink(lane) {
		return 0
	}
	return r.flaps.Load()
}

// evidence tells the link what a lane that needs it shows of it.
func (r *Relay) evidence(lane queue.Lane, up bool, why string) {
	if r.o.Link != nil && needsUplink(lane) {
		r.o.Link.Evidence(up, "relay: "+why)
	}
}

// care is how a session's TLS is decided on.
type care uint8

const (
	ordinary care = iota // by the next hop's own policies, and ours
	strict               // for mail whose sender requires TLS (RFC 8689 §4.2.1)
	loose                // for mail whose sender asks that the next hop's policies be ignored (RFC 8689 §4.1)
)

// connect opens a session with the next hop of lane.
func (r *Relay) connect(ctx context.Context, lane queue.Lane, care care) (s *session, f *failure) {
	set := r.set.Load()
	if lane.Kind() == "mx" {
		s, f = r.connectMX(ctx, set, lane.Name(), care)
	} else {
		s, f = r.connectHops(ctx, set, set.hops(lane), care == strict)
	}
	if s != nil {
		s.loose = care == loose
	}
	return s, f
}

// retry is when to try lane again after so many failed attempts. Those that fail together come back together, so that one of them finds
// out for all: jitter is one factor a failure, in [0,1).
func (r *Relay) retry(lane queue.Lane, attempts int, jitter float64) time.Time {
	wait := r.set.Load().retryAfter(lane, attempts)
	return r.o.Now().Add(wait + time.Duration((2*jitter-1)*jitterPart*float64(wait)))
}

const sessionCache = 256 // TLS sessions that can be resumed, by server

const jitterPart = 0.1 // of each wait, either way
