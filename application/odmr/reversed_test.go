package odmr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/lib/sim"
	"bothy/operational/link"
)

// What a site and a provider are made of has what is asked of it.
var (
	_ Customers  = (*directory.Directory)(nil)
	_ Recipients = (*directory.Directory)(nil)
	_ Link       = (*link.Link)(nil)
)

// TestLargeGoesLast: what did not get through once does not keep back what was not tried yet.
func TestLargeGoesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := emptyExchange(t)
		for _, m := range []struct {
			subject string
			size    int
		}{{"huge", 8000}, {"large", 3000}, {"small", 10}, {"tiny", 1}} {
			time.Sleep(time.Millisecond)
			send(t, x.hold, "a@sender.example", "Subject: "+m.subject+"\r\n\r\n"+strings.Repeat("x", m.size), "a@clinic.example")
		}
		order := func() string {
			var subjects []string
			for _, a := range x.arrivals {
				if subject, _, _ := strings.Cut(a, " "); !slices.Contains(subjects, subject) { // those whose reply was lost come twice
					subjects = append(subjects, subject)
				}
			}
			return strings.Join(subjects, " ")
		}
		cut := func(after int64) sim.Path {
			return sim.Path{Cut: &sim.Cut{Side: sim.Listener, After: after}}
		}
		_ = x.call(cut(4000))
		if got := order(); got != "" {
			t.Errorf("in the first minutes came %q", got)
		}
		_ = x.call(cut(2000))
		_ = x.call(cut(2000))
		if got := order(); got != "small tiny" {
			t.Errorf("in the next minutes came %q, want all but the large ones", got)
		}
		x.finish()
		if got := order(); got != "small tiny large huge" {
			t.Errorf("at last came %q", got)
		}
	})
}

// TestLargeGetsItsTurn: small mail goes before a large message, but each second that this waits counts: though a small one comes every second, and
// that is all the link carries, the large one goes when it has waited a second for each 4 KiB, before all small ones that came later than that.
func TestLargeGetsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := emptyExchange(t)
		const seconds, perSecond, waiting = 40, 16 << 10, 2 * maxAhead
		post := func(subject string, size int) {
			send(t, x.hold, "a@sender.example", "Subject: "+subject+"\r\n\r\n"+strings.Repeat("x", size), "a@clinic.example")
		}
		post("large", smallSize+seconds*agingRate)
		for i := range waiting {
			time.Sleep(time.Millisecond)
			post(fmt.Sprint("old", i), perSecond)
		}
		fed := make(chan struct{})
		go func() {
			defer close(fed)
			for i := range 3 * seconds {
				time.Sleep(time.Second)
				post(fmt.Sprint("new", i), perSecond)
			}
		}()
		if err := x.call(sim.Path{Delay: 10 * time.Millisecond, Rate: perSecond}); err != nil {
			t.Fatal(err)
		}
		<-fed
		at := slices.IndexFunc(x.arrivals, func(what string) bool { return strings.HasPrefix(what, "large ") })
		if at < waiting+seconds-1 || at > waiting+seconds {
			t.Errorf("the large one came after %d others of %d, want those of %d seconds", at, len(x.arrivals), seconds)
		}
		if before := x.arrivals[:max(at, 0)]; slices.ContainsFunc(before, func(what string) bool { return strings.HasPrefix(what, fmt.Sprint("new", seconds)) }) {
			t.Error("one that came later went before it")
		}
	})
}

// TestFits: RFC 6152 §3, RFC 3030 §3: a binary message is encoded for a customer who does not take it, and goes as it is to one who does; so
// do its other wishes, from a provider who is believed.
func TestFits(t *testing.T) {
	for _, offered := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			x := emptyExchange(t)
			env := &message.Envelope{
				ID: message.NewID(time.Now()), ReversePath: address(t, "a@sender.example"), Body: message.BodyBinary, Priority: 7,
				Recipients: []message.Recipient{{Address: address(t, "a@clinic.example")}}, Solicit: "net.example:ADV",
			}
			const text = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: image/png\r\n\r\na\x00\nb"
			if err := x.hold.Accept(t.Context(), env, strings.NewReader(text)); err != nil {
				t.Fatal(err)
			}
			c := x.customer()
			c.Dial = x.dial
			if offered {
				c.Offer = smtp.Offer{BinaryMIME: true, Priority: true, TrustPriority: true, NoSoliciting: true}
			}
			if report, err := c.Call(t.Context(), nil); err != nil || report.Messages != 1 {
				t.Errorf("%+v, %v", report, err)
			}
			x.serving.Wait()
			got, err := x.site.Lease("mailbox/clinic.example", "test")
			if err != nil || got == nil {
				t.Fatal(got, err)
			}
			defer got.Release()
			body, err := got.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			content, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			_, arrived, _ := strings.Cut(string(content), "\r\n\r\n")
			if e := got.Envelope; offered && (arrived != "a\x00\nb" || e.Body != message.BodyBinary || e.Priority != 7) ||
				!offered && (arrived != "YQAKYg==\r\n" || e.Body != message.Body7Bit || e.Priority != 0) {
				t.Errorf("offered %v: %q, %+v", offered, arrived, e)
			}
		})
	}
}

