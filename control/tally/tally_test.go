package tally

import (
	"reflect"
	"sync"
	"testing"
)

// What is counted by many at once is all there, and a copy stays as it was.
func TestTally(t *testing.T) {
	var tally Tally
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for range 100 {
				tally.Received("Solicit")
				tally.Sent("Advertise")
				tally.Dropped("no")
			}
		})
	}
	work.Wait()
	c := tally.Counts()
	tally.Sent("Reply")
	want := Counts{map[string]uint64{"Solicit": 800}, map[string]uint64{"Advertise": 800}, map[string]uint64{"no": 800}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%v", c)
	}
}
