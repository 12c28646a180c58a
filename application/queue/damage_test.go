package queue

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"bothy/application/message"
	"bothy/lib/sim"
	"bothy/lib/wal"
)

// A damaged record or body is reported and not served; everything else is.
func TestDamage(t *testing.T) {
	w := newWitness(sim.NewDisk())
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	var ids []message.ID
	for i := range 9 {
		size := 300
		if i%3 == 2 {
			size = 3000 // in a file of its own
		}
		id, err := w.accept(size, fmt.Sprintf("done%d@a.example", i))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	place := w.spool.find(ids[4]).place
	if err := w.spool.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := w.disk.List("spool/log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, fmt.Sprintf("%08x-", place.Segment)) {
			spoilAt(t, w.disk, "spool/log/"+name, int64(place.Offset)+100)
		}
	}
	spoilAt(t, w.disk, "spool/bodies/"+ids[2].String(), 1500)
	if err := w.disk.Remove("spool/bodies/" + ids[5].String()); err != nil {
		t.Fatal(err)
	}
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	if files, err := w.spool.Damaged(); err != nil || len(files) != 1 {
		t.Errorf("set aside: %v, %v", files, err)
	}
	served := 0
	for {
		l, err := w.spool.Lease("kind/a.example", "test")
		if err != nil {
			t.Fatal(err)
		}
		if l == nil {
			break
		}
		text, err := bodyOf(l)
		switch id := l.Envelope.ID; {
		case id == ids[2] || id == ids[4] || id == ids[5]:
			t.Errorf("a damaged message was leased: %v", id)
		case err != nil || text != w.bodies[id]:
			t.Errorf("%v: %d octets, %v", id, len(text), err)
		}
		served++
		if err := l.Settle([]Verdict{{Done: true}}); err != nil {
			t.Error(err)
		}
	}
	if served != 6 {
		t.Errorf("%d served, want 6", served)
	}
	items, _, err := w.spool.List(Filter{State: StateDamaged}, message.ID{}, 0)
	if err != nil || len(items) != 2 {
		t.Errorf("listed as damaged: %+v, %v", items, err)
	}
	var log strings.Builder // the next start finds the same damage of the log, which was told
	w.spool.Close()
	w.spool, err = Open(t.Context(), Options{
		Config: Config{SegmentSize: wal.MinSegmentSize, InlineBody: testInline}, Dir: "spool", Router: w, FS: w.disk,
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log.String(), "damaged part") {
		t.Error("told again:", log.String())
	}
	if l, err := w.spool.Lease("kind/a.example", "test"); l != nil || err != nil { // it is found out again
		t.Errorf("a damaged message was leased: %v, %v", l, err)
	}
	if v, err := w.spool.Verify(t.Context(), nil); err != nil || len(v.Damaged) != 2 || len(v.SetAside) != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	if n, err := w.spool.Delete(Filter{State: StateDamaged}); n != 2 || err != nil {
		t.Errorf("deleted %d, %v", n, err)
	}
}

func spoilAt(t *testing.T, d *sim.Disk, name string, offset int64) {
	t.Helper()
	f, err := d.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("spoilt"), offset); err != nil {
		t.Fatal(err)
	}
}
