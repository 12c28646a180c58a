package site

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"bothy/application/checkpoint"
	"bothy/application/directory"
	"bothy/application/drop"
	"bothy/application/dsn"
	"bothy/application/mailbox"
	"bothy/application/mtqp"
	"bothy/application/odmr"
	"bothy/application/queue"
	"bothy/application/relay"
	"bothy/application/route"
	"bothy/application/sasl"
	"bothy/application/smtp"
	"bothy/application/submission"
	"bothy/management/config"
	"bothy/management/metrics"
	"bothy/operational/link"
)

// Env is what a running site is given by its surroundings.
type Env struct {
	Log    *slog.Logger
	Now    func() time.Time
	Reload <-chan Config // new configurations; the first is Run's argument
	Ready  func(Ports)   // told once every port is open; may be nil
	Event  func(Event)   // told of every step of every message; must return soon; may be nil
	Build  string        // the program's version
}

// Ports are the addresses a site listens on, by service ("smtp", "submission", "odmr", "pop3"); those that begin with TLS have an "s"
// behind the name.
type Ports map[string][]string

// Site is a running Bothy.
type Site struct {
	env         Env
	started     time.Time
	directory   *directory.Directory
	boxes       *mailbox.Store
	spool       *queue.Spool
	checkpoints *checkpoint.Store // nil: not offered
	tracks      *mtqp.Record      // nil: not offered
	router      *route.Router
	link        *link.Link
	certs       certificates
	keeper      *keeper
	throttle    sasl.Throttle // of logins, over all services
	faults      submission.Faults
	usage       submission.Usage
	readers     submission.Readers // by POP3, lately
	notices     *dsn.Composer
	sessions    odmr.Sessions // of customers, over reloads
	connections connections
	dhcp        addressing
	starter     odmr.Starter
	known       odmr.Known // recipients of customers
	metrics     *metrics.Metrics
	warn        chan struct{} // somebody looks which customers to warn

	current  atomic.Pointer[composition]
	relaying atomic.Pointer[relay.Relay] // the one that runs; nil before the first
	opened   atomic.Bool                 // the spool is there

	mu   sync.Mutex
	open map[port]net.Listener
}

// composition is one configuration made into services: what new connections and calls get.
type composition struct {
	cfg         Config
	certificate *tls.Certificate
	services    map[string]server
	local       *smtp.Server  // for the users of this machine
	ports       map[port]port // by place
	provider    *odmr.Provider
	customers   []*odmr.Customer // one for each provider, in the order of the configuration
	dns         *relay.DNS
}

// Run opens the stores, starts every service of cfg and serves until ctx ends or a part fails; then it stops in order: no new
// connections, sessions end, mail under way is settled or released, stores close. A configuration that cannot be served
// whole is an error and nothing has been started.
func Run(ctx context.Context, cfg Config, env Env) error {
	s, err := open(ctx, cfg, env)
	if err != nil {
		return err
	}
	err = s.apply(cfg)
	if err == nil {
		if env.Ready != nil {
			env.Ready(s.ports())
		}
		env.Log.Info("bothy is ready", "hostname", cfg.Hostname, "ports", s.ports())
		err = s.serve(ctx)
	}
	stop := s.keeper.stopAll()
	return errors.Join(err, stop, s.close())
}

// serve follows reloads until the end.
func (s *Site) serve(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			s.env.Log.Info("bothy is stopping")
			return nil
		case err := <-s.keeper.failed:
			return err
		case cfg := <-s.env.Reload:
			if err := s.apply(cfg); err != nil {
				s.env.Log.Error("new configuration not taken; the old one stays in force", "err", err)
				continue
			}
			s.env.Log.Info("new configuration in force")
		}
	}
}

// delayNotice is how long mail waits in a lane before its sender is told. What a customer has yet to fetch is late by nobody's fault.
func delayNotice(l queue.Lane, usual time.Duration) time.Duration {
	if l.Kind() == "odmr" {
		return 0
	}
	return usual
}

