package wal_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bothy/lib/sim"
	"bothy/lib/wal"
)

// story is what a program did to a log and was told.
type story struct {
	written map[wal.Position]string // given to Append
	durable map[wal.Position]bool   // acknowledged
	dropped map[uint32]bool         // segments, acknowledged
	leaving map[uint32]bool         // segments whose Drop was begun
}

func newStory() *story {
	return &story{map[wal.Position]string{}, map[wal.Position]bool{}, map[uint32]bool{}, map[uint32]bool{}}
}

func (s *story) clone() *story {
	return &story{maps.Clone(s.written), maps.Clone(s.durable), s.dropped, s.leaving}
}

func options(d wal.FS) wal.Options {
	return wal.Options{FS: d, Dir: "log", SegmentSize: wal.MinSegmentSize, GroupSize: 2 << 10}
}

// play appends records of many sizes and drops the oldest segments, until something fails.
func (s *story) play(o wal.Options, label string, records int) error {
	l, err := wal.Open(o, func(wal.Position, []byte) error { return nil })
	if err != nil {
		return err
	}
	defer l.Close()
	for i := range records {
		text := fmt.Sprintf("%s %d %s", label, i, strings.Repeat("x", i*i*37%1500))
		p, err := l.Append([]byte(text))
		if err != nil {
			return err
		}
		s.written[p.Position] = text
		if i%4 != 0 {
			if err := p.Wait(); err != nil {
				return err
			}
			for q := range s.written {
				if !p.Position.Before(q) {
					s.durable[q] = true // the ones nobody waited for too
				}
			}
		}
		if numbers := l.Segments(); len(numbers) > 3 {
			s.leaving[numbers[0]] = true
			if err := l.Drop(numbers[0]); err != nil {
				return err
			}
			s.dropped[numbers[0]] = true
		}
	}
	return l.Close()
}

