package odmr

import (
	"context"
	"sync"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
)

// Known is what is known of the recipients of customers, by domain: what a site of ours has told, and of another whom it refused of late. The
// zero value is ready. It is in memory alone: after a start nothing is known, and everybody is taken until the site has called.
type Known struct {
	mu    sync.Mutex
	lists map[string]*known
}

// known is one domain's list.
type known struct {
	account   string
	tag       string
	listing   listing                       // nil: the site tells none
	confirmed time.Time                     // when the site last said that it holds
	refused   map[message.Address]time.Time // of a site that tells none: whom it refused for good, to the letter, and when
	knocks    map[uint64]time.Time          // strangers, by sender and recipient: when they first came since they were last refused for good
	session   *session                      // that lingers, which can be asked; nil: none
	asked     time.Time                     // when it last was
	news      chan struct{}                 // closed when the site has said something
}

const (
	// listLife is how long what a site has said counts. Then everybody is taken again, for nobody knows what has changed there.
	listLife = 24 * time.Hour
	// refusalLife is how long a recipient is a stranger whom a site refused that tells no list. Then a message is let through, to see.
	refusalLife = time.Hour
	// maxRefused bounds those that are remembered for a domain.
	maxRefused = 1000
	// maxKnocks bounds the strangers that are remembered for a domain. Who is forgotten is told to come again once more.
	maxKnocks = 1000
	// askWait is how long RCPT waits for a site that is connected to say whether its list still holds.
	askWait = 2 * time.Second
	// askInterval is how often it is asked at most: strangers must not fill its link.
	askInterval = 10 * time.Second
)

var (
	replyStranger = smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such recipient at the site that this mail is for"}
	replyPerhaps  = smtp.Reply{Code: 450, Enhanced: [3]int{4, 1, 1}, Text: "not known at the site that this mail is for; it will be asked, try again"}
)

// Strangers is an smtp.Policy that refuses, behind another, whom the customer's site does not know, so that no notice need be sent to a
// forged sender. It never goes by an old list for good: 550 needs a site that said so after the stranger came. Until then the answer is 450.
type Strangers struct {
	Next  smtp.Policy
	Known *Known
	Held  func(domain string) (account string, ok bool)
}

// Mail implements smtp.Policy.
func (p Strangers) Mail(ctx context.Context, s *smtp.Session, env *message.Envelope) error {
	return p.Next.Mail(ctx, s, env)
}

// Rcpt implements smtp.Policy.
func (p Strangers) Rcpt(ctx context.Context, s *smtp.Session, env *message.Envelope, to *message.Recipient) error {
	if err := p.Next.Rcpt(ctx, s, env, to); err != nil {
		return err
	}
	a, ok := to.Address.ASCII()
	account, held := p.Held(a.Domain)
	if !ok || !held {
		return nil
	}
	return p.Known.judge(ctx, account, env.ReversePath, a)
}

