package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/lib/sim"
	"bothy/lib/wal"
)

// who is one (message, recipient).
type who struct {
	id message.ID
	to string
}

// witness uses a spool as the daemons do and remembers what it was told. After a crash it compares.
type witness struct {
	disk  *sim.Disk
	spool *Spool
	now   time.Time

	bodies   map[message.ID]string // offered to Accept
	offered  map[who]bool
	promised map[who]bool // Accept returned nil
	done     map[who]bool // settled as done or deleted; perhaps only in memory
	certain  map[who]bool // the same, and something later was synced
	failed   map[who]bool // Settle returned nil for a failure
	doubtful map[who]bool // Settle of a failure was called
	notified map[who]int  // notices that were delivered
	held     map[who]bool
	deferred map[who]bool
	waits    map[who]bool // deferred, and something later was synced
	perhaps  map[who]bool // was done when the power failed, and the disk may know it or not
}

func newWitness(d *sim.Disk) *witness {
	return &witness{
		disk: d, now: time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC),
		bodies: map[message.ID]string{}, offered: map[who]bool{}, promised: map[who]bool{}, done: map[who]bool{},
		certain: map[who]bool{}, failed: map[who]bool{}, doubtful: map[who]bool{}, notified: map[who]int{}, held: map[who]bool{},
		deferred: map[who]bool{}, waits: map[who]bool{}, perhaps: map[who]bool{},
	}
}

// Lane is Router's: the domain is the lane.
func (w *witness) Lane(_ *message.Envelope, to *message.Recipient) Lane {
	return Lane("kind/" + to.Address.Domain)
}

