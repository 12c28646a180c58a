package wal

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"time"
)

// Options of a Log. Dir is required; the zero value of every other field means its default.
type Options struct {
	FS          FS            // OS()
	Dir         string        // made when missing
	SegmentSize int64         // octets, 4 KiB to 1 GiB; 64 MiB
	GroupSize   int           // octets that may wait to be written before Append blocks; 4 MiB
	Linger      time.Duration // how long a record nobody waits for may stay in memory; 5 ms
	Hold        time.Duration // how long a record somebody waits for may wait for those that Expect announced; 0: not at all
	Heads       *Heads        // nil: Open reads every record whole
	Damaged     func(Damage)  // told of each damaged stretch that Open or Scan meets
	Died        func()        // told once when the disk's error has killed the log; it must not call the Log. Nil: Err says it
}

// The bounds of Options.
const (
	MinSegmentSize = 4 << 10
	MaxSegmentSize = 1 << 30

	defaultSegmentSize = 64 << 20
	defaultGroupSize   = 4 << 20
	defaultLinger      = 5 * time.Millisecond
)

const (
	lockName   = "lock"
	spareName  = "spare"
	damagedDir = "damaged"
)

// Damage is a stretch of a segment that is not what was written there.
type Damage struct {
	Position Position
	Length   int64  // octets
	File     string // the copy in damaged/; empty when Err
	Known    bool   // the copy was there before
	Err      error  // why it could not be set aside
}

// Stats are counters since Open and the present size.
type Stats struct {
	Appends  uint64        // records
	Syncs    uint64        // of groups; those of new segments are not counted
	SyncTime time.Duration // that they took, all together, and the writing before each
	Bytes    uint64        // written in groups
	Segments int           // files, the one allocated ahead included
	Size     int64         // octets of those files
}

// Log is an open log. Safe for concurrent use.
type Log struct {
	o     Options
	lock  io.Closer
	kick  chan struct{} // holds one when the committer has work
	ended chan struct{} // closed when the committer has returned

	linger   *time.Timer // wakes the committer for records nobody waits for
	holding  *time.Timer // and for those that have waited for others long enough
	dropping sync.Mutex  // one Drop at a time; taken before mu

	mu       sync.Mutex
	changed  sync.Cond           // room in memory, a segment allocated or not, death
	segments map[uint32]*segment // all that hold records, the active one included
	active   *segment            // nil until the first is allocated
	offset   int64               // where the next record goes
	written  Position            // everything before it is on disk
	next     *segment            // allocated ahead; nil while there is none
	highest  uint32              // number of the newest segment
	filling  bool                // an allocation runs, or a Drop that will end in one
	refused  error               // what the last allocation met
	rounds   uint64              // allocations ended
	gather   *group              // takes records; nil when empty
	held     *group              // it, while holding runs for it
	company  company             // decides when it goes
	sealed   *group              // the last of the segment before; written before gather
	flying   bool                // a group is being written
	idle     [][]byte            // buffers of groups that are done
	dead     error               // why every call fails: ErrClosed or the disk's error
	closed   bool
	stats    Stats
}

