package main

import (
	"context"
	"fmt"

	"bothy/application/directory"
	"bothy/application/message"
)

// accountAddressCmd is about the addresses of accounts.
type accountAddressCmd struct {
	Add    accountAddressAddCmd    `cmd:"" help:"Give an account further addresses."`
	Remove accountAddressRemoveCmd `cmd:"" help:"Take addresses from their account."`
}

type accountAddressAddCmd struct {
	Name    string   `arg:"" help:"The account."`
	Address []string `arg:"" help:"Its new addresses."`
}

func (accountAddressAddCmd) Help() string {
	return `The account receives mail for them, logs in with them and sends from them. Their domains become local.

Examples:

    bothy account address add keeper@clinic.example keeper@lab.clinic.example k.eeper@clinic.example`
}

func (c *accountAddressAddCmd) Run(ctx context.Context, g *globals, std stdio) error {
	addresses, err := parseAddresses(c.Address)
	if err != nil {
		return err
	}
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		return each(std, "Added", addresses, func(a message.Address) error { return d.AddAddress(ctx, c.Name, a) })
	})
}

type accountAddressRemoveCmd struct {
	Address []string `arg:"" help:"The addresses."`
}

func (accountAddressRemoveCmd) Help() string {
	return `Mail that comes for them is refused from then on. A domain whose last address or alias is gone is local no longer, unless
"bothy domain add" made it so.

Examples:

    bothy account address remove k.eeper@clinic.example`
}

func (c *accountAddressRemoveCmd) Run(ctx context.Context, g *globals, std stdio) error {
	addresses, err := parseAddresses(c.Address)
	if err != nil {
		return err
	}
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		return each(std, "Removed", addresses, func(a message.Address) error { return d.RemoveAddress(ctx, a) })
	})
}

// accountAliasCmd is about addresses that stand for others.
type accountAliasCmd struct {
	Add    accountAliasAddCmd    `cmd:"" help:"Let mail for an alias go to other addresses."`
	Remove accountAliasRemoveCmd `cmd:"" help:"Remove an alias, or some of its targets."`
	List   accountAliasListCmd   `cmd:"" help:"List aliases, one target a line."`
}

type accountAliasAddCmd struct {
	Alias  string   `arg:"" help:"The alias."`
	Target []string `arg:"" help:"Addresses here that get its mail, besides those that get it already."`
}

func (accountAliasAddCmd) Help() string {
	return `A target is an address or another alias; it must lead to an account here. Who gets an alias's mail may also send from it.

Examples:

    bothy account alias add info@clinic.example keeper@clinic.example nurse@clinic.example
    bothy account alias add root@mail.clinic.example keeper@clinic.example`
}

func (c *accountAliasAddCmd) Run(ctx context.Context, g *globals, std stdio) error {
	addresses, err := parseAddresses(append([]string{c.Alias}, c.Target...))
	if err != nil {
		return err
	}
	alias := addresses[0]
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		return each(std, alias.String()+" goes to", addresses[1:], func(target message.Address) error { return d.AddAlias(ctx, alias, target) })
	})
}

type accountAliasRemoveCmd struct {
	Alias  string   `arg:"" help:"The alias."`
	Target []string `arg:"" optional:"" help:"Only these targets."`
}

func (accountAliasRemoveCmd) Help() string {
	return `Examples:

    bothy account alias remove info@clinic.example
    bothy account alias remove info@clinic.example nurse@clinic.example`
}

func (c *accountAliasRemoveCmd) Run(ctx context.Context, g *globals, std stdio) error {
	addresses, err := parseAddresses(append([]string{c.Alias}, c.Target...))
	if err != nil {
		return err
	}
	alias, targets := addresses[0], addresses[1:]
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		if len(targets) > 0 {
			return each(std, alias.String()+" goes no longer to", targets, func(t message.Address) error { return d.RemoveAlias(ctx, alias, t) })
		}
		if err := d.RemoveAlias(ctx, alias, message.Address{}); err != nil { // the zero target: all
			return err
		}
		_, err := fmt.Fprintln(std.out, "Removed", alias)
		return err
	})
}

type accountAliasListCmd struct {
	JSON bool `help:"Print JSON."`
}

func (accountAliasListCmd) Help() string {
	return `Examples:

    bothy account alias list --json | jq -r '.[] | select(.target == "nurse@clinic.example").alias'`
}

func (c *accountAliasListCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		aliases, err := d.Aliases(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(std.out, append([]directory.Alias{}, aliases...)) // [] and not null
		}
		rows := [][]string{{"ALIAS", "TARGET"}}
		for _, a := range aliases {
			rows = append(rows, []string{a.Alias.String(), a.Target.String()})
		}
		return printTable(std.out, rows)
	})
}
