package dhcp4

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bothy/control/lease"
	"bothy/control/tally"
	"bothy/lib/sim"
)

// cable is a Wire in memory.
type cable struct {
	in    chan []byte
	out   chan sent
	ended chan struct{}
	fail  func(Destination) error
}

type sent struct {
	*Packet
	to Destination
}

func newCable() *cable {
	return &cable{in: make(chan []byte), out: make(chan sent, 100), ended: make(chan struct{})}
}

var eth1 = &Link{Name: "eth1", Index: 2, Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}

func (c *cable) Receive() ([]Received, error) {
	select {
	case p := <-c.in:
		return []Received{{p, Arrival{Link: eth1, Own: func(a netip.Addr) bool { return a == eth1.Addrs[0].Addr() }}}}, nil
	case <-c.ended:
		return nil, net.ErrClosed
	}
}

func (c *cable) Send(b []byte, to Destination) error {
	if c.fail != nil {
		if err := c.fail(to); err != nil {
			return err
		}
	}
	p := new(Packet)
	if err := p.Parse(bytes.Clone(b)); err != nil {
		return err
	}
	c.out <- sent{p, to}
	return nil
}

func (c *cable) Close() error { close(c.ended); return nil }

// service is a Server on a cable, in a synctest bubble.
type service struct {
	*cable
	t      *testing.T
	server *Server
	disk   *sim.Disk
	store  *lease.Store
	log    *bytes.Buffer
	stop   func()
}

func serve(t *testing.T, cfg Config, p Prober) *service {
	t.Helper()
	s := &service{cable: newCable(), t: t, disk: sim.NewDisk(), log: new(bytes.Buffer)}
	var err error
	if s.store, err = lease.Open(lease.Options{FS: s.disk, Dir: "leases", SegmentSize: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	log := slog.New(slog.NewTextHandler(locked{&mu, s.log}, nil))
	if s.server, err = New(Options{Config: cfg, Leases: s.store, Prober: p, Log: log}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.server.Run(ctx, s.cable) }()
	s.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.store.Close()
	}
	return s
}

// locked makes a buffer safe for many.
type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (w locked) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(b)
}

func (s *service) ask(p *Packet) {
	b, _ := p.AppendTo(nil, MaxSize, false)
	s.in <- b
	synctest.Wait()
}

// reply returns what was sent; it fails the test when nothing was.
func (s *service) reply() sent {
	s.t.Helper()
	synctest.Wait()
	select {
	case r := <-s.out:
		return r
	default:
		s.t.Fatalf("nothing was sent\n%s", s.log)
		return sent{}
	}
}

func (s *service) silence() {
	s.t.Helper()
	synctest.Wait()
	select {
	case r := <-s.out:
		s.t.Fatalf("%v was sent", r.Type())
	default:
	}
}

func request(a string, mac byte) *Packet {
	return client{mac: mac}.packet(Request, "", addrOption(RequestedAddress, a), addrOption(ServerIdentifier, "192.0.2.1"))
}

func TestServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, oneSubnet(), nil)
		defer s.stop()
		s.ask(client{mac: 1}.packet(Discover, ""))
		if r := s.reply(); r.Type() != Offer || !r.to.Hardware || r.to.Link != eth1 || r.to.Source != eth1.Addrs[0].Addr() {
			t.Errorf("%v to %+v", r.Type(), r.to)
		}
		s.ask(request("192.0.2.100", 1))
		if r := s.reply(); r.Type() != Ack {
			t.Error(r.Type())
		}
		s.in <- []byte("not a packet")
		s.silence()
		s.ask(client{mac: 9, giaddr: "10.0.0.1"}.packet(Discover, ""))
		s.silence()
		st := s.server.Stats()
		if st.Unanswered[WhyMalformed] != 1 || st.Unanswered[WhyNoSubnet] != 1 || st.Sent[Ack] != 1 || st.Received[Discover] != 2 {
			t.Errorf("%+v", st)
		}
		if !strings.Contains(s.log.String(), string(WhyNoSubnet)) || !strings.Contains(s.log.String(), "lease bound") {
			t.Errorf("log: %s", s.log)
		}
	})
}

