package queue

import (
	"bytes"
	"testing"
	"time"

	"bothy/lib/sim"
)

// How long clocks stood still goes with an export, so that nothing is too old where it is imported; the clock runs again there. A spool where
// mail waits keeps its own clock.
func TestExportClock(t *testing.T) {
	const day = 24 * time.Hour
	for name, resumed := range map[string]bool{"paused": false, "paused and resumed": true} {
		t.Run(name, func(t *testing.T) {
			from, to, other := newWitness(sim.NewDisk()), newWitness(sim.NewDisk()), newWitness(sim.NewDisk())
			for _, w := range []*witness{from, to, other} {
				if err := w.open(); err != nil {
					t.Fatal(err)
				}
				defer func() { w.spool.Close() }()
			}
			id, err := from.accept(100, "bob@a.example")
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := other.accept(100, "carol@a.example")
			if err != nil {
				t.Fatal(err)
			}
			from.now = from.now.Add(day)
			from.spool.Pause("kind")
			from.now = from.now.Add(10 * day)
			if resumed {
				from.spool.Resume("kind")
			}
			var export bytes.Buffer
			if _, err := from.spool.Export(t.Context(), &export); err != nil {
				t.Fatal(err)
			}
			for _, w := range []*witness{to, other} {
				w.now = from.now.Add(time.Hour)
				if n, err := w.spool.Import(t.Context(), bytes.NewReader(export.Bytes()), nil); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				w.now = w.now.Add(2 * time.Minute) // what is too old already is looked at after one
				w.spool.work(t.Context())
			}
			if other.spool.find(theirs) != nil {
				t.Error("mail that waited grew younger")
			}
			if err := to.spool.Close(); err != nil {
				t.Fatal(err)
			}
			if err := to.open(); err != nil {
				t.Fatal(err)
			}
			to.now = to.now.Add(2 * time.Minute)
			to.spool.work(t.Context())
			if to.spool.find(id) == nil {
				t.Error("given up as if the clock had run")
			}
			to.now = to.now.Add(5 * day)
			to.spool.work(t.Context())
			if to.spool.find(id) != nil {
				t.Error("the clock does not run again")
			}
		})
	}
}
