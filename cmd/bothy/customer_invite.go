package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"bothy/application/directory"
	"bothy/application/join"

	site "bothy"
)

// customerInviteCmd makes a new invitation, or takes those back that are open.
type customerInviteCmd struct {
	Name   string `arg:"" help:"The customer."`
	Revoke bool   `help:"Make none, and take back those that are open."`
	JSON   bool   `help:"Print JSON."`
	inviteFlags
}

func (customerInviteCmd) Help() string {
	return `For a site whose machine was replaced, or whose line has expired. The login that the site has stays good until the new line is used. Lines
made before are good no more. Where "customer add" was given a --host, give it here too.

Examples:

    bothy customer invite clinic.example
    bothy customer invite clinic.example --revoke`
}

func (c *customerInviteCmd) Run(ctx context.Context, g *globals, std stdio) error {
	cfg, err := g.load()
	if err != nil {
		return err
	}
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		customer, err := d.Customer(ctx, c.Name)
		if err != nil {
			return err
		}
		if c.Revoke {
			n, err := d.Uninvite(ctx, customer.Account, time.Now())
			if err == nil {
				_, err = fmt.Fprintln(std.out, "Taken back:", plural(n, "invitation"))
			}
			return err
		}
		answer := customerAnswer{Account: customer.Account, Domains: customer.Domains}
		if err := c.invite(ctx, d, cfg, customer.Account, &answer); err != nil {
			return err
		}
		return answer.print(std, c.JSON)
	})
}

// invite makes the line for the site.
func (f inviteFlags) invite(ctx context.Context, d *directory.Directory, cfg *site.Config, account string, answer *customerAnswer) error {
	t, err := f.token(cfg)
	if err != nil {
		return fmt.Errorf("%w, and then `bothy customer invite %s`", err, account)
	}
	customer, err := d.Customer(ctx, account)
	if err != nil {
		return err
	}
	i, secret, err := d.Invite(ctx, account, f.Expires, time.Now())
	if err != nil {
		return err
	}
	answer.Join, answer.Expires = line(t, i, secret, customer.Domains), i.Expires
	return nil
}

// line is what the site runs; t says whom it calls.
func line(t join.Token, i directory.Invitation, secret string, domains []string) string {
	t.Account, t.ID, t.Secret, t.Expires, t.Domains = i.Account, i.ID, secret, i.Expires, domains
	return "bothy join " + t.String()
}

// token says whom a site calls, and how it knows that server.
func (f inviteFlags) token(cfg *site.Config) (t join.Token, err error) {
	t.Host = f.host(cfg)
	switch {
	case len(cfg.ODMR.ListenTLS) > 0:
		t.Implicit = true
		t.Calls, err = portOf(cfg.ODMR.ListenTLS[0])
	case len(cfg.ODMR.Listen) > 0:
		t.Calls, err = portOf(cfg.ODMR.Listen[0])
	default:
		err = errors.New("no customer can call here: set odmr.listen")
	}
	if err == nil && len(cfg.Submission.Listen) > 0 {
		t.Submission, err = portOf(cfg.Submission.Listen[0])
	}
	if err == nil {
		t.Pin, t.Own, err = site.Key(*cfg, time.Now())
	}
	for _, made := range []string{cfg.CertificateFolder(), filepath.Join(cfg.CertificateFolder(), "*")} {
		if err == nil {
			err = giveAway(made)
		}
	}
	return t, err
}

// portOf is the port of an address to listen on.
func portOf(address string) (uint16, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	n, err := net.LookupPort("tcp", port)
	if err == nil && n == 0 {
		err = fmt.Errorf("%s is another port at each start: give one", address)
	}
	return uint16(n), err
}
