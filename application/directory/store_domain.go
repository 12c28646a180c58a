package directory

import (
	"context"

	"bothy/application/message"
)

// AddDomain makes a domain local though no address is in it yet; its postmaster resolves. The first one added is the chief domain.
func (d *Directory) AddDomain(ctx context.Context, domain string) error {
	domain, err := checkDomain(domain)
	if err != nil {
		return err
	}
	return d.change(ctx, func(s *snapshot, exec execer) error {
		if s.added[domain] {
			return refuse(ErrTaken, "domain %s is local already", domain)
		}
		if err := s.freeForLocal(domain); err != nil {
			return err
		}
		return exec("INSERT INTO domain (name) VALUES (?)", domain)
	})
}

// RemoveDomain takes back AddDomain. A domain with addresses or aliases stays local, so it is refused.
func (d *Directory) RemoveDomain(ctx context.Context, domain string) error {
	domain = canonicalDomain(domain)
	return d.change(ctx, func(s *snapshot, exec execer) error {
		if !s.local[domain] {
			return refuse(ErrNotFound, "domain %s is not local", domain)
		}
		if name, ok := s.somebodyAt(domain); ok {
			return refuse(ErrTaken, "domain %s is that of %s: remove its addresses and aliases first", domain, name)
		}
		return exec("DELETE FROM domain WHERE name = ?", domain)
	})
}

// freeForLocal refuses a domain that is held for a customer.
func (s *snapshot) freeForLocal(domain string) error {
	if name, ok := s.held[domain]; ok {
		return refuse(ErrTaken, "domain %s is already held for customer %s", domain, name)
	}
	return nil
}

// somebodyAt finds an address or alias of a domain.
func (s *snapshot) somebodyAt(domain string) (message.Address, bool) {
	for address := range s.addresses {
		if address.Domain == domain {
			return address, true
		}
	}
	for address := range s.aliases {
		if address.Domain == domain {
			return address, true
		}
	}
	return message.Address{}, false
}

// AddAlias lets mail for alias go to target as well, which must lead to an account; alias may have several targets. The alias's domain
// becomes local.
func (d *Directory) AddAlias(ctx context.Context, alias, target message.Address) error {
	alias, err1 := checkAddress(alias)
	if err1 != nil {
		return err1
	}
	target, err := checkAddress(target)
	if err != nil {
		return err
	}
	return d.change(ctx, func(s *snapshot, exec execer) error {
		if owner, ok := s.addresses[alias]; ok {
			return refuse(ErrTaken, "%s is an address of account %s", alias, owner)
		}
		for _, other := range s.aliases[alias] {
			if other == target {
				return refuse(ErrTaken, "%s is an alias of %s already", alias, target)
			}
		}
		if err := s.freeForLocal(alias.Domain); err != nil {
			return err
		}
		way := resolution{snapshot: s, seen: map[message.Address]bool{}}
		way.follow(target, 1)
		switch {
		case target == alias || way.seen[alias]:
			return refuse(ErrInvalid, "%s leads back to %s", target, alias)
		case len(way.accounts) == 0:
			return refuse(ErrNotFound, "%s leads to no account here", target)
		}
		return exec("INSERT INTO alias (local, domain, target_local, target_domain) VALUES (?, ?, ?, ?)",
			alias.Local, alias.Domain, target.Local, target.Domain)
	})
}

// RemoveAlias takes back AddAlias; the zero target stands for all targets of the alias.
func (d *Directory) RemoveAlias(ctx context.Context, alias, target message.Address) error {
	alias, target = canonical(alias), canonical(target)
	return d.change(ctx, func(s *snapshot, exec execer) error {
		found := false
		for _, t := range s.aliases[alias] {
			found = found || target == t || target.IsNull()
		}
		switch {
		case !found:
			return refuse(ErrNotFound, "there is no alias %s of %s", alias, target)
		case target.IsNull():
			return exec("DELETE FROM alias WHERE local = ? AND domain = ?", alias.Local, alias.Domain)
		}
		return exec("DELETE FROM alias WHERE local = ? AND domain = ? AND target_local = ? AND target_domain = ?",
			alias.Local, alias.Domain, target.Local, target.Domain)
	})
}
