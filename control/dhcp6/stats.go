package dhcp6

import (
	"fmt"

	"bothy/control/lease"
	"bothy/control/tally"
)

// Pools are how full the pools of addresses and of prefixes are now.
func (s *Server) Pools() (all []lease.Use) {
	now := s.o.Leases.Now()
	s.mu.Lock()
	p := s.machine.plan // which does not change
	s.mu.Unlock()
	for _, sub := range p.subnets {
		for _, pool := range sub.pools {
			all = append(all, lease.Use{Name: pool.String(), Size: pool.Size(), Taken: pool.Taken(now)})
		}
		for _, d := range sub.delegations {
			all = append(all, lease.Use{Name: fmt.Sprintf("%v/%d", d.from, d.length), Size: d.pool.Size(), Taken: d.pool.Taken(now)})
		}
	}
	return all
}

// Counts are the service's counters.
func (s *ClientService) Counts() tally.Counts { return s.tally.Counts() }
