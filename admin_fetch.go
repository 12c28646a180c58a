package site

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"bothy/application/odmr"
	"bothy/management/admin"
)

// ProviderStatus is how this site stands with one provider.
type ProviderStatus struct {
	Provider string       `json:"provider"`
	Account  string       `json:"account,omitempty"` // empty: the certificate says who we are
	Stage    string       `json:"stage"`             // of the call under way; "ended": there is none
	Since    time.Time    `json:"since,omitzero"`    // when that call began
	Messages int          `json:"messages,omitempty"`
	Octets   int64        `json:"octets,omitempty"`
	LastCall time.Time    `json:"last_call,omitzero"` // when the last call ended
	Outcome  FetchOutcome `json:"outcome,omitempty"`  // of it
	Error    string       `json:"error,omitempty"`    // and why, where it failed
	Brought  int          `json:"brought,omitempty"`  // messages
	Sent     int          `json:"sent,omitempty"`     // messages that went along
	Failures int          `json:"failures,omitempty"` // calls in a row
	NextCall time.Time    `json:"next_call,omitzero"`
}

// providers are the standings with all providers, in the order of the configuration.
func (s *Site) providers() []ProviderStatus {
	all := []ProviderStatus{}
	for _, c := range s.current.Load().customers {
		st := c.Standing()
		p := ProviderStatus{
			Provider: st.Provider, Account: st.Account, Stage: st.Stage.String(), Since: st.Began, Messages: st.Messages, Octets: st.Octets,
			LastCall: st.LastEnd, Brought: st.Last.Messages, Sent: st.Last.Sent, Failures: st.Failures, NextCall: st.Next,
		}
		if !st.LastEnd.IsZero() {
			p.Outcome = fetchOutcome(st.LastErr)
		}
		if st.Failures > 0 {
			p.Error = strings.TrimPrefix(st.LastErr.Error(), "odmr: ")
		}
		all = append(all, p)
	}
	return all
}

// fetch makes one call to each of the providers asked for and reports their progress.
func (s *Site) fetch(ctx context.Context, q FetchRequest, send func(FetchEvent) error) error {
	customers, err := s.chosen(q.Providers)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var failed error
	report := func(e FetchEvent) {
		e.Providers = len(customers)
		mu.Lock()
		defer mu.Unlock()
		if err := send(e); err != nil && failed == nil {
			failed = err
		}
	}
	var calls sync.WaitGroup
	for _, c := range customers {
		calls.Go(func() { s.call(ctx, c, q.All, report) })
	}
	calls.Wait()
	return failed
}

// chosen are the customers of the providers that are named.
func (s *Site) chosen(names []string) ([]*odmr.Customer, error) {
	all := s.current.Load().customers
	if len(all) == 0 {
		return nil, &admin.Error{Status: http.StatusConflict, Text: "this site has no provider to call", Hint: "set fetch.provider in the configuration, or join one: bothy join --help"}
	}
	if len(names) == 0 {
		return all, nil
	}
	var customers []*odmr.Customer
	for _, name := range names {
		found := slices.DeleteFunc(slices.Clone(all), func(c *odmr.Customer) bool {
			host, _, _ := net.SplitHostPort(c.Config.Provider)
			return !strings.EqualFold(name, host) && !strings.EqualFold(name, c.Config.Provider)
		})
		if len(found) == 0 {
			return nil, &admin.Error{Status: http.StatusNotFound, Text: fmt.Sprintf("no provider %q is called from here", name), Hint: "bothy status shows those that are"}
		}
		customers = append(customers, found...)
	}
	return customers, nil
}

// call makes one call.
func (s *Site) call(ctx context.Context, c *odmr.Customer, all bool, send func(FetchEvent)) {
	tell := s.observeCall()
	fetch := c.Call
	if all {
		fetch = c.CallAll
	}
	report, err := fetch(ctx, func(p odmr.Progress) {
		tell(p)
		if p.Stage == odmr.Ended {
			return // how is yet to be said
		}
		send(FetchEvent{ // a caller who left ends ctx
			Provider: c.Config.Provider, Stage: p.Stage.String(), Messages: p.Messages, Octets: p.Octets, Waited: p.Waited, WaitedOctets: p.WaitedOctets,
		})
	})
	last := FetchEvent{
		Provider: c.Config.Provider, Stage: odmr.Ended.String(), Messages: report.Messages, Octets: report.Octets, Sent: report.Sent,
		Done: true, Seconds: report.Took.Seconds(), Outcome: fetchOutcome(err),
	}
	if err != nil {
		last.Error = strings.TrimPrefix(err.Error(), "odmr: ")
	}
	send(last)
}
