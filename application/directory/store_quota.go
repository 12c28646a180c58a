package directory

import (
	"context"
	"time"

	"bothy/application/message"
)

// Quota is how much mail may wait for a customer, and who is warned, somewhere else, before that or a message's time is over. The zero Quota
// bounds nothing and warns nobody.
type Quota struct {
	Octets   int64           `json:"octets,omitempty"`   // of messages that wait; 0: no bound
	Messages int             `json:"messages,omitempty"` // 0: no bound
	Warn     message.Address `json:"warn,omitzero"`      // the null address: nobody
	Warned   time.Time       `json:"warned,omitzero"`    // when the last warning went out
}

// SetQuota gives a customer this quota in place of the one it had; when it was warned stays. An address in the customer's own domains is refused with ErrInvalid:
// the warning would wait with the rest.
func (d *Directory) SetQuota(ctx context.Context, name string, q Quota) error {
	if q.Octets < 0 || q.Messages < 0 {
		return refuse(ErrInvalid, "a quota is negative")
	}
	name = canonicalName(name)
	return d.change(ctx, func(s *snapshot, exec execer) error {
		c, err := s.customer(name)
		if err != nil {
			return err
		}
		if s.held[canonical(q.Warn).Domain] == c.Account {
			return refuse(ErrInvalid, "%s is in a domain of %s itself: a warning would wait there with the rest", q.Warn, c.Account)
		}
		return exec("INSERT INTO customer_quota (account, octets, messages, warn, warned) VALUES (?, ?, ?, ?, ?)"+
			" ON CONFLICT (account) DO UPDATE SET octets = excluded.octets, messages = excluded.messages, warn = excluded.warn",
			c.Account, q.Octets, q.Messages, q.Warn.String(), milliseconds(c.Quota.Warned))
	})
}

// Warned notes that a customer was warned.
func (d *Directory) Warned(ctx context.Context, name string, now time.Time) error {
	name = canonicalName(name)
	return d.change(ctx, func(s *snapshot, exec execer) error {
		if _, err := s.customer(name); err != nil {
			return err
		}
		return exec("UPDATE customer_quota SET warned = ? WHERE account = ?", now.UnixMilli(), name)
	})
}

// milliseconds is t since 1970; 0 for the zero time.
func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func (s *snapshot) loadQuota(scan func(...any) error) error {
	var name, warn string
	var q Quota
	var warned int64
	if err := scan(&name, &q.Octets, &q.Messages, &warn, &warned); err != nil {
		return err
	}
	if warn != "" {
		if err := q.Warn.UnmarshalText([]byte(warn)); err != nil {
			return err
		}
	}
	if warned != 0 {
		q.Warned = time.UnixMilli(warned).UTC()
	}
	c := s.customers[name]
	c.Quota = q
	s.customers[name] = c
	return nil
}
