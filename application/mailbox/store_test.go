package mailbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/lib/sim"
)

const keeper = "keeper@clinic.example"

func openStore(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func envelope(n byte) *message.Envelope {
	return &message.Envelope{
		ID:          message.ID{0x01, 0x90, 0, 0, 0, n, 0xaa, n},
		ReversePath: message.Address{Local: "nurse", Domain: "town.example"},
		Recipients:  []message.Recipient{{Address: message.Address{Local: "keeper", Domain: "clinic.example"}}},
	}
}

func deliver(t testing.TB, s *Store, n byte, text string) {
	t.Helper()
	if err := s.Deliver(t.Context(), keeper, envelope(n), strings.NewReader(text), int64(len(text))); err != nil {
		t.Fatal(err)
	}
}

// kept reads the whole INBOX.
func kept(t testing.TB, s *Store, account string) (texts []string, list []Message) {
	t.Helper()
	list, err := s.Messages(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		body, err := s.Body(t.Context(), account, m)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(body)
		body.Close()
		if err != nil || int64(len(text)) != m.Size {
			t.Fatalf("%s: %d octets, not %d (%v)", m.ID, len(text), m.Size, err)
		}
		texts = append(texts, string(text))
	}
	return texts, list
}

// trace is what envelope's messages get on top.
const trace = "Return-Path: <nurse@town.example>\r\nDelivered-To: keeper@clinic.example\r\n"

func TestDeliver(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 123e6, time.UTC)
	s := openStore(t, t.TempDir(), Options{Now: func() time.Time { return now }})
	deliver(t, s, 1, "Subject: one\r\n\r\nfirst\r\n")
	deliver(t, s, 2, "Subject: two\r\n\r\nsecond\r\n")
	texts, list := kept(t, s, keeper)
	if len(texts) != 2 || texts[0] != trace+"Subject: one\r\n\r\nfirst\r\n" || texts[1] != trace+"Subject: two\r\n\r\nsecond\r\n" {
		t.Fatalf("%q", texts)
	}
	want := Message{ID: envelope(2).ID, UID: 2, ModSeq: 2, Size: int64(len(texts[1])), Received: now}
	if got := list[1]; !got.Received.Equal(now) {
		t.Fatal(got.Received)
	} else if got.Received = now; got != want {
		t.Fatalf("%+v, not %+v", got, want)
	}
	if texts, _ := kept(t, s, "another@clinic.example"); texts != nil {
		t.Fatalf("a foreign account has %q", texts)
	}
}

func TestDeliverTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	deliver(t, s, 1, "Subject: one\r\n\r\n")
	deliver(t, s, 1, "Subject: again\r\n\r\n")
	if texts, _ := kept(t, s, keeper); len(texts) != 1 || !strings.Contains(texts[0], "one") {
		t.Fatalf("%q", texts)
	}
	if err := s.Remove(t.Context(), keeper, []message.ID{envelope(1).ID, envelope(9).ID}); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, 1, "Subject: read and removed already\r\n\r\n")
	s.Close()
	s = openStore(t, dir, Options{})
	deliver(t, s, 1, "Subject: after a restart\r\n\r\n")
	if texts, _ := kept(t, s, keeper); len(texts) != 0 {
		t.Fatalf("%q", texts)
	}
	deliver(t, s, 2, "Subject: two\r\n\r\n")
	if _, list := kept(t, s, keeper); list[0].UID != 2 {
		t.Fatalf("UID %d is used again", list[0].UID)
	}
}

// TestDeliverAtOnce has every message come twice at the same time, by two addresses of one account.
func TestDeliverAtOnce(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), Options{})
	var senders sync.WaitGroup
	for n := range byte(24) {
		senders.Go(func() {
			env := envelope(n % 12)
			if n >= 12 {
				env.Recipients[0].Address.Local = "keepers-other-address"
			}
			if err := s.Deliver(t.Context(), keeper, env, strings.NewReader("\r\nx\r\n"), 5); err != nil {
				t.Error(err)
			}
		})
	}
	senders.Wait()
	if texts, _ := kept(t, s, keeper); len(texts) != 12 { // kept compares the sizes
		t.Fatalf("%d messages, not 12", len(texts))
	}
}

