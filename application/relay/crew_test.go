package relay

import (
	"context"
	"testing"
	"time"

	"bothy/application/queue"
)

// newCrew returns a crew of a relay without a queue, whose workers do nothing by themselves.
func newCrew(t *testing.T, connections int) (c *crew, hired *[]*worker) {
	t.Helper()
	r := newRelay(t, Options{}, Config{Connections: connections}, "")
	r.up.Store(true)
	hired = new([]*worker)
	r.crew.start(context.Background(), context.Background())
	r.crew.employ = func(w *worker) { *hired = append(*hired, w) }
	return &r.crew, hired
}

// TestWakeWhileBusy: mail that comes due after a worker last asked is not forgotten.
func TestWakeWhileBusy(t *testing.T) {
	c, hired := newCrew(t, 10)
	c.wake("mx/a")
	c.wake("mx/a") // the worker has asked, and is about to leave
	if len(*hired) != 1 {
		t.Fatalf("%d workers", len(*hired))
	}
	c.leave((*hired)[0], false)
	if len(*hired) != 2 {
		t.Fatal("nobody looks again")
	}
	c.leave((*hired)[1], false)
	if len(*hired) != 2 || len(c.lanes) != 0 || c.total != 0 {
		t.Fatalf("%d hired, %d lanes, %d at work", len(*hired), len(c.lanes), c.total)
	}

	c.wake("mx/a")
	w := (*hired)[2]
	c.wake("mx/a")
	if c.rest(w) {
		t.Fatal("rests although mail came due")
	}
	if !c.rest(w) {
		t.Fatal("does not rest")
	}
	c.wake("mx/a")
	if work := <-w.wake; !work || len(*hired) != 3 {
		t.Fatal("the idle worker was not woken")
	}
	if c.tire(w) {
		t.Fatal("tired although woken")
	}
}

// TestIdleMakeRoom: a session kept for later does not keep other mail from going now.
func TestIdleMakeRoom(t *testing.T) {
	c, hired := newCrew(t, 1)
	c.wake("mx/a")
	if !c.rest((*hired)[0]) {
		t.Fatal("does not rest")
	}
	c.wake("mx/b")
	if work := <-(*hired)[0].wake; work || len(*hired) != 1 {
		t.Fatal("the idle worker was not sent home")
	}
	c.leave((*hired)[0], false)
	if len(*hired) != 2 || (*hired)[1].lane != "mx/b" {
		t.Fatal("nobody works for the lane that waited")
	}
	c.wake("mx/c") // and one that finds no mail while others wait does not rest
	if c.rest((*hired)[1]) {
		if work := <-(*hired)[1].wake; work {
			t.Fatal("rests while mx/c waits")
		}
	}
}

// TestLanesWaitForTheLink: what was told while the link was down, or left behind when it went down, is taken up when it is back.
func TestLanesWaitForTheLink(t *testing.T) {
	c, hired := newCrew(t, 10)
	c.wake("mx/a")
	c.relay.up.Store(false)
	c.leave((*hired)[0], true)
	c.wake("mx/b")
	if len(*hired) != 1 {
		t.Fatal("hired while the link is down")
	}
	c.relay.up.Store(true)
	c.resume()
	var lanes []queue.Lane
	for _, w := range (*hired)[1:] {
		lanes = append(lanes, w.lane)
	}
	if len(lanes) != 2 || lanes[0] != "mx/a" || lanes[1] != "mx/b" {
		t.Fatalf("at work: %v", lanes)
	}
}

// TestColleagueLooksAgain: mail that one worker left behind when the link went down is for the next who asks.
func TestColleagueLooksAgain(t *testing.T) {
	c, hired := newCrew(t, 10)
	c.wake("mx/a")
	c.begin("mx/a")
	c.relay.up.Store(false)
	c.leave((*hired)[0], true)
	c.relay.up.Store(true)
	c.resume()
	if len(*hired) != 2 {
		t.Fatalf("%d hired", len(*hired))
	}
	c.leave((*hired)[1], false) // it had asked the queue before
	if len(*hired) != 3 {
		t.Fatal("mail left behind")
	}
}

// TestDead: a failed next hop counts as failed for a minute, until it answers, or until the link has come up.
func TestDead(t *testing.T) {
	c, _ := newCrew(t, 10)
	now, f := time.Unix(1000, 0), later(4, 1, "cannot reach it")
	mourned := func(lane queue.Lane, after time.Duration) bool {
		_, _, ok := c.mourned(lane, now.Add(after))
		return ok
	}
	c.mourn("mx/a", f, now)
	if !mourned("mx/a", deadTime-1) || mourned("mx/a", deadTime) || mourned("mx/b", 0) {
		t.Error("not dead for its minute")
	}
	if !c.revive("mx/a") || c.revive("mx/a") || mourned("mx/a", 0) {
		t.Error("not revived once")
	}
	c.mourn("mx/a", f, now)
	c.resume()
	if mourned("mx/a", 0) {
		t.Error("dead though the link was the reason")
	}
	c.mourn("mx/a", f, now)
	c.mourn("mx/b", f, now.Add(5*time.Hour))
	if len(c.dead) != 1 {
		t.Errorf("%d remembered for ever", len(c.dead))
	}
}

func TestNobodyIsHiredAfterTheEnd(t *testing.T) {
	c, hired := newCrew(t, 10)
	c.finish()
	c.wake("mx/a")
	if len(*hired) != 0 {
		t.Fatal("hired")
	}
}
