package queue

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/lib/wal"
)

// Spool is the Store of one machine: a log of records, files for large bodies, and an index in memory.
//
// Locks: mu guards the index and orders the log's records about the same recipient; callers.mu may be taken under it.
type Spool struct {
	o       Options
	log     *wal.Log
	buffers sync.Pool // of *buffer
	callers callers
	wake    chan struct{} // holds one when Run has something to do
	routes  atomic.Uint64 // counts calls of Reroute

	accepted atomic.Uint64
	broken   atomic.Pointer[error] // why nothing is accepted any more
	full     atomic.Bool           // the log was told that mail is refused for want of room
	moving   sync.Mutex            // one compaction at a time; taken before mu

	mu      sync.Mutex
	index   *index
	fence   uint64
	asked   memory
	planned int64    // when Run means to look again, milliseconds since 1970
	unsaved [][]byte // records for which the disk had no room, in order; no later one overtakes them
	reap    []reaped // bodies to remove
	newest  uint32   // segment of the log that takes messages
	turned  bool     // there is a new one since Run looked
	closed  bool
	watch   watch
}

// buffer is the memory of one message on its way through.
type buffer struct{ head, body []byte }

// reaped is a body's file that can go when the record of its last settlement is durable.
type reaped struct {
	id message.ID
	by wal.Pending
}

var _ Store = (*Spool)(nil)

// Open recovers the spool in o.Dir, which is made when missing. It fails when another process has it.
func Open(ctx context.Context, o Options) (*Spool, error) {
	if o.FS == nil {
		o.FS = wal.OS()
	}
	if err := o.FS.Mkdir(path.Join(o.Dir, bodyDir)); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	o.defaults() // which depend on the disk of the folder
	s := &Spool{o: o, wake: make(chan struct{}, 1), fence: uint64(o.Now().UnixMicro())}
	s.buffers.New = func() any { return s.newBuffer() }
	s.index = newIndex(s.callers.tell)
	s.watch.set(o.Now(), o.Running)
	start, head := time.Now(), new(record)
	log, err := wal.Open(wal.Options{
		FS: o.FS, Dir: path.Join(o.Dir, logDir), SegmentSize: o.Config.SegmentSize, Hold: o.Config.CommitDelay, Damaged: s.damage, Died: s.poke,
		Heads: s.heads(ctx, head),
	}, func(p wal.Position, b []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.replay(head, p, b, len(b))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	s.log = log
	if err := s.recover(); err != nil {
		log.Close()
		return nil, fmt.Errorf("queue: %w", err)
	}
	o.Log.Info("spool opened", "dir", o.Dir, "recipients", s.index.waiting, "messages", len(s.index.messages), "took", time.Since(start))
	s.room() // an operator whose disk is too small learns of it now
	return s, nil
}

const (
	logDir    = "log"
	minBuffer = 16 << 10 // octets of memory for a message before its size is known
)

func (s *Spool) newBuffer() *buffer {
	return &buffer{body: make([]byte, 0, min(minBuffer, s.o.Config.InlineBody+1))}
}

// Close ends the spool: leases are lost, what was settled is on disk. Whoever listens on Due is told the end.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.drain()
	s.mu.Unlock()
	s.callers.close()
	err := s.log.Close()
	if err == nil {
		s.removeBodies()
	}
	return err
}

// Stats are counters since Open and gauges.
type Stats struct {
	Accepted uint64 // messages
	Messages int    // waiting
	Waiting  int    // recipients
	Live     int64  // octets of the log that hold waiting messages
	Log      wal.Stats

	Free    int64 // octets on the disk that may still be written
	Reserve int64 // octets that stay free for what was accepted: Config.FreeSpace, or the default
	Full    bool  // Free is less than Reserve: new mail is refused with 452
}

// Stats returns the counters.
func (s *Spool) Stats() Stats {
	free, err := s.o.FS.Free(s.o.Dir)
	reserve := s.o.Config.FreeSpace
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Accepted: s.accepted.Load(), Messages: len(s.index.messages), Waiting: s.index.waiting, Live: s.index.live,
		Log: s.log.Stats(), Free: free, Reserve: reserve, Full: err == nil && free < reserve,
	}
}