// Open replays the log in o.Dir, oldest record first, and makes it ready for Append. An error of replay ends it. The payload
// is valid only during the call. Open does not wait for room: a full disk is met at the first Append.
func Open(o Options, replay func(Position, []byte) error) (*Log, error) {
	if o.FS == nil {
		o.FS = OS()
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = defaultSegmentSize
	}
	o.SegmentSize = min(max(o.SegmentSize, MinSegmentSize), MaxSegmentSize) &^ (alignment - 1)
	if o.GroupSize <= 0 {
		o.GroupSize = defaultGroupSize
	}
	if o.Linger <= 0 {
		o.Linger = defaultLinger
	}
	if o.Damaged == nil {
		o.Damaged = func(Damage) {}
	}
	if o.Died == nil {
		o.Died = func() {}
	}
	if err := o.FS.Mkdir(o.Dir); err != nil {
		return nil, fmt.Errorf("wal: %w", err)
	}
	lock, err := o.FS.Lock(path.Join(o.Dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("wal: in use by another process: %w", err)
	}
	l := &Log{
		o: o, lock: lock, segments: make(map[uint32]*segment),
		kick: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	l.changed.L = &l.mu
	l.linger, l.holding = newTimer(l.hurry), newTimer(l.late)
	if err := l.recover(replay); err != nil {
		for _, s := range l.segments {
			s.file.Close()
		}
		lock.Close()
		return nil, fmt.Errorf("wal: %w", err)
	}
	l.written = Position{l.highest + 1, 0}
	go l.commit()
	l.mu.Lock()
	l.allocate(nil)
	l.mu.Unlock()
	return l, nil
}

// Pending is a record on its way to the disk.
type Pending struct {
	Position Position
	group    *group
	log      *Log
}

// Append gives a record, the parts one behind the other, its position and leaves it to be written with the next group. It
// returns ErrFull or ErrTooLarge when there is no room for it, and for ever what killed the log. It blocks only
// while GroupSize octets wait to be written or the next segment is being allocated.
func (l *Log) Append(parts ...[]byte) (Pending, error) {
	h := header{}
	for _, p := range parts {
		h.length += uint32(len(p))
		h.payload = crc32.Update(h.payload, castagnoli, p)
	}
	if h.length == 0 || h.footprint()+headerSize > l.o.SegmentSize {
		return Pending{}, fmt.Errorf("%w: %d octets", ErrTooLarge, h.length)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.makeRoom(h.footprint()); err != nil {
		return Pending{}, err
	}
	if l.gather == nil {
		l.gather = l.newGroup()
		l.linger.Reset(l.o.Linger)
	}
	g, p := l.gather, Position{l.active.number, uint32(l.offset)}
	h.group = uint32(g.start)
	g.buf = h.appendTo(g.buf, l.active.identity, p.Offset)
	for _, part := range parts {
		g.buf = append(g.buf, part...)
	}
	l.offset += h.footprint()
	g.buf = append(g.buf, padding[:l.offset-g.start-int64(len(g.buf))]...)
	l.stats.Appends++
	if l.offset > l.o.SegmentSize/2 && l.next == nil && !l.filling && l.refused == nil {
		l.allocate(nil)
	}
	return Pending{p, g, l}, nil
}

var padding [alignment]byte

// Wait returns nil when the record is durable. It asks for that now, or when Options.Hold says.
func (p Pending) Wait() error {
	l := p.log
	l.mu.Lock()
	p.group.waiters++
	leads := p.group == l.gather && l.lead()
	if p.group == l.gather && p.group.waiters == 1 {
		l.hold()
	}
	l.mu.Unlock()
	if leads {
		l.flush(p.group)
	}
	<-p.group.done
	return p.group.err
}

// Commit is Append and Wait.
func (l *Log) Commit(parts ...[]byte) (Position, error) {
	p, err := l.Append(parts...)
	if err != nil {
		return Position{}, err
	}
	return p.Position, p.Wait()
}

// Read returns the record at p, in buf if it is large enough; one that is not yet written is written first. It returns ErrGone
// when the segment was dropped and ErrDamaged when the checks fail.
func (l *Log) Read(p Position, buf []byte) ([]byte, error) {
	s, err := l.settled(p)
	if err != nil {
		return nil, err
	}
	payload, err := s.read(p.Offset, buf)
	if err != nil && l.find(p.Segment) == nil {
		return nil, ErrGone // dropped meanwhile, and perhaps written again as another
	}
	return payload, err
}

// settled returns the segment of p when the record there is written.
func (l *Log) settled(p Position) (*segment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.await(p)
	if s := l.segments[p.Segment]; s != nil {
		return s, nil
	}
	return nil, ErrGone
}

// complete returns a segment that nothing is written to any more.
func (l *Log) complete(number uint32) (*segment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.await(Position{number, math.MaxUint32}) // its last group may still be on its way
	s := l.segments[number]
	switch {
	case l.dead != nil:
		return nil, l.dead
	case s == nil:
		return nil, ErrGone
	case s == l.active:
		return nil, fmt.Errorf("wal: segment %08x is being written", number)
	}
	return s, nil
}

// await returns when everything up to p that was appended is written, or the log is dead. The caller holds mu.
func (l *Log) await(p Position) {
	for l.dead == nil && !p.Before(l.written) && (l.gather != nil || l.sealed != nil || l.flying) {
		if l.gather != nil {
			l.gather.due = true
		}
		l.wake()
		l.changed.Wait()
	}
}

func (l *Log) find(number uint32) *segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segments[number]
}

// read returns the record at offset, in buf if it is large enough.
func (s *segment) read(offset uint32, buf []byte) ([]byte, error) {
	if cap(buf) < 4<<10 {
		buf = make([]byte, 4<<10) // most records in one read
	}
	buf = buf[:cap(buf)]
	n, err := s.file.ReadAt(buf, int64(offset))
	h, ok := parseHeader(buf[:n], s.identity, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !ok || h.length == 0 || int64(offset)+h.footprint() > s.size {
		return nil, fmt.Errorf("%w at %v", ErrDamaged, Position{s.number, offset})
	}
	if whole := headerSize + int(h.length); n < whole {
		buf = slices.Grow(buf[:n], whole-n)[:whole]
		if _, err := s.file.ReadAt(buf[n:], int64(offset)+int64(n)); err != nil {
			return nil, err
		}
	}
	payload := buf[headerSize : headerSize+h.length]
	if crc32.Checksum(payload, castagnoli) != h.payload {
		return nil, fmt.Errorf("%w at %v", ErrDamaged, Position{s.number, offset})
	}
	return payload, nil
}

// Segments returns the numbers of the segments that hold records, in rising order. All but the last can be scanned and dropped.
func (l *Log) Segments() []uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	numbers := make([]uint32, 0, len(l.segments))
	for n := range l.segments {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	return numbers
}

// Scan replays one complete segment. Damage in it is reported and set aside as by Open; the error says when that failed.
func (l *Log) Scan(number uint32, fn func(Position, []byte) error) error {
	s, err := l.complete(number)
	if err != nil {
		return err
	}
	var lost error
	t, err := s.scan(fn, func(from, to int64) { lost = cmp.Or(lost, l.damaged(s, from, to)) })
	if err == nil && !t.sealed {
		lost = cmp.Or(lost, l.damaged(s, t.end, s.size))
	}
	return cmp.Or(err, lost)
}

// Drop forgets a complete segment. When it returns nil the segment will not be replayed any more.
func (l *Log) Drop(number uint32) error {
	l.dropping.Lock()
	defer l.dropping.Unlock()
	s, err := l.complete(number)
	if err != nil {
		return err
	}
	l.mu.Lock()
	delete(l.segments, number)
	keep := l.next == nil && !l.filling && s.size == l.o.SegmentSize
	l.filling = l.filling || keep
	l.mu.Unlock()

	if keep {
		err = l.o.FS.Rename(l.path(s.identity), path.Join(l.o.Dir, spareName))
	} else {
		s.file.Close()
		err = l.o.FS.Remove(l.path(s.identity))
	}
	if err == nil {
		l.o.FS.Remove(l.headsPath(s.identity)) // else the next Open does it
		err = l.o.FS.SyncDir(l.o.Dir)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		if keep {
			s.file.Close()
			l.filling = false
		}
		return l.die(err) // it may come back, and what made it superfluous must not go before it
	case keep:
		l.allocate(s)
	}
	return nil
}

// Close writes what has gathered, seals the log and closes its files.
func (l *Log) Close() error {
	l.dropping.Lock()
	defer l.dropping.Unlock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	for l.dead == nil && (l.sealed != nil || l.flying || l.gather != nil) {
		if l.gather != nil {
			l.gather.due = true
		}
		l.wake()
		l.changed.Wait()
	}
	err := l.dead
	l.die(ErrClosed)
	for l.filling || l.flying {
		l.changed.Wait()
	}
	l.mu.Unlock()
	<-l.ended
	l.linger.Stop()
	l.holding.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && l.active != nil {
		err = l.active.seal(l.offset)
	}
	for _, s := range l.segments {
		s.file.Close()
	}
	if l.next != nil {
		l.next.file.Close()
	}
	l.lock.Close()
	return err
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.stats
	for _, s := range l.segments {
		st.Segments++
		st.Size += s.size
	}
	if l.next != nil {
		st.Segments++
		st.Size += l.next.size
	}
	return st
}

// Err returns what killed the log; nil while it lives.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

func (l *Log) path(id identity) string { return path.Join(l.o.Dir, id.String()) }

// newSalt need not be secret or even different every time: it makes a life of a file unlike the lives before.
func newSalt() uint32 { return rand.Uint32() }
