package dhcp6

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"bothy/control/hook"
	"bothy/control/tally"
	"bothy/lib/file"
)

// ClientConfig is what the operator sets.
type ClientConfig struct {
	Interface   string `doc:"The interface towards the provider, for which addresses are asked by DHCPv6. Empty: none." example:"eth0"`
	Address     bool   `doc:"Ask for an address; the host has it as long as the lease lasts." default:"true"`
	Prefix      bool   `doc:"Ask for a prefix for the site's own links (RFC 9915 §6.3)."`
	PrefixHint  int    `doc:"Length of the prefix wished for. 0: any." min:"0" max:"64" example:"56"`
	RapidCommit bool   `doc:"Take an address in two messages where the server offers it (RFC 9915 §18.2.1)."`
	Reconfigure bool   `doc:"Ask again when the server says so (RFC 9915 §18.2.11)."`
	Release     bool   `doc:"Give everything back at a stop; else it is asked for again at the next start."`
	IMAPCode    int    `toml:"imap_code" doc:"Option code of the list of IMAP servers, the same as at the server. 0: not asked for." max:"65535" example:"65001"`
	POP3Code    int    `toml:"pop3_code" doc:"Option code of the list of POP3 servers." max:"65535" example:"65002"`
	SMTPCode    int    `toml:"smtp_code" doc:"Option code of the list of SMTP servers." max:"65535" example:"65003"`
	Enterprise  int    `doc:"Enterprise number under which option 17 has the three lists. 0: not asked for." example:"32473"`
	Hook        string `doc:"Program that is run when something has changed: what was learnt is JSON on its standard input." example:"/etc/bothy/learnt"`
}

// CheckConfig reports what is wrong with cfg, by key.
func (cfg *ClientConfig) CheckConfig(report func(key string, err error)) {
	mail := cfg.mail()
	mail.check(func(key string, err error) { report(key[len("mail."):], err) })
}

func (cfg *ClientConfig) mail() MailConfig {
	return MailConfig{IMAPCode: cfg.IMAPCode, POP3Code: cfg.POP3Code, SMTPCode: cfg.SMTPCode, Enterprise: cfg.Enterprise}
}

// ClientWire is where a client's messages come from and go to. Dial opens the machine's own.
type ClientWire interface {
	// Receive reads one datagram into b; it blocks. Multicast ones are passed over (RFC 9915 §16).
	Receive(b []byte) (n int, err error)
	// Send sends to All_DHCP_Relay_Agents_and_Servers.
	Send(b []byte) error
	// Carrier reports whether the interface can send. An error means that the interface is gone.
	Carrier() (bool, error)
	// Close ends Receive.
	Close() error
}

// Host is whose addresses are set: iface.Interface.
type Host interface {
	SetAddress(p netip.Prefix, preferred, valid time.Duration) error
	RemoveAddress(p netip.Prefix) error
	Check(a netip.Addr) (done, duplicate bool, err error)
}

// ClientService runs one client.
type ClientService struct {
	Config  ClientConfig
	DUID    []byte
	File    string        // where the binding is kept, for the next start
	Host    Host          // nil: nothing is set
	Changed func(Binding) // told of each change of what can be used; without a carrier, or on a link that may be another, that is nothing. May be nil
	Log     *slog.Logger

	binding atomic.Pointer[Binding]
	client  *Client
	hook    *hook.Hook
	set     []Held // on the host
	unsure  []Held // whose duplicate address detection is not over
	carrier bool
	looked  time.Time // at the carrier
	stale   bool      // the link was away, and the kernel may have taken the addresses with it
	told    *Binding  // to Changed
	tally   tally.Tally
}

// Binding is what the client has now.
func (s *ClientService) Binding() Binding {
	if b := s.binding.Load(); b != nil {
		return *b
	}
	return Binding{}
}

// How often the kernel is asked whether an address is somebody else's, and whether the link is there.
const (
	checkEvery   = 500 * time.Millisecond
	carrierEvery = 2 * time.Second
)

