package directory

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Change is what Import did with an entry.
type Change int

// What becomes of an entry.
const (
	Unchanged Change = iota // the customer is as the entry says
	Changed                 // it was there, and is otherwise now
	Added
)

// EntryError says what is wrong with one entry of an Import.
type EntryError struct {
	Entry int // its index
	With  int // the index of the entry that it contradicts; -1: none
	Err   error
}

func (e *EntryError) Error() string { return fmt.Sprintf("entry %d: %v", e.Entry, e.Err) }
func (e *EntryError) Unwrap() error { return e.Err }

// maxEntryErrors are as many as anybody reads.
const maxEntryErrors = 100

// judgement is what an Import comes to.
type judgement struct {
	changes []Change // by entry
	fresh   []int    // entries whose account there is not
}

// checkEntries brings entries into the form in which they are kept. Its errors are EntryErrors, joined.
func checkEntries(given []Entry) ([]Entry, error) {
	entries := slices.Clone(given)
	var errs entryErrors
	for i := range entries {
		errs.add(i, -1, entries[i].check())
	}
	return entries, errs.join()
}

func (e *Entry) check() (err error) {
	if e.Domains, err = e.checkDomains(); err != nil {
		return err
	}
	if e.Account, err = checkName(cmp.Or(e.Account, e.Domains[0])); err != nil {
		return err
	}
	if err := e.Quota.check(); err != nil {
		return err
	}
	if e.Invite != 0 && e.Invite < minInvitation {
		return refuse(ErrInvalid, "an invitation for %v: at least %v", e.Invite, minInvitation)
	}
	if !e.Quota.Warn.IsNull() && slices.Contains(e.Domains, canonical(e.Quota.Warn).Domain) {
		return refuse(ErrInvalid, "%s is in a domain of %s itself: a warning would wait there with the rest", e.Quota.Warn, e.Account)
	}
	return e.Customer.check()
}

// judge says what entries, which were checked, change; or, all of it, why they cannot be as they are. A domain may go from one of them to another.
func (s *snapshot) judge(entries []Entry) (judgement, error) {
	j := judgement{changes: make([]Change, len(entries))}
	var errs entryErrors
	named, claimed := make(map[string]int, len(entries)), make(map[string]int, len(entries))
	for i := range entries {
		e := &entries[i]
		if with, twice := named[e.Account]; twice {
			errs.add(i, with, refuse(ErrTaken, "account %s is named twice", e.Account))
			continue
		}
		named[e.Account] = i
		for _, domain := range e.Domains {
			if with, twice := claimed[domain]; twice {
				errs.add(i, with, refuse(ErrTaken, "domain %s is given to %s and to %s", domain, entries[with].Account, e.Account))
				continue
			}
			claimed[domain] = i
		}
	}
	for i := range entries {
		e := &entries[i]
		for _, domain := range e.Domains {
			if _, moves := named[s.held[domain]]; !moves {
				errs.add(i, -1, s.freeForCustomer(domain, e.Account))
			}
		}
		if _, ok := s.accounts[e.Account]; !ok {
			errs.add(i, -1, s.freeName(e.Account))
			j.fresh = append(j.fresh, i)
		}
		switch before := s.customers[e.Account]; {
		case e.moved(before):
			errs.add(i, -1, ErrMoved)
		case before == nil:
			j.changes[i] = Added
		case !sameCustomer(before, &e.Customer):
			j.changes[i] = Changed
		}
		if errs.many() {
			break
		}
	}
	return j, errs.join()
}

// moved reports whether a customer, nil where there is none, is not what the entry was made of.
func (e *Entry) moved(before *Customer) bool {
	switch {
	case e.Was == nil:
		return false
	case before == nil:
		return e.Was.Account != ""
	}
	return !sameCustomer(before, e.Was)
}

// sameCustomer reports whether an entry says what a customer is. When it called, and was warned, is no matter of an entry's.
func sameCustomer(before, e *Customer) bool {
	x, y := *before, *e
	y.LastContact, y.Disabled, y.Quota.Warned = x.LastContact, x.Disabled, x.Quota.Warned
	return reflect.DeepEqual(x, y)
}

// entryErrors are what is wrong.
type entryErrors []*EntryError

func (e *entryErrors) add(entry, with int, err error) {
	if err != nil && !e.many() {
		*e = append(*e, &EntryError{entry, with, err})
	}
}

func (e *entryErrors) many() bool { return len(*e) >= maxEntryErrors }

// join returns them in the order of the entries.
func (e *entryErrors) join() error {
	slices.SortStableFunc(*e, func(a, b *EntryError) int { return cmp.Compare(a.Entry, b.Entry) })
	var all []error
	for _, err := range *e {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// rows are what statements of one kind write.
type rows struct {
	table   string
	columns string
	there   string // what to do with a row that is there; "": that fails
}

// statement is the one for n rows.
func (r rows) statement(n int) string {
	marks := ", (?" + strings.Repeat(", ?", strings.Count(r.columns, ",")) + ")"
	return "INSERT INTO " + r.table + " (" + r.columns + ") VALUES " + strings.Repeat(marks, n)[2:] + r.there
}
