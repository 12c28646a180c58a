package odmr

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/directory"
	"bothy/lib/sim"
	"bothy/operational/link"
)

// lingering makes the account of an exchange one whose sessions stay.
func (x *exchange) lingering(d time.Duration) {
	x.set(func(c *directory.Customer) { c.Linger = d })
}

// set changes the account, and what it is changed in.
func (x *exchange) set(change func(*directory.Customer)) {
	g, ok := x.provider.Directory.(*guarded)
	if !ok {
		g = &guarded{customers: x.provider.Directory.(customers)}
		x.provider.Directory = g
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.customers["foobar.net"]
	change(&c)
	g.customers["foobar.net"] = c
}

// guarded is a directory that is changed while it is asked.
type guarded struct {
	mu sync.Mutex
	customers
}

func (g *guarded) Customer(ctx context.Context, account string) (directory.Customer, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.customers.Customer(ctx, account)
}

// vanish cuts the last connection, and nobody is told.
func (x *exchange) vanish() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.far.Vanish()
}

// later lets one more message come.
func (x *exchange) later(subject string, to ...string) {
	x.t.Helper()
	x.post(letter{subject, "later\r\n", to})
}

// arrived counts the transfers of a message.
func (x *exchange) arrived(subject string) (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, a := range x.arrivals {
		if strings.HasPrefix(a, subject+" ") {
			n++
		}
	}
	return n
}

// run runs a customer until the function that it returns is called.
func run(c *Customer) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	return func() {
		cancel()
		<-ended
	}
}

// TestLinger: what comes while a session lingers is with the site one exchange later; nine NOOPs keep the session, then it ends and the
// customer calls again at once.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		x.lingering(24 * time.Hour)
		const delay = 300 * time.Millisecond
		for range 100 {
			x.paths = append(x.paths, sim.Path{Delay: delay})
		}
		var calls atomic.Int32
		c := x.customer()
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			calls.Add(1)
			return x.dial(ctx, network, address)
		}
		end := run(c)
		time.Sleep(time.Minute)
		if got := x.provider.own.Status("foobar.net"); got.State != StateLingering || got.Messages != 3 || got.Octets == 0 || got.Peer == "" {
			t.Errorf("%+v", got)
		}
		for i := range 20 {
			subject := fmt.Sprint("push", i)
			start := time.Now()
			x.later(subject, "a@clinic.example")
			for x.arrived(subject) == 0 {
				time.Sleep(time.Millisecond)
			}
			if took := time.Since(start); took > 2*2*delay { // two round trips
				t.Errorf("%s took %v", subject, took)
			}
			time.Sleep(time.Duration(i) * time.Second)
		}
		if calls.Load() != 1 {
			t.Errorf("%d calls", calls.Load())
		}
		x.later("stranger", "a@light.example")
		time.Sleep(60 * time.Minute) // what was put off after ten minutes, and ten intervals
		if calls.Load() != 2 {
			t.Errorf("%d calls, want a second after nine NOOPs", calls.Load())
		}
		if got := x.provider.own.Status("foobar.net"); got.State != StateLingering || got.LastError != "" {
			t.Errorf("%+v", got)
		}
		x.later("last", "b@clinic.example.net", "a@light.example")
		time.Sleep(2 * time.Second)
		if x.arrived("last") != 1 || x.arrived("stranger") != 0 {
			t.Errorf("%+v", x.arrivals)
		}
		end()
		x.serving.Wait()
		if got := x.provider.own.All(); len(got) > 1 || x.provider.own.listening > 0 || x.provider.own.deaf != nil {
			t.Errorf("left behind: %+v", got)
		}
	})
}

