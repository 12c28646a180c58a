package queue_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/queue"
	"bothy/application/queue/queuetest"
	"bothy/lib/sim"
)

// Messages that arrive together are made durable together; one that waits in vain waits no longer than it may.
func TestCommitDelay(t *testing.T) {
	const delay = 2 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		s := queuetest.OpenWith(t, queue.Options{FS: sim.NewDisk(), Dir: "spool", Config: queue.Config{CommitDelay: delay}})
		accept := func(body io.Reader) {
			if err := s.Accept(context.Background(), envelope(t, "a@b.example", "c@d.example"), body); err != nil {
				t.Error(err)
			}
		}
		before := s.Stats().Log.Syncs
		var wg sync.WaitGroup
		for _, after := range []time.Duration{0, delay / 4, delay / 2} {
			wg.Go(func() { accept(&arriving{strings.NewReader("x\r\n"), after}) })
		}
		wg.Wait()
		if got := s.Stats().Log.Syncs - before; got > 2 {
			t.Errorf("%d syncs for 3 messages that arrived within %v", got, delay)
		}

		wg.Go(func() { accept(&arriving{strings.NewReader("x\r\n"), time.Hour}) })
		synctest.Wait()
		began := time.Now()
		accept(strings.NewReader("x\r\n"))
		if took := time.Since(began); took != delay {
			t.Errorf("took %v while another was on its way", took)
		}
		wg.Wait()
	})
}

// arriving is a body that takes its time.
type arriving struct {
	io.Reader
	after time.Duration
}

func (a *arriving) Read(p []byte) (int, error) {
	time.Sleep(a.after)
	a.after = 0
	return a.Reader.Read(p)
}
