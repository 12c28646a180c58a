package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/queue"
	"bothy/management/config"

	site "bothy"
)

// customerCmd is about who calls for the mail of which domains.
type customerCmd struct {
	Add    customerAddCmd    `cmd:"" help:"Hold the mail of domains for a site, and print the line that sets the site up."`
	Invite customerInviteCmd `cmd:"" help:"Print a new line that sets up a customer's site; older ones are good no more."`
	Import customerImportCmd `cmd:"" help:"Add and change any number of customers, from a file."`
	List   customerListCmd   `cmd:"" help:"List customers."`
	Show   customerShowCmd   `cmd:"" help:"Show one customer."`
	Set    customerSetCmd    `cmd:"" help:"Change a customer's domains, or how its calls are answered."`
	Remove customerRemoveCmd `cmd:"" help:"Stop holding mail for a customer. The account stays, unless --account."`
}

func (customerCmd) Help() string {
	return `A customer is an account that calls, on port 366, for mail that is held here meanwhile. What is changed counts at once.

Examples:

    bothy customer add clinic.example
    bothy customer list`
}

// quotaFlags are how much may wait for a customer, and who is warned.
type quotaFlags struct {
	QuotaBytes    *config.Size     `placeholder:"SIZE" help:"Refuse more mail while this much waits; 0 for no bound."`
	QuotaMessages *int             `placeholder:"COUNT" help:"Likewise for messages."`
	Lifetime      *config.Duration `placeholder:"TIME" help:"How long mail waits before its sender gets it back, such as 10d; in place of the configuration's. 0: as that says."`
	Warn          *string          `placeholder:"ADDRESS" help:"Write to this address, which is not in the customer's own domains, when mail is about to expire or four fifths of a quota are used; at most once a day. \"none\": nobody."`
}

// apply puts what the flags say into q, and reports whether they say anything.
func (f *quotaFlags) apply(q *directory.Quota) (changed bool, err error) {
	replace(&changed, &q.Octets, (*int64)(f.QuotaBytes))
	replace(&changed, &q.Messages, f.QuotaMessages)
	replace(&changed, &q.Lifetime, (*time.Duration)(f.Lifetime))
	if f.Warn == nil {
		return changed, nil
	}
	q.Warn = message.Address{}
	if *f.Warn != none {
		q.Warn, err = message.ParseAddress(*f.Warn)
	}
	return true, err
}

// set changes a customer's quota, if the flags say so.
func (f *quotaFlags) set(ctx context.Context, d *directory.Directory, name string) error {
	c, err := d.Customer(ctx, name)
	if err != nil {
		return err
	}
	changed, err := f.apply(&c.Quota)
	if err == nil && changed {
		err = d.SetQuota(ctx, name, c.Quota)
	}
	return err
}

type customerShowCmd struct {
	Name string `arg:"" help:"The account."`
	JSON bool   `help:"Print JSON."`
}

func (customerShowCmd) Help() string {
	return `Examples:

    bothy customer show clinic`
}

func (c *customerShowCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		customer, err := d.Customer(ctx, c.Name)
		if err != nil {
			return err
		}
		now := g.standing(ctx, customer.Account)
		if c.JSON {
			return printJSON(std.out, customerNow{customer, now})
		}
		account, err := d.Account(ctx, c.Name)
		if err != nil {
			return err
		}
		answer := "453"
		if customer.EmptyTurns {
			answer = "250 and QUIT"
		}
		rows := append([][]string{
			{"account", customer.Account},
			{"domains", strings.Join(customer.Domains, " ")},
			{"last call", called(customer.LastContact)},
		}, standingRows(now)...)
		for _, i := range d.Invitations(customer.Account)[:min(1, len(d.Invitations(customer.Account)))] {
			rows = append(rows, []string{"invitation", invitationState(i)})
		}
		return printTable(std.out, append(rows, [][]string{
			{"shortest interval", age(customer.MinInterval)},
			{"lingers", age(customer.Linger)},
			{"long poll", age(customer.LongPoll)},
			{"answer without mail", answer},
			{"session budget", bound(customer.Budget)},
			{"largest message", bound(customer.Largest)},
			{"ETRN delivers to", cmp.Or(customer.Host, "nowhere")},
			{"quota", quota(customer.Quota)},
			{"mail waits for", lifespan(customer.Quota.Lifetime)},
			{"warned by", cmp.Or(customer.Quota.Warn.String(), "nobody")},
			{"CRAM-MD5", fmt.Sprint(account.CRAM)},
			{"disabled", fmt.Sprint(account.Disabled)},
		}...))
	})
}