// open readies what lasts longer than a configuration.
func open(ctx context.Context, cfg Config, env Env) (_ *Site, err error) {
	if env.Log == nil {
		env.Log = slog.New(slog.DiscardHandler)
	}
	if env.Now == nil {
		env.Now = time.Now
	}
	s := &Site{env: env, started: env.Now(), link: link.New("uplink"), keeper: newKeeper(env.Log), open: map[port]net.Listener{}, warn: make(chan struct{}, 1)}
	s.dhcp.leased.By = "lease"
	s.metrics = metrics.New(s.reading, env.Now)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	// Everybody on this machine may pass to the submission socket in run/ (it is 0666), and list nothing on the way.
	for _, dir := range []string{cfg.Data, filepath.Dir(cfg.AdminSocket())} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("data: %w", err)
		}
	}
	if err := os.Chmod(filepath.Dir(cfg.AdminSocket()), 0o711); err != nil { // whatever the umask
		return nil, fmt.Errorf("data: %w", err)
	}
	if err := drop.Make(cfg.DropFolder()); err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	if s.directory, err = (directory.Options{Log: env.Log, Domains: s.reroute, Hostname: cfg.Hostname, Iterations: cfg.PasswordIterations}).Open(ctx, cfg.DirectoryFile()); err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	if s.router, err = route.New(cfg.Hostname, s.directory, cfg.Route); err != nil {
		return nil, err
	}
	s.boxes, err = mailbox.Open(filepath.Join(cfg.Data, "mailboxes"), mailbox.Options{
		Quota: cfg.Mailbox.Quota, Indexes: cfg.Mailbox.Indexes, Log: env.Log, Now: env.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("mailboxes: %w", err)
	}
	s.notices = &dsn.Composer{Hostname: cfg.Hostname, Config: cfg.Notices}
	track, err := s.openTracks(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s.spool, err = queue.Open(ctx, queue.Options{
		Track: track, Dir: cfg.SpoolDir(), Router: s.router, Notifier: s.notices, Keep: s.notices.Keeps,
		Config: cfg.Queue, Lifetime: func(l queue.Lane) time.Duration { return s.lifetime(&cfg.Queue, l) }, Delay: func(l queue.Lane) time.Duration {
			return cfg.Queue.DelayNoticeOf(l, delayNotice(l, cfg.Queue.DelayNotice))
		}, Log: env.Log, Now: env.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if err := s.openAddressing(cfg); err != nil {
		return nil, err
	}
	s.starter = odmr.Starter{
		Provider: func() *odmr.Provider { return s.current.Load().provider }, Directory: s.directory, Log: env.Log.With("service", "etrn"),
	}
	s.opened.Store(true)
	if cfg.Checkpoint.Offer {
		s.checkpoints, err = checkpoint.Open(checkpoint.Options{
			Config: cfg.Checkpoint, Dir: filepath.Join(cfg.SpoolDir(), "partial"), Accepted: s.spool.Transaction,
			Full: func() bool { return s.spool.Stats().Full }, Log: env.Log, Now: env.Now,
		})
	}
	return s, err
}

// close ends what open began, in the other order.
func (s *Site) close() error {
	var errs []error
	s.opened.Store(false)
	errs = append(errs, s.closeAddressing())
	if s.spool != nil {
		errs = append(errs, s.spool.Close())
	}
	if s.tracks != nil {
		errs = append(errs, s.tracks.Close())
	}
	if s.boxes != nil {
		errs = append(errs, s.boxes.Close())
	}
	if s.directory != nil {
		errs = append(errs, s.directory.Close())
	}
	return errors.Join(errs...)
}

// apply makes cfg the configuration in force, or changes nothing.
func (s *Site) apply(cfg Config) error {
	if old := s.current.Load(); old != nil { // what the open stores stand on is for the next start
		config.KeepRestart(&old.cfg, &cfg)
	}
	next, units, err := s.compose(cfg)
	if err != nil {
		return err
	}
	s.makeRoom(cfg.Connections)
	old := s.current.Swap(next) // before the ports open: their first connection asks for it
	before := s.certs.current.Swap(next.certificate)
	if err := s.keeper.converge(units); err != nil {
		s.current.Store(old)
		s.certs.current.Store(before)
		return err
	}
	if err := s.router.Set(cfg.Route); err != nil { // checked by compose: cannot fail
		return err
	}
	if err := s.reloadAddressing(cfg); err != nil { // as above
		return err
	}
	s.spool.Reroute(nil)
	return nil
}

// reroute gives waiting mail for domains the way that they have now. The directory tells when they change, at the earliest while the spool is still
// being opened.
func (s *Site) reroute(domains []string) {
	if s.opened.Load() {
		s.spool.Reroute(route.Among(domains))
	}
}

// ports returns the addresses that are really listened on, which differ from the configured ones where those end in :0.
func (s *Site) ports() Ports {
	s.mu.Lock()
	defer s.mu.Unlock()
	ports := Ports{}
	now := s.current.Load()
	for at, ln := range s.open {
		p := now.ports[at]
		ports[p.shown()] = append(ports[p.shown()], ln.Addr().String())
	}
	return ports
}

// event tells whoever watches.
func (s *Site) event(e Event) {
	if s.env.Event != nil {
		e.At = s.env.Now()
		s.env.Event(e)
	}
}
