package queue

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/lib/sim"
	"bothy/lib/wal"
)

// asker opens a spool on a disk, and a clock that stands still.
func asker(t *testing.T, disk *sim.Disk, now *time.Time) *Spool {
	t.Helper()
	s, err := Open(t.Context(), Options{
		Config: Config{SegmentSize: wal.MinSegmentSize, InlineBody: testInline, FreeSpace: 1},
		Dir:    "spool", Router: newWitness(disk), FS: disk, Now: func() time.Time { return *now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTransactionRemembered holds that what was accepted under a key is known as long as RFC 1845 §3 recommends: after the message is gone, after
// its segment of the log is, and after a power cut at any moment.
func TestTransactionRemembered(t *testing.T) {
	now, disk := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), sim.NewDisk()
	s := asker(t, disk, &now)
	to := message.Address{Local: "a", Domain: "clinic.example"}
	key := message.NewTransactionKey("first")
	env := &message.Envelope{
		ID: message.NewID(now), Recipients: []message.Recipient{{Address: to}},
		Transaction: message.Transaction{Key: key, Size: 7, To: []uint64{message.RecipientHash(to)}},
	}
	if err := s.Accept(context.Background(), env, strings.NewReader("octets\n")); err != nil {
		t.Fatal(err)
	}
	check := func(when string, s *Spool, want bool) {
		t.Helper()
		got, id, ok := s.Transaction(key)
		if ok != want || ok && (id != env.ID || got.Size != 7 || !got.Accepted(to) || got.Accepted(message.Address{Local: "b", Domain: to.Domain})) {
			t.Errorf("%s: %+v %v, known %t, want %t", when, got, id, ok, want)
		}
	}
	check("accepted", s, true)
	again := func(when string) {
		t.Helper()
		for _, survival := range []sim.Survival{sim.Synced, sim.Torn} {
			for seed := range uint64(5) {
				after := asker(t, disk.Afterwards(survival, seed), &now)
				check(fmt.Sprintf("%s, after a power cut (%v, %d)", when, survival, seed), after, true)
				after.Close()
			}
		}
	}
	again("accepted")
	settleAll(t, s)
	check("delivered", s, true)
	again("delivered")
	// Enough mail comes and goes that the segment with it is dropped.
	first := s.log.Segments()[0]
	for i := 0; s.log.Segments()[0] == first; i++ {
		if i == 100_000 {
			t.Fatal("the log's first segment stays")
		}
		other := &message.Envelope{Recipients: env.Recipients}
		if err := s.Accept(context.Background(), other, strings.NewReader(strings.Repeat("x", testInline-1))); err != nil {
			t.Fatal(err)
		}
		settleAll(t, s)
		if s.crowded() {
			if err := s.compact(); err != nil {
				t.Fatal(err)
			}
		}
	}
	check("segment dropped", s, true)
	again("segment dropped")
	now = now.Add(askedAge + time.Second)
	check("two days later", s, false)
}

func settleAll(t *testing.T, s *Spool) {
	t.Helper()
	for {
		l, err := s.Lease("kind/clinic.example", "test")
		if err != nil {
			t.Fatal(err)
		}
		if l == nil {
			return
		}
		if err := l.Settle([]Verdict{{Done: true}}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTransactionsAreBounded holds that no more are remembered than there is room for, and that the oldest make way.
func TestTransactionsAreBounded(t *testing.T) {
	var m memory
	key := func(i int) message.TransactionKey { return message.NewTransactionKey(fmt.Sprint(i)) }
	for i := range maxAsked + 10 {
		m.add(&asked{Transaction: message.Transaction{Key: key(i)}, at: int64(i)})
		m.forget(0)
	}
	if len(m.all) != maxAsked || len(m.by) != maxAsked || m.by[key(9)] != nil || m.by[key(10)] == nil {
		t.Errorf("%d by age and %d by key are left", len(m.all), len(m.by))
	}
	const many = 1000 // recipients, as many as a message may have
	for i := range maxTakers/many + 10 {
		m.add(&asked{Transaction: message.Transaction{Key: key(-i - 1), To: make([]uint64, many)}, at: int64(i)})
		m.forget(0)
	}
	if len(m.all) != maxTakers/many || len(m.by) != len(m.all) || m.takers != len(m.all)*many {
		t.Errorf("%d by age and %d by key are left, with %d recipients", len(m.all), len(m.by), m.takers)
	}
}