func TestDeliverRefuses(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), Options{Quota: 300})
	deliver(t, s, 1, strings.Repeat("a", 150)) // and the trace fields
	for _, c := range []struct {
		name string
		size int64
		text string
		want smtp.Reply
	}{
		{"over quota", 160, strings.Repeat("b", 160), errFull},
		{"over quota with its trace fields", 60, strings.Repeat("b", 60), errFull},
		{"larger than any quota", 301, strings.Repeat("b", 301), errTooBig},
		{"shorter than it was", 20, "Subject: cut o", errMailbox},
	} {
		err := s.Deliver(t.Context(), keeper, envelope(2), strings.NewReader(c.text), c.size)
		if reply, ok := errors.AsType[smtp.Reply](err); !ok || reply != c.want {
			t.Errorf("%s: %v, not %v", c.name, err, c.want)
		}
	}
	if err := s.Remove(t.Context(), keeper, []message.ID{envelope(1).ID}); err != nil {
		t.Fatal(err)
	}
	deliver(t, s, 2, strings.Repeat("b", 160)) // there is room again
	assertClean(t, s)
}

func TestDeliverStops(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	endless := readerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
	if err := s.Deliver(ctx, keeper, envelope(1), endless, -1); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	assertClean(t, s)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// assertClean finds nothing half-written.
func assertClean(t *testing.T, s *Store) {
	t.Helper()
	if left, err := os.ReadDir(s.tmp()); len(left) != 0 || err != nil {
		t.Errorf("left in tmp: %v %v", left, err)
	}
}

// TestCrash stops the store before each of its steps on the disk and starts it again from what lies there.
func TestCrash(t *testing.T) {
	t.Parallel()
	dir, images := t.TempDir(), t.TempDir()
	var acknowledged, removed []byte
	type image struct {
		dir                   string
		acknowledged, removed []byte
	}
	var all []image
	crash := func(step, path string) error {
		to := filepath.Join(images, fmt.Sprintf("%02d-%s", len(all), step))
		if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
			t.Error(err)
		}
		all = append(all, image{to, bytes.Clone(acknowledged), bytes.Clone(removed)})
		return nil
	}
	s, err := open(dir, Options{}, disk{crash})
	if err != nil {
		t.Fatal(err)
	}
	text := func(n byte) string { return fmt.Sprintf("Subject: %d\r\n\r\n", n) }
	for n := range byte(3) {
		deliver(t, s, n, text(n))
		acknowledged = append(acknowledged, n)
	}
	removed = []byte{1} // at most: Remove has not returned yet
	if err := s.Remove(t.Context(), keeper, []message.ID{envelope(1).ID}); err != nil {
		t.Fatal(err)
	}
	crash("end", "")
	s.Close()
	if len(all) < 20 {
		t.Fatalf("only %d steps", len(all))
	}
	for _, im := range all {
		s := openStore(t, im.dir, Options{})
		have := map[string]int{}
		check := func(when string, wanted []byte) {
			clear(have)
			texts, _ := kept(t, s, keeper)
			for _, got := range texts {
				have[got]++
			}
			for n := range byte(3) {
				count := have[trace+text(n)]
				if lost := bytes.IndexByte(wanted, n) >= 0 && bytes.IndexByte(im.removed, n) < 0 && count == 0; lost || count > 1 {
					t.Errorf("%s, %s: message %d is there %d times", filepath.Base(im.dir), when, n, count)
				}
				delete(have, trace+text(n))
			}
			if len(have) > 0 {
				t.Errorf("%s, %s: there is also %v", filepath.Base(im.dir), when, have)
			}
		}
		check("after the start", im.acknowledged)
		assertClean(t, s)
		for n := range byte(3) { // the queue was not told, and delivers again
			deliver(t, s, n, text(n))
		}
		check("delivered again", []byte{0, 1, 2})
		if strings.HasSuffix(im.dir, "-end") {
			if texts, _ := kept(t, s, keeper); len(texts) != 2 {
				t.Errorf("removed messages are back: %q", texts)
			}
			if files, _ := os.ReadDir(filepath.Join(im.dir, "accounts", keeper, "mail")); len(files) != 2 {
				t.Errorf("%d files stay", len(files))
			}
		}
		s.Close()
	}
}

