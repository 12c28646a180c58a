package dhcp4

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"bothy/control/lease"
	"bothy/control/tally"
)

// Wire is where packets come from and go to. Listen opens the machine's own.
type Wire interface {
	// Receive waits for a packet and returns those that are there, valid until the next call. It is called by one goroutine.
	Receive() ([]Received, error)
	// Send sends a reply. It may be called by many goroutines.
	Send(b []byte, to Destination) error
	// Close ends Receive.
	Close() error
}

// Received is a packet, not yet parsed, and how it came.
type Received struct {
	Raw []byte // of a packet longer than MaxSize its beginning, one octet more than that
	Arrival
}

// Options of a Server.
type Options struct {
	Config Config
	Leases *lease.Store // required
	Mail   Mail
	Prober Prober       // nil: ARP and ping
	Log    *slog.Logger // nil: none
}

// The bounds of what waits inside.
const (
	maxProbes   = 64 // at one time; what is more is offered without
	probeRounds = 3  // addresses found in use before a DHCPDISCOVER is left unanswered
	alarmEvery  = time.Minute
)

// Server is the DHCPv4 service. Run it once.
type Server struct {
	o      Options
	probes chan struct{} // one for each that runs
	work   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	machine *machine
	stats   Stats
	lines   tally.Lines // about packets that are not answered
	alarm   time.Time
}

// Stats are counters since New.
type Stats struct {
	Received   map[MessageType]uint64
	Sent       map[MessageType]uint64
	Unanswered map[Why]uint64
	Conflicts  uint64 // addresses that a probe found in use
	Offers     int    // that wait for their clients now
}

// sending is a reply on its way; without octets in b nothing is sent, and only the disk is waited for.
type sending struct {
	b      []byte
	to     Destination
	kind   MessageType
	commit lease.Pending
	note   string
	lease  lease.Lease
}

// New returns a server. The error names what is wrong with the configuration.
func New(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Prober == nil {
		o.Prober = asker4{}
	}
	p, err := checkedPlan(o.Config)
	if err != nil {
		return nil, err
	}
	return &Server{
		o: o, machine: newMachine(p, o.Leases, o.Mail), probes: make(chan struct{}, maxProbes),
		stats: Stats{Received: map[MessageType]uint64{}, Sent: map[MessageType]uint64{}, Unanswered: map[Why]uint64{}},
	}, nil
}

func checkedPlan(cfg Config) (*plan, error) {
	var errs []error
	p := newPlan(cfg, func(key string, err error) { errs = append(errs, fmt.Errorf("dhcp4: %s: %w", key, err)) })
	return p, errors.Join(errs...)
}

// Reload gives a running server a new configuration, between two packets. Interfaces is not looked at. After an error the old one holds.
func (s *Server) Reload(cfg Config, mail Mail) error {
	p, err := checkedPlan(cfg)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machine.replan(p, mail)
	return nil
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Received, st.Sent, st.Unanswered = maps.Clone(st.Received), maps.Clone(st.Sent), maps.Clone(st.Unanswered)
	st.Offers = len(s.machine.offers)
	return st
}

// Run serves what comes from the wire until ctx ends, and closes the wire: a reply that waits for the disk just then is lost as on any wire, and its client asks again.
func (s *Server) Run(ctx context.Context, w Wire) error {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.machine.stop() // that of the last configuration
	}()
	stop := context.AfterFunc(ctx, func() { w.Close() })
	err := s.receive(ctx, w)
	s.work.Wait()
	if stop() {
		w.Close()
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("dhcp4: %w", err)
}

// receive handles batch after batch of packets. What need not wait for the disk is answered at once; the others wait together, so that one sync is for
// all of them, and what arrives meanwhile is the next batch: the more there is to do, the fewer syncs.
func (s *Server) receive(ctx context.Context, w Wire) error {
	var p Packet
	var waiting []sending // its elements keep their memory
	for {
		batch, err := w.Receive()
		if err != nil {
			return err
		}
		n := 0
		for i := range batch {
			a, raw := &batch[i].Arrival, batch[i].Raw
			a.Packet = &p
			if err := p.Parse(raw); err != nil || len(raw) > MaxSize {
				s.mu.Lock()
				s.unanswered(a, WhyMalformed, err)
				s.mu.Unlock()
				continue
			}
			if n == len(waiting) {
				waiting = append(waiting, sending{})
			}
			if s.handle(ctx, w, a, raw, &waiting[n]) {
				n++
			}
		}
		for i := range waiting[:n] {
			s.deliver(w, &waiting[i])
		}
	}
}

// handle decides about one packet. It answers what can be answered at once, and reports whether todo is a reply that waits for the disk.
func (s *Server) handle(ctx context.Context, w Wire, a *Arrival, raw []byte, todo *sending) (waits bool) {
	s.mu.Lock()
	s.stats.Received[a.Packet.Type()]++
	out := s.machine.decide(s.o.Leases.Now(), a, netip.Addr{})
	if out.Probe.IsValid() {
		select {
		case s.probes <- struct{}{}:
			s.mu.Unlock()
			s.startProbe(ctx, w, *a, slices.Clone(raw), out.Probe)
			return false
		default: // RFC 2131 §3.1: should, not must
			out = s.machine.decide(s.o.Leases.Now(), a, out.Probe)
		}
	}
	ok := s.finish(a, out, todo)
	s.mu.Unlock()
	if ok && todo.commit == (lease.Pending{}) {
		s.deliver(w, todo)
		return false
	}
	return ok
}

