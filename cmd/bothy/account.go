package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"bothy/application/directory"
	"bothy/application/message"

	site "bothy"
)

// accountCmd is about who may log in.
type accountCmd struct {
	Add         accountAddCmd         `cmd:"" help:"Add an account, with a mailbox if it has an address."`
	List        accountListCmd        `cmd:"" help:"List accounts."`
	Passwd      accountPasswdCmd      `cmd:"" help:"Set an account's password."`
	App         accountAppCmd         `cmd:"" help:"Passwords of their own for programs and devices."`
	Address     accountAddressCmd     `cmd:"" help:"The addresses that an account receives at and sends from."`
	Alias       accountAliasCmd       `cmd:"" help:"Addresses that stand for others, such as info@ for two people."`
	Rights      accountRightsCmd      `cmd:"" help:"As whom, to whom and how much an account may send."`
	Certificate accountCertificateCmd `cmd:"" help:"Let who holds a certificate's key log in without a password (SASL EXTERNAL)."`
	CRAM        accountCRAMCmd        `cmd:"" name:"cram" help:"Allow CRAM-MD5 for an account, or no longer."`
	Disable     accountDisableCmd     `cmd:"" help:"Let an account neither log in nor send. Its mail is still accepted."`
	Enable      accountEnableCmd      `cmd:"" help:"Take back disable."`
	Remove      accountRemoveCmd      `cmd:"" help:"Remove an account and its addresses. Its mailbox stays on disk."`
}

func (accountCmd) Help() string {
	return `Accounts are in the directory file, not in the configuration: what is changed here counts at once, whether the server runs or not.

Examples:

    bothy account add keeper@clinic.example
    bothy account alias add info@clinic.example keeper@clinic.example`
}

type accountAddCmd struct {
	Name    string   `arg:"" help:"What it logs in with: an address, or a plain name for a customer."`
	Address []string `placeholder:"ADDRESS" help:"Address it receives at and sends from, in place of its name; may be repeated, the chief one first."`
	CRAM    bool     `help:"Allow CRAM-MD5, for old clients. The password itself must then be kept (RFC 2195 §2), sealed."`
	JSON    bool     `help:"Print the account as JSON."`
	passwordFlags
}

func (accountAddCmd) Help() string {
	return `The domains of its addresses become local: mail for them is delivered here.

Examples:

    bothy account add keeper@clinic.example
    bothy account add keeper@clinic.example --password-file secret --address keeper@clinic.example --address info@clinic.example
    pass show clinic | bothy account add keeper@clinic.example`
}

func (c *accountAddCmd) Run(ctx context.Context, g *globals, std stdio) error {
	a := directory.Account{Name: c.Name, CRAM: c.CRAM}
	addresses := c.Address
	if len(addresses) == 0 && strings.Contains(c.Name, "@") {
		addresses = []string{c.Name}
	}
	var err error
	if a.Addresses, err = parseAddresses(addresses); err != nil {
		return err
	}
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		password, made, err := c.read(ctx, c.Name, std)
		if err != nil {
			return err
		}
		if err := d.AddAccount(ctx, a, password); err != nil {
			return err
		}
		return told(std, c.JSON, "Added "+c.Name, c.Name, password, made)
	})
}

func parseAddresses(texts []string) ([]message.Address, error) {
	addresses := make([]message.Address, len(texts))
	for i, s := range texts {
		var err error
		if addresses[i], err = message.ParseAddress(s); err != nil {
			return nil, fmt.Errorf("%q is not an address: %w", s, err)
		}
	}
	return addresses, nil
}

// told confirms that an account has a new password, and shows a password that was made here: nobody can ever show it again.
func told(std stdio, asJSON bool, done, name, password string, made bool) error {
	if !made {
		password = ""
	}
	if asJSON {
		return printJSON(std.out, struct {
			Account  string `json:"account"`
			Password string `json:"password,omitempty"` // only one that was made
		}{name, password})
	}
	if made {
		done += ", password " + password
	}
	_, err := fmt.Fprintln(std.out, done)
	return err
}

type accountListCmd struct {
	JSON bool `help:"Print JSON."`
}

