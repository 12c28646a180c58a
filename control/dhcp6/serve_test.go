package dhcp6

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bothy/control/lease"
	"bothy/lib/sim"
)

// cable is a Wire in memory.
type cable struct {
	in    chan []byte
	out   chan []byte
	ended chan struct{}
	link  *Link
}

func (c *cable) Receive() ([]Arrival, error) {
	select {
	case b := <-c.in:
		return []Arrival{{Datagram: b, Link: c.link, Source: netip.MustParseAddrPort("[fe80::2]:546"), Multicast: true}}, nil
	case <-c.ended:
		return nil, net.ErrClosed
	}
}

func (c *cable) Send(b []byte, _ netip.AddrPort, _ *Link) error {
	c.out <- slices.Clone(b)
	return nil
}

func (c *cable) Link(string) *Link { return c.link }
func (c *cable) Close() error      { close(c.ended); return nil }

// TestReloadLosesNothing: however often pools, prefixes and options change, each message is answered, and nobody gets what is another's.
func TestReloadLosesNothing(t *testing.T) {
	small := standard()
	small.Subnets[0].Pools[0].Last = netip.MustParseAddr("2001:db8:1::1ff")
	large := standard()
	large.Subnets = append(large.Subnets, SubnetConfig{Prefix: netip.MustParsePrefix("2001:db8:2::/64")})
	large.Subnets[0].Pools = []PoolConfig{{netip.MustParseAddr("2001:db8:1::80"), netip.MustParseAddr("2001:db8:1::2ff")}}
	large.Search = []string{"new.example"}
	store, err := lease.Open(lease.Options{FS: sim.NewDisk(), Dir: "leases"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	server6, err := New(Options{Config: small, Leases: store, DUID: serverDUID, Secret: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{in: make(chan []byte), out: make(chan []byte, 16), ended: make(chan struct{}), link: &Link{Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("2001:db8:1::1/64")}}}
	ctx, stop := context.WithCancel(t.Context())
	ended, done := make(chan error), make(chan struct{})
	go func() { ended <- server6.Run(ctx, c) }()
	var reloads atomic.Int64
	var work sync.WaitGroup
	work.Go(func() {
		for {
			for _, cfg := range []Config{large, small} {
				if err := server6.Reload(cfg, Mail{}); err != nil {
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
	b := &bench{T: t}
	answer := func(kind MessageType, options ...func(*writer)) *Message {
		t.Helper()
		w := &writer{}
		w.start(kind, 7)
		for _, o := range options {
			o(w)
		}
		c.in <- w.b
		select {
		case reply := <-c.out:
			m := &Message{}
			if err := m.Parse(reply); err != nil {
				t.Fatal(err)
			}
			return m
		case <-time.After(20 * time.Second):
			t.Fatalf("%v was not answered", kind)
			return nil
		}
	}
	given := map[netip.Prefix]byte{}
	for i := range byte(100) {
		for reloads.Load() < int64(i)/4 { // one for each few clients
			runtime.Gosched()
		}
		who := func(w *writer) { w.put(ClientID, []byte{0, 3, 0, 1, 2, 0, 0, 0, 1, i}) }
		shown, _ := b.got(answer(Solicit, who, ia(IANonTemporary, 1)), IANonTemporary, 1)
		all, _ := b.got(answer(Request, who, server, ia(IANonTemporary, 1, shown[0].Prefix.Addr().String())), IANonTemporary, 1)
		if other, taken := given[all[0].Prefix]; taken {
			t.Fatalf("client %d has %v, which is client %d's", i, all[0].Prefix, other)
		}
		given[all[0].Prefix] = i
		again, _ := b.got(answer(Renew, who, server, ia(IANonTemporary, 1, all[0].Prefix.Addr().String())), IANonTemporary, 1)
		if len(again) == 0 || again[0].Valid == 0 {
			t.Errorf("client %d has nothing after its Renew: %v", i, again)
		} else if again[0].Prefix != all[0].Prefix { // its pool was taken away
			delete(given, all[0].Prefix)
			given[again[0].Prefix] = i
		}
	}
	close(done)
	work.Wait()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
