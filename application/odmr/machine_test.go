package odmr

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"bothy/application/directory"
	"bothy/application/smtp"
)

func TestEntitled(t *testing.T) { // RFC 2645 §5.2.1
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clinic := directory.Customer{Account: "clinic", Domains: []string{"clinic.example", "clinic.example.net"}}
	hasty := clinic
	hasty.MinInterval = 5 * time.Minute
	at := func(c directory.Customer, ago time.Duration) directory.Customer {
		c.LastContact = now.Add(-ago)
		return c
	}
	for _, c := range []struct {
		name     string
		customer directory.Customer
		asked    []string
		want     []string
		reply    string
	}{
		{"one", clinic, []string{"clinic.example"}, []string{"clinic.example"}, ""},
		{"all by name", clinic, []string{"clinic.example.net", "clinic.example"}, []string{"clinic.example.net", "clinic.example"}, ""},
		{"all by none", clinic, nil, clinic.Domains, ""},
		{"a foreign one among own ones", clinic, []string{"clinic.example", "light.example"}, nil, replyForeign.Error()},
		{"below an own one", clinic, []string{"ward.clinic.example"}, nil, replyForeign.Error()},
		{"above an own one", clinic, []string{"example.net"}, nil, replyForeign.Error()},
		{"ends like an own one", clinic, []string{"xclinic.example"}, nil, replyForeign.Error()},
		{"begins like an own one", clinic, []string{"clinic.example.evil.example"}, nil, replyForeign.Error()},
		{"none at all", directory.Customer{Account: "new"}, nil, nil, replyForeign.Error()},
		{"first call", hasty, nil, clinic.Domains, ""},
		{"too soon", at(hasty, time.Minute), nil, nil, "450 4.7.0 ATRN refused: call again in 240 seconds"},
		{"just too soon", at(hasty, 5*time.Minute-1), nil, nil, "450 4.7.0 ATRN refused: call again in 1 seconds"},
		{"soon enough", at(hasty, 5*time.Minute), nil, clinic.Domains, ""},
		{"the clock went back", at(hasty, -time.Hour), nil, clinic.Domains, ""},
		{"no interval", at(clinic, 0), nil, clinic.Domains, ""},
		{"foreign and too soon", at(hasty, time.Minute), []string{"light.example"}, nil, replyForeign.Error()},
	} {
		got, err := entitled(c.customer, c.asked, now)
		if !slices.Equal(got, c.want) || (err == nil) != (c.reply == "") || err != nil && err.Error() != c.reply {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

func TestVerdict(t *testing.T) { // RFC 5321 §4.2.1: the first digit decides
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for code := 0; code < 600; code++ {
		v := verdict(smtp.Reply{Code: code}, "x", now.Add(nextCall))
		known := code/100 == 2 || code/100 == 4 || code/100 == 5
		switch {
		case v.Done != (code/100 == 2), v.Failed != (code/100 == 5), v.Retry.After(now) != (code/100 == 4),
			known != (v.Remote == "x"), code > 0 && known != (v.Reply.Code == code):
			t.Errorf("%d: %+v", code, v)
		}
	}
}

func TestPause(t *testing.T) {
	const ten = 10 * time.Minute
	for _, c := range []struct {
		err      error
		failures int
		interval time.Duration
		want     time.Duration
	}{
		{nil, 0, ten, ten},
		{ErrNoMail, 0, ten, ten},
		{fmt.Errorf("call: %w", ErrUnreachable), 1, ten, 15 * time.Second},
		{ErrInterrupted, 3, ten, time.Minute},
		{ErrUnreachable, 1000, ten, ten},
		{ErrUnreachable, 1, 10 * time.Second, 10 * time.Second},
		{ErrLater, 1, ten, time.Minute},
		{ErrLater, 2, 30 * time.Second, time.Minute},
		{ErrLater, 99, ten, ten},
		{fmt.Errorf("%w: %w", ErrLater, replyBusy), 5, ten, 61 * time.Second}, // as long as it wants, however often
		{fmt.Errorf("%w: %w", ErrLater, smtp.Reply{Code: 450, Text: "call again in 999999 seconds"}), 1, ten, time.Hour},
		{fmt.Errorf("%w: %w", ErrLater, replyForeign), 3, ten, 4 * time.Minute},
		{fmt.Errorf("%w: %w", ErrUnable, replyUnable), 1, ten, time.Minute},
		{ErrUnable, 99, ten, ten},
		{ErrDenied, 1, ten, ten},
		{ErrDenied, 2, ten, 20 * time.Minute},
		{ErrInsecure, 99, ten, time.Hour},
		{ErrConfig, 99, 24 * time.Hour, 24 * time.Hour},
	} {
		if got := pause(c.err, c.failures, c.interval); got != c.want {
			t.Errorf("%v after %d failures: %v, want %v", c.err, c.failures, got, c.want)
		}
	}
	for _, c := range []struct {
		err         error
		wait        time.Duration
		least, most time.Duration
	}{
		{nil, ten, 9 * time.Minute, 11 * time.Minute},
		{ErrNoMail, ten, 9 * time.Minute, 11 * time.Minute},
		{ErrLater, time.Minute, 54 * time.Second, 66 * time.Second},
		{ErrDenied, time.Hour, 54 * time.Minute, 66 * time.Minute},
		{ErrInterrupted, 16 * time.Second, 8 * time.Second, 24 * time.Second},
		{ErrUnreachable, ten, 5 * time.Minute, 11 * time.Minute},
		{ErrUnable, time.Minute, 30 * time.Second, 90 * time.Second},
	} {
		if a, b := spread(c.wait, c.err, ten, 0), spread(c.wait, c.err, ten, 0.999999); a != c.least || b > c.most || b < c.most-time.Second {
			t.Errorf("after %v %v becomes %v to %v, want %v to %v", c.err, c.wait, a, b, c.least, c.most)
		}
	}
}

// TestPromise: what a provider says that waits is what its customer reads.
func TestPromise(t *testing.T) {
	for _, messages := range []int{0, 1, 999_999_999} {
		octets := int64(messages) * 1_000_000_000
		if m, o := promised(turning(messages, octets)); m != messages || o != octets {
			t.Errorf("of %d messages of %d octets came %d of %d", messages, octets, m, o)
		}
	}
	for _, text := range []string{"OK", ": 1 messages of -1 octets wait", ": 1 messages of 2 octets wait\nmore", ": 9999999999 messages of 1 octets wait"} {
		if m, o := promised(smtp.Reply{Code: 250, Text: text}); m != 0 || o != 0 {
			t.Errorf("%q is %d messages of %d octets", text, m, o)
		}
	}
}
