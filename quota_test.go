package site

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/queue"
)

// TestLifetimeOfCustomer: mail waits as long as was set for its customer; somebody else is warned a day before, and its sender has a notice (RFC 3464) after.
func TestLifetimeOfCustomer(t *testing.T) {
	const day = 24 * time.Hour
	var later atomic.Int64
	began := time.Now()
	now := func() time.Time { return began.Add(time.Duration(later.Load())) }
	s := openedAt(t, Config{Hostname: "provider.example", Data: t.TempDir(), Queue: queue.Config{Lifetime: 5 * day}}, now)
	for _, account := range []string{"clinic", "school"} {
		if err := s.directory.AddAccount(t.Context(), directory.Account{Name: account}, "tanstaaf tanstaaf"); err != nil {
			t.Fatal(err)
		}
		if err := s.directory.AddCustomer(t.Context(), directory.Customer{Account: account, Domains: []string{account + ".example"}}); err != nil {
			t.Fatal(err)
		}
	}
	quota := directory.Quota{Lifetime: 10 * day, Warn: message.Address{Local: "boss", Domain: "mobile.example"}}
	if err := s.directory.SetQuota(t.Context(), "clinic", quota); err != nil {
		t.Fatal(err)
	}
	env := &message.Envelope{
		ID: message.NewID(now()), ReversePath: message.Address{Local: "aunt", Domain: "elsewhere.example"},
		Recipients: []message.Recipient{{Address: message.Address{Local: "nurse", Domain: "clinic.example"}}, {Address: message.Address{Local: "boy", Domain: "school.example"}}},
	}
	if err := s.spool.Accept(t.Context(), env, strings.NewReader("Subject: hello\r\n\r\nhello\r\n")); err != nil {
		t.Fatal(err)
	}
	waits := func(lane queue.Lane) bool { return s.spool.Lane(lane).Messages > 0 }
	if text := scraped(t, s); !strings.Contains(text, `bothy_odmr_customers{waiting="true"} 2`) || !strings.Contains(text, "bothy_odmr_messages 2") {
		t.Error(text)
	}
	at := func(after time.Duration, warned bool) {
		t.Helper()
		later.Store(int64(after))
		c, err := s.directory.Customer(t.Context(), "clinic")
		if err == nil {
			err = s.warnCustomer(t.Context(), c)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := waits("mx/mobile.example"); got != warned {
			t.Errorf("after %v: warned: %v", after, got)
		}
	}
	at(5*day-time.Hour, false) // as the configuration would have it
	at(9*day-time.Minute, false)
	at(9*day, true)

	later.Store(int64(6 * day))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { _ = s.spool.Run(ctx) })
	until(t, "the other customer's message goes back", func() bool { return !waits("odmr/school.example") })
	if !waits("odmr/clinic.example") || !waits("mx/elsewhere.example") {
		t.Error("the customer's own went too, or there is no notice")
	}
	stop()
	running.Wait()

	later.Store(int64(10*day + time.Minute))
	ctx, stop = context.WithCancel(t.Context())
	defer stop()
	running.Go(func() { _ = s.spool.Run(ctx) })
	until(t, "its time is over", func() bool { return !waits("odmr/clinic.example") })
	if n := s.spool.Lane("mx/elsewhere.example").Messages; n < 1 {
		t.Errorf("%d notices to the sender", n)
	}
}

func scraped(t *testing.T, s *Site) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

// until waits for what a running part does.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in 30 seconds: %s", what)
		}
	}
}
