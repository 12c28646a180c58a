package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/lib/sim"
	"bothy/lib/wal"
)

// teller is a Notifier whose notices say what they tell, in more than the log holds inline.
type teller struct{}

func (teller) Compose(r *Report) (*message.Envelope, io.ReadCloser) {
	var b strings.Builder
	for _, o := range r.Outcomes {
		fmt.Fprintf(&b, "%v %s\r\n", o.Action, o.Recipient.Address.Local)
	}
	b.WriteString(strings.Repeat("-", 2*testInline))
	return &message.Envelope{Recipients: []message.Recipient{{Address: r.Envelope.ReversePath}}}, io.NopCloser(strings.NewReader(b.String()))
}

// telling is a spool that tells of delay and of success.
type telling struct {
	disk  *sim.Disk
	now   time.Time
	spool *Spool
}

func (w *telling) open() (err error) {
	w.spool, err = Open(context.Background(), Options{
		Config: Config{SegmentSize: wal.MinSegmentSize, InlineBody: testInline, FreeSpace: 1, DelayNotice: time.Hour},
		Dir:    "spool", Router: newWitness(w.disk), Notifier: teller{}, FS: w.disk, Now: func() time.Time { return w.now },
	})
	return err
}

// live has one recipient told of, another delivered, and a third, who stands for several, expanded and then delivered.
func (w *telling) live() error {
	if err := w.open(); err != nil {
		return err
	}
	defer w.spool.Close()
	env := &message.Envelope{
		ReversePath: message.Address{Local: "sender", Domain: "notice.example"},
		Recipients: []message.Recipient{
			{Address: message.Address{Local: "waits", Domain: "a.example"}},
			{Address: message.Address{Local: "comes", Domain: "b.example"}, Notify: message.NotifySuccess},
			{Address: message.Address{Local: "grows", Domain: "c.example"}, Notify: message.NotifySuccess},
		},
	}
	if err := w.spool.Accept(context.Background(), env, strings.NewReader("Subject: x\r\n\r\n")); err != nil {
		return err
	}
	w.now = w.now.Add(2 * time.Hour)
	w.spool.work(context.Background())
	for _, step := range []struct {
		lane    Lane
		verdict Verdict
	}{
		{"kind/b.example", Verdict{Done: true, Action: Relayed}},
		{"kind/c.example", Verdict{Expanded: true}},
		{"kind/c.example", Verdict{Expanded: true}},
		{"kind/c.example", Verdict{Expanded: true, Done: true}},
	} {
		l, err := w.spool.Lease(step.lane, "test")
		if err != nil || l == nil {
			return err
		}
		if err := l.Settle([]Verdict{step.verdict}); err != nil {
			return err
		}
	}
	return nil
}

// waiting counts what is served in a lane, by the first line of its body where it is a notice.
func (w *telling) waiting(t *testing.T, lane Lane) (lines []string) {
	t.Helper()
	for {
		l, err := w.spool.Lease(lane, "check")
		if err != nil {
			t.Fatal(err)
		}
		if l == nil {
			return lines
		}
		text, err := bodyOf(l)
		if err != nil {
			t.Error(err)
		}
		line, _, _ := strings.Cut(text, "\r\n")
		lines = append(lines, line)
	}
}

// grows counts the recipients who stand for several and are not gone, and those of them whose sender is still to be told.
func (w *telling) grows(t *testing.T) (all, untold int) {
	t.Helper()
	for {
		l, err := w.spool.Lease("kind/c.example", "check")
		if err != nil {
			t.Fatal(err)
		}
		if l == nil {
			return all, untold
		}
		all++
		if l.Envelope.Recipients[0].Notify&message.NotifySuccess != 0 {
			untold++
		}
	}
}

// The power fails during every operation of the disk: a delay is told once, success when the recipient is gone, and only then, and that a
// recipient stands for several once, before that.
func TestCrashTold(t *testing.T) {
	start := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	whole := &telling{disk: sim.NewDisk(), now: start}
	if err := whole.live(); err != nil {
		t.Fatal(err)
	}
	both := 0
	for at := 1; at <= whole.disk.Ops()+2; at++ {
		for i, survival := range []sim.Survival{sim.Synced, sim.Cached, sim.Torn, sim.Torn} {
			w := &telling{disk: sim.NewDisk(), now: start}
			w.disk.CrashAt = at
			if err := w.live(); err != nil && !errors.Is(err, sim.ErrPower) && !errors.As(err, new(smtp.Reply)) {
				t.Fatal(err)
			}
			w.disk = w.disk.PowerCut(survival, uint64(at*4+i))
			w.now = start.Add(3 * time.Hour)
			if err := w.open(); err != nil {
				t.Fatal(err)
			}
			w.spool.work(context.Background())
			w.now = start.Add(20 * time.Hour)
			w.spool.work(context.Background())
			waits, comes := len(w.waiting(t, "kind/a.example")), len(w.waiting(t, "kind/b.example"))
			grows, untold := w.grows(t)
			told := map[string]int{}
			for _, line := range w.waiting(t, "kind/notice.example") {
				told[line]++
			}
			if told["delayed waits"] != waits || waits > 1 {
				t.Errorf("%d/%d: %d wait, notices %v", at, i, waits, told)
			}
			if told["relayed comes"] != waits-comes || comes > waits {
				t.Errorf("%d/%d: %d of %d not delivered, notices %v", at, i, comes, waits, told)
			}
			if told["expanded grows"]+untold != waits || grows > waits { // told, or still to be told
				t.Errorf("%d/%d: %d of %d not delivered, %d of them to be told of, notices %v", at, i, grows, waits, untold, told)
			}
			both += told["relayed comes"] + told["expanded grows"]
			if err := w.spool.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if both < 8 {
		t.Errorf("success was told %d times", both)
	}
}
