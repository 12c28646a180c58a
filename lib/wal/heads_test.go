package wal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bothy/lib/wal"
)

// head is what replay needs of the records of these tests.
const head = 10

// skim opens the log in dir for its heads, and returns what it replayed, and of how many records the rest stayed unread.
func skim(t *testing.T, dir string) (l *wal.Log, got map[wal.Position]string, unread int) {
	t.Helper()
	got = make(map[wal.Position]string)
	take := func(p wal.Position, b []byte, length int) {
		if length > len(b) {
			unread++
		}
		got[p] = fmt.Sprintf("%s of %d", b[:head], length)
	}
	o := wal.Options{Dir: dir, SegmentSize: wal.MinSegmentSize, Heads: &wal.Heads{
		Length: func([]byte) int { return head },
		Replay: func(p wal.Position, b []byte, length int) error { take(p, b, length); return nil },
	}}
	l, err := wal.Open(o, func(p wal.Position, b []byte) error { take(p, b, len(b)); return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, got, unread
}

func headFiles(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.heads"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Open reads the heads of complete segments and nothing else of them; where those are not whole, the segment.
func TestHeads(t *testing.T) {
	dir := t.TempDir()
	want := map[wal.Position]string{}
	l, _, _ := skim(t, dir)
	for i := range 100 {
		text := fmt.Sprintf("%0*d%s", head, i, strings.Repeat("x", 200+i))
		p, err := l.Commit([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		want[p] = fmt.Sprintf("%0*d of %d", head, i, len(text))
	}
	reopen := func(what string, least, most int) {
		t.Helper()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var got map[wal.Position]string
		var unread int
		l, got, unread = skim(t, dir)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%s: %v, want %v", what, got, want)
		}
		if unread < least || unread > most {
			t.Errorf("%s: %d records unread, want %d to %d", what, unread, least, most)
		}
	}
	reopen("no heads", 0, 0)
	l.Summarize()
	all := len(headFiles(t, dir))
	if all < 5 {
		t.Fatalf("heads of %d segments", all)
	}
	reopen("all", 80, 99)
	for i, name := range headFiles(t, dir) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		switch i % 4 {
		case 0:
			b[len(b)/2] ^= 1
		case 1:
			b = b[:len(b)/2]
		case 2:
			b = nil
		case 3:
			continue
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reopen("torn", 1, 60)
	l.Summarize()
	reopen("written again", 80, 99)
	first := l.Segments()[0]
	if err := os.WriteFile(filepath.Join(dir, "00000001-deadbeef.heads"), []byte("nobody's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Drop(first); err != nil {
		t.Fatal(err)
	}
	for p := range want {
		if p.Segment == first {
			delete(want, p)
		}
	}
	reopen("dropped", 60, 99)
	l.Summarize()
	if n := len(headFiles(t, dir)); n > all {
		t.Errorf("%d files of heads, there were %d", n, all)
	}
}
