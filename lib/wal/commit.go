package wal

import (
	"errors"
	"fmt"
	"path"
	"time"
)

// group is what one write and one sync make durable: neighbours in one segment.
type group struct {
	segment *segment
	start   int64 // offset of its first octet
	buf     []byte
	waiters int           // calls of Wait
	due     bool          // write it now
	late    bool          // it has waited for others long enough
	done    chan struct{} // closed when it is durable or err says why not
	err     error
}

func (g *group) end(err error) {
	g.err, g.buf = err, nil
	close(g.done)
}

// newGroup begins a group at the log's end. The caller holds mu.
func (l *Log) newGroup() *group {
	g := &group{segment: l.active, start: l.offset, done: make(chan struct{})}
	if n := len(l.idle); n > 0 {
		g.buf, l.idle = l.idle[n-1][:0], l.idle[:n-1]
	}
	return g
}

// makeRoom returns when a record of n octets fits behind the log's end, its seal included. The caller holds mu.
func (l *Log) makeRoom(n int64) error {
	tried := false
	for {
		switch {
		case l.dead != nil:
			return l.dead
		case l.gather != nil && len(l.gather.buf)+int(n) > l.o.GroupSize && len(l.gather.buf) > 0:
			l.gather.due = true
			l.wake()
			l.changed.Wait()
		case l.active != nil && l.offset+n+headerSize <= l.o.SegmentSize:
			return nil
		case l.sealed != nil:
			l.changed.Wait() // a group may have to be taken back over one seal, not over two
		case l.next != nil:
			l.advance()
		case l.filling:
			round := l.rounds
			for l.rounds == round && l.dead == nil {
				l.changed.Wait()
			}
			tried = true
		case tried:
			return asFull(l.refused)
		default:
			l.allocate(nil)
		}
	}
}

// advance seals the active segment and goes on in the next. The caller holds mu.
func (l *Log) advance() {
	if l.active != nil {
		if l.gather == nil {
			l.gather = l.newGroup()
		}
		g := l.gather
		g.buf = header{group: uint32(g.start)}.appendTo(g.buf, l.active.identity, uint32(l.offset))
		g.due = true
		l.sealed, l.gather = g, nil
		l.wake()
	}
	l.active, l.next, l.offset = l.next, nil, 0
	l.segments[l.active.number] = l.active
}

// allocate begins to make the next segment, from one that was dropped and stands under spareName where there is one. It is called
// when the active one is half full: until then a Drop may leave its segment for it. The caller holds mu.
func (l *Log) allocate(spare *segment) {
	l.filling = true
	l.refused = nil
	l.highest++
	id := identity{l.highest, newSalt()}
	go func() {
		s, err := l.create(id, spare)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.filling = false
		l.refused = err
		l.rounds++
		switch {
		case err != nil && l.dead == nil:
			l.highest-- // so that a long time on a full disk uses no numbers up
		case err == nil && l.next != nil:
			l.discard(s)
		case err == nil:
			l.next = s
		}
		l.changed.Broadcast()
	}()
}

// create makes a segment whose every write finds its room, from the spare where there is one.
func (l *Log) create(id identity, spare *segment) (s *segment, err error) {
	s = &segment{identity: id, size: l.o.SegmentSize}
	if spare != nil {
		s.file = spare.file
		err = l.o.FS.Rename(path.Join(l.o.Dir, spareName), l.path(id))
	} else if s.file, err = l.o.FS.Create(l.path(id)); err == nil {
		if err = s.file.Allocate(s.size); err == nil {
			err = l.fatal(s.file.Sync())
		}
	}
	if err == nil {
		err = l.fatal(l.o.FS.SyncDir(l.o.Dir))
	}
	if err != nil {
		if s.file != nil {
			l.discard(s)
		}
		return nil, fmt.Errorf("wal: new segment: %w", err)
	}
	return s, nil
}

// fatal kills the log with a sync's error.
func (l *Log) fatal(err error) error {
	if err == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.die(err)
}

// wake tells the committer that there is work. The caller holds mu or is the only one left.
func (l *Log) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// hurry has the gathering group written though nobody waits for it.
func (l *Log) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gather != nil {
		l.gather.due = true
		l.wake()
	}
}

// commit writes groups until the log is dead.
func (l *Log) commit() {
	defer close(l.ended)
	for range l.kick {
		for {
			g, ok := l.take()
			if !ok {
				return
			}
			if g == nil {
				break
			}
			l.flush(g)
		}
	}
}

// lead makes the gathering group the flying one, for one who waits for it to write himself, where nobody writes just now: to wake the committer
// and be woken by it takes longer than many a sync. The caller holds mu.
func (l *Log) lead() bool {
	if l.flying || l.sealed != nil || !l.ripe() {
		return false
	}
	l.part()
	l.flying = true
	return true
}

// take makes the oldest group that should be written the flying one, unless one flies; ok is false when the log is dead.
func (l *Log) take() (g *group, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.dead != nil:
		return nil, false
	case l.flying: // who leads wakes us for what came meanwhile
		return nil, true
	case l.sealed != nil:
		g, l.sealed = l.sealed, nil
	case l.ripe():
		g = l.part()
	}
	l.flying = g != nil
	return g, true
}

// flush makes a group durable and wakes who waits for it.
func (l *Log) flush(g *group) {
	began := time.Now()
	_, err := g.segment.file.WriteAt(g.buf, g.start)
	short := err != nil && full(err)
	switch {
	case err == nil:
		err = g.segment.file.Sync()
	case short:
		err = l.takeBack(g)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flying = false
	switch {
	case err != nil:
		g.end(l.die(err))
	case short:
		l.rewind(g)
	default: // even when the log died meanwhile: this is durable
		l.written = Position{g.segment.number, uint32(g.start) + uint32(len(g.buf))}
		l.stats.Syncs++
		l.stats.SyncTime += time.Since(began)
		l.stats.Bytes += uint64(len(g.buf))
		if len(l.idle) < 2 {
			l.idle = append(l.idle, g.buf)
		}
		g.end(nil)
	}
	if l.sealed != nil || l.ripe() {
		l.wake()
	}
	l.changed.Broadcast()
}

// takeBack removes what was written of a group, durably: no later crash may show it.
func (l *Log) takeBack(g *group) error {
	if err := g.segment.file.Truncate(g.start); err != nil {
		return err
	}
	return g.segment.file.Sync()
}

// rewind forgets a group that was taken back and all behind it. The caller holds mu.
func (l *Log) rewind(g *group) {
	for _, g := range []*group{g, l.sealed, l.gather} {
		if g != nil {
			g.end(ErrFull)
		}
	}
	l.sealed, l.gather = nil, nil
	if l.active != g.segment { // it was never written: it is next again, and whatever came after it is too many
		delete(l.segments, l.active.number)
		if l.next != nil {
			l.discard(l.next)
		}
		l.next = l.active
	}
	l.active, l.offset = g.segment, g.start
}

// discard removes a segment that was never written. Where that fails the next Open does it.
func (l *Log) discard(s *segment) {
	s.file.Close()
	l.o.FS.Remove(l.path(s.identity))
}

// die makes err the answer to everything from now on. The caller holds mu. It returns the error that killed the log first.
func (l *Log) die(err error) error {
	if l.dead != nil {
		return l.dead
	}
	l.dead = err
	if !errors.Is(err, ErrClosed) {
		l.o.Died()
	}
	for _, g := range []*group{l.sealed, l.gather} { // the flying one is flush's
		if g != nil {
			g.end(err)
		}
	}
	l.sealed, l.gather = nil, nil
	l.wake()
	l.changed.Broadcast()
	return err
}
