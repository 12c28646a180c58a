package queue

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"bothy/application/message"
)

func TestHeap(t *testing.T) {
	type item struct {
		key  int
		slot int32
	}
	dice := rand.New(rand.NewPCG(1, 1))
	h := heap[*item]{less: func(a, b *item) bool { return a.key < b.key }, slot: func(i *item) *int32 { return &i.slot }}
	var in []*item
	for range 20_000 {
		switch {
		case len(in) == 0 || dice.IntN(5) < 3:
			x := &item{key: dice.IntN(1000)}
			h.push(x)
			in = append(in, x)
		case dice.IntN(2) == 0:
			i := dice.IntN(len(in))
			h.remove(in[i])
			if in[i].slot != 0 {
				t.Fatal("removed, and still has a slot")
			}
			in = slices.Delete(in, i, i+1)
		default:
			x := in[dice.IntN(len(in))]
			x.key = dice.IntN(1000)
			h.fix(x)
		}
	}
	for last := -1; h.len() > 0; {
		x := h.first()
		if x.key < last {
			t.Fatalf("%d after %d", x.key, last)
		}
		last = x.key
		h.remove(x)
		in = slices.Delete(in, slices.Index(in, x), slices.Index(in, x)+1)
	}
	if len(in) > 0 {
		t.Fatalf("%d items lost", len(in))
	}
}

// The age of mail is the time its clock ran since it was accepted, whatever happened in between.
func TestClockAge(t *testing.T) {
	dice := rand.New(rand.NewPCG(2, 2))
	for range 200 {
		var c, replayed clock
		ran := []int64{0} // by time: how long the clock had run
		for now := int64(1); now < 500; now++ {
			running := !c.stopped()
			if dice.IntN(20) == 0 {
				if c.stopped() {
					from := c.since
					c.resume(now)
					replayed.since = 0
					replayed.add(from, now)
				} else {
					c.pause(now)
					replayed.since = now
				}
			}
			step := int64(0)
			if running {
				step = 1
			}
			ran = append(ran, ran[now-1]+step)
			accepted := dice.Int64N(now + 1)
			if got, want := c.age(accepted, now), ran[now]-ran[accepted]; got != want {
				t.Fatalf("accepted at %d, age at %d is %d, want %d", accepted, now, got, want)
			}
			if got, want := replayed.age(accepted, now), c.age(accepted, now); got != want {
				t.Fatalf("replayed: %d, want %d", got, want)
			}
		}
		for _, s := range slices.Clone(c.stops) { // a compaction writes them again
			replayed.add(s.from, s.to)
		}
		if !slices.Equal(replayed.stops, c.stops) {
			t.Fatalf("replayed twice: %v, want %v", replayed.stops, c.stops)
		}
		half := int64(250)
		c.forget(half)
		if got, want := c.age(half, 499), ran[499]-ran[half]; got != want {
			t.Fatalf("after forgetting: %d, want %d", got, want)
		}
	}
}

func TestClockBound(t *testing.T) {
	var c clock
	for i := int64(1); i <= maxStops+100; i++ {
		c.add(10*i, 10*i+5)
	}
	if len(c.stops) != maxStops {
		t.Errorf("%d stops", len(c.stops))
	}
	if got, want := c.age(0, 10*(maxStops+101)), int64(10*(maxStops+101)-5*(maxStops+100)); got > want || got < want-10*100 {
		t.Errorf("age %d, want %d or a little less", got, want)
	}
}

