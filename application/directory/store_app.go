package directory

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"

	"bothy/application/sasl"
)

// AppPassword is a password of its own for one of an account's programs: it logs in as the account, and can be taken back alone. CRAM-MD5,
// for which the password itself would have to be kept, does not take it.
type AppPassword struct {
	Account string    `json:"account"`
	App     string    `json:"app"` // the program or device, as its owner calls it
	Created time.Time `json:"created"`
}

const (
	maxApps    = 50  // of an account: a login looks at all of them
	maxAppName = 100 // octets
)

// AddAppPassword gives an account one more password. It returns ErrNotFound, ErrTaken where the account has one for that app, or ErrInvalid.
func (d *Directory) AddAppPassword(ctx context.Context, name, app, password string) error {
	app = strings.TrimSpace(app)
	switch {
	case app == "" || len(app) > maxAppName || strings.ContainsFunc(app, func(r rune) bool { return !unicode.IsPrint(r) }):
		return refuse(ErrInvalid, "%q names no app: want 1 to %d octets that can be printed", app, maxAppName)
	case password == "":
		return refuse(ErrInvalid, "the password for %s is empty", app)
	}
	return d.changeAccount(ctx, name, func(a *account, _ *snapshot, exec execer) error {
		switch {
		case a.hasApp(app):
			return refuse(ErrTaken, "account %s has a password for %q already", a.Name, app)
		case len(a.apps) >= maxApps:
			return refuse(ErrInvalid, "account %s has %d app passwords: remove one first", a.Name, len(a.apps))
		}
		keys, err := a.verifier.KeysOf(password)
		if err != nil {
			return refusePassword(app, err)
		}
		return exec("INSERT INTO app_password (account, name, created, stored_key, server_key) VALUES (?, ?, ?, ?, ?)",
			a.Name, app, time.Now().UnixMilli(), keys.StoredKey, keys.ServerKey)
	})
}

// RemoveAppPassword takes back AddAppPassword.
func (d *Directory) RemoveAppPassword(ctx context.Context, name, app string) error {
	return d.changeAccount(ctx, name, func(a *account, _ *snapshot, exec execer) error {
		if !a.hasApp(app) {
			return refuse(ErrNotFound, "account %s has no password for %q", a.Name, app)
		}
		return exec("DELETE FROM app_password WHERE account = ? AND name = ?", a.Name, app)
	})
}

// AppPasswords returns all of them, sorted by account and app.
func (d *Directory) AppPasswords(context.Context) ([]AppPassword, error) {
	s := d.state.Load()
	all := []AppPassword{}
	for _, name := range slices.Sorted(slices.Values(s.order)) {
		all = append(all, s.accounts[name].apps...)
	}
	return all, nil
}

func (a *account) hasApp(app string) bool {
	return slices.ContainsFunc(a.apps, func(p AppPassword) bool { return p.App == app })
}

func (s *snapshot) loadAppPassword(scan func(...any) error) error {
	var p AppPassword
	var k sasl.Keys
	var created int64
	if err := scan(&p.Account, &p.App, &created, &k.StoredKey, &k.ServerKey); err != nil {
		return err
	}
	p.Created = time.UnixMilli(created).UTC()
	if a, ok := s.accounts[p.Account]; ok {
		a.apps = append(a.apps, p)
		a.verifier.Apps = append(a.verifier.Apps, k)
	}
	return nil
}
