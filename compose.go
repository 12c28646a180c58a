package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os/user"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"time"

	"bothy/application/authres"
	"bothy/application/drop"
	"bothy/application/join"
	"bothy/application/mailbox"
	"bothy/application/message"
	"bothy/application/mtqp"
	"bothy/application/odmr"
	"bothy/application/pop3"
	"bothy/application/queue"
	"bothy/application/relay"
	"bothy/application/sasl"
	"bothy/application/smtp"
	"bothy/application/submission"
	"bothy/management/admin"
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
		next.services[name] = server{serve: serve, refuse: refuse, tls: s.certs.server(askClient), limits: cfg.Connections, count: s.metrics, service: name}
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
		Next: accept, Canonical: canonical(cfg.Relay.DNS), Notice: s.notice, Readers: &s.readers, Checkpoints: s.checkpoints, Tracking: s.tracks != nil,
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
		Sessions: &s.sessions, Known: &s.known, Config: cfg.ODMR, Observe: s.observeProvider, Log: log.With("service", "odmr"), Now: s.env.Now,
	}
	if cfg.ODMR.TakeMail {
		next.provider.Intake = submit
	}
	add("odmr", smtpBusy, true, next.provider.Serve)

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

	ours := cfg.Submission // people of this machine: their names are completed, and they may send in any
	ours.Complete, ours.Postmaster, ours.Networks, ours.POPWindow = true, false, nil, 0
	trusting := submission.New(submission.Options{
		Config: ours, Hostname: cfg.Hostname, Directory: submission.Anyone{}, Names: s.directory, Users: isUser,
		Next: accept, Tracking: s.tracks != nil, Canonical: canonical(cfg.Relay.DNS), Notice: s.notice, Faults: &s.faults, Log: log.With("service", "local"), Now: s.env.Now,
	})
	local := trusting.Server(nil, nil)
	local.Identify = localUser
	next.local = local
	add("local", smtpBusy, false, overSMTP(local))
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

// localUser names who is at the other end of the local submission socket: the kernel says so, no password is needed.
func localUser(conn net.Conn) string {
	peer, err := admin.PeerOf(conn)
	if err != nil {
		return ""
	}
	return userAccount(peer.UID)
}

// userAccount names a user of this machine as an account.
func userAccount(uid int) string { return fmt.Sprintf("uid:%d", uid) }

// submitAs hands a message in for a user of this machine, as if he had come to the socket.
func (s *Site) submitAs(ctx context.Context, user int, env *message.Envelope, content io.Reader, size int64) ([]smtp.Reply, error) {
	now := s.current.Load()
	server := *now.local
	server.Identify = func(net.Conn) string { return userAccount(user) }
	near, far := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer far.Close()
		_ = server.Serve(ctx, smtp.NewConn(far)) // what went wrong shows at the other end
	}()
	defer func() {
		near.Close()
		<-ended
	}()
	client := smtp.NewClient(smtp.NewConn(near), now.cfg.Hostname, smtp.Timeouts{})
	if err := client.Greet(ctx); err != nil {
		return nil, err
	}
	replies, err := client.Send(ctx, env, content, size)
	if err == nil {
		_ = client.Quit(ctx) // the message is safe already
	}
	return replies, err
}

// tellRefused queues the notice to a sender about recipients who were refused.
func (s *Site) tellRefused(ctx context.Context, env *message.Envelope, refused []queue.Outcome, header []byte) (told bool, err error) {
	notice, content := s.notices.Compose(&queue.Report{Envelope: env, Outcomes: refused, Header: header, Now: s.env.Now()})
	if notice == nil {
		return false, nil
	}
	defer content.Close()
	return true, s.spool.Accept(ctx, notice, content)
}

// canonical returns what asks the DNS what a domain is an alias of.
func canonical(servers []string) func(ctx context.Context, domain string) string {
	resolver := &relay.DNS{Servers: servers}
	return func(ctx context.Context, domain string) string {
		if _, origin, err := resolver.MX(ctx, domain); err == nil && origin.Name != "" {
			return origin.Name
		}
		return domain
	}
}

// notice tells the sender of a message that was accepted and then refused.
func (s *Site) notice(env *message.Envelope, header []byte, refusal smtp.Reply, now time.Time) (*message.Envelope, []byte) {
	r := &queue.Report{Envelope: env, Header: header, Now: now}
	for _, to := range env.Recipients {
		r.Outcomes = append(r.Outcomes, queue.Outcome{Recipient: to, Reply: refusal})
	}
	notice, body := s.notices.Compose(r)
	if notice == nil {
		return nil, nil
	}
	content, _ := io.ReadAll(body) // from memory: there is no message to enclose
	return notice, content
}

// isUser reports whether this machine has a user of this name.
func isUser(name string) bool {
	_, err := user.Lookup(name)
	return err == nil
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
	collector := &drop.Collector{Dir: cfg.DropFolder(), Submit: s.submitAs, Notify: s.tellRefused, Log: log.With("service", "local")}
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
	units["relay"] = unit{stage: movers, spec: []any{cfg.Relay, cfg.Route.Smarthosts(), keys}, run: out.Run, grace: cfg.StopGrace + cfg.Relay.Grace}

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
				Hostname: next.cfg.Hostname, Config: cfg, Accept: carried(next.cfg.Hostname, cfg, s.watched(s.spool)), Checkpoints: s.checkpoints, Recipients: s.directory, Names: s.directory.Names, Handed: s.router.Handed, Offer: toFetch(), Link: s.link,
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

// listensAt reports whether a mail exchanger's address is a port of our own border: mail sent there would come back (RFC 5321 §6.3).
func (s *Site) listensAt(exchanger netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.current.Load()
	for at, ln := range s.open {
		own, ok := ln.Addr().(*net.TCPAddr)
		if !ok || now.ports[at].service != "smtp" || own.Port != int(exchanger.Port()) {
			continue
		}
		if ip := own.AddrPort().Addr().Unmap(); ip == exchanger.Addr().Unmap() || ip.IsUnspecified() && isOwnAddress(exchanger.Addr()) {
			return true
		}
	}
	return false
}

// isOwnAddress reports whether one of this machine's interfaces has the address now; sites get new ones.
func isOwnAddress(ip netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr() == ip.Unmap() {
			return true
		}
	}
	return false
}

