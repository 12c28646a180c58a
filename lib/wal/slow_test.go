package wal_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bothy/lib/sim"
)

// TestSlowDisk: a disk that needs a second for each sync holds back who writes; what waits in memory is three groups at most, one under way,
// one sealed, one that gathers, however many want to write. All of it is durable in the end.
func TestSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const writers, each, size = 200, 5, 200
		disk := sim.NewDisk()
		o := options(disk)
		l, _ := open(t, o)
		before := l.Stats().Appends
		disk.SetSyncTime(time.Second)
		var durable atomic.Int64
		var writing sync.WaitGroup
		for w := range writers {
			writing.Go(func() {
				for i := range each {
					if _, err := l.Commit([]byte(fmt.Sprint(w, " ", i, " ", strings.Repeat("x", size)))); err != nil {
						t.Error(err)
					}
					durable.Add(1)
				}
			})
		}
		most := int64(0)
		for durable.Load() < writers*each/2 {
			time.Sleep(time.Second / 2)
			synctest.Wait()
			most = max(most, int64(l.Stats().Appends-before)-durable.Load())
		}
		if held := most * size; held < int64(o.GroupSize)/2 || held > 3*int64(o.GroupSize) {
			t.Errorf("%d octets waited in memory, with groups of %d", held, o.GroupSize)
		}
		writing.Wait()
		l.Close()
		if _, got := open(t, options(disk.PowerCut(sim.Synced, 0))); len(got) != writers*each {
			t.Errorf("%d of %d are durable", len(got), writers*each)
		}
	})
}

// TestCloseDuringASync: who waits alone writes himself; Close waits for him.
func TestCloseDuringASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := sim.NewDisk()
		l, _ := open(t, options(disk))
		commit(t, l) // there is a segment
		disk.SetSyncTime(time.Second)
		done := make(chan error, 2)
		for _, record := range []string{"first", "second"} { // the second gathers while the first is written
			go func() {
				_, err := l.Commit([]byte(record))
				done <- err
			}()
			synctest.Wait()
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if _, got := open(t, options(disk.PowerCut(sim.Synced, 0))); len(got) != 3 {
			t.Errorf("%d of 3 records are durable", len(got))
		}
	})
}
