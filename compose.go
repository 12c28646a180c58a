package site

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"

	"bothy/application/authres"
	"bothy/application/drop"
	"bothy/application/join"
	"bothy/application/mailbox"
	"bothy/application/message"
	"bothy/application/mtqp"
	"bothy/application/odmr"
	"bothy/application/pop3"
	"bothy/application/relay"
	"bothy/application/sasl"
	"bothy/application/smtp"
	"bothy/application/submission"
)

// compose turns a configuration into services and the units that run them. It has no effect yet.
func (s *Site) compose(cfg Config) (*composition, map[string]unit, error) {
	pair, err := loadCertificate(cfg.TLS, cfg.tlsDir(), cfg.Hostname, s.env.Now())
	if err != nil {
		return nil, nil, err
	}
	next := &composition{cfg: cfg, certificate: pair, services: map[string]server{}}
	next.dns = &relay.DNS{Servers: cfg.Relay.DNS, TrustAD: cfg.Relay.TrustAD, Now: s.env.Now}
	s.composeServers(next)
	units := map[string]unit{}
	next.ports = map[port]port{}
	for _, p := range cfg.ports() {
		next.ports[p.place()] = p
		units["port "+p.place().name()] = s.listenUnit(p.place(), cfg.StopGrace)
	}
	if err := s.composeMovers(next, units); err != nil {
		return nil, nil, err
	}
	s.composeAddressing(cfg, units)
	return next, units, nil
}

// composeServers makes what answers connections.
func (s *Site) composeServers(next *composition) {
	cfg, log := next.cfg, s.env.Log
	add := func(name, refuse string, askClient bool, serve func(context.Context, net.Conn) error) {
		next.services[name] = server{serve: serve, refuse: refuse, tls: s.certs.server(askClient), limits: cfg.Connections, open: &s.connections, count: s.metrics, service: name}
	}
	const smtpBusy = "421 4.7.0 too many connections, come back later\r\n" // RFC 5321 §3.8
	accept := s.watched(s.spool)

	add("smtp", smtpBusy, false, overSMTP(s.border(next)))

	var rights submission.Directory = s.directory
	if cfg.Submission.AnySender {
		rights = submission.Anyone{}
	}
	agent := submission.New(submission.Options{
		Config: cfg.Submission, Hostname: cfg.Hostname, Directory: rights, Names: s.directory, Permissions: s.directory, Accounts: s.directory,
		Next: accept, Canonical: canonical(next.dns), Notice: s.refusalNotice, Readers: &s.readers, Checkpoints: s.checkpoints, Tracking: s.tracks != nil,
		Faults: &s.faults, Usage: &s.usage, Log: log.With("service", "submission"), Now: s.env.Now,
	})
	submit := agent.Server(s.certs.server(true), s.logins(cfg, cfg.Submission.Mechanisms))
	submit.Policy, submit.Refused = s.quotas(cfg, submit.Policy), s.refused("submission")
	add("submission", smtpBusy, true, overSMTP(submit))

	callers := s.logins(cfg, sasl.All())
	callers.Accounts = join.Accounts(s.directory)
	desk := &join.Desk{Directory: s.directory, Log: log.With("service", "odmr"), Now: s.env.Now}
	next.provider = &odmr.Provider{
		Hostname: cfg.Hostname, TLS: s.certs.server(true), Auth: callers, Directory: s.directory, Queue: s.spool, Further: []smtp.Extension{desk.Extension()},
		Sessions: &s.sessions, Known: &s.known, Config: cfg.ODMR, Refused: s.refused("odmr"), Observe: s.observeProvider, Log: log.With("service", "odmr"), Now: s.env.Now,
	}
	if cfg.ODMR.TakeMail {
		intake := *submit
		intake.Policy = join.Policy(submit.Policy)
		next.provider.Intake = &intake
	}
	add("odmr", smtpBusy, true, next.provider.Serve)
	next.services["odmr"].tls.NextProtos = odmr.Protocols()

	reader := &pop3.Server{
		Hostname: cfg.Hostname, TLS: s.certs.server(false), Auth: s.logins(cfg, nil), Boxes: s.boxes,
		Config: cfg.POP3, Log: log.With("service", "pop3"),
		Entered: func(peer netip.Addr, account string) { s.readers.Note(peer, account, s.env.Now()) },
	}
	add("pop3", "-ERR [SYS/TEMP] too many connections, come back later\r\n", false, reader.Serve) // RFC 3206 §4
	if s.tracks != nil {
		asked := &mtqp.Server{Hostname: cfg.Hostname, TLS: s.certs.server(false), Record: s.tracks, Log: log.With("service", "mtqp"), Now: s.env.Now}
		add("mtqp", "-TEMP/MTQP/unavailable too many connections, come back later\r\n", false, asked.Serve)
	}

	next.local = s.local(next, accept)
	add("local", smtpBusy, false, overSMTP(next.local))
}

// logins offers the mechanisms over the directory's accounts; all services count a peer's failures together.
func (s *Site) logins(cfg Config, mechanisms []string) *sasl.Authenticator {
	return &sasl.Authenticator{
		Accounts: s.directory, Hostname: cfg.Hostname, Allowed: mechanisms, Throttle: &s.throttle, Secret: s.directory.Secret(),
		Iterations: cfg.PasswordIterations,
	}
}

func overSMTP(srv *smtp.Server) func(context.Context, net.Conn) error {
	return func(ctx context.Context, conn net.Conn) error { return srv.Serve(ctx, smtp.NewConn(conn)) }
}

