package queue_test

import (
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
