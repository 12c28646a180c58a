package odmr

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/checkpoint"
	"bothy/application/message"
	"bothy/lib/sim"
)

// A variable of the package: flags must be known before `go test` reads its command line.
var every = flag.Bool("every", false, "cut at every octet, in every manner; else at some")

// mixed are so many messages, each of them also to others: before, behind and between the customer's recipients.
func mixed(n int) (letters []letter) {
	for i := range n {
		to := []string{"a@clinic.example", "b@clinic.example.net"}
		to = slices.Insert(to, i%3, "x@elsewhere.example", "z@light.example")
		letters = append(letters, letter{fmt.Sprint("mixed", i), fmt.Sprintf(".%d\r\n", i), to})
	}
	return letters
}

// play is a run of n messages, each of them for several customers.
type play struct {
	n      int
	push   bool // they come while a session lingers
	resume bool // between ends of ours: what comes of a message is kept, and of the first there is much; compressed, so that it is few octets
}

func (p play) String() string {
	name := fmt.Sprintf("%d called for", p.n)
	if p.push {
		name = fmt.Sprintf("%d pushed", p.n)
	}
	if p.resume {
		name += ", resumed"
	}
	return name
}

// letters are its messages.
func (p play) letters() []letter {
	letters := mixed(p.n)
	if p.resume {
		letters[0].body = long
	}
	return letters
}

// TestCutMixed cuts a run of 1, 2 and 10 messages to several customers, in a call and while a session lingers, after each octet of each side in
// each manner with -every, else after some. Everybody has his own in the end and nothing of others'. What the provider heard the
// reply to does not come twice; between ends of ours nothing does.
func TestCutMixed(t *testing.T) {
	for _, n := range []int{1, 2, 10} {
		for i := range 4 {
			p := play{n, i&1 > 0, i&2 > 0}
			var from, to map[sim.Side]int64
			synctest.Test(t, func(t *testing.T) {
				x, twice, _ := p.run(t, sim.Path{})
				if from, to = x.mark, x.ran; twice != nil || to[sim.Listener] < int64(100*n) {
					t.Fatalf("%v: %q came twice, from %v to %v", p, twice, from, to)
				}
			})
			for how := sim.Reset; how <= sim.Silent; how++ {
				for side := sim.Dialer; side <= sim.Listener; side++ {
					t.Run(fmt.Sprintf("%v, %v %v", p, side, how), func(t *testing.T) {
						t.Parallel()
						p.cutAll(t, from[side], to[side], sim.Cut{Side: side, How: how})
					})
				}
			}
		}
	}
}

// some is how many octets of a side are cut behind where it is not every.
const some = 7

// cutAll cuts a play behind the octets of a side that has written from when it begins and to when it ends.
func (p play) cutAll(t *testing.T, from, to int64, cut sim.Cut) {
	step := int64(1)
	if !*every {
		step = max(1, (to-from)/some)
	}
	for cut.After = from + step/2; cut.After <= to; cut.After += step {
		synctest.Test(t, func(t *testing.T) {
			_, twice, heard := p.run(t, sim.Path{Delay: delay(cut.How), Cut: &cut})
			for _, what := range twice {
				if subject, _, _ := strings.Cut(what, " "); heard[subject] || p.resume {
					t.Errorf("%s came twice", what)
				}
			}
		})
		if t.Failed() {
			t.Fatalf("%v: %v cut after %d of %d to %d octets (%v)", p, cut.Side, cut.After, from, to, cut.How)
		}
	}
}

// run brings the messages over a first connection that may be cut, and over whole ones until all is done. heard are the messages whose
// reply came back over the first.
func (p play) run(t *testing.T, first sim.Path) (x *exchange, twice []string, heard map[string]bool) {
	x = emptyExchange(t)
	if p.resume {
		x.keep()
	}
	done := map[message.ID]bool{}
	x.provider.Observe = func(e Event) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if e.What == Transferred && len(x.ends) == 1 {
			done[e.ID] = true
		}
	}
	subjects := map[message.ID]string{}
	post := func() {
		for _, m := range p.letters() {
			time.Sleep(time.Millisecond) // the bubble's: it puts them in order
			subjects[x.post(m)] = m.subject
		}
	}
	x.paths = []sim.Path{first}
	if p.push {
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
	heard = map[string]bool{}
	for id := range done {
		heard[subjects[id]] = true
	}
	x.lingering(0)
	x.finish()
	return x, x.duplicates(), heard
}

// least is the longest text of which the site keeps no part: small, for every octet of a longer one is one more to cut behind.
const least = 2 << 10

// long is a text that it keeps parts of, and longer than what is written at once.
var long = strings.Repeat(".a line of text\r\n", 17<<10/17)

// keep lets the site keep what comes of messages whose connection breaks, and take them compressed.
func (x *exchange) keep() {
	store, err := checkpoint.Open(checkpoint.Options{
		Config: checkpoint.Config{Least: least}, Dir: "/partial", FS: sim.NewDisk(), Accepted: x.site.Transaction,
	})
	if err != nil {
		x.t.Fatal(err)
	}
	x.kept, x.compress = store, true
}
