package main

import (
	"context"

	"bothy/application/directory"
)

// domainCmd is about the domains whose mail is taken in.
type domainCmd struct {
	Add    domainAddCmd    `cmd:"" help:"Make domains local though nobody has an address there yet."`
	List   domainListCmd   `cmd:"" help:"List the domains whose mail this server takes, delivered here or held for customers."`
	Remove domainRemoveCmd `cmd:"" help:"Take back add."`
}

func (domainCmd) Help() string {
	return `A domain is local, which means that its mail is delivered here, as soon as an account or alias has an address there: most sites never need
these commands. "bothy customer" is about domains whose mail is held.

Examples:

    bothy domain list
    bothy domain add clinic.example`
}

type domainAddCmd struct {
	Name []string `arg:"" help:"The domains."`
}

func (domainAddCmd) Help() string {
	return `Mail to its postmaster is delivered then, and other mail is refused until somebody has an address there. The first one added is the chief
domain, before that the domain of the first address: mail for <postmaster> without a domain is for its postmaster.

Examples:

    bothy domain add clinic.example`
}

func (c *domainAddCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		return each(std, "Local now:", c.Name, func(name string) error { return d.AddDomain(ctx, name) })
	})
}

type domainRemoveCmd struct {
	Name []string `arg:"" help:"The domains."`
}

func (domainRemoveCmd) Help() string {
	return `A domain with addresses or aliases stays local: remove those first.

Examples:

    bothy domain remove old.clinic.example`
}

func (c *domainRemoveCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		return each(std, "Not local any more:", c.Name, func(name string) error { return d.RemoveDomain(ctx, name) })
	})
}

type domainListCmd struct {
	JSON bool `help:"Print JSON."`
}

func (domainListCmd) Help() string {
	return `The chief domain stands first.

Examples:

    bothy domain list --json | jq -r '.[].domain'`
}

// listedDomain is one domain whose mail is taken in.
type listedDomain struct {
	Domain   string `json:"domain"`
	Chief    bool   `json:"chief,omitempty"`
	Customer string `json:"customer,omitempty"` // empty: delivered here
}

func (c *domainListCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		local, err := d.Domains(ctx)
		if err != nil {
			return err
		}
		customers, err := d.Customers(ctx)
		if err != nil {
			return err
		}
		all := []listedDomain{}
		for _, name := range local {
			all = append(all, listedDomain{Domain: name, Chief: name == d.Chief()})
		}
		for _, customer := range customers {
			for _, name := range customer.Domains {
				all = append(all, listedDomain{Domain: name, Customer: customer.Account})
			}
		}
		if c.JSON {
			return printJSON(std.out, all)
		}
		rows := [][]string{{"DOMAIN", "MAIL IS"}}
		for _, l := range all {
			rows = append(rows, []string{l.Domain, l.fate()})
		}
		return printTable(std.out, rows)
	})
}

func (l listedDomain) fate() string {
	switch {
	case l.Customer != "":
		return "held for " + l.Customer
	case l.Chief:
		return "delivered here; chief domain"
	}
	return "delivered here"
}
