package queue

import (
	"slices"
	"strings"
)

// LaneCount is how much waits in one lane, in recipients.
type LaneCount struct {
	Lane    Lane `json:"lane"`
	Due     int  `json:"due"`     // may be leased now; none while the kind is paused
	Waiting int  `json:"waiting"` // in all
	Paused  bool `json:"paused,omitempty"`
}

// Lanes counts what waits in every lane that has something, by name.
func (s *Spool) Lanes() []LaneCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.tick(s.now())
	var counts []LaneCount
	for name, l := range s.index.lanes {
		if l.all == 0 {
			continue
		}
		c := LaneCount{Lane: name, Waiting: l.all, Paused: l.clock.stopped()}
		if !c.Paused {
			c.Due = l.due.len()
		}
		counts = append(counts, c)
	}
	slices.SortFunc(counts, func(a, b LaneCount) int { return strings.Compare(string(a.Lane), string(b.Lane)) })
	return counts
}

// IsZero reports whether f chooses everything.
func (f Filter) IsZero() bool {
	return len(f.IDs) == 0 && f.Lane == "" && f.Kind == "" && f.State == "" && f.Sender == "" && f.Recipient == ""
}