// Run asks for what is configured until ctx ends, and closes the wire. Before, it may end because the interface is gone.
func (s *ClientService) Run(ctx context.Context, w ClientWire) error {
	defer w.Close() // after the last message
	messages := make(chan []byte)
	failed := make(chan error, 1)
	done := make(chan struct{})
	defer close(done)
	go func() { failed <- receive(w, messages, done) }()

	s.hook = hook.New(s.Config.Hook, s.Log)
	defer s.hook.Close()

	now := time.Now()
	s.client = NewClient(ClientOptions{
		DUID: s.DUID, IAID: iaid(s.Config.Interface), Address: s.Config.Address, Prefix: s.Config.Prefix, PrefixHint: s.Config.PrefixHint,
		RapidCommit: s.Config.RapidCommit, Reconfigure: s.Config.Reconfigure, Mail: s.Config.mail(),
	}, s.before(), now)
	s.carrier, s.looked, s.stale, s.told = true, now, true, nil
	s.follow(now)
	for {
		timer := time.NewTimer(s.wait(time.Now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			s.end(w)
			return nil
		case err := <-failed:
			timer.Stop()
			return fmt.Errorf("dhcp6: client on %s: %w", s.Config.Interface, err)
		case b := <-messages:
			_, why := s.client.Receive(time.Now(), b)
			if kind := MessageType(b[0]).String(); why == "" {
				s.tally.Received(kind)
			} else {
				s.tally.Dropped(string(why))
				s.Log.Debug("message dropped", "interface", s.Config.Interface, "why", string(why), "type", kind)
			}
		case <-timer.C:
		}
		timer.Stop()
		now := time.Now()
		if err := s.watch(now, w); err != nil {
			return fmt.Errorf("dhcp6: client on %s: %w", s.Config.Interface, err)
		}
		s.check(now)
		if out := s.client.Tick(now); out != nil {
			s.send(w, out)
		}
		s.follow(now)
	}
}

func (s *ClientService) send(w ClientWire, b []byte) {
	if err := w.Send(b); err != nil { // the link is down, perhaps: it is sent again
		s.Log.Debug("message not sent", "interface", s.Config.Interface, "error", err)
		return
	}
	s.tally.Sent(MessageType(b[0]).String())
}

func receive(w ClientWire, to chan<- []byte, done <-chan struct{}) error {
	b := make([]byte, MaxSize)
	for {
		n, err := w.Receive(b)
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		select {
		case to <- slices.Clone(b[:n]):
		case <-done:
			return nil
		}
	}
}

// iaid tells the interfaces of a host apart (RFC 9915 §12), and is the same at each start.
func iaid(name string) uint32 {
	var b [4]byte
	for i := range len(name) {
		b[i%4] = b[i%4]*31 + name[i]
	}
	return binary.BigEndian.Uint32(b[:])
}

func (s *ClientService) wait(now time.Time) time.Duration {
	next := max(s.looked.Add(carrierEvery).Sub(now), 0)
	if t := s.client.Next(); !t.IsZero() {
		next = min(next, max(t.Sub(now), 0))
	}
	if len(s.unsure) > 0 {
		next = min(next, checkEvery)
	}
	return next
}

// watch looks at the carrier: when it is back, the link is perhaps another (RFC 9915 §18.2.12).
func (s *ClientService) watch(now time.Time, w ClientWire) error {
	if now.Sub(s.looked) < carrierEvery {
		return nil
	}
	carrier, err := w.Carrier()
	if err != nil {
		return err
	}
	if carrier && !s.carrier {
		s.client.LinkUp(now)
		s.stale = true
	}
	s.carrier, s.looked = carrier, now
	return nil
}

// before is the binding of the last run.
func (s *ClientService) before() (b Binding) {
	content, err := os.ReadFile(s.File)
	if errors.Is(err, fs.ErrNotExist) {
		return b
	}
	var k kept
	if err == nil {
		err = json.Unmarshal(content, &k)
	}
	if err != nil {
		s.Log.Warn("what the client had before cannot be read: it starts anew", "file", s.File, "error", err)
		return Binding{}
	}
	k.Binding.Key, k.Binding.Replay = k.Key, k.Replay
	return k.Binding
}

// kept is a binding as the file has it: with the key that nobody else is shown.
type kept struct {
	Binding
	Key    []byte `json:"reconfigure_key,omitempty"`
	Replay uint64 `json:"reconfigure_replay,omitempty"`
}

// follow gives the host what the client has now, and takes away what it has no more.
func (s *ClientService) follow(now time.Time) {
	b := s.client.Binding()
	old := s.binding.Load()
	changed := old == nil || !same(*old, b)
	if (changed || s.stale) && s.Host != nil {
		s.configure(now, b.Addresses)
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
	if !s.carrier || s.client.Confirming() {
		b = Binding{}
	}
	if s.Changed == nil || s.told != nil && same(*s.told, b) {
		return
	}
	s.told = &b
	s.Changed(b)
}

// publish writes down what the client has now, and says it.
func (s *ClientService) publish(b Binding) {
	if content, err := json.Marshal(kept{b, b.Key, b.Replay}); err != nil {
		s.Log.Error("what the client has cannot be written down", "error", err)
	} else if err := file.Replace(s.File, content, 0o600); err != nil {
		s.Log.Error("what the client has was not written down: a restart asks anew", "file", s.File, "error", err)
	}
	s.Log.Info("DHCPv6", "interface", s.Config.Interface, "state", s.client.State(), "addresses", texts(b.Addresses), "prefixes", texts(b.Prefixes))
	s.hook.Tell(hook.Event{Protocol: "dhcp6", Interface: s.Config.Interface, State: fmt.Sprint(s.client.State()), Binding: b})
}

// same reports whether two bindings say the same.
func same(a, b Binding) bool {
	x, errX := json.Marshal(kept{a, a.Key, a.Replay})
	y, errY := json.Marshal(kept{b, b.Key, b.Replay})
	return errX == nil && errY == nil && string(x) == string(y)
}

func texts(all []Held) (t []string) {
	for _, h := range all {
		t = append(t, h.Prefix.String())
	}
	return t
}

func (s *ClientService) configure(now time.Time, want []Held) {
	has := func(all []Held, p netip.Prefix) bool {
		return slices.ContainsFunc(all, func(h Held) bool { return h.Prefix == p })
	}
	for _, h := range s.set {
		if !has(want, h.Prefix) {
			if err := s.Host.RemoveAddress(h.Prefix); err != nil {
				s.Log.Error("address not removed", "error", err)
			}
			s.unsure = slices.DeleteFunc(s.unsure, func(u Held) bool { return u.Prefix == h.Prefix })
		}
	}
	for _, h := range want {
		if err := s.Host.SetAddress(h.Prefix, h.Preferred.Sub(now), h.Valid.Sub(now)); err != nil {
			s.Log.Error("address not set", "error", err)
			continue
		}
		if s.stale || !has(s.set, h.Prefix) {
			s.unsure = append(slices.DeleteFunc(s.unsure, func(u Held) bool { return u.Prefix == h.Prefix }), h)
		}
	}
	s.set = want
}

// check asks the kernel about new addresses (RFC 9915 §18.2.10.1: duplicate address detection) and declines those that somebody has.
func (s *ClientService) check(now time.Time) {
	s.unsure = slices.DeleteFunc(s.unsure, func(h Held) bool {
		done, duplicate, err := s.Host.Check(h.Prefix.Addr())
		switch {
		case err != nil:
			s.Log.Error("address not checked", "error", err)
		case duplicate:
			s.Log.Warn("somebody else on the link has the address that we were given", "address", h.Prefix.Addr())
			s.client.Decline(now, h.Prefix.Addr())
		}
		return done || err != nil
	})
}

// end gives everything back where that is configured. One message must do: there is no time for more.
func (s *ClientService) end(w ClientWire) {
	if !s.Config.Release {
		return
	}
	now := time.Now()
	s.client.Release(now)
	s.follow(now) // §18.2.7: before the message is sent
	if out := s.client.Tick(now); out != nil {
		s.send(w, out)
	}
}
