package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"strings"
	"syscall"
	"testing"

	"bothy/lib/sim"
	"bothy/lib/wal"
)

// Every sync of a body's file or directory that fails ends the accepting, and nothing else.
func TestBodySyncFails(t *testing.T) {
	w := newWitness(sim.NewDisk())
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	if _, err := w.accept(100, "done1@a.example"); err != nil {
		t.Fatal(err)
	}
	w.disk.SetFail(func(op sim.Op) error {
		if op.Call == "sync" && strings.Contains(op.Name, bodyDir) {
			return syscall.EIO
		}
		return nil
	})
	for range 2 {
		if _, err := w.accept(5000, "done2@a.example"); err != replyBroken {
			t.Errorf("accepted large: %v", err)
		}
		if _, err := w.accept(100, "done3@a.example"); err != replyBroken {
			t.Errorf("accepted small: %v", err)
		}
		w.disk.SetFail(nil)
	}
	if err := w.spool.Run(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Errorf("Run ended with %v", err)
	}
	if err := w.settle("a.example"); err != nil {
		t.Error(err)
	}
	w.check(t, w.disk.PowerCut(sim.Synced, 0))
}

// A full disk refuses mail with 452 4.3.1, and takes it again when there is room; what was accepted is settled meanwhile.
func TestFullDisk(t *testing.T) {
	for _, size := range []int{300, 20_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			w := newWitness(sim.NewDisk())
			w.disk.Capacity = 16 * wal.MinSegmentSize
			if err := w.open(); err != nil {
				t.Fatal(err)
			}
			refused := 0
			for i := range 400 {
				_, err := w.accept(size, fmt.Sprintf("done%d@a.example", i))
				switch {
				case err == replyFull:
					if refused++; refused%2 == 0 { // delivering makes room
						for due, _ := w.spool.Waiting("kind/a.example"); due > 0; due, _ = w.spool.Waiting("kind/a.example") {
							if err := w.settle("a.example"); err != nil {
								t.Fatal(err)
							}
						}
						w.spool.work(context.Background())
					}
				case err != nil:
					t.Fatal(err)
				}
			}
			if refused < 4 {
				t.Errorf("refused %d times", refused)
			}
			if err := w.spool.Close(); err != nil {
				t.Fatal(err)
			}
			w.check(t, w.disk.PowerCut(sim.Synced, 0))
		})
	}
}

// A sync of the log that fails ends Run, so that the program ends and its next start finds out what the disk holds.
func TestLogSyncFails(t *testing.T) {
	w := newWitness(sim.NewDisk())
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	if _, err := w.accept(100, "done1@a.example"); err != nil {
		t.Fatal(err)
	}
	w.disk.SetFail(func(op sim.Op) error {
		if op.Call == "sync" {
			return syscall.EIO
		}
		return nil
	})
	if err := w.settle("a.example"); err != nil { // in memory: it is the sync behind it that fails
		t.Error(err)
	}
	if err := w.spool.Run(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Errorf("Run ended with %v", err)
	}
	if _, err := w.accept(100, "done2@a.example"); err != replyBroken {
		t.Error(err)
	}
}

