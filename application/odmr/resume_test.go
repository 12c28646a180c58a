package odmr

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/lib/sim"
)

// resuming is an exchange between ends of ours: what comes of a message is kept, and a long one waits too.
func resuming(t *testing.T) *exchange {
	x := newExchange(t)
	x.keep()
	x.compress = false
	time.Sleep(time.Millisecond)
	x.post(letter{"long", long, []string{"a@clinic.example", "z@light.example", "b@clinic.example.net"}})
	return x
}

// TestCutResumes: RFC 1845 §3: a call between ends of ours is cut after many octets, after each with -every, in each manner; the site calls
// again. No mail comes twice, whatever was lost, and what was here of a long message is not sent again.
func TestCutResumes(t *testing.T) {
	var to map[sim.Side]int64
	synctest.Test(t, func(t *testing.T) {
		x := resuming(t)
		if err := x.call(sim.Path{}); err != nil {
			t.Fatal(err)
		}
		to = x.written()
		x.finish()
		if twice := x.duplicates(); twice != nil {
			t.Errorf("without a cut %q came twice", twice)
		}
	})
	for how := sim.Reset; how <= sim.Silent; how++ {
		for side, length := range to {
			t.Run(fmt.Sprintf("%v-%v", side, how), func(t *testing.T) {
				t.Parallel()
				for after := int64(0); after <= length; after += stepTo(after, length, how) {
					synctest.Test(t, func(t *testing.T) {
						x := resuming(t)
						cut := sim.Cut{Side: side, After: after, How: how}
						_ = x.call(sim.Path{Delay: delay(how), Cut: &cut}) // it may even succeed: a cut behind everything
						x.finish()
						if twice := x.duplicates(); twice != nil {
							t.Errorf("%q came twice", twice)
						}
						// Where nobody is told, the site has read all that came. Of a text that is whole it has no part.
						if again := x.writtenLater(); side == sim.Listener && how == sim.Silent && after < length-int64(len("QUIT\r\n")) && after+again > length+2*least {
							t.Errorf("%d octets came after %d, of %d in all", again, after, length)
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

// writtenLater is what the provider has written since the first connection.
func (x *exchange) writtenLater() (octets int64) {
	for _, e := range x.ends[1:] {
		octets += e.Written()
	}
	return octets
}

// stepTo is a few octets near the ends, where the commands are, and many in the middle, where the long text is; or always one.
func stepTo(after, length int64, how sim.How) int64 {
	switch {
	case *every:
		return 1
	case length > 20_000 && after > 3_000 && after < length-3_000:
		return 2_500
	case how == sim.Lost:
		return 5
	}
	return 17
}

// TestKeepsItsPlace: a large message that breaks off again and again goes on first where the site keeps what came, and behind all others once it was tried
// too often in vain.
func TestKeepsItsPlace(t *testing.T) {
	large := leasedOf(1, triesInPlace)
	spoilt := leasedOf(1, triesInPlace+1)
	fresh := leasedOf(2, 0)
	for _, c := range []struct {
		keeps bool
		first *leased
		then  *leased
	}{{true, large, fresh}, {false, fresh, large}, {true, fresh, spoilt}, {false, fresh, spoilt}} {
		l := &line{keeps: c.keeps}
		if l.before(c.first, c.then) >= 0 || l.before(c.then, c.first) <= 0 {
			t.Errorf("kept %t: tried %d times goes before tried %d times", c.keeps, c.then.tries(), c.first.tries())
		}
	}
}

func leasedOf(accepted int64, tries int) *leased {
	return &leased{[]*queue.Lease{{Accepted: time.Unix(accepted, 0), Size: 100, Attempts: []int{0, tries}}}}
}

// TestCutAndOn: a link that breaks every few seconds while mail comes is dialed again at once, and so is one that breaks before the call has brought
// anything, soon; the large message arrives, and hardly anything is sent twice.
func TestCutAndOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, size = 100_000, 3_000_000
		x := resuming(t)
		var dials []time.Duration
		began := time.Now()
		for i := range 8 {
			cut := sim.Cut{Side: sim.Listener, After: 500_000, How: sim.Lost}
			if i == 2 || i == 3 {
				cut.After = 100 // within the login
			}
			x.paths = append(x.paths, sim.Path{Delay: 50 * time.Millisecond, Rate: rate, Cut: &cut})
		}
		send(t, x.hold, "a@sender.example", "Subject: video\r\n\r\n"+strings.Repeat(strings.Repeat("x", 98)+"\r\n", size/100), "a@clinic.example")
		c := x.customer()
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			dials = append(dials, time.Since(began))
			return x.dial(ctx, network, address)
		}
		end := run(c)
		for {
			if _, all := x.hold.Waiting(lane("clinic.example")); all == 0 {
				break
			}
			if time.Sleep(time.Second); time.Since(began) > time.Hour {
				t.Fatalf("an hour is over; dialed at %v", dials)
			}
		}
		took := time.Since(began)
		end()
		x.serving.Wait()
		if whole := size * time.Second / rate; len(dials) < 8 || took > whole*5/4+4*time.Second {
			t.Errorf("it took %v in %d calls, want hardly more than %v", took, len(dials), whole)
		}
		if twice := x.duplicates(); twice != nil {
			t.Errorf("%q came twice", twice)
		}
	})
}

// TestPartlyTaken holds that a recipient whom the site did not take with another, whose reply was lost, gets the message in a transaction of
// its own, and the other does not get it again.
func TestPartlyTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := resuming(t)
		x.post(letter{"seven", "for two\r\n", []string{"a@clinic.example", "b@clinic.example.net"}})
		c, lost := x.customer(), &losing{exchange: x, subject: "seven"}
		c.Accept = lost
		early := maps.Clone(mine) // nobody has an account in the other domain yet: 450
		delete(early, "b@clinic.example.net")
		c.Recipients = early
		_, _ = c.Call(t.Context(), nil)
		x.serving.Wait()
		if !lost.happened {
			t.Fatal("nothing was lost")
		}
		x.finish()
		var came []string
		for _, what := range x.arrivals {
			if strings.HasPrefix(what, "seven ") {
				came = append(came, what)
			}
		}
		if want := []string{"seven to a@clinic.example", "seven to b@clinic.example.net"}; !slices.Equal(came, want) {
			t.Errorf("%q, want %q", came, want)
		}
	})
}

// losing is the site's intake, whose connection is gone before the reply to one message.
type losing struct {
	*exchange
	subject  string
	happened bool
}

func (l *losing) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	err = l.exchange.Accept(ctx, env, bytes.NewReader(text))
	if err == nil && strings.Contains(string(text), "Subject: "+l.subject+"\r\n") {
		l.happened = true
		l.far.Close()
		l.near.Vanish()
	}
	return err
}