// TestLingerEnds: at the end of the account's time, and of the provider.
func TestLingerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		x.lingering(3 * time.Minute)
		start := time.Now()
		served := make(chan error, 1)
		ctx, stop := context.WithCancel(context.Background())
		c := x.customer()
		c.Dial = func(context.Context, string, string) (net.Conn, error) {
			near, far := sim.Pipe(sim.Path{})
			x.near, x.far = near, far
			go func() { served <- x.provider.Serve(ctx, far) }()
			return near, nil
		}
		end := run(c)
		if err := <-served; err != nil || time.Since(start).Round(time.Second) != 3*time.Minute {
			t.Errorf("it ended after %v with %v", time.Since(start), err)
		}
		time.Sleep(time.Minute)
		stop()
		if err := <-served; err != nil {
			t.Errorf("the provider's end: %v", err)
		}
		end()
		x.provider.own.mu.Lock()
		defer x.provider.own.mu.Unlock()
		if len(x.provider.own.seats) != 0 {
			t.Error("a session was left")
		}
	})
}

// TestDeadLingeringSession: NOOP finds out, and so does a newer session.
func TestDeadLingeringSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		x.lingering(24 * time.Hour)
		dead := func() (ended <-chan error, hangUp func()) {
			near, far := sim.Pipe(sim.Path{})
			x.near, x.far = near, far
			served := make(chan error, 1)
			go func() { served <- x.provider.Serve(context.Background(), far) }()
			c := x.customer()
			c.Dial = dialTo(near)
			end := run(c)
			time.Sleep(10 * time.Second)
			near.Vanish()
			return served, end
		}
		served, hangUp := dead()
		start := time.Now()
		if err := <-served; err == nil || time.Since(start) > 4*time.Minute+noopTimeout {
			t.Errorf("a dead customer was noticed after %v: %v", time.Since(start), err)
		}
		hangUp()

		served, hangUp = dead()
		start = time.Now()
		end := run(x.customer())
		if err := <-served; err == nil || time.Since(start) > proof+time.Second {
			t.Errorf("a dead customer was taken over after %v: %v", time.Since(start), err)
		}
		time.Sleep(time.Minute)
		if st := x.provider.own.Status("foobar.net"); st.State != StateLingering {
			t.Errorf("%+v", st)
		}
		hangUp()

		// This one lives: it answers NOOP, and keeps its seat.
		if err := x.call2(); !errors.Is(err, ErrLater) || !strings.Contains(err.Error(), "call again in 60 seconds") {
			t.Errorf("beside a session that is alive: %v", err)
		}
		end()
		x.serving.Wait()
	})
}

// TestFetchBesideLingering: there is nothing to fetch where what comes comes by itself.
func TestFetchBesideLingering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		x.lingering(24 * time.Hour)
		c := x.customer()
		end := run(c)
		synctest.Wait()
		report, err := c.Call(t.Context(), nil) // while the first call goes on
		if err != nil && !errors.Is(err, ErrNoMail) {
			t.Errorf("%+v, %v", report, err)
		}
		if x.arrived("three") != 1 {
			t.Error("it did not wait for what was under way")
		}
		start := time.Now()
		report, err = c.Call(t.Context(), nil)
		if !errors.Is(err, ErrNoMail) || report.Messages != 0 || time.Since(start) > 0 {
			t.Errorf("%+v, %v after %v", report, err, time.Since(start))
		}
		x.vanish() // nobody knows that
		time.Sleep(fresh + time.Second)
		x.later("push", "a@clinic.example")
		synctest.Wait()                                                                 // the old session sends it to nobody
		if report, err = c.Call(t.Context(), nil); err != nil || report.Messages != 2 { // and what was put off
			t.Errorf("%+v, %v", report, err)
		}
		x.later("more", "a@clinic.example")
		time.Sleep(time.Second)
		if x.arrived("more") != 1 {
			t.Error("the new session does not linger")
		}
		time.Sleep(time.Minute)
		if k := c.underWay(); k == nil || k.lingered() < time.Minute {
			t.Error("Run has not kept the new session")
		}
		end()
		x.serving.Wait()
	})
}

