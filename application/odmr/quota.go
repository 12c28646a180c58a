package odmr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/smtp"
)

// Backlog is what waits for a customer.
type Backlog struct {
	Messages int
	Octets   int64
	Oldest   time.Time // when the first of it came; zero where nothing waits

	Expires  time.Time     // when the first of it goes back to its sender; zero where nothing waits
	Lifetime time.Duration // how long that one may wait
}

// Add adds what waits for one more of its domains, where a message may wait for lifetime.
func (b *Backlog) Add(messages int, octets int64, oldest time.Time, lifetime time.Duration) {
	b.Messages += messages
	b.Octets += octets
	if oldest.IsZero() {
		return
	}
	if b.Oldest.IsZero() || oldest.Before(b.Oldest) {
		b.Oldest = oldest
	}
	if expires := oldest.Add(lifetime); b.Expires.IsZero() || expires.Before(b.Expires) {
		b.Expires, b.Lifetime = expires, lifetime
	}
}

// The replies to a recipient whose customer has more waiting than it may.
var (
	replyFullLater = smtp.Reply{Code: 452, Enhanced: [3]int{4, 2, 2}, Text: "too much mail waits for this recipient's site; it will be less when it has called"}
	replyFullGone  = smtp.Reply{Code: 552, Enhanced: [3]int{5, 2, 2}, Text: "too much mail waits for this recipient's site"}
)

// OverQuota returns the refusal of one more message of size octets (0: not declared) for a customer, final or not; the zero Reply if it may come.
// RFC 3463 §3.3: X.2.2.
func OverQuota(q directory.Quota, b Backlog, size int64, final bool) smtp.Reply {
	over := q.Messages > 0 && b.Messages >= q.Messages || q.Octets > 0 && (b.Octets >= q.Octets || size > q.Octets-b.Octets)
	switch {
	case !over:
		return smtp.Reply{}
	case final, q.Octets > 0 && size > q.Octets: // it never will be less
		return replyFullGone
	}
	return replyFullLater
}

// Quotas is the policy Next, but for customers who have as much waiting as may: more for them is refused at RCPT. It is an smtp.Policy.
type Quotas struct {
	Next     smtp.Policy
	Held     func(domain string) (account string, ok bool)
	Customer func(ctx context.Context, account string) (directory.Customer, error)
	Waiting  func(directory.Customer) Backlog
	Final    bool   // 552, not 452
	Full     func() // hears of each refusal, and returns at once
}

// Mail implements smtp.Policy.
func (q Quotas) Mail(ctx context.Context, s *smtp.Session, env *message.Envelope) error {
	return q.Next.Mail(ctx, s, env)
}

// Rcpt implements smtp.Policy.
func (q Quotas) Rcpt(ctx context.Context, s *smtp.Session, env *message.Envelope, to *message.Recipient) error {
	err := q.Next.Rcpt(ctx, s, env, to)
	var reply smtp.Reply
	if err != nil && (!errors.As(err, &reply) || !reply.Positive()) {
		return err
	}
	a, _ := to.Address.ASCII()
	account, held := q.Held(a.Domain)
	if !held {
		return err
	}
	customer, unknown := q.Customer(ctx, account)
	if unknown != nil || customer.Quota.Octets == 0 && customer.Quota.Messages == 0 {
		return err
	}
	if refusal := OverQuota(customer.Quota, q.Waiting(customer), env.Size, q.Final); refusal.Code != 0 {
		q.Full()
		return refusal
	}
	return err
}

// When a warning is due.
const (
	warnShare    = 0.8            // of a quota
	warnBefore   = 24 * time.Hour // the first message expires, or a fifth of its lifetime where that is shorter
	warnInterval = 24 * time.Hour // between two warnings
)

// Warning says in lines why a customer is to be warned now; none where it is not, or was within a day.
func Warning(q directory.Quota, b Backlog, now time.Time) (why []string) {
	if q.Warn.IsNull() || now.Sub(q.Warned) < warnInterval && !q.Warned.After(now) {
		return nil
	}
	if q.Octets > 0 && float64(b.Octets) >= warnShare*float64(q.Octets) {
		why = append(why, fmt.Sprintf("%d of %d bytes that may wait are used. When all are, new mail is refused.", b.Octets, q.Octets))
	}
	if q.Messages > 0 && float64(b.Messages) >= warnShare*float64(q.Messages) {
		why = append(why, fmt.Sprintf("%d of %d messages that may wait are there. When all are, new mail is refused.", b.Messages, q.Messages))
	}
	if b.Messages > 0 && !b.Expires.IsZero() && b.Expires.Sub(now) <= min(warnBefore, b.Lifetime/5) {
		why = append(why, "The first message goes back to its sender at "+message.FormatDate(b.Expires)+".")
	}
	return why
}

// AppendWarning writes the warning (RFC 3834 §3.1): it is nobody's answer and wants none.
func AppendWarning(b []byte, hostname string, c directory.Customer, waiting Backlog, why []string, id message.ID, now time.Time) []byte {
	field := func(name, value string) { b = message.AppendField(b, name, value) }
	field("From", "Mail for "+c.Account+" <postmaster@"+hostname+">")
	field("To", "<"+c.Quota.Warn.String()+">")
	field("Subject", "Mail waits for "+c.Account)
	field("Date", message.FormatDate(now))
	field("Message-ID", "<"+id.String()+"@"+hostname+">")
	field("Auto-Submitted", "auto-generated") // RFC 3834 §5.1
	field("MIME-Version", "1.0")
	field("Content-Type", "text/plain; charset=utf-8")
	field("Content-Transfer-Encoding", "8bit")
	called := "It has never called."
	if !c.LastContact.IsZero() {
		called = "It called last at " + message.FormatDate(c.LastContact.In(now.Location())) + "."
	}
	lines := append([]string{
		"", "Mail waits here for " + strings.Join(c.Domains, ", ") + ", and the site",
		"that should fetch it does not, or not all of it. " + called, "",
		fmt.Sprintf("Waiting: %d messages, %d bytes.", waiting.Messages, waiting.Octets), "",
	}, why...)
	lines = append(lines, "", "See to it that the site calls "+hostname+". It fetches everything with one call.",
		"You get this at most once a day. Whoever runs "+hostname+" has set this address.")
	return append(append(b, strings.Join(lines, "\r\n")...), "\r\n"...)
}
