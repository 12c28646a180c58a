package odmr

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/sasl"
	"bothy/application/smtp"
)

// session is one customer's connection. One goroutine owns it; others ring it, and read what is atomic or guarded by Sessions.
type session struct {
	provider  *Provider
	wire      *wire      // as it came
	conn      *smtp.Conn // on it
	implicit  bool       // TLS from the first octet
	peer      string
	since     time.Time
	log       *slog.Logger
	mechanism string // of the last AUTH that was begun
	bell      bell

	account   string             // who sent ATRN
	customer  directory.Customer // as it was then
	ledger    ledger
	known     *Known              // where to note who is at the site; nil: nowhere
	tag       string              // of the list that the site has told in this session
	seated    bool                // has the seats of its domains. This and the next two are guarded by Sessions
	listening bool                // is told of mail
	gone      chan struct{}       // closed when it has left them
	domains   []string            // what ATRN was granted: their seats
	linger    time.Duration       // after the last message
	keep      bool                // what is too large waits
	full      bool                // the customer takes no more in this session
	stranger  bool                // nobody has proved to be the customer: we have called him
	apart     map[message.ID]bool // messages that the customer has, but not for all: the others get them in a transaction of their own
	stage     atomic.Int32        // a State
	messages  atomic.Int64        // that the customer has taken
	octets    atomic.Int64        // of their bodies
	err       error               // how it ended
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
	err := s.grant(ctx, in.Identity, arg)
	var refusal smtp.Reply
	if errors.As(err, &refusal) {
		s.leave()
		s.log.Info("call refused", "account", in.Identity, "peer", s.peer, "reply", refusal.Error())
		s.provider.observe(Event{What: Refused, Account: in.Identity, Reply: refusal})
		return refusal, false
	}
	s.log.Info("call granted", "account", s.account, "peer", s.peer, "domains", s.domains, "mechanism", s.mechanism)
	if s.conn.TLS() == nil { // how much mail somebody gets is nobody else's business
		return replyTurn, true
	}
	return turning(s.provider.waits(s.domains)), true
}

// grant decides an ATRN and takes the domains' seats. Every error is a Reply.
func (s *session) grant(ctx context.Context, account, arg string) error {
	p := s.provider
	if account == "" {
		return replyAuth // RFC 2645 §5.2.1
	}
	wanted, ok := parseDomains(arg)
	if !ok {
		return replySyntax
	}
	customer, err := p.Directory.Customer(ctx, account)
	switch {
	case errors.Is(err, directory.ErrNotFound), err == nil && customer.Disabled: // since it has logged in
		return replyForeign
	case err != nil: // RFC 2645 §5.2.1: a mapping database is temporarily unavailable
		s.log.Error("directory does not answer", "account", account, "err", err)
		return replyUnable
	}
	now := p.now()
	domains, err := entitled(customer, wanted, now)
	if err != nil {
		return err
	}
	if err := p.sessions().take(ctx, s, account, domains); err != nil {
		return err
	}
	if err := p.Directory.Contact(ctx, account, now); err != nil {
		s.log.Warn("contact not noted", "account", account, "err", err)
	}
	s.customer, s.linger, s.keep = customer, customer.Linger, customer.KeepLarge
	waits := p.gather(s.domains)
	if s.linger > 0 || waits {
		return nil
	}
	if customer.LongPoll > 0 {
		err = s.hold(ctx, min(customer.LongPoll, directory.MaxLongPoll))
	} else {
		err = replyNoMail
	}
	if customer.EmptyTurns && err == replyNoMail {
		return nil
	}
	return err
}

// errNoLonger says that the account was disabled, or lost a domain, while its session was open.
var errNoLonger = errors.New("odmr: the account may have this mail no longer")

// entitled returns errNoLonger if an ATRN for the session's domains would be refused now. A directory that does not answer takes nothing away.
func (s *session) entitled(ctx context.Context) error {
	customer, err := s.provider.Directory.Customer(ctx, s.account)
	switch {
	case errors.Is(err, directory.ErrNotFound):
		return errNoLonger
	case err != nil:
		return nil
	}
	foreign := func(domain string) bool { return !slices.Contains(customer.Domains, domain) }
	if customer.Disabled || slices.ContainsFunc(s.domains, foreign) {
		return errNoLonger
	}
	return nil
}

// hold waits for mail before ATRN is answered (RFC 2645 §5.2.1 gives the provider 10 minutes). Every error is a Reply.
func (s *session) hold(ctx context.Context, limit time.Duration) error {
	until := time.Now().Add(limit)
	s.stage.Store(int32(StateHeld))
	s.provider.sessions().listen(s)
	defer s.follow(ctx)()
	for {
		what, err := s.rest(until)
		switch {
		case err != nil: // it hung up, or said something behind ATRN: nobody can tell what that means
			return replyBehind
		case s.entitled(ctx) != nil:
			return replyForeign
		case s.provider.waiting(s.domains):
			s.stage.Store(int32(StateTurning))
			return nil
		case ctx.Err() != nil, what&ringStop != 0:
			return replyStop
		case what&ringSeat != 0: // nothing is in flight here: the newer one knows where the customer is now
			return replyBusy
		case !time.Now().Before(until):
			return replyNoMail
		}
	}
}

// gather makes due what the customer refused for now when it last called, and reports whether mail waits for any of the domains.
func (p *Provider) gather(domains []string) bool {
	for _, d := range domains {
		if due, all := p.Queue.Waiting(lane(d)); all > due {
			p.Queue.Flush(lane(d))
		}
	}
	return p.waiting(domains)
}

// waits counts what waits for the domains. A message for two of them counts twice.
func (p *Provider) waits(domains []string) (messages int, octets int64) {
	for _, d := range domains {
		count := p.Queue.Lane(lane(d))
		messages, octets = messages+count.Messages, octets+count.Octets
	}
	return messages, octets
}

// waiting reports whether mail is due for any of the domains.
func (p *Provider) waiting(domains []string) bool {
	for _, d := range domains {
		if due, _ := p.Queue.Waiting(lane(d)); due > 0 {
			return true
		}
	}
	return false
}
