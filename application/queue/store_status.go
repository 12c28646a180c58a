package queue

import (
	"slices"
	"strings"
	"time"
)

// LaneCount is how much waits in one lane.
type LaneCount struct {
	Lane     Lane      `json:"lane"`
	Due      int       `json:"due"`      // recipients that may be leased now; none while the kind is paused
	Waiting  int       `json:"waiting"`  // recipients in all
	Messages int       `json:"messages"` // a body that waits here for several recipients counts once
	Octets   int64     `json:"octets"`   // of their bodies
	Oldest   time.Time `json:"oldest,omitzero"`
	Paused   bool      `json:"paused,omitempty"`
}

// Lanes counts what waits in every lane that has something, by name.
func (s *Spool) Lanes() []LaneCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.tick(s.now())
	counts := make([]LaneCount, 0, len(s.index.lanes))
	for _, l := range s.index.lanes {
		counts = append(counts, l.count())
	}
	slices.SortFunc(counts, func(a, b LaneCount) int { return strings.Compare(string(a.Lane), string(b.Lane)) })
	return counts
}

// Lane counts what waits in one lane, in constant time.
func (s *Spool) Lane(name Lane) LaneCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.tick(s.now())
	if l := s.index.lanes[name]; l != nil {
		return l.count()
	}
	c := s.index.clocks[name.Kind()]
	return LaneCount{Lane: name, Paused: c != nil && c.stopped()}
}

func (l *lane) count() LaneCount {
	c := LaneCount{
		Lane: l.name, Waiting: l.all, Messages: l.stays.len(), Octets: l.octets,
		Oldest: time.UnixMilli(l.stays.first().entry.accepted), Paused: l.clock.stopped(),
	}
	if !c.Paused {
		c.Due = l.due.len()
	}
	return c
}

// IsZero reports whether f chooses everything.
func (f Filter) IsZero() bool {
	return len(f.IDs) == 0 && f.Lane == "" && f.Kind == "" && f.State == "" && f.Sender == "" && f.Recipient == ""
}
