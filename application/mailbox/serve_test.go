package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"
)

// byDomain is a Router: a lane for each domain.
type byDomain struct{}

func (byDomain) Lane(_ *message.Envelope, to *message.Recipient) queue.Lane {
	return queue.Lane(Kind + "/" + to.Address.Domain)
}

// table is a Resolver.
type table map[string][]string

func (t table) Resolve(a message.Address) []string { return t[a.String()] }

var everybody = table{
	"keeper@clinic.example": {"keeper"},
	"chief@clinic.example":  {"keeper"},
	"all@clinic.example":    {"keeper", "nurse"},
	"nurse@ward.example":    {"nurse"},
}

// notices notes who was refused.
type notices struct {
	mu     sync.Mutex
	failed []queue.Outcome
}

func (n *notices) Compose(r *queue.Report) (*message.Envelope, io.ReadCloser) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range r.Outcomes {
		if o.Action == queue.GivenUp {
			n.failed = append(n.failed, o)
		}
	}
	return nil, nil
}

// bench is a Deliverer between a spool and a store.
type bench struct {
	*Deliverer
	spool   *queue.Spool
	notices notices
	arrived chan string // accounts
}

func newBench(t *testing.T, o Options) *bench {
	t.Helper()
	b := &bench{arrived: make(chan string, 1000)}
	spool, err := queue.Open(t.Context(), queue.Options{
		Dir: t.TempDir(), Router: byDomain{}, Notifier: &b.notices, Config: queue.Config{SegmentSize: 1 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { spool.Close() })
	b.spool = spool
	b.Deliverer = &Deliverer{
		Queue: spool, Store: openStore(t, t.TempDir(), o), Directory: everybody,
		Delivered: func(account string, _ message.ID) { b.arrived <- account },
	}
	return b
}

// run starts the Deliverer; it ends with the test or by stop.
func (b *bench) run(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() { b.spool.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return stop
}

func (b *bench) accept(t *testing.T, text string, to ...string) {
	t.Helper()
	env := &message.Envelope{ID: message.NewID(time.Now())}
	for _, s := range to {
		a, err := message.ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		env.Recipients = append(env.Recipients, message.Recipient{Address: a})
	}
	if err := b.spool.Accept(t.Context(), env, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// settled waits until nothing is due in the lanes any more.
func (b *bench) settled(t *testing.T, lanes ...queue.Lane) {
	t.Helper()
	eventually(t, func() bool {
		return !slices.ContainsFunc(lanes, func(l queue.Lane) bool { _, all := b.spool.Waiting(l); return all > 0 })
	})
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
	}
}

func (b *bench) arrivals() (accounts []string) {
	for len(b.arrived) > 0 {
		accounts = append(accounts, <-b.arrived)
	}
	slices.Sort(accounts)
	return accounts
}

const (
	clinic queue.Lane = "mailbox/clinic.example"
	ward   queue.Lane = "mailbox/ward.example"
)

func TestDeliverer(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept(t, "Subject: before the start\r\n\r\n", "keeper@clinic.example")
	b.run(t)
	b.settled(t, clinic)
	b.accept(t, "Subject: two addresses of one\r\n\r\n", "keeper@clinic.example", "chief@clinic.example")
	b.settled(t, clinic)
	b.accept(t, "Subject: alias\r\n\r\n", "all@clinic.example", "nurse@ward.example", "gone@clinic.example")
	b.settled(t, clinic, ward)
	texts, _ := kept(t, b.Store, "keeper")
	want := []string{
		"Return-Path: <>\r\nDelivered-To: keeper@clinic.example\r\nSubject: before the start\r\n\r\n",
		"Return-Path: <>\r\nDelivered-To: keeper@clinic.example\r\nDelivered-To: chief@clinic.example\r\nSubject: two addresses of one\r\n\r\n",
		"Return-Path: <>\r\nDelivered-To: all@clinic.example\r\nSubject: alias\r\n\r\n",
	}
	if !slices.Equal(texts, want) {
		t.Errorf("%q", texts)
	}
	if texts, _ := kept(t, b.Store, "nurse"); len(texts) != 1 { // by two lanes
		t.Errorf("%q", texts)
	}
	if got := b.arrivals(); !slices.Equal(got, []string{"keeper", "keeper", "keeper", "nurse", "nurse"}) {
		t.Errorf("told of %q", got)
	}
	b.notices.mu.Lock()
	defer b.notices.mu.Unlock()
	if f := b.notices.failed; len(f) != 1 || f[0].Recipient.Address.Local != "gone" || f[0].Reply != errUnknown {
		t.Errorf("%+v", f)
	}
}

// TestExpands: RFC 3461 §5.2.3, §5.2.7.2, §5.2.7.3: mail to an address, or to an alias of one, is told as delivered; to an alias of several as expanded,
// though one of them has to wait.
func TestExpands(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Quota: 600})
	send := func(to string) queue.Verdict {
		a, err := message.ParseAddress(to)
		if err != nil {
			t.Fatal(err)
		}
		env := &message.Envelope{ID: message.NewID(time.Now()), Recipients: []message.Recipient{{Address: a}}}
		text := strings.Repeat("a", 300) + "\r\n"
		return b.attempt(t.Context(), env, []int{0}, int64(len(text)), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil })[0]
	}
	if v := send("chief@clinic.example"); !v.Done || v.Action != queue.Delivered || v.Expanded {
		t.Errorf("one: %+v", v)
	}
	if v := send("all@clinic.example"); v.Done || v.Failed || v.Reply != errFull || !v.Expanded || v.Action != 0 {
		t.Errorf("several, one of them full: %+v", v)
	}
	_, list := kept(t, b.Store, "keeper")
	if err := b.Store.Remove(t.Context(), "keeper", []message.ID{list[0].ID}); err != nil {
		t.Fatal(err)
	}
	_, list = kept(t, b.Store, "nurse")
	if err := b.Store.Remove(t.Context(), "nurse", []message.ID{list[0].ID}); err != nil {
		t.Fatal(err)
	}
	if v := send("all@clinic.example"); !v.Done || !v.Expanded || v.Action != 0 {
		t.Errorf("several: %+v", v)
	}
}

// TestBinary: RFC 3030 §3, RFC 1939 §3: a binary message is kept in lines; one that cannot be is returned. RFC 2852 §4.1.3: so is one
// that is late, if its sender wants that.
func TestBinary(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	signed := "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\na\x00\r\n--b\r\n\r\nx\r\n--b--\r\n"
	for _, c := range []struct {
		text string
		by   time.Duration
		want smtp.Reply
	}{
		{"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: image/png\r\n\r\na\x00\nb", 0, smtp.Reply{}},
		{signed, 0, errBinary},
		{"Subject: x\r\n\r\n", -time.Second, errExpired},
		{"Subject: y\r\n\r\n", time.Hour, smtp.Reply{}},
	} {
		env := &message.Envelope{ID: message.NewID(time.Now()), Body: message.BodyBinary, Recipients: []message.Recipient{{Address: message.Address{Local: "keeper", Domain: "clinic.example"}}}}
		if c.by != 0 {
			env.DeliverBy = message.Deadline{At: time.Now().Add(c.by), Return: true}
		}
		verdicts := b.attempt(t.Context(), env, []int{0}, int64(len(c.text)), func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(c.text)), nil
		})
		if v := verdicts[0]; v.Done != (c.want.Code == 0) || v.Failed == v.Done || v.Reply != c.want {
			t.Errorf("%q: %+v", c.text, v)
		}
	}
	texts, _ := kept(t, b.Store, "keeper")
	if len(texts) != 2 || !strings.Contains(texts[0], "Content-Transfer-Encoding: base64\r\n\r\nYQAKYg==\r\n") {
		t.Errorf("%q", texts)
	}
}