// TestEveryDHCPACKIsOnDisk: RFC 2131 §3.1: the binding is on the disk before the DHCPACK.
func TestEveryDHCPACKIsOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := oneSubnet()
		cfg.Subnets[0].Pools[0].Last = netip.MustParseAddr("192.0.2.199")
		s := serve(t, cfg, nil)
		defer s.stop()
		for mac := range byte(40) {
			s.ask(client{mac: mac}.packet(Discover, ""))
			offer := s.reply()
			s.ask(request(offer.YIAddr.String(), mac))
			if r := s.reply(); r.Type() != Ack || r.YIAddr != offer.YIAddr {
				t.Fatalf("%v %v", r.Type(), r.YIAddr)
			}
			after, err := lease.Open(lease.Options{FS: s.disk.Afterwards(sim.Synced, 0), Dir: "leases", SegmentSize: 64 << 10})
			if err != nil {
				t.Fatal(err)
			}
			if l, ok := after.Get(lease.Host(offer.YIAddr)); !ok || !l.Current(after.Now()) || l.Hardware[5] != mac {
				t.Errorf("%v: acknowledged and not on disk", offer.YIAddr)
			}
			after.Close()
		}
	})
}

// TestNothingIsAcknowledgedWithoutTheDisk: RFC 2131 §3.1: when the disk fails nothing is acknowledged.
func TestNothingIsAcknowledgedWithoutTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, oneSubnet(), nil)
		s.ask(client{mac: 1}.packet(Discover, ""))
		s.reply()
		s.disk.Fail = func(op sim.Op) error {
			if op.Call == "sync" {
				return syscall.EIO
			}
			return nil
		}
		s.ask(request("192.0.2.100", 1))
		s.silence()
		s.ask(request("192.0.2.101", 2))
		s.silence()
		if n := s.server.Stats().Unanswered[WhyStore]; n != 2 {
			t.Errorf("%d", n)
		}
		s.stop()
	})
}

// TestFallBackToBroadcast: RFC 2131 §4.1: where unicasting is not possible, 255.255.255.255.
func TestFallBackToBroadcast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, oneSubnet(), nil)
		defer s.stop()
		s.fail = func(to Destination) error {
			if to.Hardware {
				return errors.New("not possible")
			}
			return nil
		}
		s.ask(client{mac: 1}.packet(Discover, ""))
		if r := s.reply(); r.to.Hardware || r.to.AddrPort != netip.MustParseAddrPort("255.255.255.255:68") {
			t.Errorf("%+v", r.to)
		}
	})
}

// neighbours are who answers for which address.
type neighbours struct {
	mu    sync.Mutex
	there map[string]bool
	asked []string
}

func (n *neighbours) InUse(ctx context.Context, q Question) (bool, error) {
	n.mu.Lock()
	n.asked = append(n.asked, q.Addr.String())
	there := n.there[q.Addr.String()]
	n.mu.Unlock()
	if there {
		return true, nil
	}
	<-ctx.Done()
	return false, nil
}

// TestProbes: RFC 2131 §3.1: before an address is offered it is asked whether somebody uses it.
func TestProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := oneSubnet()
		cfg.Probe = 250 * time.Millisecond
		n := &neighbours{there: map[string]bool{"192.0.2.100": true}}
		s := serve(t, cfg, n)
		defer s.stop()
		start := time.Now()
		s.ask(client{mac: 1}.packet(Discover, ""))
		s.silence()
		s.ask(client{mac: 1}.packet(Discover, "")) // the client repeats itself
		s.silence()
		if r := <-s.out; r.YIAddr != netip.MustParseAddr("192.0.2.101") || time.Since(start) != cfg.Probe {
			t.Errorf("%v after %v", r.YIAddr, time.Since(start))
		}
		s.silence()
		if st := s.server.Stats(); st.Conflicts != 1 || st.Unanswered[WhyProbing] != 1 || len(n.asked) != 2 {
			t.Errorf("%+v, asked for %v", st, n.asked)
		}
		if l, ok := s.store.Get(lease.Host(netip.MustParseAddr("192.0.2.100"))); !ok || l.State != lease.Declined {
			t.Errorf("%+v", l)
		}
		n.there = map[string]bool{"192.0.2.102": true, "192.0.2.103": true}
		s.ask(client{mac: 2}.packet(Discover, ""))
		s.silence()
		if why := s.server.Stats().Unanswered[WhyNoAddress]; why != 1 {
			t.Errorf("%v", s.server.Stats())
		}
	})
}

func TestMoreProbesThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := oneSubnet()
		cfg.Probe = time.Second
		cfg.Subnets[0].Pools[0].Last = netip.MustParseAddr("192.0.2.199")
		s := serve(t, cfg, &neighbours{})
		defer s.stop()
		for i := range maxProbes {
			s.ask(client{mac: byte(i)}.packet(Discover, ""))
		}
		s.silence()
		s.ask(client{mac: 200}.packet(Discover, ""))
		if r := s.reply(); r.Type() != Offer {
			t.Error(r.Type())
		}
	})
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := oneSubnet()
		s := serve(t, cfg, nil)
		defer s.stop()
		s.ask(client{mac: 1}.packet(Discover, ""))
		s.reply()
		cfg.Subnets[0].Options = map[string]string{"domain-name": "new.example"}
		if err := s.server.Reload(cfg, Mail{}); err != nil {
			t.Fatal(err)
		}
		s.ask(client{mac: 2}.packet(Discover, ""))
		r := s.reply()
		if v, _ := r.Get(15); string(v) != "new.example" || r.YIAddr != netip.MustParseAddr("192.0.2.101") {
			t.Errorf("%v, %q: the offer to the first client was forgotten", r.YIAddr, v)
		}
		cfg.MinLease = 90 * time.Hour
		if err := s.server.Reload(cfg, Mail{}); err == nil {
			t.Error("taken")
		}
	})
}

func TestStopSendsWhatWasDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := oneSubnet()
		cfg.Probe = time.Second
		s := serve(t, cfg, &neighbours{})
		s.ask(client{mac: 1}.packet(Discover, ""))
		s.stop() // ends the probe too
		if r := s.reply(); r.Type() != Offer {
			t.Error(r.Type())
		}
	})
}

func TestQuietUnderAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, oneSubnet(), nil)
		defer s.stop()
		for range 1000 {
			s.ask(client{mac: 9, giaddr: "10.0.0.1"}.packet(Discover, ""))
		}
		if n := strings.Count(s.log.String(), "packet not answered"); n != tally.LinesASecond {
			t.Errorf("%d lines", n)
		}
		time.Sleep(time.Second)
		s.ask(client{mac: 9, giaddr: "10.0.0.1"}.packet(Discover, ""))
		if !strings.Contains(s.log.String(), `"more packets not answered" count=980`) {
			t.Error("those without a line are not counted")
		}
	})
}

// TestAddressesUsedUp: RFC 2131 §4.3.1: a hundred thousand clients that are not there meet silence once the addresses are used up; the operator hears of it
// once, and nothing grows.
func TestAddressesUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, oneSubnet(), nil)
		defer s.stop()
		for i := range 100_000 {
			p := client{}.packet(Discover, "")
			binary.BigEndian.PutUint32(p.CHAddr[1:], uint32(i))
			b, _ := p.AppendTo(nil, MaxSize, false)
			s.in <- b
		}
		synctest.Wait()
		st, m := s.server.Stats(), s.server.machine
		if st.Sent[Offer] != 4 || st.Unanswered[WhyNoAddress] != 99_996 || len(st.Sent) != 1 {
			t.Errorf("%+v", st)
		}
		if len(m.offers) != 4 || len(m.offered) != 4 || len(m.queue) != 4 {
			t.Errorf("%d offers, by client %d, by age %d", len(m.offers), len(m.offered), len(m.queue))
		}
		if n := strings.Count(s.log.String(), "addresses are used up"); n != 1 {
			t.Errorf("%d words to the operator", n)
		}
	})
}
