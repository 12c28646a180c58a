package odmr

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/lib/sim"
)

// mixed are so many messages, each of them also to others: before, behind and between the customer's recipients.
func mixed(n int) (letters []letter) {
	for i := range n {
		to := []string{"a@clinic.example", "b@clinic.example.net"}
		to = slices.Insert(to, i%3, "x@elsewhere.example", "z@light.example")
		letters = append(letters, letter{fmt.Sprint("mixed", i), fmt.Sprintf(".%d\r\n", i), to})
	}
	return letters
}

// TestCutMixed cuts a run of 1, 2 and 10 messages to several customers, in a call and while a session lingers. The seed is where and how:
// 60,000 of them are every octet of all. Nothing comes twice whose reply the provider heard.
func TestCutMixed(t *testing.T) {
	type play struct {
		n        int
		push     bool
		from, to map[sim.Side]int64
	}
	var plays []*play
	for _, n := range []int{1, 2, 10} {
		plays = append(plays, &play{n: n}, &play{n: n, push: true})
	}
	for _, p := range plays {
		synctest.Test(t, func(t *testing.T) {
			x, twice, _ := cutMixed(t, p.n, p.push, sim.Path{})
			if p.from, p.to = x.mark, x.ran; twice != nil || p.to[sim.Listener] < int64(100*p.n) {
				t.Fatalf("%+v: %q came twice, from %v to %v", p, twice, p.from, p.to)
			}
		})
	}
	hows := []sim.How{sim.Reset, sim.Lost, sim.Closed, sim.Silent}
	sides := []sim.Side{sim.Dialer, sim.Listener}
	const stride = 613 // a prime: it comes past every octet
	sim.Seeds(t, 480, func(t *testing.T, seed uint64) {
		i := seed
		pick := func(n int) int {
			k := i % uint64(n)
			i /= uint64(n)
			return int(k)
		}
		p, side, how := plays[pick(len(plays))], sides[pick(len(sides))], hows[pick(len(hows))]
		cut := sim.Cut{Side: side, After: p.from[side] + int64(i*stride)%(p.to[side]-p.from[side]+1), How: how}
		synctest.Test(t, func(t *testing.T) {
			_, twice, heard := cutMixed(t, p.n, p.push, sim.Path{Delay: delay(how), Cut: &cut})
			for _, what := range twice {
				if slices.Contains(heard, what) {
					t.Errorf("cut %+v of %d to %d octets: %s came twice", cut, p.from[side], p.to[side], what)
				}
			}
		})
	})
}

// cutMixed brings n messages over a first connection that may be cut, and over whole ones until all is done. heard are the transfers whose
// reply came back over the first.
func cutMixed(t *testing.T, n int, push bool, first sim.Path) (x *exchange, twice, heard []string) {
	x = emptyExchange(t)
	done := map[message.ID]bool{}
	x.provider.Observe = func(e Event) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if e.What == Transferred && len(x.ends) == 1 {
			done[e.ID] = true
		}
	}
	post := func() {
		for _, m := range mixed(n) {
			time.Sleep(time.Millisecond) // the bubble's: it puts them in order
			x.post(m)
		}
	}
	x.paths = []sim.Path{first}
	if push {
		x.lingering(24 * time.Hour)
		end := run(x.customer())
		time.Sleep(10 * time.Second)
		x.mark = x.written()
		post()
		time.Sleep(5 * time.Minute)
		end()
	} else {
		post()
		_, _ = x.customer().Call(context.Background(), nil) // it may even succeed: a cut behind everything
	}
	x.serving.Wait()
	x.ran = x.written()
	heard = slices.Clone(x.arrivals[:len(done)])
	x.lingering(0)
	x.finish()
	return x, x.duplicates(), heard
}
