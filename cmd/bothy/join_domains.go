package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"bothy/application/directory"
)

// refuseTaken returns an error for a domain of the invitation that this site has already, from another provider or as its own, unless it is to be
// shared: whoever makes an invitation can write any domain into it, and who brings a domain's mail says who its sender is.
func (j *joining) refuseTaken(ctx context.Context, g *globals) error {
	if j.old == nil || j.known() {
		return nil
	}
	own, err := j.own(ctx, g)
	if err != nil {
		return err
	}
	for _, domain := range j.token.Domains {
		what := own(domain)
		for _, f := range j.cfg.Fetch {
			if slices.ContainsFunc(f.Domains, func(d string) bool { return strings.EqualFold(d, domain) }) {
				what = "is fetched from " + f.Provider
			}
		}
		if what != "" && !slices.ContainsFunc(j.Share, func(s string) bool { return strings.EqualFold(s, domain) }) {
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

// confine settles which domains the provider is asked for: those of the invitation that it grants. What it grants beyond them is told and left.
func (j *joining) confine(granted []string) error {
	set := func(domains []string) map[string]bool {
		m := map[string]bool{}
		for _, d := range domains {
			m[strings.ToLower(d)] = true
		}
		return m
	}
	invited, given := set(j.token.Domains), set(granted)
	j.result.Domains = slices.DeleteFunc(slices.Clone(j.token.Domains), func(d string) bool { return !given[strings.ToLower(d)] })
	if len(j.result.Domains) == 0 {
		return fmt.Errorf("the provider holds no mail for %s any more: ask there for a new invitation", strings.Join(j.token.Domains, ", "))
	}
	for _, d := range j.token.Domains {
		if !given[strings.ToLower(d)] {
			j.note("the provider does not hold the mail of %s any more", d)
		}
	}
	for _, d := range slices.Sorted(maps.Keys(given)) {
		if !invited[d] {
			j.note("the provider would bring mail for %q too, which the invitation does not name: it is not asked for. If it is yours, add it to fetch.domains", d)
		}
	}
	return nil
}

func (j *joining) note(format string, args ...any) {
	j.result.Notes = append(j.result.Notes, fmt.Sprintf(format, args...))
}
