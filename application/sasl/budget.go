package sasl

import (
	"container/heap"
	"time"
)

// budget is a number of attempts in store: burst when full, and one more each time every has passed.
type budget struct {
	of    *budgets
	key   string
	every time.Duration
	burst int
}

// wait is how long until there is an attempt in store.
func (b budget) wait(now time.Time) time.Duration {
	s := b.of.spent[b.key]
	if s == nil {
		return 0
	}
	return max(0, s.full.Sub(now)-time.Duration(b.burst-1)*b.every)
}

// take takes one attempt out; at most most budgets are remembered.
func (b budget) take(now time.Time, most int) {
	s := b.of.spent[b.key]
	if s == nil {
		s = b.of.add(b.key, most)
	}
	if s.full.Before(now) {
		s.full = now
	}
	s.full = s.full.Add(b.every)
	heap.Fix(b.of, s.index)
}

func (b budget) giveBack() {
	if s := b.of.spent[b.key]; s != nil {
		s.full = s.full.Add(-b.every)
		heap.Fix(b.of, s.index)
	}
}

// budgets remembers those that are not full. When there are too many, the one that will be full first is forgotten: whoever wants another
// to be forgotten has to use up all the rest. It is a heap.Interface.
type budgets struct {
	spent map[string]*spent
	order []*spent
}

type spent struct {
	key   string
	full  time.Time // again
	index int       // in order
}

func (b *budgets) add(key string, most int) *spent {
	if b.spent == nil {
		b.spent = map[string]*spent{}
	}
	for len(b.order) >= most {
		delete(b.spent, heap.Pop(b).(*spent).key)
	}
	s := &spent{key: key}
	heap.Push(b, s)
	b.spent[key] = s
	return s
}

// Len implements [heap.Interface].
func (b *budgets) Len() int { return len(b.order) }

// Less implements [heap.Interface].
func (b *budgets) Less(i, j int) bool { return b.order[i].full.Before(b.order[j].full) }

// Swap implements [heap.Interface].
func (b *budgets) Swap(i, j int) {
	b.order[i], b.order[j] = b.order[j], b.order[i]
	b.order[i].index, b.order[j].index = i, j
}

// Push implements [heap.Interface].
func (b *budgets) Push(x any) {
	s := x.(*spent)
	s.index = len(b.order)
	b.order = append(b.order, s)
}

// Pop implements [heap.Interface].
func (b *budgets) Pop() any {
	last := len(b.order) - 1
	s := b.order[last]
	b.order[last] = nil
	b.order = b.order[:last]
	return s
}
