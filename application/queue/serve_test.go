package queue

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/smtp"
	"bothy/lib/sim"
	"bothy/lib/wal"
)

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
