package site

import (
	"bytes"
	"context"
	"strings"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/odmr"
	"bothy/application/queue"
	"bothy/application/smtp"
)

// quotas is a policy that refuses more mail for customers who have too much waiting.
func (s *Site) quotas(cfg Config, next smtp.Policy) odmr.Quotas {
	return odmr.Quotas{
		Next: next, Held: s.directory.Held, Customer: s.directory.Customer, Waiting: s.backlog, Final: cfg.ODMR.OverQuota == "refuse", Full: s.warnSoon,
	}
}

// backlog is what waits for a customer, of all its domains.
func (s *Site) backlog(c directory.Customer) (b odmr.Backlog) {
	cfg := &s.current.Load().cfg
	for _, domain := range c.Domains {
		lane := queue.Lane("odmr/" + domain)
		l := s.spool.Lane(lane)
		b.Add(l.Messages, l.Octets, l.Oldest, s.lifetime(&cfg.Queue, lane))
	}
	return b
}

// lifetime is how long mail waits in a lane: what was set for the customer whose it is, else what the configuration says.
func (s *Site) lifetime(cfg *queue.Config, l queue.Lane) time.Duration {
	if domain, held := strings.CutPrefix(string(l), "odmr/"); held {
		if d := s.directory.LifetimeOf(domain); d > 0 {
			return d
		}
	}
	return cfg.LifetimeOf(l)
}

// warnEvery is how often somebody looks whom to warn.
const warnEvery = 10 * time.Minute

// warnSoon has somebody look at once.
func (s *Site) warnSoon() {
	select {
	case s.warn <- struct{}{}:
	default:
	}
}

// warnCustomers warns customers whose mail is about to be refused or to expire, until ctx ends.
func (s *Site) warnCustomers(ctx context.Context) error {
	tick := time.NewTicker(warnEvery)
	defer tick.Stop()
	for {
		customers, err := s.directory.Customers(ctx)
		if err != nil {
			s.env.Log.Error("customers not looked at", "err", err)
		}
		for _, c := range customers {
			if err := s.warnCustomer(ctx, c); err != nil {
				s.env.Log.Error("customer not warned", "account", c.Account, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.warn:
		}
	}
}

// warnCustomer sends a warning if one is due. It is noted after it was sent: a crash between sends it twice.
func (s *Site) warnCustomer(ctx context.Context, c directory.Customer) error {
	if c.Quota.Warn.IsNull() {
		return nil
	}
	cfg, now, waiting := &s.current.Load().cfg, s.env.Now(), s.backlog(c)
	why := odmr.Warning(c.Quota, waiting, now)
	if len(why) == 0 {
		return nil
	}
	env := &message.Envelope{ID: message.NewID(now), Recipients: []message.Recipient{{Address: c.Quota.Warn, Notify: message.NotifyNever}}}
	env.UTF8 = !c.Quota.Warn.IsASCII()
	content := odmr.AppendWarning(nil, cfg.Hostname, c, waiting, why, env.ID, now)
	env.Size, env.Body = int64(len(content)), message.Body8Bit
	if err := s.watched(s.spool).Accept(ctx, env, bytes.NewReader(content)); err != nil {
		return err
	}
	s.env.Log.Warn("customer warned", "account", c.Account, "to", c.Quota.Warn, "messages", waiting.Messages, "octets", waiting.Octets, "why", strings.Join(why, " "))
	return s.directory.Warned(ctx, c.Account, now)
}