// TestDeliversTwice has a delivery that the queue was not told of, as after a crash: the account keeps one message.
func TestDeliversTwice(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept(t, "Subject: x\r\n\r\n", "keeper@clinic.example")
	lease, err := b.spool.Lease(clinic, "test")
	if err != nil || lease == nil {
		t.Fatal(lease, err)
	}
	if v := b.attempt(t.Context(), &lease.Envelope, lease.Attempts, lease.Size, lease.Open); len(v) != 1 || !v[0].Done {
		t.Fatalf("%+v", v)
	}
	lease.Release()
	b.run(t)
	b.settled(t, clinic)
	if texts, _ := kept(t, b.Store, "keeper"); len(texts) != 1 {
		t.Fatalf("%q", texts)
	}
}

func TestDelivererDefers(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Quota: 600})
	b.run(t)
	b.accept(t, strings.Repeat("a", 300)+"\r\n", "keeper@clinic.example")
	b.settled(t, clinic)
	b.accept(t, strings.Repeat("b", 300)+"\r\n", "keeper@clinic.example", "nurse@ward.example")
	b.settled(t, ward) // who has room gets it
	eventually(t, func() bool { due, all := b.spool.Waiting(clinic); return due == 0 && all == 1 })
	_, list := kept(t, b.Store, "keeper")
	if err := b.Store.Remove(t.Context(), "keeper", []message.ID{list[0].ID}); err != nil {
		t.Fatal(err)
	}
	b.spool.Flush(clinic)
	b.settled(t, clinic)
	if texts, _ := kept(t, b.Store, "keeper"); len(texts) != 1 || !strings.Contains(texts[0], "bbb") {
		t.Fatalf("%q", texts)
	}
}

