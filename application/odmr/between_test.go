package odmr

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/route"
	"bothy/lib/sim"
)

// TestBetweenCheckAndSend: the mail that ATRN was granted for is held by an operator, deleted or too old by the time the customer has
// greeted. The session ends in order, and nothing becomes of the mail but that.
func TestBetweenCheckAndSend(t *testing.T) {
	const lifetime = time.Hour
	mine := queue.Filter{Recipient: "@clinic.example"}
	for _, c := range []struct {
		name   string
		happen func(x *exchange)
		left   int // recipients that wait for the customer
		notice int // for the sender
	}{
		{"held", func(x *exchange) { count(x.t, 1)(x.hold.Hold(mine)) }, 1, 0},
		{"deleted", func(x *exchange) { count(x.t, 1)(x.hold.Delete(mine)) }, 0, 0},
		{"expired", func(*exchange) { time.Sleep(20 * time.Second) }, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := emptyExchange(t)
				x.hold.Close()
				x.hold = openSpoolFor(t, x.disk, lifetime)
				x.provider = newCutProvider(x.hold)
				ctx, stop := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { _ = x.hold.Run(ctx) })
				x.later("one", "a@clinic.example", "x@elsewhere.example")
				time.Sleep(lifetime - 10*time.Second)
				x.provider.Observe = func(e Event) {
					if e.What == Turned {
						c.happen(x)
					}
				}
				if err := x.call(sim.Path{}); err != nil {
					t.Error(err)
				}
				if _, n := x.hold.Waiting(lane("clinic.example")); n != c.left || len(x.arrivals) != 0 {
					t.Errorf("%d wait, want %d; arrived: %q", n, c.left, x.arrivals)
				}
				if _, n := x.hold.Waiting("mx/sender.example"); n != c.notice {
					t.Errorf("%d notices, want %d", n, c.notice)
				}
				if st := x.provider.own.Status("foobar.net"); st.LastError != "" {
					t.Errorf("%+v", st)
				}
				stop()
				running.Wait()
			})
		})
	}
}

func count(t *testing.T, want int) func(int, error) {
	return func(n int, err error) {
		if n != want || err != nil {
			t.Errorf("%d recipients, %v; want %d", n, err, want)
		}
	}
}

func openSpoolFor(t *testing.T, disk *sim.Disk, lifetime time.Duration) *queue.Spool {
	t.Helper()
	s, err := queue.Open(context.WithoutCancel(t.Context()), queue.Options{
		Dir: "/spool", FS: disk, Router: routerFunc(providerRouter), Notifier: notices{},
		Config: queue.Config{SegmentSize: 16 << 10, FreeSpace: 1, Lifetime: lifetime},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// villages is a route.Directory with two held domains.
type villages struct{}

func (villages) Local(domain string) bool { return domain == "provider.example" }

func (villages) Held(domain string) (account string, ok bool) {
	return "foobar.net", domain == "clinic.example" || domain == "xn--bcher-kva.example"
}

func (villages) Resolve(message.Address) []string { return nil }

// TestLookAlikes: domains that look like the customer's are not the customer's, and what is written in another way is: case, A-labels.
func TestLookAlikes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		router, err := route.New("provider.example", villages{}, route.Config{})
		if err != nil {
			t.Fatal(err)
		}
		x := emptyExchange(t)
		x.hold.Close()
		x.hold = openSpool(t, x.disk, func(domain string) queue.Lane {
			return router.Lane(nil, &message.Recipient{Address: message.Address{Local: "x", Domain: domain}})
		})
		x.provider = newCutProvider(x.hold)
		x.set(func(c *directory.Customer) { c.Domains = []string{"clinic.example", "xn--bcher-kva.example"} })
		ours := []string{"a@clinic.example", "b@Clinic.EXAMPLE", "c@xn--bcher-kva.example", "d@b\u00fccher.example"}
		others := []string{
			"e@xclinic.example", "f@clinic.example.evil.example", "g@ward.clinic.example", "h@clinic.example.net", "i@clinic.exampl",
			"j@b\u00fccher.example.evil.example", "k@xn--bcher-kva.example.evil.example", "l@clinic-example.example", "m@example",
		}
		for i, to := range slices.Concat(ours, others) {
			time.Sleep(time.Millisecond)
			env := &message.Envelope{ID: message.NewID(time.Now()), ReversePath: address(t, "a@sender.example"), UTF8: true}
			env.Recipients = []message.Recipient{{Address: address(t, to)}}
			if i%2 == 0 { // mixed with another's
				env.Recipients = append(env.Recipients, message.Recipient{Address: address(t, others[i%len(others)])})
			}
			if err := x.hold.Accept(t.Context(), env, strings.NewReader(fmt.Sprintf("Subject: %d\r\n\r\n", i))); err != nil {
				t.Fatal(err)
			}
		}
		c := x.customer()
		c.Recipients = nil
		c.Config.Domains = []string{"CLINIC.example", "XN--bcher-kva.Example"}
		if _, err := c.Call(t.Context(), nil); err != nil {
			t.Error(err)
		}
		x.serving.Wait()
		want := []string{"0 to a@clinic.example", "1 to b@clinic.example", "2 to c@xn--bcher-kva.example", "3 to d@b\u00fccher.example"}
		if !slices.Equal(x.arrivals, want) {
			t.Errorf("%q", x.arrivals)
		}
		left := 0
		for _, l := range x.hold.Lanes() {
			if left += l.Waiting; strings.HasPrefix(string(l.Lane), "odmr/") {
				t.Errorf("%+v is left", l)
			}
		}
		if want := len(others) + (len(ours)+len(others)+1)/2; left != want {
			t.Errorf("%d recipients of others are left, want %d", left, want)
		}
	})
}

