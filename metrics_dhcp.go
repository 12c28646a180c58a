package site

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bothy/control/dhcp6"
	"bothy/control/lease"
	"bothy/control/tally"
	"bothy/management/metrics"
)

// readDHCP is what Prometheus is told of who gives addresses, and of who asks for them.
func (s *Site) readDHCP() (all []metrics.DHCP) {
	if server := s.dhcp.server4; server != nil {
		st := server.Stats()
		all = append(all, served("dhcp4", counted(st.Received, st.Sent, st.Unanswered), s.dhcp.leases4, server.Pools()))
	}
	if server := s.dhcp.server6; server != nil {
		st := server.Stats()
		all = append(all, served("dhcp6", counted(st.Received, st.Sent, st.Unanswered), s.dhcp.leases6, server.Pools()))
	}
	if relay := s.dhcp.relay4.Load(); relay != nil {
		all = append(all, tallied("dhcp4-relay", relay.Counts()))
	}
	if client := s.dhcp.client4.Load(); client != nil {
		d, b := tallied("dhcp4-client", client.Counts()), client.Binding()
		d.State, d.Ends = "asking", b.Ends
		if b.Address.IsValid() {
			d.State = "bound"
		}
		all = append(all, d)
	}
	if client := s.dhcp.client6.Load(); client != nil {
		d, b := tallied("dhcp6-client", client.Counts()), client.Binding()
		d.State, d.Ends = "asking", last6(&b)
		switch {
		case !d.Ends.IsZero():
			d.State = "bound"
		case b.Server != "":
			d.State = "informed"
		}
		all = append(all, d)
	}
	return all
}

// last6 is when the last lease of a binding ends.
func last6(b *dhcp6.Binding) (end time.Time) {
	for _, h := range slices.Concat(b.Addresses, b.Prefixes) {
		if h.Valid.After(end) {
			end = h.Valid
		}
	}
	return end
}

// counted makes counts by name of those by value.
func counted[T interface {
	comparable
	fmt.Stringer
}, W ~string](received, sent map[T]uint64, dropped map[W]uint64) (c tally.Counts) {
	c.Received, c.Sent, c.Dropped = map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
	for t, n := range received {
		c.Received[t.String()] += n
	}
	for t, n := range sent {
		c.Sent[t.String()] += n
	}
	for why, n := range dropped {
		c.Dropped[string(why)] = n
	}
	return c
}

func tallied(service string, c tally.Counts) metrics.DHCP {
	return metrics.DHCP{Service: service, Received: bounded(c.Received), Sent: bounded(c.Sent), Dropped: c.Dropped}
}

// bounded makes one of all message types that have no name ("type 200"), for anybody may send them.
func bounded(types map[string]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for name, n := range types {
		if strings.Contains(name, " ") {
			name = "unknown"
		}
		out[name] += n
	}
	return out
}

func served(service string, c tally.Counts, store *lease.Store, pools []lease.Use) metrics.DHCP {
	d, st := tallied(service, c), store.Stats()
	d.Leases = map[string]int{"bound": st.Bound, "ended": st.Ended, "released": st.Released, "declined": st.Declined}
	d.Syncs, d.SyncTime = st.Log.Syncs, st.Log.SyncTime
	for _, p := range pools {
		d.Pools = append(d.Pools, metrics.Pool(p))
	}
	return d
}