// finish turns an outcome into what is sent when the disk has it, in todo's memory; false when there is nothing. The caller holds mu.
func (s *Server) finish(a *Arrival, out Outcome, todo *sending) bool {
	if out.Why != "" {
		s.unanswered(a, out.Why, nil)
		return false
	}
	*todo = sending{b: todo.b[:0], to: out.To, commit: out.Commit, note: out.Note, lease: out.Lease}
	if out.Reply == nil {
		return true
	}
	todo.kind = out.Reply.Type()
	var omitted int
	todo.b, omitted = out.Reply.AppendTo(todo.b, out.Limit, todo.kind != Nak && todo.kind != 0) // table 3: not in a DHCPNAK
	s.stats.Sent[todo.kind]++
	if omitted > 0 {
		s.o.Log.Debug("options left out, for the client takes no longer packet", "client", lease.ID(a.Packet.Hardware()).String(), "options", omitted)
	}
	return true
}

// deliver waits for the disk and sends.
func (s *Server) deliver(w Wire, out *sending) {
	if err := out.commit.Wait(); err != nil { // RFC 2131 §3.1 (4): then there is no binding, and nothing to acknowledge
		s.o.Log.Error("lease not stored", "error", err)
		s.mu.Lock()
		s.stats.Unanswered[WhyStore]++
		s.mu.Unlock()
		return
	}
	if len(out.b) > 0 {
		err := w.Send(out.b, out.to)
		if err != nil && out.to.Hardware { // RFC 2131 §4.1: if unicasting is not possible
			out.to.Hardware, out.to.AddrPort = false, netip.AddrPortFrom(limited, ClientPort)
			err = w.Send(out.b, out.to)
		}
		if err != nil {
			s.o.Log.Warn("reply not sent", "to", out.to.AddrPort, "error", err)
		}
	}
	s.report(out)
}

// report logs what was decided.
func (s *Server) report(out *sending) {
	ctx, level := context.Background(), slog.LevelDebug
	switch {
	case out.note == "declined":
		level = slog.LevelWarn // RFC 2131 §4.3.3: the operator should know
	case out.lease.Prefix.IsValid():
		level = slog.LevelInfo
	}
	if !s.o.Log.Enabled(ctx, level) {
		return // before anything is put together
	}
	if out.lease.Prefix.IsValid() {
		s.o.Log.Log(ctx, level, "lease "+out.note, "address", out.lease.Prefix.Addr(), "client", out.lease.Client, "name", out.lease.Hostname)
	} else {
		s.o.Log.Log(ctx, level, "reply", "to", out.to.AddrPort, "note", out.note)
	}
}

// startProbe asks for an address whether somebody uses it, and decides anew.
func (s *Server) startProbe(ctx context.Context, w Wire, a Arrival, raw []byte, addr netip.Addr) {
	s.work.Go(func() {
		defer func() { <-s.probes }()
		var p Packet
		if p.Parse(raw) != nil {
			return // it parsed before
		}
		a.Packet = &p
		for round := 0; ; round++ {
			free := s.probe(ctx, &a, addr)
			s.mu.Lock()
			now := s.o.Leases.Now()
			probed := addr
			if !free {
				probed = netip.Addr{}
				s.conflict(now, addr)
			}
			out := s.machine.decide(now, &a, probed)
			if out.Probe.IsValid() && round+1 < probeRounds && ctx.Err() == nil {
				addr = out.Probe
				s.mu.Unlock()
				continue
			}
			if out.Probe.IsValid() {
				s.machine.forget(out.Probe)
				out = Outcome{Why: WhyNoAddress}
			}
			var todo sending
			ok := s.finish(&a, out, &todo)
			s.mu.Unlock()
			if ok {
				s.deliver(w, &todo)
			}
			return
		}
	})
}

// probe reports whether nobody answers for an address.
func (s *Server) probe(ctx context.Context, a *Arrival, addr netip.Addr) bool {
	s.mu.Lock()
	wait := s.machine.plan.Probe
	s.mu.Unlock()
	q := Question{Addr: addr, Link: a.Link, Hardware: slices.Clone(a.Packet.Hardware()), Relayed: given(a.Packet.GIAddr)}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	used, err := s.o.Prober.InUse(ctx, q)
	if err != nil {
		s.o.Log.Warn("address not probed", "address", addr, "error", err)
	}
	return !used
}

// conflict puts an address that somebody uses into quarantine. The caller holds mu.
func (s *Server) conflict(now time.Time, addr netip.Addr) {
	s.stats.Conflicts++
	s.o.Log.Warn("address is in use by somebody without a lease", "address", addr)
	if _, err := s.machine.conflict(now, addr); err != nil {
		s.o.Log.Error("quarantine not stored", "address", addr, "error", err)
	}
}

// unanswered counts a packet that is not answered and says why, unless there are too many. The caller holds mu.
func (s *Server) unanswered(a *Arrival, why Why, err error) {
	s.stats.Unanswered[why]++
	now := time.Now()
	if why == WhyNoAddress && now.Sub(s.alarm) > alarmEvery {
		s.alarm = now
		s.o.Log.Warn("addresses are used up", "interface", a.Link.Name, "relay", a.Packet.GIAddr)
	}
	ok, left := s.lines.Take(now)
	if left > 0 {
		s.o.Log.Info("more packets not answered", "count", left)
	}
	if !ok {
		return
	}
	attrs := []any{"why", string(why), "interface", a.Link.Name}
	if err != nil {
		attrs = append(attrs, "error", err)
	} else {
		attrs = append(attrs, "type", a.Packet.Type().String(), "hardware", lease.ID(a.Packet.Hardware()).String(), "xid", a.Packet.XID, "relay", a.Packet.GIAddr)
	}
	s.o.Log.Info("packet not answered", attrs...)
}
