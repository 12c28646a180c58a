package odmr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"
	"bothy/lib/sim"
)

// exchange is a provider, a site, their disks, and the mail between them.
type exchange struct {
	t        *testing.T
	provider *Provider
	hold     *queue.Spool // the provider's
	disk     *sim.Disk    // that hold is on
	site     *queue.Spool
	paths    []sim.Path // of the connections to come; then perfect ones
	near     *sim.End   // of the last connection, the site's
	far      *sim.End   // and the provider's
	serving  sync.WaitGroup
	stop     context.CancelFunc // ends the provider's sessions

	mu       sync.Mutex
	ctx      context.Context // of the provider's sessions
	mail     []letter        // that has come for whomever
	ends     []*sim.End      // the provider's, of all connections
	down     bool            // the provider is restarting
	arrivals []arrival
	hiccup   bool // the site has refused a message for now, once
}

// arrival is a message that the site has taken, and how many octets both sides had written by then.
type arrival struct {
	what      string // subject and recipients
	near, far int64
}

// what names a transfer: the subject of the message, and to whom.
func what(subject string, recipients []message.Recipient) string {
	var to []string
	for _, r := range recipients {
		to = append(to, r.Address.String())
	}
	slices.Sort(to)
	return subject + " to " + strings.Join(to, " ")
}

// letter is a message that comes to the provider.
type letter struct {
	subject, body string
	to            []string
}

// mail is what waits at the provider; "gone" does not exist at the site.
var mail = []letter{
	{"one", "..\r\n.dot\r\n", []string{"a@clinic.example", "x@elsewhere.example", "b@clinic.example.net"}},
	{"two", "caf\xc3\xa9\r\n", []string{"y@light.example", "c@clinic.example", "gone@clinic.example"}},
	{"three", "no end of line", []string{"d@clinic.example", "z@light.example", "e@clinic.example"}},
	{"four", "not yet\r\n", []string{"e@clinic.example"}}, // which the site refuses for now, once
}

// mine are the site's recipients that exist.
var mine = mailboxes{
	"a@clinic.example": true, "c@clinic.example": true, "d@clinic.example": true, "e@clinic.example": true, "b@clinic.example.net": true,
}

func newExchange(t *testing.T) *exchange {
	x := emptyExchange(t)
	for _, m := range mail {
		time.Sleep(time.Millisecond) // the bubble's: it puts them in order
		x.post(m)
	}
	return x
}

// emptyExchange is one where nothing waits.
func emptyExchange(t *testing.T) *exchange {
	x := &exchange{t: t, disk: sim.NewDisk(), site: openSpool(t, sim.NewDisk(), siteRouter)}
	x.hold = openSpool(t, x.disk, providerRouter)
	x.provider = newCutProvider(x.hold)
	x.ctx, x.stop = context.WithCancel(context.Background())
	t.Cleanup(func() { x.stop() })
	return x
}

// post lets a message come to the provider.
func (x *exchange) post(m letter) {
	x.mu.Lock()
	x.mail = append(x.mail, m)
	x.mu.Unlock()
	send(x.t, x.hold, "a@sender.example", "Subject: "+m.subject+"\r\n\r\n"+m.body, m.to...)
}

// letters are those that have come.
func (x *exchange) letters() []letter {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.mail)
}

func newCutProvider(hold queue.Store) *Provider {
	return &Provider{
		Hostname: "provider.example", Auth: login{any: true}, Queue: hold,
		Directory: customers{
			"foobar.net": {Account: "foobar.net", Domains: []string{"clinic.example", "clinic.example.net"}},
			"light":      {Account: "light", Domains: []string{"light.example"}},
		},
	}
}

// Accept is the site's intake: its spool, once it has refused the last message for now.
func (x *exchange) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(text), "Subject: ")
	subject, rest, _ := strings.Cut(rest, "\r\n\r\n")
	if subject == "four" && x.first() {
		return smtp.Reply{Code: 452, Enhanced: [3]int{4, 3, 1}, Text: "disk full"}
	}
	for _, m := range x.letters() {
		if m.subject == subject && strings.TrimSuffix(rest, "\r\n") != strings.TrimSuffix(m.body, "\r\n") {
			x.t.Errorf("message %s arrived as %q", subject, rest)
		}
	}
	if err := x.site.Accept(ctx, env, strings.NewReader(string(text))); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.arrivals = append(x.arrivals, arrival{what(subject, env.Recipients), x.near.Written(), x.far.Written()})
	return nil
}

// first is true once.
func (x *exchange) first() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	before := x.hiccup
	x.hiccup = true
	return !before
}