// canonical returns what asks the DNS what a domain is an alias of.
func canonical(resolver *relay.DNS) func(ctx context.Context, domain string) string {
	return func(ctx context.Context, domain string) string {
		if _, origin, err := resolver.MX(ctx, domain); err == nil && origin.Name != "" {
			return origin.Name
		}
		return domain
	}
}

// composeMovers makes what moves mail by itself.
func (s *Site) composeMovers(next *composition, units map[string]unit) error {
	cfg, log := next.cfg, s.env.Log
	// The spool's timers, the admin socket and the follower of link events stay as long as the site.
	units["spool"] = unit{stage: ground, run: s.spool.Run, grace: cfg.StopGrace}
	units["link events"] = unit{stage: ground, run: s.followLink, grace: cfg.StopGrace}
	if s.tracks != nil {
		units["tracks"] = unit{stage: ground, run: s.tracks.Run, grace: cfg.StopGrace}
	}
	if s.checkpoints != nil {
		units["checkpoints"] = unit{stage: ground, run: s.checkpoints.Run, grace: cfg.StopGrace}
	}
	units["admin"] = s.adminUnit(cfg)
	if cfg.Metrics.Listen != "" {
		units["metrics"] = s.metricsUnit(cfg)
	}
	units["warnings"] = unit{stage: ground, run: s.warnCustomers, grace: cfg.StopGrace}
	units["certificate"] = unit{stage: ground, spec: cfg.TLS, run: s.renewCertificate, grace: cfg.StopGrace}

	source, err := cfg.Link.Open(new(net.Dialer).DialContext, &s.dhcp.leased)
	if err != nil {
		return err
	}
	units["link"] = unit{stage: ground, spec: cfg.Link, grace: cfg.StopGrace, run: func(ctx context.Context) error {
		s.link.SetMetered(cfg.Link.Metered)
		return s.link.Run(ctx, source)
	}}

	units["etrn"] = unit{stage: movers, run: s.starter.Run, grace: cfg.StopGrace}

	deliverer := &mailbox.Deliverer{
		Queue: s.spool, Store: s.boxes, Directory: s.directory, Last: s.directory.Last, Deliveries: cfg.Mailbox.Deliveries,
		Settled: s.countDelivery,
		Delivered: func(account string, id message.ID) {
			s.event(Event{What: Delivered, ID: id, Recipient: account})
		},
		Log: log.With("service", "mailbox"), Now: s.env.Now,
	}
	collector := &drop.Collector{Dir: cfg.DropFolder(), Submit: s.submitAs, Notify: s.queueRefusalNotice, Log: log.With("service", "local")}
	units["drop"] = unit{run: collector.Run, grace: cfg.StopGrace}

	units["mailbox"] = unit{stage: movers, spec: cfg.Mailbox, run: deliverer.Run, grace: cfg.StopGrace}

	keys, err := authres.ReadKeys(cfg.KeyFolder())
	if err != nil {
		return err
	}
	signer := &authres.Signer{Keys: keys, Now: s.env.Now}
	out, err := relay.New(relay.Options{
		Sign: signer.Sign, Resolver: next.dns,
		Queue: s.spool, Hostname: cfg.Hostname, Link: s.link, Log: log.With("service", "relay"), Now: s.env.Now, Sent: s.sent, Self: s.listensAt,
		Policies: filepath.Join(cfg.Data, "mta-sts"),
	}, cfg.Relay, cfg.Route.Smarthosts()...)
	if err != nil {
		return err
	}
	units["relay"] = unit{stage: movers, spec: []any{cfg.Relay, cfg.Route.Smarthosts(), keys}, grace: cfg.StopGrace + cfg.Relay.Grace, run: func(ctx context.Context) error {
		s.relaying.Store(out)
		return out.Run(ctx)
	}}

	s.composeCalls(next, units)
	return nil
}

// composeCalls makes what calls the providers.
func (s *Site) composeCalls(next *composition, units map[string]unit) {
	for _, cfg := range next.cfg.Fetch {
		if cfg.Provider == "" {
			continue
		}
		customer := s.caller(cfg)
		if customer == nil {
			customer = &odmr.Customer{
				Hostname: next.cfg.Hostname, Config: cfg, Accept: carried(next.cfg.Hostname, cfg, s.watched(s.spool)), Checkpoints: s.checkpoints, Offer: toFetch(), Link: s.link,
				Recipients: reach{s.directory, s, cfg}, Names: s.directory.Names, Handed: reach{s.directory, s, cfg}.handed, Outward: along{s, cfg.Provider},
				TLS:   s.certs.client(next.certificate), // for EXTERNAL
				Watch: s.observeCall(), Log: s.env.Log.With("service", "fetch", "provider", cfg.Provider), Now: s.env.Now,
			}
		}
		next.customers = append(next.customers, customer)
		units["fetch "+callName(cfg)] = unit{spec: cfg, run: customer.Run, grace: next.cfg.StopGrace}
	}
}

// caller is the customer of the composition in force that goes by cfg; nil: there is none. One that does not change keeps running, and
// `bothy fetch` waits for the call it makes.
func (s *Site) caller(cfg odmr.CustomerConfig) *odmr.Customer {
	old := s.current.Load()
	if old == nil {
		return nil
	}
	for _, c := range old.customers {
		if reflect.DeepEqual(c.Config, cfg) {
			return c
		}
	}
	return nil
}
