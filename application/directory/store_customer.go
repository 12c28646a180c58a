package directory

import (
	"context"
	"net"
	"slices"
	"strconv"
	"time"
)

// AddCustomer makes an existing account a customer for domains, at least one. A domain that is local, or another customer's, is refused
// with ErrTaken; one that ATRN could not name with ErrInvalid (RFC 2645 §5.2.1).
func (d *Directory) AddCustomer(ctx context.Context, c Customer) error {
	return d.changeCustomer(ctx, c, func(s *snapshot, name string, exec execer) error {
		if _, ok := s.customers[name]; ok {
			return refuse(ErrTaken, "account %s is a customer already", name)
		}
		return putAll(exec, customerRows, [][]any{c.row(name)})
	})
}

// SetCustomer changes all of a customer but its last contact. Mail that waits for a domain it no longer has is not this package's to move.
func (d *Directory) SetCustomer(ctx context.Context, c Customer) error {
	return d.changeCustomer(ctx, c, func(s *snapshot, name string, exec execer) error {
		if _, err := s.customer(name); err != nil {
			return err
		}
		if err := putAll(exec, customerRows, [][]any{c.row(name)}); err != nil {
			return err
		}
		return exec("DELETE FROM customer_domain WHERE account = ?", name)
	})
}

// customerRows are customers; one that is there keeps its last contact.
var customerRows = rows{"customer", "account, min_interval, empty_turns, linger, long_poll, keep_large, host, budget, largest, last_contact", ` ON CONFLICT (account) DO UPDATE SET
	min_interval = excluded.min_interval, empty_turns = excluded.empty_turns, linger = excluded.linger, long_poll = excluded.long_poll,
	keep_large = excluded.keep_large, host = excluded.host, budget = excluded.budget, largest = excluded.largest`}

// row is one of customerRows.
func (c *Customer) row(name string) []any {
	return []any{
		name, c.MinInterval.Milliseconds(), c.EmptyTurns, c.Linger.Milliseconds(), c.LongPoll.Milliseconds(), c.KeepLarge, c.Host, c.Budget, c.Largest,
		milliseconds(c.LastContact),
	}
}

// changeCustomer checks c, lets edit write the customer, and then writes its domains.
func (d *Directory) changeCustomer(ctx context.Context, c Customer, edit func(s *snapshot, name string, exec execer) error) error {
	if err := c.check(); err != nil {
		return err
	}
	domains, err := c.checkDomains()
	if err != nil {
		return err
	}
	return d.changeAccount(ctx, c.Account, func(a *account, s *snapshot, exec execer) error {
		if err := edit(s, a.Name, exec); err != nil {
			return err
		}
		for _, domain := range domains {
			if err := s.freeForCustomer(domain, a.Name); err != nil {
				return err
			}
			if err := exec("INSERT INTO customer_domain (name, account) VALUES (?, ?)", domain, a.Name); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkDomains returns the domains as they are kept, each once.
func (c *Customer) checkDomains() (domains []string, err error) {
	if len(c.Domains) == 0 {
		return nil, refuse(ErrInvalid, "customer %s has no domain: name at least one", c.Account)
	}
	for _, domain := range c.Domains {
		domain, err := checkHeld(domain)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(domains, domain) {
			domains = append(domains, domain)
		}
	}
	return domains, nil
}

// check refuses what is no time to wait, no host to go to and no size.
func (c *Customer) check() error {
	for what, d := range map[string]time.Duration{
		"an interval between calls": c.MinInterval, "a session that lingers": c.Linger, "an answer to ATRN held back": c.LongPoll,
	} {
		if d < 0 || d%time.Millisecond != 0 {
			return refuse(ErrInvalid, "%s of %v: want whole milliseconds, 0 for none", what, d)
		}
	}
	if c.LongPoll > MaxLongPoll {
		return refuse(ErrInvalid, "an answer to ATRN held back for %v: at most %v, or customers give up", c.LongPoll, MaxLongPoll)
	}
	if c.Budget < 0 || c.Largest < 0 {
		return refuse(ErrInvalid, "a budget of %d octets with messages of at most %d: want no negative numbers, 0 for no bound", c.Budget, c.Largest)
	}
	return checkHost(c.Host)
}

// checkHost refuses what cannot be dialled.
func checkHost(address string) error {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || host == "" || n == 0 {
		return refuse(ErrInvalid, "%q is not host:port, such as \"mail.clinic.example:25\"", address)
	}
	return nil
}

// freeForCustomer refuses a domain that is local or another customer's.
func (s *snapshot) freeForCustomer(domain, name string) error {
	if other, ok := s.held[domain]; ok && other != name {
		return refuse(ErrTaken, "domain %s is already held for customer %s", domain, other)
	}
	if !s.local[domain] {
		return nil
	}
	if address, ok := s.somebodyAt(domain); ok {
		return refuse(ErrTaken, "domain %s is local: %s is here", domain, address)
	}
	return refuse(ErrTaken, "domain %s is local", domain)
}

// RemoveCustomer makes a customer a mere account again; its domains are nobody's then.
func (d *Directory) RemoveCustomer(ctx context.Context, account string) error {
	name := canonicalName(account)
	err := d.change(ctx, func(s *snapshot, exec execer) error {
		if _, err := s.customer(name); err != nil {
			return err
		}
		return exec("DELETE FROM customer WHERE account = ?", name)
	})
	if err == nil {
		d.contacts.forget(name)
	}
	return err
}