// TestPriority: the higher goes first (RFC 6710 §5), in one lane or several, and once.
func TestPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := emptyExchange(t)
		for i, priority := range []int8{0, -9, 9, 0, 9} {
			time.Sleep(time.Millisecond)
			env := &message.Envelope{ID: message.NewID(time.Now()), ReversePath: address(t, "a@sender.example"), Priority: priority}
			for _, to := range []string{"a@clinic.example", "b@clinic.example.net"} {
				env.Recipients = append(env.Recipients, message.Recipient{Address: address(t, to)})
			}
			if err := x.hold.Accept(t.Context(), env, strings.NewReader(fmt.Sprintf("Subject: %d\r\n\r\n", i))); err != nil {
				t.Fatal(err)
			}
		}
		x.finish()
		var order []string
		for _, a := range x.arrivals {
			order = append(order, a[:1])
		}
		if got := strings.Join(order, " "); got != "2 4 0 3 1" {
			t.Errorf("they came in the order %s", got)
		}
	})
}

// TestDeadSessionIsTakenOver: a customer that fell silent in the middle of a message calls again. What had been leased to the dead session
// is sent in the new one.
func TestDeadSessionIsTakenOver(t *testing.T) {
	for _, configured := range []time.Duration{0, 10 * time.Second, 2 * time.Minute} {
		t.Run(fmt.Sprint(configured), func(t *testing.T) { takeOver(t, configured) })
	}
}

func takeOver(t *testing.T, configured time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		deadAfter := cmp.Or(configured, silence)
		x := newExchange(t)
		x.provider.Config.DeadAfter = configured
		near, far := sim.Pipe(sim.Path{Cut: &sim.Cut{Side: sim.Dialer, After: 300, How: sim.Silent}})
		x.near, x.far = near, far
		served := make(chan error, 1)
		go func() { served <- x.provider.Serve(context.Background(), far) }()
		dead := x.customer()
		dead.Dial = dialTo(near)
		ctx, hangUp := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { _, _ = dead.Call(ctx, nil); close(ended) }()

		time.Sleep(time.Second)
		if st := x.provider.own.Status("foobar.net"); st.State != StateSending {
			t.Fatalf("the first session is %v", st.State)
		}
		start := time.Now()
		if err := x.call2(); err != nil {
			t.Errorf("beside a dead session: %v", err)
		}
		if took := time.Since(start); took < deadAfter-2*time.Second || took > deadAfter+time.Second {
			t.Errorf("the dead session was there for %v, want the %v in which it showed no life", took, deadAfter)
		}
		if err := <-served; err == nil {
			t.Error("the dead session ended well")
		}
		x.serving.Wait()
		if st := x.provider.own.Status("foobar.net"); st.State != StateAway || st.LastError == "" {
			t.Errorf("%+v", st)
		}
		hangUp()
		<-ended
		x.finish()
		if twice := x.duplicates(); len(twice) > 3 { // those whose reply was lost
			t.Errorf("%q came twice", twice)
		}
	})
}

// call2 is call while another session goes on.
func (x *exchange) call2() error {
	_, err := x.customer().Call(context.Background(), nil)
	return err
}

// TestProviderStops: the messages under way are finished, no other is begun, and the customer hears QUIT.
func TestProviderStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		near, far := sim.Pipe(sim.Path{Delay: time.Second})
		ctx, stop := context.WithCancel(context.Background())
		served := make(chan error, 1)
		x.provider.Observe = func(e Event) {
			if e.What == Transferred {
				stop()
			}
		}
		x.near, x.far = near, far
		go func() { served <- x.provider.Serve(ctx, far) }()
		c := x.customer()
		c.Dial = dialTo(near)
		for i := range 2 * window {
			x.later(fmt.Sprint("more", i), "a@clinic.example")
		}
		report, err := c.Call(context.Background(), nil)
		if err != nil || report.Messages == 0 || report.Messages > window+2 {
			t.Errorf("%d messages, %v", report.Messages, err)
		}
		if err := <-served; err != nil {
			t.Errorf("the provider's session ended with %v", err)
		}
		x.provider.Observe = nil
		x.finish()
		if twice := x.duplicates(); twice != nil {
			t.Errorf("%q came twice", twice)
		}
	})
}

// TestDamagedBody: a message that cannot be read is put off, the others pass.
func TestDamagedBody(t *testing.T) {
	s := &source{r: io.MultiReader(strings.NewReader("x"), brokenReader{})}
	if _, err := io.ReadAll(s); !errors.Is(err, errBroken) || !errors.Is(s.err, errBroken) {
		t.Errorf("%v, %v", err, s.err)
	}
	s = &source{r: strings.NewReader("x")}
	if _, err := io.ReadAll(s); err != nil || s.err != nil {
		t.Errorf("%v, %v", err, s.err)
	}
}

var errBroken = errors.New("disk error")

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }
