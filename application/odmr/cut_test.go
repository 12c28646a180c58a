package odmr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/checkpoint"
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
	kept     *checkpoint.Store // by the site, of messages whose connection broke; nil: nothing
	paths    []sim.Path        // of the connections to come; then perfect ones
	near     *sim.End          // of the last connection, the site's
	far      *sim.End          // and the provider's
	serving  sync.WaitGroup
	stop     context.CancelFunc // ends the provider's sessions

	mark  map[sim.Side]int64 // octets both sides had written when it became interesting
	ran   map[sim.Side]int64 // and when it ceased to be
	heard atomic.Int64       // octets that the provider has read from the first connection

	mu       sync.Mutex
	ctx      context.Context // of the provider's sessions
	mail     []letter        // that has come for whomever
	ends     []*sim.End      // the provider's, of all connections
	down     bool            // the provider is restarting
	arrivals []string        // what the site has taken
	compress bool            // the site takes compressed mail
	hiccup   bool            // the site has refused a message for now, once
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
func (x *exchange) post(m letter) message.ID {
	x.mu.Lock()
	x.mail = append(x.mail, m)
	x.mu.Unlock()
	return send(x.t, x.hold, "a@sender.example", "Subject: "+m.subject+"\r\n\r\n"+m.body, m.to...)
}

// written counts what both sides have written on the last connection.
func (x *exchange) written() map[sim.Side]int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.near == nil {
		return nil
	}
	return map[sim.Side]int64{sim.Dialer: x.near.Written(), sim.Listener: x.far.Written()}
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
	x.arrivals = append(x.arrivals, what(subject, env.Recipients))
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
	if len(x.ends) == 1 {
		x.serving.Go(func() { _ = provider.Serve(ctx, &heardConn{far, &x.heard}) }) // how it ends is the cut's doing
	} else {
		x.serving.Go(func() { _ = provider.Serve(ctx, far) })
	}
	return near, nil
}

// customer is the site's, who logs in with what a test can do cheaply.
func (x *exchange) customer() *Customer {
	return &Customer{
		Hostname: "clinic.example", Accept: x, Checkpoints: x.kept, Recipients: mine, Dial: x.dial,
		Config: CustomerConfig{Provider: "provider.example:366", TLS: "none", Username: "foobar.net", Password: "x", Compress: x.compress},
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
	for _, what := range x.arrivals {
		count[what]++
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

// replies are the transfers of a connection, and how far the site had written when the last reply to each had left.
type replies []struct {
	what string
	end  int64
}

// reference plays a scene without a cut and tells how long it was, and what was transferred.
func reference(t *testing.T, play scene) (from, to map[sim.Side]int64, all replies) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		var written bytes.Buffer
		c := x.customer()
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := x.dial(ctx, network, address)
			return &notedConn{conn, &written}, err
		}
		play(x, c)
		x.serving.Wait()
		from, to = x.mark, x.written()
		for side := range from {
			from[side]++ // a cut is in the write behind it
		}
		end := 0
		for _, what := range x.arrivals {
			end += bytes.Index(written.Bytes()[end:], []byte(" accepted\r\n")) + len(" accepted\r\n")
			all = append(all, struct {
				what string
				end  int64
			}{what, int64(end)})
		}
		x.finish()
		if twice := x.duplicates(); twice != nil {
			t.Errorf("without a cut %q came twice", twice)
		}
	})
	return from, to, all
}

// notedConn keeps what is written.
type notedConn struct {
	net.Conn
	written *bytes.Buffer
}

func (c *notedConn) Write(b []byte) (int, error) {
	c.written.Write(b)
	return c.Conn.Write(b)
}

// heardConn counts what is read.
type heardConn struct {
	net.Conn
	n *atomic.Int64
}

func (c *heardConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// mayDouble is what RFC 1047 lets come twice: the messages whose reply the provider has not heard to its end.
func (all replies) mayDouble(heard int64) (what []string) {
	for _, r := range all {
		if r.end > heard {
			what = append(what, r.what)
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
	x.mark = x.written()
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
	from, to, all := reference(t, play)
	if len(all) != transfers || to[sim.Dialer]-from[sim.Dialer] < 100 || to[sim.Listener]-from[sim.Listener] < 100 {
		t.Fatalf("the exchange is not worth cutting: from %v to %v, %d transfers", from, to, len(all))
	}
	if want := "one to a@clinic.example b@clinic.example.net"; all[0].what != want { // over the thin link once
		t.Errorf("the first transfer was %q, want %q", all[0].what, want)
	}
	doubled := map[string]bool{}
	var mu sync.Mutex
	for _, how := range []sim.How{sim.Reset, sim.Lost, sim.Closed, sim.Silent} {
		for side, length := range to {
			t.Run(fmt.Sprintf("%v-%v", side, how), func(t *testing.T) {
				t.Parallel()
				for after := from[side]; after <= length; after += stride(how) {
					cut := sim.Cut{Side: side, After: after, How: how}
					twice, heard := cutOnce(t, play, cut)
					allowed := all.mayDouble(heard)
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
		if !t.Failed() && len(doubled) != transfers-behind { // else the test does not reach what it is about
			t.Errorf("only %d of %d transfers were ever doubled: %q", len(doubled), transfers-behind, slices.Sorted(maps.Keys(doubled)))
		}
	})
}

// stride is 1 for the two manners that lose most, and for all with -every.
func stride(how sim.How) int64 {
	if *every || how == sim.Reset || how == sim.Lost {
		return 1
	}
	return 3
}

// cutOnce makes one call that is cut, and whole ones until all is done.
func cutOnce(t *testing.T, play scene, cut sim.Cut) (twice []string, heard int64) {
	synctest.Test(t, func(t *testing.T) {
		x := newExchange(t)
		x.paths = []sim.Path{{Delay: delay(cut.How), Cut: &cut}}
		play(x, x.customer())
		x.serving.Wait()
		x.finish()
		twice, heard = x.duplicates(), x.heard.Load()
	})
	return twice, heard
}

// delay gives a cut that loses what is under way something to lose.
func delay(how sim.How) time.Duration {
	if how == sim.Lost {
		return 300 * time.Millisecond
	}
	return 0
}
