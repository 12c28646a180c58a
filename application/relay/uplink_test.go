package relay

import (
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/smtp"
	"bothy/operational/link"
)

func TestLinkDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		n := at(x)
		uplink, hand := link.New("uplink"), new(link.Manual)
		go uplink.Run(t.Context(), hand)
		g := newRig(t, n, Options{Link: uplink, Resolver: oneExchanger}, plainConfig)
		defer g.stop()
		g.accept("one", "bob@home.example")
		g.accept("two", "bob@far.example")
		pass(6 * 24 * time.Hour) // longer than the queue's lifetime
		if got := n.dials(); got != "" {
			t.Fatalf("dialled %s while down", got)
		}
		hand.Set(true, "plugged in")
		pass(time.Second)
		g.left("smarthost/mail.provider.example:587", 0, 0)
		g.left("mx/far.example", 0, 0)
		x.taken()

		// What was deferred before the link went down is tried at once when it comes up.
		n.mu.Lock()
		n.errs = map[string]error{"192.0.2.1:25": syscall.EHOSTUNREACH}
		n.mu.Unlock()
		pass(time.Minute)
		g.accept("three", "bob@far.example")
		pass(secondLook + time.Second)
		g.left("mx/far.example", 0, 1)
		hand.Set(false, "pulled out")
		pass(time.Second)
		n.mu.Lock()
		n.errs = nil
		n.mu.Unlock()
		hand.Set(true, "plugged in")
		pass(time.Second)
		if got := x.taken(); got != "three bob" {
			t.Errorf("at link up: %q", got)
		}
		if got := g.failures(); got != "" {
			t.Errorf("failed: %s", got)
		}
	})
}

// TestLinkFlapIsNoTry: a dial that the link broke is not counted, and repeated when the link is back.
func TestLinkFlapIsNoTry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := &internet{} // silent
		uplink, hand := link.New("uplink"), new(link.Manual)
		hand.Set(true, "")
		go uplink.Run(t.Context(), hand)
		synctest.Wait()
		g := newRig(t, n, Options{Link: uplink, Resolver: oneExchanger}, plainConfig)
		defer g.stop()
		g.accept("one", "bob@far.example")
		pass(10 * time.Second) // dialling
		hand.Set(false, "pulled out")
		pass(time.Minute)
		g.expect("")
		x := newRemote(nil)
		n.mu.Lock()
		n.servers = at(x).servers
		n.mu.Unlock()
		hand.Set(true, "plugged in")
		pass(time.Second)
		g.expect("far.example bob 250")
	})
}

// TestLinkLostInSession: nor is a message under way that the link took with it; idle sessions are closed.
func TestLinkLostInSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		uplink, hand := link.New("uplink"), new(link.Manual)
		hand.Set(true, "")
		go uplink.Run(t.Context(), hand)
		synctest.Wait()
		var cut atomic.Bool
		x := newRemote(nil)
		x.mail = func(s *smtp.Session) error {
			if cut.Swap(true) {
				return nil
			}
			hand.Set(false, "pulled out")
			time.Sleep(time.Second)
			return s.Conn.Close()
		}
		var open atomic.Int32
		n := at(x)
		n.servers["192.0.2.1:25"] = func(c net.Conn) {
			open.Add(1)
			x.serve(c)
			open.Add(-1)
		}
		g := newRig(t, n, Options{Link: uplink, Resolver: oneExchanger}, plainConfig)
		defer g.stop()
		g.accept("one", "bob@far.example")
		pass(time.Minute)
		g.expect("")
		hand.Set(true, "plugged in")
		pass(time.Second)
		g.expect("far.example bob 250")
		if open.Load() != 1 {
			t.Errorf("%d sessions kept", open.Load())
		}
		hand.Set(false, "pulled out")
		pass(time.Second)
		if open.Load() != 0 {
			t.Errorf("%d sessions kept over a link that is down", open.Load())
		}
	})
}

