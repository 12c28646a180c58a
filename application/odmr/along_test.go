package odmr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/relay"
	"bothy/application/smtp"
	"bothy/lib/sim"
	"bothy/operational/link"
)

const outLane = queue.Lane("smarthost/provider.example:587")

// outward is the mail of an exchange's site that goes along with its calls, and the provider's side of it.
type outward struct {
	*exchange
	queue *queue.Spool // the site's
	relay *relay.Relay

	mu      sync.Mutex
	held    int            // times that somebody holds the lane
	took    map[string]int // by the provider, whole: "subject recipient"
	settled map[string]int // at the site, by a reply that it has read
	subject map[message.ID]string
	order   []string // "out" and "in", as both sides took mail
	begun   func()   // hears of each transaction; may be nil
}

// letters are what goes along. "gone" does not exist, "full" has no room.
var outLetters = []letter{
	{"first", "hello\r\n", []string{"aunt@elsewhere.example", "gone@elsewhere.example", "uncle@far.example"}},
	{"second", "caf\xc3\xa9\r\n.dot\r\n", []string{"aunt@elsewhere.example"}},
	{"third", strings.Repeat("a line of text\r\n", 20), []string{"full@elsewhere.example", "cousin@far.example"}},
}

func newOutward(x *exchange) *outward {
	o := &outward{exchange: x, took: map[string]int{}, settled: map[string]int{}, subject: map[message.ID]string{}}
	o.queue = openSpool(x.t, sim.NewDisk(), func(domain string) queue.Lane {
		if domain == "clinic.example" { // notices
			return siteRouter(domain)
		}
		return outLane
	})
	sent := func(_ queue.Lane, id message.ID, to message.Address, reply smtp.Reply) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if reply.Code/100 == 2 {
			o.settled[o.subject[id]+" "+to.String()]++
		}
	}
	var err error
	if o.relay, err = relay.New(relay.Options{Queue: o.queue, Hostname: "clinic.example", Sent: sent}, relay.Config{}, outLane.Name()); err != nil {
		x.t.Fatal(err)
	}
	x.provider.Intake = &smtp.Server{Accept: acceptor(o.accept), Policy: o}
	return o
}

// post gives the site its letters.
func (o *outward) post() {
	for _, m := range outLetters {
		time.Sleep(time.Millisecond) // the bubble's: it puts them in order
		id := send(o.t, o.queue, "nurse@clinic.example", "Subject: "+m.subject+"\r\n\r\n"+m.body, m.to...)
		o.mu.Lock()
		o.subject[id] = m.subject
		o.mu.Unlock()
	}
}

type acceptor func(context.Context, *message.Envelope, io.Reader) error

func (f acceptor) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	return f(ctx, env, body)
}

// accept is the provider's intake.
func (o *outward) accept(_ context.Context, env *message.Envelope, body io.Reader) error {
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(text), "Subject: ")
	subject, rest, _ := strings.Cut(rest, "\r\n\r\n")
	if i := slices.IndexFunc(outLetters, func(m letter) bool { return m.subject == subject && m.body == rest }); i < 0 {
		o.t.Errorf("the provider took %q", text)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, to := range env.Recipients {
		o.took[subject+" "+to.Address.String()]++
	}
	o.order = append(o.order, "out")
	return nil
}

func (o *outward) Mail(context.Context, *smtp.Session, *message.Envelope) error {
	if o.begun != nil {
		o.begun()
	}
	return nil
}

func (o *outward) Rcpt(_ context.Context, _ *smtp.Session, _ *message.Envelope, to *message.Recipient) error {
	switch to.Address.Local {
	case "gone":
		return smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "who?"}
	case "full":
		return smtp.Reply{Code: 452, Enhanced: [3]int{4, 2, 2}, Text: "no room"}
	}
	return nil
}

func (o *outward) Waits() bool {
	_, all := o.queue.Waiting(outLane)
	return all > 0
}

func (o *outward) Hold() (release func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held++
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.held--
	}
}

func (o *outward) SendAlong(ctx context.Context, client *smtp.Client) (int, error) {
	o.mu.Lock()
	held := o.held
	o.mu.Unlock()
	if held != 1 {
		o.t.Errorf("the lane is held %d times while it is sent, want once", held)
	}
	return o.relay.SendAlong(ctx, client, outLane, "provider.example")
}

// holds is how often the lane is held.
func (o *outward) holds() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.held
}

// sender is the site's customer, whose calls take mail along.
func (o *outward) sender() *Customer {
	c := o.customer()
	c.Outward, c.Config.Send = o, true
	accept := c.Accept
	c.Accept = acceptor(func(ctx context.Context, env *message.Envelope, body io.Reader) error {
		o.mu.Lock()
		o.order = append(o.order, "in")
		o.mu.Unlock()
		return accept.Accept(ctx, env, body)
	})
	return c
}