func (accountListCmd) Help() string {
	return `The oldest account stands first. Customers are accounts too; "bothy customer list" shows their domains.

Examples:

    bothy account list --json | jq -r '.[].addresses[]'`
}

func (c *accountListCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		accounts, err := d.Accounts(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(std.out, append([]directory.Account{}, accounts...)) // [] and not null
		}
		rows := [][]string{{"ACCOUNT", "ADDRESSES", "CREATED", ""}}
		for _, a := range accounts {
			var marks []string
			if a.CRAM {
				marks = append(marks, "CRAM-MD5")
			}
			if a.Disabled {
				marks = append(marks, "disabled")
			}
			rows = append(rows, []string{a.Name, addressList(a.Addresses), a.Created.Local().Format("2006-01-02"), strings.Join(marks, ", ")})
		}
		return printTable(std.out, rows)
	})
}

func addressList(addresses []message.Address) string {
	return cmp.Or(strings.Join(texts(addresses), " "), "-")
}

type accountPasswdCmd struct {
	Name string `arg:"" help:"The account."`
	CRAM *bool  `negatable:"" help:"Allow CRAM-MD5 from now on, or no longer."`
	JSON bool   `help:"Print the account as JSON."`
	passwordFlags
}

func (accountPasswdCmd) Help() string {
	return `Examples:

    bothy account passwd keeper@clinic.example
    bothy account passwd clinic --password-file secret`
}

func (c *accountPasswdCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		if _, err := d.Account(ctx, c.Name); err != nil { // before anything is asked
			return err
		}
		password, made, err := c.read(ctx, c.Name, std)
		if err != nil {
			return err
		}
		if c.CRAM == nil {
			err = d.SetPassword(ctx, c.Name, password)
		} else {
			err = d.SetCRAM(ctx, c.Name, *c.CRAM, password)
		}
		if err != nil {
			return err
		}
		return told(std, c.JSON, "Set the password of "+c.Name, c.Name, password, made)
	})
}

type accountRemoveCmd struct {
	Name []string `arg:"" help:"The accounts."`
}

func (accountRemoveCmd) Help() string {
	return `Mail that comes for its addresses is refused from then on. Aliases that led to it stay and lead nowhere. The mailbox is there again when an
account of the same name is added. A customer is removed with "bothy customer remove --account".

Examples:

    bothy account remove guest@clinic.example`
}

func (c *accountRemoveCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		return each(std, "Removed", c.Name, func(name string) error { return d.RemoveAccount(ctx, name) })
	})
}

// each does one thing to each of several, and says so, until one fails.
func each[T any](std stdio, done string, all []T, do func(T) error) error {
	for _, one := range all {
		if err := do(one); err != nil {
			return err
		}
		fmt.Fprintln(std.out, done, one)
	}
	return nil
}

// withDirectory opens the directory of the configured server for one command. What that changes counts, when it ends, in the server that runs.
func (g *globals) withDirectory(ctx context.Context, use func(*directory.Directory) error) (err error) {
	cfg, err := g.load()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Data, 0o711); err != nil {
		return err
	}
	d, err := directory.Options{Iterations: cfg.PasswordIterations}.Open(ctx, cfg.DirectoryFile())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close(), giveAway(cfg.DirectoryFile())) }()
	if err := use(d); err != nil {
		return err
	}
	if d.Edited() {
		ctx, cancel := context.WithTimeout(ctx, noticeTimeout)
		defer cancel()
		_, _ = call[struct{}](ctx, g, http.MethodPost, site.RefreshPath, struct{}{}) // it looks by itself too, ten times a second
	}
	return nil
}

// noticeTimeout bounds the wait for a server that is busy.
const noticeTimeout = 2 * time.Second

// giveAway makes what root has just created belong to whom the data directory belongs to: the server runs as that user.
func giveAway(file string) error {
	info, err := os.Stat(filepath.Dir(file))
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	made, err := filepath.Glob(file + "*")
	for _, name := range made {
		if chown := os.Lchown(name, int(owner.Uid), int(owner.Gid)); !errors.Is(chown, fs.ErrNotExist) {
			err = errors.Join(err, chown)
		}
	}
	return err
}
