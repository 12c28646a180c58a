package directory

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"bothy/application/message"
	"bothy/application/sasl"
)

// AddAccount stores a with the SCRAM verifier of password (and, if a.CRAM, the password itself, sealed). Its addresses' domains become
// local. A zero Created means now. It returns ErrTaken or ErrInvalid.
func (d *Directory) AddAccount(ctx context.Context, a Account, password string) error {
	name, err := checkName(a.Name)
	if err != nil {
		return err
	}
	v, err := d.newVerifier(name, password)
	if err != nil {
		return err
	}
	if a.Created.IsZero() {
		a.Created = time.Now()
	}
	return d.change(ctx, func(s *snapshot, exec execer) error {
		if err := s.freeName(name); err != nil {
			return err
		}
		var sealed []byte
		if a.CRAM {
			if sealed, err = d.seal(s, name, password); err != nil {
				return err
			}
		}
		err := exec("INSERT INTO account (name, disabled, created, salt, iterations, stored_key, server_key, cram) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			name, a.Disabled, a.Created.UnixMilli(), v.Salt, v.Iterations, v.StoredKey, v.ServerKey, sealed)
		for i, address := range a.Addresses {
			if err == nil && slices.ContainsFunc(a.Addresses[:i], func(b message.Address) bool { return canonical(b) == canonical(address) }) {
				err = refuse(ErrTaken, "%s is given twice", address)
			}
			if err == nil {
				err = s.insertAddress(exec, name, address)
			}
		}
		return err
	})
}

func (d *Directory) newVerifier(name, password string) (sasl.Verifier, error) {
	if password == "" {
		return sasl.Verifier{}, refuse(ErrInvalid, "the password of %s is empty", name)
	}
	v, err := sasl.NewVerifier(name, password, d.iterations)
	return v, refusePassword(name, err)
}

// refusePassword says what is wrong with a password.
func refusePassword(name string, err error) error {
	if err == nil {
		return nil
	}
	return refuse(ErrInvalid, "the password of %s will not do: %s", name, strings.TrimPrefix(strings.TrimPrefix(err.Error(), "sasl: "), "password: "))
}

// freeName says who has a name. Nobody may log in by a name that is somebody else's address.
func (s *snapshot) freeName(name string) error {
	if _, ok := s.accounts[name]; ok {
		return refuse(ErrTaken, "account %s exists already", name)
	}
	if a, ok := s.login(name); ok {
		return refuse(ErrTaken, "%s is an address of account %s", name, a.Name)
	}
	return nil
}

// insertAddress gives an address to an account that there is, or is about to be.
func (s *snapshot) insertAddress(exec execer, name string, address message.Address) error {
	address, err := checkAddress(address)
	if err != nil {
		return err
	}
	if owner, ok := s.addresses[address]; ok {
		return refuse(ErrTaken, "%s is an address of account %s already", address, owner)
	}
	if targets := s.aliases[address]; len(targets) > 0 {
		return refuse(ErrTaken, "%s is an alias of %s: remove that first", address, targets[0])
	}
	if _, ok := s.accounts[address.String()]; ok && address.String() != name {
		return refuse(ErrTaken, "%s is the name of another account", address)
	}
	if err := s.freeForLocal(address.Domain); err != nil {
		return err
	}
	return exec("INSERT INTO address (local, domain, account) VALUES (?, ?, ?)", address.Local, address.Domain, name)
}

// seal seals a password. A new key must not take the place of one that was lost: the passwords under it would be gone unnoticed.
func (d *Directory) seal(s *snapshot, name, password string) ([]byte, error) {
	if _, err := os.Stat(d.key.file); errors.Is(err, fs.ErrNotExist) {
		for other, a := range s.accounts {
			if a.CRAM && other != name {
				return nil, refuse(ErrNotFound, "%s, the key of the CRAM-MD5 passwords, is missing: bring it back, or take CRAM-MD5 from account %s first",
					d.key.file, other)
			}
		}
	}
	return d.key.seal(name, password)
}

// SetPassword gives the account a new password, for every mechanism that it may use.
func (d *Directory) SetPassword(ctx context.Context, name, password string) error {
	return d.setPassword(ctx, name, password, func(a *account) bool { return a.CRAM })
}

// SetCRAM lets an account use CRAM-MD5, for which its password must be given (and becomes its password), or no longer; then password
// is not looked at.
func (d *Directory) SetCRAM(ctx context.Context, name string, allow bool, password string) error {
	if allow {
		return d.setPassword(ctx, name, password, func(*account) bool { return true })
	}
	return d.changeAccount(ctx, name, func(a *account, _ *snapshot, exec execer) error {
		return exec("UPDATE account SET cram = NULL WHERE name = ?", a.Name)
	})
}

func (d *Directory) setPassword(ctx context.Context, name, password string, cram func(*account) bool) error {
	v, err := d.newVerifier(canonicalName(name), password)
	if err != nil {
		return err
	}
	return d.changeAccount(ctx, name, func(a *account, s *snapshot, exec execer) error {
		if len(a.apps) > 0 { // they stand under the same salt
			v.Salt, v.Iterations = a.verifier.Salt, a.verifier.Iterations
			if v.Keys, err = v.KeysOf(password); err != nil {
				return refusePassword(a.Name, err)
			}
		}
		var sealed []byte
		if cram(a) {
			if sealed, err = d.seal(s, a.Name, password); err != nil {
				return err
			}
		}
		return exec("UPDATE account SET salt = ?, iterations = ?, stored_key = ?, server_key = ?, cram = ? WHERE name = ?",
			v.Salt, v.Iterations, v.StoredKey, v.ServerKey, sealed, a.Name)
	})
}

// SetDisabled stops an account from logging in and sending, or lets it again. Mail for it is accepted either way.
func (d *Directory) SetDisabled(ctx context.Context, name string, disabled bool) error {
	return d.changeAccount(ctx, name, func(a *account, _ *snapshot, exec execer) error {
		return exec("UPDATE account SET disabled = ? WHERE name = ?", disabled, a.Name)
	})
}

// RemoveAccount removes an account, its addresses and its certificates. Aliases that led to it stay and lead nowhere. A customer
// must be removed as such first.
func (d *Directory) RemoveAccount(ctx context.Context, name string) error {
	return d.changeAccount(ctx, name, func(a *account, s *snapshot, exec execer) error {
		if c, ok := s.customers[a.Name]; ok {
			return refuse(ErrTaken, "account %s is the customer for %s: remove the customer first", a.Name, strings.Join(c.Domains, ", "))
		}
		return exec("DELETE FROM account WHERE name = ?", a.Name)
	})
}

// AddAddress gives an account one more address, whose domain becomes local.
func (d *Directory) AddAddress(ctx context.Context, name string, address message.Address) error {
	return d.changeAccount(ctx, name, func(a *account, s *snapshot, exec execer) error {
		return s.insertAddress(exec, a.Name, address)
	})
}

// RemoveAddress takes an address from its account.
func (d *Directory) RemoveAddress(ctx context.Context, address message.Address) error {
	address = canonical(address)
	return d.change(ctx, func(s *snapshot, exec execer) error {
		if _, ok := s.addresses[address]; !ok {
			return refuse(ErrNotFound, "%s is no account's address", address)
		}
		return exec("DELETE FROM address WHERE local = ? AND domain = ?", address.Local, address.Domain)
	})
}

// AddCertificate lets whoever holds a key log in to an account by EXTERNAL. fingerprint is that of [Fingerprint].
func (d *Directory) AddCertificate(ctx context.Context, name, fingerprint string) error {
	fingerprint, err := checkFingerprint(fingerprint)
	if err != nil {
		return err
	}
	return d.changeAccount(ctx, name, func(a *account, s *snapshot, exec execer) error {
		if owner, ok := s.certificates[fingerprint]; ok {
			return refuse(ErrTaken, "this key logs in to account %s already", owner)
		}
		return exec("INSERT INTO certificate (fingerprint, account) VALUES (?, ?)", fingerprint, a.Name)
	})
}

// RemoveCertificate takes back AddCertificate.
func (d *Directory) RemoveCertificate(ctx context.Context, fingerprint string) error {
	fingerprint, err := checkFingerprint(fingerprint)
	if err != nil {
		return err
	}
	return d.change(ctx, func(s *snapshot, exec execer) error {
		if _, ok := s.certificates[fingerprint]; !ok {
			return refuse(ErrNotFound, "no account has the key %s", fingerprint)
		}
		return exec("DELETE FROM certificate WHERE fingerprint = ?", fingerprint)
	})
}

// changeAccount is change for an account that there must be.
func (d *Directory) changeAccount(ctx context.Context, name string, edit func(a *account, s *snapshot, exec execer) error) error {
	return d.change(ctx, func(s *snapshot, exec execer) error {
		a, err := s.account(canonicalName(name))
		if err != nil {
			return err
		}
		return edit(a, s, exec)
	})
}
