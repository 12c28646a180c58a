package odmr

import (
	"bytes"
	"context"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"bothy/application/queue"
	"bothy/lib/sim"
)

// TestFirstOfMany: however much waits, the first message goes out when some are leased, those that a session chooses from, and not all. With -every 100,000 wait,
// and the first octet comes within the second that a customer is promised.
func TestFirstOfMany(t *testing.T) {
	many := 1000
	if *every {
		many = 100_000
	}
	x := emptyExchange(t)
	store := &counting{Store: x.hold}
	x.provider = newCutProvider(store)
	for range many {
		send(t, x.hold, "a@sender.example", "Subject: one of many\r\n\r\n", "a@clinic.example", "z@light.example", "b@clinic.example.net")
	}
	c := x.customer()
	first := &firstMail{store: store}
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		first.began = time.Now()
		conn, err := x.dial(ctx, network, address)
		first.Conn = conn
		return first, err
	}
	_, _ = c.Call(t.Context(), nil) // it is cut off at the first message
	x.serving.Wait()
	if first.leases == 0 || first.leases > int64(many)/2 {
		t.Errorf("%d leases before the first message, of %d that wait", first.leases, many)
	}
	t.Logf("%d wait, %d leases and %v to the first message", many, first.leases, first.took)
	if *every && first.took > time.Second {
		t.Errorf("the first octet came after %v", first.took)
	}
}

// counting counts leases.
type counting struct {
	queue.Store
	leases atomic.Int64
}

func (c *counting) Lease(lane queue.Lane, holder string) (*queue.Lease, error) {
	c.leases.Add(1)
	return c.Store.Lease(lane, holder)
}

// TestComesBetween: a message to two domains of a customer that comes when one of their lanes was asked, and the other was not yet, is sent to both at
// once: over the thin link once.
func TestComesBetween(t *testing.T) {
	x := emptyExchange(t)
	late := &late{Store: x.hold, come: func() { x.post(mixed(1)[0]) }}
	x.provider = newCutProvider(late)
	x.post(letter{"before", "\r\n", []string{"a@clinic.example"}})
	if err := x.call(sim.Path{}); err != nil {
		t.Error(err)
	}
	if want := []string{"before to a@clinic.example", "mixed0 to a@clinic.example b@clinic.example.net"}; !slices.Equal(x.arrivals, want) {
		t.Errorf("%q, want %q", x.arrivals, want)
	}
}

// late lets a message come once the first domain's lane was found empty.
type late struct {
	queue.Store
	come func()
}

func (l *late) Lease(name queue.Lane, holder string) (*queue.Lease, error) {
	got, err := l.Store.Lease(name, holder)
	if got == nil && l.come != nil && name == lane("clinic.example") {
		l.come()
		l.come = nil
	}
	return got, err
}

// firstMail is the site's end of a connection that it closes at the first MAIL.
type firstMail struct {
	net.Conn
	store  *counting
	began  time.Time
	leases int64
	took   time.Duration
}

func (c *firstMail) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.leases == 0 && bytes.Contains(b[:n], []byte("MAIL FROM:")) {
		c.leases, c.took = c.store.leases.Load(), time.Since(c.began)
		c.Close()
	}
	return n, err
}
