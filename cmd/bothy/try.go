package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/sasl"
	"bothy/lib/sim"
	"bothy/management/config"

	site "bothy"
)

// tryCmd is the newcomer's first minute.
type tryCmd struct {
	Once bool   `help:"Stop when the journeys are over: exit 0 when every message arrived, 1 with the reason when not."`
	JSON bool   `help:"Print JSON objects, one a line, in place of prose: \"ready\" with every address and password, then one a hop."`
	Data string `help:"Keep the state in this directory instead of a temporary one." type:"path" placeholder:"DIR"`
}

func (tryCmd) Help() string {
	return `Starts a provider and a site in this process, on loopback, with a link between them that can be taken down; sends a message from the
site outward and one from the Internet inward, which is pushed to the site, and shows each hop; takes the link down, shows mail waiting on
both sides, brings it up and shows it flow. Then it keeps running, for you to send and read mail with your own programs. It listens nowhere but on 127.0.0.1, on
ports above 1024, and needs no root.`
}

// The demo's cast. Every name ends in .example (RFC 6761 §6.5).
const (
	providerHost = "provider.example"
	siteHost     = "mail.clinic.example"
	nurse        = "nurse@clinic.example"
	doctor       = "doctor@lab.clinic.example"
	operator     = "operator@provider.example"
	outsider     = "aunt@elsewhere.example"
)

// hopTimeout is how long one step of a journey may take before the demo fails.
const hopTimeout = 10 * time.Second

func (c *tryCmd) Run(ctx context.Context, std stdio) error {
	dir, cleanup, err := c.dataDir()
	if err != nil {
		return err
	}
	defer cleanup()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signal.Ignore(syscall.SIGPIPE) // a reader who leaves ends the demo, and its directory is removed
	out := watchedWriter{std.out, cancel}
	var show teller = &prose{out: out, start: time.Now()}
	if c.JSON {
		show = &jsonLines{out: out}
	}
	d, err := newDemo(dir, show)
	if err != nil {
		return err
	}
	defer d.close()
	if err = d.start(ctx); err == nil {
		err = d.journeys(ctx)
	}
	if err == nil {
		show.done(d, !c.Once)
	}
	if err == nil && !c.Once {
		err = d.wait(ctx)
	}
	cancel()
	return errors.Join(err, d.stopped())
}

// watchedWriter tells when nobody reads any more.
type watchedWriter struct {
	io.Writer
	gone func()
}

func (w watchedWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if err != nil {
		w.gone()
	}
	return n, err
}

// dataDir is where the demo lives, and how it is removed.
func (c *tryCmd) dataDir() (dir string, cleanup func(), err error) {
	if c.Data != "" {
		return c.Data, func() {}, os.MkdirAll(c.Data, 0o700)
	}
	dir, err = os.MkdirTemp("", "bothy-try-")
	return dir, func() { os.RemoveAll(dir) }, err
}

// demo is a provider and a site with a line between them, and the Internet at the other end.
type demo struct {
	dir      string
	show     teller
	outside  *outside
	line     *sim.Line // the site's way to the provider's ODMR port
	mailLine *sim.Line // and to its submission port: the same cable
	provider *half
	site     *half
	accounts []login
	ships    []customerLogin
}

// half is one of the two running sites.
type half struct {
	name   string // "provider" or "site"
	config string // its file
	cfg    site.Config
	ports  chan site.Ports
	listen site.Ports
	events chan site.Event
	passed []site.Event // awaited by nobody yet
	ended  chan error
}

// login is one mailbox that the reader of the demo may use.
type login struct {
	At       string `json:"at"`
	Address  string `json:"address"`
	Password string `json:"password"`
}

// customerLogin is one account that may call the provider for mail.
type customerLogin struct {
	Account  string   `json:"account"`
	Password string   `json:"password"`
	Domains  []string `json:"domains"`
	linger   time.Duration
}

func newDemo(dir string, show teller) (*demo, error) {
	out, err := newOutside(func(l letter) {
		show.note("outside", l.At, fmt.Sprintf("received %q for %s, %d octets", l.Subject, strings.Join(l.Recipients, ", "), l.Octets))
	})
	if err != nil {
		return nil, err
	}
	return &demo{
		dir: dir, show: show, outside: out,
		accounts: []login{
			{"site", nurse, newPassword()},
			{"site", doctor, newPassword()},
			{"provider", operator, newPassword()},
		},
		ships: []customerLogin{
			{"clinic", newPassword(), []string{"clinic.example", "lab.clinic.example"}, lingers},
			{"ship", newPassword(), []string{"ship.example", "crew.ship.example"}, 0},
		},
	}, nil
}

// start brings up the Internet, the provider, the lines and the site, in this order.
func (d *demo) start(ctx context.Context) error {
	go d.outside.run(ctx)
	var err error
	if d.provider, err = d.run(ctx, "provider", d.providerConfig()); err != nil {
		return err
	}
	if d.line, err = sim.OpenLine("127.0.0.1:0", d.provider.listen["odmrs"][0]); err != nil {
		return err
	}
	if d.mailLine, err = sim.OpenLine("127.0.0.1:0", d.provider.listen["submission"][0]); err != nil {
		return err
	}
	if err := d.shareCA(); err != nil {
		return err
	}
	if d.site, err = d.run(ctx, "site", d.siteConfig()); err != nil {
		return err
	}
	d.show.ready(d)
	return nil
}

