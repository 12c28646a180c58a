package odmr

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/smtp"
)

// keywordBudget is the EHLO keyword with which a site that was turned to says what it can afford: "XBUDGET", the octets of mail in this
// session, and those of one message; 0 for any number. Without it the account's own bounds hold.
const keywordBudget = "XBUDGET"

// budget is how much mail one session may bring, in octets of messages; 0: any number.
type budget struct{ session, largest int64 }

// parseBudget reads the parameters of XBUDGET.
func parseBudget(params string) (b budget, ok bool) {
	session, largest, _ := strings.Cut(params, " ")
	var err1, err2 error
	b.session, err1 = strconv.ParseInt(session, 10, 64)
	b.largest, err2 = strconv.ParseInt(largest, 10, 64)
	return b, err1 == nil && err2 == nil && b.session >= 0 && b.largest >= 0
}

// keyword is the line that asks for b.
func (b budget) keyword() string {
	return keywordBudget + " " + strconv.FormatInt(b.session, 10) + " " + strconv.FormatInt(b.largest, 10)
}

// words says what b bounds, behind the word "call".
func (b budget) words() string {
	switch {
	case b.session > 0 && b.largest > 0:
		return " (" + inUnits(b.session) + " in all, " + inUnits(b.largest) + " a message)"
	case b.session > 0:
		return " (" + inUnits(b.session) + " in all)"
	case b.largest > 0:
		return " (" + inUnits(b.largest) + " a message)"
	}
	return ""
}

// ledger is a session's budget and what came of it. It holds the leases of what is held back, so that a session meets nothing twice.
type ledger struct {
	budget
	spent int64
	held  []*leased
}

// maxHeldBack bounds the messages that a session holds back, and so their leases' memory; behind them it looks for no more.
const maxHeldBack = 10_000

// takes books a message, or holds it back.
func (l *ledger) takes(m *leased) bool {
	size := m.leases[0].Size
	if l.largest > 0 && size > l.largest || l.session > 0 && l.spent+size > l.session {
		l.held = append(l.held, m)
		return false
	}
	l.spent += size
	return true
}

func (l *ledger) full() bool { return len(l.held) >= maxHeldBack }

// release gives back what was held back.
func (l *ledger) release() {
	for _, m := range l.held {
		m.release()
	}
	l.held = nil
}

// afford sets the session's budget: what the customer asks for, else what its account says.
func (s *session) afford(client *smtp.Client, customer directory.Customer) {
	s.ledger.budget = budget{customer.Budget, customer.Largest}
	if params, ok := client.Has(keywordBudget); ok {
		if asked, ok := parseBudget(params); ok {
			s.ledger.budget = asked
		}
	}
}

// tellHeldBack sends the digest, if something is held back that the customer was not told of. It is made anew as long as it does not get
// through, so it is kept nowhere.
func (s *session) tellHeldBack(ctx context.Context, client *smtp.Client) error {
	sessions := s.provider.sessions()
	fresh := sessions.untold(s.domains[0], s.ledger.held)
	if len(fresh) == 0 {
		return nil
	}
	now := s.provider.now()
	d := &digest{
		hostname: s.provider.Hostname, to: message.Address{Local: "postmaster", Domain: s.domains[0]}, id: message.NewID(now), now: now,
		terms: s.ledger.budget, others: len(s.ledger.held) - min(len(fresh), maxListed),
	}
	for _, m := range s.ledger.held {
		d.octets += m.leases[0].Size
	}
	for _, m := range fresh[:min(len(fresh), maxListed)] {
		d.waiting = append(d.waiting, s.line(m))
	}
	text := d.text()
	env := &message.Envelope{ID: d.id, Recipients: []message.Recipient{{Address: d.to}}}
	replies, err := client.Send(context.WithoutCancel(ctx), env, bytes.NewReader(text), int64(len(text)))
	if replies[0].Code/100 == 2 {
		sessions.told(s.domains[0], s.ledger.held)
		s.log.Info("told what is held back", "account", s.account, "messages", len(s.ledger.held), "octets", d.octets)
	}
	return err
}

// line is what a digest says of a message; of one whose header cannot be read, what the envelope says.
func (s *session) line(m *leased) heldBack {
	env := m.envelope()
	line := heldBack{from: env.ReversePath.String(), to: env.Recipients, size: m.leases[0].Size, accepted: m.leases[0].Accepted}
	body, err := m.leases[0].Open()
	if err != nil {
		return line
	}
	defer body.Close()
	if h, _, err := message.ReadHeader(body, message.DefaultHeaderSize); err == nil {
		line.subject = h.Get("Subject")
		if from := h.Get("From"); from != "" {
			line.from = from
		}
	}
	return line
}

// untold are the messages that the domain's postmaster was not told of.
func (d *Sessions) untold(domain string, held []*leased) (fresh []*leased) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range held {
		if !d.digests[domain][m.leases[0].Envelope.ID] {
			fresh = append(fresh, m)
		}
	}
	return fresh
}

// told notes that the domain's postmaster knows of the messages that are held back. What is no longer is forgotten.
func (d *Sessions) told(domain string, held []*leased) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.digests == nil {
		d.digests = map[string]map[message.ID]bool{}
	}
	known := make(map[message.ID]bool, len(held))
	for _, m := range held {
		known[m.leases[0].Envelope.ID] = true
	}
	d.digests[domain] = known
}
