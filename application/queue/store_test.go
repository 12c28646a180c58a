package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
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

// The disk holds at most twice what is live, and two segments.
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
		if _, err := w.accept(dice.IntN(600), fmt.Sprintf("%s%d@a.example", name, i)); err != nil {
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
	}
	if st := w.spool.Stats(); st.Messages == 0 || w.spool.log.Segments()[0] < 50 {
		t.Errorf("too little happened: %+v, %v", st, w.spool.log.Segments())
	}
	w.spool.Close()
	w.check(t, w.disk.PowerCut(sim.Synced, 0))
}

// bubble opens a spool in a synctest bubble and has it run.
func bubble(t *testing.T, f func(t *testing.T, w *witness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWitness(sim.NewDisk())
		var err error
		w.spool, err = Open(t.Context(), Options{
			Config: Config{SegmentSize: wal.MinSegmentSize, InlineBody: testInline, FreeSpace: 1},
			Dir:    "spool", Router: w, Notifier: w, FS: w.disk,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.spool.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		f(t, w)
		cancel()
		wg.Wait()
		if err := w.spool.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestRetryTimer(t *testing.T) {
	bubble(t, func(t *testing.T, w *witness) {
		lanes, stop := w.spool.Due("kind")
		defer stop()
		if _, err := w.accept(10, "one@a.example"); err != nil {
			t.Fatal(err)
		}
		<-lanes
		for _, wait := range []time.Duration{time.Hour, time.Second, 30 * time.Hour} {
			l, err := w.spool.Lease("kind/a.example", "test")
			if err != nil || l == nil {
				t.Fatal(l, err)
			}
			start := time.Now()
			if err := l.Settle([]Verdict{{Retry: start.Add(wait)}}); err != nil {
				t.Fatal(err)
			}
			<-lanes
			if got := time.Since(start); got < wait || got > wait+time.Second {
				t.Errorf("due after %v, want %v", got, wait)
			}
		}
	})
}

// RFC 5321 §4.5.4.1: what cannot be delivered within its lifetime goes back, and the time without a link does not count.
func TestExpiry(t *testing.T) {
	bubble(t, func(t *testing.T, w *witness) {
		start := time.Now()
		w.now = start
		id, err := w.accept(10, "one@a.example", "held@a.example")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.spool.Hold(Filter{Recipient: "held@a.example"}); err != nil {
			t.Fatal(err)
		}
		l, err := w.spool.Lease("kind/a.example", "test")
		if err != nil || l == nil {
			t.Fatal(l, err)
		}
		if err := l.Settle([]Verdict{{Reply: smtp.Reply{Code: 450, Text: "later"}, Remote: "mx.a.example", Retry: start.Add(1000 * time.Hour)}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		w.spool.Pause("kind")
		time.Sleep(300 * time.Hour)
		w.spool.Resume("kind")
		if due, all := w.spool.Waiting("kind/a.example"); due != 1 || all != 2 {
			t.Errorf("after the pause: %d of %d", due, all)
		}
		lanes, stop := w.spool.Due("kind")
		defer stop()
		for l := <-lanes; l != "kind/notice.example"; l = <-lanes {
		}
		if got, want := time.Since(start), (300+120)*time.Hour; got < want || got > want+2*time.Minute {
			t.Errorf("expired after %v, want %v", got, want)
		}
		if due, all := w.spool.Waiting("kind/a.example"); due != 0 || all != 1 {
			t.Errorf("held recipients do not expire, others do: %d of %d", due, all)
		}
		notice, err := w.spool.Lease("kind/notice.example", "test")
		if err != nil || notice == nil {
			t.Fatal(notice, err)
		}
		if got := noticed(notice); len(got) != 1 || got[0] != (who{id, "one"}) {
			t.Errorf("notice about %v", got)
		}
	})
}

func TestExpiredReply(t *testing.T) {
	got := expired(last{reply: smtp.Reply{Code: 450, Enhanced: [3]int{4, 2, 0}, Text: "busy"}})
	if got.Error() != "554 5.4.7 delivery time expired; last answer: 450 4.2.0 busy" {
		t.Error(got)
	}
}

// A restart while the link is down does not age mail, and ends the pause.
func TestPauseOverRestart(t *testing.T) {
	w := newWitness(sim.NewDisk())
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	id, err := w.accept(10, "one@a.example")
	if err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(10 * time.Hour)
	w.spool.Pause("kind")
	w.now = w.now.Add(10 * time.Hour)
	w.spool.Close()
	w.disk = w.disk.PowerCut(sim.Synced, 0)
	w.now = w.now.Add(10 * time.Hour)
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	w.now = w.now.Add(10 * time.Hour)
	if got := w.spool.index.clocks["kind"].age(w.spool.find(id).accepted, w.spool.now()); got != (20 * time.Hour).Milliseconds() {
		t.Errorf("aged %v", time.Duration(got)*time.Millisecond)
	}
	if due, _ := w.spool.Waiting("kind/a.example"); due != 1 {
		t.Errorf("%d due", due)
	}
}

func TestOperator(t *testing.T) {
	w := newWitness(sim.NewDisk())
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	var ids []message.ID
	for i := range 25 {
		id, err := w.accept(200, fmt.Sprintf("one%d@a.example", i), fmt.Sprintf("later%d@b.example", i))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for range 25 {
		if err := w.settle("b.example"); err != nil {
			t.Fatal(err)
		}
	}
	l, err := w.spool.Lease("kind/a.example", "somebody")
	if err != nil {
		t.Fatal(err)
	}

	var after message.ID
	var seen []message.ID
	for more := true; more; {
		var items []Item
		if items, more, err = w.spool.List(Filter{}, after, 10); err != nil {
			t.Fatal(err)
		}
		for _, item := range items {
			seen = append(seen, item.ID)
			after = item.ID
		}
	}
	if fmt.Sprint(seen) != fmt.Sprint(ids) {
		t.Errorf("listed %d messages of %d, or out of order", len(seen), len(ids))
	}

	item, header, err := w.spool.Show(ids[0])
	if err != nil || string(header) != "Subject: 200 octets\r\n" || len(item.Recipients) != 2 {
		t.Fatalf("%+v %q %v", item, header, err)
	}
	if r := item.Recipients[0]; r.State != StateLeased || r.Holder != "somebody" || r.Address.Local != "one0" {
		t.Errorf("%+v", r)
	}
	if r := item.Recipients[1]; r.State != StateDeferred || r.Attempts != 1 || r.LastReply.Code != 450 || r.NextTry.Before(w.now) || r.LastTry.IsZero() {
		t.Errorf("%+v", r)
	}
	if _, _, err := w.spool.Show(message.ID{1}); !errors.Is(err, ErrUnknown) {
		t.Errorf("show of an unknown message: %v", err)
	}

	count := func(want int) func(n int, err error) {
		return func(n int, err error) {
			t.Helper()
			if n != want || err != nil {
				t.Errorf("%d recipients, %v; want %d", n, err, want)
			}
		}
	}
	count(25)(w.spool.Retry(Filter{Kind: "kind", State: StateDeferred}))
	count(0)(w.spool.Retry(Filter{}))
	count(1)(w.spool.Hold(Filter{Recipient: "ONE3@a.example"}))
	count(25)(w.spool.Hold(Filter{Recipient: "@b.example", Sender: "@notice.example"}))
	count(0)(w.spool.Hold(Filter{Sender: "<>"}))
	count(26)(w.spool.Release(Filter{State: StateHeld}))
	count(2)(w.spool.Hold(Filter{IDs: ids[:1]}))
	count(2)(w.spool.Delete(Filter{IDs: ids[:1]})) // leased or held, all the same
	if err := l.Settle([]Verdict{{}}); !errors.Is(err, ErrFenced) {
		t.Errorf("settled what was deleted: %v", err)
	}
	count(24)(w.spool.Delete(Filter{Lane: "kind/b.example"}))
	w.spool.Close()
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	if st := w.spool.Stats(); st.Waiting != 24 || st.Messages != 24 {
		t.Errorf("after a restart: %+v", st)
	}
}

// Many at once, with compaction under way: everything that was accepted is delivered once, whole.
func TestConcurrent(t *testing.T) {
	crowd(t, newWitness(sim.NewDisk()), 1)
}

// The same, and the power fails.
func TestConcurrentCrash(t *testing.T) {
	for seed := range uint64(30) {
		w := newWitness(sim.NewDisk())
		w.disk.CrashAt = 20 + int(seed)*23
		crowd(t, w, seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// crowd has many writers and many holders at a spool until all is done or the power fails, and then compares.
func crowd(t *testing.T, w *witness, seed uint64) {
	t.Helper()
	crash := w.disk.CrashAt > 0
	if err := w.open(); err != nil {
		return // the power failed already
	}
	s := w.spool
	var mu sync.Mutex
	bodies, promised, settled := map[message.ID]string{}, map[message.ID]bool{}, map[message.ID]int{}
	ctx, cancel := context.WithCancel(t.Context())
	var writers, holders, others sync.WaitGroup
	others.Go(func() { s.Run(ctx) })
	others.Go(func() {
		for ctx.Err() == nil && s.log.Err() == nil {
			s.compact()
			s.Reroute()
			s.List(Filter{}, message.ID{}, 5)
			runtime.Gosched()
		}
	})
	for i := range 6 {
		writers.Go(func() {
			dice := rand.New(rand.NewPCG(seed, uint64(i)))
			for range 30 {
				text := fmt.Sprint(i, strings.Repeat("x", dice.IntN(1500)))
				env := &message.Envelope{ID: message.NewID(time.Now()), Recipients: []message.Recipient{{Address: message.Address{Local: "done", Domain: "a.example"}}}}
				mu.Lock()
				bodies[env.ID] = text
				mu.Unlock()
				if err := s.Accept(ctx, env, strings.NewReader(text)); err != nil {
					if !crash {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				promised[env.ID] = true
				mu.Unlock()
			}
		})
	}
	var accepted atomic.Bool
	for range 4 {
		holders.Go(func() {
			for {
				last := accepted.Load()
				l, err := s.Lease("kind/a.example", "crowd")
				if err != nil || l == nil && last {
					return
				}
				if l == nil {
					runtime.Gosched()
					continue
				}
				text, err := bodyOf(l)
				mu.Lock()
				if err == nil && text != bodies[l.Envelope.ID] {
					t.Errorf("wrong body of %d octets", len(text))
				}
				settled[l.Envelope.ID]++
				mu.Unlock()
				if err == nil {
					err = l.Settle([]Verdict{{Done: true}})
				}
				if err != nil && !crash {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	accepted.Store(true)
	holders.Wait()
	cancel()
	others.Wait()
	s.Close()
	w.disk = w.disk.PowerCut(sim.Torn, seed)
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	for id, e := range w.spool.index.messages {
		b, err := w.spool.openBody(e)
		if err != nil {
			t.Error(err)
			continue
		}
		text, err := io.ReadAll(b)
		b.Close()
		if err != nil || !bytes.Equal(text, []byte(bodies[id])) || !crash {
			t.Errorf("%v is there: %d octets, %v", id, len(text), err)
		}
	}
	for id := range promised {
		if settled[id] == 0 && w.spool.find(id) == nil || settled[id] > 1 {
			t.Errorf("%v: promised, settled %d times, and not there", id, settled[id])
		}
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