// What a lane says of itself is what its rows say, whatever happened to them.
func TestLaneCounts(t *testing.T) {
	lanes := []Lane{"odmr/a", "odmr/b", "mx/c"}
	forever := terms{func(Lane) time.Duration { return time.Hour }, func(Lane) time.Duration { return 0 }}
	for seed := range uint64(50) {
		dice := rand.New(rand.NewPCG(seed, 3))
		x := newIndex(func(Lane) {})
		var live []*entry
		for now := int64(1); now < 300; now++ {
			switch {
			case len(live) == 0 || dice.IntN(3) == 0:
				e := &entry{id: message.ID{byte(now), byte(now >> 8)}, accepted: dice.Int64N(now), size: dice.Int64N(1000), rows: make([]row, 1+dice.IntN(5))}
				to := make([]Lane, len(e.rows))
				for i := range to {
					to[i] = lanes[dice.IntN(len(lanes))]
				}
				x.add(e, to, now, forever)
				live = append(live, e)
			case dice.IntN(2) == 0:
				e := live[dice.IntN(len(live))]
				x.move(&e.rows[dice.IntN(len(e.rows))], lanes[dice.IntN(len(lanes))], now)
			default:
				i := dice.IntN(len(live))
				if r := &live[i].rows[dice.IntN(len(live[i].rows))]; x.settle(r) {
					live = slices.Delete(live, i, i+1)
				}
			}
			want := map[Lane]LaneCount{}
			for _, e := range live {
				seen := map[Lane]bool{}
				for i := range e.rows {
					r := &e.rows[i]
					if r.gone {
						continue
					}
					c := want[r.lane.name]
					c.Lane = r.lane.name
					c.Due++
					c.Waiting++
					if !seen[c.Lane] {
						seen[c.Lane] = true
						c.Messages++
						c.Octets += e.size
						if at := time.UnixMilli(e.accepted); c.Oldest.IsZero() || at.Before(c.Oldest) {
							c.Oldest = at
						}
					}
					want[c.Lane] = c
				}
			}
			if len(want) != len(x.lanes) {
				t.Fatalf("seed %d: %d lanes, want %d", seed, len(x.lanes), len(want))
			}
			for name, w := range want {
				if got := x.lanes[name].count(); got != w {
					t.Fatalf("seed %d: %+v, want %+v", seed, got, w)
				}
			}
		}
	}
}

// TestLanesApart: what happens in a lane looks at none of the rows of another, however many wait there, and costs the index as a whole the
// logarithm of their number.
func TestLanesApart(t *testing.T) {
	const many = 10_000
	x := newIndex(func(Lane) {})
	keep := terms{func(Lane) time.Duration { return time.Hour }, func(Lane) time.Duration { return 0 }}
	add := func(i int, name Lane) *entry {
		e := newEntry(1)
		e.id, e.accepted = message.ID{byte(i), byte(i >> 8)}, int64(i)
		if i%3 == 0 {
			e.rows[0].when = int64(many + 1000*i)
		}
		x.add(e, []Lane{name}, many, keep)
		return e
	}
	for i := range many {
		add(i, "odmr/many.example")
	}
	l := x.lanes["odmr/many.example"]
	inside, outside := 0, 0
	for _, h := range []*heap[*row]{&l.due, &l.later} {
		less := h.less
		h.less = func(a, b *row) bool { inside++; return less(a, b) }
	}
	stays, expiry := l.stays.less, x.expiry.less
	l.stays.less = func(a, b *stay) bool { inside++; return stays(a, b) }
	x.expiry.less = func(a, b *entry) bool { outside++; return expiry(a, b) }
	const lone = "odmr/lone.example"
	e := add(many+1, lone)
	rows := x.take(lone, 10, &Lease{}, many)
	if len(rows) != 1 || rows[0].entry != e {
		t.Fatalf("took %v", rows)
	}
	x.free(rows[0], many)
	x.flush(x.lanes[lone], many)
	if c := x.lanes[lone].count(); c.Waiting != 1 || c.Due != 1 {
		t.Errorf("%+v", c)
	}
	x.settle(rows[0])
	if inside != 0 || outside > 60 { // up, and twice two comparisons for each of 14 levels down
		t.Errorf("%d looks into the other lane, %d at all messages", inside, outside)
	}
	if l.count().Waiting != many {
		t.Errorf("%+v", l.count())
	}
}
