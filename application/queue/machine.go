package queue

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"time"

	"bothy/application/message"
	"bothy/lib/wal"
)

// index is what the spool knows without reading the disk: every waiting (message, recipient), by lane. It holds
// numbers only, no address: a million recipients are a million rows. It does no I/O and takes the time as an
// argument, in milliseconds since 1970. The caller locks.
type index struct {
	messages map[message.ID]*entry
	lanes    map[Lane]*lane
	clocks   map[string]*clock // by kind
	later    heap[*lane]       // lanes with deferred rows, by the next time
	expiry   heap[*entry]      // by the earliest time anything may expire
	live     int64             // octets of the log that hold waiting messages
	died     int64             // octets of the log that ceased to be live since somebody looked
	waiting  int               // rows
	ready    func(Lane)        // told when a lane has come to have something due
}

// entry is one message.
type entry struct {
	id       message.ID
	accepted int64
	place    wal.Position // of its record; zero until it is accepted
	size     int64        // octets of the body
	expires  int64        // no row expires, and nobody is to be told of a delay, before that
	release  int64        // no row is due before that; 0 when not asked for (RFC 4865 §4.2)
	deadline int64        // when it should have reached its recipients; 0 for never (RFC 2852 §4)
	rows     []row
	length   uint32 // octets of its record
	live     int32  // rows not gone
	slot     int32  // in index.expiry
	busy     int32  // commits under way that take rows away: the record must stay where it is
	changes  uint32 // counts what happened to the rows
	priority int8   // the higher first (RFC 6710 §5)
	returns  bool   // it fails at the deadline; else its sender is told
	apart    bool   // the body has a file of its own
	proven   bool   // that file was written or read whole since Open
	damaged  bool   // the record or the body cannot be read
}

// newEntry makes an entry with so many rows. Most messages have one recipient: entry, row and the first stay are then one piece of memory,
// which a start with a million of them makes and marks in a third of the time.
func newEntry(rows int) *entry {
	if rows != 1 {
		return &entry{rows: make([]row, rows)}
	}
	one := new(struct {
		entry
		row  [1]row
		stay stay
	})
	one.rows, one.row[0].stay = one.row[:], &one.stay
	return &one.entry
}

// stay is one message in one lane: it lasts as long as any of its rows is there.
type stay struct {
	entry *entry
	lane  *lane
	rows  int32 // those there
	slot  int32 // in lane.stays
}

// row is one recipient of a message.
type row struct {
	*stay
	lease    *Lease       // who holds it
	when     int64        // of the next try; 0 when due
	reply    wal.Position // the record that holds the last reply
	number   uint32       // its index when the message was accepted
	slot     int32        // in lane.due or lane.later
	attempts uint16
	hold     bool // the operator keeps it back
	gone     bool // settled
	told     bool // its sender knows that it waits
	expanded bool // its sender knows that it stands for several
}

// lane is the rows that wait for one next hop.
type lane struct {
	name   Lane
	clock  *clock
	due    heap[*row]  // oldest first
	later  heap[*row]  // next try first
	stays  heap[*stay] // its messages, the oldest first
	newest *stay       // that was added last; nil when it is gone
	octets int64       // of their bodies
	all    int         // rows, the leased and held too
	slot   int32       // in index.later
}

func newIndex(ready func(Lane)) *index {
	return &index{
		messages: make(map[message.ID]*entry),
		lanes:    make(map[Lane]*lane),
		clocks:   make(map[string]*clock),
		later: heap[*lane]{
			less: func(a, b *lane) bool { return a.later.first().when < b.later.first().when },
			slot: func(l *lane) *int32 { return &l.slot },
		},
		expiry: heap[*entry]{
			less: func(a, b *entry) bool { return a.expires < b.expires },
			slot: func(e *entry) *int32 { return &e.slot },
		},
		ready: ready,
	}
}

// terms are how long a recipient may wait in a lane, on its clock.
type terms struct {
	lifetime func(Lane) time.Duration // then it fails
	delay    func(Lane) time.Duration // then its sender is told; 0: never
}

// older orders rows by the priority of their messages (RFC 6710 §5), then by age.
func older(a, b *row) bool {
	if a.entry != b.entry {
		return compareTurn(a.entry, b.entry) < 0
	}
	return a.number < b.number
}

func compareTurn(a, b *entry) int {
	return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.accepted, b.accepted), bytes.Compare(a.id[:], b.id[:]))
}

func sooner(a, b *row) bool { return a.when < b.when }

func rowSlot(r *row) *int32 { return &r.slot }

