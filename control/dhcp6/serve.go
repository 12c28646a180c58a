package dhcp6

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"bothy/control/lease"
	"bothy/control/tally"
)

// The ports (RFC 9915 §7.2).
const (
	ClientPort = 546
	ServerPort = 547
)

// Wire is where datagrams come from and go to. Listen opens the machine's own.
type Wire interface {
	// Receive waits for a datagram and returns those that are there, valid until the next call. It is called by one goroutine.
	Receive() ([]Arrival, error)
	// Send sends a reply out of the interface it came in by. It may be called by many goroutines.
	Send(b []byte, to netip.AddrPort, link *Link) error
	// Link returns an interface that is served, as Receive would name it; nil when there is none of that name.
	Link(name string) *Link
	// Close ends Receive.
	Close() error
}

// Options of a Server.
type Options struct {
	Config Config
	Leases *lease.Store // required
	DUID   []byte       // this server's, the same for ever (RFC 9915 §11); required
	Secret []byte       // 32 octets that nobody else knows, the same for ever; required
	Mail   Mail
	Log    *slog.Logger // nil: none
}

// Server is the DHCPv6 service. Run it once.
type Server struct {
	o Options

	mu      sync.Mutex // guards what follows
	machine *machine
	wakes   wakes
	stats   Stats
	lines   tally.Lines // about messages that are not answered
}

// Stats are counters since New.
type Stats struct {
	Received   map[MessageType]uint64
	Sent       map[MessageType]uint64
	Unanswered map[Why]uint64
}

// sending is a reply on its way; without octets in b nothing is sent, and only the disk is waited for.
type sending struct {
	b      []byte
	to     netip.AddrPort
	link   *Link
	commit []lease.Pending
	notes  []Note
	client lease.ID
}

// New returns a server. The error names what is wrong with the configuration.
func New(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if len(o.DUID) < minDUID || len(o.DUID) > maxDUID || len(o.Secret) < 32 {
		return nil, errors.New("dhcp6: a server needs a DUID and a secret")
	}
	p, err := checkedPlan(o.Config)
	if err != nil {
		return nil, err
	}
	return &Server{
		o: o, machine: newMachine(p, o.Leases, o.DUID, o.Secret, o.Mail),
		stats: Stats{Received: map[MessageType]uint64{}, Sent: map[MessageType]uint64{}, Unanswered: map[Why]uint64{}},
	}, nil
}

func checkedPlan(cfg Config) (*plan, error) {
	var errs []error
	p := newPlan(cfg, func(key string, err error) { errs = append(errs, fmt.Errorf("dhcp6: %s: %w", key, err)) })
	return p, errors.Join(errs...)
}

// Reload gives a running server a new configuration, between two messages. Interfaces is not looked at. After an error the old one holds. Clients
// that accept it are told when anything is new (RFC 9915 §18.3.11).
func (s *Server) Reload(cfg Config, mail Mail) error {
	p, err := checkedPlan(cfg)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.machine
	old.stop()
	s.machine = newMachine(p, s.o.Leases, s.o.DUID, s.o.Secret, mail)
	s.machine.stamp = old.stamp
	if p.Reconfigure && !(reflect.DeepEqual(p.Config, old.plan.Config) && reflect.DeepEqual(mail, old.mail)) {
		s.wakes.begin(s.o.Leases.Now(), s.o.Leases.List())
	}
	return nil
}

// wakeEvery is how often it is looked who must be woken.
const wakeEvery = 100 * time.Millisecond

// wake sends Reconfigure messages until done.
func (s *Server) wake(w Wire, done <-chan struct{}) {
	look := time.NewTicker(wakeEvery)
	defer look.Stop()
	for {
		select {
		case <-done:
			return
		case <-look.C:
			s.wakeDue(w)
		}
	}
}

func (s *Server) wakeDue(w Wire) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakes.due(s.o.Leases.Now(), func(id lease.ID, kind MessageType, path []byte) {
		to, name, datagram, ok := along(path, s.machine.waking(id, kind))
		if !ok {
			return
		}
		link := w.Link(name)
		if link == nil {
			return
		}
		s.stats.Sent[Reconfigure]++
		if err := w.Send(datagram, to, link); err != nil {
			s.o.Log.Warn("client not told of the new configuration", "client", id.String(), "error", err)
		}
	})
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{maps.Clone(s.stats.Received), maps.Clone(s.stats.Sent), maps.Clone(s.stats.Unanswered)}
}

