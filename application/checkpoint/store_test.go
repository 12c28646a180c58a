package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/lib/sim"
	"bothy/lib/wal"
)

func nothing(message.TransactionKey) (t message.Transaction, id message.ID, ok bool) {
	return t, id, false
}

func open(t testing.TB, fs wal.FS, c Config) *Store {
	t.Helper()
	s, err := Open(Options{Config: c, Dir: "partial", FS: fs, Accepted: nothing})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func key(i int) message.TransactionKey { return message.NewTransactionKey(fmt.Sprint(i)) }

func begin(t testing.TB, s *Store, owner string, i int) *Transaction {
	t.Helper()
	tr, err := s.Begin(context.Background(), owner, fmt.Sprint("<", i, "@test>"), key(i), false, func() {})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

var to = []message.Recipient{
	{Address: message.Address{Local: "a b", Domain: "clinic.example"}, Notify: message.NotifySuccess, Original: "rfc822;a+20b@clinic.example"},
	{Address: message.Address{Local: "caf\u00e9", Domain: "\u00e9.example"}},
}

// textOf is size octets in lines of 100.
func textOf(size int) []byte {
	return bytes.Repeat([]byte(strings.Repeat("x", 98)+"\r\n"), size/100+1)[:size]
}

// put writes a text of size octets and suspends it.
func put(t testing.TB, s *Store, owner string, i, size int) {
	t.Helper()
	tr := begin(t, s, owner, i)
	tr.SetRecipients(to)
	if _, err := tr.Write(textOf(size)); err != nil {
		t.Fatal(err)
	}
	tr.Suspend(to)
}

// TestKept holds that what is kept is there after the program died, up to its last whole line, and that it goes on.
func TestKept(t *testing.T) {
	disk := sim.NewDisk()
	put(t, open(t, disk, Config{}), "keeper", 1, 200_050)
	for range 3 { // each goes on where the one before it stopped
		s := open(t, disk.PowerCut(sim.Synced, 1), Config{})
		disk = s.o.FS.(*sim.Disk)
		tr := begin(t, s, "keeper", 1)
		at := tr.Offset()
		if at%100 != 0 || at < 200_000 || fmt.Sprint(tr.Recipients()) != fmt.Sprint(to) {
			t.Fatalf("%d octets are kept for %v", at, tr.Recipients())
		}
		tr.SetRecipients(to)
		if _, err := tr.Write(textOf(100_020)); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(tr.Text())
		if err != nil || !bytes.Equal(got, textOf(int(at)+100_020)) || tr.Size() != int64(len(got)) {
			t.Fatalf("%d octets are read, %v", len(got), err)
		}
		tr.Suspend(to)
	}
	s := open(t, disk, Config{})
	if tr := begin(t, s, "another", 1); tr.Offset() != 0 {
		t.Error("another has it")
	} else {
		tr.release()
	}
	tr := begin(t, s, "keeper", 1)
	if tr.Offset() != 500_000 {
		t.Errorf("%d octets are kept", tr.Offset())
	}
	tr.Forget()
	if s.Stats() != (Stats{}) || disk.Used() != 0 {
		t.Errorf("%+v, %d octets on the disk", s.Stats(), disk.Used())
	}
}

// TestPowerCut holds that after a power cut at any moment what is offered is what was written, whatever the disk lost.
func TestPowerCut(t *testing.T) {
	text := textOf(300_000)
	for crash := 1; ; crash++ {
		disk := sim.NewDisk()
		s := open(t, disk, Config{})
		n := 0
		disk.SetCrashIf(func(sim.Op) bool { n++; return n == crash })
		tr := begin(t, s, "keeper", 1)
		tr.SetRecipients(to)
		_, _ = tr.Write(text[:150_000])
		tr.Suspend(to)
		tr = begin(t, s, "keeper", 1)
		at := tr.Offset()
		_, _ = tr.Write(text[at:])
		tr.Suspend(to)
		for seed := range uint64(4) {
			for _, survival := range []sim.Survival{sim.Synced, sim.Cached, sim.Torn} {
				after := open(t, disk.Afterwards(survival, seed), Config{})
				tr := begin(t, after, "keeper", 1)
				got, err := io.ReadAll(tr.Text())
				if err != nil || !bytes.HasPrefix(text, got) || int64(len(got)) != tr.Offset() || tr.Offset()%100 != 0 {
					t.Fatalf("crash %d, %v, seed %d: %d octets of %d, %v", crash, survival, seed, len(got), tr.Offset(), err)
				}
				tr.Forget()
			}
		}
		if n < crash {
			return
		}
	}
}

// TestDiskFails holds that when the disk fails or is full the text can still be taken, and nothing is offered that is not there.
func TestDiskFails(t *testing.T) {
	text := textOf(300_000)
	for fail := 1; ; fail++ {
		disk := sim.NewDisk()
		s := open(t, disk, Config{})
		fault := &sim.Fault{N: fail, Err: syscall.ENOSPC}
		disk.SetFail(fault.Fail)
		tr := begin(t, s, "keeper", 1)
		tr.SetRecipients(to)
		n, err := tr.Write(text)
		if err != nil && !errors.Is(err, ErrNoRoom) {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.MultiReader(tr.Text(), bytes.NewReader(text[n:])))
		if err == nil && !bytes.Equal(got, text) {
			t.Fatalf("fault %d: %d octets", fail, len(got))
		}
		tr.Suspend(to)
		disk.SetFail(nil)
		tr = begin(t, s, "keeper", 1)
		if got, err := io.ReadAll(tr.Text()); err != nil || !bytes.HasPrefix(text, got) {
			t.Fatalf("fault %d: %d octets are kept, %v", fail, len(got), err)
		}
		tr.Forget()
		if st := s.Stats(); st != (Stats{}) {
			t.Fatalf("fault %d: %+v is kept", fail, st)
		}
		if !fault.Happened() {
			return
		}
	}
}

// TestBounds holds that an owner's oldest makes way for the owner's next, nobody's for another's, and that what finds no room can be taken
// all the same.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, sim.NewDisk(), Config{Messages: 5, Space: 700_000, Each: 3, EachSize: 500_000})
		for i := range 4 {
			put(t, s, "a", i, 100_000)
			time.Sleep(time.Second)
		}
		offset := func(owner string, i int) int64 {
			tr := begin(t, s, owner, i)
			defer tr.release()
			return tr.Offset()
		}
		if offset("a", 0) != 0 || offset("a", 1) == 0 || offset("a", 3) == 0 {
			t.Error("the oldest of three did not make way")
		}
		put(t, s, "a", 4, 350_000)
		if offset("a", 2) != 0 || offset("a", 3) == 0 || offset("a", 4) == 0 {
			t.Error("the oldest did not make way for a large one")
		}
		put(t, s, "b", 5, 100_000)
		tr := begin(t, s, "b", 6)
		tr.SetRecipients(to)
		text := textOf(400_000)
		n, err := tr.Write(text)
		if !errors.Is(err, ErrNoRoom) {
			t.Errorf("there was room: %v", err)
		}
		if got, err := io.ReadAll(io.MultiReader(tr.Text(), bytes.NewReader(text[n:]))); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%d octets are read, %v", len(got), err)
		}
		tr.Forget()
		if offset("a", 3) == 0 || offset("a", 4) == 0 {
			t.Error("b took a's room")
		}
		put(t, s, "c", 7, 40_000)
		put(t, s, "d", 8, 40_000)
		if tr := begin(t, s, "e", 9); s.Stats().Messages != 5 {
			t.Errorf("%+v", s.Stats())
		} else if _, err := tr.Write(text); !errors.Is(err, ErrNoRoom) {
			t.Error("a sixth is kept")
		} else {
			tr.Forget()
		}
		s.o.Full = func() bool { return true }
		tr = begin(t, s, "d", 10)
		if _, err := tr.Write(text); !errors.Is(err, ErrNoRoom) {
			t.Error("a full disk keeps it")
		}
		tr.Forget()
	})
}

