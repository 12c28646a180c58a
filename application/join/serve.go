package join

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/sasl"
	"bothy/application/smtp"
)

// login is what stands before an invitation's ID in a username. No account has a colon in its name.
const login = "join:"

// Directory is what the provider asks of its accounts; directory.Directory has it.
type Directory interface {
	sasl.Accounts
	Invited(id string) (sasl.Verifier, error)
	Redeem(ctx context.Context, id string, v sasl.Verifier, fingerprint, from string, now time.Time) (account string, err error)
	Customer(ctx context.Context, account string) (directory.Customer, error)
}

// Accounts are those of d, and besides them its invitations.
func Accounts(d Directory) sasl.Accounts { return accounts{d} }

type accounts struct{ Directory }

// Verifier implements sasl.Accounts.
func (a accounts) Verifier(ctx context.Context, username string) (sasl.Verifier, error) {
	id, ok := strings.CutPrefix(username, login)
	if !ok {
		return a.Directory.Verifier(ctx, username)
	}
	v, err := a.Invited(id)
	if err != nil {
		return sasl.Verifier{Iterations: sasl.RandomIterations}, err // as if there were one
	}
	v.Account = username
	return v, nil
}

// Policy refuses mail of who has logged in with an invitation, which is to join with and for nothing else; it may be used up, revoked or
// expired, and no account answers for what is sent. All others are next's.
func Policy(next smtp.Policy) smtp.Policy { return policy{next} }

type policy struct{ smtp.Policy }

// Mail implements smtp.Policy.
func (p policy) Mail(ctx context.Context, s *smtp.Session, env *message.Envelope) error {
	if strings.HasPrefix(s.Identity, login) {
		return replyStranger
	}
	return p.Policy.Mail(ctx, s, env)
}

// Desk redeems invitations.
type Desk struct {
	Directory Directory
	Log       *slog.Logger
	Now       func() time.Time
}

var (
	replyStranger = smtp.Reply{Code: 530, Enhanced: [3]int{5, 7, 0}, Text: "Authentication required"}
	replySyntax   = smtp.Reply{Code: 501, Enhanced: [3]int{5, 5, 4}, Text: "Syntax: XJOIN verifier [fingerprint]"}
	replyBroken   = smtp.Reply{Code: 451, Enhanced: [3]int{4, 3, 0}, Text: "The invitation cannot be redeemed now"}
	replyClear    = smtp.Reply{Code: 538, Enhanced: [3]int{5, 7, 11}, Text: "Encryption required"}
)

// Extension is the command XJOIN, which no EHLO reply lists: those who need it know.
func (d *Desk) Extension() smtp.Extension { return smtp.Extension{Verb: "XJOIN", Run: d.run} }

func (d *Desk) run(ctx context.Context, s *smtp.Session, arg string) (smtp.Reply, bool) {
	id, ok := strings.CutPrefix(s.Identity, login)
	r, read := parseRequest(arg)
	switch {
	case !ok:
		return replyStranger, false
	case s.Conn.TLS() == nil:
		return replyClear, false
	case !read:
		return replySyntax, false
	}
	account, err := d.Directory.Redeem(ctx, id, r.verifier, r.fingerprint, s.Peer.Addr().String(), d.Now())
	var customer directory.Customer
	if err == nil {
		customer, err = d.Directory.Customer(ctx, account)
	}
	switch {
	case err == nil:
		d.Log.Info("invitation redeemed", "account", account, "peer", s.Peer.Addr())
		return smtp.Reply{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: Grant{Account: account, Domains: customer.Domains}.text()}, false
	case errors.Is(err, directory.ErrInvitation), errors.Is(err, directory.ErrInvalid), errors.Is(err, directory.ErrTaken), errors.Is(err, directory.ErrNotFound):
		d.Log.Warn("invitation refused", "id", id, "peer", s.Peer.Addr(), "why", err)
		return smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: err.Error()}, false
	}
	d.Log.Error("invitation not redeemed", "id", id, "err", err)
	return replyBroken, false
}
