package dhcp4

import (
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestReloadLosesNothing: however often pools, subnets and options change, each packet is answered, each offer is kept, and who renews has what he had.
func TestReloadLosesNothing(t *testing.T) {
	small := oneSubnet()
	small.Subnets[0].Pools[0].Last = netip.MustParseAddr("192.0.2.199")
	large := oneSubnet()
	large.Subnets = append(large.Subnets, SubnetConfig{Prefix: netip.MustParsePrefix("198.51.100.0/24")})
	large.Subnets[0].Pools = []PoolConfig{{First: netip.MustParseAddr("192.0.2.100"), Last: netip.MustParseAddr("192.0.2.249")}}
	large.Options = map[string]string{"domain-name": "new.example"}
	large.Hosts = []HostConfig{{Hardware: "02:00:00:00:00:ff", Address: netip.MustParseAddr("192.0.2.250")}}
	s := serve(t, small, nil)
	defer s.stop()
	var work sync.WaitGroup
	done := make(chan struct{})
	var reloads atomic.Int64
	work.Go(func() {
		for {
			for _, cfg := range []Config{large, small} {
				if err := s.server.Reload(cfg, Mail{}); err != nil {
					t.Error(err)
				}
				reloads.Add(1)
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	answer := func(p *Packet, want MessageType) sent {
		t.Helper()
		b, _ := p.AppendTo(nil, MaxSize, false)
		s.in <- b
		select {
		case r := <-s.out:
			if r.Type() != want {
				t.Fatalf("%v to %v", r.Type(), p.Type())
			}
			return r
		case <-time.After(20 * time.Second):
			t.Fatalf("%v was not answered", p.Type())
			return sent{}
		}
	}
	given := map[netip.Addr]byte{}
	for i := range byte(100) {
		for reloads.Load() < int64(i)/4 { // one for each few clients
			runtime.Gosched()
		}
		c := client{mac: i}
		offered := answer(c.packet(Discover, ""), Offer).YIAddr
		ack := answer(c.packet(Request, "", addrOption(RequestedAddress, offered.String()), addrOption(ServerIdentifier, "192.0.2.1")), Ack)
		if other, taken := given[ack.YIAddr]; taken || ack.YIAddr != offered {
			t.Fatalf("client %d was offered %v, has %v, which is client %d's", i, offered, ack.YIAddr, other)
		}
		given[ack.YIAddr] = i
	}
	for a, mac := range given {
		c := client{mac: mac}
		if ack := answer(c.packet(Request, a.String()), Ack); ack.YIAddr != a {
			t.Errorf("%v became %v", a, ack.YIAddr)
		}
	}
	close(done)
	work.Wait()
}
