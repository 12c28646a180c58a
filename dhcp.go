package site

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bothy/control/dhcp4"
	"bothy/control/dhcp6"
	"bothy/control/hosts"
	"bothy/control/lease"
	"bothy/control/ra"
	"bothy/operational/iface"
	"bothy/operational/link"
)

// addressing gives the hosts of a site their addresses. The stores last as long as the site; a service that is off has none.
type addressing struct {
	leases4, leases6 *lease.Store
	server4          *dhcp4.Server
	server6          *dhcp6.Server

	client4 atomic.Pointer[dhcp4.ClientService] // the one that runs
	client6 atomic.Pointer[dhcp6.ClientService]
	relay4  atomic.Pointer[dhcp4.Relay]
	leased  link.Manual // whether a client of ours has an address

	mu        sync.Mutex
	has       map[string]string // what each client has, by protocol
	delegated []ra.Delegation   // to our DHCPv6 client
	routers   map[*ra.Router]bool
}

// leases tells what the client of a protocol has; "" is nothing. Either client's address has the link up.
func (a *addressing) leases(protocol, has string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.has == nil {
		a.has = map[string]string{}
	}
	a.has[protocol] = has
	for _, protocol := range []string{"DHCPv4", "DHCPv6"} {
		if has := a.has[protocol]; has != "" {
			a.leased.Set(true, has)
			return
		}
	}
	a.leased.Set(false, "no address")
}

// delegate tells the links what is delegated to this host now.
func (a *addressing) delegate(held []dhcp6.Held) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.delegated = nil
	for _, h := range held {
		a.delegated = append(a.delegated, ra.Delegation(h))
	}
	for r := range a.routers {
		r.Delegate(a.delegated)
	}
}

// route has a router told, until left.
func (a *addressing) route(r *ra.Router) (left func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.routers == nil {
		a.routers = map[*ra.Router]bool{}
	}
	a.routers[r] = true
	r.Delegate(a.delegated)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.routers, r)
	}
}

// stores are the open ones, IPv4 first.
func (a *addressing) stores() []*lease.Store {
	return slices.DeleteFunc([]*lease.Store{a.leases4, a.leases6}, func(store *lease.Store) bool { return store == nil })
}

