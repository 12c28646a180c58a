package queuetest

import (
	"context"
	"testing"

	"bothy/application/message"
	"bothy/application/queue"
)

// Router is a queue.Router that looks at the address only.
type Router func(to message.Address) queue.Lane

// Lane is queue.Router's.
func (r Router) Lane(_ *message.Envelope, to *message.Recipient) queue.Lane { return r(to.Address) }

// ByDomain routes to "test/<domain>".
func ByDomain(to message.Address) queue.Lane { return queue.Lane("test/" + to.Domain) }

// Open opens an empty spool in a directory of the test and closes it at its end. A nil router is ByDomain.
func Open(t testing.TB, router queue.Router) *queue.Spool {
	t.Helper()
	return OpenWith(t, queue.Options{Router: router})
}

// OpenWith is Open with more options; Dir is a directory of the test when empty, segments are small.
func OpenWith(t testing.TB, o queue.Options) *queue.Spool {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Router == nil {
		o.Router = Router(ByDomain)
	}
	if o.Config.SegmentSize == 0 {
		o.Config.SegmentSize = 256 << 10
	}
	if o.Config.FreeSpace == 0 {
		o.Config.FreeSpace = 1 << 20
	}
	s, err := queue.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