// TestFetchWithoutRun: a session that lingers ends with the call that nobody keeps.
func TestFetchWithoutRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		x.lingering(24 * time.Hour)
		start := time.Now()
		var stages []string
		report, err := x.customer().Call(t.Context(), func(p Progress) {
			if n := len(stages); n == 0 || stages[n-1] != p.Stage.String() {
				stages = append(stages, p.Stage.String())
			}
		})
		if err != nil || report.Messages != 3 || time.Since(start) > lull+time.Second {
			t.Errorf("%+v, %v after %v", report, err, time.Since(start))
		}
		if got := strings.Join(stages, ", "); got != "dialing, logging in, asking, receiving, lingering, ended" {
			t.Error(got)
		}
		x.serving.Wait()
		if _, err := x.customer().Call(t.Context(), nil); err != nil { // what was put off
			t.Error(err)
		}
		if _, err := x.customer().Call(t.Context(), nil); !errors.Is(err, ErrNoMail) {
			t.Error(err)
		}
		x.serving.Wait()
		x.duplicates()
	})
}

// TestFetchOverThinLink: a message that takes its time delays the end of a call by no more than it takes.
func TestFetchOverThinLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := emptyExchange(t)
		x.lingering(24 * time.Hour)
		x.later("large", "a@clinic.example")
		x.post(letter{"huge", strings.Repeat(strings.Repeat("x", 62)+"\r\n", 160), []string{"a@clinic.example"}})
		start := time.Now()
		x.paths = []sim.Path{{Rate: 1000}}
		report, err := x.customer().Call(t.Context(), nil)
		if took := time.Since(start); err != nil || report.Messages != 2 || took < 10*time.Second || took > 25*time.Second {
			t.Errorf("%+v, %v after %v", report, err, took)
		}
		x.serving.Wait()
	})
}

// TestFetchBeginsWhatRunKeeps: a call made between two of Run's is kept by it when it lingers.
func TestFetchBeginsWhatRunKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		x.lingering(0)
		var calls atomic.Int32
		c := x.customer()
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			calls.Add(1)
			return x.dial(ctx, network, address)
		}
		end := run(c)
		time.Sleep(time.Minute) // Run has called and waits
		x.lingering(24 * time.Hour)
		report, err := c.Call(t.Context(), nil)
		if err != nil || report.Messages != 1 || calls.Load() != 2 { // what was put off
			t.Errorf("%+v, %v, %d calls", report, err, calls.Load())
		}
		time.Sleep(20 * time.Minute)
		x.later("push", "a@clinic.example")
		time.Sleep(time.Second)
		if x.arrived("push") != 1 || calls.Load() != 2 {
			t.Errorf("%d arrived, %d calls", x.arrived("push"), calls.Load())
		}
		end()
		x.serving.Wait()
	})
}

// TestLinkEndsLingering: a session that lingers ends with its link, and begins with it.
func TestLinkEndsLingering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		x.lingering(24 * time.Hour)
		states := make(fakeLink)
		c := x.customer()
		c.Link = states
		end := run(c)
		states <- link.State{Up: true}
		time.Sleep(time.Minute)
		x.vanish() // the old address is gone
		states <- link.State{Up: false}
		time.Sleep(time.Minute)
		x.later("push", "a@clinic.example")
		synctest.Wait() // the old session sends it to nobody
		states <- link.State{Up: true, Since: time.Now()}
		time.Sleep(proof + time.Second)
		if x.arrived("push") != 1 {
			t.Error("it did not come with the link")
		}
		end()
		x.serving.Wait()
	})
}

// TestNoMailAtOnce: 453 waits for nothing, while 250 takes the time to see that nothing stands behind ATRN.
func TestNoMailAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := emptyExchange(t)
		start := time.Now()
		if err := x.call(sim.Path{}); !errors.Is(err, ErrNoMail) || time.Since(start) != 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		x.later("one", "a@clinic.example")
		if err := x.call(sim.Path{}); err != nil || time.Since(start) == 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestLongPoll: the answer to ATRN comes with the mail, at the end of the account's limit, or when somebody newer asks.