// openAddressing opens the leases of what is configured.
func (s *Site) openAddressing(cfg Config) (err error) {
	open := func(name string) (*lease.Store, *slog.Logger, error) {
		log := s.env.Log.With("service", "dhcp"+name)
		store, err := lease.Open(lease.Options{Dir: filepath.Join(cfg.Data, "leases"+name), Log: log})
		return store, log, err
	}
	var log *slog.Logger
	if len(cfg.DHCP4.Interfaces) > 0 {
		if s.dhcp.leases4, log, err = open("4"); err != nil {
			return err
		}
		s.dhcp.server4, err = dhcp4.New(dhcp4.Options{Config: cfg.DHCP4, Leases: s.dhcp.leases4, Mail: cfg.mail4(), Log: log})
		if err != nil {
			return err
		}
	}
	if len(cfg.DHCP6.Interfaces) > 0 {
		if s.dhcp.leases6, log, err = open("6"); err != nil {
			return err
		}
		duid, secret, err := dhcp6.Identity(cfg.identityFile())
		if err != nil {
			return err
		}
		s.dhcp.server6, err = dhcp6.New(dhcp6.Options{Config: cfg.DHCP6, Leases: s.dhcp.leases6, DUID: duid, Secret: secret, Mail: cfg.mail6(), Log: log})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Site) closeAddressing() error {
	var errs []error
	for _, store := range s.dhcp.stores() {
		errs = append(errs, store.Close())
	}
	return errors.Join(errs...)
}

// composeAddressing adds what serves, and what keeps the stores small.
func (s *Site) composeAddressing(cfg Config, units map[string]unit) {
	if s.dhcp.server4 != nil {
		units["leases4"] = unit{stage: ground, run: s.dhcp.leases4.Run, grace: cfg.StopGrace}
		var wire dhcp4.Wire
		units["dhcp4"] = unit{
			open:  func() (err error) { wire, err = dhcp4.Listen(cfg.DHCP4.Interfaces); return err },
			shut:  func() { wire.Close() },
			run:   func(ctx context.Context) error { return s.dhcp.server4.Run(ctx, wire) },
			grace: cfg.StopGrace,
		}
	}
	if s.dhcp.server6 != nil {
		units["leases6"] = unit{stage: ground, run: s.dhcp.leases6.Run, grace: cfg.StopGrace}
		var wire dhcp6.Wire
		units["dhcp6"] = unit{
			open:  func() (err error) { wire, err = dhcp6.Listen(cfg.DHCP6.Interfaces); return err },
			shut:  func() { wire.Close() },
			run:   func(ctx context.Context) error { return s.dhcp.server6.Run(ctx, wire) },
			grace: cfg.StopGrace,
		}
	}
	if len(cfg.DHCP4Relay.Interfaces) > 0 {
		relay := dhcp4.NewRelay(cfg.DHCP4Relay, s.env.Log.With("service", "dhcp4-relay"))
		var wire dhcp4.Wire
		units["dhcp4 relay"] = unit{
			spec: cfg.DHCP4Relay,
			open: func() (err error) { wire, err = dhcp4.Listen(nil); return err }, // replies come from anywhere
			shut: func() { wire.Close() },
			run: func(ctx context.Context) error {
				s.dhcp.relay4.Store(relay)
				defer s.dhcp.relay4.CompareAndSwap(relay, nil)
				return relay.Run(ctx, wire)
			},
			grace: cfg.StopGrace,
		}
	}
	if cfg.DHCP4Client.Interface != "" {
		units["dhcp4 client"] = s.client4Unit(cfg)
	} else {
		s.dhcp.leases("DHCPv4", "")
	}
	if cfg.DHCP6Client.Interface != "" {
		units["dhcp6 client"] = s.client6Unit(cfg)
	} else {
		s.dhcp.leases("DHCPv6", "")
	}
	for _, l := range cfg.RA.Links {
		units["router on "+l.Interface] = s.routerUnit(l, cfg.DHCP6Client.Release, cfg.StopGrace)
	}
	if stores := s.dhcp.stores(); cfg.Hosts.File != "" && len(stores) > 0 {
		names := &hosts.Writer{Config: cfg.Hosts, Reserved: []string{cfg.Hostname}, Log: s.env.Log.With("service", "hosts")}
		for _, store := range stores {
			names.Stores = append(names.Stores, store)
		}
		units["hosts"] = unit{spec: cfg.Hosts, run: names.Run, grace: cfg.StopGrace}
	}
}

// redialEvery is how often an interface that is gone is looked for.
const redialEvery = 2 * time.Second

// client4Unit asks the provider for an address. When the interface goes, as that of a modem does, another of that name is waited for.
func (s *Site) client4Unit(cfg Config) unit {
	var wire dhcp4.ClientWire
	client := &dhcp4.ClientService{
		Config: cfg.DHCP4Client, Host: iface.Interface(cfg.DHCP4Client.Interface), File: filepath.Join(cfg.Data, "dhcp4.binding"),
		Log: s.env.Log.With("service", "dhcp4-client"),
		Changed: func(b dhcp4.Binding) {
			if !b.Address.IsValid() {
				s.dhcp.leases("DHCPv4", "")
				return
			}
			s.dhcp.leases("DHCPv4", fmt.Sprintf("%v on %s", b.Address, cfg.DHCP4Client.Interface))
		},
	}
	return unit{
		spec: cfg.DHCP4Client,
		open: func() (err error) { wire, err = dhcp4.Dial(cfg.DHCP4Client.Interface); return err },
		shut: func() { wire.Close() },
		run: func(ctx context.Context) error {
			s.dhcp.client4.Store(client)
			defer s.dhcp.client4.CompareAndSwap(client, nil)
			return persist(ctx, wire, func() (dhcp4.ClientWire, error) { return dhcp4.Dial(cfg.DHCP4Client.Interface) }, client.Run, func(err error) {
				client.Log.Warn("interface lost", "error", err)
				s.dhcp.leases("DHCPv4", "")
			})
		},
		stage: ground, // the others may still need the address
		grace: cfg.StopGrace,
	}
}

// persist runs a client until ctx ends, on one interface after another: when one is lost, it dials until there is another.
func persist[W any](ctx context.Context, wire W, dial func() (W, error), run func(context.Context, W) error, lost func(error)) error {
	for {
		err := run(ctx, wire)
		if ctx.Err() != nil {
			return nil
		}
		lost(err)
		for wire, err = dial(); err != nil; wire, err = dial() {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(redialEvery):
			}
		}
	}
}