func (x *index) clock(kind string) *clock {
	c := x.clocks[kind]
	if c == nil {
		c = new(clock)
		x.clocks[kind] = c
	}
	return c
}

func (x *index) lane(name Lane) *lane {
	l := x.lanes[name]
	if l == nil {
		l = &lane{
			name: name, clock: x.clock(name.Kind()),
			due:   heap[*row]{less: older, slot: rowSlot},
			later: heap[*row]{less: sooner, slot: rowSlot},
			stays: heap[*stay]{
				less: func(a, b *stay) bool { return a.entry.accepted < b.entry.accepted },
				slot: func(s *stay) *int32 { return &s.slot },
			},
		}
		x.lanes[name] = l
	}
	return l
}

// add takes in a message whose rows have all but their lane. One that is too old already is looked at after a minute.
func (x *index) add(e *entry, lanes []Lane, now int64, t terms) {
	x.messages[e.id] = e
	x.live += e.footprint()
	for i := range e.rows {
		r := &e.rows[i]
		x.enter(r, e, lanes[i])
		x.place(r, now)
	}
	e.live = int32(len(e.rows))
	x.waiting += len(e.rows)
	e.age(now, t)
	x.expiry.push(e)
}

func (e *entry) footprint() int64 { return int64(e.length) }

// place puts a row that is in no heap where it belongs now.
func (x *index) place(r *row, now int64) {
	if r.entry.release > now {
		r.when = max(r.when, r.entry.release)
	}
	switch {
	case r.gone || r.lease != nil || r.hold || r.entry.damaged:
	case r.when > now:
		r.lane.later.push(r)
		x.fixLater(r.lane)
	default:
		r.when = 0
		r.lane.due.push(r)
		x.tell(r.lane)
	}
}

// lift takes a row out of its heap.
func (x *index) lift(r *row) {
	switch {
	case r.slot == 0:
	case r.when == 0:
		r.lane.due.remove(r)
	default:
		r.lane.later.remove(r)
		x.fixLater(r.lane)
	}
}

// fixLater restores the place of a lane among the lanes after its deferred rows changed.
func (x *index) fixLater(l *lane) {
	switch {
	case l.later.len() == 0 && l.slot != 0:
		x.later.remove(l)
	case l.later.len() > 0 && l.slot == 0:
		x.later.push(l)
	case l.later.len() > 0:
		x.later.fix(l)
	}
}

// tell says that a lane has something due, if its clock runs.
func (x *index) tell(l *lane) {
	if l.due.len() > 0 && !l.clock.stopped() {
		x.ready(l.name)
	}
}

// settle takes a row out for good; gone is true when it was the message's last. The message is then forgotten.
func (x *index) settle(r *row) (gone bool) {
	if r.gone {
		return false
	}
	e := r.entry
	x.lift(r)
	r.gone, r.lease = true, nil
	x.leave(r)
	e.changes++
	e.live--
	x.waiting--
	if e.live > 0 {
		return false
	}
	x.expiry.remove(e)
	delete(x.messages, e.id)
	x.live -= e.footprint()
	x.died += e.footprint()
	return true
}

// enter counts a row, which is in no heap, among those of a lane. The rows of a message enter one after the other.
func (x *index) enter(r *row, e *entry, name Lane) {
	l := x.lane(name)
	if l.newest == nil || l.newest.entry != e {
		if r.stay == nil || r.stay.lane != nil { // else newEntry has made it
			r.stay = new(stay)
		}
		r.stay.entry, r.stay.lane = e, l
		l.newest = r.stay
		l.stays.push(l.newest)
		l.octets += e.size
	}
	r.join(l.newest)
}

func (r *row) join(s *stay) {
	r.stay = s
	s.rows++
	s.lane.all++
}

// leave takes a row off its lane's count, and the lane away with its last row.
func (x *index) leave(r *row) {
	l := r.lane
	r.stay.rows--
	if r.stay.rows == 0 {
		l.stays.remove(r.stay)
		l.octets -= r.entry.size
		if l.newest == r.stay {
			l.newest = nil
		}
	}
	l.all--
	if l.all == 0 {
		delete(x.lanes, l.name)
	}
}

// move gives a row the lane that the Router now names.
func (x *index) move(r *row, to Lane, now int64) {
	if r.gone || r.lane.name == to {
		return
	}
	e := r.entry
	x.lift(r)
	x.leave(r)
	if i := slices.IndexFunc(e.rows, func(o row) bool { return !o.gone && o.lane.name == to }); i >= 0 {
		r.join(e.rows[i].stay)
	} else {
		x.enter(r, e, to)
	}
	x.place(r, now)
}