// TestLanNeedsNoUplink: what goes to a server on this side of the uplink goes whether the link is up or not, and its clock runs.
func TestLanNeedsNoUplink(t *testing.T) {
	bubble(t, func(t *testing.T) {
		uplink, hand := link.New("uplink"), new(link.Manual)
		hand.Set(false, "pulled out")
		go uplink.Run(t.Context(), hand)
		x := newRemote(nil)
		x.during = func() error { time.Sleep(5 * time.Second); return nil }
		g := newRig(t, &internet{servers: map[string]func(net.Conn){"192.168.1.5:25": x.serve}}, Options{Link: uplink}, plainConfig)
		defer g.stop()
		g.accept("one", "bob@lan.example")
		pass(6 * time.Second)
		g.expect("192.168.1.5:25 bob 250")
		g.accept("two", "bob@lan.example")
		pass(2 * time.Second)
		hand.Set(true, "plugged in")
		hand.Set(false, "pulled out") // nor does a flap touch a message under way, or an idle session
		pass(9 * time.Second)
		g.expect("192.168.1.5:25 bob 250")
		g.accept("three", "bob@lan.example")
		pass(6 * time.Second)
		g.expect("192.168.1.5:25 bob 250")
		if got := g.net.dials(); got != "192.168.1.5:25" {
			t.Errorf("dialled %s", got)
		}
	})
}

// TestSecondLook: a stumble of the link that ends before it counts as down does not park mail until the first retry.
func TestSecondLook(t *testing.T) {
	for _, err := range []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH} {
		bubble(t, func(t *testing.T) {
			x := newRemote(nil)
			n := at(x)
			n.errs = map[string]error{"mail.provider.example:587": err}
			g := newRig(t, n, Options{}, plainConfig)
			defer g.stop()
			g.accept("one", "bob@home.example")
			pass(time.Second)
			g.accept("two", "bob@home.example") // does not make it look sooner
			pass(time.Second)
			g.expect("")
			g.left("smarthost/mail.provider.example:587", 2, 2)
			if got := n.dials(); got != "mail.provider.example:587" {
				t.Errorf("dialled %s", got)
			}
			n.mu.Lock()
			n.errs = nil
			n.mu.Unlock()
			pass(secondLook)
			if got := x.taken(); got != "one bob, two bob" {
				t.Errorf("came: %q", got)
			}
		})
	}
}

// TestSecondLookAtProof: the link's source has found it up after what we told it: the second look is due.
func TestSecondLookAtProof(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		n := at(x)
		n.errs = map[string]error{"mail.provider.example:587": syscall.EHOSTUNREACH}
		w := &witness{states: make(chan link.State, 1)}
		w.states <- link.State{Up: true}
		g := newRig(t, n, Options{Link: w}, plainConfig)
		defer g.stop()
		g.accept("one", "bob@home.example")
		pass(time.Second)
		n.mu.Lock()
		n.errs = nil
		n.mu.Unlock()
		w.states <- link.State{Up: true, Why: "probe: it answers"}
		pass(time.Second)
		g.expect("mail.provider.example:587 bob 250")
	})
}

// witness is a Link that says what is put into states and notes what it is told.
type witness struct {
	states chan link.State
	told   []string
}

func (w *witness) Watch() (<-chan link.State, func()) {
	return w.states, func() { close(w.states) }
}

func (w *witness) Evidence(up bool, why string) {
	w.told = append(w.told, map[bool]string{true: "up", false: "down"}[up])
}

func TestEvidence(t *testing.T) {
	for _, test := range []struct {
		name  string
		serve func(net.Conn)
		err   error
		to    string
		want  string
	}{
		{"sent", newRemote(nil).serve, nil, "bob@home.example", "up"},
		{"refused with a reply", script("554 no", "221 bye"), nil, "bob@home.example", "up"},
		{"refused connection", nil, syscall.ECONNREFUSED, "bob@home.example", ""},
		{"no route", nil, syscall.ENETUNREACH, "bob@home.example", "down"},
		{"silent", nil, nil, "bob@far.example", "down"},
		{"sent to a host beside us", newRemote(nil).serve, nil, "bob@lan.example", ""},
		{"a host beside us has no route", nil, syscall.ENETUNREACH, "bob@lan.example", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := &internet{servers: map[string]func(net.Conn){}, errs: map[string]error{}}
				for _, address := range []string{"192.0.2.1:25", "192.168.1.5:25", "mail.provider.example:587"} {
					n.servers[address] = test.serve
					if test.err != nil {
						n.errs[address] = test.err
					}
				}
				w := &witness{states: make(chan link.State, 1)}
				w.states <- link.State{Up: true}
				g := newRig(t, n, Options{Link: w, Resolver: oneExchanger}, plainConfig)
				g.accept("hello", test.to)
				pass(time.Minute)
				g.stop()
				if got := strings.Join(slices.Compact(w.told), " "); got != test.want {
					t.Errorf("told %q, want %q", got, test.want)
				}
			})
		})
	}
}