// TestDelivererIsFair holds that a lane with much mail does not delay another.
func TestDelivererIsFair(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.Deliveries = 1
	for range 20 {
		b.accept(t, "Subject: many\r\n\r\n", "keeper@clinic.example")
	}
	b.accept(t, "Subject: one\r\n\r\n", "nurse@ward.example")
	b.run(t)
	b.settled(t, clinic, ward)
	var before int
	for account := range b.arrived {
		if account == "nurse" {
			break
		}
		before++
	}
	if before > 5 {
		t.Fatalf("%d messages of the long lane came first", before)
	}
}

// TestDelivererStops in the middle of a body: the message stays in the queue, and comes after the next start.
func TestDelivererStops(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	stop := b.run(t)
	b.accept(t, "Subject: x\r\n\r\n", "keeper@clinic.example")
	b.settled(t, clinic)
	stop()
	b.accept(t, "Subject: y\r\n\r\n", "keeper@clinic.example")
	lease, err := b.spool.Lease(clinic, "test")
	if err != nil || lease == nil {
		t.Fatal(lease, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	endless := func() (io.ReadCloser, error) {
		return io.NopCloser(readerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })), nil
	}
	if v := b.attempt(ctx, &lease.Envelope, lease.Attempts, lease.Size, endless); v != nil {
		t.Fatalf("%+v", v)
	}
	lease.Release()
	assertClean(t, b.Store)
	b.run(t)
	b.settled(t, clinic)
	if texts, _ := kept(t, b.Store, "keeper"); len(texts) != 2 {
		t.Fatalf("%q", texts)
	}
}

func TestVerdict(t *testing.T) {
	now := time.Unix(1000, 0)
	broken := errors.New("no reply at all")
	for _, c := range []struct {
		name     string
		outcomes []error
		attempts int
		want     queue.Verdict
	}{
		{"nobody", nil, 0, queue.Verdict{Failed: true, Reply: errUnknown}},
		{"one", []error{nil}, 0, queue.Verdict{Done: true}},
		{"one of two later", []error{nil, errFull}, 0, queue.Verdict{Reply: errFull, Retry: now.Add(30 * time.Second)}},
		{"the other of two", []error{errFull, nil}, 2, queue.Verdict{Reply: errFull, Retry: now.Add(2 * time.Minute)}},
		{"wrapped", []error{fmt.Errorf("%w: %w", errNoSpace, broken)}, 99, queue.Verdict{Reply: errNoSpace, Retry: now.Add(15 * time.Minute)}},
		{"unknown error", []error{broken}, 0, queue.Verdict{Reply: errMailbox, Retry: now.Add(30 * time.Second)}},
		{"for good", []error{errFull, errTooBig}, 0, queue.Verdict{Failed: true, Reply: errTooBig}},
	} {
		if got := verdict(c.outcomes, c.attempts, now); got != c.want {
			t.Errorf("%s: %+v, not %+v", c.name, got, c.want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for attempts, want := range map[int]time.Duration{
		0: 30 * time.Second, 1: 30 * time.Second, 2: time.Minute, 5: 8 * time.Minute, 6: 15 * time.Minute, 1 << 30: 15 * time.Minute,
	} {
		if got := RetryAfter(attempts); got != want {
			t.Errorf("after %d: %v, not %v", attempts, got, want)
		}
	}
}