// tick makes due whose time has come.
func (x *index) tick(now int64) {
	for x.later.len() > 0 && x.later.first().later.first().when <= now {
		r := x.later.first().later.first()
		x.lift(r)
		x.place(r, now)
	}
}

// flush makes due every deferred row of a lane whose sender does not want it to wait, and says what is due there.
func (x *index) flush(l *lane, now int64) {
	for _, r := range slices.Clone(l.later.items) {
		if r.entry.release > now {
			continue
		}
		x.lift(r)
		r.when = 0
		x.place(r, now)
	}
	x.tell(l)
}

// flushKind is flush for all lanes of a kind.
func (x *index) flushKind(kind string, now int64) {
	for name, l := range x.lanes {
		if name.Kind() == kind {
			x.flush(l, now)
		}
	}
}

// take leases up to limit rows of the lane's oldest message; nil when nothing is due.
func (x *index) take(name Lane, limit int, by *Lease, now int64) []*row {
	x.tick(now)
	l := x.lanes[name]
	if l == nil || l.clock.stopped() || l.due.len() == 0 {
		return nil
	}
	var rows []*row
	e := l.due.first().entry
	for l.due.len() > 0 && len(rows) < limit && l.due.first().entry == e {
		r := l.due.first()
		l.due.remove(r)
		r.lease = by
		rows = append(rows, r)
	}
	return rows
}

// free ends the lease of a row.
func (x *index) free(r *row, now int64) {
	r.lease = nil
	if !r.gone {
		x.place(r, now)
	}
}

// retain sets or clears the operator's hold.
func (x *index) retain(r *row, hold bool, now int64) {
	if r.gone || r.hold == hold {
		return
	}
	x.lift(r)
	r.hold = hold
	r.entry.changes++
	if r.lease == nil {
		x.place(r, now)
	}
}

// expired returns a message whose time may have come, its rows that are too old and those of whose delay the sender is to be told,
// as far as nobody holds them. Every call gives another message; nil when there is none.
func (x *index) expired(now int64, t terms) (e *entry, old, late []*row) {
	for x.expiry.len() > 0 && x.expiry.first().expires <= now {
		e := x.expiry.first()
		old, late := e.age(now, t)
		x.expiry.fix(e)
		if len(old)+len(late) > 0 {
			return e, old, late
		}
	}
	return nil, nil, nil
}

// age sets when the message is to be looked at again, and returns the rows that nobody holds and that are too old, and the others of
// whose delay the sender is to be told.
func (e *entry) age(now int64, t terms) (old, late []*row) {
	e.expires = now + maxExpiryWait
	for i := range e.rows {
		r := &e.rows[i]
		if r.gone || r.hold || e.damaged {
			continue
		}
		left, warn := r.left(now, t)
		switch {
		case r.lease != nil:
		case left <= 0:
			old = append(old, r)
		case warn <= 0:
			late = append(late, r)
		}
		least := int64(minExpiryWait)
		if e.deadline > now && r.lease == nil {
			least = 1
		}
		e.expires = min(e.expires, now+min(max(min(left, warn), least), maxExpiryWait))
	}
	return old, late
}

// left returns in how many milliseconds a row fails, and in how many its sender is to be told that it waits, if nothing else happens.
func (r *row) left(now int64, t terms) (fail, warn int64) {
	e := r.entry
	waited := r.lane.clock.age(max(e.accepted, e.release), now) // RFC 4865 §4.2: what it was asked to wait does not count
	fail, warn = t.lifetime(r.lane.name).Milliseconds()-waited, math.MaxInt64
	if d := t.delay(r.lane.name).Milliseconds(); d > 0 {
		warn = d - waited
	}
	switch {
	case e.deadline == 0:
	case e.returns:
		fail = min(fail, e.deadline-now) // RFC 2852 §4.1.2, §4.2: by-mode "R"
	case e.deadline > e.id.Time().UnixMilli(): // by-mode "N"; of what was late when it came somebody told before us
		warn = e.deadline - now
	}
	if r.told {
		warn = math.MaxInt64
	}
	return fail, warn
}

// How often a message's age is looked at, in milliseconds.
const (
	minExpiryWait = 60 * 1000           // while its clock stands still, or while it is leased
	maxExpiryWait = 24 * 60 * 60 * 1000 // whatever lifetime it has: lifetimes may be changed
)

// next returns when tick or expired has something to do; 0 when never.
func (x *index) next() int64 {
	var t int64
	if x.later.len() > 0 {
		t = x.later.first().later.first().when
	}
	if x.expiry.len() > 0 {
		if e := x.expiry.first().expires; t == 0 || e < t {
			t = e
		}
	}
	return t
}