// lifespan is how long mail waits.
func lifespan(d time.Duration) string {
	if d == 0 {
		return "as long as configured"
	}
	return age(d)
}

// quota is how much may wait.
func quota(q directory.Quota) string {
	if q.Messages == 0 {
		return bound(q.Octets)
	}
	return bound(q.Octets) + ", " + plural(q.Messages, "message")
}

// bound is a number of octets where 0 stands for no bound.
func bound(n int64) string {
	if n == 0 {
		return "none"
	}
	return octets(n)
}

type customerSetCmd struct {
	Name        string         `arg:"" help:"The account."`
	AddDomain   []string       `placeholder:"NAME" help:"Hold the mail of this domain too; may be repeated."`
	DropDomain  []string       `placeholder:"NAME" help:"Hold the mail of this domain no longer; may be repeated."`
	MinInterval *time.Duration `placeholder:"TIME" help:"Answer 450 to calls that come sooner than this after the last one (RFC 2645 §5.2.1); 0s for none."`
	EmptyTurns  *bool          `negatable:"" help:"Where there is no mail, turn the connection all the same and say QUIT, in place of 453."`
	Linger      *time.Duration `placeholder:"TIME" help:"Keep a session that has nothing to send open this long, and push what comes; 0s for not at all."`
	LongPoll    *time.Duration `placeholder:"TIME" help:"Hold the answer to ATRN this long while there is no mail, at most 4m; 0s for not at all."`
	KeepLarge   *bool          `negatable:"" help:"Mail larger than the customer takes waits, in place of a notice to its sender."`
	Budget      *config.Size   `placeholder:"SIZE" help:"Send no more than this in one session; what is left waits, and a digest says what it is; 0 for no bound."`
	Largest     *config.Size   `placeholder:"SIZE" help:"Likewise for one message."`
	ETRNHost    *string        `name:"etrn-host" placeholder:"HOST:PORT" help:"Where ETRN starts delivery (RFC 1985); \"none\" for nowhere."`
	quotaFlags
	JSON bool `help:"Print the customer as JSON."`
}

func (customerSetCmd) Help() string {
	return `What is not named stays as it is.

Examples:

    bothy customer set clinic --add-domain ward.clinic.example --drop-domain lab.clinic.example
    bothy customer set clinic --min-interval 5m --no-empty-turns
    bothy customer set ship --budget 5MB --largest 200KB`
}

func (c *customerSetCmd) Run(ctx context.Context, g *globals, std stdio) error {
	quota, err := c.quotaFlags.apply(new(directory.Quota))
	if err != nil {
		return exit{exitUsage, err}
	}
	if len(c.AddDomain)+len(c.DropDomain) == 0 && !c.apply(new(directory.Customer)) && !quota {
		return exit{exitUsage, errors.New("what? Give at least one flag: see `bothy customer set --help`")}
	}
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		customer, err := d.Customer(ctx, c.Name)
		if err != nil {
			return err
		}
		for _, drop := range c.DropDomain {
			at := slices.IndexFunc(customer.Domains, func(held string) bool { return strings.EqualFold(held, drop) })
			if at < 0 {
				return fmt.Errorf("%s is not held for %s: see `bothy customer show %[2]s`", drop, customer.Account)
			}
			customer.Domains = slices.Delete(customer.Domains, at, at+1)
		}
		customer.Domains = append(customer.Domains, c.AddDomain...)
		c.apply(&customer)
		waits := g.waiting(ctx, c.DropDomain)
		if err := d.SetCustomer(ctx, customer); err != nil {
			return err
		}
		waits.tell(std)
		if err := c.quotaFlags.set(ctx, d, c.Name); err != nil {
			return err
		}
		if customer, err = d.Customer(ctx, c.Name); err != nil {
			return err
		}
		if c.JSON {
			return printJSON(std.out, customer)
		}
		_, err = fmt.Fprintln(std.out, "Holding mail for "+customer.Account+": "+strings.Join(customer.Domains, " "))
		return err
	})
}