// TestAge: RFC 1845 §3: what is kept is kept for 48 hours, and no longer.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := sim.NewDisk()
		s := open(t, disk, Config{})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		put(t, s, "keeper", 1, 100_000)
		time.Sleep(47 * time.Hour)
		if open(t, disk, Config{}).Stats().Messages != 1 || s.Stats().Messages != 1 {
			t.Error("it is gone")
		}
		time.Sleep(3 * time.Hour)
		if s.Stats() != (Stats{}) || disk.Used() != 0 {
			t.Errorf("%+v, %d octets on the disk", s.Stats(), disk.Used())
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestTakenOver holds that a transaction is one session's at a time, and that a session which does not end keeps it.
func TestTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, sim.NewDisk(), Config{})
		first := make(chan struct{})
		tr, err := s.Begin(t.Context(), "keeper", "<1@test>", key(1), false, closing(first))
		if err != nil {
			t.Fatal(err)
		}
		tr.SetRecipients(to)
		_, _ = tr.Write(textOf(100_000))
		go func() {
			<-first
			time.Sleep(time.Second)
			tr.Suspend(to)
		}()
		second := begin(t, s, "keeper", 1)
		if second.Offset() != 100_000 {
			t.Errorf("%d octets", second.Offset())
		}
		start := time.Now()
		if _, err := s.Begin(t.Context(), "keeper", "<1@test>", key(1), false, func() {}); !errors.Is(err, ErrBusy) || time.Since(start) != takeover {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		second.Forget()
	})
}

