package directory

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"bothy/application/message"
)

// Quota is how much mail may wait for a customer and how long, and who is warned, somewhere else, before that or a message's time is over. The zero
// Quota bounds nothing of its own and warns nobody.
type Quota struct {
	Octets   int64           `json:"octets,omitempty"`   // of messages that wait; 0: no bound
	Messages int             `json:"messages,omitempty"` // 0: no bound
	Lifetime time.Duration   `json:"-"`                  // then a message goes back; 0: as the queue's configuration says
	Warn     message.Address `json:"warn,omitzero"`      // the null address: nobody
	Warned   time.Time       `json:"warned,omitzero"`    // when the last warning went out
}

// plainQuota is a Quota without methods.
type plainQuota Quota

// writtenQuota is a Quota as JSON has it.
type writtenQuota struct {
	plainQuota
	Lifetime span `json:"lifetime,omitzero"`
}

// MarshalJSON writes the lifetime as "240h0m0s".
func (q Quota) MarshalJSON() ([]byte, error) {
	return json.Marshal(writtenQuota{plainQuota(q), span(q.Lifetime)})
}

// UnmarshalJSON reads what MarshalJSON writes. What is not there stays as it is; what nobody knows is an error.
func (q *Quota) UnmarshalJSON(text []byte) error {
	w := writtenQuota{plainQuota(*q), span(q.Lifetime)}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		return err
	}
	*q = Quota(w.plainQuota)
	q.Lifetime = time.Duration(w.Lifetime)
	return nil
}

// Bounds of a lifetime. The least is that of the queue's own.
const (
	minLifetime = time.Hour
	maxLifetime = 366 * 24 * time.Hour
)

// SetQuota gives a customer this quota in place of the one it had; when it was warned stays. An address in the customer's own domains is refused with ErrInvalid:
// the warning would wait with the rest.
func (d *Directory) SetQuota(ctx context.Context, name string, q Quota) error {
	if err := q.check(); err != nil {
		return err
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
		return putAll(exec, quotaRows, [][]any{q.row(c.Account, c.Quota.Warned)})
	})
}

// quotaRows are the quotas of customers.
var quotaRows = rows{
	"customer_quota", "account, octets, messages, lifetime, warn, warned",
	" ON CONFLICT (account) DO UPDATE SET octets = excluded.octets, messages = excluded.messages, lifetime = excluded.lifetime, warn = excluded.warn",
}

// row is one of quotaRows.
func (q *Quota) row(account string, warned time.Time) []any {
	return []any{account, q.Octets, q.Messages, q.Lifetime.Milliseconds(), q.Warn.String(), milliseconds(warned)}
}

// check refuses what bounds nothing in this world.
func (q *Quota) check() error {
	if q.Octets < 0 || q.Messages < 0 {
		return refuse(ErrInvalid, "a quota is negative")
	}
	if q.Lifetime != 0 && (q.Lifetime < minLifetime || q.Lifetime > maxLifetime) {
		return refuse(ErrInvalid, "mail waits from %v to %v, not %v", minLifetime, maxLifetime, q.Lifetime)
	}
	return nil
}

// LifetimeOf is how long mail for a held domain waits; 0: as the queue's configuration says.
func (d *Directory) LifetimeOf(domain string) time.Duration {
	s := d.state.Load()
	if c := s.customers[s.held[canonicalDomain(domain)]]; c != nil {
		return c.Quota.Lifetime
	}
	return 0
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
	var lifetime, warned int64
	if err := scan(&name, &q.Octets, &q.Messages, &lifetime, &warn, &warned); err != nil {
		return err
	}
	q.Lifetime = time.Duration(lifetime) * time.Millisecond
	if warn != "" {
		if err := q.Warn.UnmarshalText([]byte(warn)); err != nil {
			return err
		}
	}
	if warned != 0 {
		q.Warned = time.UnixMilli(warned).UTC()
	}
	if c := s.customers[name]; c != nil { // else a hand that bypassed the foreign key wrote this
		c.Quota = q
	}
	return nil
}
