package main

import (
	"context"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"bothy/control/lease"
	"bothy/management/admin"

	site "bothy"
)

func TestLease(t *testing.T) {
	updated := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	held := site.Lease{
		Lease:   lease.Lease{Prefix: netip.MustParsePrefix("192.0.2.100/32"), Client: "\x01\x02\x00\x00\x00\x00\x01", State: lease.Bound, Hostname: "Meter", Hardware: "\x02\x00\x00\x00\x00\x01"},
		Current: true, Expires: time.Now().Add(90*time.Minute + 30*time.Second), Updated: updated,
	}
	ended := held
	ended.Prefix, ended.Current, ended.Expires, ended.Hostname = netip.MustParsePrefix("192.0.2.101/32"), false, time.Now().Add(-49*time.Hour), "bad\tname"
	answering(t, inSite(t), func(s *admin.Server) {
		admin.Handle(s, http.MethodGet, "/v1/leases", func(context.Context, struct{}) ([]site.Lease, error) {
			return []site.Lease{held, ended}, nil
		})
		admin.Handle(s, http.MethodPost, "/v1/leases/pin", func(_ context.Context, q site.LeaseRequest) (site.Lease, error) {
			if q.Address != "192.0.2.100" {
				return site.Lease{}, &admin.Error{Status: http.StatusNotFound, Text: q.Address + " was never given to anybody"}
			}
			held.Pinned = q.Pinned
			return held, nil
		})
	})
	steps(t, []step{
		{args: "lease list", out: "ADDRESS      HOST   HARDWARE           STATE  ENDS\n192.0.2.100  Meter  02:00:00:00:00:01  bound  in 1h30m\n"},
		{args: "lease pin 192.0.2.100", out: "Pinned 192.0.2.100\n"},
		{args: "lease pin 192.0.2.7", code: 1, err: "192.0.2.7 was never given to anybody"},
		{args: "lease list --all", out: "ADDRESS      HOST      HARDWARE           STATE          ENDS\n192.0.2.100  Meter     02:00:00:00:00:01  bound, pinned  in 1h30m\n192.0.2.101  bad name  02:00:00:00:00:01  ended          2d1h ago\n"},
		{args: "lease unpin 192.0.2.100", out: "Not pinned any more: 192.0.2.100\n"},
		{args: "lease export --format hosts", out: "192.0.2.100\tmeter\n"},
		{args: "lease show 192.0.2.9", code: 1, err: "was never given"},
	})
	if r := bothy(t, "", "lease", "show", "192.0.2.101"); r.code != 0 || r.out == "" {
		t.Errorf("show: %+v", r)
	}
}