// Compose is Notifier's: the notice names the message and who failed.
func (w *witness) Compose(r *Report) (*message.Envelope, io.ReadCloser) {
	if r.Envelope.ReversePath.IsNull() {
		return nil, nil
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%v", r.Envelope.ID)
	for _, o := range r.Outcomes {
		if o.Action == GivenUp {
			fmt.Fprintf(&b, " %s", o.Recipient.Address.Local)
		}
	}
	fmt.Fprintf(&b, "\r\n%s", r.Header)
	return &message.Envelope{Recipients: []message.Recipient{{Address: r.Envelope.ReversePath}}}, io.NopCloser(&b)
}

const testInline = 700

func (w *witness) open() (err error) {
	w.spool, err = Open(context.Background(), Options{
		Config: Config{SegmentSize: wal.MinSegmentSize, InlineBody: testInline, FreeSpace: 1},
		Dir:    "spool", Router: w, Notifier: w, FS: w.disk, Now: func() time.Time { return w.now },
	})
	return err
}

// synced notes that what was done so far is on disk.
func (w *witness) synced() {
	maps.Copy(w.certain, w.done)
	maps.Copy(w.waits, w.deferred)
}

func (w *witness) accept(size int, to ...string) (message.ID, error) {
	w.now = w.now.Add(time.Second)
	env := &message.Envelope{ID: message.NewID(w.now), ReversePath: message.Address{Local: "sender", Domain: "notice.example"}}
	body := fmt.Sprintf("Subject: %d octets\r\n\r\n", size) + strings.Repeat("0123456789abcdef", size/16)
	w.bodies[env.ID] = body
	for _, s := range to {
		local, domain, _ := strings.Cut(s, "@")
		env.Recipients = append(env.Recipients, message.Recipient{Address: message.Address{Local: local, Domain: domain}})
		w.offered[who{env.ID, local}] = true
	}
	if err := w.spool.Accept(context.Background(), env, strings.NewReader(body)); err != nil {
		return env.ID, err
	}
	w.synced()
	for _, r := range env.Recipients {
		w.promised[who{env.ID, r.Address.Local}] = true
	}
	return env.ID, nil
}

// settle leases one message of a lane and gives each recipient the verdict that its name begins with.
func (w *witness) settle(domain string) error {
	w.now = w.now.Add(time.Second)
	l, err := w.spool.Lease(Lane("kind/"+domain), "witness")
	if err != nil || l == nil {
		return err
	}
	var v []Verdict
	var failed []who
	for _, r := range l.Envelope.Recipients {
		k := who{l.Envelope.ID, r.Address.Local}
		switch {
		case strings.HasPrefix(k.to, "fail"):
			v = append(v, Verdict{Failed: true, Reply: smtp.Reply{Code: 550, Text: "no"}})
			w.doubtful[k], failed = true, append(failed, k)
		case strings.HasPrefix(k.to, "later"):
			v = append(v, Verdict{Reply: smtp.Reply{Code: 450, Text: "later"}, Retry: w.now.Add(time.Hour)})
			w.deferred[k] = true
		default:
			v = append(v, Verdict{Done: true})
			w.done[k] = true
			if k.to == "sender" {
				w.notice(l)
			}
		}
	}
	if err := l.Settle(v); err != nil {
		return err
	}
	if len(failed) > 0 {
		w.synced()
		for _, k := range failed {
			w.failed[k] = true
		}
	}
	return nil
}

// notice counts a notice that is delivered.
func (w *witness) notice(l *Lease) {
	for _, k := range noticed(l) {
		w.notified[k]++
	}
}

// noticed reads who failed out of a notice.
func noticed(l *Lease) (all []who) {
	text, err := bodyOf(l)
	if err != nil {
		return nil
	}
	line, _, _ := strings.Cut(text, "\r\n")
	words := strings.Fields(line)
	id, _ := message.ParseID(words[0])
	for _, to := range words[1:] {
		all = append(all, who{id, to})
	}
	return all
}

func bodyOf(l *Lease) (string, error) {
	r, err := l.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

// live is a day in the life of a spool: everything it can do, in little space. It ends at the first error.
func (w *witness) live() error {
	if err := w.open(); err != nil {
		return err
	}
	defer w.spool.Close()
	var small message.ID
	steps := []func() error{
		func() (err error) {
			small, err = w.accept(300, "done1@a.example", "later1@a.example", "fail1@b.example")
			return
		},
		func() error { _, err := w.accept(3000, "done2@a.example", "fail2@b.example"); return err },
		func() error { return w.settle("a.example") },
		func() error { return w.settle("b.example") },
		func() error {
			w.spool.Pause("kind")
			w.now = w.now.Add(24 * time.Hour)
			w.spool.Resume("kind")
			return nil
		},
		func() error { _, err := w.accept(100, "held3@a.example"); return err },
		func() error { return w.hold("held3") },
		func() error { return w.settle("a.example") },
		func() error { return w.settle("a.example") },
		func() error { return w.settle("b.example") },
		func() error { w.spool.work(context.Background()); return w.spool.log.Err() },
		func() error { return w.settle("notice.example") },
		func() error { return w.fill(6) },
		func() error { w.spool.work(context.Background()); return w.spool.log.Err() },
		func() error {
			_, err := w.accept(200, "later4@a.example", "later5@b.example", "done4@b.example")
			return err
		},
		func() error { return w.settle("a.example") },
		func() error { return w.settle("b.example") },
		w.reopen,
		func() error { return w.fill(6) },
		func() error { w.spool.work(context.Background()); return w.spool.log.Err() },
		func() error { _, err := w.accept(400, "fail6@c.example", "done6@c.example"); return err },
		func() error { return w.settle("c.example") },
		func() error { _, err := w.accept(2000, "done7@e.example"); return err },
		func() error { return w.settle("e.example") },
		func() error { w.spool.work(context.Background()); return w.spool.log.Err() },
		func() error { return w.fill(5) },
		func() error { return w.delete(small) },
		func() error { w.spool.work(context.Background()); return w.spool.log.Err() },
		w.reopen,
		func() error { return w.fill(7) },
		func() error { w.spool.work(context.Background()); return w.spool.log.Err() },
		func() error { _, err := w.accept(1500, "last@c.example"); return err },
		func() error { return w.fill(7) },
		func() error { w.spool.work(context.Background()); return w.spool.log.Err() },
		func() error { return w.spool.Close() },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (w *witness) reopen() error {
	if err := w.spool.Close(); err != nil {
		return err
	}
	w.synced()
	return w.open()
}

// fill makes the spool large and then mostly dead.
func (w *witness) fill(n int) error {
	for i := range n {
		if _, err := w.accept(600, fmt.Sprintf("fill%d@d.example", i)); err != nil {
			return err
		}
	}
	for range n - 1 {
		if err := w.settle("d.example"); err != nil {
			return err
		}
	}
	return nil
}

func (w *witness) hold(local string) error {
	n, err := w.spool.Hold(Filter{Recipient: local + "@a.example"})
	if err != nil || n == 0 {
		return err
	}
	w.synced()
	for k := range w.promised {
		if k.to == local {
			w.held[k] = true
		}
	}
	return nil
}

// delete deletes what is left of a message.
func (w *witness) delete(id message.ID) error {
	for k := range w.promised {
		if k.id == id && !w.doubtful[k] {
			w.done[k] = true
		}
	}
	n, err := w.spool.Delete(Filter{IDs: []message.ID{id}})
	if n > 0 && err == nil {
		w.synced()
	}
	return err
}

// check opens the spool on what survived and looks at every message in it.
func (w *witness) check(t *testing.T, disk *sim.Disk) {
	t.Helper()
	w.disk = disk
	w.now = w.now.Add(2 * time.Hour) // deferred recipients are due
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	if names, _ := w.spool.Damaged(); len(names) > 0 {
		t.Errorf("damaged: %v", names)
	}
	if items, _, err := w.spool.List(Filter{}, message.ID{}, 0); err != nil {
		t.Error(err)
	} else {
		for _, item := range items {
			for _, r := range item.Recipients {
				k := who{item.ID, r.Address.Local}
				if r.State == StateDamaged {
					t.Errorf("%v is damaged", k)
				}
				if held := r.State == StateHeld; held && k.to != "held3" || !held && w.held[k] && !w.done[k] {
					t.Errorf("%v: state %v", k, r.State)
				}
				if w.waits[k] != (r.Attempts > 0) && w.waits[k] || r.Attempts > 0 && r.LastReply.Code != 450 {
					t.Errorf("%v: the last try is lost: %+v", k, r)
				}
			}
		}
	}
	if _, err := w.spool.Release(Filter{}); err != nil {
		t.Fatal(err)
	}
	served := map[who]int{}
	notices := maps.Clone(w.notified)
	var leases []*Lease
	for _, lane := range []Lane{"kind/a.example", "kind/b.example", "kind/c.example", "kind/d.example", "kind/e.example", "kind/notice.example"} {
		for {
			l, err := w.spool.Lease(lane, "check")
			if err != nil {
				t.Fatal(err)
			}
			if l == nil {
				break
			}
			leases = append(leases, l)
			text, err := bodyOf(l)
			if err != nil {
				t.Errorf("%v: %v", l.Envelope.ID, err)
			}
			if lane == "kind/notice.example" {
				for _, k := range noticed(l) {
					notices[k]++
				}
				continue
			}
			if text != w.bodies[l.Envelope.ID] {
				t.Errorf("%v: wrong body of %d octets", l.Envelope.ID, len(text))
			}
			for _, r := range l.Envelope.Recipients {
				served[who{l.Envelope.ID, r.Address.Local}]++
			}
		}
	}
	w.compare(t, served, notices)
	w.finish(t, leases)
}

func (w *witness) compare(t *testing.T, served, notices map[who]int) {
	t.Helper()
	for k, n := range served {
		if n != 1 || !w.offered[k] || w.certain[k] || w.failed[k] {
			t.Errorf("%v: served %d times; offered %v, settled for certain %v, failed %v", k, n, w.offered[k], w.certain[k], w.failed[k])
		}
	}
	for k := range w.promised {
		if served[k] == 0 && !w.done[k] && !w.perhaps[k] && !w.doubtful[k] {
			t.Errorf("%v: 250 was said, and it is gone", k)
		}
	}
	for k := range w.offered {
		want := 0
		if w.doubtful[k] && served[k] == 0 {
			want = 1 // it failed, so exactly one notice tells of it
		}
		if k.to == "sender" {
			continue
		}
		if got := notices[k]; got != want && (got == 0 || w.certainNotice(k)) {
			t.Errorf("%v: %d notices, want %d", k, got, want)
		}
	}
}

// certainNotice reports whether the notice about k cannot have come back: a delivered one whose settlement was not yet on disk may.
func (w *witness) certainNotice(k who) bool {
	return w.notified[k] == 0 || len(w.certain) == len(w.done) && len(w.perhaps) == 0
}

// finish settles everything and looks whether anything is left behind, on disk too.
func (w *witness) finish(t *testing.T, leases []*Lease) {
	t.Helper()
	for _, l := range leases {
		v := make([]Verdict, len(l.Envelope.Recipients))
		for i := range v {
			v[i].Done = true
		}
		if err := l.Settle(v); err != nil {
			t.Error(err)
		}
	}
	w.spool.work(context.Background())
	if st := w.spool.Stats(); st.Waiting != 0 || st.Messages != 0 || st.Live != 0 {
		t.Errorf("left over: %+v", st)
	}
	if err := w.spool.Close(); err != nil {
		t.Error(err)
	}
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.spool.Close()
	if st := w.spool.Stats(); st.Waiting != 0 || st.Messages != 0 {
		t.Errorf("came back: %+v", st)
	}
	if names, err := w.disk.List(path.Join("spool", bodyDir)); err != nil || len(names) > 0 {
		t.Errorf("bodies left over: %v, %v", names, err)
	}
}

func TestLive(t *testing.T) {
	w := newWitness(sim.NewDisk())
	if err := w.live(); err != nil {
		t.Fatal(err)
	}
	if oldest := 6; w.spool.log.Segments()[0] < uint32(oldest) {
		t.Errorf("the script compacts too little: %v", w.spool.log.Segments())
	}
	names, err := w.disk.List(path.Join("spool", logDir))
	if err != nil || !slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".heads") }) {
		t.Errorf("no heads of segments: %v, %v", names, err)
	}
	t.Logf("%d operations", w.disk.Ops())
	w.check(t, w.disk.PowerCut(sim.Cached, 0))
}

// The power fails during every operation of the disk.
func TestCrashAnywhere(t *testing.T) {
	whole := newWitness(sim.NewDisk())
	if err := whole.live(); err != nil {
		t.Fatal(err)
	}
	survivals := []sim.Survival{sim.Synced, sim.Cached, sim.Torn, sim.Torn}
	for at := 1; at <= whole.disk.Ops()+5; at++ {
		for i, survival := range survivals {
			t.Run(fmt.Sprintf("%d/%d", at, i), func(t *testing.T) {
				w := newWitness(sim.NewDisk())
				w.disk.CrashAt = at
				if err := w.live(); err != nil && !errors.Is(err, sim.ErrPower) && !errors.As(err, new(smtp.Reply)) && !errors.Is(err, ErrFenced) {
					t.Fatal(err)
				}
				w.check(t, w.disk.PowerCut(survival, uint64(at*4+i)))
			})
		}
	}
}

// Every sync fails once, and the power fails some time later.
func TestFailingSync(t *testing.T) {
	for _, call := range []string{"sync", "syncdir"} {
		for nth := 1; ; nth++ {
			w, fault := newWitness(sim.NewDisk()), &sim.Fault{Call: call, N: nth, Err: syscall.EIO}
			w.disk.Fail = fault.Fail
			err := w.live()
			if !fault.Happened() {
				break
			}
			if err != nil {
				var r smtp.Reply
				if errors.As(err, &r) && r != replyBroken {
					t.Errorf("%s %d: %v", call, nth, err)
				}
				if _, err := w.accept(100, "x@y.example"); err != replyBroken {
					t.Errorf("%s %d: accepted after a failed sync: %v", call, nth, err)
				}
			}
			w.check(t, w.disk.PowerCut(sim.Torn, uint64(nth)))
			if t.Failed() {
				t.Fatalf("%s %d", call, nth)
			}
		}
	}
}
