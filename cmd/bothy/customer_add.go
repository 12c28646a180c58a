package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"bothy/application/directory"
	"bothy/management/admin"
	"bothy/management/config"

	site "bothy"
)

// customerAddCmd makes a customer.
type customerAddCmd struct {
	Name        string         `arg:"" help:"A domain, whose mail is held for an account of that name; or the account's name, with domains behind it."`
	Domain      []string       `arg:"" optional:"" help:"Domains whose mail is held for it."`
	MinInterval time.Duration  `placeholder:"TIME" help:"Answer 450 to calls that come sooner than this after the last one (RFC 2645 §5.2.1)."`
	EmptyTurns  bool           `help:"Where there is no mail, turn the connection all the same and say QUIT, in place of 453: for customers that take 453 for an error."`
	Linger      *time.Duration `placeholder:"TIME" help:"Keep a session that has nothing to send open this long, and push what comes; 40m for a site that is invited, else 0s."`
	LongPoll    time.Duration  `placeholder:"TIME" help:"Hold the answer to ATRN this long while there is no mail, at most 4m."`
	KeepLarge   bool           `help:"Mail larger than the customer takes waits, in place of a notice to its sender."`
	Budget      config.Size    `placeholder:"SIZE" help:"Send no more than this in one session; what is left waits, and a digest says what it is. A Bothy site may ask for another."`
	Largest     config.Size    `placeholder:"SIZE" help:"Likewise for one message."`
	ETRNHost    string         `name:"etrn-host" placeholder:"HOST:PORT" help:"Where ETRN starts delivery, for a server with an address of its own that cannot ATRN (RFC 1985)."`
	CRAM        bool           `help:"Allow CRAM-MD5, for customers such as fetchmail without TLS. The password itself must then be kept, sealed."`
	Password    bool           `help:"Give it a password, which a terminal asks for or which is made and printed, in place of an invitation: for other software than Bothy."`
	NoDNS       bool           `name:"no-dns" help:"Do not look whether the DNS sends the domains' mail here."`
	JSON        bool           `help:"Print JSON."`
	quotaFlags
	inviteFlags
	passwordFlags
}

func (customerAddCmd) Help() string {
	return `Prints one line, "bothy join ...". Run at the site, it sets up everything there: the account's password, which the site makes itself, the
certificate to trust, where its own mail goes. Whoever has the line can take the site's place, until it was used; it is good once. "bothy
customer invite" prints another.

With --password, --password-file, --cram, or a password on standard input there is no such line: the customer logs in with that.

Mail for the domains must come here: their MX records name this server. That is looked up, and what is missing is shown. A domain with an
address or alias here is local and cannot be held.

Examples:

    bothy customer add clinic.example
    bothy customer add clinic clinic.example lab.clinic.example --expires 24h
    bothy customer add school school.example --password-file secret --min-interval 5m`
}

// lingers is how long sessions of a site of ours stay: mail is pushed.
const lingers = 40 * time.Minute

// normalize makes an account's name and domains of what was given.
func (c *customerAddCmd) normalize() error {
	if strings.Contains(c.Name, ".") && !strings.Contains(c.Name, "@") && !slices.Contains(c.Domain, c.Name) {
		c.Domain = append([]string{c.Name}, c.Domain...)
	}
	if len(c.Domain) == 0 {
		return exit{exitUsage, fmt.Errorf("whose mail? %q is no domain: give one, or some behind the account's name", c.Name)}
	}
	return nil
}

