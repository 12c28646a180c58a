package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/queue/queuetest"
	"bothy/application/smtp"
)

// reporter is a Notifier whose notice lists the outcomes, and returns the message where it can.
type reporter struct {
	mu      sync.Mutex
	reports []queue.Report
	spoil   bool // the message cannot be read to its end
}

func (c *reporter) Compose(r *queue.Report) (*message.Envelope, io.ReadCloser) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reports = append(c.reports, *r)
	if r.Envelope.ReversePath.IsNull() {
		return nil, nil
	}
	var text strings.Builder
	for _, o := range r.Outcomes {
		fmt.Fprintf(&text, "%v %v\r\n", o.Action, o.Recipient.Address)
	}
	var body io.Reader = strings.NewReader("nothing")
	if r.Open != nil {
		whole, err := r.Open()
		if err != nil {
			return nil, nil
		}
		body = whole
		if c.spoil {
			body = io.MultiReader(io.LimitReader(whole, 3), failing{})
		}
	}
	to := []message.Recipient{{Address: r.Envelope.ReversePath, Notify: message.NotifyNever}}
	return &message.Envelope{Recipients: to}, io.NopCloser(io.MultiReader(strings.NewReader(text.String()), body))
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("torn") }

// notices delivers the notices to home.example and returns them.
func notices(t *testing.T, s *queue.Spool) (texts []string) {
	t.Helper()
	for {
		l, err := s.Lease("test/home.example", "test")
		if err != nil {
			t.Fatal(err)
		}
		if l == nil {
			return texts
		}
		body, err := l.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(body)
		body.Close()
		if err != nil || l.Settle([]queue.Verdict{{Done: true, Action: queue.Delivered}}) != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
}

func lease(t *testing.T, s *queue.Spool, lane queue.Lane) *queue.Lease {
	t.Helper()
	l, err := s.Lease(lane, "test")
	if err != nil || l == nil {
		t.Fatal(l, err)
	}
	return l
}

// TestSuccessTold: RFC 3461 §5.2.8: who asked for it is told of success; one message has one notice of all that became of it at once.
func TestSuccessTold(t *testing.T) {
	text := "Subject: x\r\n\r\nbody\r\n"
	large := text + strings.Repeat("0123456789abcdef\r\n", 1000)
	no := queue.Verdict{Failed: true, Reply: smtp.Reply{Code: 550}}
	relayed := queue.Verdict{Done: true, Action: queue.Relayed}
	grown := func(v queue.Verdict) queue.Verdict { v.Expanded = true; return v }
	for _, c := range []struct {
		name     string
		body     string
		spoil    bool
		notify   []message.Notify
		verdicts []queue.Verdict
		want     string
	}{
		{"not asked", text, false, []message.Notify{0, message.NotifyFailure}, []queue.Verdict{relayed, relayed}, ""},
		{"asked", text, false, []message.Notify{0, message.NotifySuccess}, []queue.Verdict{relayed, relayed}, "relayed b1@d.example\r\n" + text},
		{"asked by a deadline", "BY", false, []message.Notify{0, message.NotifyNever, message.NotifyFailure}, []queue.Verdict{relayed, relayed, relayed}, "relayed b0@d.example\r\nrelayed b2@d.example\r\nBY"}, // RFC 2852 §4.1.4
		{"passed on", text, false, []message.Notify{message.NotifySuccess}, []queue.Verdict{{Done: true}}, ""},
		{
			"mixed", text, false,
			[]message.Notify{0, message.NotifySuccess, message.NotifySuccess},
			[]queue.Verdict{no, {Done: true, Action: queue.Delivered}, {Reply: smtp.Reply{Code: 450}}},
			"failed b0@d.example\r\ndelivered b1@d.example\r\n" + text,
		},
		{"an alias of several", text, false, []message.Notify{0, message.NotifySuccess}, []queue.Verdict{grown(queue.Verdict{Done: true}), grown(queue.Verdict{Done: true})}, "expanded b1@d.example\r\n" + text},
		{"and one of them fails", text, false, []message.Notify{message.NotifySuccess | message.NotifyFailure}, []queue.Verdict{grown(no)}, "failed b0@d.example\r\nexpanded b0@d.example\r\n" + text},
		{"and one of them has to wait", text, false, []message.Notify{message.NotifySuccess}, []queue.Verdict{grown(later)}, "expanded b0@d.example\r\n" + text},
		{"and nobody asked", text, false, []message.Notify{0}, []queue.Verdict{grown(later)}, ""},
		{"large", large, false, []message.Notify{message.NotifySuccess}, []queue.Verdict{relayed}, "relayed b0@d.example\r\n" + large},
		{"not readable", text, true, []message.Notify{message.NotifySuccess}, []queue.Verdict{relayed}, "relayed b0@d.example\r\nnothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := queue.Options{Dir: t.TempDir(), Notifier: &reporter{spoil: c.spoil}, Config: queue.Config{InlineBody: 4 << 10}}
			o.Router, o.Config.SegmentSize, o.Config.FreeSpace = queuetest.Router(queuetest.ByDomain), 256<<10, 1<<20
			s, err := queue.Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			env := envelope(t, "a@home.example")
			for i, n := range c.notify {
				to := message.Address{Local: fmt.Sprintf("b%d", i), Domain: "d.example"}
				env.Recipients = append(env.Recipients, message.Recipient{Address: to, Notify: n})
			}
			if c.body == "BY" {
				env.DeliverBy = message.Deadline{At: time.Now().Add(time.Hour), Trace: true}
			}
			if err := s.Accept(context.Background(), env, strings.NewReader(c.body)); err != nil {
				t.Fatal(err)
			}
			if err := lease(t, s, "test/d.example").Settle(c.verdicts); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = queue.Open(t.Context(), o); err != nil { // the notice is on disk with the outcome
				t.Fatal(err)
			}
			defer s.Close()
			if got := strings.Join(notices(t, s), "|"); got != c.want {
				t.Errorf("notices %q, want %q", got, c.want)
			}
			deferred := 0
			for _, v := range c.verdicts {
				if !v.Done && !v.Failed {
					deferred++
				}
			}
			if st := s.Stats(); st.Waiting != deferred {
				t.Errorf("%d wait, want %d", st.Waiting, deferred)
			}
		})
	}
}

