package dhcp6

import (
	"slices"
	"testing"
	"time"

	"bothy/control/lease"
	"bothy/lib/sim"
)

// TestClientSimulated: RFC 9915 §18.2: on a line that loses, repeats and delays, with servers that are away, clients that are killed, links that come and go and clocks that are
// set while nobody looks, the client never uses an address or a prefix after its lease has ended, and has both once all is well again.
func TestClientSimulated(t *testing.T) {
	sim.Seeds(t, 100, func(t *testing.T, seed uint64) {
		cfg := standard()
		cfg.Preferred, cfg.Valid = 30*time.Minute, time.Hour
		p := newPair(t, cfg, everything(), seed)
		p.loss, p.echo, p.late = p.rand.Float64()*0.6, p.rand.Float64()*0.3, p.rand.Float64()*0.3
		check := func() {
			t.Helper()
			b := p.c.Binding()
			for _, h := range slices.Concat(b.Addresses, b.Prefixes) {
				if l, ok := p.leases.Get(h.Prefix); !ok || !l.Is(lease.ID(clientDUID), 5) || !l.Current(p.leases.Now()) {
					t.Fatalf("%s uses %v, and the server has %+v at %v", p.c.State(), h, l, p.leases.Now())
				}
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
				switch p.rand.IntN(4) { // and the clock was set: forward, or further back than the leases are old, which can be told
				case 0:
					p.ahead += time.Duration(p.rand.Int64N(int64(2 * time.Hour)))
				case 1:
					p.ahead = 0
					if !before.Received.IsZero() {
						p.ahead = before.Received.Sub(p.now) - time.Minute
					}
				}
				p.c = NewClient(p.c.o, before, p.clientNow())
			default:
				p.turn(20 * time.Minute)
			}
			check()
		}
		p.loss, p.echo, p.late, p.dead = 0, 0, 0, false
		well := func() bool {
			b := p.c.Binding()
			return p.c.State() == "bound" && len(b.Addresses) == 1 && len(b.Prefixes) == 1
		}
		for end := p.now.Add(3 * time.Hour); !well(); check() { // SOL_MAX_RT is one
			if p.now.After(end) {
				t.Fatalf("%s without a fault: %+v", p.c.State(), p.c.Binding())
			}
			p.turn(time.Hour)
		}
	})
}

// clientNow is what the client's clock shows.
func (p *pair) clientNow() time.Time { return p.now.Add(p.ahead) }

// turn lets time pass until the client has something to do, at most for limit, and has it done.
func (p *pair) turn(limit time.Duration) {
	wait := limit
	if next := p.c.Next(); !next.IsZero() {
		wait = min(max(next.Sub(p.clientNow()), 0), limit)
	}
	p.pass(wait)
	if out := p.c.Tick(p.clientNow()); out != nil {
		p.exchange(slices.Clone(out))
	}
}