// listenUnit is one open port, given as its place. It stays open over every reload that listens there, for whichever service.
func (s *Site) listenUnit(at port, grace time.Duration) unit {
	var ln net.Listener
	forget := func() {
		ln.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, at)
	}
	return unit{
		spec: at,
		open: func() (err error) {
			if at.network == "unix" {
				ln, err = admin.Listen(at.address, 0o666) // who may reach the directory may submit
			} else {
				ln, err = net.Listen(at.network, at.address)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if err != nil {
				return s.explainListen(at, err)
			}
			s.open[at] = ln
			return nil
		},
		shut: forget,
		run: func(ctx context.Context) error {
			defer forget()
			lookup := func() (server, bool) {
				now := s.current.Load()
				p := now.ports[at]
				return now.services[p.service], p.tls
			}
			return accept(ctx, ln, lookup, func() time.Duration { return s.current.Load().cfg.StopGrace }, s.env.Log.With("port", at.address))
		},
		grace: grace + time.Second,
	}
}

// explainListen adds the way out to what the kernel says. The caller holds mu.
func (s *Site) explainListen(at port, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; ports below 1024 need root or CAP_NET_BIND_SERVICE", err)
	case errors.Is(err, syscall.EADDRINUSE):
		for p := range s.open {
			if _, number, _ := net.SplitHostPort(p.address); p.network == at.network && strings.HasSuffix(at.address, ":"+number) {
				return fmt.Errorf("%w; this server holds %s: a change between one address and all of them needs a restart", err, p.address)
			}
		}
		return fmt.Errorf("%w; another program, or another bothy, listens there (see `ss -ltnp`)", err)
	}
	return err
}

// watched is the spool with an event before and after the disk.
func (s *Site) watched(next smtp.Acceptor) smtp.Acceptor {
	if s.env.Event == nil {
		return next
	}
	return acceptorFunc(func(ctx context.Context, env *message.Envelope, body io.Reader) error {
		ended := &ending{Reader: body, onEnd: func() { s.event(Event{What: Received, ID: env.ID, Text: env.ReversePath.String()}) }}
		if err := next.Accept(ctx, env, ended); err != nil {
			return err
		}
		s.event(Event{What: OnDisk, ID: env.ID})
		for i := range env.Recipients {
			to := &env.Recipients[i]
			lane, what := s.router.Lane(env, to), Routed
			if lane.Kind() == "odmr" {
				what = Held
			}
			s.event(Event{What: what, ID: env.ID, Recipient: to.Address.String(), Lane: lane})
		}
		return nil
	})
}

type acceptorFunc func(context.Context, *message.Envelope, io.Reader) error

func (f acceptorFunc) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	return f(ctx, env, body)
}

// ending tells of a reader's first io.EOF.
type ending struct {
	io.Reader
	onEnd func()
}

func (e *ending) Read(b []byte) (int, error) {
	n, err := e.Reader.Read(b)
	if err == io.EOF && e.onEnd != nil {
		e.onEnd()
		e.onEnd = nil
	}
	return n, err
}

func (s *Site) sent(lane queue.Lane, id message.ID, to message.Address, reply smtp.Reply) {
	s.count(lane, reply)
	if reply.Positive() {
		s.event(Event{What: Relayed, ID: id, Recipient: to.String(), Lane: lane, Text: reply.Error()})
	}
}

func (s *Site) observeProvider(e odmr.Event) {
	s.countCall(e)
	switch e.What {
	case odmr.Turned:
		s.event(Event{What: Turned, Recipient: e.Account})
	case odmr.Transferred:
		s.event(Event{What: Relayed, ID: e.ID, Recipient: e.Recipient.String(), Text: e.Reply.Error()})
	}
}

// observeCall tells of the start of each call.
func (s *Site) observeCall() func(odmr.Progress) {
	last := odmr.Ended
	return func(p odmr.Progress) { // called from one goroutine at a time
		if p.Stage == odmr.Asking && last != odmr.Asking {
			s.event(Event{What: Called})
		}
		last = p.Stage
	}
}

// renewal is how often the certificate is looked at again: our own is made anew in its last month, and others replace its files.
const renewal = 12 * time.Hour

func (s *Site) renewCertificate(ctx context.Context) error {
	tick := time.NewTicker(renewal)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		cfg := &s.current.Load().cfg
		pair, err := loadCertificate(cfg.TLS, cfg.tlsDir(), cfg.Hostname, s.env.Now())
		if err != nil {
			s.env.Log.Error("certificate not renewed; the old one stays", "err", err)
			continue
		}
		s.certs.current.Store(pair)
	}
}

// followLink tells of the link's changes. It is down, and nobody knows why, until its source has looked.
func (s *Site) followLink(ctx context.Context) error {
	states, stop := s.link.Watch()
	defer stop()
	up := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case state := <-states:
			if state.Up == up {
				continue
			}
			up = state.Up
			what := LinkDown
			if up {
				what = LinkUp
			}
			s.env.Log.Info("link", slog.Bool("up", up), slog.String("why", state.Why))
			s.event(Event{What: what, Text: state.Why})
		}
	}
}