// TestExpandedTold: RFC 3461 §5.2.7.3: that mail went to the several behind an alias is told once, and what goes on asks for no success any more:
// over a restart, over compaction and in an export. Who asked for nothing else hears nothing else.
func TestExpandedTold(t *testing.T) {
	waits(t, func(t *testing.T, s *queue.Spool, restart func() *queue.Spool) {
		env := envelope(t, "a@home.example", "crew@d.example", "ward@d.example")
		env.Recipients[0].Notify = message.NotifySuccess
		env.Recipients[1].Notify = message.NotifySuccess | message.NotifyFailure
		accept(t, s, env)
		again := func(want ...message.Notify) {
			t.Helper()
			s.FlushKind("test")
			l := lease(t, s, "test/d.example")
			for i, to := range l.Envelope.Recipients {
				if to.Notify != want[i] {
					t.Errorf("recipient %d asks for %v, want %v", i, to.Notify, want[i])
				}
			}
			v := later
			v.Expanded, v.Retry = true, time.Now().Add(time.Hour)
			if err := l.Settle([]queue.Verdict{v, v}); err != nil {
				t.Fatal(err)
			}
		}
		again(message.NotifySuccess, message.NotifySuccess|message.NotifyFailure)
		if got := notices(t, s); len(got) != 1 || got[0] != "expanded crew@d.example\r\nexpanded ward@d.example\r\nSubject: x\r\n\r\n" {
			t.Fatalf("told %q", got)
		}
		again(message.NotifyNever, message.NotifyFailure)
		s = restart()
		again(message.NotifyNever, message.NotifyFailure)
		compact(t, s)
		s = restart()
		again(message.NotifyNever, message.NotifyFailure)
		var export bytes.Buffer
		if _, err := s.Export(t.Context(), &export); err != nil {
			t.Fatal(err)
		}
		s.FlushKind("test")
		l := lease(t, s, "test/d.example")
		done := queue.Verdict{Done: true, Action: queue.Delivered}
		if err := l.Settle([]queue.Verdict{done, done}); err != nil {
			t.Fatal(err)
		}
		if got := notices(t, s); len(got) != 0 {
			t.Errorf("told again: %q", got)
		}
		if _, err := s.Import(t.Context(), &export, nil); err != nil {
			t.Fatal(err)
		}
		again(message.NotifyNever, message.NotifyFailure)
	})
}