// On a small disk the defaults are small, and an operator whose disk is too small is told so, once, and that it is over.
func TestSmallDisk(t *testing.T) {
	const mb = 1 << 20
	for total, segment := range map[int64]int64{1: 4 * mb, 200 * mb: 5 * mb, 1000 * mb: 25 * mb, 1 << 40: 64 * mb} {
		disk := sim.NewDisk()
		disk.Capacity = total
		o := Options{FS: disk}
		o.defaults()
		if o.Config.SegmentSize != segment || o.Config.FreeSpace != 2*segment {
			t.Errorf("%d octets: %+v", total, o.Config)
		}
	}
	var log strings.Builder
	w := newWitness(sim.NewDisk())
	w.disk.Capacity = 1
	var err error
	w.spool, err = Open(t.Context(), Options{
		Config: Config{SegmentSize: wal.MinSegmentSize, FreeSpace: 1 << 20}, Dir: "spool", Router: w, FS: w.disk,
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	for _, step := range []struct {
		capacity       int64
		full           bool
		refused, taken int // times it was told
	}{{1, true, 1, 0}, {1 << 19, true, 1, 0}, {1<<20 + 1<<16, false, 1, 0}, {2 << 20, false, 1, 1}, {1, true, 2, 1}} {
		w.disk.SetCapacity(step.capacity)
		for range 3 {
			if _, err := w.accept(100, "done@a.example"); (err == replyFull) != step.full || !step.full && err != nil {
				t.Errorf("%+v: accepted: %v", step, err)
			}
			w.spool.work(t.Context())
		}
		refused, taken := strings.Count(log.String(), "level=ERROR msg=\"spool refuses"), strings.Count(log.String(), "level=INFO msg=\"spool takes")
		if st := w.spool.Stats(); st.Full != step.full || st.Reserve != 1<<20 || refused != step.refused || taken != step.taken {
			t.Errorf("%+v: %+v\n%s", step, st, log.String())
		}
	}
}

// With the reserve in use mail is refused before the disk is full, and a large body as soon as it comes to that.
func TestReserve(t *testing.T) {
	w := newWitness(sim.NewDisk())
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	w.spool.o.Config.FreeSpace = 10 << 10
	w.disk.SetCapacity(w.disk.Used() + 40<<10)
	if _, err := w.accept(100, "done1@a.example"); err != nil {
		t.Error(err)
	}
	if _, err := w.accept(60_000, "done1@a.example"); err != replyFull {
		t.Error(err)
	}
	if names, _ := w.disk.List(path.Join("spool", bodyDir)); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	w.disk.SetCapacity(w.disk.Used() + 9<<10)
	if _, err := w.accept(100, "done1@a.example"); err != replyFull {
		t.Error(err)
	}
	if err := w.settle("a.example"); err != nil {
		t.Error(err)
	}
}

// A failure for which the disk has no room is not lost and not told twice.
func TestFailureOnFullDisk(t *testing.T) {
	w := newWitness(sim.NewDisk())
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		if _, err := w.accept(600, fmt.Sprintf("fail%d@b.example", i)); err != nil {
			t.Fatal(err)
		}
	}
	w.disk.SetCapacity(1)
	var err error
	for err == nil {
		err = w.settle("b.example")
		if due, all := w.spool.Waiting("kind/b.example"); all == 0 {
			t.Fatal("the disk was never full", due)
		}
	}
	if !wal.IsFull(err) {
		t.Fatal(err)
	}
	w.disk.SetCapacity(0)
	w.now = w.now.Add(failureRetry)
	for due, _ := w.spool.Waiting("kind/b.example"); due > 0; due, _ = w.spool.Waiting("kind/b.example") {
		if err := w.settle("b.example"); err != nil {
			t.Fatal(err)
		}
	}
	w.spool.Close()
	w.check(t, w.disk.PowerCut(sim.Synced, 0))
}

// The disk holds at most twice what is live, and two segments; of large messages, the bodies of those that wait.
func TestDiskUse(t *testing.T) {
	dice := rand.New(rand.NewPCG(9, 9))
	w := newWitness(sim.NewDisk())
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	for i := range 600 {
		name := "done"
		if dice.IntN(8) == 0 {
			name = "later"
		}
		size := dice.IntN(600)
		if dice.IntN(20) == 0 {
			size += 2 * testInline // a body in a file of its own
		}
		if _, err := w.accept(size, fmt.Sprintf("%s%d@a.example", name, i)); err != nil {
			t.Fatal(err)
		}
		if err := w.settle("a.example"); err != nil {
			t.Fatal(err)
		}
		var st Stats
		var limit int64
		for range 3 { // the log may allocate ahead just when work has ended: then the next round makes up for it
			w.spool.work(context.Background())
			st = w.spool.Stats()
			limit = 2*(st.Live+int64(st.Messages)*recordOverhead) + 2*wal.MinSegmentSize
			if st.Log.Size <= limit {
				break
			}
		}
		if st.Log.Size > limit {
			t.Fatalf("message %d: %d octets of log for %d live, limit %d", i, st.Log.Size, st.Live, limit)
		}
		apart := 0
		for _, e := range w.spool.index.messages {
			if e.apart {
				apart++
			}
		}
		if files, err := w.disk.List(path.Join("spool", bodyDir)); err != nil || len(files) != apart {
			t.Fatalf("message %d: %d bodies for %d large messages, %v", i, len(files), apart, err)
		}
	}
	if st := w.spool.Stats(); st.Messages == 0 || w.spool.log.Segments()[0] < 50 {
		t.Errorf("too little happened: %+v, %v", st, w.spool.log.Segments())
	}
	w.spool.Close()
	w.check(t, w.disk.PowerCut(sim.Synced, 0))
}
