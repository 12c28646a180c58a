package odmr

import (
	"context"
	"errors"
	netmail "net/mail"
	"strings"
	"testing"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/smtp"
)

// TestOverQuota: RFC 3463 §3.3: 452 4.2.2 while it may become less, 552 5.2.2 where it never will or the provider wants that.
func TestOverQuota(t *testing.T) {
	for _, c := range []struct {
		q     directory.Quota
		b     Backlog
		size  int64
		final bool
		want  int
	}{
		{b: Backlog{Messages: 1 << 30, Octets: 1 << 60}},
		{q: directory.Quota{Octets: 100}, b: Backlog{Octets: 99}},
		{q: directory.Quota{Octets: 100}, b: Backlog{Octets: 99}, size: 1},
		{q: directory.Quota{Octets: 100}, b: Backlog{Octets: 99}, size: 2, want: 452},
		{q: directory.Quota{Octets: 100}, b: Backlog{Octets: 100}, want: 452},
		{q: directory.Quota{Octets: 100}, b: Backlog{Octets: 100}, final: true, want: 552},
		{q: directory.Quota{Octets: 100}, size: 101, want: 552},
		{q: directory.Quota{Messages: 2}, b: Backlog{Messages: 1}, size: 1 << 40},
		{q: directory.Quota{Messages: 2}, b: Backlog{Messages: 2}, want: 452},
	} {
		if got := OverQuota(c.q, c.b, c.size, c.final); got.Code != c.want || c.want != 0 && got.Enhanced != [3]int{c.want / 100, 2, 2} {
			t.Errorf("%+v %+v %d: %v", c.q, c.b, c.size, got)
		}
	}
}

type allow struct{ err error }

func (a allow) Mail(context.Context, *smtp.Session, *message.Envelope) error { return nil }
func (a allow) Rcpt(context.Context, *smtp.Session, *message.Envelope, *message.Recipient) error {
	return a.err
}

func TestQuotas(t *testing.T) {
	full := 0
	waiting := map[string]Backlog{"clinic": {Messages: 5}, "school": {Messages: 4}}
	q := Quotas{
		Held: func(domain string) (string, bool) {
			name, _, _ := strings.Cut(domain, ".")
			return name, domain != "local.example"
		},
		Customer: func(_ context.Context, account string) (directory.Customer, error) {
			if account == "gone" {
				return directory.Customer{}, directory.ErrNotFound
			}
			return directory.Customer{Account: account, Quota: directory.Quota{Messages: 5}}, nil
		},
		Waiting: func(c directory.Customer) Backlog { return waiting[c.Account] },
		Full:    func() { full++ },
	}
	moved, unknown := smtp.Reply{Code: 251, Text: "moved"}, smtp.Reply{Code: 550, Text: "unknown"}
	for _, c := range []struct {
		domain string
		next   error
		want   error
	}{
		{"clinic.example", nil, replyFullLater},
		{"clinic.example", moved, replyFullLater},
		{"clinic.example", unknown, unknown},
		{"school.example", nil, nil},
		{"school.example", moved, moved},
		{"local.example", nil, nil},
		{"gone.example", nil, nil},
	} {
		q.Next = allow{c.next}
		to := message.Recipient{Address: message.Address{Local: "a", Domain: c.domain}}
		if got := q.Rcpt(t.Context(), nil, &message.Envelope{}, &to); !errors.Is(got, c.want) {
			t.Errorf("%s, %v: %v, want %v", c.domain, c.next, got, c.want)
		}
	}
	if full != 2 {
		t.Errorf("told of %d refusals", full)
	}
}

// TestWarning: four fifths of a quota, or a day before the first message expires, and at most once a day.
func TestWarning(t *testing.T) {
	now := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	warn := message.Address{Local: "boss", Domain: "mobile.example"}
	const lifetime = 5 * 24 * time.Hour
	for _, c := range []struct {
		q    directory.Quota
		b    Backlog
		want int
	}{
		{directory.Quota{Octets: 100}, Backlog{Messages: 1, Octets: 100}, 0}, // nobody to tell
		{directory.Quota{Octets: 100, Warn: warn}, Backlog{Messages: 1, Octets: 79, Oldest: now}, 0},
		{directory.Quota{Octets: 100, Warn: warn}, Backlog{Messages: 1, Octets: 80, Oldest: now}, 1},
		{directory.Quota{Messages: 10, Warn: warn}, Backlog{Messages: 7, Oldest: now}, 0},
		{directory.Quota{Messages: 10, Warn: warn}, Backlog{Messages: 8, Oldest: now}, 1},
		{directory.Quota{Warn: warn}, Backlog{Messages: 1, Oldest: now.Add(-lifetime + 25*time.Hour)}, 0},
		{directory.Quota{Warn: warn}, Backlog{Messages: 1, Oldest: now.Add(-lifetime + 24*time.Hour)}, 1},
		{directory.Quota{Warn: warn, Octets: 1, Messages: 1}, Backlog{Messages: 1, Octets: 1, Oldest: now.Add(-lifetime)}, 3},
		{directory.Quota{Warn: warn}, Backlog{}, 0},
		{directory.Quota{Octets: 100, Warn: warn, Warned: now.Add(-23 * time.Hour)}, Backlog{Messages: 1, Octets: 100, Oldest: now}, 0},
		{directory.Quota{Octets: 100, Warn: warn, Warned: now.Add(-24 * time.Hour)}, Backlog{Messages: 1, Octets: 100, Oldest: now}, 1},
		{directory.Quota{Octets: 100, Warn: warn, Warned: now.Add(time.Hour)}, Backlog{Messages: 1, Octets: 100, Oldest: now}, 1}, // the clock was set back
	} {
		var b Backlog
		b.Add(c.b.Messages, c.b.Octets, c.b.Oldest, lifetime)
		if got := Warning(c.q, b, now); len(got) != c.want {
			t.Errorf("%+v %+v: %q", c.q, c.b, got)
		}
	}
	c := directory.Customer{Account: "clinic", Domains: []string{"clinic.example"}, Quota: directory.Quota{Warn: warn}, LastContact: now.Add(-time.Hour)}
	content := AppendWarning(nil, "mail.provider.example", c, Backlog{Messages: 3, Octets: 5000}, []string{"why"}, message.NewID(now), now)
	m, err := netmail.ReadMessage(strings.NewReader(string(content)))
	if err != nil || m.Header.Get("To") != "<boss@mobile.example>" || m.Header.Get("Auto-Submitted") != "auto-generated" { // RFC 3834 §5.1
		t.Errorf("%v %v", m, err)
	}
	for _, line := range []string{"Waiting: 3 messages, 5000 bytes.", "why", "clinic.example", "Sat, 10 Jan 2026 11:00:00 +0000"} {
		if !strings.Contains(string(content), line) {
			t.Errorf("no %q in\n%s", line, content)
		}
	}
}

// TestBacklog: the oldest of all domains counts, and what expires first, which need not be the same.
func TestBacklog(t *testing.T) {
	at := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	var b Backlog
	b.Add(0, 0, time.Time{}, time.Hour)
	b.Add(2, 10, at, 24*time.Hour)
	b.Add(0, 0, time.Time{}, time.Minute)
	b.Add(1, 5, at.Add(-time.Hour), 48*time.Hour)
	want := Backlog{Messages: 3, Octets: 15, Oldest: at.Add(-time.Hour), Expires: at.Add(24 * time.Hour), Lifetime: 24 * time.Hour}
	if b != want {
		t.Errorf("%+v", b)
	}
}
