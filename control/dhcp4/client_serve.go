package dhcp4

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"bothy/control/hook"
	"bothy/control/lease"
	"bothy/control/tally"
	"bothy/lib/file"
)

// ClientConfig is what the operator sets.
type ClientConfig struct {
	Interface    string        `doc:"The interface towards the provider, for which an address is asked by DHCPv4. Empty: none." example:"eth0"`
	Hostname     string        `doc:"The name the server is told (RFC 2132 §3.14). Empty: none." max:"255" example:"light"`
	VendorClass  string        `doc:"What kind of host this is (RFC 2132 §9.13). Empty: it is not said." max:"255" example:"anacapa"`
	ClientID     string        `toml:"client_id" doc:"Client identifier, in hexadecimal (RFC 2132 §9.14). Empty: the hardware address." example:"01:02:00:00:00:00:01"`
	Broadcast    bool          `doc:"Have the server answer by broadcast (RFC 2131 §4.1), for interfaces that take no unicast before they have an address."`
	Release      bool          `doc:"Give the address back at a stop; else it is asked for again at the next start."`
	DefaultRoute bool          `doc:"Take the router from the server (RFC 2132 §3.5, RFC 3442)." default:"true"`
	Metric       int           `doc:"Metric of the routes: where several lead to a place, the lowest counts." default:"100" min:"0" max:"65535"`
	Check        time.Duration `doc:"How long somebody else who has the address may take to answer ARP, before it is used (RFC 2131 §2.2)." default:"1500ms" min:"100ms" max:"10s"`
	Hook         string        `doc:"Program that is run when something has changed: what was learnt is JSON on its standard input." example:"/etc/bothy/learnt"`
}

// CheckConfig reports what is wrong with cfg, by key.
func (cfg *ClientConfig) CheckConfig(report func(key string, err error)) {
	if cfg.ClientID == "" {
		return
	}
	switch id, err := lease.ParseID(cfg.ClientID); {
	case err != nil:
		report("client_id", err)
	case len(id) < 2 || len(id) > maxOption: // RFC 2132 §9.14
		report("client_id", errors.New("has 2 to 255 octets"))
	}
}

// ClientWire is one interface, as far as a client needs it. Dial opens the machine's own.
type ClientWire interface {
	// Hardware is the interface's Ethernet address.
	Hardware() net.HardwareAddr
	// Receive reads one packet that was sent to port 68 into b; it blocks.
	Receive(b []byte) (n int, err error)
	// Send sends b where out says.
	Send(b []byte, out *Sent) error
	// InUse reports whether somebody else has an address, before ctx ends.
	InUse(ctx context.Context, a netip.Addr) (bool, error)
	// Announce tells the others on the link who has an address now.
	Announce(a netip.Addr) error
	// Carrier reports whether the interface can send. An error means that the interface is gone.
	Carrier() (bool, error)
	// Close ends Receive.
	Close() error
}

// ClientHost is whose addresses and routes are set: iface.Interface.
type ClientHost interface {
	SetAddress(p netip.Prefix, preferred, valid time.Duration) error
	RemoveAddress(p netip.Prefix) error
	SetRoute(to netip.Prefix, via netip.Addr, metric int) error
	RemoveRoute(to netip.Prefix, via netip.Addr, metric int) error
}

// The times of the service.
const (
	carrierEvery = 2 * time.Second           // between looks at the carrier
	probes       = 3                         // ARP requests within ClientConfig.Check: RFC 5227 §1.1, PROBE_NUM
	releaseWait  = 200 * time.Millisecond    // for ARP to find the server, before the address is taken away
	forEver      = 10 * 365 * 24 * time.Hour // of an address whose lease does not end
)

// ClientService runs one client. One Run at a time.
type ClientService struct {
	Config  ClientConfig
	File    string        // where the binding is kept, for the next start
	Host    ClientHost    // nil: nothing is set
	Changed func(Binding) // told of each change of what can be used; without a carrier that is nothing. May be nil
	Log     *slog.Logger

	binding atomic.Pointer[Binding]
	client  *Client
	hook    *hook.Hook
	set     Binding        // what the host has of it
	routes  []ClasslessHop // that the host has
	checked chan checked
	asking  netip.Addr // an ARP check is under way
	carrier bool
	looked  time.Time // at the carrier
	stale   bool      // the link was away: the kernel may have taken routes with it
	told    *Binding  // to Changed
	tally   tally.Tally
}

// checked is the end of an ARP check.
type checked struct {
	addr  netip.Addr
	inUse bool
}

// Binding is what the client has now.
func (s *ClientService) Binding() Binding {
	if b := s.binding.Load(); b != nil {
		return *b
	}
	return Binding{}
}

