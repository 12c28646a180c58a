package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"bothy/application/directory"
)

// refuseTaken returns an error for a domain of the invitation that this site has already, from another provider or as its own, unless it is to be
// shared: whoever makes an invitation can write any domain into it, and who brings a domain's mail says who its sender is.
func (j *joining) refuseTaken(ctx context.Context, g *globals) error {
	if j.old == nil {
		return nil
	}
	own, err := j.own(ctx, g)
	if err != nil {
		return err
	}
	table := j.table()
	for _, domain := range j.token.Domains {
		if table >= 0 && (len(j.cfg.Fetch[table].Domains) == 0 || lists(j.cfg.Fetch[table].Domains, domain)) {
			continue // it may already
		}
		what := own(domain)
		for _, f := range j.cfg.Fetch {
			if lists(f.Domains, domain) {
				what = "is fetched from " + f.Provider
			}
		}
		if what != "" && !lists(j.Share, domain) {
			return exit{exitUsage, fmt.Errorf("%s %s already: if %s is to bring its mail too, add --share %s", domain, what, j.token.Address(), domain)}
		}
	}
	return nil
}

// own tells what this site itself does with the mail of a domain; "": nothing.
func (j *joining) own(ctx context.Context, g *globals) (func(domain string) string, error) {
	local := map[string]string{}
	look := func(d *directory.Directory) error {
		for _, domain := range j.token.Domains {
			if _, held := d.Held(domain); held {
				local[domain] = "is held here for a customer"
			} else if d.Local(domain) {
				local[domain] = "has mailboxes here"
			}
		}
		return nil
	}
	_, err := os.Stat(j.cfg.DirectoryFile())
	if err == nil {
		at := *g
		at.Config = j.file
		err = at.withDirectory(ctx, look)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return func(domain string) string {
		for to := range j.cfg.Route.LAN {
			if strings.EqualFold(to, domain) || to[0] == '.' && strings.HasSuffix(strings.ToLower(domain), strings.ToLower(to)) {
				return "is handed to another server here"
			}
		}
		return local[domain]
	}, nil
}

// lists reports whether domain is one of domains.
func lists(domains []string, domain string) bool {
	return slices.ContainsFunc(domains, func(d string) bool { return strings.EqualFold(d, domain) })
}

// confine settles which domains the provider brings mail for: those of the invitation that it grants, and of a table that is there already those
// that stand in it. What is more is told and left.
func (j *joining) confine(granted []string) error {
	asked := j.token.Domains
	if t := j.table(); t >= 0 && len(j.cfg.Fetch[t].Domains) > 0 {
		asked = j.cfg.Fetch[t].Domains
	}
	j.result.Domains = nil
	for _, d := range j.token.Domains {
		switch {
		case !lists(granted, d):
			j.note("the provider does not hold the mail of %s any more", d)
		case !lists(asked, d):
			j.note("the invitation names %s, which fetch.domains does not: it is not asked for. If it is yours, add it there", d)
		default:
			j.result.Domains = append(j.result.Domains, d)
		}
	}
	if len(j.result.Domains) == 0 {
		return fmt.Errorf("the provider brings no mail for %s: ask there for a new invitation, or see fetch.domains", strings.Join(j.token.Domains, ", "))
	}
	for _, d := range granted {
		if !lists(j.token.Domains, d) {
			j.note("the provider would bring mail for %q too, which the invitation does not name: it is not asked for. If it is yours, add it to fetch.domains", d)
		}
	}
	return nil
}

func (j *joining) note(format string, args ...any) {
	j.result.Notes = append(j.result.Notes, fmt.Sprintf(format, args...))
}
