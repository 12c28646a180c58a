package wal_test

import (
	"testing"

	"bothy/lib/sim"
	"bothy/lib/wal"
)

// BenchmarkTail opens a log whose process was killed: all of the segment behind the last record is looked at for one that vouches for what
// stands there.
func BenchmarkTail(b *testing.B) {
	disk := sim.NewDisk()
	l, err := wal.Open(wal.Options{FS: disk, Dir: "log"}, nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := l.Commit([]byte("the only one")); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		copied := disk.Afterwards(sim.Cached, 0)
		b.StartTimer()
		l, err := wal.Open(wal.Options{FS: copied, Dir: "log"}, func(wal.Position, []byte) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		l.Close()
		b.StartTimer()
	}
}