// finish calls over whole connections until nothing waits on either side but what the provider has no room for.
func (o *outward) finish(c *Customer) {
	for range 6 {
		_, err := c.Call(context.Background(), nil)
		o.serving.Wait()
		if _, all := o.queue.Waiting(outLane); all == 1 && errors.Is(err, ErrNoMail) {
			return
		}
	}
	o.t.Error("something is left after six whole calls")
}

// check fails where mail was lost, or doubled without need.
func (o *outward) check(calls int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range outLetters {
		for _, to := range m.to {
			n := o.took[m.subject+" "+to]
			lost := strings.HasPrefix(to, "gone") || strings.HasPrefix(to, "full")
			if lost != (n == 0) || n > calls {
				o.t.Errorf("%s went to %s %d times in %d calls", m.subject, to, n, calls)
			}
		}
	}
	for what, n := range o.settled {
		if n > 1 {
			o.t.Errorf("%s was settled %d times", what, n)
		}
	}
	if _, notices := o.queue.Waiting("mailbox/clinic.example"); notices != 1 {
		o.t.Errorf("%d notices, want one, for who does not exist", notices)
	}
	if o.held != 0 {
		o.t.Errorf("the lane is held %d times behind everything", o.held)
	}
}

// TestSendAlong: one connection brings the site's mail to the provider and then the provider's to the site, never the other way round; each recipient
// is answered for by itself, and what cannot go now waits for the next call.
func TestSendAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		o := newOutward(x)
		o.post()
		c := o.sender()
		var stages []Stage
		report, err := c.Call(t.Context(), func(p Progress) {
			if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
				stages = append(stages, p.Stage)
			}
		})
		x.serving.Wait()
		if err != nil || report.Sent != 3 || report.Messages != 3 || len(x.ends) != 1 || !slices.Contains(stages, Sending) {
			t.Errorf("%+v, %v over %d connections, by %v", report, err, len(x.ends), stages)
		}
		if !slices.Equal(o.order[:3], []string{"out", "out", "out"}) || slices.Contains(o.order[3:], "out") {
			t.Errorf("mail went %v", o.order)
		}
		if due, all := o.queue.Waiting(outLane); due != 0 || all != 1 {
			t.Errorf("%d due of %d, want none of the one that there was no room for", due, all)
		}
		o.check(1)
		before := len(o.order)
		report, _ = c.Call(t.Context(), nil) // that one is tried again
		x.serving.Wait()
		if due, all := o.queue.Waiting(outLane); due != 0 || all != 1 || report.Sent != 0 || slices.Contains(o.order[before:], "out") {
			t.Errorf("the second call: %d due of %d, %+v, %v", due, all, report, o.order[before:])
		}
		o.check(1)
	})
}

// TestSendAlongUnwanted: nothing is sent where it is not configured, and where the provider takes nothing (RFC 2645 §5.4); what waits is as it was,
// and the call brings mail all the same.
func TestSendAlongUnwanted(t *testing.T) {
	for name, change := range map[string]func(o *outward, c *Customer){
		"off":        func(_ *outward, c *Customer) { c.Config.Send = false },
		"no intake":  func(o *outward, _ *Customer) { o.provider.Intake = nil },
		"no outward": func(_ *outward, c *Customer) { c.Outward = nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			x := newExchange(t)
			o := newOutward(x)
			o.post()
			c := o.sender()
			change(o, c)
			report, err := c.Call(t.Context(), nil)
			x.serving.Wait()
			if due, all := o.queue.Waiting(outLane); err != nil || report.Messages != 3 || report.Sent != 0 || due != 6 || all != 6 || o.holds() != 0 {
				t.Errorf("%s: %+v, %v, %d due of %d", name, report, err, due, all)
			}
		})
	}
}

// TestSendAlongNotImplemented: a provider that says SIZE and then 502 is no reason for a notice.
func TestSendAlongNotImplemented(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		o := newOutward(x)
		o.post()
		x.provider.Intake.Policy = refusing{smtp.Reply{Code: 502, Enhanced: [3]int{5, 5, 1}, Text: "not here"}}
		report, err := o.sender().Call(t.Context(), nil)
		x.serving.Wait()
		if due, all := o.queue.Waiting(outLane); err != nil || report.Messages != 3 || due != 6 || all != 6 {
			t.Errorf("%+v, %v, %d due of %d", report, err, due, all)
		}
	})
}

// refusing refuses every sender.
type refusing struct{ reply smtp.Reply }

func (r refusing) Mail(context.Context, *smtp.Session, *message.Envelope) error { return r.reply }
func (r refusing) Rcpt(context.Context, *smtp.Session, *message.Envelope, *message.Recipient) error {
	return r.reply
}