// TestMixedAnywhere: a message that is for others too, first, in the middle, last or everywhere in a run: the customer has his part of it, and
// the others' parts wait for them as if nobody had called.
func TestMixedAnywhere(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10} {
		for place := range n {
			synctest.Test(t, func(t *testing.T) {
				x := emptyExchange(t)
				for i, m := range mixed(n) {
					if i != place {
						m.to = []string{"a@clinic.example", "b@clinic.example.net"}
					}
					time.Sleep(time.Millisecond)
					x.post(m)
				}
				if err := x.call(sim.Path{}); err != nil {
					t.Error(err)
				}
				if twice := x.duplicates(); twice != nil || len(x.arrivals) != n {
					t.Errorf("mixed is number %d of %d: %q came, %q twice", place+1, n, x.arrivals, twice)
				}
			})
		}
	}
}

// TestOneNotice: a message refused for recipients in two domains of a customer, two lanes of the queue, makes one notice that names them
// all; what the site takes of it stays out of that.
func TestOneNotice(t *testing.T) {
	for _, c := range []struct{ to, failed string }{
		{"gone@clinic.example gone@clinic.example.net", "gone@clinic.example gone@clinic.example.net"},
		{"a@clinic.example gone@clinic.example b@clinic.example.net lost@clinic.example.net", "gone@clinic.example lost@clinic.example.net"},
		{"gone@clinic.example b@clinic.example.net", "gone@clinic.example"},
	} {
		synctest.Test(t, func(t *testing.T) {
			x := emptyExchange(t)
			x.later("one", strings.Fields(c.to)...)
			if err := x.call(sim.Path{}); err != nil {
				t.Error(err)
			}
			l, err := x.hold.Lease("mx/sender.example", "test")
			if err != nil || l == nil {
				t.Fatalf("%s: no notice, %v", c.to, err)
			}
			body, err := l.Open()
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(body)
			body.Close()
			var named []string
			for _, line := range strings.Split(string(text), "\r\n")[2:] {
				if to, _, ok := strings.Cut(line, ": "); ok {
					named = append(named, to)
				}
			}
			slices.Sort(named)
			if got := strings.Join(named, " "); got != c.failed {
				t.Errorf("%s: the notice names %q, want %q", c.to, got, c.failed)
			}
			if _, n := x.hold.Waiting("mx/sender.example"); n != 1 || x.hold.Stats().Waiting != 1 {
				t.Errorf("%s: %d notices, %d wait in all", c.to, n, x.hold.Stats().Waiting)
			}
		})
	}
}