func (s *Spool) now() int64 { return s.o.Now().UnixMilli() }

// remind wakes Run when it means to sleep longer than it may. The caller holds mu.
func (s *Spool) remind() {
	if next := s.index.next(); next != 0 && next < s.planned || s.index.died >= s.o.Config.SegmentSize/2 {
		s.poke()
	}
}

// poke wakes Run.
func (s *Spool) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// The replies of Accept.
var (
	replyFull   = smtp.Reply{Code: 452, Enhanced: [3]int{4, 3, 1}, Text: "no room on the disk, try again later"} // RFC 3463 §3.4: X.3.1
	replyBroken = smtp.Reply{Code: 451, Enhanced: [3]int{4, 3, 0}, Text: "mail cannot be stored now, try again later"}
	replyMany   = smtp.Reply{Code: 452, Enhanced: [3]int{4, 5, 3}, Text: "too many recipients for one message"} // RFC 5321 §4.5.3.1.10
	replyNobody = smtp.Reply{Code: 554, Enhanced: [3]int{5, 5, 1}, Text: "no valid recipients"}                 // RFC 5321 §3.3
)

// storageError turns an error of the file system into the reply for it.
func (s *Spool) storageError(err error) error {
	switch {
	case wal.IsFull(err):
		return replyFull
	case errors.Is(err, wal.ErrTooLarge):
		return replyMany
	}
	s.o.Log.Error("mail not stored", "error", err)
	return replyBroken
}

// breakDown notes that a sync failed: nobody knows what the disk holds, so nothing is accepted from now on, and Run ends.
func (s *Spool) breakDown(err error) error {
	if s.broken.CompareAndSwap(nil, &err) {
		s.o.Log.Error("spool accepts no more mail: the disk failed", "error", err)
		s.poke()
	}
	return replyBroken
}

// room reports as a reply why nothing can be accepted now.
func (s *Spool) room() error {
	if s.dead() != nil {
		return replyBroken
	}
	free, err := s.o.FS.Free(s.o.Dir)
	if err != nil {
		return s.storageError(err)
	}
	reserve := s.o.Config.FreeSpace
	switch full := free < reserve; {
	case full && s.full.CompareAndSwap(false, true):
		s.o.Log.Error("spool refuses mail: the disk is full", "dir", s.o.Dir, "free", free, "free_space", reserve)
	case free >= reserve+reserve/slack && s.full.CompareAndSwap(true, false):
		s.o.Log.Info("spool takes mail again: the disk has room", "dir", s.o.Dir, "free", free, "free_space", reserve)
	}
	if free < reserve {
		return replyFull
	}
	return nil
}

// slack is the part of the reserve by which the free room must be above it before the operator is told that all is well: at the limit
// he would be told with every message.
const slack = 8

// dead returns why nothing will be accepted any more; nil while the disk keeps what it promised.
func (s *Spool) dead() error {
	if err := s.broken.Load(); err != nil {
		return *err
	}
	if err := s.log.Err(); err != nil && !errors.Is(err, wal.ErrClosed) {
		return err
	}
	return nil
}

// save appends a record about recipients, not waiting for the disk, and in the order of calls. Without room it is kept for later.
// The caller holds mu. The error is that of a dead log.
func (s *Spool) save(rec []byte) (wal.Pending, error) {
	if s.drain() == nil {
		p, err := s.log.Append(rec)
		if !wal.IsFull(err) {
			return p, err
		}
	}
	s.unsaved = append(s.unsaved, slices.Clone(rec))
	return wal.Pending{}, s.log.Err()
}

// drain appends what found no room before. The caller holds mu.
func (s *Spool) drain() error {
	for len(s.unsaved) > 0 {
		if _, err := s.log.Append(s.unsaved[0]); err != nil {
			return err
		}
		s.unsaved = s.unsaved[1:]
	}
	s.unsaved = nil
	return nil
}
