package directory

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"time"

	"bothy/application/sasl"
)

// ErrInvitation says that an invitation cannot be used, or not any more.
var ErrInvitation = errors.New("directory: invitation of no use")

// Invitation lets a site set the credentials of its account, once. Whoever has its secret proves so by SCRAM; the secret itself is not
// kept.
type Invitation struct {
	ID      string    `json:"id"`
	Account string    `json:"account"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Used    time.Time `json:"used,omitzero"`
	UsedBy  string    `json:"used_by,omitempty"` // the address of the site that did
	Revoked bool      `json:"revoked,omitempty"`
}

// invitation is an Invitation with what stays inside.
type invitation struct {
	Invitation
	verifier sasl.Verifier
	key      []byte // StoredKey of the credentials that it was used for
}

// Open reports whether the invitation may be used.
func (i Invitation) Open(now time.Time) bool {
	return i.Used.IsZero() && !i.Revoked && now.Before(i.Expires)
}

const (
	// minInvitation keeps an invitation from expiring while it is being read out.
	minInvitation = time.Minute
	// keptInvitation is how long one that is of no use any more is remembered, so that its site is told why.
	keptInvitation = 30 * 24 * time.Hour
	// invitationID is the length of an ID, in characters of 5 bits: a million that are imported at once must differ, or none would be taken.
	invitationID = 12
)

func newInvitation(account string, life time.Duration, now time.Time) (i Invitation, secret string, v sasl.Verifier, err error) {
	i = Invitation{ID: strings.ToLower(rand.Text()[:invitationID]), Account: account, Created: now, Expires: now.Add(life)}
	secret = rand.Text() // 130 bits
	v, err = sasl.NewRandomVerifier(i.ID, secret)
	return i, secret, v, err
}

// Invite makes an invitation to an account, good for life, and revokes those made before. The secret cannot be had again.
func (d *Directory) Invite(ctx context.Context, name string, life time.Duration, now time.Time) (i Invitation, secret string, err error) {
	if life < minInvitation {
		return i, "", refuse(ErrInvalid, "an invitation for %v: at least %v", life, minInvitation)
	}
	i, secret, v, err := newInvitation(canonicalName(name), life, now)
	if err != nil {
		return i, "", err
	}
	err = d.changeAccount(ctx, name, func(a *account, _ *snapshot, exec execer) error {
		if err := revoke(exec, a.Name); err != nil {
			return err
		}
		if err := exec("DELETE FROM invitation WHERE expires < ?", now.Add(-keptInvitation).UnixMilli()); err != nil {
			return err
		}
		return exec("INSERT INTO invitation (id, account, salt, iterations, stored_key, server_key, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			i.ID, a.Name, v.Salt, v.Iterations, v.StoredKey, v.ServerKey, i.Created.UnixMilli(), i.Expires.UnixMilli())
	})
	return i, secret, err
}

// Uninvite revokes what invitations of an account are open, and returns how many there were.
func (d *Directory) Uninvite(ctx context.Context, name string, now time.Time) (n int, err error) {
	err = d.changeAccount(ctx, name, func(a *account, s *snapshot, exec execer) error {
		for _, i := range s.invitations {
			if i.Account == a.Name && i.Open(now) {
				n++
			}
		}
		return revoke(exec, a.Name)
	})
	return n, err
}

func revoke(exec execer, account string) error {
	return exec("UPDATE invitation SET revoked = 1 WHERE account = ? AND used = 0", account)
}

// Invitations returns the invitations of an account, the newest first.
func (d *Directory) Invitations(account string) []Invitation {
	all := []Invitation{}
	for _, i := range d.state.Load().invitations {
		if i.Account == canonicalName(account) {
			all = append(all, i.Invitation)
		}
	}
	slices.SortFunc(all, func(a, b Invitation) int { return b.Created.Compare(a.Created) })
	return all
}

// Invited returns what is kept of an invitation's secret, whether or not it may still be used: whoever has it learns why not. It returns
// sasl.ErrCredentials where there is none of that ID.
func (d *Directory) Invited(id string) (sasl.Verifier, error) {
	i, ok := d.state.Load().invitations[id]
	if !ok {
		return sasl.Verifier{}, sasl.ErrCredentials
	}
	return i.verifier, nil
}

// Redeem uses an invitation: its account gets the password behind v, and the key with this fingerprint, if one is given, logs in to it too.
// from is the site's address, for the operator. It returns ErrInvitation where the invitation is of no use any more; doing the same again
// is no error, for the reply to the first may have been lost.
func (d *Directory) Redeem(ctx context.Context, id string, v sasl.Verifier, fingerprint, from string, now time.Time) (account string, err error) {
	if fingerprint != "" {
		if fingerprint, err = checkFingerprint(fingerprint); err != nil {
			return "", err
		}
	}
	if err := checkVerifier(v); err != nil {
		return "", err
	}
	err = d.change(ctx, func(s *snapshot, exec execer) error {
		i, ok := s.invitations[id]
		if !ok {
			return refuse(ErrInvitation, "there is no such invitation")
		}
		account = i.Account
		if bytes.Equal(i.key, v.StoredKey) && bytes.Equal(s.accounts[account].verifier.StoredKey, v.StoredKey) {
			return nil
		}
		if err := i.check(now); err != nil {
			return err
		}
		if s.accounts[account].Disabled {
			return refuse(ErrInvitation, "account %s is disabled", account)
		}
		if owner, ok := s.certificates[fingerprint]; ok && owner != account {
			return refuse(ErrTaken, "the site's key logs in to another account already")
		}
		err := exec("UPDATE account SET salt = ?, iterations = ?, stored_key = ?, server_key = ?, cram = NULL WHERE name = ?",
			v.Salt, v.Iterations, v.StoredKey, v.ServerKey, account)
		for _, table := range []string{"certificate", "app_password"} { // whoever had them has them no longer; and the latter stand under the old salt
			if err == nil {
				err = exec("DELETE FROM "+table+" WHERE account = ?", account)
			}
		}
		if err == nil && fingerprint != "" {
			err = exec("INSERT INTO certificate (fingerprint, account) VALUES (?, ?)", fingerprint, account)
		}
		if err != nil {
			return err
		}
		return exec("UPDATE invitation SET used = ?, used_by = ?, used_key = ? WHERE id = ?", now.UnixMilli(), from, v.StoredKey, id)
	})
	return account, err
}

// check says why an invitation cannot be used.
func (i invitation) check(now time.Time) error {
	switch {
	case !i.Used.IsZero():
		return refuse(ErrInvitation, "this invitation was used on %s from %s", moment(i.Used), i.UsedBy)
	case i.Revoked:
		return refuse(ErrInvitation, "this invitation was revoked, or a newer one was made")
	case !now.Before(i.Expires):
		return refuse(ErrInvitation, "this invitation expired on %s", moment(i.Expires))
	}
	return nil
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// checkVerifier refuses what no client could log in with.
func checkVerifier(v sasl.Verifier) error {
	if len(v.StoredKey) != sha256.Size || len(v.ServerKey) != sha256.Size || len(v.Salt) < 8 || len(v.Salt) > 64 {
		return refuse(ErrInvalid, "a key or salt of the wrong length")
	}
	if v.Iterations < 4096 || v.Iterations > 100_000 { // RFC 7677 §4; and each PLAIN login costs the server as much
		return refuse(ErrInvalid, "%d iterations: want 4096 to 100000", v.Iterations)
	}
	return nil
}

func (s *snapshot) loadInvitation(scan func(...any) error) error {
	var i invitation
	var created, expires, used int64
	v := &i.verifier
	if err := scan(&i.ID, &i.Account, &v.Salt, &v.Iterations, &v.StoredKey, &v.ServerKey, &created, &expires, &used, &i.UsedBy, &i.key, &i.Revoked); err != nil {
		return err
	}
	v.Account = i.ID
	i.Created, i.Expires = time.UnixMilli(created).UTC(), time.UnixMilli(expires).UTC()
	if used != 0 {
		i.Used = time.UnixMilli(used).UTC()
	}
	if _, ok := s.accounts[i.Account]; ok { // else a hand that bypassed the foreign key wrote this
		s.invitations[i.ID] = i
	}
	return nil
}