// apply puts what the flags say of how calls are answered into customer, and reports whether they say anything.
func (c *customerSetCmd) apply(customer *directory.Customer) (changed bool) {
	replace(&changed, &customer.MinInterval, c.MinInterval)
	replace(&changed, &customer.EmptyTurns, c.EmptyTurns)
	replace(&changed, &customer.Linger, c.Linger)
	replace(&changed, &customer.LongPoll, c.LongPoll)
	replace(&changed, &customer.KeepLarge, c.KeepLarge)
	replace(&changed, &customer.Budget, (*int64)(c.Budget))
	replace(&changed, &customer.Largest, (*int64)(c.Largest))
	if c.ETRNHost != nil && *c.ETRNHost == none {
		*c.ETRNHost = ""
	}
	replace(&changed, &customer.Host, c.ETRNHost)
	return changed
}

// replace puts what a flag gives, if it was given, in the place of what was there.
func replace[T any](changed *bool, to, given *T) {
	if given != nil {
		*to, *changed = *given, true
	}
}

type customerRemoveCmd struct {
	Name    string `arg:"" help:"The account."`
	Account bool   `help:"Remove the account too."`
}

func (customerRemoveCmd) Help() string {
	return `Mail that waits for the customer is not deleted: it goes where other mail for its domains goes, which is to their mail exchangers or
the smarthost. If it is not to, hold it or delete it first.

Examples:

    bothy queue delete --lane odmr/clinic.example
    bothy customer remove clinic --account`
}

func (c *customerRemoveCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		customer, err := d.Customer(ctx, c.Name)
		if err != nil {
			return err
		}
		waits := g.waiting(ctx, customer.Domains)
		if err := d.RemoveCustomer(ctx, c.Name); err != nil {
			return err
		}
		waits.tell(std)
		if c.Account {
			if err := d.RemoveAccount(ctx, c.Name); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintln(std.out, "Removed", c.Name)
		return err
	})
}

// waiting is how much mail waits for domains, for those that have some. Who cannot be told (the server does not run) is told nothing.
func (g *globals) waiting(ctx context.Context, domains []string) backlogs {
	client, err := g.client()
	if err != nil {
		return nil
	}
	defer client.Close()
	var waits backlogs
	for _, domain := range domains {
		var page site.QueuePage
		lane := queue.Lane("odmr/" + strings.ToLower(domain))
		if client.Call(ctx, http.MethodGet, "/v1/queue", site.QueueRequest{Lane: lane, Limit: pageSize}, &page) != nil {
			return waits
		}
		if len(page.Items) == 0 {
			continue
		}
		b := backlog{domain: domain, messages: len(page.Items), more: page.More}
		for _, m := range page.Items {
			b.octets += m.Size
		}
		waits = append(waits, b)
	}
	return waits
}

// backlog is what waits for one domain.
type backlog struct {
	domain   string
	messages int
	octets   int64
	more     bool // than was counted
}

type backlogs []backlog

// tell warns of mail that takes another way from now on.
func (waits backlogs) tell(std stdio) {
	for _, b := range waits {
		count := plural(b.messages, "message")
		if b.more {
			count = "more than " + count
		}
		verb := "waits"
		if b.messages > 1 {
			verb = "wait"
		}
		fmt.Fprintf(std.err, "%s (%s) still %s for %s: where it goes now, `bothy queue list --recipient @%[4]s` shows.\n", count, octets(b.octets), verb, b.domain)
	}
}
