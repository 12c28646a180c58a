package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"bothy/application/directory"
	"bothy/application/join"
	"bothy/application/message"
	"bothy/lib/file"
	"bothy/management/admin"
	"bothy/management/config"

	site "bothy"
)

// joinCmd sets up a site.
type joinCmd struct {
	Invitation []string `arg:"" help:"What \"bothy customer add\" has printed at the provider; - reads it from standard input."`
	Person     string   `default:"postmaster" placeholder:"NAME" help:"Whose mailbox to make if nobody has one here (${default})."`
	Hostname   string   `placeholder:"NAME" help:"This server's name, where there is no configuration yet; without it mail. and the first domain."`
	Data       string   `placeholder:"DIR" default:"/var/lib/bothy" help:"Where mail and accounts are kept, where there is no configuration yet (${default})."`
	Share      []string `placeholder:"DOMAIN" help:"A domain of the invitation that this site has already, of another provider or its own: this provider may bring its mail too."`
	NoStart    bool     `help:"Set up, and start nothing."`
	DryRun     bool     `help:"Show what would be done; nobody is called."`
	JSON       bool     `help:"Print JSON."`
}

func (joinCmd) Help() string {
	return `Makes a password that only this site knows, and a key; proves to the provider that it has the invitation; and writes the configuration: whom
to call for mail, whom to trust, where outgoing mail goes. Then it starts the server, or has the one that runs read the configuration anew. A
configuration that is there is added to, and kept beside as FILE.before-join; a second provider is called besides the first.

The provider gets to bring mail for the domains that the invitation names, and for no others, whatever it answers. One that this site has already,
from another provider or as its own, it gets only where --share says so.

The invitation is good once. Run again after an interruption, the same command goes on where it was. It speaks to nobody but the server with
the key that the invitation names.

Exit codes:

    0  joined
    1  failed: a file could not be written, or a cause not named here
    2  wrong usage, the invitation is not whole, or names a domain that is here already (--share)
    5  the provider does not take the invitation (used, expired, taken back), or is not the one that made it
    6  the network: not reached
    7  the provider is not able to, for now

Examples:

    bothy join bothy1-AgoK...
    bothy join - --person nurse --no-start < invitation
    bothy join bothy1-AgoK... --share clinic.example`
}

// joined is what was done, or would be.
type joined struct {
	Provider string   `json:"provider"`
	Account  string   `json:"account"`
	Domains  []string `json:"domains"`
	Config   string   `json:"config"`
	Secret   string   `json:"password_file"`
	Changed  bool     `json:"changed"` // the configuration
	Notes    []string `json:"notes,omitempty"`
	Person   string   `json:"person,omitempty"`
	Password string   `json:"password,omitempty"` // the person's, which was made
	Started  string   `json:"started,omitempty"`  // how the server came to know
}

// joining is the work.
type joining struct {
	*joinCmd
	token  join.Token
	file   string // the configuration
	old    []byte // what it says; nil: there is none
	cfg    site.Config
	result joined
}

func (c *joinCmd) Run(ctx context.Context, g *globals, std stdio) error {
	j := &joining{joinCmd: c, file: g.file()}
	if err := j.read(std); err != nil {
		return err
	}
	if err := j.prepare(); err != nil {
		return err
	}
	if err := j.refuseTaken(ctx, g); err != nil {
		return err
	}
	if c.DryRun {
		return j.show(std.out)
	}
	if err := j.redeem(ctx); err != nil {
		return err
	}
	at := *g
	at.Config = j.file
	if err := at.withDirectory(ctx, func(d *directory.Directory) error { return j.person(ctx, d) }); err != nil {
		return err
	}
	serve, err := j.start(ctx, std)
	if err != nil {
		return err
	}
	if err := j.show(std.out); err != nil || !serve {
		return err
	}
	return (&serveCmd{}).Run(ctx, &at, std)
}

// read reads the invitation.
func (j *joining) read(std stdio) error {
	text := strings.Join(j.Invitation, "")
	if text == "-" {
		line, err := io.ReadAll(io.LimitReader(std.in, 64<<10))
		if err != nil {
			return err
		}
		text = strings.TrimPrefix(strings.TrimSpace(string(line)), "bothy join ")
	}
	var err error
	if j.token, err = join.Parse(text); err != nil {
		return exit{exitUsage, err}
	}
	return nil
}

