package odmr

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"
)

// Customers is what the provider asks of its accounts; directory.Directory has it.
type Customers interface {
	// Customer returns directory.ErrNotFound for an account that is no customer.
	Customer(ctx context.Context, account string) (directory.Customer, error)
	Contact(ctx context.Context, account string, now time.Time) error
}

// Provider holds mail and hands it to the customers who call for it. Its fields are set before first use and not changed
// after. It serves any number of connections at once and never listens.
type Provider struct {
	Hostname  string      // in the greeting, and in EHLO once the connection is turned
	TLS       *tls.Config // nil: STARTTLS is not offered
	Auth      smtp.Authenticator
	Directory Customers
	Queue     queue.Store
	Intake    *smtp.Server // as which mail of who has logged in is taken before ATRN; nil: 502 (RFC 2645 §5.4)
	Config    ProviderConfig
	Known     *Known           // what sites tell of their recipients; nil: they are not asked
	Sessions  *Sessions        // who is connected; shared with the Provider that this one replaces. Nil: its own
	Further   []smtp.Extension // commands besides ATRN, such as the one of package join
	Refused   func(smtp.Reply) // hears of every reply of 4yz and 5yz, and returns at once; may be nil
	Observe   func(Event)      // hears what happens, from any session at once; must not block; nil: nobody does
	Log       *slog.Logger
	Now       func() time.Time // nil: time.Now

	own Sessions
}

// Event is one step of a customer's call.
type Event struct {
	What      What
	Account   string
	ID        message.ID      // of the message, when one is transferred
	Recipient message.Address // whose verdict this is
	Reply     smtp.Reply      // what was answered: by us when Refused, else by the customer
}

// What happened.
type What int

// The steps of a call.
const (
	Refused     What = iota // ATRN was answered with 4yz or 5yz
	Turned                  // ATRN was answered with 250
	Transferred             // the customer has the message for this recipient
	Deferred                // the customer refused this recipient for now: it waits for the next call
	Failed                  // the customer refused this recipient for good: its sender gets a notice
)

// String gives the step in lower case: "turned".
func (w What) String() string {
	names := [...]string{Refused: "refused", Turned: "turned", Transferred: "transferred", Deferred: "deferred", Failed: "failed"}
	if w < 0 || int(w) >= len(names) {
		return "unknown"
	}
	return names[w]
}

// Serve answers one customer, from greeting to end, and closes conn. It returns nil when both sides took their leave. When ctx ends, it
// finishes the message under way; who cannot wait for that closes conn.
func (p *Provider) Serve(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	log := p.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if !p.Config.admits(conn.RemoteAddr()) { // RFC 2645 §8
		return errors.Join(errNetwork, p.refuse(conn))
	}
	s := &session{provider: p, log: log, peer: conn.RemoteAddr().String(), since: time.Now(), known: p.Known}
	s.watch(conn)
	defer s.leave()
	server := smtp.Server{Protocol: smtp.Held}
	if p.Intake != nil {
		server = *p.Intake
		server.Protocol, server.PolicyAuthorizes = smtp.Submission, false // nobody but who has logged in
		if server.RequireTLS {                                            // of mail: logging in is as RFC 2645 §5.1.1 has it
			server.Policy = secret{server.Policy}
		}
	}
	server.Hostname, server.TLS, server.RequireTLS, server.Auth, server.Ahead = p.Hostname, p.TLS, p.Config.RequireTLS, s, true
	server.Extensions = append([]smtp.Extension{{Verb: "ATRN", Keyword: "ATRN", Run: s.atrn}}, p.Further...) // RFC 2645 §5.1.1: listed in every EHLO reply
	server.Limits.CommandTimeout = p.Config.CommandTimeout
	server.Refused, server.Log, server.Now = p.Refused, log, p.now
	err := server.Serve(ctx, s.conn)
	if errors.Is(err, smtp.ErrTurned) {
		err = s.reversed(ctx)
	}
	s.err = err
	return err
}

// secret is a policy that takes no mail in the clear (RFC 3207 §4).
type secret struct{ smtp.Policy }

func (p secret) Mail(ctx context.Context, s *smtp.Session, env *message.Envelope) error {
	if s.Conn.TLS() == nil {
		return replyClear
	}
	return p.Policy.Mail(ctx, s, env)
}

// errNetwork says that a peer may not call from where it is.
var errNetwork = errors.New("odmr: peer outside the customers' networks")

// refuseTimeout bounds the wait for a peer that is sent away.
const refuseTimeout = 5 * time.Second

// refuse says in place of a greeting that there is no service for this peer (RFC 5321 §3.1).
func (p *Provider) refuse(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(refuseTimeout)); err != nil {
		return err
	}
	_, err := conn.Write([]byte("554 " + p.Hostname + " no service for your network\r\n"))
	return err
}

func (p *Provider) now() time.Time {
	if p.Now == nil {
		return time.Now()
	}
	return p.Now()
}

func (p *Provider) observe(e Event) {
	if p.Observe != nil {
		p.Observe(e)
	}
}

func (p *Provider) sessions() *Sessions {
	if p.Sessions == nil {
		return &p.own
	}
	return p.Sessions
}
