package directory

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bothy/application/sasl"
)

// Entry is a customer as it is to be after an Import, with its quota. An empty account is called as the first domain.
type Entry struct {
	Customer

	// Was is the customer that the entry was made of, without an account where there was none: one that is otherwise by now, for somebody else has
	// changed it, is refused with ErrMoved. Nil: it may be as it will.
	Was *Customer

	// For an account that there is not yet.
	Password string        // empty: none is known to anybody
	Invite   time.Duration // how long its site may join by invitation; 0: it gets none
}

// Entered is what became of an Entry.
type Entered struct {
	Account    string
	Domains    []string
	Change     Change
	Fresh      bool       // the account was made
	Invitation Invitation // whose secret cannot be had again
	Secret     string
}

// ImportOptions are how to Import.
type ImportOptions struct {
	DryRun   bool // say what would become of the entries, and why not, and change nothing
	Now      time.Time
	Progress func(done, of int) // is told how many accounts have their credentials, from several goroutines; nil: nobody is
}

// ErrMoved says that the directory was changed by somebody else while Import made credentials, or since an Entry was made.
var ErrMoved = errors.New("directory: changed meanwhile: do the same again")

// Import adds customers, with accounts where there are none, and changes those that there are, all in one transaction or not at all; who is not among
// the entries stays as he is. The same entries once more change nothing. What is wrong with them is an EntryError each, joined.
func (d *Directory) Import(ctx context.Context, given []Entry, o ImportOptions) ([]Entered, error) {
	entries, err := checkEntries(given)
	if err != nil {
		return nil, err
	}
	if err := d.Refresh(ctx); err != nil {
		return nil, err
	}
	j, err := d.state.Load().judge(entries)
	if err != nil {
		return nil, err
	}
	all := make([]Entered, len(entries))
	for i, e := range entries {
		all[i] = Entered{Account: e.Account, Domains: e.Domains, Change: j.changes[i]}
	}
	for _, i := range j.fresh {
		all[i].Fresh = true
	}
	if o.DryRun || !slices.ContainsFunc(j.changes, func(c Change) bool { return c != Unchanged }) {
		return all, nil
	}
	made, err := d.makeCredentials(ctx, entries, j.fresh, all, o)
	if err != nil {
		return nil, err
	}
	err = d.change(ctx, func(s *snapshot, exec execer) error {
		again, err := s.judge(entries)
		switch {
		case err != nil:
			return err
		case !slices.Equal(again.fresh, j.fresh) || !slices.Equal(again.changes, j.changes):
			return ErrMoved
		}
		return s.enter(exec, entries, j, made, o.Now)
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// credentials are what a new account is entered with.
type credentials struct {
	verifier sasl.Verifier
	invited  sasl.Verifier
}

// makeCredentials makes the credentials of new accounts, on all processors: where there are passwords they take most of the time.
func (d *Directory) makeCredentials(ctx context.Context, entries []Entry, fresh []int, all []Entered, o ImportOptions) ([]credentials, error) {
	made := make([]credentials, len(fresh))
	errs := make([]error, runtime.GOMAXPROCS(0))
	var next, done atomic.Int64
	var wait sync.WaitGroup
	for w := range errs {
		wait.Go(func() {
			for ctx.Err() == nil && errs[w] == nil {
				n := int(next.Add(1)) - 1
				if n >= len(fresh) {
					return
				}
				i := fresh[n]
				if err := d.makeLogin(&made[n], &entries[i], &all[i], o.Now); err != nil {
					errs[w] = &EntryError{i, -1, err}
				}
				if o.Progress != nil {
					o.Progress(int(done.Add(1)), len(fresh))
				}
			}
		})
	}
	wait.Wait()
	return made, errors.Join(append(errs, ctx.Err())...)
}

func (d *Directory) makeLogin(c *credentials, e *Entry, made *Entered, now time.Time) (err error) {
	if e.Password != "" {
		c.verifier, err = d.newVerifier(e.Account, e.Password)
	} else {
		c.verifier, err = d.unknownVerifier()
	}
	if err == nil && e.Invite > 0 {
		made.Invitation, made.Secret, c.invited, err = newInvitation(e.Account, e.Invite, now)
	}
	return err
}

// unknownVerifier is that of a password that nobody knows: keys without one.
func (d *Directory) unknownVerifier() (sasl.Verifier, error) {
	random := make([]byte, 2*sha256.Size+saltLength)
	rand.Read(random)
	count := d.iterations
	if count == 0 {
		count = sasl.DefaultIterations
	}
	return sasl.Verifier{
		Salt: random[2*sha256.Size:], Iterations: count,
		Keys: sasl.Keys{StoredKey: random[:sha256.Size], ServerKey: random[sha256.Size : 2*sha256.Size]},
	}, nil
}

const saltLength = 16 // octets, as sasl.NewVerifier's

// The rows that Import writes besides customerRows and quotaRows.
var (
	accountRows    = rows{table: "account", columns: "name, disabled, created, salt, iterations, stored_key, server_key"}
	domainRows     = rows{table: "customer_domain", columns: "name, account"}
	invitationRows = rows{table: "invitation", columns: "id, account, salt, iterations, stored_key, server_key, created, expires"}
)

// enter writes what was judged.
func (s *snapshot) enter(exec execer, entries []Entry, j judgement, made []credentials, now time.Time) error {
	var accounts, customers, domains, quotas, invitations [][]any
	for n, i := range j.fresh {
		e, v := &entries[i], &made[n].verifier
		accounts = append(accounts, []any{e.Account, false, now.UnixMilli(), v.Salt, v.Iterations, v.StoredKey, v.ServerKey})
		if v := &made[n].invited; v.Account != "" {
			invitations = append(invitations, []any{v.Account, e.Account, v.Salt, v.Iterations, v.StoredKey, v.ServerKey, now.UnixMilli(), now.Add(e.Invite).UnixMilli()})
		}
	}
	for i := range entries {
		e := &entries[i]
		var had Quota
		switch j.changes[i] {
		case Unchanged:
			continue
		case Changed: // first, for a domain may go to another
			if err := exec("DELETE FROM customer_domain WHERE account = ?", e.Account); err != nil {
				return err
			}
			had = s.customers[e.Account].Quota
		}
		customers = append(customers, e.row(e.Account))
		for _, domain := range e.Domains {
			domains = append(domains, []any{domain, e.Account})
		}
		if e.Quota != had {
			quotas = append(quotas, e.Quota.row(e.Account, had.Warned))
		}
	}
	for _, part := range []struct {
		rows
		all [][]any
	}{{accountRows, accounts}, {customerRows, customers}, {domainRows, domains}, {quotaRows, quotas}, {invitationRows, invitations}} {
		if err := putAll(exec, part.rows, part.all); err != nil {
			return err
		}
	}
	return nil
}

// rowsAtOnce go with one statement, which costs more than a row; SQLite takes 32766 values with one.
const rowsAtOnce = 500

// putAll writes rows.
func putAll(exec execer, r rows, all [][]any) error {
	for chunk := range slices.Chunk(all, rowsAtOnce) {
		if err := exec(r.statement(len(chunk)), slices.Concat(chunk...)...); err != nil {
			return err
		}
	}
	return nil
}