// Run asks for an address until ctx ends, and closes the wire. Before, it may end because the interface is gone.
func (s *ClientService) Run(ctx context.Context, w ClientWire) error {
	defer w.Close() // after the last message
	packets := make(chan []byte)
	failed := make(chan error, 1)
	done := make(chan struct{})
	defer close(done)
	go func() { failed <- receivePackets(w, packets, done) }()
	s.hook = hook.New(s.Config.Hook, s.Log)
	defer s.hook.Close()
	s.checked = make(chan checked, 1)
	s.asking, s.told, s.stale = netip.Addr{}, nil, true

	now := time.Now()
	before := s.before()
	s.client = NewClient(s.options(w), before, now)
	s.set, s.routes = before, s.hops(before) // it may still have them
	s.carrier, s.looked = true, now
	var p Packet
	for {
		if err := s.step(ctx, w); err != nil {
			return fmt.Errorf("dhcp4: client on %s: %w", s.Config.Interface, err)
		}
		timer := time.NewTimer(s.wait(time.Now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			s.end(w)
			return nil
		case err := <-failed:
			timer.Stop()
			return fmt.Errorf("dhcp4: client on %s: %w", s.Config.Interface, err)
		case b := <-packets:
			if err := p.Parse(b); err != nil {
				s.dropped(&p, WhyMalformed, err)
			} else if why := s.client.Receive(time.Now(), &p); why != "" {
				s.dropped(&p, why, nil)
			} else {
				s.tally.Received(p.Type().String())
			}
		case c := <-s.checked:
			s.asking = netip.Addr{}
			if c.addr == s.client.ToCheck() {
				s.client.Checked(time.Now(), c.inUse)
			}
		case <-timer.C:
		}
		timer.Stop()
	}
}

// dropped counts a packet that is not for us and says why: answers to our neighbours are none of the operator's business.
func (s *ClientService) dropped(p *Packet, why Why, err error) {
	s.tally.Dropped(string(why))
	s.Log.Debug("packet dropped", "interface", s.Config.Interface, "why", string(why), "type", p.Type(), "error", err)
}

func (s *ClientService) options(w ClientWire) ClientOptions {
	o := ClientOptions{Hardware: w.Hardware(), VendorClass: s.Config.VendorClass, Hostname: s.Config.Hostname, Broadcast: s.Config.Broadcast}
	if id, err := lease.ParseID(s.Config.ClientID); err == nil && len(id) > 0 {
		o.ClientID = []byte(id)
	}
	return o
}

func receivePackets(w ClientWire, to chan<- []byte, done <-chan struct{}) error {
	b := make([]byte, MaxSize)
	for {
		n, err := w.Receive(b)
		if err != nil {
			return err
		}
		select {
		case to <- slices.Clone(b[:n]):
		case <-done:
			return nil
		}
	}
}

func (s *ClientService) wait(now time.Time) time.Duration {
	next := s.looked.Add(carrierEvery).Sub(now)
	if t := s.client.Next(); !t.IsZero() {
		next = min(next, t.Sub(now))
	}
	return max(next, 0)
}

// step does what is due.
func (s *ClientService) step(ctx context.Context, w ClientWire) error {
	now := time.Now()
	if now.Sub(s.looked) >= carrierEvery {
		carrier, err := w.Carrier()
		if err != nil {
			return err
		}
		if carrier && !s.carrier { // perhaps it is another link: RFC 2131 §3.7
			s.client.LinkUp(now)
			s.stale = true
		}
		s.carrier, s.looked = carrier, now
	}
	if out := s.client.Tick(now); out != nil {
		s.send(w, out)
	}
	if a := s.client.ToCheck(); a.IsValid() && !s.asking.IsValid() {
		s.asking = a
		go s.check(ctx, w, a)
	}
	for _, note := range s.client.Notices() {
		s.Log.Warn(note, "interface", s.Config.Interface)
	}
	s.follow(now, w)
	return nil
}

func (s *ClientService) send(w ClientWire, out *Sent) {
	b, _ := out.Packet.AppendTo(nil, DefaultSize, false)
	s.Log.Debug("message", "interface", s.Config.Interface, "type", out.Packet.Type(), "state", s.client.State(), "to", out.To)
	if err := w.Send(b, out); err != nil { // the link is down, perhaps: it is sent again
		s.Log.Debug("message not sent", "interface", s.Config.Interface, "error", err)
		return
	}
	s.tally.Sent(out.Packet.Type().String())
}

// check asks who has an address, a few times (RFC 2131 §4.4.1). What cannot be asked is used: without ARP nobody could be reached anyhow.
func (s *ClientService) check(ctx context.Context, w ClientWire, a netip.Addr) {
	c := checked{addr: a}
	for range probes {
		one, cancel := context.WithTimeout(ctx, cmp.Or(s.Config.Check, 1500*time.Millisecond)/probes)
		inUse, err := w.InUse(one, a)
		cancel()
		if err != nil {
			s.Log.Warn("address not checked", "address", a, "error", err)
			break
		}
		if c.inUse = inUse; inUse {
			break
		}
	}
	s.checked <- c // one check at a time: there is room
}

// before is the binding of the last run.
func (s *ClientService) before() (b Binding) {
	content, err := os.ReadFile(s.File)
	if errors.Is(err, fs.ErrNotExist) {
		return b
	}
	if err == nil {
		err = json.Unmarshal(content, &b)
	}
	if err == nil && b.Address.IsValid() && !b.Address.Addr().Is4() {
		err = fmt.Errorf("%v is no IPv4 address", b.Address)
	}
	if err != nil {
		s.Log.Warn("what the client had before cannot be read: it starts anew", "file", s.File, "error", err)
		return Binding{}
	}
	return b
}

// follow gives the host what the client has now, and takes away what it has no more.
func (s *ClientService) follow(now time.Time, w ClientWire) {
	b := s.client.Binding()
	if !b.Address.IsValid() && s.client.binding.Address.IsValid() {
		return // INIT-REBOOT: until a server says no, everything stays as the last run, or link, left it
	}
	old := s.Binding()
	changed := s.binding.Load() == nil || !sameBinding(old, b)
	if (changed || s.stale) && s.Host != nil {
		s.configure(now, b)
	}
	if b.Address.IsValid() && (b.Address != old.Address || s.stale) {
		if err := w.Announce(b.Address.Addr()); err != nil {
			s.Log.Debug("address not announced", "error", err)
		}
	}
	s.stale = false
	if changed {
		s.binding.Store(&b)
		s.publish(b)
	}
	s.tell(b)
}

// tell says what can be used now.
func (s *ClientService) tell(b Binding) {
	if !s.carrier {
		b = Binding{}
	}
	if s.Changed == nil || s.told != nil && sameBinding(*s.told, b) {
		return
	}
	s.told = &b
	s.Changed(b)
}

// publish writes down what the client has now, and says it.
func (s *ClientService) publish(b Binding) {
	if content, err := json.Marshal(b); err != nil {
		s.Log.Error("what the client has cannot be written down", "error", err)
	} else if err := file.Replace(s.File, content, 0o600); err != nil {
		s.Log.Error("what the client has was not written down: a restart asks anew", "file", s.File, "error", err)
	}
	s.Log.Info("DHCPv4", "interface", s.Config.Interface, "state", s.client.State(), "address", b.Address, "server", b.Server, "ends", b.Ends)
	s.hook.Tell(hook.Event{Protocol: "dhcp4", Interface: s.Config.Interface, State: string(s.client.State()), Binding: b})
}

// sameBinding reports whether two bindings say the same.
func sameBinding(a, b Binding) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// configure sets the address, then the routes; and takes away in the other order.
func (s *ClientService) configure(now time.Time, b Binding) {
	failed := func(what string, err error) {
		if err != nil {
			s.Log.Error(what, "error", err)
		}
	}
	routes := s.hops(b)
	for _, r := range s.routes {
		if !slices.Contains(routes, r) {
			failed("route not removed", s.Host.RemoveRoute(r.To, r.router(), s.Config.Metric))
		}
	}
	if old := s.set.Address; old.IsValid() && old != b.Address {
		failed("address not removed", s.Host.RemoveAddress(old))
	}
	if b.Address.IsValid() {
		valid := forEver
		if !b.Ends.IsZero() {
			valid = b.Ends.Sub(now)
		}
		failed("address not set", s.Host.SetAddress(b.Address, valid, valid))
	}
	for _, r := range routes {
		failed("route not set", s.Host.SetRoute(r.To, r.router(), s.Config.Metric))
	}
	s.set, s.routes = b, routes
}

// router is how iface wants it: no address when the destination is on the link.
func (h ClasslessHop) router() netip.Addr {
	if h.Via.IsUnspecified() {
		return netip.Addr{}
	}
	return h.Via
}

// hops are the routes a binding leads to. RFC 3442, "DHCP Client Behavior": where there are classless routes, routers do not count. A router that is
// not on the subnet is reached on the link.
func (s *ClientService) hops(b Binding) (all []ClasslessHop) {
	if !s.Config.DefaultRoute || !b.Address.IsValid() {
		return nil
	}
	given := b.Routes
	if len(given) == 0 && len(b.Routers) > 0 {
		given = []ClasslessHop{{netip.PrefixFrom(netip.IPv4Unspecified(), 0), b.Routers[0]}} // RFC 2132 §3.5: in order of preference
	}
	for _, h := range given {
		onLink := ClasslessHop{lease.Host(h.Via), netip.IPv4Unspecified()}
		if !h.Via.IsUnspecified() && !b.Address.Contains(h.Via) && !slices.Contains(all, onLink) {
			all = append(all, onLink)
		}
		if !slices.Contains(all, h) {
			all = append(all, h)
		}
	}
	return all
}

// end gives the address back where that is configured.
func (s *ClientService) end(w ClientWire) {
	if !s.Config.Release {
		return
	}
	now := time.Now()
	if out := s.client.Release(now); out != nil {
		s.send(w, out)
		time.Sleep(releaseWait)
	}
	s.follow(now, w)
}