func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		x.finish()
		x.set(func(c *directory.Customer) { c.LongPoll = 4 * time.Minute })
		start := time.Now()
		if err := x.call(sim.Path{}); !errors.Is(err, ErrNoMail) || time.Since(start).Round(time.Second) != 4*time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		start = time.Now()
		time.AfterFunc(3*time.Minute, func() { x.later("push", "a@clinic.example") })
		if err := x.call(sim.Path{}); err != nil || time.Since(start).Round(time.Second) != 3*time.Minute || x.arrived("push") != 1 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		older := make(chan error)
		go func() { older <- x.call2() }()
		time.Sleep(time.Minute)
		newer := make(chan error)
		go func() { newer <- x.call2() }()
		if err := <-older; !errors.Is(err, ErrLater) {
			t.Errorf("the older ended with %v", err)
		}
		if err := <-newer; !errors.Is(err, ErrNoMail) {
			t.Errorf("the newer ended with %v", err)
		}
		x.serving.Wait()
		if n := x.provider.own.listening; n != 0 || x.provider.own.deaf != nil {
			t.Errorf("%d lanes are listened to", n)
		}
	})
}

// TestLongPollEnds: the customer hangs up, speaks, or the provider stops.
func TestLongPollEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(near *sim.End, stop func())
		want string
	}{
		{"hangs up", func(near *sim.End, _ func()) { near.CloseWrite() }, "421"},
		{"speaks", func(near *sim.End, _ func()) { io.WriteString(near, "QUIT\r\n") }, "421 4.5.0"},
		{"stops", func(_ *sim.End, stop func()) { stop() }, "421 4.3.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newExchange(t)
				x.finish()
				x.set(func(c *directory.Customer) { c.LongPoll = 4 * time.Minute })
				near, far := sim.Pipe(sim.Path{})
				ctx, stop := context.WithCancel(context.Background())
				defer stop()
				var served sync.WaitGroup
				served.Go(func() { _ = x.provider.Serve(ctx, far) })
				lines := bufio.NewReader(near)
				say(t, near, lines, "", "220 ")
				say(t, near, lines, "EHLO clinic.example\r\n", "250 ")
				say(t, near, lines, "AUTH EXTERNAL Zm9vYmFyLm5ldA==\r\n", "235 ")
				io.WriteString(near, "ATRN\r\n")
				time.Sleep(time.Minute)
				if st := x.provider.own.Status("foobar.net"); st.State != StateHeld {
					t.Errorf("%+v", st)
				}
				c.end(near, stop)
				say(t, near, lines, "", c.want)
				near.Close()
				served.Wait()
				if st := x.provider.own.Status("foobar.net"); st.State != StateAway {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// say sends a line and reads replies until one begins with what is wanted.
func say(t *testing.T, conn net.Conn, lines *bufio.Reader, line, want string) {
	t.Helper()
	if _, err := io.WriteString(conn, line); err != nil && line != "" {
		t.Fatal(err)
	}
	for {
		reply, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(reply, want) {
			return
		}
		if reply[3] == ' ' {
			t.Fatalf("got %q, want %q", reply, want)
		}
	}
}

// TestTooLarge: what the customer does not take is not sent. Its sender hears, or it waits.
func TestTooLarge(t *testing.T) {
	for _, keep := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			x := emptyExchange(t)
			x.set(func(c *directory.Customer) { c.KeepLarge = keep })
			send(t, x.hold, "a@sender.example", "Subject: large\r\n\r\n"+strings.Repeat("x", 5000), "a@clinic.example")
			send(t, x.hold, "a@sender.example", "Subject: small\r\n\r\nx", "a@clinic.example")
			c := x.customer()
			c.Config.Limits.MessageSize = 4000
			c.Dial = x.dial
			if report, err := c.Call(t.Context(), nil); err != nil || report.Messages != 1 {
				t.Errorf("%+v, %v", report, err)
			}
			x.serving.Wait()
			if x.far.Written() > 2000 {
				t.Errorf("the provider wrote %d octets", x.far.Written())
			}
			_, kept := x.hold.Waiting(lane("clinic.example"))
			_, notices := x.hold.Waiting("mx/sender.example")
			if keep && (kept != 1 || notices != 0) || !keep && (kept != 0 || notices != 1) {
				t.Errorf("keep %v: %d kept, %d notices", keep, kept, notices)
			}
		})
	}
}
