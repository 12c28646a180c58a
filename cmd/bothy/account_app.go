package main

import (
	"context"
	"crypto/rand"
	"fmt"

	"bothy/application/directory"
)

// accountAppCmd is about passwords that one program has for itself.
type accountAppCmd struct {
	Add    accountAppAddCmd    `cmd:"" help:"Make a password for one program or device, and print it."`
	Remove accountAppRemoveCmd `cmd:"" help:"Take it back; the others stay."`
	List   accountAppListCmd   `cmd:"" help:"List the programs that have one."`
}

func (accountAppCmd) Help() string {
	return `A telephone that is lost, or a printer that everybody can open, should not know the account's own password. Such a password logs in wherever
the account's does, by SCRAM-SHA-256, PLAIN and LOGIN, and is taken back alone.

Examples:

    bothy account app add nurse@clinic.example telephone
    bothy account app remove nurse@clinic.example telephone`
}

type accountAppAddCmd struct {
	Name string `arg:"" help:"The account."`
	App  string `arg:"" help:"The program or device, as you call it."`
	JSON bool   `help:"Print JSON."`
}

func (accountAppAddCmd) Help() string {
	return `The password is shown this once: what is kept cannot show it again.

Examples:

    bothy account app add nurse@clinic.example printer
    bothy account app add nurse@clinic.example telephone --json | jq -r .password`
}

func (c *accountAppAddCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		password := rand.Text()
		if err := d.AddAppPassword(ctx, c.Name, c.App, password); err != nil {
			return err
		}
		if c.JSON {
			return printJSON(std.out, struct {
				Account  string `json:"account"`
				App      string `json:"app"`
				Password string `json:"password"`
			}{c.Name, c.App, password})
		}
		_, err := fmt.Fprintf(std.out, "Added a password of %s for %s: %s\n", c.Name, c.App, password)
		return err
	})
}

type accountAppRemoveCmd struct {
	Name string   `arg:"" help:"The account."`
	App  []string `arg:"" help:"The programs or devices."`
}

func (accountAppRemoveCmd) Help() string {
	return `Sessions that are open are not ended.

Examples:

    bothy account app remove nurse@clinic.example telephone`
}

func (c *accountAppRemoveCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		return each(std, "Removed the password for", c.App, func(app string) error { return d.RemoveAppPassword(ctx, c.Name, app) })
	})
}

type accountAppListCmd struct {
	Name string `arg:"" optional:"" help:"Only this account's."`
	JSON bool   `help:"Print JSON."`
}

func (accountAppListCmd) Help() string {
	return `Examples:

    bothy account app list
    bothy account app list nurse@clinic.example --json | jq -r '.[].app'`
}

func (c *accountAppListCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		all, err := d.AppPasswords(ctx)
		if err != nil {
			return err
		}
		shown := []directory.AppPassword{} // [] and not null
		only := ""
		if c.Name != "" {
			account, err := d.Account(ctx, c.Name)
			if err != nil {
				return err
			}
			only = account.Name
		}
		for _, p := range all {
			if only == "" || p.Account == only {
				shown = append(shown, p)
			}
		}
		if c.JSON {
			return printJSON(std.out, shown)
		}
		rows := [][]string{{"ACCOUNT", "APP", "CREATED"}}
		for _, p := range shown {
			rows = append(rows, []string{p.Account, p.App, p.Created.Local().Format("2006-01-02")})
		}
		return printTable(std.out, rows)
	})
}