// client6Unit asks the provider for addresses and prefixes.
func (s *Site) client6Unit(cfg Config) unit {
	var wire dhcp6.ClientWire
	client := &dhcp6.ClientService{
		Config: cfg.DHCP6Client, Host: iface.Interface(cfg.DHCP6Client.Interface), File: filepath.Join(cfg.Data, "dhcp6.binding"),
		Log: s.env.Log.With("service", "dhcp6-client"),
		Changed: func(b dhcp6.Binding) {
			s.dhcp.delegate(b.Prefixes)
			have := append(slices.Clone(b.Addresses), b.Prefixes...)
			if len(have) == 0 {
				s.dhcp.leases("DHCPv6", "")
				return
			}
			s.dhcp.leases("DHCPv6", fmt.Sprintf("%v on %s", have[0].Prefix, cfg.DHCP6Client.Interface))
		},
	}
	return unit{
		spec: cfg.DHCP6Client,
		open: func() (err error) {
			if client.DUID, _, err = dhcp6.Identity(cfg.identityFile()); err == nil {
				wire, err = dhcp6.Dial(cfg.DHCP6Client.Interface)
			}
			return err
		},
		shut: func() { wire.Close() },
		run: func(ctx context.Context) error {
			s.dhcp.client6.Store(client)
			defer s.dhcp.client6.CompareAndSwap(client, nil)
			return persist(ctx, wire, func() (dhcp6.ClientWire, error) { return dhcp6.Dial(cfg.DHCP6Client.Interface) }, client.Run, func(err error) {
				client.Log.Warn("interface lost", "error", err)
				s.dhcp.leases("DHCPv6", "")
			})
		},
		stage: ground, // the others may still need the address
		grace: cfg.StopGrace,
	}
}

// routerUnit tells the hosts of a link that this host is their router.
func (s *Site) routerUnit(l ra.LinkConfig, withdraw bool, grace time.Duration) unit {
	router := &ra.Router{Config: l, Host: iface.Interface(l.Interface), Withdraw: withdraw, Log: s.env.Log.With("service", "ra")}
	var wire ra.Wire
	return unit{
		spec: []any{l, withdraw},
		open: func() (err error) { wire, err = ra.Listen(l.Interface); return err },
		shut: func() { wire.Close() },
		run: func(ctx context.Context) error {
			defer s.dhcp.route(router)()
			return router.Run(ctx, wire)
		},
		grace: grace,
		stage: movers, // hosts hear that a prefix is over before our client gives it back
	}
}

// identityFile is where this host's DUID is.
func (cfg *Config) identityFile() string { return filepath.Join(cfg.Data, "dhcp6.identity") }

// reloadAddressing gives running servers a new configuration, between two packets.
func (s *Site) reloadAddressing(cfg Config) error {
	var errs []error
	if s.dhcp.server4 != nil {
		errs = append(errs, s.dhcp.server4.Reload(cfg.DHCP4, cfg.mail4()))
	}
	if s.dhcp.server6 != nil {
		errs = append(errs, s.dhcp.server6.Reload(cfg.DHCP6, cfg.mail6()))
	}
	return errors.Join(errs...)
}

// mail4 are the servers that hosts are told of in options 69 and 70 (RFC 2132 §8.14, §8.15), without the operator saying it twice.
func (cfg *Config) mail4() dhcp4.Mail {
	return dhcp4.Mail{SMTP: cfg.smtpAt(netip.IPv4Unspecified()), POP3: cfg.pop3At(netip.IPv4Unspecified())}
}

// mail6 is mail4 for the draft's options.
func (cfg *Config) mail6() dhcp6.Mail {
	return dhcp6.Mail{SMTP: cfg.smtpAt(netip.IPv6Unspecified()), POP3: cfg.pop3At(netip.IPv6Unspecified())}
}

func (cfg *Config) smtpAt(all netip.Addr) []netip.Addr {
	return reachable(all, cfg.Submission.Listen, cfg.Submission.ListenTLS, cfg.SMTP.Listen)
}

func (cfg *Config) pop3At(all netip.Addr) []netip.Addr {
	return reachable(all, cfg.POP3.Listen, cfg.POP3.ListenTLS)
}

// reachable are the addresses behind listen addresses, of the family of all, which stands for all of this machine's.
func reachable(all netip.Addr, lists ...[]string) []netip.Addr {
	var addrs []netip.Addr
	for _, address := range slices.Concat(lists...) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			continue
		}
		ip, err := netip.ParseAddr(host)
		switch {
		case host == "" || ip == netip.IPv6Unspecified(): // both families
			ip = all
		case err != nil || ip.Is4() != all.Is4() || ip.IsLoopback():
			continue // a name may mean anything to a host; what is on loopback nobody else reaches
		}
		if !slices.Contains(addrs, ip) {
			addrs = append(addrs, ip)
		}
	}
	return addrs
}