// TestSendAlongStumbles: after a call that was cut while it sent, the next one only fetches, also where one in between reached nobody.
func TestSendAlongStumbles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		o := newOutward(x)
		o.post()
		c := o.sender()
		cut := true
		o.begun = func() {
			if cut {
				x.ends[0].Close()
			}
		}
		if report, err := c.Call(t.Context(), nil); !errors.Is(err, ErrUnreachable) || report.Sent != 0 {
			t.Errorf("cut: %+v, %v", report, err)
		}
		x.serving.Wait()
		cut, x.down = false, true
		if _, err := c.Call(t.Context(), nil); !errors.Is(err, ErrUnreachable) {
			t.Error(err)
		}
		x.down = false
		if report, err := c.Call(t.Context(), nil); err != nil || report.Sent != 0 || report.Messages != 3 {
			t.Errorf("behind it: %+v, %v", report, err)
		}
		x.serving.Wait()
		if report, _ := c.Call(t.Context(), nil); report.Sent != 3 {
			t.Errorf("behind that: %+v", report)
		}
		x.serving.Wait()
		o.check(2) // the provider may have taken what it had read
	})
}

// TestSendAlongHeld: while the link is down, and until the call that follows has sent it, nobody else begins to send what goes along.
func TestSendAlongHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		x.lingering(time.Hour)
		o := newOutward(x)
		c := o.sender()
		states := make(fakeLink, 1)
		c.Link = states
		expect := func(when string, want int) {
			t.Helper()
			synctest.Wait()
			if got := o.holds(); got != want {
				t.Errorf("%s: held %d times, want %d", when, got, want)
			}
		}
		end := run(c)
		states <- link.State{Since: time.Now()}
		expect("the link is down", 1)
		o.post()
		during := -1
		o.begun = func() { during = o.holds() }
		states <- link.State{Up: true, Since: time.Now()}
		time.Sleep(10 * time.Second)
		expect("the session lingers", 0)
		if during != 1 || len(x.ends) != 1 {
			t.Errorf("held %d times while it sent, over %d connections", during, len(x.ends))
		}
		states <- link.State{Since: time.Now()}
		expect("down again, which ends that session", 1)
		end()
		expect("nobody calls any more", 0)
		o.check(1)
	})
}

// TestSendAlongRemembered: a provider that is remembered is called ahead of its replies when nothing goes along, and in order when something does.
func TestSendAlongRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		o := newOutward(x)
		c := o.sender()
		c.known = &memory{mechanisms: []string{"EXTERNAL"}} // as if; over a connection in clear it is not believed
		o.post()
		if report, err := c.Call(t.Context(), nil); err != nil || report.Sent != 3 || len(x.ends) != 1 {
			t.Errorf("%+v, %v over %d connections", report, err, len(x.ends))
		}
		x.serving.Wait()
	})
}

// TestSendAlongCut cuts calls that send and fetch after each octet of each side in each manner with -every, else after some. Nobody's mail is lost in
// either direction, and what the site has read the reply to does not go twice.
func TestSendAlongCut(t *testing.T) {
	var to map[sim.Side]int64
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		if cutAlong(t, x, sim.Path{}) {
			t.Error("without a cut something went twice")
		}
		to = x.ran
	})
	var doubled atomic.Bool
	t.Cleanup(func() {
		if !t.Failed() && !doubled.Load() { // else the test does not reach what it is about
			t.Error("nothing was ever in doubt")
		}
	})
	for how := sim.Reset; how <= sim.Silent; how++ {
		for side, length := range to {
			t.Run(fmt.Sprintf("%v %v", side, how), func(t *testing.T) {
				t.Parallel()
				step := int64(1)
				if !*every {
					step = max(1, length/(4*some))
				}
				for after := step / 2; after <= length; after += step {
					cut := sim.Cut{Side: side, How: how, After: after}
					synctest.Test(t, func(t *testing.T) {
						if cutAlong(t, newExchange(t), sim.Path{Delay: delay(how), Cut: &cut}) {
							doubled.Store(true)
						}
					})
					if t.Failed() {
						t.Fatalf("%v cut after %d of %d octets (%v)", side, after, length, how)
					}
				}
			})
		}
	}
}

// cutAlong makes a call over a path that may be cut, and whole ones until all is done. doubled says that something went twice, of which the reply was lost.
func cutAlong(t *testing.T, x *exchange, path sim.Path) (doubled bool) {
	o := newOutward(x)
	o.post()
	x.paths = []sim.Path{path}
	c := o.sender()
	_, _ = c.Call(t.Context(), nil) // it may even succeed: a cut behind everything
	x.serving.Wait()
	x.ran = x.written()
	o.mu.Lock()
	known := maps.Clone(o.settled)
	o.mu.Unlock()
	o.finish(c)
	x.finish()
	x.duplicates()
	o.check(2)
	o.mu.Lock()
	defer o.mu.Unlock()
	subjects := map[string]bool{}
	for what, n := range o.took {
		if n > 1 && known[what] > 0 {
			t.Errorf("%s went twice, and it was known to have gone", what)
		}
		if n > 1 {
			subject, _, _ := strings.Cut(what, " ")
			subjects[subject] = true
		}
	}
	if len(subjects) > 1 { // RFC 1047
		t.Errorf("%v went twice: only one is under way at once", subjects)
	}
	return len(subjects) > 0
}
