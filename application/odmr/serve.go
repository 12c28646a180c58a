package odmr

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/sasl"
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
	Config    ProviderConfig
	Observe   func(Event) // hears what happens, from any session at once; must not block; nil: nobody does
	Log       *slog.Logger
	Now       func() time.Time // nil: time.Now

	mu    sync.Mutex
	calls map[string]bool // accounts with a session that is being turned or is
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
	c := smtp.NewConn(conn)
	_, implicit := conn.(interface{ ConnectionState() tls.ConnectionState })
	s := &session{provider: p, conn: c, implicit: implicit, peer: conn.RemoteAddr().String(), log: log}
	defer s.end()
	server := &smtp.Server{
		Hostname: p.Hostname, Protocol: smtp.Held, TLS: p.TLS, RequireTLS: p.Config.RequireTLS, Auth: s,
		Extensions: []smtp.Extension{{Verb: "ATRN", Keyword: "ATRN", Run: s.atrn}}, // RFC 2645 §5.1.1: listed in every EHLO reply
		Limits:     smtp.Limits{CommandTimeout: p.Config.CommandTimeout},
		Log:        log, Now: p.now,
	}
	if err := server.Serve(ctx, c); !errors.Is(err, smtp.ErrTurned) {
		return err
	}
	return s.reversed(ctx)
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

// begin takes the account's only place; false when a session of it is alive. A dead one lives until its timeout.
func (p *Provider) begin(account string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls[account] {
		return false
	}
	if p.calls == nil {
		p.calls = map[string]bool{}
	}
	p.calls[account] = true
	return true
}

func (p *Provider) end(account string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, account)
}

// session is one customer's connection. One goroutine owns it.
type session struct {
	provider  *Provider
	conn      *smtp.Conn
	implicit  bool // TLS from the first octet
	peer      string
	log       *slog.Logger
	mechanism string   // of the last AUTH that was begun
	account   string   // whose place this session has; empty: none
	domains   []string // what ATRN was granted
}

func (s *session) end() {
	if s.account != "" {
		s.provider.end(s.account)
	}
}

// Mechanisms implements smtp.Authenticator.
func (s *session) Mechanisms(ch sasl.Channel) []string { return s.provider.Auth.Mechanisms(ch) }

// Start implements smtp.Authenticator, and notes the mechanism.
func (s *session) Start(mechanism string, ch sasl.Channel) (sasl.Server, error) {
	s.mechanism = mechanism
	return s.provider.Auth.Start(mechanism, ch)
}

// atrn answers ATRN. It changes nothing unless it grants the turn.
func (s *session) atrn(ctx context.Context, in *smtp.Session, arg string) (reply smtp.Reply, turn bool) {
	domains, err := s.grant(ctx, in.Identity, arg)
	var refusal smtp.Reply
	if errors.As(err, &refusal) {
		s.log.Info("call refused", "account", in.Identity, "peer", s.peer, "reply", refusal.Error())
		s.provider.observe(Event{What: Refused, Account: in.Identity, Reply: refusal})
		return refusal, false
	}
	s.domains = domains
	s.log.Info("call granted", "account", s.account, "peer", s.peer, "domains", domains, "mechanism", s.mechanism)
	return replyTurn, true
}

// grant decides an ATRN and takes the account's place. Every error is a Reply.
func (s *session) grant(ctx context.Context, account, arg string) (domains []string, err error) {
	p := s.provider
	if account == "" {
		return nil, replyAuth // RFC 2645 §5.2.1
	}
	asked, ok := parseDomains(arg)
	if !ok {
		return nil, replySyntax
	}
	customer, err := p.Directory.Customer(ctx, account)
	switch {
	case errors.Is(err, directory.ErrNotFound):
		return nil, replyForeign
	case err != nil: // RFC 2645 §5.2.1: a mapping database is temporarily unavailable
		s.log.Error("directory does not answer", "account", account, "err", err)
		return nil, replyUnable
	}
	now := p.now()
	if domains, err = entitled(customer, asked, now); err != nil {
		return nil, err
	}
	if !p.begin(account) {
		return nil, replyBusy
	}
	if err := p.Directory.Contact(ctx, account, now); err != nil {
		s.log.Warn("contact not noted", "account", account, "err", err)
	}
	if !p.gather(domains) && !customer.EmptyTurns {
		p.end(account)
		return nil, replyNoMail
	}
	s.account = account
	return domains, nil
}

// gather makes due what the customer refused for now when it last called, and reports whether mail waits for any of the domains.
func (p *Provider) gather(domains []string) bool {
	lanes := make(map[queue.Lane]bool, len(domains))
	for _, d := range domains {
		lanes[lane(d)] = true
	}
	p.Queue.Flush(func(l queue.Lane) bool { return lanes[l] })
	for l := range lanes {
		if due, _ := p.Queue.Waiting(l); due > 0 {
			return true
		}
	}
	return false
}
