package queue_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/queue"
	"bothy/application/queue/queuetest"
	"bothy/lib/sim"
)

// TestSlowDisk: a disk that takes its time slows senders down, each until a sync behind its own message is over; nobody is refused, and all
// that was accepted is there after a power cut.
func TestSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const senders, syncTime = 100, 3 * time.Second
		disk := sim.NewDisk()
		s := queuetest.OpenWith(t, queue.Options{FS: disk, Dir: "spool", Config: queue.Config{CommitDelay: 2 * time.Millisecond}})
		disk.SetSyncTime(syncTime)
		var sending sync.WaitGroup
		for i := range senders {
			sending.Go(func() {
				time.Sleep(time.Duration(i) * syncTime / senders)
				began := time.Now()
				accept(t, s, envelope(t, "a@home.example", fmt.Sprintf("u%d@d.example", i)))
				if took := time.Since(began); took < syncTime || took > 3*syncTime {
					t.Errorf("250 after %v, and a sync takes %v", took, syncTime)
				}
			})
		}
		sending.Wait()
		s.Close()
		disk.SetSyncTime(0)
		s = queuetest.OpenWith(t, queue.Options{FS: disk.PowerCut(sim.Synced, 0), Dir: "spool"})
		if n := s.Stats().Waiting; n != senders {
			t.Errorf("%d of %d are there", n, senders)
		}
	})
}