// shareCA gives the site the provider's CA, so that one file lets a client check both.
func (d *demo) shareCA() error {
	from, to := filepath.Dir(d.provider.cfg.CAFile()), filepath.Join(d.dir, "site", "tls")
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"ca.pem", "ca-key.pem"} {
		content, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// caFile is the certificate of the demo's only CA.
func (d *demo) caFile() string { return d.provider.cfg.CAFile() }

func (d *demo) close() {
	for _, l := range []*sim.Line{d.line, d.mailLine} {
		if l != nil {
			l.Close()
		}
	}
	d.outside.close()
}

// listenAnywhere asks for a free loopback port for every service; both halves have them all.
var listenAnywhere = config.Values{
	"smtp.listen":           []string{"127.0.0.1:0"},
	"submission.listen":     []string{"127.0.0.1:0"},
	"submission.listen_tls": []string{"127.0.0.1:0"},
	"pop3.listen":           []string{"127.0.0.1:0"},
	"pop3.listen_tls":       []string{"127.0.0.1:0"},
	"odmr.listen":           []string{"127.0.0.1:0"},
	"odmr.listen_tls":       []string{"127.0.0.1:0"},
	"submission.mechanisms": sasl.All(), // CRAM-MD5 too: the demo's accounts have opted in
	"log_level":             "warn",
}

func (d *demo) providerConfig() config.Values {
	return with(listenAnywhere, config.Values{
		"hostname":        providerHost,
		"route.smarthost": d.outside.address(), // the way to everybody else
		"relay.tls":       "none",
	})
}

func (d *demo) siteConfig() config.Values {
	return with(listenAnywhere, config.Values{
		"hostname":        siteHost,
		"log_level":       "error", // that its session ends with the line is shown, and no fault
		"route.smarthost": d.mailLine.Addr(),
		"relay.username":  d.ships[0].Account,
		"relay.password":  d.ships[0].Password,
		"relay.ca_file":   d.caFile(),
		"fetch": []config.Values{{
			"provider": d.line.Addr(), "tls": "implicit", "ca_file": d.caFile(), "interval": "10s",
			"username": d.ships[0].Account, "password": d.ships[0].Password, "domains": d.ships[0].Domains,
		}},
		"link.source":     "probe",
		"link.address":    d.line.Addr(),
		"link.interval":   "1s",
		"link.fail_after": 1,
	})
}

func with(a, b config.Values) config.Values {
	all := config.Values{}
	for _, m := range []config.Values{a, b} {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

// run writes a half's configuration, fills its directory and starts it; it returns when every port is open.
func (d *demo) run(ctx context.Context, name string, values config.Values) (*half, error) {
	h := &half{
		name: name, config: filepath.Join(d.dir, name+".toml"),
		ports: make(chan site.Ports, 1), events: make(chan site.Event, 1000), ended: make(chan error, 1),
	}
	values["data"] = filepath.Join(d.dir, name)
	if err := writeConfig(h.config, values); err != nil {
		return nil, err
	}
	if err := config.Load(h.config, &h.cfg); err != nil {
		return nil, err
	}
	if err := d.populate(ctx, h); err != nil {
		return nil, err
	}
	env := site.Env{
		Log:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: h.cfg.LogLevel})).With("at", name),
		Ready: func(p site.Ports) { h.ports <- p },
		Event: func(e site.Event) {
			d.show.hop(name, e)
			select {
			case h.events <- e:
			default: // nobody waits for this one any more
			}
		},
	}
	go func() { h.ended <- site.Run(ctx, h.cfg, env) }()
	select {
	case h.listen = <-h.ports:
		return h, nil
	case err := <-h.ended:
		return nil, fmt.Errorf("%s: %w", name, err)
	}
}

func writeConfig(file string, values config.Values) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(config.Template(f, &site.Config{}, values), f.Close())
}

// populate makes the demo's accounts and customers, or gives those of an earlier run their new passwords.
func (d *demo) populate(ctx context.Context, h *half) (err error) {
	if err := os.MkdirAll(h.cfg.Data, 0o700); err != nil {
		return err
	}
	dir, err := directory.Open(ctx, h.cfg.DirectoryFile())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	for _, l := range d.accounts {
		if l.At != h.name {
			continue
		}
		address, err := message.ParseAddress(l.Address)
		if err != nil {
			return err
		}
		if err := addOrReset(ctx, dir, directory.Account{Name: l.Address, Addresses: []message.Address{address}, CRAM: true}, l.Password); err != nil {
			return err
		}
	}
	if h.name != "provider" {
		return nil
	}
	for _, s := range d.ships {
		if err := addOrReset(ctx, dir, directory.Account{Name: s.Account, CRAM: true}, s.Password); err != nil {
			return err
		}
		if _, err := dir.Customer(ctx, s.Account); errors.Is(err, directory.ErrNotFound) {
			if err := dir.AddCustomer(ctx, directory.Customer{Account: s.Account, Domains: s.Domains, Linger: s.linger}); err != nil {
				return err
			}
		}
	}
	return nil
}

func addOrReset(ctx context.Context, dir *directory.Directory, a directory.Account, password string) error {
	if _, err := dir.Account(ctx, a.Name); errors.Is(err, directory.ErrNotFound) {
		return dir.AddAccount(ctx, a, password)
	}
	return dir.SetPassword(ctx, a.Name, password)
}

// wait keeps the demo running until it is stopped or a half fails.
func (d *demo) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.provider.ended:
		d.provider.ended <- err
		return fmt.Errorf("provider: %w", err)
	case err := <-d.site.ended:
		d.site.ended <- err
		return fmt.Errorf("site: %w", err)
	}
}

// stopped waits for both halves to end.
func (d *demo) stopped() error {
	var errs []error
	for _, h := range []*half{d.provider, d.site} {
		if h != nil {
			errs = append(errs, <-h.ended)
		}
	}
	return errors.Join(errs...)
}
