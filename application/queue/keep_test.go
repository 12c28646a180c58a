package queue_test

import (
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/queue/queuetest"
	"bothy/application/smtp"
	"bothy/lib/sim"
	"bothy/lib/wal"
)

// TestKeep: what fails with nobody left to be told is held, over a restart and past its lifetime (RFC 5321 §6.1).
func TestKeep(t *testing.T) {
	disk := sim.NewDisk()
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	start := func() *queue.Spool {
		s, err := queue.Open(t.Context(), queue.Options{
			Dir: "spool", FS: disk, Router: queuetest.Router(queuetest.ByDomain), Notifier: &reporter{},
			Config: queue.Config{SegmentSize: wal.MinSegmentSize, FreeSpace: 1}, Now: func() time.Time { return now },
			Keep: func(env *message.Envelope, to *message.Recipient) bool {
				return env.ReversePath.IsNull() && to.Address.Local == "postmaster"
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := start()
	env := envelope(t, "a@home.example", "postmaster@d.example", "b@d.example")
	env.ReversePath = message.Address{}
	id := accept(t, s, env)
	refused := queue.Verdict{Failed: true, Reply: smtp.Reply{Code: 552, Text: "no room"}}
	if err := lease(t, s, "test/d.example").Settle([]queue.Verdict{refused, refused}); err != nil {
		t.Fatal(err)
	}
	look := func() {
		t.Helper()
		if due, all := s.Waiting("test/d.example"); due != 0 || all != 1 {
			t.Errorf("%d due of %d, want the one that is held", due, all)
		}
	}
	look()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	now = now.Add(1000 * time.Hour)
	s = start()
	defer s.Close()
	look()
	if n, err := s.Release(queue.Filter{IDs: []message.ID{id}}); err != nil || n != 1 {
		t.Errorf("released %d, %v", n, err)
	}
	if l := lease(t, s, "test/d.example"); l.Envelope.Recipients[0].Address.Local != "postmaster" {
		t.Errorf("released: %v", l.Envelope.Recipients)
	}
}