// dial makes the next connection and lets the provider serve it.
func (x *exchange) dial(context.Context, string, string) (net.Conn, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.down {
		return nil, syscall.ECONNREFUSED
	}
	var path sim.Path
	if len(x.paths) > 0 {
		path, x.paths = x.paths[0], x.paths[1:]
	}
	near, far := sim.Pipe(path)
	x.near, x.far, x.ends = near, far, append(x.ends, far)
	provider, ctx := x.provider, x.ctx
	x.serving.Go(func() { _ = provider.Serve(ctx, far) }) // how it ends is the cut's doing
	return near, nil
}

// customer is the site's, who logs in with what a test can do cheaply.
func (x *exchange) customer() *Customer {
	return &Customer{
		Hostname: "clinic.example", Accept: x, Recipients: mine, Dial: x.dial,
		Config: CustomerConfig{Provider: "provider.example:366", TLS: "none", Username: "foobar.net", Password: "x"},
	}
}

// call lets the site call once, and waits until the provider has noticed that it is over.
func (x *exchange) call(path sim.Path) error {
	x.paths = []sim.Path{path}
	_, err := x.customer().Call(context.Background(), nil)
	x.serving.Wait()
	return err
}

// finish calls over whole connections until nothing waits.
func (x *exchange) finish() {
	for range 4 {
		if errors.Is(x.call(sim.Path{}), ErrNoMail) {
			return
		}
	}
	x.t.Error("mail is left after four whole calls")
}

// duplicates checks what the site has: every recipient's mail, nobody else's. It returns what came more than once.
func (x *exchange) duplicates() (twice []string) {
	t := x.t
	count := map[string]int{}
	for _, a := range x.arrivals {
		count[a.what]++
	}
	left := map[queue.Lane]int{lane("clinic.example"): 0, lane("clinic.example.net"): 0}
	for _, m := range x.letters() {
		for _, to := range m.to {
			switch _, domain, _ := strings.Cut(to, "@"); {
			case domain == "light.example", domain == "elsewhere.example":
				left[providerRouter(domain)]++
			case !mine[to]:
				left["mx/sender.example"]++
			}
			n := 0
			for what, k := range count {
				if strings.HasPrefix(what, m.subject+" ") && strings.Contains(what+" ", " "+to+" ") {
					n += k
				}
			}
			if mine[to] != (n > 0) {
				t.Errorf("%s came to %s %d times", m.subject, to, n)
			}
		}
	}
	stored := map[string]int{}
	for _, l := range []queue.Lane{"mailbox/clinic.example", "mailbox/clinic.example.net"} {
		_, n := x.site.Waiting(l)
		stored[string(l)] = n
	}
	inAll := 0
	for what, n := range count {
		inAll += n * (len(strings.Fields(what)) - 2)
		if n > 1 {
			twice = append(twice, what)
		}
	}
	if total := stored["mailbox/clinic.example"] + stored["mailbox/clinic.example.net"]; total != inAll {
		t.Errorf("%d recipients on the site's disk, %d were acknowledged", total, inAll)
	}
	// What is nobody's business of this customer is as it was; a notice is on its way for each that does not exist.
	for l, want := range left {
		if due, all := x.hold.Waiting(l); due != want || all != want {
			t.Errorf("lane %s: %d due, %d in all, want %d", l, due, all, want)
		}
	}
	slices.Sort(twice)
	return twice
}

// windows are, for each transfer of a whole call, how far both sides had written when the message was with the site, and
// how far the site had when its reply had left.
type windows []struct {
	what            string
	data, replyDone int64 // the provider's octets, the site's octets
	before          int64 // the site's octets when the transfer before it was over
}

// reference makes one whole call and tells how long it was, and when a cut may double which message.
func reference(t *testing.T, play scene) (near, far int64, w windows) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		written := writes{}
		c := x.customer()
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := x.dial(ctx, network, address)
			return &notedConn{conn, &written}, err
		}
		play(x, c)
		x.serving.Wait()
		near, far = x.near.Written(), x.far.Written()
		before := int64(0)
		for _, a := range x.arrivals {
			i, _ := slices.BinarySearch(written.at, a.near+1)
			w = append(w, struct {
				what            string
				data, replyDone int64
				before          int64
			}{a.what, a.far, written.at[i], before})
			before = written.at[i]
		}
		x.finish()
		if twice := x.duplicates(); twice != nil {
			t.Errorf("without a cut %q came twice", twice)
		}
	})
	return near, far, w
}

// writes are the positions a connection's writes ended at.
type writes struct{ at []int64 }

type notedConn struct {
	net.Conn
	writes *writes
}

