package dhcp4

import (
	"testing"
	"time"

	"bothy/control/lease"
	"bothy/lib/sim"
)

// TestClientSimulated: RFC 2131 §4.4: on a line that loses, repeats and delays, with servers that are away, clients that are killed, links that come and go and clocks that
// are set while nobody looks, the client never uses an address after its lease has ended or that is another's, and is bound once all is well again.
func TestClientSimulated(t *testing.T) {
	sim.Seeds(t, 150, func(t *testing.T, seed uint64) {
		p := newPair(t, clientConfig(), seed)
		id := lease.ID(p.options().ClientID)
		p.loss, p.echo, p.late = p.rand.Float64()*0.6, p.rand.Float64()*0.3, p.rand.Float64()*0.3
		check := func() {
			t.Helper()
			b := p.c.Binding()
			if !b.Address.IsValid() {
				return
			}
			if l, ok := p.store.Get(lease.Host(b.Address.Addr())); !ok || l.Client != id || !l.Current(p.store.Now()) {
				t.Fatalf("%s uses %v, and the server has %+v at %v", p.c.State(), b.Address, l, p.store.Now())
			}
		}
		for range 200 {
			switch p.rand.IntN(12) {
			case 0:
				p.dead = !p.dead
			case 1:
				p.c.LinkUp(p.clientNow())
			case 2: // killed, and back after a while
				before := p.c.Binding()
				p.pass(time.Duration(p.rand.Int64N(int64(90 * time.Minute))))
				p.set(before)
				p.c = NewClient(p.options(), before, p.clientNow())
			case 3: // another takes what is free
				other := client{mac: 50 + byte(p.rand.IntN(2))}
				if offer := p.discover(other); offer.Reply != nil {
					p.selecting(other, offer.Reply.YIAddr.String())
				}
			default:
				p.turn(20 * time.Minute)
			}
			check()
		}
		p.loss, p.echo, p.late, p.dead = 0, 0, 0, false
		for end := p.now.Add(30 * time.Minute); p.c.State() != Bound; check() {
			if p.now.After(end) {
				t.Fatalf("%s after half an hour without a fault", p.c.State())
			}
			p.turn(time.Minute)
		}
	})
}

// clientNow is what the client's clock shows.
func (p *pair) clientNow() time.Time { return p.now.Add(p.ahead) }

// set changes the client's clock while the client does not run: forward, or further back than its lease is old, which it can tell.
func (p *pair) set(before Binding) {
	switch p.rand.IntN(4) {
	case 0:
		p.ahead += time.Duration(p.rand.Int64N(int64(2 * time.Hour)))
	case 1:
		p.ahead -= p.clientNow().Sub(before.Began) + time.Minute
		if before.Began.IsZero() {
			p.ahead = 0
		}
	}
}

// turn lets time pass until the client has something to do, at most for limit, and has it done.
func (p *pair) turn(limit time.Duration) {
	if a := p.c.ToCheck(); a.IsValid() {
		p.pass(time.Second)
		p.c.Checked(p.clientNow(), false)
		return
	}
	now := p.clientNow()
	if wait := p.c.Next().Sub(now); wait > 0 {
		p.pass(min(wait, limit))
	}
	if out := p.c.Tick(p.clientNow()); out != nil {
		p.carry(out)
	}
}