// judge returns nil for a recipient who is known, or of whom nothing certain is known, else the refusal.
func (n *Known) judge(ctx context.Context, account string, from, to message.Address) error {
	now := time.Now()
	news, wait := n.knock(account, from, to, now)
	if news == nil {
		return nil
	}
	if wait {
		timer := time.NewTimer(askWait)
		defer timer.Stop()
		select {
		case <-news:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	k, h := n.lists[to.Domain], hashRecipient(from.String()+"\n"+to.Local, to.Domain)
	said, stranger := k.stranger(to, now)
	switch {
	case !stranger:
		return nil
	case !said.Before(k.knocks[h]):
		delete(k.knocks, h) // the next message is another matter
		return replyStranger
	}
	return replyPerhaps
}

// stranger reports whether the site does not know a recipient, and when it said so. A domain of which nothing is known has no strangers.
func (k *known) stranger(to message.Address, now time.Time) (said time.Time, ok bool) {
	switch {
	case k == nil:
		return said, false
	case k.listing != nil:
		return k.confirmed, now.Sub(k.confirmed) <= listLife && !k.listing.has(to)
	}
	said, ok = k.refused[to] // a site that is not ours may tell letters by case (RFC 5321 §2.4)
	return said, ok && now.Sub(said) <= refusalLife
}

// answered notes what an account's site said to RCPT, if it is a site that tells no list. What it says to a text counts for nothing: it may
// refuse that for all because it does not know one of them.
func (n *Known) answered(account string, to message.Address, reply smtp.Reply, now time.Time) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	k := n.lists[to.Domain]
	unknown := reply.Permanent() && reply.Enhanced == [3]int{5, 1, 1} // RFC 3463 §3.2: bad destination mailbox address
	switch {
	case k != nil && k.account == account && k.listing != nil:
		return
	case reply.Positive() && k != nil:
		delete(k.refused, to)
		return
	case !unknown:
		return
	case k == nil || k.account != account:
		k = n.begin(account, to.Domain)
	}
	if len(k.refused) >= maxRefused {
		clear(k.refused)
	}
	k.refused[to] = now
}

// begin starts to know something of a domain. The caller holds mu.
func (n *Known) begin(account, domain string) *known {
	if n.lists == nil {
		n.lists = map[string]*known{}
	}
	n.drop(domain)
	k := &known{account: account, knocks: map[uint64]time.Time{}, refused: map[message.Address]time.Time{}, news: make(chan struct{})}
	n.lists[domain] = k
	return k
}

// knock notes a stranger. news is nil for anybody else; wait says that the site was asked just now, and news closes when it has answered.
func (n *Known) knock(account string, from, to message.Address, now time.Time) (news <-chan struct{}, wait bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := n.lists[to.Domain]
	said, stranger := k.stranger(to, now)
	if !stranger || k.account != account {
		return nil, false
	}
	h := hashRecipient(from.String()+"\n"+to.Local, to.Domain)
	if first, again := k.knocks[h]; again && now.Sub(first) <= listLife {
		if !said.Before(first) {
			return k.news, false
		}
	} else {
		if len(k.knocks) >= maxKnocks {
			clear(k.knocks)
		}
		k.knocks[h] = now
	}
	if k.session == nil || now.Sub(k.asked) < askInterval {
		return k.news, false
	}
	k.asked = now
	k.session.ring(ringAsk)
	return k.news, true
}

// tell notes that a session's site confirms the list it has told, or tells another; lists of domains that are not the session's are not its to
// tell.
func (n *Known) tell(s *session, tag string, l listing, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, domain := range s.domains {
		hashes, listed := l[domain]
		k := n.lists[domain]
		switch {
		case !listed:
			n.drop(domain)
			continue
		case k == nil || k.account != s.account || k.listing == nil:
			k = n.begin(s.account, domain)
		}
		k.tag, k.listing, k.confirmed, k.session = tag, listing{domain: hashes}, now, s
		close(k.news)
		k.news = make(chan struct{})
	}
}

// drop forgets a domain's list, and lets go who waits. The caller holds mu.
func (n *Known) drop(domain string) {
	if k := n.lists[domain]; k != nil {
		close(k.news)
		delete(n.lists, domain)
	}
}

// confirm is tell for a list of which the site says that it still holds; false if it is not the one that is known.
func (n *Known) confirm(s *session, tag string, now time.Time) bool {
	l := listing{}
	n.mu.Lock()
	for _, domain := range s.domains {
		k := n.lists[domain]
		if k != nil && (k.account != s.account || k.tag != tag) {
			n.mu.Unlock()
			return false
		}
		if k != nil && k.listing != nil {
			l[domain] = k.listing[domain]
		}
	}
	n.mu.Unlock()
	if len(l) == 0 {
		return false
	}
	n.tell(s, tag, l, now)
	return true
}

// forget notes that a session's site tells no list. Whom it refused stays.
func (n *Known) forget(s *session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, domain := range s.domains {
		if k := n.lists[domain]; k != nil && k.listing != nil {
			n.drop(domain)
		}
	}
}

// leave notes that a session cannot be asked any more. Its lists stay.
func (n *Known) leave(s *session) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, domain := range s.domains {
		if k := n.lists[domain]; k != nil && k.session == s {
			k.session = nil
		}
	}
}

// learn asks the site who is there, if it tells and has not told already.
func (s *session) learn(ctx context.Context, client *smtp.Client) error {
	params, offered := client.Has(keywordRecipients)
	switch {
	case s.known == nil:
		return nil
	case !offered:
		s.known.forget(s)
		return nil
	}
	now := time.Now()
	if s.tag == "" && s.known.confirm(s, params, now) { // its EHLO reply says that nothing has changed
		s.tag = params
		return nil
	}
	line := keywordRecipients
	if s.tag != "" {
		line += " " + s.tag
	}
	reply, err := client.Do(context.WithoutCancel(ctx), line, noopTimeout)
	switch {
	case err != nil:
		return err
	case reply.Code != 250:
		s.known.forget(s)
		return nil
	case reply.Text == s.tag && s.known.confirm(s, s.tag, now): // when it was asked, not when it answered
		return nil
	}
	l, ok := parseListing(reply.Text)
	if !ok {
		s.log.Warn("list of recipients not understood", "account", s.account)
		s.known.forget(s)
		return nil
	}
	s.tag = l.tag()
	s.known.tell(s, s.tag, l, now)
	s.log.Info("recipients told", "account", s.account, "recipients", l.size())
	return nil
}
