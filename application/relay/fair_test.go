package relay

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"
)

// turnstile lets some connections through and answers 421 to the rest.
type turnstile struct {
	x           *remote
	room        int
	mu          sync.Mutex
	open, turns int
	most        int
}

func (s *turnstile) serve(c net.Conn) {
	s.mu.Lock()
	if s.open == s.room {
		s.turns++
		s.mu.Unlock()
		script("421 4.7.0 too many connections")(c)
		return
	}
	s.open++
	s.most = max(s.most, s.open)
	s.mu.Unlock()
	s.x.serve(c)
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
}

// TestServerBearsTwo: one connection too many costs that connection, not the mail of the lane.
func TestServerBearsTwo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		x.during = func() error { time.Sleep(time.Second); return nil }
		s := &turnstile{x: x, room: 2}
		n := &internet{servers: map[string]func(net.Conn){"192.0.2.1:25": s.serve}}
		g := newRig(t, n, Options{Resolver: oneExchanger}, Config{MXConnections: 20})
		defer g.stop()
		for range 200 {
			g.accept("hello", "bob@far.example")
		}
		pass(time.Minute)
		s.mu.Lock()
		if s.most != 2 || s.turns == 0 || s.turns > 5 {
			t.Errorf("%d connections at most, %d turned away", s.most, s.turns)
		}
		s.mu.Unlock()
		pass(time.Minute) // 200 messages of a second each, nearly always two at once
		g.left("mx/far.example", 0, 0)
		if got := strings.Count(x.taken(), "bob"); got != 200 {
			t.Errorf("%d came", got)
		}
	})
}

// TestBacklogHoldsUpNobody: a real spool with tens of thousands of recipients for other lanes, more lanes than connections; a message for
// a lane of its own is out within a turn and the message that somebody is in, and the backlog loses nothing by it.
func TestBacklogHoldsUpNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const lanes, messages, recipients = 20, 25, 50
		x := newRemote(nil)
		x.during = func() error { time.Sleep(time.Second); return nil }
		resolver := Static{Exchangers: map[string][]MX{"lone.example": {{10, "a.far.example"}}}, Addresses: map[string][]netip.Addr{"a.far.example": addrs("192.0.2.1")}}
		g := newRig(t, at(x), Options{Resolver: resolver}, Config{Connections: 10})
		defer g.stop()
		var mass []*message.Envelope
		for i := range lanes {
			domain := fmt.Sprintf("mass%d.example", i)
			resolver.Exchangers[domain] = []MX{{10, "a.far.example"}}
			for range messages {
				env := &message.Envelope{ID: message.NewID(time.Now())}
				for n := range recipients {
					env.Recipients = append(env.Recipients, message.Recipient{Address: message.Address{Local: fmt.Sprint("u", n), Domain: domain}})
				}
				mass = append(mass, env)
			}
		}
		var wg sync.WaitGroup
		for _, env := range mass { // who accept together share a sync
			wg.Go(func() {
				if err := g.queue.Accept(t.Context(), env, strings.NewReader("Subject: x\r\n\r\nmass\r\n")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		pass(5 * time.Second)
		x.taken()
		for range 3 {
			start := time.Now()
			g.accept("lone", "bob@lone.example")
			for time.Since(start) < time.Minute && !strings.Contains(x.taken(), "lone bob") {
				time.Sleep(100 * time.Millisecond)
			}
			// Ten other lanes stand in line before it: each connection ends a turn for one of those, and then a turn of theirs.
			if took := time.Since(start); took > 2*(turn+2*time.Second) {
				t.Errorf("the lone message took %v", took)
			}
		}
		pass(10 * time.Minute)
		for i := range lanes {
			g.left(queue.Lane(fmt.Sprintf("mx/mass%d.example", i)), 0, 0)
		}
		if got := g.failures(); got != "" {
			t.Errorf("failed: %.100s", got)
		}
	})
}

// TestReserve: one lane with much mail does not take all connections, so another lane's first message goes at once.
func TestReserve(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(map[string]smtp.Reply{})
		x.during = func() error { time.Sleep(10 * time.Second); return nil }
		lone := newRemote(nil)
		n := at(x)
		n.servers["192.0.2.3:25"] = lone.serve
		resolver := Static{
			Exchangers: map[string][]MX{"far.example": {{10, "a.far.example"}}, "lone.example": {{10, "c.far.example"}}},
			Addresses:  map[string][]netip.Addr{"a.far.example": addrs("192.0.2.1"), "c.far.example": addrs("192.0.2.3")},
		}
		g := newRig(t, n, Options{Resolver: resolver}, Config{Connections: 5, MXConnections: 20})
		defer g.stop()
		for range 300 {
			g.accept("hello", "bob@far.example")
		}
		pass(3 * time.Minute)
		if got := g.net.dials(); strings.Count(got, "192.0.2.1") != 4 {
			t.Errorf("dialled %s", got)
		}
		g.accept("lone", "bob@lone.example")
		pass(100 * time.Millisecond)
		if got := lone.taken(); got != "lone bob" {
			t.Errorf("at once: %q", got)
		}
		pass(time.Hour)
	})
}
