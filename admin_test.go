package site

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/odmr"
	"bothy/application/queue"
)

// opened is a site with its stores and services made, none of them running.
func opened(t *testing.T, cfg Config) *Site {
	t.Helper()
	return openedAt(t, cfg, time.Now)
}

// openedAt is opened with a clock.
func openedAt(t *testing.T, cfg Config, now func() time.Time) *Site {
	t.Helper()
	s, err := open(t.Context(), cfg, Env{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	next, _, err := s.compose(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.current.Store(next)
	return s
}

// A program that reads the answers finds lists where nothing waits, one end, and durations with their unit.
func TestAnswers(t *testing.T) {
	s := opened(t, Config{
		Hostname: "mail.clinic.example", Data: t.TempDir(),
		Fetch: []odmr.CustomerConfig{{Provider: "127.0.0.1:1", TLS: "none", Username: "clinic", Password: "sesame"}},
	})
	status, err := s.status(t.Context(), struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := json.Marshal(status); err != nil || !strings.Contains(string(b), `"lanes":[]`) {
		t.Errorf("%v %s", err, b)
	}
	var stages []string
	var last []byte
	err = s.fetch(t.Context(), FetchRequest{}, func(e FetchEvent) (err error) {
		stages = append(stages, e.Stage)
		last, err = json.Marshal(e)
		return err
	})
	if err != nil || !slices.Equal(stages, slices.Compact(slices.Clone(stages))) || !strings.Contains(string(last), `"stage":"ended"`) {
		t.Errorf("%v %q", err, stages)
	}
	if text := string(last); !strings.Contains(text, `"done":true`) || !strings.Contains(text, `"took_seconds":0.`) || !strings.Contains(text, `"outcome":"unreachable"`) {
		t.Error(text)
	}
}

// TestCustomerStatus: what waits for a customer is counted over its domains, and how long the oldest has.
func TestCustomerStatus(t *testing.T) {
	cfg := Config{Hostname: "provider.example", Data: t.TempDir()}
	cfg.Queue.Lanes = map[string]queue.LaneConfig{"odmr/lab.example": {Lifetime: time.Hour}}
	s, ctx := opened(t, cfg), t.Context()
	if err := s.directory.AddAccount(ctx, directory.Account{Name: "clinic"}, "sesame"); err != nil {
		t.Fatal(err)
	}
	if err := s.directory.AddCustomer(ctx, directory.Customer{Account: "clinic", Domains: []string{"clinic.example", "lab.example"}}); err != nil {
		t.Fatal(err)
	}
	before := time.Now().Add(-time.Second)
	for _, domain := range []string{"clinic.example", "lab.example", "lab.example"} {
		env := &message.Envelope{ID: message.NewID(time.Now()), Recipients: []message.Recipient{{Address: message.Address{Local: "a", Domain: domain}}}}
		if err := s.spool.Accept(ctx, env, strings.NewReader("Subject: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	c, err := s.customerShow(ctx, struct{ Account string }{"clinic"})
	if err != nil || c.Waiting != 3 || c.WaitingOctets == 0 || c.Oldest.Before(before) || c.State != odmr.StateAway || !c.LastContact.IsZero() {
		t.Errorf("%+v, %v", c, err)
	}
	waiting := s.backlog(directory.Customer{Domains: c.Domains})
	if waiting.Lifetime != time.Hour || waiting.Expires.Before(before.Add(time.Hour)) || waiting.Expires.After(time.Now().Add(time.Hour)) {
		t.Errorf("its customer is warned of the wrong message: %+v", waiting)
	}
	list, err := s.customerList(ctx, CustomersRequest{})
	if b, bad := json.Marshal(list); err != nil || bad != nil || !strings.Contains(string(b), `"account":"clinic","state":"away"`) || !strings.Contains(string(b), `"waiting":3,`) {
		t.Errorf("%s, %v, %v", b, err, bad)
	}
	if _, err := s.customerShow(ctx, struct{ Account string }{"nobody"}); err == nil || !strings.Contains(err.Error(), "there is no customer") {
		t.Error(err)
	}
}

// TestCustomerPages: customers are told of a page at a time, in order, each once; their sum is told to Prometheus without a line for each.
func TestCustomerPages(t *testing.T) {
	s, ctx := opened(t, Config{Hostname: "provider.example", Data: t.TempDir()}), t.Context()
	want := []string{"a", "b", "c", "d", "e"}
	for _, name := range want {
		if err := s.directory.AddAccount(ctx, directory.Account{Name: name}, "sesame"); err != nil {
			t.Fatal(err)
		}
		if err := s.directory.AddCustomer(ctx, directory.Customer{Account: name, Domains: []string{name + ".example", "x." + name + ".example"}}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	q := CustomersRequest{Limit: 2}
	for more := true; more; q.After = got[len(got)-1] {
		page, err := s.customerList(ctx, q)
		if err != nil || len(page.Customers) > q.Limit || len(page.Customers) == 0 {
			t.Fatalf("%+v, %v", page, err)
		}
		for _, c := range page.Customers {
			got = append(got, c.Account)
		}
		more = page.More
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for _, domain := range []string{"b.example", "x.b.example", "c.example"} {
		env := &message.Envelope{ID: message.NewID(time.Now()), Recipients: []message.Recipient{{Address: message.Address{Local: "a", Domain: domain}}}}
		if err := s.spool.Accept(ctx, env, strings.NewReader("Subject: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	called := time.Now().Add(-time.Hour)
	if err := s.directory.Contact(ctx, "c", called); err != nil {
		t.Fatal(err)
	}
	if sum := s.countCustomers(s.spool.Lanes()); sum.All != 5 || sum.Waiting != 2 || sum.Messages != 3 || !sum.Absent.Equal(called) {
		t.Errorf("%+v", sum)
	}
}
