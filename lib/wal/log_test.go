package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/lib/wal"
)

// open opens the log in dir and returns what it replayed.
func open(t testing.TB, o wal.Options) (*wal.Log, map[wal.Position]string) {
	t.Helper()
	got := make(map[wal.Position]string)
	l, err := wal.Open(o, func(p wal.Position, b []byte) error {
		got[p] = string(b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, got
}

func TestReplay(t *testing.T) {
	o := wal.Options{Dir: t.TempDir(), SegmentSize: wal.MinSegmentSize}
	want := make(map[wal.Position]string)
	for life := range 5 {
		l, got := open(t, o)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("life %d: replayed %d records, want %d", life, len(got), len(want))
		}
		for i := range 100 {
			text := fmt.Sprintf("life %d, record %d, %s", life, i, strings.Repeat("x", i))
			p, err := l.Commit([]byte(text[:3]), []byte(text[3:]))
			if err != nil {
				t.Fatal(err)
			}
			want[p] = text
			if b, err := l.Read(p, nil); err != nil || string(b) != text {
				t.Fatalf("read %v: %q, %v", p, b, err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConcurrent(t *testing.T) {
	o := wal.Options{Dir: t.TempDir(), SegmentSize: 64 << 10, GroupSize: 8 << 10}
	l, _ := open(t, o)
	var mu sync.Mutex
	want := make(map[wal.Position]string)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 200 {
				text := fmt.Sprintf("%d/%d %s", w, i, bytes.Repeat([]byte("y"), i*5))
				pending, err := l.Append([]byte(text))
				if err == nil && i%3 != 0 {
					err = pending.Wait()
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				want[pending.Position] = text
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if st := l.Stats(); st.Appends != 1600 {
		t.Errorf("stats: %+v", st)
	}
	l.Close()
	_, got := open(t, o)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("replayed %d records, want %d", len(got), len(want))
	}
}

func TestOneProcess(t *testing.T) {
	o := wal.Options{Dir: t.TempDir()}
	open(t, o)
	if _, err := wal.Open(o, nil); err == nil {
		t.Fatal("opened twice")
	}
}

func TestDropAndSpare(t *testing.T) {
	o := wal.Options{Dir: t.TempDir(), SegmentSize: wal.MinSegmentSize}
	l, _ := open(t, o)
	want := make(map[wal.Position]string)
	for i := range 200 {
		text := fmt.Sprintf("record %d %0500d", i, i)
		p, err := l.Commit([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		want[p] = text
		if numbers := l.Segments(); len(numbers) > 2 {
			if err := l.Drop(numbers[0]); err != nil {
				t.Fatal(err)
			}
			for p := range want {
				if p.Segment != numbers[0] {
					continue
				}
				if _, err := l.Read(p, nil); !errors.Is(err, wal.ErrGone) {
					t.Fatalf("read of a dropped record: %v", err)
				}
				delete(want, p)
			}
		}
	}
	if st := l.Stats(); st.Segments > 4 {
		t.Errorf("stats: %+v", st)
	}
	l.Close()
	_, got := open(t, o)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("replayed %d records, want %d", len(got), len(want))
	}
}

// Any damaged octet costs the record that it stands in and no other.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	o := wal.Options{Dir: dir, SegmentSize: wal.MinSegmentSize}
	l, _ := open(t, o)
	var positions []wal.Position
	for i := range 30 {
		p, err := l.Commit(fmt.Appendf(nil, "record %d %0250d", i, i))
		if err != nil {
			t.Fatal(err)
		}
		positions = append(positions, p)
	}
	l.Close()
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, hit := range []int{0, 1, 5, 13, 14, len(positions) - 1} {
		for _, within := range []int64{0, 5, 9, 12, 16, 100, 270} {
			p := positions[hit]
			name, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf("%08x-*.log", p.Segment)))
			if err != nil || len(name) != 1 {
				t.Fatal(name, err)
			}
			flip(t, name[0], int64(p.Offset)+within)
			damages := 0
			o.Damaged = func(d wal.Damage) {
				damages++
				if d.Err != nil || d.Position != p {
					t.Errorf("damage %+v, want at %v", d, p)
				}
				if info, err := os.Stat(d.File); err != nil || info.Size() != d.Length {
					t.Errorf("set aside %v: %v", d, err)
				}
			}
			l, got := open(t, o)
			if _, there := got[p]; len(got) != len(positions)-1 || there || damages != 1 {
				t.Errorf("octet %d of record %d: %d replayed, %d damages", within, hit, len(got), damages)
			}
			if _, err := l.Read(p, nil); !errors.Is(err, wal.ErrDamaged) {
				t.Errorf("read of a damaged record: %v", err)
			}
			l.Close()
			flip(t, name[0], int64(p.Offset)+within)
		}
	}
}

func flip(t *testing.T, name string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x55
	if _, err := f.WriteAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 20, 100} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l, _ := open(b, wal.Options{Dir: b.TempDir()})
			payload := bytes.Repeat([]byte("m"), 4<<10)
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			work := make(chan struct{}, b.N)
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			b.ResetTimer()
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for range work {
						if _, err := l.Commit(payload); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			st := l.Stats()
			b.ReportMetric(float64(st.Syncs)/float64(b.N), "fsyncs/op")
		})
	}
}

// A hole in the last group that nobody vouches for is torn, and cuts off what stands behind it; once a later group vouches for the place it is
// damage, and costs one record.
func TestTornOrDamaged(t *testing.T) {
	for _, vouched := range []bool{false, true} {
		o := wal.Options{Dir: t.TempDir(), Linger: time.Hour}
		l, _ := open(t, o)
		var group []wal.Pending
		for i := range 4 {
			p, err := l.Append(fmt.Appendf(nil, "record %d", i))
			if err != nil {
				t.Fatal(err)
			}
			group = append(group, p)
		}
		if err := group[0].Wait(); err != nil {
			t.Fatal(err)
		}
		end := int64(group[3].Position.Offset) + 24
		if vouched {
			p, err := l.Commit([]byte("later"))
			if err != nil {
				t.Fatal(err)
			}
			end = int64(p.Offset) + 24
		}
		l.Close()
		names, err := filepath.Glob(filepath.Join(o.Dir, "*.log"))
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		if err := os.Truncate(names[0], end); err != nil { // as if Close had not been reached
			t.Fatal(err)
		}
		flip(t, names[0], int64(group[1].Position.Offset)+3)
		damages := 0
		o.Damaged = func(wal.Damage) { damages++ }
		want, wantDamages := 1, 0
		if vouched {
			want, wantDamages = 4, 1
		}
		l, got := open(t, o)
		if len(got) != want || damages != wantDamages {
			t.Errorf("vouched %v: %d records, %d damages; want %d, %d", vouched, len(got), damages, want, wantDamages)
		}
		l.Close()
	}
}
