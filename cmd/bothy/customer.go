package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bothy/application/directory"
)

// customerCmd is about who calls for the mail of which domains.
type customerCmd struct {
	Add    customerAddCmd    `cmd:"" help:"Let an account call for the mail of domains; the account is made if it is not there."`
	List   customerListCmd   `cmd:"" help:"List customers."`
	Show   customerShowCmd   `cmd:"" help:"Show one customer."`
	Remove customerRemoveCmd `cmd:"" help:"Stop holding mail for a customer. The account stays, unless --account."`
}

type customerAddCmd struct {
	Name        string        `arg:"" help:"The account."`
	Domain      []string      `arg:"" help:"Domains whose mail is held for it."`
	MinInterval time.Duration `placeholder:"TIME" help:"Answer 450 to calls that come sooner than this after the last one (RFC 2645 §5.2.1)."`
	EmptyTurns  bool          `help:"Where there is no mail, turn the connection all the same and say QUIT, in place of 453: for customers that take 453 for an error."`
	CRAM        bool          `help:"Allow CRAM-MD5, for customers such as fetchmail without TLS. The password itself must then be kept, sealed."`
	JSON        bool          `help:"Print the account as JSON."`
	passwordFlags
}

func (customerAddCmd) Help() string {
	return `A new account needs a password, as in "bothy account add".

Examples:

    bothy customer add clinic clinic.example lab.clinic.example
    bothy customer add school school.example --password-file secret --min-interval 5m`
}

func (c *customerAddCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		var password string
		var made bool
		_, err := d.Account(ctx, c.Name)
		fresh := errors.Is(err, directory.ErrNotFound)
		if fresh {
			if password, made, err = c.read(ctx, c.Name, std); err == nil {
				err = d.AddAccount(ctx, directory.Account{Name: c.Name, CRAM: c.CRAM}, password)
			}
		}
		if err != nil {
			return err
		}
		err = d.AddCustomer(ctx, directory.Customer{Account: c.Name, Domains: c.Domain, MinInterval: c.MinInterval, EmptyTurns: c.EmptyTurns})
		if err != nil {
			if fresh {
				err = errors.Join(err, d.RemoveAccount(ctx, c.Name))
			}
			return err
		}
		return told(std, c.JSON, "Holding mail for "+c.Name+": "+strings.Join(c.Domain, " "), c.Name, password, made)
	})
}

type customerListCmd struct {
	JSON bool `help:"Print JSON."`
}

func (c *customerListCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		customers, err := d.Customers(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(std.out, append([]directory.Customer{}, customers...)) // [] and not null
		}
		rows := [][]string{{"CUSTOMER", "LAST CALL", "DOMAINS"}}
		for _, c := range customers {
			rows = append(rows, []string{c.Account, called(c.LastContact), strings.Join(c.Domains, " ")})
		}
		return printTable(std.out, rows)
	})
}

func called(last time.Time) string {
	if last.IsZero() {
		return "never"
	}
	return age(time.Since(last)) + " ago"
}

type customerShowCmd struct {
	Name string `arg:"" help:"The account."`
	JSON bool   `help:"Print JSON."`
}

func (c *customerShowCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		customer, err := d.Customer(ctx, c.Name)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(std.out, customer)
		}
		account, err := d.Account(ctx, c.Name)
		if err != nil {
			return err
		}
		answer := "453"
		if customer.EmptyTurns {
			answer = "250 and QUIT"
		}
		return printTable(std.out, [][]string{
			{"account", customer.Account},
			{"domains", strings.Join(customer.Domains, " ")},
			{"last call", called(customer.LastContact)},
			{"shortest interval", age(customer.MinInterval)},
			{"answer without mail", answer},
			{"CRAM-MD5", fmt.Sprint(account.CRAM)},
			{"disabled", fmt.Sprint(account.Disabled)},
		})
	})
}

type customerRemoveCmd struct {
	Name    string `arg:"" help:"The account."`
	Account bool   `help:"Remove the account too."`
}

func (c *customerRemoveCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		if err := d.RemoveCustomer(ctx, c.Name); err != nil {
			return err
		}
		if c.Account {
			if err := d.RemoveAccount(ctx, c.Name); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintln(std.out, "Removed", c.Name)
		return err
	})
}
