package queue

import (
	"errors"
	"fmt"
	"testing"

	"bothy/application/message"
	"bothy/lib/sim"
)

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
