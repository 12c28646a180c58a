package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/management/config"
)

// accountRightsCmd is about what an account may do when it submits (RFC 6409 §6.1, §6.2).
type accountRightsCmd struct {
	Name       string       `arg:"" help:"The account."`
	SendAs     []string     `placeholder:"PATTERN" help:"Let it send in these names besides its own, in place of those so far; may be repeated; \"none\" for none."`
	SendTo     []string     `placeholder:"PATTERN" help:"Let it write to these only, in place of those so far; may be repeated; \"none\" for everybody."`
	Messages   *int         `placeholder:"N" help:"Most messages a day; 0 for no bound."`
	Recipients *int         `placeholder:"N" help:"Most recipients a day, each message's counted; 0 for no bound."`
	Size       *config.Size `placeholder:"SIZE" help:"Largest message, such as 5MB; 0 for no bound but the server's."`
	JSON       bool         `help:"Print JSON."`
}

func (accountRightsCmd) Help() string {
	return `Without a flag this shows what the account may do. What is not named stays as it is; what is changed counts at once.

An account sends in its own names always: its addresses, the aliases that lead to it, and as a customer all names of its domains. A PATTERN
is one address, "@lab.example" (a domain), "@.lab.example" (all below it), "local" (all domains here) or "*" (everything).

Examples:

    bothy account rights keeper@clinic.example
    bothy account rights keeper@clinic.example --send-as boss@clinic.example --send-as @lab.example
    bothy account rights meter@clinic.example --send-to local --messages 100 --recipients 100 --size 1MB
    bothy account rights meter@clinic.example --send-to none --messages 0`
}

// none stands for an empty list: a flag cannot be given without a value.
const none = "none"

func (c *accountRightsCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		account, err := d.Account(ctx, c.Name)
		if err != nil {
			return err
		}
		rights := d.Rights(account.Name)
		if c.apply(&rights) {
			if err := d.SetRights(ctx, account.Name, rights); err != nil {
				return err
			}
			rights = d.Rights(account.Name)
		}
		shown := shownRights{Account: account.Name, Own: account.Addresses, Rights: rights}
		if err := shown.own(ctx, d); err != nil {
			return err
		}
		if c.JSON {
			return printJSON(std.out, shown)
		}
		return shown.print(std)
	})
}

// apply puts what the flags name into r, and reports whether they name anything.
func (c *accountRightsCmd) apply(r *directory.Rights) bool {
	changed := false
	list := func(to *[]string, given []string) {
		if given != nil {
			*to, changed = slices.DeleteFunc(slices.Clone(given), func(p string) bool { return p == none }), true
		}
	}
	number := func(to, given *int) {
		if given != nil {
			*to, changed = *given, true
		}
	}
	list(&r.SendAs, c.SendAs)
	list(&r.SendTo, c.SendTo)
	number(&r.Messages, c.Messages)
	number(&r.Recipients, c.Recipients)
	if c.Size != nil {
		r.Size, changed = int64(*c.Size), true
	}
	return changed
}

// shownRights is all that an account may do.
type shownRights struct {
	Account string            `json:"account"`
	Own     []message.Address `json:"addresses"`
	Aliases []message.Address `json:"aliases"`           // that lead to it
	Domains []string          `json:"domains,omitempty"` // held for it as a customer
	directory.Rights
}

// own finds the names that need no right.
func (s *shownRights) own(ctx context.Context, d *directory.Directory) error {
	aliases, err := d.Aliases(ctx)
	if err != nil {
		return err
	}
	s.Aliases = []message.Address{}
	for _, a := range aliases {
		if !slices.Contains(s.Aliases, a.Alias) && slices.Contains(d.Resolve(a.Alias), s.Account) {
			s.Aliases = append(s.Aliases, a.Alias)
		}
	}
	customer, err := d.Customer(ctx, s.Account)
	if err != nil && !errors.Is(err, directory.ErrNotFound) {
		return err
	}
	s.Domains = customer.Domains
	return nil
}

func (s *shownRights) print(std stdio) error {
	bound := func(n int, unit string) string {
		if n == 0 {
			return "no bound"
		}
		return strconv.Itoa(n) + " " + unit
	}
	size := "no bound but the server's"
	if s.Size > 0 {
		size = octets(s.Size)
	}
	names := slices.Concat([]string{}, texts(s.Own), texts(s.Aliases))
	for _, domain := range s.Domains {
		names = append(names, "@"+domain, "@."+domain)
	}
	return printTable(std.out, [][]string{
		{"account", s.Account},
		{"sends as its own names", cmp.Or(strings.Join(names, " "), "-")},
		{"and as", cmp.Or(strings.Join(s.SendAs, " "), "-")},
		{"writes to", cmp.Or(strings.Join(s.SendTo, " "), "everybody")},
		{"messages", bound(s.Messages, "a day")},
		{"recipients", bound(s.Recipients, "a day")},
		{"largest message", size},
	})
}

func texts[T fmt.Stringer](all []T) []string {
	list := make([]string, len(all))
	for i, one := range all {
		list[i] = one.String()
	}
	return list
}
