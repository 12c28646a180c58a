package differential

import (
	"fmt"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"
)

// Result is what came of an input, with all that its outcome only sums up.
type Result struct {
	Kind  Kind
	Input Input
	*Played
	Deliveries []Delivery
}

// Run plays the inputs whose names only finds to a server and waits for what it delivers. Where want is known it is played to (see
// Input.Play).
func Run(t testing.TB, s *Server, only *regexp.Regexp, want Record, pace Pace) []*Result {
	t.Helper()
	var results []*Result
	for _, k := range Kinds() {
		for _, r := range k.Rules {
			for _, in := range r.Inputs {
				if only.MatchString(recordName(k, in)) {
					results = append(results, &Result{Kind: k, Input: in})
				}
			}
		}
	}
	began := time.Now()
	work := make(chan *Result)
	var players sync.WaitGroup
	for range s.Parallel {
		players.Go(func() {
			for r := range work {
				address := s.Border
				if r.Input.Login {
					address = s.Submission
				}
				var err error
				if r.Played, err = r.Input.Play(address, want[recordName(r.Kind, r.Input)], pace); err != nil {
					t.Errorf("%s: %v", recordName(r.Kind, r.Input), err)
					r.Played = &Played{}
				}
			}
		})
	}
	for _, r := range results {
		work <- r
	}
	close(work)
	players.Wait()

	played := time.Since(began)
	byID := s.delivered(results)
	t.Logf("%s: %d inputs played in %v, their mail there after %v", s.Name, len(results), played.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	for _, r := range results {
		for _, id := range r.ids(s.ID) {
			if len(byID[id]) == 0 {
				r.Delivered = append(r.Delivered, "accepted, and not delivered")
			}
			for _, d := range byID[id] {
				r.Deliveries = append(r.Deliveries, d)
				r.Delivered = append(r.Delivered, d.describe(r.Input.Texts))
			}
			delete(byID, id)
		}
	}
	if s.Name == "Bothy" && len(byID) > 0 {
		t.Errorf("%d messages were delivered that no reply accepted: %v", len(byID), byID)
	}
	return results
}

// delivered waits until the sink has every message that was accepted, or no more comes, and returns them by id.
func (s *Server) delivered(results []*Result) map[string][]Delivery {
	var ids []string
	for _, r := range results {
		ids = append(ids, r.ids(s.ID)...)
	}
	size := func(byID map[string][]Delivery) (n int) {
		for _, copies := range byID {
			for _, d := range copies {
				n += len(d.To)
			}
		}
		return n
	}
	last, since := -1, time.Now()
	for {
		if s.Fetch != nil {
			s.Fetch()
		}
		byID := s.Sink.Deliveries()
		if n := size(byID); n != last {
			last, since = n, time.Now()
		}
		all := !slices.ContainsFunc(ids, func(id string) bool { return byID[id] == nil })
		switch still := time.Since(since); {
		case all && s.Fetch != nil, all && still > 3*time.Second, still > 20*time.Second:
			return byID
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// compare tells how an outcome differs from the recorded one; empty if it does not.
func compare(want, got *Outcome) string {
	switch {
	case want == nil:
		return "not recorded: run with -args -update"
	case want.String() != got.String():
		return fmt.Sprintf("\n%swas recorded as\n%s", got, want)
	}
	return ""
}
