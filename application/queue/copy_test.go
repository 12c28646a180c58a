package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/queue/queuetest"
	"bothy/application/smtp"
	"bothy/lib/sim"
	"bothy/lib/wal"
)

// various fills a spool with messages in every state, and returns its options.
func various(t *testing.T) (*queue.Spool, queue.Options) {
	t.Helper()
	o := queue.Options{Dir: t.TempDir(), Router: queuetest.Router(queuetest.ByDomain)}
	o.Config = queue.Config{SegmentSize: 64 << 10, FreeSpace: 1 << 20, InlineBody: 4 << 10}
	s := queuetest.OpenWith(t, o)
	for i := range 300 {
		env := envelope(t, "a@home.example", "b@d.example", "c@d.example", fmt.Sprintf("x@e%d.example", i%3))
		env.Priority = int8(i % 5)
		body := strings.Repeat(fmt.Sprintf("line %d\r\n", i), 1+i%50)
		if i%40 == 0 {
			body = strings.Repeat(body, 2000)
		}
		if err := s.Accept(context.Background(), env, strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	busy := queue.Verdict{Reply: smtp.Reply{Code: 450, Text: "busy"}, Remote: "mx.d.example", Retry: time.Now().Add(time.Hour)}
	for range 100 {
		if err := lease(t, s, "test/d.example").Settle([]queue.Verdict{{Done: true}, busy}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Hold(queue.Filter{Lane: "test/e1.example"}); err != nil {
		t.Fatal(err)
	}
	return s, o
}

// contents describes everything that waits, bodies and all.
func contents(t *testing.T, s *queue.Spool) string {
	t.Helper()
	items, more, err := s.List(queue.Filter{}, message.ID{}, 1000)
	if err != nil || more {
		t.Fatal(more, err)
	}
	var b strings.Builder
	for _, i := range items {
		_, header, err := s.Show(i.ID)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%+v %x\n", i, header)
	}
	return b.String()
}

func TestVerify(t *testing.T) {
	s, o := various(t)
	v, err := s.Verify(t.Context(), nil)
	if err != nil || v.Messages != 300 || v.Recipients != 800 || len(v.Damaged)+len(v.SetAside) != 0 {
		t.Fatalf("%+v, %v", v, err)
	}
	bodies, err := filepath.Glob(filepath.Join(o.Dir, "bodies", "*"))
	if err != nil || len(bodies) != 8 {
		t.Fatal(bodies, err)
	}
	b, err := os.ReadFile(bodies[3])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(bodies[3], b, 0o600); err != nil {
		t.Fatal(err)
	}
	v, err = s.Verify(t.Context(), nil)
	if err != nil || v.Messages != 299 || len(v.Damaged) != 1 || v.Damaged[0].String() != filepath.Base(bodies[3]) {
		t.Fatalf("%+v, %v", v, err)
	}
}

func TestExportImport(t *testing.T) {
	s, o := various(t)
	want := contents(t, s)
	var export bytes.Buffer
	if n, err := s.Export(t.Context(), &export); n != 300 || err != nil {
		t.Fatal(n, err)
	}
	o.Dir = filepath.Join(t.TempDir(), "copy")
	to, err := queue.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	// Nothing of an export is lost that is read in pieces, breaks off, and is read again.
	cut := io.MultiReader(bytes.NewReader(export.Bytes()[:export.Len()/2]), iotest.ErrReader(errors.New("unplugged")))
	some, err := to.Import(t.Context(), cut, nil)
	if err == nil || errors.Is(err, queue.ErrCopy) || some == 0 || some == 300 {
		t.Fatalf("half of it: %d, %v", some, err)
	}
	if n, err := to.Import(t.Context(), iotest.HalfReader(bytes.NewReader(export.Bytes())), nil); n != 300-some || err != nil {
		t.Fatalf("the rest: %d, %v", n, err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if to, err = queue.Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if got := contents(t, to); got != want {
		t.Errorf("the copy differs:\n%.2000s\nwant\n%.2000s", got, want)
	}
	if v, err := to.Verify(t.Context(), nil); err != nil || v.Messages != 300 {
		t.Errorf("%+v, %v", v, err)
	}
}

// What is not an export, or not whole, is an error, whatever is wrong with it.
func TestImportDamaged(t *testing.T) {
	s, _ := various(t)
	if _, err := s.Delete(queue.Filter{Lane: "test/d.example"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(queue.Filter{Lane: "test/e2.example"}); err != nil {
		t.Fatal(err)
	}
	var export bytes.Buffer
	if _, err := s.Export(t.Context(), &export); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < export.Len(); at += 1 + export.Len()/40 {
		flipped := bytes.Clone(export.Bytes())
		flipped[at] ^= 0x20
		for name, b := range map[string][]byte{"flipped": flipped, "cut": export.Bytes()[:at]} {
			to := queuetest.Open(t, nil)
			if n, err := to.Import(t.Context(), bytes.NewReader(b), nil); !errors.Is(err, queue.ErrCopy) {
				t.Errorf("%s at %d: %d, %v", name, at, n, err)
			}
		}
	}
}

// No octet of an export may be another, and none be missing at its end; whether a message is new or waits here already.
func TestImportEveryOctet(t *testing.T) {
	open := func() *queue.Spool {
		t.Helper()
		return queuetest.OpenWith(t, queue.Options{FS: sim.NewDisk(), Dir: "spool", Config: queue.Config{SegmentSize: wal.MinSegmentSize, FreeSpace: 1, InlineBody: 100}})
	}
	s := open()
	for _, body := range []string{"Subject: x\r\n\r\nhello\r\n", strings.Repeat("x", 101)} {
		if err := s.Accept(t.Context(), envelope(t, "a@home.example", "b@d.example"), strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	var export bytes.Buffer
	if n, err := s.Export(t.Context(), &export); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	for at := range export.Len() {
		flipped := bytes.Clone(export.Bytes())
		flipped[at] ^= 1
		for name, b := range map[string][]byte{"flipped": flipped, "cut": export.Bytes()[:at]} {
			for what, to := range map[string]*queue.Spool{"new": open(), "known": s} {
				if n, err := to.Import(t.Context(), bytes.NewReader(b), nil); n > 2 || what == "known" && n > 0 || !errors.Is(err, queue.ErrCopy) {
					t.Errorf("%s at %d, %s: %d, %v", name, at, what, n, err)
				}
			}
		}
	}
}

// What is behind an export is not passed over: somebody may have put two together.
func TestImportTwoInOne(t *testing.T) {
	s, _ := various(t)
	var export bytes.Buffer
	if _, err := s.Export(t.Context(), &export); err != nil {
		t.Fatal(err)
	}
	to := queuetest.Open(t, nil)
	if n, err := to.Import(t.Context(), bytes.NewReader(slices.Repeat(export.Bytes(), 2)), nil); n != 300 || !errors.Is(err, queue.ErrCopy) {
		t.Errorf("%d, %v", n, err)
	}
}

// An export leaves out what is damaged, whenever that is found out, and nothing else.
func TestExportDamaged(t *testing.T) {
	s, o := various(t)
	bodies, err := filepath.Glob(filepath.Join(o.Dir, "bodies", "*"))
	if err != nil || len(bodies) != 8 {
		t.Fatal(bodies, err)
	}
	for _, name := range bodies[:2] {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-1] ^= 1
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	logs, err := filepath.Glob(filepath.Join(o.Dir, "log", "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range logs {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if i := bytes.Index(b, []byte("line 299\r\n")); i >= 0 {
			b[i] = '?'
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect := func(what string) {
		t.Helper()
		var export bytes.Buffer
		if n, err := s.Export(t.Context(), &export); n != 297 || err != nil {
			t.Errorf("%s: exported %d, %v", what, n, err)
		}
		if n, err := queuetest.Open(t, nil).Import(t.Context(), &export, nil); n != 297 || err != nil {
			t.Errorf("%s: imported %d, %v", what, n, err)
		}
	}
	if v, err := s.Verify(t.Context(), nil); err != nil || len(v.Damaged) != 3 {
		t.Fatalf("%+v, %v", v, err)
	}
	expect("known")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = queue.Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	expect("not known yet")
}

// shut is a file system whose files cannot be opened for some time, for want of descriptors.
type shut struct {
	wal.FS
	now atomic.Bool
}

func (s *shut) Open(name string) (wal.File, error) {
	if s.now.Load() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
	}
	return s.FS.Open(name)
}

// fullDisk is where nothing can be written.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// What cannot be read for the moment is not damaged: an export without it would be taken for whole.
func TestExportUnreadable(t *testing.T) {
	files := &shut{FS: wal.OS()}
	s := queuetest.OpenWith(t, queue.Options{
		Dir: t.TempDir(), Router: queuetest.Router(queuetest.ByDomain), FS: files, Config: queue.Config{SegmentSize: 64 << 10, FreeSpace: 1 << 20, InlineBody: 4 << 10},
	})
	if err := s.Accept(t.Context(), envelope(t, "a@home.example", "b@d.example"), strings.NewReader(strings.Repeat("x", 10_000))); err != nil {
		t.Fatal(err)
	}
	files.now.Store(true)
	if n, err := s.Export(t.Context(), io.Discard); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("%d, %v", n, err)
	}
	files.now.Store(false)
	for _, s := range []*queue.Spool{s, queuetest.Open(t, nil)} {
		if n, err := s.Export(t.Context(), fullDisk{}); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("to a full disk: %d, %v", n, err)
		}
	}
	if n, err := s.Export(t.Context(), io.Discard); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// dying is a disk that fails when a body is read.
type dying struct {
	*sim.Disk
	kill func() // the log
}

func (d *dying) Open(name string) (wal.File, error) {
	f, err := d.Disk.Open(name)
	if d.kill == nil || !strings.Contains(name, "bodies") {
		return f, err
	}
	d.SetFail(func(op sim.Op) error {
		if op.Call == "sync" {
			return syscall.EIO
		}
		return nil
	})
	d.kill()
	return unread{f}, err
}

type unread struct{ wal.File }

func (unread) ReadAt([]byte, int64) (int, error) { return 0, syscall.EIO }

// What cannot be read because all of the disk fails is not damaged.
func TestExportDyingDisk(t *testing.T) {
	disk := &dying{Disk: sim.NewDisk()}
	o := queue.Options{Dir: "spool", FS: disk, Router: queuetest.Router(queuetest.ByDomain), Config: queue.Config{SegmentSize: 64 << 10, InlineBody: 4 << 10}}
	s := queuetest.OpenWith(t, o)
	if err := s.Accept(t.Context(), envelope(t, "a@home.example", "b@d.example"), strings.NewReader(strings.Repeat("x", 10_000))); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := queue.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	disk.kill = func() {
		if err := s.Accept(t.Context(), envelope(t, "a@home.example", "b@d.example"), strings.NewReader("x")); err == nil {
			t.Error("the log lives")
		}
	}
	if n, err := s.Export(t.Context(), io.Discard); !errors.Is(err, syscall.EIO) {
		t.Errorf("%d, %v", n, err)
	}
}

// A disk that fills up ends an import: what it took is on disk and counted, and the rest comes when it is done again.
func TestImportFullDisk(t *testing.T) {
	s, o := various(t)
	var export bytes.Buffer
	if _, err := s.Export(t.Context(), &export); err != nil {
		t.Fatal(err)
	}
	disk := sim.NewDisk()
	disk.Capacity = 2 << 20
	o.Dir, o.FS = "spool", disk
	to, err := queue.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	some, err := to.Import(t.Context(), bytes.NewReader(export.Bytes()), nil)
	if full := new(smtp.Reply); !errors.As(err, full) || full.Error()[:9] != "452 4.3.1" || some == 0 || some >= 300 {
		t.Fatalf("%d, %v", some, err)
	}
	after := disk.PowerCut(sim.Synced, 1)
	if err := to.Close(); !errors.Is(err, sim.ErrPower) {
		t.Fatal(err)
	}
	after.Capacity = 0
	o.FS = after
	if to, err = queue.Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if st := to.Stats(); st.Messages != some {
		t.Errorf("%d on disk, %d were counted", st.Messages, some)
	}
	if n, err := to.Import(t.Context(), bytes.NewReader(export.Bytes()), nil); n != 300-some || err != nil {
		t.Errorf("the rest: %d, %v", n, err)
	}
	if got, want := contents(t, to), contents(t, s); got != want {
		t.Errorf("the copy differs:\n%.2000s\nwant\n%.2000s", got, want)
	}
}

// A backup is made while mail comes and goes: what waited all the time is in it, what was settled before is not.
func TestBackup(t *testing.T) {
	s, o := various(t)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := s.Accept(context.Background(), envelope(t, "a@home.example", "y@busy.example"), strings.NewReader("x")); err != nil {
				t.Error(err)
				return
			}
			if l, err := s.Lease("test/busy.example", "test"); l == nil || l.Settle([]queue.Verdict{{Done: true}}) != nil {
				t.Error(l, err)
				return
			}
		}
	})
	o.Dir = filepath.Join(t.TempDir(), "backup")
	n, err := s.Backup(t.Context(), o.Dir, nil)
	close(stop)
	wg.Wait()
	if err != nil || n < 300 || n > 310 {
		t.Fatal(n, err)
	}
	if _, err := s.Backup(t.Context(), o.Dir, nil); err == nil {
		t.Error("a backup was written over another")
	}
	to, err := queue.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := to.Delete(queue.Filter{Lane: "test/busy.example"}); err != nil {
		t.Fatal(err)
	}
	if got, want := contents(t, to), contents(t, s); got != want {
		t.Errorf("the backup differs:\n%.2000s\nwant\n%.2000s", got, want)
	}
}
