package odmr

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/directory"
)

// asking is the site's customer that asks for these domains only.
func (x *exchange) asking(domains ...string) *Customer {
	c := x.customer()
	c.Config.Domains = domains
	return c
}

// TestSeats: one session an account and domain. Sessions for other domains stand beside each other, a message for both goes to each once, and
// who asks for a domain that a living session has gets none.
func TestSeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := emptyExchange(t)
		x.lingering(24 * time.Hour)
		first, second := run(x.asking("clinic.example")), run(x.asking("clinic.example.net"))
		time.Sleep(10 * time.Second)
		st := x.provider.own.Status("foobar.net")
		if st.Sessions != 2 || x.provider.own.Count()[StateLingering] != 2 {
			t.Fatalf("%+v, %v", st, x.provider.own.Count())
		}
		x.post(letter{"both", "for two\r\n", []string{"a@clinic.example", "b@clinic.example.net"}})
		x.post(letter{"one", "for one\r\n", []string{"c@clinic.example"}})
		time.Sleep(time.Second) // the octets of the second message may wait a moment on the line
		synctest.Wait()
		if slices.Sort(x.arrivals); !slices.Equal(x.arrivals, []string{"both to a@clinic.example", "both to b@clinic.example.net", "one to c@clinic.example"}) {
			t.Errorf("%q", x.arrivals)
		}
		for _, domains := range [][]string{{"clinic.example"}, {"clinic.example.net", "clinic.example"}, nil} {
			if _, err := x.asking(domains...).Call(t.Context(), nil); !errors.Is(err, ErrLater) || !strings.Contains(err.Error(), "another session") {
				t.Errorf("beside two sessions, for %v: %v", domains, err)
			}
		}
		second()
		if _, err := x.asking("clinic.example.net").Call(t.Context(), nil); !errors.Is(err, ErrNoMail) {
			t.Errorf("for the domain that nobody has: %v", err)
		}
		if _, err := x.asking().Call(t.Context(), nil); !errors.Is(err, ErrLater) {
			t.Errorf("for all, where one is taken: %v", err)
		}
		first()
		x.serving.Wait()
		if x.provider.own.Status("foobar.net").Sessions != 0 || len(x.provider.own.seats)+len(x.provider.own.accounts) != 0 {
			t.Error("a seat was left")
		}
	})
}

// TestDomainMoves: what comes for a domain after it was given to another account goes to that one, though the first one's session is open and
// alive, and the seat is its at once. A session of an account that was disabled gets nothing more either.
func TestDomainMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := emptyExchange(t)
		x.lingering(24 * time.Hour)
		quit := run(x.customer())
		time.Sleep(2 * lasting)
		g := x.provider.Directory.(*guarded)
		g.mu.Lock()
		g.customers["foobar.net"] = directory.Customer{Account: "foobar.net", Domains: []string{"clinic.example"}, Linger: 24 * time.Hour}
		g.customers["light"] = directory.Customer{Account: "light", Domains: []string{"clinic.example.net"}}
		g.mu.Unlock()
		x.post(letter{"moved", "", []string{"b@clinic.example.net"}})
		time.Sleep(time.Second)
		if n := x.arrived("moved"); n != 0 {
			t.Errorf("the session of who had the domain got %d messages", n)
		}
		if st := x.provider.own.Status("foobar.net"); !strings.Contains(st.LastError, "no longer") {
			t.Errorf("%+v", st)
		}
		time.Sleep(10 * time.Second) // it has called again, for what is left
		if st := x.provider.own.Status("foobar.net"); st.State != StateLingering {
			t.Errorf("%+v", st)
		}
		other := x.customer()
		other.Config.Username = "light"
		if report, err := other.Call(t.Context(), nil); err != nil || report.Messages != 1 {
			t.Errorf("who has the domain now: %+v, %v", report, err)
		}

		x.set(func(c *directory.Customer) { c.Disabled = true })
		x.post(letter{"disabled", "", []string{"a@clinic.example"}})
		time.Sleep(time.Second)
		if n := x.arrived("disabled"); n != 0 {
			t.Errorf("a disabled account got %d messages", n)
		}
		quit()
		x.serving.Wait()
	})
}

// TestSeatOfAnotherAccount: a session that lost its domain does not keep the seat by being alive.
func TestSeatOfAnotherAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := emptyExchange(t)
		x.lingering(24 * time.Hour)
		defer run(x.customer())()
		time.Sleep(10 * time.Second)
		g := x.provider.Directory.(*guarded)
		g.mu.Lock()
		g.customers["foobar.net"] = directory.Customer{Account: "foobar.net", Domains: []string{"clinic.example"}, MinInterval: time.Hour, LastContact: time.Now()}
		g.customers["light"] = directory.Customer{Account: "light", Domains: []string{"clinic.example.net"}}
		g.mu.Unlock()
		other, start := x.customer(), time.Now()
		other.Config.Username = "light"
		if _, err := other.Call(t.Context(), nil); !errors.Is(err, ErrNoMail) || time.Since(start) > time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// prompt is a connection whose peer has answered before the one who asked looks.
type prompt struct {
	net.Conn
	w *wire
}

func (p *prompt) SetReadDeadline(time.Time) error { p.w.beat(1); return nil }

// TestPromptAnswer: a session that shows its life at once keeps its seat.
func TestPromptAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &session{wire: new(wire)}
		s.wire.Conn, s.bell.resting = &prompt{w: s.wire}, true
		s.stage.Store(int32(StateLingering))
		if err := s.yield(t.Context(), nil, false); !errors.Is(err, replyBusy) {
			t.Error(err)
		}
	})
}