func (c *customerAddCmd) Run(ctx context.Context, g *globals, std stdio) error {
	if err := c.normalize(); err != nil {
		return err
	}
	cfg, err := g.load()
	if err != nil {
		return err
	}
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		if customer, err := d.Customer(ctx, c.Name); err == nil { // before anything is asked
			return fmt.Errorf("customer %s is there already: give it more with `bothy customer set %[1]s --add-domain NAME`, or invite it once more with `bothy customer invite %[1]s`", customer.Account)
		}
		if err := c.possible(d); err != nil {
			return err
		}
		if _, err := c.apply(new(directory.Quota)); err != nil {
			return err
		}
		_, err := d.Account(ctx, c.Name)
		fresh := errors.Is(err, directory.ErrNotFound)
		if !fresh && err == nil && (c.CRAM || c.PasswordFile != "") {
			err = fmt.Errorf("account %s is there already: change its login with `bothy account passwd` or `bothy account cram`", c.Name)
		}
		if err != nil && !fresh {
			return err
		}
		answer := customerAnswer{Account: c.Name, Domains: c.Domain}
		invited := false
		if fresh {
			var password string
			if password, invited, err = c.login(ctx, std, &answer); err == nil {
				err = d.AddAccount(ctx, directory.Account{Name: c.Name, CRAM: c.CRAM}, password)
			}
			if err != nil {
				return err
			}
		}
		if err := d.AddCustomer(ctx, c.customer(invited)); err != nil {
			if fresh {
				err = errors.Join(err, d.RemoveAccount(ctx, c.Name))
			}
			return err
		}
		if err := c.quotaFlags.set(ctx, d, c.Name); err != nil {
			return fmt.Errorf("the customer is there, without a quota: %w", err)
		}
		if invited {
			if err := c.invite(ctx, d, cfg, c.Name, &answer); err != nil {
				answer.Note = "There is no line for the site yet: " + err.Error()
			} else if _, err := call[admin.Identity](ctx, g, http.MethodGet, admin.IdentityPath, nil); errors.Is(err, admin.ErrNotRunning) {
				answer.Note = "The server is not running, so the line will find nobody: start it with `bothy serve`."
			}
		}
		if !c.NoDNS {
			answer.DNS = checkDNS(ctx, cfg, c.host(cfg), c.Domain)
		}
		return answer.print(std, c.JSON)
	})
}

// login finds the password of a new account. invited says that nobody is to know it: the site sets another.
func (c *customerAddCmd) login(ctx context.Context, std stdio, answer *customerAnswer) (password string, invited bool, err error) {
	if c.Password || c.CRAM || c.PasswordFile != "" {
		var made bool
		if password, made, err = c.read(ctx, c.Name, std); made {
			answer.Password = password
		}
		return password, false, err
	}
	if password, err = c.given(std); err != nil || password != "" {
		return password, false, err
	}
	return newPassword() + newPassword(), true, nil
}

func (c *customerAddCmd) customer(invited bool) directory.Customer {
	customer := directory.Customer{
		Account: c.Name, Domains: c.Domain, MinInterval: c.MinInterval, EmptyTurns: c.EmptyTurns,
		LongPoll: c.LongPoll, KeepLarge: c.KeepLarge, Host: c.ETRNHost, Budget: int64(c.Budget), Largest: int64(c.Largest),
	}
	switch {
	case c.Linger != nil:
		customer.Linger = *c.Linger
	case invited:
		customer.Linger = lingers
	}
	return customer
}

// possible explains which domains cannot be held.
func (c *customerAddCmd) possible(d *directory.Directory) error {
	for _, domain := range c.Domain {
		if account, held := d.Held(domain); held {
			return fmt.Errorf("%s is held for customer %s already", domain, account)
		}
		if d.Local(domain) {
			return fmt.Errorf("%s is local: its mail is delivered here and is not held. Remove its addresses and aliases first, "+
				"or the domain itself: see `bothy account list`, `bothy account alias list` and `bothy domain remove`", domain)
		}
	}
	return nil
}

// customerAnswer is what is said of a customer that was made, or invited.
type customerAnswer struct {
	Account  string      `json:"account"`
	Domains  []string    `json:"domains"`
	Password string      `json:"password,omitempty"` // only one that was made
	Join     string      `json:"join,omitempty"`     // the line for the site
	Expires  time.Time   `json:"expires,omitzero"`   // of it
	DNS      []dnsRecord `json:"dns,omitempty"`
	Note     string      `json:"note,omitempty"`
}

// print shows the line on the standard output, and what is left to do behind it.
func (a *customerAnswer) print(std stdio, asJSON bool) error {
	w := std.out
	if asJSON {
		return printJSON(w, a)
	}
	line := "Holding mail for " + a.Account + ": " + strings.Join(a.Domains, " ")
	if a.Password != "" {
		line += ", password " + a.Password
	}
	fmt.Fprintln(w, line)
	if a.Join != "" {
		fmt.Fprintf(w, "\nRun this at the site, within %s. It is good once:\n\n    %s\n", age(time.Until(a.Expires).Round(time.Minute)), a.Join)
	}
	if a.Note != "" {
		fmt.Fprintln(std.err, a.Note)
	}
	return printDNS(std.err, a.DNS)
}

// inviteFlags are what an invitation says.
type inviteFlags struct {
	Expires time.Duration `default:"168h" placeholder:"TIME" help:"How long the line for the site is good (${default})."`
	Host    string        `placeholder:"NAME" help:"Name or address by which the site reaches this server; without it the server's hostname."`
}

func (f inviteFlags) host(cfg *site.Config) string {
	if f.Host != "" {
		return f.Host
	}
	return cfg.Hostname
}
