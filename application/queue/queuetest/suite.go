package queuetest

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"
)

// Opener opens the store that the options describe; where o.Dir is one it gave before, the one with the same mail. The suite closes
// what has a Close, else the opener sees to it.
type Opener func(t testing.TB, o queue.Options) queue.Store

// Run holds a Store to the contract of queue.Store.
func Run(t *testing.T, open Opener) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s *suite)
	}{
		{"accept and deliver", acceptAndDeliver},
		{"bodies of every size", bodies},
		{"what the end of a body shows", lateVerdict},
		{"body reader's error", readerError},
		{"oldest first", oldestFirst},
		{"fencing", fencing},
		{"joined", joined},
		{"deferral and flush", deferral},
		{"failure and notice", failure},
		{"due", due},
		{"pause and resume", pause},
		{"reroute", reroute},
		{"reopen", reopen},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{open: open, now: time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)}
			s.options = queue.Options{Dir: t.TempDir(), Router: s, Notifier: s, Now: s.time}
			s.start(t)
			defer s.stop(t)
			c.run(t, s)
		})
	}
}

// suite is one store and the world around it.
type suite struct {
	open    Opener
	options queue.Options
	queue.Store

	mu      sync.Mutex
	now     time.Time
	moved   bool // the Router names "moved" instead of "test"
	notices int
}

func (s *suite) start(t testing.TB) { s.Store = s.open(t, s.options) }

func (s *suite) stop(t testing.TB) {
	t.Helper()
	if c, ok := s.Store.(io.Closer); ok {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func (s *suite) time() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *suite) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// Lane is queue.Router's.
func (s *suite) Lane(_ *message.Envelope, to *message.Recipient) queue.Lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.moved {
		return queue.Lane("moved/" + to.Address.Domain)
	}
	return ByDomain(to.Address)
}

