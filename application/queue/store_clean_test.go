package queue

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/lib/sim"
)

// opened is a spool whose first segment is complete and holds the message that is returned.
func opened(t *testing.T, to ...string) (*witness, message.ID) {
	t.Helper()
	w := newWitness(sim.NewDisk())
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.spool.Close() })
	id, err := w.accept(100, to...)
	if err != nil {
		t.Fatal(err)
	}
	for len(w.spool.log.Segments()) < 2 {
		if _, err := w.accept(600, "fill@d.example"); err != nil {
			t.Fatal(err)
		}
	}
	return w, id
}

// meddler is a Notifier that does something while a failure is on its way to the disk.
type meddler func()

func (m meddler) Compose(*Report) (*message.Envelope, io.ReadCloser) {
	m()
	return nil, nil
}

// While a failure is being written its message stays where it is: a copy of before would bring the recipient back.
func TestCompactWaitsForFailure(t *testing.T) {
	w, _ := opened(t, "fail1@a.example")
	tried := false
	w.spool.o.Notifier = meddler(func() {
		tried = true
		if err := w.spool.compact(); !errors.Is(err, errBusy) {
			t.Errorf("compacted under a failure: %v", err)
		}
	})
	if err := w.settle("a.example"); err != nil || !tried {
		t.Fatal(tried, err)
	}
	if err := w.spool.compact(); err != nil {
		t.Fatal(err)
	}
	w.disk = w.disk.PowerCut(sim.Synced, 0)
	w.look(t, "", 0)
}

// A copy of a message whose recipients changed since it was read is not written.
func TestMoveSeesChanges(t *testing.T) {
	w, id := opened(t, "one@a.example")
	e := w.spool.find(id)
	r, body, err := w.spool.load(e)
	if err != nil {
		t.Fatal(err)
	}
	seen := e.changes
	if _, err := w.spool.Hold(Filter{IDs: []message.ID{id}}); err != nil {
		t.Fatal(err)
	}
	if m, err := w.spool.moveTo(e, seen, r, body); m != nil || err != nil {
		t.Errorf("moved %+v, %v", m, err)
	}
}

// The record of a pause is in a segment that goes; the pause is not forgotten.
func TestCompactKeepsClocks(t *testing.T) {
	w := newWitness(sim.NewDisk())
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	id, err := w.accept(100, "one@a.example")
	if err != nil {
		t.Fatal(err)
	}
	w.spool.Pause("kind")
	w.now = w.now.Add(time.Hour)
	w.spool.Resume("kind")
	w.spool.Pause("other") // and goes on
	if err := compactOnce(w); err != nil {
		t.Fatal(err)
	}
	w.spool.Close()
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	accepted := w.spool.find(id).accepted
	if age := w.spool.index.clocks["kind"].age(accepted, w.spool.now()); age > time.Minute.Milliseconds() {
		t.Errorf("aged %v", time.Duration(age)*time.Millisecond)
	}
	if c := w.spool.index.clocks["other"]; c == nil || c.stood(w.spool.now()) == 0 {
		t.Error("the pause that went on is forgotten")
	}
}

// rerouter changes the routes while a message is between the disk and the index.
type rerouter struct {
	spool *Spool
	asked int
}

func (r *rerouter) Lane(*message.Envelope, *message.Recipient) Lane {
	r.asked++
	if r.asked == 1 {
		r.spool.Reroute(nil)
		return "old/lane"
	}
	return "new/lane"
}

func TestRoutesChangeDuringAccept(t *testing.T) {
	w, _ := opened(t, "one@a.example")
	w.spool.o.Router = &rerouter{spool: w.spool, asked: -100} // those of opened first
	w.spool.Reroute(nil)
	w.spool.o.Router = &rerouter{spool: w.spool}
	if _, err := w.accept(100, "two@a.example"); err != nil {
		t.Fatal(err)
	}
	if _, all := w.spool.Waiting("old/lane"); all != 0 {
		t.Error("a message waits in a lane that the routes no longer name")
	}
}

// A call of Reroute that has asked the Router before another one does not undo what that one did.
func TestRoutesChangeDuringReroute(t *testing.T) {
	w, _ := opened(t, "one@a.example")
	w.spool.o.Router = &rerouter{spool: w.spool}
	w.spool.Reroute(nil)
	if _, all := w.spool.Waiting("old/lane"); all != 0 {
		t.Error("a message waits in a lane that the routes no longer name")
	}
}

// What is settled while the disk is full is written down when there is room.
func TestSettleOnFullDisk(t *testing.T) {
	w := newWitness(sim.NewDisk())
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	const messages = 300 // more than the settlements that the allocated segments hold
	for range messages {
		if _, err := w.accept(10, "done@a.example", "later@b.example"); err != nil {
			t.Fatal(err)
		}
	}
	w.disk.SetCapacity(1)
	for range messages {
		if err := w.settle("a.example"); err != nil {
			t.Fatal(err)
		}
		if err := w.settle("b.example"); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.spool.unsaved) == 0 {
		t.Fatal("the disk was never full")
	}
	w.disk.SetCapacity(0)
	w.spool.work(context.Background())
	if len(w.spool.unsaved) > 0 {
		t.Fatalf("%d records still unsaved", len(w.spool.unsaved))
	}
	w.spool.Close()
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	if _, all := w.spool.Waiting("kind/a.example"); all != 0 {
		t.Errorf("%d came back", all)
	}
	items, _, err := w.spool.List(Filter{}, message.ID{}, 0)
	if err != nil || len(items) != messages {
		t.Fatalf("%d messages, %v", len(items), err)
	}
	for _, item := range items {
		if r := item.Recipients[0]; r.Attempts != 1 || r.LastReply != (smtp.Reply{Code: 450, Text: "later"}) {
			t.Fatalf("%+v", r)
		}
	}
}

// A holder reads the body though the message is moved under it, and though its segment is gone.
func TestReadWhileMoved(t *testing.T) {
	w, id := opened(t, "one@a.example")
	l, err := w.spool.Lease("kind/a.example", "reader")
	if err != nil || l == nil {
		t.Fatal(l, err)
	}
	before := w.spool.find(id).place
	if err := w.spool.compact(); err != nil {
		t.Fatal(err)
	}
	if w.spool.find(id).place == before {
		t.Fatal("not moved")
	}
	if text, err := bodyOf(l); err != nil || !strings.HasPrefix(text, "Subject: 100") {
		t.Errorf("%q, %v", text, err)
	}
}