// closing closes c once.
func closing(c chan struct{}) func() {
	return func() {
		select {
		case <-c:
		default:
			close(c)
		}
	}
}

// TestParts holds that the latest parts of an owner are told by the names they were begun with, those that a session has are not, and that all is
// known again after the program died.
func TestParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := sim.NewDisk()
		s := open(t, disk, Config{})
		for i := range 3 {
			put(t, s, "keeper", i, 100_050+100*i)
			time.Sleep(time.Second)
		}
		put(t, s, "another", 3, 100_000)
		want := []Part{{"<2@test>", 100_200}, {"<1@test>", 100_100}}
		for range 2 {
			if got := s.Parts("keeper", 2); !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
			s = open(t, disk.PowerCut(sim.Synced, 1), Config{})
			disk = s.o.FS.(*sim.Disk)
		}
		tr := begin(t, s, "keeper", 2)
		if got := s.Parts("keeper", 1); !slices.Equal(got, want[1:]) {
			t.Errorf("while a session has the latest: %v, want %v", got, want[1:])
		}
		tr.Restart()
		if tr.Offset() != 0 || tr.Size() != 0 {
			t.Errorf("%d octets from the beginning", tr.Offset())
		}
		tr.SetRecipients(to)
		if _, err := tr.Write(textOf(70_000)); err != nil {
			t.Fatal(err)
		}
		tr.Suspend(to)
		if got := s.Parts("keeper", 1); !slices.Equal(got, []Part{{"<2@test>", 70_000}}) {
			t.Errorf("begun anew: %v", got)
		}
	})
}

// TestLines holds that a text is kept up to a line's beginning, and one without lines to the octet.
func TestLines(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		binary bool
		want   int64
	}{
		"lines":              {string(textOf(100_000)), false, 100_000},
		"half a line":        {string(textOf(100_099)), false, 100_000},
		"CR":                 {string(textOf(100_000)) + "\r", false, 100_000},
		"a line too long":    {string(textOf(100_000)) + strings.Repeat("y", 300_000), false, 100_000},
		"one that then ends": {string(textOf(100_000)) + strings.Repeat("y", 300_000) + "\r\nz", false, 400_002},
		"no line":            {strings.Repeat("y", 300_000), false, 0},
		"binary":             {strings.Repeat("\n", 100_001), true, 100_001},
		"short":              {string(textOf(32 << 10)), false, 0},
	} {
		s := open(t, sim.NewDisk(), Config{})
		for try := range 2 {
			tr, err := s.Begin(t.Context(), "keeper", "<1@test>", key(1), c.binary, func() {})
			if err != nil {
				t.Fatal(err)
			}
			if try == 1 && tr.Offset() != c.want {
				t.Errorf("%s: %d octets are kept, want %d", name, tr.Offset(), c.want)
			}
			tr.SetRecipients(to)
			if _, err := io.Copy(tr, strings.NewReader(c.text[tr.Offset():])); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(tr.Text()); err != nil || string(got) != c.text {
				t.Errorf("%s: %d octets, %v", name, len(got), err)
			}
			tr.Suspend(to)
		}
	}
}

// FuzzFile holds that a file of any content is read in bounded memory, and that no text is offered whose sum is wrong.
func FuzzFile(f *testing.F) {
	whole := appendPiece(nil, key(1), 0, contextPiece, []byte(`{"owner":"keeper","at":"2026-03-01T12:00:00Z","recipients":[{"Address":"a@b.example"}]}`))
	whole = appendPiece(whole, key(1), 1, textLines, textOf(400))
	whole = appendPiece(whole, key(1), 2, textPart, textOf(600))
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		disk := sim.NewDisk()
		file, err := disk.Create("partial/" + key(1).String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		s := open(t, disk, Config{})
		tr := begin(t, s, "keeper", 1)
		got, err := io.ReadAll(tr.Text())
		if err != nil || int64(len(got)) != tr.Offset() || len(got) > len(b) {
			t.Fatalf("%d octets of %d, %v", len(got), tr.Offset(), err)
		}
		if tr.Offset() > 0 && len(tr.Recipients()) == 0 {
			t.Fatal("nobody's text")
		}
		tr.Suspend(nil)
	})
}
