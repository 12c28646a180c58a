package queue

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/lib/sim"
	"bothy/lib/wal"
)

func TestOneProcess(t *testing.T) {
	w := newWitness(sim.NewDisk())
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	second := newWitness(w.disk)
	if err := second.open(); err == nil {
		t.Fatal("two processes have one spool")
	}
}

// Nobody who listens is left behind by Close.
func TestCloseEndsListeners(t *testing.T) {
	w := newWitness(sim.NewDisk())
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	lanes, stop := w.spool.Due("kind")
	w.spool.Close()
	for range lanes {
	}
	stop()
	lanes, stop = w.spool.Due("kind")
	for range lanes {
	}
	stop()
	if _, err := w.spool.Lease("kind/a.example", "test"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := w.accept(1, "one@a.example"); err != replyBroken {
		t.Error(err)
	}
}

// A waiting recipient must take less than 400 octets of memory.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	x := newIndex(func(Lane) {})
	const n = 100_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		e := newEntry(1)
		e.id, e.place = message.ID{byte(i), byte(i >> 8), byte(i >> 16)}, wal.Position{Segment: 1}
		x.add(e, []Lane{"odmr/a.example"}, 1, terms{func(Lane) time.Duration { return time.Hour }, func(Lane) time.Duration { return 0 }})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (after.HeapAlloc - before.HeapAlloc) / n
	t.Logf("%d octets for each recipient", each)
	if each > 400 {
		t.Errorf("%d octets for each recipient", each)
	}
	runtime.KeepAlive(x)
}