// prepare finds out what there is, and what is to be there.
func (j *joining) prepare() error {
	var err error
	if j.old, err = os.ReadFile(j.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if j.old != nil {
		err = config.Peek(j.file, &j.cfg)
	} else {
		if j.Data, err = filepath.Abs(j.Data); err == nil {
			j.cfg = site.Config{Hostname: cmp.Or(j.Hostname, "mail."+j.token.Domains[0]), Data: j.Data}
		}
	}
	name := strings.NewReplacer(":", "_", "/", "_").Replace(j.token.Account + "@" + j.token.Host)
	j.result = joined{
		Provider: j.token.Address(), Account: j.token.Account, Domains: j.token.Domains, Config: j.file,
		Secret: filepath.Join(filepath.Dir(j.file), name+".password"),
	}
	return err
}

// known reports whether the configuration calls this provider with this account already.
func (j *joining) known() bool { return j.table() >= 0 }

// table is the place of the table that calls this provider with this account; -1: there is none.
func (j *joining) table() int {
	return slices.IndexFunc(j.cfg.Fetch, func(f site.FetchConfig) bool {
		return f.Username == j.token.Account && strings.EqualFold(f.Provider, j.token.Address())
	})
}

// redeem exchanges the invitation for credentials that are on the disk before, and writes the configuration.
func (j *joining) redeem(ctx context.Context) error {
	if j.known() && !strings.Contains(string(j.old), filepath.Base(j.result.Secret)) {
		return fmt.Errorf("%s calls %s as %s already, with a password of its own: take that table out first", j.file, j.token.Address(), j.token.Account)
	}
	if err := os.MkdirAll(filepath.Dir(j.file), 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(j.cfg.Data, 0o711); err != nil {
		return err
	}
	password, err := j.password()
	if err != nil {
		return err
	}
	if err := j.write(false); err != nil { // what cannot be written later must not cost the invitation
		return err
	}
	key, _, err := site.Key(j.cfg, time.Now())
	if err != nil {
		return err
	}
	for _, made := range []string{j.cfg.CertificateFolder(), filepath.Join(j.cfg.CertificateFolder(), "*")} {
		if err := giveAway(made); err != nil {
			return err
		}
	}
	calling, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	grant, err := join.Redeem(calling, new(net.Dialer).DialContext, j.cfg.Hostname, j.token, join.Credentials{Password: password, Fingerprint: key})
	if err != nil {
		return errors.Join(exit{refusals(err), err}, os.Remove(j.file+".new"))
	}
	if err := j.confine(grant.Domains); err != nil {
		return errors.Join(exit{5, err}, os.Remove(j.file+".new"))
	}
	if j.sends() && j.token.Submission != 0 && !j.known() {
		j.note("outgoing mail goes on to %s: nothing was changed in [route] and [relay]", j.cfg.Route.Smarthost)
	}
	j.token.Own = j.token.Own || !grant.Vouched
	return j.write(true)
}

// refusals is the exit code of a failed redemption.
func refusals(err error) int {
	for code, kinds := range map[int][]error{5: {join.ErrPin, join.ErrUnknown, join.ErrRefused}, 6: {join.ErrUnreachable}, 7: {join.ErrTrouble}} {
		if slices.ContainsFunc(kinds, func(kind error) bool { return errors.Is(err, kind) }) {
			return code
		}
	}
	return exitFailed
}

// password is the one that this site has for the provider; it is made, and on the disk, before anybody hears of it.
func (j *joining) password() (string, error) {
	f, err := os.OpenFile(j.result.Secret, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if password, err := firstLine(f); err != nil || password != "" {
		return password, err
	}
	password := join.NewPassword()
	_, err = f.WriteString(password + "\n")
	return password, errors.Join(err, share(f), f.Sync(), file.SyncDir(filepath.Dir(f.Name())))
}

// write puts the configuration beside the old one, checked, and in its place if that is what is wanted.
func (j *joining) write(final bool) error {
	text, err := j.text()
	if err != nil || text == nil {
		return err
	}
	fresh := j.file + ".new"
	mode := fs.FileMode(0o644) // no secret is in it
	if info, err := os.Stat(j.file); err == nil {
		mode = info.Mode().Perm()
	}
	if err := file.Replace(fresh, text, mode); err != nil { // synced: the invitation is good once
		return err
	}
	var checked site.Config
	if err := config.Peek(fresh, &checked); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	if !final {
		return nil
	}
	if j.old != nil {
		if err := file.Replace(j.file+".before-join", j.old, mode); err != nil {
			return err
		}
	}
	j.result.Changed = true
	return errors.Join(os.Rename(fresh, j.file), file.SyncDir(filepath.Dir(j.file)))
}

// text is the configuration as it is to be; nil: it is so already.
func (j *joining) text() ([]byte, error) {
	if j.old == nil {
		return j.first()
	}
	if j.known() {
		return nil, nil
	}
	fetch := j.fetch()
	additions := []config.Addition{{Table: "fetch", List: true, Keys: []string{"provider", "tls", "pins", "certificate", "username", "password_file", "domains"}, Values: fetch}}
	if smarthost := j.token.SubmissionAddress(); smarthost != "" && !j.sends() {
		additions = append(additions,
			config.Addition{Table: "route", Keys: []string{"smarthost"}, Values: config.Values{"smarthost": smarthost}},
			config.Addition{Table: "relay", Keys: []string{"username", "password_file", "pins"}, Values: j.relay()})
	}
	return config.Extend(j.old, additions...), nil
}

// sends reports whether the configuration says already where outgoing mail goes.
func (j *joining) sends() bool { return j.cfg.Route.Smarthost != "" || j.cfg.Relay.Username != "" }

// first is a first configuration.
func (j *joining) first() ([]byte, error) {
	v := config.Values{"hostname": j.cfg.Hostname, "data": j.cfg.Data, "fetch": []config.Values{j.fetch()}}
	v["submission.listen"], v["submission.listen_tls"] = []string{":587"}, []string{":465"} // RFC 6409 §3.1, RFC 8314 §3.3
	v["pop3.listen"], v["pop3.listen_tls"] = []string{":110"}, []string{":995"}             // RFC 1939 §3, RFC 8314 §3.1
	v["link.source"], v["link.address"] = "probe", j.token.Address()
	if smarthost := j.token.SubmissionAddress(); smarthost != "" {
		v["route.smarthost"] = smarthost
		for key, value := range j.relay() {
			v["relay."+key] = value
		}
	}
	var b strings.Builder
	b.WriteString("# Bothy, a site. Keys that are comments show their default. All that is wrong here: bothy config check\n\n")
	err := config.Template(&b, site.Config{}, v)
	return []byte(b.String()), err
}

// fetch is the table that calls the provider.
func (j *joining) fetch() config.Values {
	mode := "required"
	if j.token.Implicit {
		mode = "implicit"
	}
	return config.Values{
		"provider": j.token.Address(), "tls": mode, "pins": j.pins(), "certificate": true, "username": j.token.Account,
		"password_file": filepath.Base(j.result.Secret), "domains": j.result.Domains,
	}
}

// relay are the keys of outgoing mail.
func (j *joining) relay() config.Values {
	return config.Values{"username": j.token.Account, "password_file": filepath.Base(j.result.Secret), "pins": j.pins()}
}

// pins are the keys to trust; none: an authority vouches for the provider's name, and will for its next key.
func (j *joining) pins() []string {
	if j.token.Own {
		return []string{j.token.Pin}
	}
	return []string{}
}

// person gives somebody a mailbox where nobody has one, so that mail can come.
func (j *joining) person(ctx context.Context, d *directory.Directory) error {
	domain := j.result.Domains[0]
	if t := j.table(); d.Local(domain) || t >= 0 && len(j.cfg.Fetch[t].Domains) == 0 { // then nobody here has said that the domain is ours
		return nil
	}
	name := j.Person
	if !strings.Contains(name, "@") {
		name += "@" + domain
	}
	address, err := message.ParseAddress(name)
	if err != nil {
		return exit{exitUsage, fmt.Errorf("--person %s: %w", j.Person, err)}
	}
	password := newPassword()
	if err := d.AddAccount(ctx, directory.Account{Name: name, Addresses: []message.Address{address}}, password); err != nil {
		return err
	}
	j.result.Person, j.result.Password = name, password
	return nil
}

// start lets the server know. serve says that this process is to be the server.
func (j *joining) start(ctx context.Context, std stdio) (serve bool, err error) {
	client := admin.Dial(j.cfg.AdminSocket())
	defer client.Close()
	var who admin.Identity
	err = client.Call(ctx, http.MethodGet, admin.IdentityPath, nil, &who)
	switch {
	case err == nil && j.result.Changed:
		j.result.Started = "the running server reads its configuration anew"
		return false, syscall.Kill(who.PID, syscall.SIGHUP)
	case err == nil, j.NoStart:
		return false, nil
	case !errors.Is(err, admin.ErrNotRunning):
		return false, err
	}
	if isService() {
		j.result.Started = "systemctl enable --now bothy"
		out, err := exec.CommandContext(ctx, "systemctl", "enable", "--now", "bothy").CombinedOutput()
		if err != nil {
			err = fmt.Errorf("systemctl enable --now bothy: %w: %s", err, out)
		}
		return false, err
	}
	j.result.Started = "this process serves"
	return true, nil
}

// isService reports whether Bothy is installed as a service of systemd, which is there.
func isService() bool {
	if info, err := os.Stat("/run/systemd/system"); err != nil || !info.IsDir() || os.Geteuid() != 0 {
		return false
	}
	for _, dir := range []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
		if _, err := os.Stat(filepath.Join(dir, "bothy.service")); err == nil {
			return true
		}
	}
	return false
}

func (j *joining) show(w io.Writer) error {
	r := j.result
	if j.JSON {
		return printJSON(w, r)
	}
	verb := "Joined"
	if j.DryRun {
		verb = "Would join"
	}
	rows := [][]string{
		{verb, r.Provider},
		{"account", r.Account},
		{"domains", strings.Join(r.Domains, " ")},
		{"configuration", r.Config},
		{"password of the account", r.Secret},
	}
	if j.DryRun {
		rows = append(rows, []string{"good until", j.token.Expires.Format("2006-01-02 15:04 UTC")}, []string{"trusting the key", j.token.Pin})
	}
	if r.Person != "" {
		rows = append(rows, []string{"mailbox", r.Person + ", password " + r.Password})
	}
	if r.Started != "" {
		rows = append(rows, []string{"started", r.Started})
	}
	for _, note := range r.Notes {
		rows = append(rows, []string{"note", note})
	}
	return printTable(w, rows)
}