// check replays the log and compares it with the story. What it finds is durable from now on.
func (s *story) check(t *testing.T, o wal.Options) {
	t.Helper()
	o.Damaged = func(d wal.Damage) { t.Errorf("damage: %+v", d) }
	got := map[wal.Position]string{}
	var order []wal.Position
	l, err := wal.Open(o, func(p wal.Position, b []byte) error {
		got[p] = string(b)
		order = append(order, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for p := range s.durable {
		if _, ok := got[p]; !ok && !s.leaving[p.Segment] {
			t.Errorf("acknowledged record at %v is lost", p)
		}
	}
	for p, text := range got {
		if s.written[p] != text {
			t.Errorf("record at %v was never written: %.40q", p, text)
		}
		if s.dropped[p.Segment] {
			t.Errorf("record at %v is back after its segment was dropped", p)
		}
		if b, err := l.Read(p, nil); err != nil || string(b) != text {
			t.Errorf("read %v: %v", p, err)
		}
	}
	if !slices.IsSortedFunc(order, func(a, b wal.Position) int {
		if a.Before(b) {
			return -1
		}
		return 1
	}) {
		t.Errorf("replayed out of order: %v", order)
	}
	s.written, s.durable = got, map[wal.Position]bool{}
	for p := range got {
		s.durable[p] = true
	}
}

// The power fails during every operation there is; what is left is replayed, written on, and cut off once more.
func TestCrashAnywhere(t *testing.T) {
	whole := sim.NewDisk()
	if err := newStory().play(options(whole), "whole", 40); err != nil {
		t.Fatal(err)
	}
	survivals := map[string]sim.Survival{"synced": sim.Synced, "cached": sim.Cached, "torn": sim.Torn}
	for at := 1; at <= whole.Ops()+5; at++ {
		for name, survival := range survivals {
			t.Run(fmt.Sprintf("%s at %d", name, at), func(t *testing.T) {
				disk, s := sim.NewDisk(), newStory()
				disk.CrashAt = at
				err := s.play(options(disk), "before", 40)
				if err != nil && !errors.Is(err, sim.ErrPower) {
					t.Fatal(err)
				}
				disk = disk.PowerCut(survival, uint64(at))
				s.check(t, options(disk))
				disk = disk.PowerCut(survival, uint64(at)+1)
				s.check(t, options(disk))
				if err := s.play(options(disk), "after", 1+at%20); err != nil {
					t.Fatal(err)
				}
				s.check(t, options(disk.PowerCut(sim.Synced, 0)))
			})
		}
	}
}

// Several power cuts in a row, at moments and with remains that the seed chooses.
func TestPowerCuts(t *testing.T) {
	sim.Seeds(t, 200, func(t *testing.T, seed uint64) {
		dice := rand.New(rand.NewPCG(seed, 2))
		disk, s := sim.NewDisk(), newStory()
		for life := range 1 + dice.IntN(5) {
			disk.CrashAt = 1 + dice.IntN(150)
			if err := s.play(options(disk), fmt.Sprint("life ", life), 1+dice.IntN(60)); err != nil && !errors.Is(err, sim.ErrPower) {
				t.Fatal(err)
			}
			disk = disk.PowerCut(sim.Survival(dice.IntN(3)), dice.Uint64())
			if disk.CrashAt = 0; dice.IntN(3) == 0 { // and once more while it recovers
				disk.CrashAt = 1 + dice.IntN(10)
				if l, err := wal.Open(options(disk), func(wal.Position, []byte) error { return nil }); err == nil {
					l.Close()
				}
				disk = disk.PowerCut(sim.Survival(dice.IntN(3)), dice.Uint64())
			}
			s.check(t, options(disk))
			disk = disk.PowerCut(sim.Torn, dice.Uint64())
		}
	})
}

// Every sync fails once: from then on nothing is acknowledged, and everything that was is there.
func TestFailingSync(t *testing.T) {
	for _, call := range []string{"sync", "syncdir", "write"} {
		for nth := 1; ; nth++ {
			disk, s, fault := sim.NewDisk(), newStory(), &sim.Fault{Call: call, N: nth, Err: syscall.EIO}
			disk.Fail = fault.Fail
			err := s.play(options(disk), "before", 40)
			if !fault.Happened() {
				break // there are no more
			}
			if err != nil && !errors.Is(err, syscall.EIO) {
				t.Errorf("%s %d: %v", call, nth, err)
			}
			for seed := range uint64(3) {
				seen := s.clone()
				seen.check(t, options(disk.PowerCut(sim.Torn, seed)))
			}
			if t.Failed() {
				t.Fatalf("%s %d", call, nth)
			}
		}
	}
}

// After a failed sync the log says the same to everybody and does not sync again.
func TestDead(t *testing.T) {
	disk := sim.NewDisk()
	l, err := wal.Open(options(disk), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Commit([]byte("one")); err != nil {
		t.Fatal(err)
	}
	disk.SetFail(func(op sim.Op) error {
		if op.Call == "sync" {
			return syscall.EIO
		}
		return nil
	})
	for range 3 {
		if _, err := l.Commit([]byte("two")); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
	}
	disk.SetFail(nil)
	before := disk.Ops()
	if _, err := l.Commit([]byte("three")); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if err := l.Err(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if disk.Ops() != before {
		t.Error("a dead log touched the disk")
	}
}

// So it is when the sync fails that gives a new segment its room, or its name: once is enough.
func TestDeadOfANewSegment(t *testing.T) {
	for _, call := range []string{"sync", "syncdir"} {
		disk := sim.NewDisk()
		l, err := wal.Open(options(disk), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Commit([]byte("one")); err != nil {
			t.Fatal(err)
		}
		first := fmt.Sprintf("%08x-", l.Segments()[0])
		var failed atomic.Bool
		disk.SetFail(func(op sim.Op) error {
			if op.Call == call && !strings.Contains(op.Name, first) && failed.CompareAndSwap(false, true) {
				return syscall.EIO
			}
			return nil
		})
		for range 4 * wal.MinSegmentSize / 1000 {
			if _, err = l.Commit(make([]byte, 1000)); err != nil {
				break
			}
		}
		if !errors.Is(err, syscall.EIO) || !errors.Is(l.Err(), syscall.EIO) {
			t.Errorf("%s failed: %t; the log says %v, %v", call, failed.Load(), err, l.Err())
		}
		l.Close()
	}
}

// A full disk refuses appends and nothing else; once there is room the log works again.
func TestFull(t *testing.T) {
	for _, thin := range []bool{false, true} {
		t.Run(fmt.Sprintf("thin=%v", thin), func(t *testing.T) {
			disk, s := sim.NewDisk(), newStory()
			disk.Capacity, disk.Thin = 10*wal.MinSegmentSize, thin
			o := options(disk)
			o.SegmentSize *= 4 // so that a write may be cut at a block's end
			l, err := wal.Open(o, nil)
			if err != nil {
				t.Fatal(err)
			}
			refused, refusals := 0, 0
			for i := range 300 {
				one, two := fmt.Sprintf("%d %s", i, strings.Repeat("x", i%50)), fmt.Sprintf("%d %s", i, strings.Repeat("y", i*i*37%1500))
				p, err := l.Append([]byte(one))
				q, err2 := l.Append([]byte(two))
				if err == nil {
					err = p.Wait()
				}
				if err2 == nil {
					err2 = q.Wait()
				}
				if err == nil {
					s.written[p.Position], s.durable[p.Position] = one, true
				}
				switch err = cmp.Or(err2, err); {
				case wal.IsFull(err):
					refusals++
					if refused++; refused == 3 {
						disk.SetCapacity(disk.Capacity + 5*wal.MinSegmentSize)
					}
					if refused > 3+1 {
						t.Fatalf("record %d: still refused with room: %v", i, err)
					}
					if seen := s.clone(); refused == 1 { // what was refused must not appear
						copied := disk.Afterwards(sim.Cached, 0)
						copied.Capacity = 0
						o.FS = copied
						seen.check(t, o)
					}
				case err != nil:
					t.Fatal(err)
				default:
					refused = 0
					s.written[q.Position], s.durable[q.Position] = two, true
				}
			}
			if refusals == 0 {
				t.Fatal("the disk was never full")
			}
			for seed := range uint64(5) {
				seen := s.clone()
				copied := disk.PowerCut(sim.Torn, seed)
				copied.Capacity = 0
				o.FS = copied
				seen.check(t, o)
			}
		})
	}
}

// slow is a file system whose writes wait.
type slow struct {
	wal.FS
	gate atomic.Pointer[chan struct{}]
}

// shut makes writes wait until the result is called.
func (s *slow) shut() (open func()) {
	gate := make(chan struct{})
	s.gate.Store(&gate)
	return func() {
		s.gate.Store(nil)
		close(gate)
	}
}

type slowFile struct {
	wal.File
	fs *slow
}

func (s *slow) Create(name string) (wal.File, error) {
	f, err := s.FS.Create(name)
	return slowFile{f, s}, err
}

func (f slowFile) WriteAt(p []byte, offset int64) (int, error) {
	if gate := f.fs.gate.Load(); gate != nil {
		<-*gate
	}
	return f.File.WriteAt(p, offset)
}

// A segment whose last group is still on its way to the disk is not scanned before it is there.
func TestScanWaits(t *testing.T) {
	disk := &slow{FS: sim.NewDisk()}
	l, err := wal.Open(options(disk), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Commit([]byte("first")); err != nil {
		t.Fatal(err)
	}
	letGo := disk.shut()
	var want []wal.Position
	for {
		p, err := l.Append(make([]byte, 300))
		if err != nil {
			t.Fatal(err)
		}
		if p.Position.Segment > 1 {
			break
		}
		want = append(want, p.Position)
		if len(want)%5 == 0 { // the buffer must not fill up
			letGo()
			if err := p.Wait(); err != nil {
				t.Fatal(err)
			}
			letGo = disk.shut()
		}
	}
	var got []wal.Position
	done := make(chan error)
	go func() {
		done <- l.Scan(1, func(p wal.Position, _ []byte) error {
			got = append(got, p)
			return nil
		})
	}()
	select {
	case err := <-done:
		t.Fatalf("scanned %d records before they were written: %v", len(got), err)
	case <-time.After(20 * time.Millisecond):
	}
	letGo()
	if err := <-done; err != nil || !slices.Equal(got[1:], want) {
		t.Errorf("%v: scanned %v, want %v", err, got, want)
	}
}
