package queue_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/queue"
	"bothy/application/queue/queuetest"
	"bothy/lib/sim"
)

// A lane has terms of its own, else its kind's, else everybody's.
func TestLaneConfig(t *testing.T) {
	const day = 24 * time.Hour
	c := queue.Config{Lifetime: 5 * day, DelayNotice: 4 * time.Hour, Lanes: map[string]queue.LaneConfig{
		"odmr":             {Lifetime: 30 * day, DelayNotice: 7 * day},
		"odmr/hut.example": {Lifetime: 90 * day},
	}}
	for _, tt := range []struct {
		lane            queue.Lane
		lifetime, delay time.Duration
	}{
		{"mx/partner.example", 5 * day, 4 * time.Hour},
		{"odmr/clinic.example", 30 * day, 7 * day},
		{"odmr/hut.example", 90 * day, 7 * day},
	} {
		if l, d := c.LifetimeOf(tt.lane), c.DelayNoticeOf(tt.lane, c.DelayNotice); l != tt.lifetime || d != tt.delay {
			t.Errorf("%s: %v, %v", tt.lane, l, d)
		}
	}
}

// The terms of a lane are those by which its mail is given up and its senders are told.
func TestLaneTerms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notices := &reporter{}
		s := queuetest.OpenWith(t, queue.Options{
			FS: sim.NewDisk(), Dir: "spool", Notifier: notices, Config: queue.Config{DelayNotice: 4 * time.Hour, Lanes: map[string]queue.LaneConfig{
				"test/slow.example": {Lifetime: 240 * time.Hour, DelayNotice: 96 * time.Hour},
			}},
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.Run(ctx) })
		accept(t, s, envelope(t, "a@home.example", "one@slow.example", "two@quick.example"))
		for _, c := range []struct {
			after time.Duration
			want  string
		}{
			{5 * time.Hour, "delayed two"},
			{92 * time.Hour, "delayed one"},
			{24 * time.Hour, "failed two"},
			{121 * time.Hour, "failed one"},
		} {
			time.Sleep(c.after)
			synctest.Wait()
			var got []string
			notices.mu.Lock()
			for _, r := range notices.reports {
				if r.Envelope.ReversePath.IsNull() {
					continue // the notices grow old too
				}
				for _, o := range r.Outcomes {
					got = append(got, o.Action.String()+" "+o.Recipient.Address.Local)
				}
			}
			notices.reports = nil
			notices.mu.Unlock()
			if strings.Join(got, ", ") != c.want {
				t.Errorf("after %v more: %v, want %s", c.after, got, c.want)
			}
		}
		cancel()
		wg.Wait()
	})
}