// Run serves what comes from the wire until ctx ends, and closes the wire. What was decided by then is on the disk; who is not told asks again.
func (s *Server) Run(ctx context.Context, w Wire) error {
	stop := context.AfterFunc(ctx, func() { w.Close() })
	done, woken := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(woken)
		s.wake(w, done)
	}()
	err := s.receive(w)
	close(done)
	<-woken
	if stop() {
		w.Close()
	}
	s.mu.Lock()
	s.machine.stop()
	s.mu.Unlock()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("dhcp6: %w", err)
}

// receive handles batch after batch of messages. What need not wait for the disk is answered at once; the others wait together, so that one sync is for
// all of them, and what arrives meanwhile is the next batch: the more there is to do, the fewer syncs.
func (s *Server) receive(w Wire) error {
	var waiting []sending // its elements keep their memory
	for {
		batch, err := w.Receive()
		if err != nil {
			return err
		}
		n := 0
		for i := range batch {
			if n == len(waiting) {
				waiting = append(waiting, sending{})
			}
			if s.handle(w, &batch[i], &waiting[n]) {
				n++
			}
		}
		for i := range waiting[:n] {
			s.deliver(w, &waiting[i])
		}
	}
}

// handle decides about one message. It answers what can be answered at once, and reports whether todo is a reply that waits for the disk.
func (s *Server) handle(w Wire, a *Arrival, todo *sending) (waits bool) {
	if !s.decide(a, todo) {
		return false
	}
	if len(todo.commit) > 0 {
		return true
	}
	s.deliver(w, todo)
	return false
}

// decide puts what a message leads to into todo's memory; false when that is nothing.
func (s *Server) decide(a *Arrival, todo *sending) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.machine.decide(s.o.Leases.Now(), a)
	m := &s.machine.message
	if out.Why != WhyMalformed {
		s.stats.Received[m.Type]++
	}
	if out.Why != "" {
		s.unanswered(a, out.Why)
	}
	if out.Why != "" && len(out.Commit) == 0 {
		return false
	}
	id, _ := m.Find(ClientID)
	client := lease.ID(id)
	s.wakes.heard(client, m.Type)
	if out.Path != nil {
		now := s.o.Leases.Now()
		s.wakes.remember(now, client, out.Path, now.Add(2*s.machine.plan.Refresh))
	}
	*todo = sending{b: todo.b[:0], to: a.Source, link: a.Link, commit: append(todo.commit[:0], out.Commit...), notes: append(todo.notes[:0], out.Notes...), client: client}
	if out.Why == "" {
		todo.b = append(todo.b, out.Reply...)
		s.stats.Sent[MessageType(s.machine.reply.b[0])]++
	}
	return true
}

// deliver waits for the disk and sends.
func (s *Server) deliver(w Wire, out *sending) {
	for _, pending := range out.commit {
		if err := pending.Wait(); err != nil { // RFC 9915 §18.3.1: committed before the Reply
			s.o.Log.Error("lease not stored", "error", err)
			s.mu.Lock()
			s.stats.Unanswered[WhyStore]++
			s.mu.Unlock()
			return
		}
	}
	if len(out.b) > 0 {
		if err := w.Send(out.b, out.to, out.link); err != nil && !errors.Is(err, net.ErrClosed) {
			s.o.Log.Warn("reply not sent", "to", out.to, "error", err)
		}
	}
	for _, n := range out.notes {
		level := slog.LevelInfo
		if n.What == "declined" {
			level = slog.LevelWarn // RFC 9915 §18.3.8: the operator may want to know
		}
		if ctx := context.Background(); s.o.Log.Enabled(ctx, level) { // else nothing is put together
			s.o.Log.Log(ctx, level, "lease "+n.What, "prefix", n.Prefix, "client", out.client)
		}
	}
}

// unanswered counts a message that is not answered and says why, unless there are too many. The caller holds mu.
func (s *Server) unanswered(a *Arrival, why Why) {
	s.stats.Unanswered[why]++
	ok, left := s.lines.Take(time.Now())
	if left > 0 {
		s.o.Log.Info("more messages not answered", "count", left)
	}
	if !ok {
		return
	}
	m := &s.machine.message
	client, _ := m.Find(ClientID)
	s.o.Log.Info("message not answered", "why", string(why), "interface", a.Link.Name, "from", a.Source, "type", m.Type.String(), "client", lease.ID(client).String())
}