func (c *notedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	total := int64(n)
	if k := len(c.writes.at); k > 0 {
		total += c.writes.at[k-1]
	}
	c.writes.at = append(c.writes.at, total)
	return n, err
}

// mayDouble is what RFC 1047 lets come twice: the message whose end of data the cut did not stop and whose reply it did.
func (w windows) mayDouble(cut sim.Cut) (what []string) {
	for _, t := range w {
		switch {
		case cut.Side == sim.Listener && cut.After == t.data,
			cut.Side == sim.Dialer && cut.After >= t.before && cut.After < t.replyDone,
			cut.Side == sim.Dialer && cut.After == t.replyDone && cut.How == sim.Lost:
			what = append(what, t.what)
		}
	}
	return what
}

// scene is what a customer does over a connection that may break.
type scene func(x *exchange, c *Customer)

// calls calls once.
func calls(_ *exchange, c *Customer) { _, _ = c.Call(context.Background(), nil) } // it may even succeed: a cut behind everything

// lingers stays while two messages come, and is asked whether it is there.
func lingers(x *exchange, c *Customer) {
	x.lingering(24 * time.Hour)
	end := run(c)
	time.Sleep(10 * time.Second)
	x.post(letter{"five", "push\r\n", []string{"a@clinic.example", "z@light.example", "b@clinic.example.net"}})
	time.Sleep(time.Second)
	x.post(letter{"six", "push again\r\n", []string{"c@clinic.example"}})
	time.Sleep(5 * time.Minute)
	end()
	x.serving.Wait()
	x.lingering(0)
}

// TestCutAtEveryOctet breaks a whole call after each octet of each side, in each manner, and lets the site call again.
func TestCutAtEveryOctet(t *testing.T) { cutEverywhere(t, calls, 0, 3) }

// TestCutWhileLingering does the same to a session that lingers, from where that begins.
func TestCutWhileLingering(t *testing.T) { cutEverywhere(t, lingers, 3, 5) }

// cutEverywhere cuts a scene whose connection to be cut has so many transfers, behind the first so many of them.
func cutEverywhere(t *testing.T, play scene, behind, transfers int) {
	near, far, w := reference(t, play)
	if want := "one to a@clinic.example b@clinic.example.net"; w[0].what != want { // over the thin link once
		t.Errorf("the first transfer was %q, want %q", w[0].what, want)
	}
	from := map[sim.Side]int64{}
	if behind > 0 {
		from = map[sim.Side]int64{sim.Dialer: w[behind-1].replyDone + 1, sim.Listener: w[behind-1].data + 1}
	}
	w = w[behind:]
	if len(w) != transfers-behind || near < 500 || far < 500 {
		t.Fatalf("the exchange is too small to be worth cutting: %d and %d octets, %d transfers", near, far, len(w))
	}
	doubled := map[string]bool{}
	var mu sync.Mutex
	for _, how := range []sim.How{sim.Reset, sim.Lost, sim.Closed, sim.Silent} {
		for side, length := range map[sim.Side]int64{sim.Dialer: near, sim.Listener: far} {
			t.Run(fmt.Sprintf("%v-%v", side, how), func(t *testing.T) {
				t.Parallel()
				for after := from[side]; after <= length; after += stride(how) {
					cut := sim.Cut{Side: side, After: after, How: how}
					twice := cutOnce(t, play, cut)
					allowed := w.mayDouble(cut)
					for _, what := range twice {
						if !slices.Contains(allowed, what) {
							t.Errorf("%s came twice", what)
						}
						mu.Lock()
						doubled[what] = true
						mu.Unlock()
					}
					if t.Failed() {
						t.Fatalf("%v cut after %d of %d octets (%v)", side, after, length, how)
					}
				}
			})
		}
	}
	t.Cleanup(func() {
		if !t.Failed() && len(doubled) != len(w) { // else the test does not reach what it is about
			t.Errorf("only %d of %d transfers were ever doubled: %q", len(doubled), len(w), slices.Sorted(maps.Keys(doubled)))
		}
	})
}

// stride is 1 for the two manners that lose most.
func stride(how sim.How) int64 {
	if how == sim.Reset || how == sim.Lost {
		return 1
	}
	return 3
}

// cutOnce makes one call that is cut, and whole ones until all is done.
func cutOnce(t *testing.T, play scene, cut sim.Cut) (twice []string) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		x.paths = []sim.Path{{Delay: delay(cut.How), Cut: &cut}}
		play(x, x.customer())
		x.serving.Wait()
		x.finish()
		twice = x.duplicates()
	})
	return twice
}

// delay gives a cut that loses what is under way something to lose.
func delay(how sim.How) time.Duration {
	if how == sim.Lost {
		return 300 * time.Millisecond
	}
	return 0
}
