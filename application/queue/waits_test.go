package queue_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/queue/queuetest"
	"bothy/application/smtp"
	"bothy/lib/sim"
	"bothy/lib/wal"
)

// waits is a spool in a bubble of time, which Run looks after.
func waits(t *testing.T, f func(t *testing.T, s *queue.Spool, restart func() *queue.Spool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := queue.Options{
			Dir: "spool", FS: sim.NewDisk(), Router: queuetest.Router(queuetest.ByDomain), Notifier: &reporter{},
			Config: queue.Config{SegmentSize: wal.MinSegmentSize, FreeSpace: 1, DelayNotice: 4 * time.Hour},
		}
		var s *queue.Spool
		var stop func()
		start := func() *queue.Spool {
			var err error
			if s, err = queue.Open(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			ctx, cancel := context.WithCancel(t.Context())
			wg.Go(func() { s.Run(ctx) })
			stop = func() {
				cancel()
				wg.Wait()
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			return s
		}
		start()
		defer func() { stop() }()
		f(t, s, func() *queue.Spool { stop(); return start() })
	})
}

func accept(t *testing.T, s *queue.Spool, env *message.Envelope) message.ID {
	t.Helper()
	if err := s.Accept(context.Background(), env, strings.NewReader("Subject: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	return env.ID
}

var later = queue.Verdict{Reply: smtp.Reply{Code: 450, Text: "busy"}, Remote: "mx.d.example"}

// RFC 3461 §5.2.5: a delay is told once, to whom wants to hear of it; the time without a link is no delay.
func TestDelayTold(t *testing.T) {
	const notice = "delayed b@d.example\r\ndelayed c@d.example\r\nSubject: x\r\n\r\n"
	waits(t, func(t *testing.T, s *queue.Spool, restart func() *queue.Spool) {
		env := envelope(t, "a@home.example", "b@d.example", "c@d.example", "d@d.example", "e@d.example")
		env.Recipients[1].Notify = message.NotifyDelay
		env.Recipients[2].Notify = message.NotifyFailure
		env.Recipients[3].Notify = message.NotifyNever
		accept(t, s, env)
		l := lease(t, s, "test/d.example")
		v := later
		v.Retry = time.Now().Add(100 * time.Hour)
		if err := l.Settle([]queue.Verdict{v, v, v, v}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		s.Pause("test")
		time.Sleep(30 * time.Hour)
		s.Resume("test")
		time.Sleep(2*time.Hour - time.Minute)
		if got := notices(t, s); len(got) != 0 {
			t.Fatalf("told early: %q", got)
		}
		time.Sleep(4 * time.Minute)
		if got := strings.Join(notices(t, s), "|"); got != notice {
			t.Fatalf("told %q", got)
		}
		time.Sleep(10 * time.Hour)
		if got := notices(t, s); len(got) != 0 {
			t.Fatalf("told twice: %q", got)
		}
		s = restart()
		time.Sleep(10 * time.Hour)
		if got := notices(t, s); len(got) != 0 {
			t.Fatalf("told again after a restart: %q", got)
		}
		s.FlushKind("test")
		if l := lease(t, s, "test/d.example"); len(l.Envelope.Recipients) != 4 {
			t.Errorf("%d are still tried", len(l.Envelope.Recipients))
		}
	})
}

// A notice of delay that is never delivered is itself not told of, and a moved message stays told.
func TestDelayToldOnceOverCompaction(t *testing.T) {
	waits(t, func(t *testing.T, s *queue.Spool, restart func() *queue.Spool) {
		accept(t, s, envelope(t, "a@home.example", "b@d.example"))
		time.Sleep(5 * time.Hour)
		if got := notices(t, s); len(got) != 1 {
			t.Fatalf("%d notices", len(got))
		}
		compact(t, s)
		s = restart()
		time.Sleep(10 * time.Hour)
		if got := notices(t, s); len(got) != 0 {
			t.Fatalf("told again: %q", got)
		}
	})
}

// compact fills segments, so that what waits is moved.
func compact(t *testing.T, s *queue.Spool) {
	t.Helper()
	for range 200 {
		accept(t, s, envelope(t, "a@home.example", "x@gone.example"))
		if err := lease(t, s, "test/gone.example").Settle([]queue.Verdict{{Done: true}}); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Hour)
	if st := s.Stats(); st.Log.Segments > 6 {
		t.Fatalf("not compacted: %+v", st)
	}
}

// RFC 6710 §5: the higher priority leaves first, then age.
func TestPriority(t *testing.T) {
	waits(t, func(t *testing.T, s *queue.Spool, restart func() *queue.Spool) {
		var want [5]message.ID
		for _, c := range []struct{ turn, priority int }{{3, 0}, {1, 3}, {4, -2}, {2, 3}, {0, 9}} {
			env := envelope(t, "a@home.example", "b@d.example")
			env.Priority = int8(c.priority)
			want[c.turn] = accept(t, s, env)
			time.Sleep(time.Second)
		}
		s = restart()
		for i, id := range want {
			l := lease(t, s, "test/d.example")
			if l.Envelope.ID != id {
				t.Errorf("%d is of priority %d", i, l.Envelope.Priority)
			}
			l.Settle([]queue.Verdict{{Done: true}})
		}
	})
}

// RFC 4865 §4.2: what is to be released later is not due before, whoever flushes; that time does not make it old.
func TestHoldUntil(t *testing.T) {
	waits(t, func(t *testing.T, s *queue.Spool, restart func() *queue.Spool) {
		env := envelope(t, "a@home.example", "b@d.example")
		env.HoldUntil = time.Now().Add(200 * time.Hour)
		accept(t, s, env)
		idle := func(when string) {
			t.Helper()
			if due, all := s.Waiting("test/d.example"); due != 0 || all != 1 {
				t.Fatalf("%s: %d due of %d", when, due, all)
			}
		}
		idle("accepted")
		s.FlushKind("test")
		idle("flushed")
		if n, err := s.Retry(queue.Filter{}); n != 0 || err != nil {
			t.Errorf("retried %d, %v", n, err)
		}
		s.Pause("test")
		s.Resume("test")
		idle("resumed")
		s = restart()
		time.Sleep(199 * time.Hour)
		idle("a week later")
		lanes, stop := s.Due("test")
		defer stop()
		if lane := <-lanes; lane != "test/d.example" || time.Now().Before(env.HoldUntil) || time.Now().After(env.HoldUntil.Add(time.Minute)) {
			t.Errorf("%v due at %v", lane, time.Now())
		}
		time.Sleep(3 * time.Hour)
		if got := notices(t, s); len(got) != 0 {
			t.Errorf("told of a delay that was asked for: %q", got)
		}
	})
}

// RFC 2852 §4.1.2: what is late goes back, or its sender is told and it is delivered all the same.
func TestDeliverBy(t *testing.T) {
	for _, c := range []struct {
		returns bool
		want    string
		waiting int
	}{
		{true, "failed b@d.example\r\nSubject: x\r\n\r\n", 0},
		{false, "delayed b@d.example\r\nSubject: x\r\n\r\n", 1},
	} {
		waits(t, func(t *testing.T, s *queue.Spool, restart func() *queue.Spool) {
			env := envelope(t, "a@home.example", "b@d.example")
			env.DeliverBy = message.Deadline{At: time.Now().Add(10 * time.Minute), Return: c.returns}
			accept(t, s, env)
			s = restart()
			time.Sleep(9 * time.Minute)
			if got := notices(t, s); len(got) != 0 {
				t.Errorf("told early: %q", got)
			}
			time.Sleep(2 * time.Minute)
			if got := strings.Join(notices(t, s), "|"); got != c.want {
				t.Errorf("told %q, want %q", got, c.want)
			}
			if _, all := s.Waiting("test/d.example"); all != c.waiting {
				t.Errorf("%d wait", all)
			}
		})
	}
}

// RFC 2852 §4.1.3: the sender hears at the time that they gave, to the second, and not of a delay before; of what was late when it came
// somebody has told already, and it is told of like any other.
func TestDeadlineTold(t *testing.T) {
	for _, c := range []struct {
		name      string
		in        time.Duration // BY
		none, one time.Duration // nothing is told until, and one notice is from
	}{
		{"soon", 90 * time.Second, 89 * time.Second, 91 * time.Second},
		{"behind the usual notice", 6 * time.Hour, 6*time.Hour - time.Second, 6*time.Hour + time.Second},
		{"over when it came", -time.Minute, 4*time.Hour - time.Minute, 4*time.Hour + time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			waits(t, func(t *testing.T, s *queue.Spool, restart func() *queue.Spool) {
				env := envelope(t, "a@home.example", "b@d.example")
				env.ID = message.NewID(time.Now())
				env.DeliverBy = message.Deadline{At: time.Now().Add(c.in)}
				accept(t, s, env)
				time.Sleep(c.none)
				if got := notices(t, s); len(got) != 0 {
					t.Errorf("told early: %q", got)
				}
				time.Sleep(c.one - c.none)
				if got := notices(t, s); len(got) != 1 {
					t.Errorf("told %q", got)
				}
				time.Sleep(24 * time.Hour)
				if got := notices(t, s); len(got) != 0 {
					t.Errorf("told again: %q", got)
				}
			})
		})
	}
}

// A site's whole mail may come to be late at once: everybody is told, and what is due meanwhile is woken.
func TestManyDelays(t *testing.T) {
	const n = 350
	waits(t, func(t *testing.T, s *queue.Spool, restart func() *queue.Spool) {
		for range n {
			accept(t, s, envelope(t, "a@home.example", "b@d.example"))
		}
		time.Sleep(4*time.Hour + time.Minute)
		if got := len(notices(t, s)); got != n {
			t.Errorf("%d notices, want %d", got, n)
		}
	})
}