// TestStepsInOrder holds that each step is durable before the one that leads to it: the octets before the name, the name before the row.
func TestStepsInOrder(t *testing.T) {
	var steps []string
	s, err := open(t.TempDir(), Options{}, disk{func(step, path string) error {
		steps = append(steps, step+" "+filepath.Base(filepath.Dir(path)))
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	deliver(t, s, 1, "")
	steps = nil
	deliver(t, s, 2, "")
	want := "create, write tmp, sync tmp, rename mail, syncdir " + keeper + ", commit " + keeper + ", remove tmp"
	if got := strings.Join(steps, ", "); strings.Replace(got, "create "+filepath.Base(s.dir), "create", 1) != want {
		t.Fatalf("%s, not %s", got, want)
	}
}

// TestDiskFails has the disk refuse its first step, then its second, until a delivery passes.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	for fail := 0; ; fail++ {
		steps := -1 << 30 // Open's are let through
		s, err := open(t.TempDir(), Options{}, disk{func(step, path string) error {
			if steps++; steps == fail+1 && step != "remove" {
				return &fs.PathError{Op: step, Path: path, Err: syscall.ENOSPC}
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		steps = 0
		text := "Subject: x\r\n\r\n"
		err = s.Deliver(t.Context(), keeper, envelope(1), strings.NewReader(text), int64(len(text)))
		if err == nil {
			if fail < 6 {
				t.Fatalf("only %d steps", fail)
			}
			return
		}
		if reply, ok := errors.AsType[smtp.Reply](err); !ok || reply != errNoSpace {
			t.Fatalf("step %d: %v", fail, err)
		}
		assertClean(t, s)
		deliver(t, s, 1, text) // there is room again
		if texts, _ := kept(t, s, keeper); len(texts) != 1 || texts[0] != trace+text {
			t.Fatalf("step %d: %q", fail, texts)
		}
	}
}

// On a full disk mail is read and removed, a mailbox that was not open too, and nothing is delivered; then there is room, and it is.
func TestFullDisk(t *testing.T) {
	room := sim.NewDisk() // has only the ballast: while that is larger than limit, nothing else finds room
	var limit atomic.Int64
	limit.Store(ballastSize)
	s, err := open(t.TempDir(), Options{}, disk{fault: func(step, _ string) error {
		if room.Used() > limit.Load() && (step == "mkdir" || step == "expunge") {
			return syscall.ENOSPC
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.ballast.FS = room
	deliver(t, s, 1, "Subject: one\r\n\r\n")
	deliver(t, s, 2, "Subject: two\r\n\r\n")
	refused := func() {
		t.Helper()
		if err := s.Deliver(t.Context(), keeper, envelope(3), strings.NewReader("x\r\n"), 3); !errors.Is(err, errNoSpace) {
			t.Errorf("delivered: %v", err)
		}
	}

	limit.Store(ballastSize / 2)
	room.SetCapacity(room.Used())
	if err := s.Remove(t.Context(), keeper, []message.ID{envelope(1).ID}); err != nil {
		t.Error(err)
	}
	refused()
	limit.Store(ballastSize / 4)                                        // it is filled again
	if texts, _ := kept(t, s, "another@clinic.example"); texts != nil { // opened for the first time
		t.Errorf("%q", texts)
	}
	refused()

	limit.Store(ballastSize)
	room.SetCapacity(room.Used() + 2*ballastSize)
	deliver(t, s, 3, "Subject: three\r\n\r\n")
	if texts, _ := kept(t, s, keeper); len(texts) != 2 || room.Used() != ballastSize {
		t.Errorf("%q, %d octets of ballast", texts, room.Used())
	}
}

func TestDamagedIndex(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"not a database": func(b []byte) []byte { return bytes.Repeat([]byte("x"), len(b)) },
		"page":           func(b []byte) []byte { copy(b[4096:], bytes.Repeat([]byte{0xfe}, 3*4096)); return b },
		"cut":            func(b []byte) []byte { return b[:2*4096+100] },
		"empty":          func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, dir, Options{})
			for n := range byte(5) {
				deliver(t, s, n, "Subject: x\r\n\r\n")
			}
			before, listed := kept(t, s, keeper)
			s.Close()
			index := filepath.Join(dir, "accounts", keeper, "index.sqlite")
			octets, err := os.ReadFile(index)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(index, damage(octets), 0o600); err != nil {
				t.Fatal(err)
			}
			s = openStore(t, dir, Options{})
			after, again := kept(t, s, keeper)
			if len(after) != len(before) {
				t.Fatalf("%d messages, not %d", len(after), len(before))
			}
			for i := range after {
				if after[i] != before[i] || again[i].ID != listed[i].ID {
					t.Errorf("message %d is another one", i)
				}
			}
			deliver(t, s, 3, "Subject: again\r\n\r\n")
			deliver(t, s, 9, "Subject: new\r\n\r\n")
			if texts, _ := kept(t, s, keeper); len(texts) != 6 {
				t.Fatalf("%d messages, not 6", len(texts))
			}
		})
	}
}

// TestDamageInUse finds the damage at a call, while others are under way.
func TestDamageInUse(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), Options{})
	deliver(t, s, 1, "Subject: x\r\n\r\n")
	var calls int
	var others sync.WaitGroup
	err := s.with(keeper, func(b *inbox) error {
		if calls++; calls > 1 {
			return nil
		}
		for n := range byte(5) {
			others.Go(func() { deliver(t, s, 10+n, "Subject: y\r\n\r\n") })
		}
		return fmt.Errorf("wrapped: %w", errDamagedIndex)
	})
	others.Wait()
	if err != nil || calls != 2 {
		t.Fatalf("%d calls: %v", calls, err)
	}
	if texts, _ := kept(t, s, keeper); len(texts) != 6 {
		t.Fatalf("%d messages, not 6", len(texts))
	}
	if _, err := os.Stat(filepath.Join(s.dir, "accounts", keeper, "damaged.sqlite")); err != nil {
		t.Fatal(err)
	}
}

// TestLost removes a body behind the store's back.
func TestLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var log bytes.Buffer
	options := Options{Log: slog.New(slog.NewTextHandler(&log, nil))}
	s := openStore(t, dir, options)
	for n := range byte(3) {
		deliver(t, s, n, "Subject: x\r\n\r\n")
	}
	_, list := kept(t, s, keeper)
	if err := os.Remove(filepath.Join(dir, "accounts", keeper, "mail", list[1].ID.String())); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Body(t.Context(), keeper, list[1]); !errors.Is(err, ErrDamaged) || !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "accounts", keeper, "mail", list[2].ID.String()), []byte("cut"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Body(t.Context(), keeper, list[2]); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	s.Close()
	s = openStore(t, dir, options)
	after, err := s.Messages(t.Context(), keeper)
	if err != nil || len(after) != 2 || after[0].ID != list[0].ID {
		t.Fatal(after, err)
	}
	if !strings.Contains(log.String(), `message lost`) || !strings.Contains(log.String(), list[1].ID.String()) {
		t.Fatalf("the log does not say so: %s", log.String())
	}
	deliver(t, s, 1, "Subject: y\r\n\r\n")
	if after, _ := s.Messages(t.Context(), keeper); len(after) != 3 {
		t.Fatal("a lost message does not come back")
	}
}

func TestIndexesBounded(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir(), Options{Indexes: 3})
	for round := range byte(2) {
		for n := range byte(6) {
			account := fmt.Sprintf("user%d", n)
			if err := s.Deliver(t.Context(), account, envelope(round), strings.NewReader(""), 0); err != nil {
				t.Fatal(err)
			}
			if s.open > 3 {
				t.Fatalf("%d indexes are open", s.open)
			}
		}
	}
	for n := range 6 {
		if texts, _ := kept(t, s, fmt.Sprintf("user%d", n)); len(texts) != 2 {
			t.Fatalf("user%d has %d messages", n, len(texts))
		}
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	if _, err := Open(dir, Options{}); err == nil {
		t.Fatal("two stores have one folder")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Messages(t.Context(), keeper); !errors.Is(err, errClosed) {
		t.Fatal(err)
	}
	openStore(t, dir, Options{})
}

func TestNewerIndex(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	deliver(t, s, 1, "")
	if err := s.with(keeper, func(b *inbox) error {
		_, err := b.db.Exec(`PRAGMA user_version = 99`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openStore(t, dir, Options{})
	if _, err := s.Messages(t.Context(), keeper); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Fatalf("an index of a later version is opened: %v", err)
	}
}

func TestHoldAndWatch(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	release, err := s.Hold(keeper)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Hold(keeper); !errors.Is(err, ErrInUse) {
		t.Fatal(err)
	}
	release()
	release()
	if release, err = s.Hold(keeper); err != nil {
		t.Fatal(err)
	}
	defer release()
	changed, stop := s.Watch(keeper)
	deliver(t, s, 1, "")
	deliver(t, s, 2, "")
	select {
	case <-changed:
	default:
		t.Fatal("nobody said that mail came")
	}
	stop()
	deliver(t, s, 3, "")
	select {
	case <-changed:
		t.Fatal("told after stop, or twice of one change")
	default:
	}
}

func BenchmarkDeliver(b *testing.B) {
	s := openStore(b, b.TempDir(), Options{})
	text := "Subject: x\r\n\r\n" + strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef\r\n", 200)
	b.SetParallelism(4)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			env := envelope(0)
			env.ID = message.NewID(time.Now())
			if err := s.Deliver(b.Context(), keeper, env, strings.NewReader(text), int64(len(text))); err != nil {
				b.Error(err)
			}
		}
	})
}