// Compose is queue.Notifier's: a notice names who failed first.
func (s *suite) Compose(r *queue.Report) (*message.Envelope, io.ReadCloser) {
	first := slices.IndexFunc(r.Outcomes, func(o queue.Outcome) bool { return o.Action == queue.GivenUp })
	if r.Envelope.ReversePath.IsNull() || first < 0 {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notices++
	from, failed := r.Envelope.ReversePath, r.Outcomes[first]
	text := "To: " + from.String() + "\r\n\r\n" + failed.Recipient.Address.String() + " " + failed.Reply.Error() + "\r\n" + string(r.Header)
	return &message.Envelope{Recipients: []message.Recipient{{Address: from}}}, io.NopCloser(strings.NewReader(text))
}

func address(t testing.TB, s string) (a message.Address) {
	t.Helper()
	if s == "" {
		return a
	}
	a, err := message.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (s *suite) accept(t testing.TB, body, from string, to ...string) message.ID {
	t.Helper()
	s.pass(time.Millisecond)
	env := &message.Envelope{ID: message.NewID(s.time()), ReversePath: address(t, from)}
	for _, a := range to {
		env.Recipients = append(env.Recipients, message.Recipient{Address: address(t, a)})
	}
	if err := s.Accept(context.Background(), env, strings.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	return env.ID
}

// lease leases the next message of a lane; nil when there is none.
func (s *suite) lease(t testing.TB, lane queue.Lane) *queue.Lease {
	t.Helper()
	l, err := s.Lease(lane, "suite")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func read(t testing.TB, l *queue.Lease) string {
	t.Helper()
	r, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func settle(t testing.TB, l *queue.Lease, v ...queue.Verdict) {
	t.Helper()
	if err := l.Settle(v); err != nil {
		t.Fatal(err)
	}
}

func (s *suite) waiting(t testing.TB, lane queue.Lane, due, all int) {
	t.Helper()
	if gotDue, gotAll := s.Waiting(lane); gotDue != due || gotAll != all {
		t.Errorf("%s: %d due of %d, want %d of %d", lane, gotDue, gotAll, due, all)
	}
}

func acceptAndDeliver(t *testing.T, s *suite) {
	id := s.accept(t, "Subject: x\r\n\r\nhello\r\n", "a@b.example", "one@x.example", "two@y.example", "three@x.example")
	s.waiting(t, "test/x.example", 2, 2)
	l := s.lease(t, "test/x.example")
	if l == nil || l.Envelope.ID != id || len(l.Envelope.Recipients) != 2 || l.Envelope.Recipients[1].Address.Local != "three" {
		t.Fatalf("leased %+v", l)
	}
	if got := read(t, l); got != "Subject: x\r\n\r\nhello\r\n" || l.Size != int64(len(got)) {
		t.Errorf("body %q, size %d", got, l.Size)
	}
	if !l.Accepted.Equal(s.time()) || len(l.Attempts) != 2 || l.Attempts[0] != 0 {
		t.Errorf("accepted %v, attempts %v", l.Accepted, l.Attempts)
	}
	s.waiting(t, "test/x.example", 0, 2)
	if other := s.lease(t, "test/x.example"); other != nil {
		t.Errorf("leased twice: %+v", other)
	}
	settle(t, l, queue.Verdict{Done: true}, queue.Verdict{Done: true})
	s.waiting(t, "test/x.example", 0, 0)
	s.waiting(t, "test/y.example", 1, 1)
	err := s.Accept(t.Context(), &message.Envelope{}, strings.NewReader("nobody"))
	if r := (smtp.Reply{}); !errors.As(err, &r) || !r.Permanent() {
		t.Errorf("a message for nobody: %v", err)
	}
}

func bodies(t *testing.T, s *suite) {
	for n := 1; n < 2<<20; n = n*3 + 1 {
		body := strings.Repeat("0123456789abcde\n", n/16) + strings.Repeat("z", n%16)
		s.accept(t, body, "", "one@x.example")
		l := s.lease(t, "test/x.example")
		if got := read(t, l); got != body {
			t.Fatalf("a body of %d octets came back with %d", n, len(got))
		}
		if got := read(t, l); got != body {
			t.Fatalf("a body of %d octets came back with %d the second time", n, len(got))
		}
		settle(t, l, queue.Verdict{Done: true})
	}
}

// lateVerdict: what a body's reader says of its message at the end is kept, and the fields stand before the text, over a restart too.
func lateVerdict(t *testing.T, s *suite) {
	const trace = "Authentication-Results: here.example; spf=fail\r\n"
	bodies := []string{"", "small", strings.Repeat("large", 100_000)}
	for _, body := range bodies {
		env := &message.Envelope{Recipients: []message.Recipient{{Address: address(t, "one@x.example")}}}
		if err := s.Accept(t.Context(), env, &verdict{strings.NewReader(body), env, trace}); err != nil {
			t.Fatal(err)
		}
		s.pass(time.Second)
	}
	s.stop(t)
	s.start(t)
	for _, body := range bodies {
		l := s.lease(t, "test/x.example")
		if got := read(t, l); got != trace+body || l.Size != int64(len(got)) || !l.Envelope.Unverified {
			t.Errorf("%d octets of %d with their fields, verified: %v", len(got), l.Size, !l.Envelope.Unverified)
		}
		settle(t, l, queue.Verdict{Done: true})
	}
}

// verdict reads a body that says at its end what was thought of it.
type verdict struct {
	io.Reader
	env   *message.Envelope
	trace string
}

func (v *verdict) Read(b []byte) (int, error) {
	n, err := v.Reader.Read(b)
	if err == io.EOF {
		v.env.Unverified, v.env.Trace = true, []byte(v.trace)
	}
	return n, err
}

func readerError(t *testing.T, s *suite) {
	broken := errors.New("the line broke")
	for _, n := range []int{0, 100, 100_000, 1_000_000} {
		for _, err := range []error{broken, io.ErrUnexpectedEOF} {
			env := &message.Envelope{Recipients: []message.Recipient{{Address: address(t, "one@x.example")}}}
			body := io.MultiReader(strings.NewReader(strings.Repeat("x", n)), iotest.ErrReader(err))
			if got := s.Accept(t.Context(), env, body); got != err { //nolint // as it is, not wrapped
				t.Errorf("after %d octets: %v, want %v", n, got, err)
			}
		}
	}
	s.waiting(t, "test/x.example", 0, 0)
}

func oldestFirst(t *testing.T, s *suite) {
	var ids []message.ID
	for range 20 {
		ids = append(ids, s.accept(t, "x", "", "one@x.example"))
	}
	l := s.lease(t, "test/x.example")
	l.Release() // its old place
	for i, id := range ids {
		if l := s.lease(t, "test/x.example"); l == nil || l.Envelope.ID != id {
			t.Fatalf("lease %d is not the oldest", i)
		}
	}
}

// joined: one session has a message in two lanes, and its sender is told once.
func joined(t *testing.T, s *suite) {
	s.accept(t, "x", "from@home.example", "one@x.example", "two@x.example", "three@y.example")
	x, y := s.lease(t, "test/x.example"), s.lease(t, "test/y.example")
	if l := s.Join(x); l != x {
		t.Error("one lease joined is another")
	}
	l := s.Join(x, y)
	if len(l.Envelope.Recipients) != 3 || l.Envelope.Recipients[2].Address.Local != "three" || len(l.Attempts) != 3 || read(t, l) != "x" {
		t.Errorf("%+v", l.Envelope)
	}
	for _, old := range []*queue.Lease{x, y} {
		old.Release()
		if err := old.Settle(make([]queue.Verdict, len(old.Envelope.Recipients))); !errors.Is(err, queue.ErrFenced) {
			t.Errorf("settled a lease that was joined: %v", err)
		}
	}
	s.waiting(t, "test/x.example", 0, 2)
	refused := queue.Verdict{Failed: true, Reply: smtp.Reply{Code: 550, Text: "nobody"}}
	settle(t, l, refused, queue.Verdict{Retry: s.time().Add(time.Hour)}, refused)
	s.waiting(t, "test/x.example", 0, 1)
	s.waiting(t, "test/y.example", 0, 0)
	if s.mu.Lock(); s.notices != 1 {
		t.Errorf("%d notices", s.notices)
	}
	s.mu.Unlock()
	s.waiting(t, "test/home.example", 1, 1)
}

func fencing(t *testing.T, s *suite) {
	s.accept(t, "x", "", "one@x.example")
	first := s.lease(t, "test/x.example")
	first.Release()
	second := s.lease(t, "test/x.example")
	if second.Fence <= first.Fence {
		t.Errorf("fence %d after %d", second.Fence, first.Fence)
	}
	if err := first.Settle([]queue.Verdict{{Done: true}}); !errors.Is(err, queue.ErrFenced) {
		t.Errorf("settled a lease that ended: %v", err)
	}
	first.Release()
	s.waiting(t, "test/x.example", 0, 1)
	settle(t, second, queue.Verdict{Done: true})
	if err := second.Settle([]queue.Verdict{{Done: true}}); !errors.Is(err, queue.ErrFenced) {
		t.Errorf("settled twice: %v", err)
	}
}

func deferral(t *testing.T, s *suite) {
	s.accept(t, "x", "", "one@x.example", "two@x.example", "three@x.example")
	reply := smtp.Reply{Code: 450, Enhanced: [3]int{4, 2, 1}, Text: "later"}
	settle(
		t, s.lease(t, "test/x.example"), queue.Verdict{Reply: reply, Retry: s.time().Add(time.Hour)},
		queue.Verdict{Reply: reply, Retry: s.time().Add(2 * time.Hour)}, queue.Verdict{Done: true},
	)
	s.waiting(t, "test/x.example", 0, 2)
	s.pass(time.Hour)
	s.waiting(t, "test/x.example", 1, 2)
	l := s.lease(t, "test/x.example")
	if l == nil || len(l.Envelope.Recipients) != 1 || l.Envelope.Recipients[0].Address.Local != "one" || l.Attempts[0] != 1 {
		t.Fatalf("leased %+v", l)
	}
	settle(t, l, queue.Verdict{Reply: reply, Retry: s.time().Add(time.Hour)})
	s.Flush("test/y.example")
	s.waiting(t, "test/x.example", 0, 2)
	s.Flush("test/x.example")
	s.waiting(t, "test/x.example", 2, 2)
	l = s.lease(t, "test/x.example")
	if len(l.Attempts) != 2 || l.Attempts[0] != 2 || l.Attempts[1] != 1 {
		t.Errorf("attempts %v", l.Attempts)
	}
	settle(t, l, queue.Verdict{}, queue.Verdict{Done: true}) // no time: at once
	s.waiting(t, "test/x.example", 1, 1)
}

func failure(t *testing.T, s *suite) {
	id := s.accept(t, "Subject: mine\r\n\r\nhello\r\n", "sender@home.example", "one@x.example", "two@x.example")
	no := queue.Verdict{Failed: true, Reply: smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such mailbox"}, Remote: "mx.x.example"}
	settle(t, s.lease(t, "test/x.example"), no, queue.Verdict{Done: true})
	s.waiting(t, "test/x.example", 0, 0)
	notice := s.lease(t, "test/home.example")
	if notice == nil || notice.Envelope.ID == id {
		t.Fatalf("notice %+v", notice)
	}
	if got := read(t, notice); got != "To: sender@home.example\r\n\r\none@x.example 550 5.1.1 no such mailbox\r\nSubject: mine\r\n" {
		t.Errorf("notice %q", got)
	}
	settle(t, notice, no) // of a notice there is no notice
	s.waiting(t, "test/home.example", 0, 0)
	if s.notices != 1 {
		t.Errorf("%d notices", s.notices)
	}
}

// next waits for the next lane of a channel.
func next(t testing.TB, lanes <-chan queue.Lane) queue.Lane {
	t.Helper()
	select {
	case l := <-lanes:
		return l
	case <-time.After(10 * time.Second):
		t.Fatal("not told of a lane with due mail")
		return ""
	}
}

func due(t *testing.T, s *suite) {
	s.accept(t, "x", "", "one@before.example")
	lanes, stop := s.Due("test")
	other, stopOther := s.Due("other")
	if l := next(t, lanes); l != "test/before.example" {
		t.Errorf("told of %q", l)
	}
	for range 3 {
		s.accept(t, "x", "", "one@x.example")
		for l := next(t, lanes); l != "test/x.example"; l = next(t, lanes) {
		}
		lease := s.lease(t, "test/x.example")
		if s.lease(t, "test/x.example") != nil {
			t.Fatal("two messages of one")
		}
		settle(t, lease, queue.Verdict{Retry: s.time().Add(time.Hour)})
		s.FlushKind("test")
		for l := next(t, lanes); l != "test/x.example"; l = next(t, lanes) {
		}
		settle(t, s.lease(t, "test/x.example"), queue.Verdict{Done: true})
	}
	for range 100 {
		s.accept(t, "x", "", "one@x.example") // nobody listens, nobody is kept waiting
	}
	stop()
	for range lanes { // what was under way; then closed
	}
	stopOther()
	for l := range other {
		t.Errorf("told of %q", l)
	}
}

func pause(t *testing.T, s *suite) {
	s.accept(t, "x", "", "one@x.example")
	settle(t, s.lease(t, "test/x.example"), queue.Verdict{Retry: s.time().Add(time.Hour)})
	s.Pause("test")
	s.accept(t, "x", "", "two@x.example")
	s.pass(48 * time.Hour)
	s.waiting(t, "test/x.example", 0, 2)
	if l := s.lease(t, "test/x.example"); l != nil {
		t.Errorf("leased from a paused lane: %+v", l)
	}
	lanes, stop := s.Due("test")
	defer stop()
	select {
	case l := <-lanes:
		t.Errorf("told of %q, which is paused", l)
	default:
	}
	s.Resume("test")
	if l := next(t, lanes); l != "test/x.example" {
		t.Errorf("told of %q", l)
	}
	s.waiting(t, "test/x.example", 2, 2)
}

func reroute(t *testing.T, s *suite) {
	s.accept(t, "x", "", "one@x.example", "two@y.example", "three@x.example")
	settle(t, s.lease(t, "test/y.example"), queue.Verdict{Retry: s.time().Add(time.Hour)})
	l := s.lease(t, "test/x.example")
	s.mu.Lock()
	s.moved = true
	s.mu.Unlock()
	s.Reroute(nil)
	s.waiting(t, "moved/y.example", 0, 1)
	s.waiting(t, "test/y.example", 0, 0)
	settle(t, l, queue.Verdict{Done: true}, queue.Verdict{}) // the lease holds what it held
	s.waiting(t, "test/x.example", 0, 0)
	s.waiting(t, "moved/x.example", 1, 1)
	s.accept(t, "x", "", "four@x.example")
	s.waiting(t, "moved/x.example", 2, 2)

	// Only what may have changed.
	s.mu.Lock()
	s.moved = false
	s.mu.Unlock()
	s.accept(t, "x", "", "five@z.example") // there already
	s.Reroute(func(l queue.Lane) bool { return l == "moved/y.example" })
	s.waiting(t, "test/y.example", 0, 1)
	s.waiting(t, "test/x.example", 1, 1) // of the same message
	s.waiting(t, "moved/x.example", 1, 1)
	s.Reroute(func(l queue.Lane) bool { return l.Name() == "x.example" })
	s.waiting(t, "test/x.example", 2, 2)
	s.waiting(t, "moved/x.example", 0, 0)
}

func reopen(t *testing.T, s *suite) {
	small := s.accept(t, "small", "sender@home.example", "one@x.example", "two@x.example", "three@y.example")
	large := s.accept(t, strings.Repeat("large", 100_000), "", "one@x.example")
	settle(
		t, s.lease(t, "test/x.example"), queue.Verdict{Done: true},
		queue.Verdict{Reply: smtp.Reply{Code: 450}, Retry: s.time().Add(time.Hour)},
	)
	fence := s.lease(t, "test/y.example").Fence // dies with the store
	s.stop(t)
	s.start(t)
	s.waiting(t, "test/x.example", 1, 2)
	s.pass(time.Hour)
	l := s.lease(t, "test/x.example")
	if l == nil || l.Envelope.ID != small || len(l.Attempts) != 1 || l.Attempts[0] != 1 || l.Envelope.Recipients[0].Address.Local != "two" {
		t.Fatalf("leased %+v", l)
	}
	l = s.lease(t, "test/x.example")
	if l == nil || l.Envelope.ID != large || len(read(t, l)) != 500_000 {
		t.Fatalf("leased %+v", l)
	}
	l = s.lease(t, "test/y.example")
	if l == nil || l.Envelope.ID != small || l.Envelope.ReversePath.Local != "sender" || l.Fence < fence {
		t.Fatalf("leased %+v, fence before %d", l, fence)
	}
}
