package dhcp4

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"bothy/control/lease"
	"bothy/lib/sim"
)

// world is a server without sockets: one machine, its store, a clock.
type world struct {
	t     testing.TB
	m     *machine
	store *lease.Store
	now   time.Time
	start time.Time
	link  Link
}

func (w *world) clock() (time.Time, time.Duration) { return w.now, w.now.Sub(w.start) }

func newWorld(t testing.TB, cfg Config) *world {
	t.Helper()
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	w := &world{t: t, now: start, start: start, link: Link{Name: "eth1", Index: 2, Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}}
	var err error
	if w.store, err = lease.Open(lease.Options{FS: sim.NewDisk(), Dir: "leases", SegmentSize: 64 << 10, Clock: w.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	plan := newPlan(cfg, func(key string, err error) { t.Fatalf("%s: %v", key, err) })
	w.m = newMachine(plan, w.store, Mail{SMTP: []netip.Addr{netip.IPv4Unspecified()}, POP3: []netip.Addr{netip.MustParseAddr("192.0.2.70")}})
	return w
}

// oneSubnet is 192.0.2.0/24 with the pool .100 to .103.
func oneSubnet() Config {
	return Config{Subnets: []SubnetConfig{{
		Prefix:  netip.MustParsePrefix("192.0.2.0/24"),
		Pools:   []PoolConfig{{First: netip.MustParseAddr("192.0.2.100"), Last: netip.MustParseAddr("192.0.2.103")}},
		Options: map[string]string{"routers": "192.0.2.1"},
	}}}
}

// client sends packets.
type client struct {
	mac    byte
	id     string // client identifier
	giaddr string
	flags  uint16
	direct bool
	source string
	more   []Option
}

func (c client) packet(kind MessageType, ciaddr string, more ...Option) *Packet {
	p := &Packet{Op: BootRequest, HType: 1, HLen: 6, XID: 0x1234, Flags: c.flags, CHAddr: [16]byte{2, 0, 0, 0, 0, c.mac}}
	if ciaddr != "" {
		p.CIAddr = netip.MustParseAddr(ciaddr)
	}
	if c.giaddr != "" {
		p.GIAddr = netip.MustParseAddr(c.giaddr)
	}
	if kind != 0 {
		p.Set(MessageTypeOption, []byte{byte(kind)})
	}
	if c.id != "" {
		p.Set(ClientIdentifier, []byte(c.id))
	}
	p.Options = append(append(p.Options, c.more...), more...)
	return p
}

func addrOption(code Code, a string) Option {
	return Option{code, netip.MustParseAddr(a).AsSlice()}
}

func timeOption(seconds uint32) Option {
	return Option{LeaseTime, binary.BigEndian.AppendUint32(nil, seconds)}
}

func (w *world) send(c client, p *Packet) Outcome {
	a := &Arrival{Packet: p, Link: &w.link, Direct: c.direct, Own: func(a netip.Addr) bool { return holdsOne(netip.PrefixFrom(a, 32), w.link.Addrs) }}
	if c.source != "" {
		a.Source = netip.MustParseAddr(c.source)
	}
	out := w.m.decide(w.store.Now(), a, netip.Addr{})
	if err := out.Commit.Wait(); err != nil {
		w.t.Fatal(err)
	}
	if out.Reply != nil { // it is valid until the next decision only
		kept := *out.Reply
		kept.Options = slices.Clone(kept.Options)
		for i := range kept.Options {
			kept.Options[i].Value = bytes.Clone(kept.Options[i].Value)
		}
		out.Reply = &kept
	}
	return out
}

// said is an outcome in a word: the reply's type and address, or why there is none.
func said(out Outcome) string {
	switch {
	case out.Probe.IsValid():
		return "probe " + out.Probe.String()
	case out.Reply == nil && out.Why == "":
		return out.Note
	case out.Reply == nil:
		return string(out.Why)
	case out.Reply.Type() == Nak:
		return out.Note
	case !given(out.Reply.YIAddr):
		return out.Reply.Type().String()
	}
	return out.Reply.Type().String() + " " + out.Reply.YIAddr.String()
}

func (w *world) expect(want string, out Outcome) {
	w.t.Helper()
	if got := said(out); got != want {
		w.t.Errorf("%q, want %q", got, want)
	}
}

func (w *world) discover(c client, more ...Option) Outcome {
	return w.send(c, c.packet(Discover, "", more...))
}

func (w *world) selecting(c client, a string, more ...Option) Outcome {
	return w.send(c, c.packet(Request, "", append(more, addrOption(ServerIdentifier, "192.0.2.1"), addrOption(RequestedAddress, a))...))
}

func (w *world) reboot(c client, a string, more ...Option) Outcome {
	return w.send(c, c.packet(Request, "", append(more, addrOption(RequestedAddress, a))...))
}

func (w *world) renew(c client, a string, more ...Option) Outcome {
	c.direct = true
	return w.send(c, c.packet(Request, a, more...))
}

func (w *world) rebind(c client, a string) Outcome { return w.send(c, c.packet(Request, a)) }

// bind is the whole exchange.
func (w *world) bind(c client, want string) {
	w.t.Helper()
	w.expect("DHCPOFFER "+want, w.discover(c))
	w.expect("DHCPACK "+want, w.selecting(c, want))
}

func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }

func granted(out Outcome) time.Duration {
	n, _ := out.Reply.Uint32(LeaseTime)
	return time.Duration(n) * time.Second
}

// TestChoice: RFC 2131 §4.3.1: the current binding, the previous one if it is free, the requested address, a new one; offers are held, and no longer.
func TestChoice(t *testing.T) {
	t.Run("new ones in turn", func(t *testing.T) {
		w := newWorld(t, oneSubnet())
		for i := range 4 {
			w.bind(client{mac: byte(i)}, fmt.Sprintf("192.0.2.%d", 100+i))
		}
		w.expect(string(WhyNoAddress), w.discover(client{mac: 9}))
	})
	t.Run("current binding before requested", func(t *testing.T) {
		w := newWorld(t, oneSubnet())
		w.bind(client{mac: 1}, "192.0.2.100")
		w.expect("DHCPOFFER 192.0.2.100", w.discover(client{mac: 1}, addrOption(RequestedAddress, "192.0.2.103")))
	})
	t.Run("previous binding if free", func(t *testing.T) {
		w := newWorld(t, oneSubnet())
		w.bind(client{mac: 1}, "192.0.2.100")
		w.pass(48 * time.Hour)
		w.expect("DHCPOFFER 192.0.2.100", w.discover(client{mac: 1}, addrOption(RequestedAddress, "192.0.2.103")))
		w.pass(time.Minute)
		w.bind(client{mac: 2}, "192.0.2.101") // never used before used before
	})
	t.Run("previous binding taken", func(t *testing.T) {
		w := newWorld(t, oneSubnet())
		w.bind(client{mac: 1}, "192.0.2.100")
		w.pass(48 * time.Hour)
		w.expect("DHCPOFFER 192.0.2.100", w.discover(client{mac: 2}, addrOption(RequestedAddress, "192.0.2.100")))
		w.expect("DHCPACK 192.0.2.100", w.selecting(client{mac: 2}, "192.0.2.100"))
		w.bind(client{mac: 1}, "192.0.2.101")
	})
	t.Run("requested", func(t *testing.T) {
		w := newWorld(t, oneSubnet())
		w.expect("DHCPOFFER 192.0.2.103", w.discover(client{mac: 1}, addrOption(RequestedAddress, "192.0.2.103")))
		w.expect("DHCPOFFER 192.0.2.100", w.discover(client{mac: 2}, addrOption(RequestedAddress, "192.0.2.103"))) // offered to another
		w.expect("DHCPOFFER 192.0.2.101", w.discover(client{mac: 3}, addrOption(RequestedAddress, "192.0.2.1")))   // ours
		w.expect("DHCPOFFER 192.0.2.102", w.discover(client{mac: 4}, addrOption(RequestedAddress, "192.0.2.50")))  // in no pool
	})
	t.Run("released is free again", func(t *testing.T) {
		w := newWorld(t, oneSubnet())
		for i := range 4 {
			w.bind(client{mac: byte(i)}, fmt.Sprintf("192.0.2.%d", 100+i))
		}
		c := client{mac: 2, direct: true}
		w.expect("released", w.send(c, c.packet(Release, "192.0.2.102", addrOption(ServerIdentifier, "192.0.2.1"))))
		w.bind(client{mac: 9}, "192.0.2.102")
	})
	t.Run("offers are held, and no longer", func(t *testing.T) {
		w := newWorld(t, oneSubnet())
		for i := range 4 {
			w.expect(fmt.Sprintf("DHCPOFFER 192.0.2.%d", 100+i), w.discover(client{mac: byte(i)}))
		}
		w.expect(string(WhyNoAddress), w.discover(client{mac: 9}))
		w.expect("DHCPOFFER 192.0.2.102", w.discover(client{mac: 2})) // the same again
		w.pass(31 * time.Second)
		w.expect("DHCPOFFER 192.0.2.100", w.discover(client{mac: 9}))
	})
	t.Run("another server chosen frees the offer", func(t *testing.T) {
		w := newWorld(t, oneSubnet())
		w.expect("DHCPOFFER 192.0.2.100", w.discover(client{mac: 1}))
		c := client{mac: 1}
		w.expect(string(WhyOtherServer), w.send(c, c.packet(Request, "", addrOption(ServerIdentifier, "192.0.2.2"), addrOption(RequestedAddress, "192.0.2.222"))))
		w.expect("DHCPOFFER 192.0.2.100", w.discover(client{mac: 2}))
	})
}

// TestLeaseTime: RFC 2131 §4.3.1: the time asked for within the bounds, else what is left, else the default; RFC 2131 §4.4.5: T1 and T2 lie before the end, with some fuzz.
func TestLeaseTime(t *testing.T) {
	w := newWorld(t, oneSubnet())
	c := client{mac: 1}
	check := func(name string, out Outcome, want time.Duration) {
		t.Helper()
		if got := granted(out); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	check("none asked, none had", w.discover(c), 12*time.Hour)
	check("asked", w.discover(c, timeOption(7200)), 2*time.Hour)
	check("asked too little", w.discover(c, timeOption(1)), 2*time.Minute)
	check("asked for ever", w.discover(c, timeOption(0xffffffff)), 24*time.Hour)
	check("bound", w.selecting(c, "192.0.2.100"), 12*time.Hour)
	w.pass(3 * time.Hour)
	check("none asked, one had: what is left", w.discover(c), 9*time.Hour)
	check("and the same when selecting", w.selecting(c, "192.0.2.100"), 9*time.Hour)
	check("asked, one had", w.discover(c, timeOption(3600)), time.Hour)
	check("INIT-REBOOT extends", w.reboot(c, "192.0.2.100"), 12*time.Hour)
	w.pass(12*time.Hour - 5*time.Second)
	check("what is left, but not less than the least", w.discover(c), 2*time.Minute)
	check("RENEWING extends", w.renew(c, "192.0.2.100"), 12*time.Hour)
	check("RENEWING, asked", w.renew(c, "192.0.2.100", timeOption(600)), 10*time.Minute)
	out := w.rebind(c, "192.0.2.100")
	check("REBINDING extends", out, 12*time.Hour)
	t1, _ := out.Reply.Uint32(RenewalTime)
	t2, _ := out.Reply.Uint32(RebindingTime)
	if t1 > 6*3600 || t1 < 5*3600 || t2 > 12*3600*7/8 || t2 < 9*3600 { // RFC 2131 §4.4.5
		t.Errorf("T1 %d, T2 %d", t1, t2)
	}
	l, _ := w.store.Get(lease.Host(netip.MustParseAddr("192.0.2.100")))
	if want := w.now.Add(12*time.Hour + slack); !l.Expires.Equal(want) {
		t.Errorf("committed until %v, want %v", l.Expires, want)
	}
}

// TestRequest: RFC 2131 §4.3.2: SELECTING, INIT-REBOOT, RENEWING and REBINDING, each confirmed, refused, or met with silence where there is no record.
func TestRequest(t *testing.T) {
	mine, other, stranger := client{mac: 1}, client{mac: 2}, client{mac: 3}
	for _, c := range []struct {
		name string
		do   func(w *world) Outcome
		want string
	}{
		{"SELECTING without an offer, address free", func(w *world) Outcome { return w.selecting(stranger, "192.0.2.102") }, "DHCPACK 192.0.2.102"},
		{"SELECTING another's address", func(w *world) Outcome { return w.selecting(stranger, "192.0.2.100") }, "refused: address not available"},
		{"SELECTING outside the pools", func(w *world) Outcome { return w.selecting(stranger, "192.0.2.50") }, "refused: address not available"},
		{"SELECTING on another network", func(w *world) Outcome { return w.selecting(stranger, "198.51.100.9") }, "refused: wrong network"},
		{"INIT-REBOOT", func(w *world) Outcome { return w.reboot(mine, "192.0.2.100") }, "DHCPACK 192.0.2.100"},
		{"INIT-REBOOT, expired and free", func(w *world) Outcome { w.pass(48 * time.Hour); return w.reboot(mine, "192.0.2.100") }, "DHCPACK 192.0.2.100"},
		{"INIT-REBOOT, wrong address", func(w *world) Outcome { return w.reboot(mine, "192.0.2.103") }, "refused: not your address"},
		{"INIT-REBOOT, another's address", func(w *world) Outcome { return w.reboot(mine, "192.0.2.101") }, "refused: not your address"},
		{"INIT-REBOOT, wrong network", func(w *world) Outcome { return w.reboot(stranger, "198.51.100.9") }, "refused: wrong network"},
		{"INIT-REBOOT, no record: silence", func(w *world) Outcome { return w.reboot(stranger, "192.0.2.103") }, string(WhyNoRecord)},
		{"RENEWING", func(w *world) Outcome { return w.renew(mine, "192.0.2.100") }, "DHCPACK 192.0.2.100"},
		{"RENEWING another's", func(w *world) Outcome { return w.renew(other, "192.0.2.100") }, "refused: not your address"},
		{"RENEWING what we never gave", func(w *world) Outcome { return w.renew(stranger, "192.0.2.102") }, "refused: not your address"},
		{"REBINDING", func(w *world) Outcome { return w.rebind(mine, "192.0.2.100") }, "DHCPACK 192.0.2.100"},
		{"REBINDING another's", func(w *world) Outcome { return w.rebind(stranger, "192.0.2.100") }, "refused: not your address"},
		{"REBINDING what we never gave: silence", func(w *world) Outcome { return w.rebind(stranger, "192.0.2.102") }, string(WhyNoRecord)},
		{"REBINDING on another network", func(w *world) Outcome { return w.rebind(mine, "198.51.100.9") }, "refused: wrong network"},
		{"naming us when renewing", func(w *world) Outcome { return w.renew(mine, "192.0.2.100", addrOption(ServerIdentifier, "192.0.2.1")) }, "DHCPACK 192.0.2.100"},
		{"no address at all", func(w *world) Outcome { return w.send(mine, mine.packet(Request, "")) }, string(WhyIncomplete)},
		{"RENEWING from behind a router", func(w *world) Outcome {
			w.link.Addrs = []netip.Prefix{netip.MustParsePrefix("203.0.113.1/24")}
			return w.renew(mine, "192.0.2.100")
		}, "DHCPACK 192.0.2.100"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, oneSubnet())
			w.bind(mine, "192.0.2.100")
			w.bind(other, "192.0.2.101")
			w.t = t
			w.expect(c.want, c.do(w))
		})
	}
}

// TestRefusal: RFC 2131 §4.3.2: a DHCPNAK goes out by broadcast, through a relay agent with the BROADCAST bit; RFC 6842 §3: with the client identifier.
func TestRefusal(t *testing.T) {
	w := newWorld(t, oneSubnet())
	out := w.reboot(client{mac: 1, id: "\x00clinic"}, "198.51.100.9")
	if out.To.AddrPort != netip.MustParseAddrPort("255.255.255.255:68") || out.Reply.Broadcast() || out.To.Hardware {
		t.Errorf("%+v", out.To)
	}
	if m, _ := out.Reply.Get(Message); string(m) != "wrong network" {
		t.Errorf("message %q", m)
	}
	if id, _ := out.Reply.Get(ClientIdentifier); string(id) != "\x00clinic" { // RFC 6842 §3
		t.Errorf("client identifier %q", id)
	}
	out = w.reboot(client{mac: 1, giaddr: "192.0.2.254", direct: true}, "198.51.100.9")
	if out.To.AddrPort != netip.MustParseAddrPort("192.0.2.254:67") || !out.Reply.Broadcast() {
		t.Errorf("to a relay: %+v, broadcast %v", out.To, out.Reply.Broadcast())
	}
}

// TestDestination: RFC 2131 §4.1: giaddr before ciaddr before the BROADCAST bit; else to yiaddr at chaddr.
func TestDestination(t *testing.T) {
	w := newWorld(t, oneSubnet())
	w.bind(client{mac: 1}, "192.0.2.100")
	ipoib := client{mac: 1, id: "\x01\x02\x00\x00\x00\x00\x01"}
	short := ipoib.packet(Discover, "")
	short.HLen = 0
	inform := client{mac: 5, giaddr: "192.0.2.254"}
	lost := client{mac: 5, source: "192.0.2.77"}
	for _, c := range []struct {
		name     string
		out      Outcome
		to       string
		hardware bool
	}{
		{"neither: chaddr and yiaddr", w.discover(client{mac: 1}), "192.0.2.100:68", true},
		{"BROADCAST", w.discover(client{mac: 1, flags: 0x8000}), "255.255.255.255:68", false},
		{"giaddr", w.discover(client{mac: 1, giaddr: "192.0.2.254"}), "192.0.2.254:67", false},
		{"giaddr before BROADCAST", w.discover(client{mac: 1, giaddr: "192.0.2.254", flags: 0x8000}), "192.0.2.254:67", false},
		{"ciaddr before BROADCAST", w.rebind(client{mac: 1, flags: 0x8000}, "192.0.2.100"), "192.0.2.100:68", false},
		{"giaddr before ciaddr", w.rebind(client{mac: 1, giaddr: "192.0.2.254"}, "192.0.2.100"), "192.0.2.254:67", false},
		{"no Ethernet", w.send(ipoib, short), "255.255.255.255:68", false},
		{"INFORM: directly", w.send(inform, inform.packet(Inform, "192.0.2.77")), "192.0.2.77:68", false},
		{"INFORM without ciaddr", w.send(lost, lost.packet(Inform, "")), "192.0.2.77:68", false},
	} {
		if c.out.Reply == nil || c.out.To.AddrPort != netip.MustParseAddrPort(c.to) || c.out.To.Hardware != c.hardware {
			t.Errorf("%s: %+v (%s)", c.name, c.out.To, c.out.Why)
		}
	}
}

// TestDecline: RFC 2131 §4.3.3: a declined address is given to nobody for a time, and only who holds it can decline it.
func TestDecline(t *testing.T) {
	w := newWorld(t, oneSubnet())
	c := client{mac: 1}
	decline := func(c client, a string) Outcome {
		return w.send(c, c.packet(Decline, "", addrOption(RequestedAddress, a), addrOption(ServerIdentifier, "192.0.2.1")))
	}
	w.bind(c, "192.0.2.100")
	w.expect(string(WhyNotHeld), decline(client{mac: 2}, "192.0.2.100"))
	w.expect("declined", decline(c, "192.0.2.100"))
	w.bind(c, "192.0.2.101")
	w.expect("refused: not your address", w.reboot(c, "192.0.2.100"))
	for _, a := range []string{"192.0.2.101", "192.0.2.102", "192.0.2.103"} {
		w.expect("declined", decline(c, a))
		w.discover(c)
		w.selecting(c, fmt.Sprint("192.0.2.", 1+a[len(a)-1]-'0'+100))
	}
	w.expect(string(WhyNoAddress), w.discover(client{mac: 2}))
	w.pass(10 * time.Minute)
	w.bind(client{mac: 2}, "192.0.2.100")
	pinned := netip.MustParseAddr("192.0.2.100") // even a pinned address is in quarantine
	if _, err := w.store.Pin(lease.Host(pinned), true); err != nil {
		t.Fatal(err)
	}
	w.expect("declined", decline(client{mac: 2}, "192.0.2.100"))
	w.bind(client{mac: 2}, "192.0.2.101")
	w.pass(10 * time.Minute)
	w.expect("refused: not your address", w.reboot(client{mac: 2}, "192.0.2.100"))
	w.expect("DHCPACK 192.0.2.100", w.selecting(client{mac: 2}, "192.0.2.100"))
	big := oneSubnet()
	big.Subnets[0].Pools[0].Last = netip.MustParseAddr("192.0.2.199")
	w = newWorld(t, big)
	for i := range maxDeclines { // a client in a loop
		w.bind(c, fmt.Sprint("192.0.2.", 100+i))
		w.expect("declined", decline(c, fmt.Sprint("192.0.2.", 100+i)))
	}
	w.bind(c, "192.0.2.104")
	w.expect(string(WhyDeclines), decline(c, "192.0.2.104"))
}

// TestIdentity: RFC 2131 §4.2: the client identifier counts, and chaddr only where there is none.
func TestIdentity(t *testing.T) {
	w := newWorld(t, oneSubnet())
	w.bind(client{mac: 1, id: "\x00a"}, "192.0.2.100")
	w.bind(client{mac: 1, id: "\x00b"}, "192.0.2.101") // the same hardware
	w.bind(client{mac: 2, id: "\x00a"}, "192.0.2.100") // other hardware
	w.bind(client{mac: 7}, "192.0.2.102")
	w.bind(client{mac: 7, id: "\x01\x02\x00\x00\x00\x00\x07"}, "192.0.2.102") // type 1 and the address: the same client
	nobody := client{}.packet(Discover, "")
	nobody.CHAddr = [16]byte{}
	w.expect(string(WhyNobody), w.send(client{}, nobody))
	by := oneSubnet()
	by.ByHardware = true
	w = newWorld(t, by)
	w.bind(client{mac: 1, id: "\x00a"}, "192.0.2.100")
	w.bind(client{mac: 1, id: "\x00b"}, "192.0.2.100")
}

// TestRelays: RFC 2131 §4.3.1: giaddr chooses the subnet; RFC 3046 §2.2: relay agent information is echoed.
func TestRelays(t *testing.T) {
	cfg := oneSubnet()
	cfg.Subnets = append(cfg.Subnets, SubnetConfig{
		Prefix: netip.MustParsePrefix("198.51.100.0/24"), Network: "barn",
		Pools:   []PoolConfig{{First: netip.MustParseAddr("198.51.100.10"), Last: netip.MustParseAddr("198.51.100.10")}},
		Options: map[string]string{"routers": "198.51.100.1"},
	}, SubnetConfig{
		Prefix: netip.MustParsePrefix("203.0.113.0/24"), Network: "barn",
		Pools:   []PoolConfig{{First: netip.MustParseAddr("203.0.113.10"), Last: netip.MustParseAddr("203.0.113.10")}},
		Options: map[string]string{"routers": "203.0.113.1"},
	})
	w := newWorld(t, cfg)
	relay := Option{RelayAgentInformation, []byte{1, 2, 'p', '7', 99, 1, 0}}
	c := client{mac: 1, giaddr: "198.51.100.1"}
	out := w.discover(c, relay)
	w.expect("DHCPOFFER 198.51.100.10", out)
	b, _ := out.Reply.AppendTo(nil, out.Limit, true)
	if !bytes.Contains(b, append([]byte{82, 7, 1, 2, 'p', '7', 99, 1, 0}, 255)) {
		t.Error("option 82 is not the last one")
	}
	w.expect("DHCPACK 198.51.100.10", w.selecting(c, "198.51.100.10", relay))
	if l, _ := w.store.Get(lease.Host(netip.MustParseAddr("198.51.100.10"))); !bytes.Equal(l.Data, relay.Value) {
		t.Errorf("RFC 3046 §3.1: %q", l.Data)
	}
	second := client{mac: 2, giaddr: "198.51.100.1"}
	out = w.discover(second)
	w.expect("DHCPOFFER 203.0.113.10", out) // the other subnet of the network
	if r, _ := out.Reply.Get(Router); !bytes.Equal(r, []byte{203, 0, 113, 1}) {
		t.Errorf("router %v: of the wrong subnet", r)
	}
	w.expect(string(WhyNoSubnet), w.discover(client{mac: 3, giaddr: "10.0.0.1"}))
	far := client{mac: 3, giaddr: "198.51.100.1"}.packet(Discover, "")
	far.Hops = 17
	w.expect(string(WhyHops), w.send(client{}, far))
	w.expect("refused: wrong network", w.reboot(client{mac: 1}, "198.51.100.10")) // moved to our own wire
}

func TestHosts(t *testing.T) {
	cfg := oneSubnet()
	cfg.Hosts = []HostConfig{
		{Hardware: "02:00:00:00:00:01", Address: netip.MustParseAddr("192.0.2.101"), Name: "printer"},
		{ClientID: "00:61", Address: netip.MustParseAddr("192.0.2.9"), BootFile: "boot/a", NextServer: netip.MustParseAddr("192.0.2.5")},
		{Hardware: "02:00:00:00:00:03"},
	}
	w := newWorld(t, cfg)
	w.bind(client{mac: 5}, "192.0.2.100")
	w.bind(client{mac: 6}, "192.0.2.102") // .101 is reserved
	w.bind(client{mac: 1, id: "\x00x"}, "192.0.2.101")
	w.bind(client{mac: 2, id: "\x00a"}, "192.0.2.9")
	out := w.discover(client{mac: 2, id: "\x00a"})
	if text(out.Reply.File[:]) != "boot/a" || out.Reply.SIAddr != netip.MustParseAddr("192.0.2.5") {
		t.Errorf("file %q, next server %v", text(out.Reply.File[:]), out.Reply.SIAddr)
	}
	out = w.discover(client{mac: 1})
	if name, _ := out.Reply.Get(HostName); string(name) != "printer" {
		t.Errorf("host name %q", name)
	}
	w.expect("refused: not your address", w.reboot(client{mac: 1}, "192.0.2.103"))
	w.expect("refused: address not available", w.selecting(client{mac: 7}, "192.0.2.101"))

	// one that got an address before it was reserved for another
	w = newWorld(t, oneSubnet())
	w.bind(client{mac: 5}, "192.0.2.100")
	cfg.Hosts = []HostConfig{{Hardware: "02:00:00:00:00:01", Address: netip.MustParseAddr("192.0.2.100")}, {Hardware: "02:00:00:00:00:05"}}
	w.m.replan(newPlan(cfg, func(key string, err error) { t.Fatal(key, err) }), Mail{})
	w.bind(client{mac: 1}, "192.0.2.101") // not while the other holds it
	w.expect("refused: not your address", w.renew(client{mac: 5}, "192.0.2.100"))
	w.pass(13 * time.Hour)
	w.bind(client{mac: 1}, "192.0.2.100")
	w.expect("refused: another address is reserved for you", w.renew(client{mac: 1}, "192.0.2.101"))

	cfg.KnownOnly = true
	w = newWorld(t, cfg)
	w.expect(string(WhyUnknown), w.discover(client{mac: 9}))
	w.bind(client{mac: 5}, "192.0.2.101")
}

// TestOptionsByLayer: RFC 2131 §4.3.1: a host's options before those of its class, its subnet, and all.
func TestOptionsByLayer(t *testing.T) {
	cfg := oneSubnet()
	cfg.MailServers = true
	cfg.Options = map[string]string{"domain-name": "all.example", "ntp-servers": "192.0.2.42", "224": "01"}
	cfg.Subnets[0].Options = map[string]string{"domain-name": "subnet.example", "routers": "192.0.2.1", "log-servers": "192.0.2.7"}
	cfg.Subnets[0].Pools = append(cfg.Subnets[0].Pools, PoolConfig{First: netip.MustParseAddr("192.0.2.200"), Last: netip.MustParseAddr("192.0.2.200"), Class: "meter"})
	cfg.Classes = []ClassConfig{{Name: "meter", VendorClass: "anacapa", Options: map[string]string{"domain-name": "class.example", "log-servers": "192.0.2.8"}}}
	cfg.Hosts = []HostConfig{{Hardware: "02:00:00:00:00:01", Options: map[string]string{"domain-name": "host.example"}}}
	w := newWorld(t, cfg)
	get := func(out Outcome, code Code) string { v, _ := out.Reply.Get(code); return string(v) }
	meter := Option{VendorClassIdentifier, []byte("anacapa")}
	for _, c := range []struct {
		name   string
		out    Outcome
		domain string
		log    byte
	}{
		{"subnet", w.discover(client{mac: 9}), "subnet.example", 7},
		{"class", w.discover(client{mac: 9}, meter), "class.example", 8},
		{"class, not exact", w.discover(client{mac: 9}, Option{VendorClassIdentifier, []byte("anacapa2")}), "subnet.example", 7},
		{"host", w.discover(client{mac: 1}, meter), "host.example", 8},
	} {
		if get(c.out, 15) != c.domain || get(c.out, 7) != string([]byte{192, 0, 2, c.log}) || get(c.out, 42) == "" {
			t.Errorf("%s: %q, %q", c.name, get(c.out, 15), get(c.out, 7))
		}
	}
	out := w.discover(client{mac: 9}, Option{ParameterRequestList, []byte{224, 70, 69, 1, 28, 20, 225, 51, 12}})
	var codes []Code
	for _, o := range out.Reply.Options {
		codes = append(codes, o.Code)
	}
	if fmt.Sprint(codes) != "[message-type server-identifier lease-time renewal-time rebinding-time subnet-mask 224 pop3-servers smtp-servers broadcast-address non-local-source-routing routers log-servers domain-name ntp-servers]" {
		t.Errorf("order: %v", codes)
	}
	if get(out, SMTPServer) != "\xc0\x00\x02\x01" || get(out, POP3Server) != "\xc0\x00\x02\x46" || get(out, BroadcastAddress) != "\xc0\x00\x02\xff" ||
		get(out, SubnetMask) != "\xff\xff\xff\x00" || get(out, 20) != "\x00" {
		t.Errorf("%v", out.Reply.Options)
	}
}

func TestClassPools(t *testing.T) {
	cfg := oneSubnet()
	cfg.Classes = []ClassConfig{{Name: "meter", VendorClass: "anacapa"}}
	cfg.Subnets[0].Pools[0].Class = "meter"
	w := newWorld(t, cfg)
	w.expect(string(WhyNoAddress), w.discover(client{mac: 1}))
	w.expect("DHCPOFFER 192.0.2.100", w.discover(client{mac: 1}, Option{VendorClassIdentifier, []byte("anacapa")}))
}

func TestProbing(t *testing.T) {
	cfg := oneSubnet()
	cfg.Probe, cfg.RapidCommit = time.Second, true
	w := newWorld(t, cfg)
	c := client{mac: 1}
	w.expect("probe 192.0.2.100", w.discover(c))
	w.expect(string(WhyProbing), w.discover(c))
	w.expect("probe 192.0.2.101", w.discover(client{mac: 2}))
	if _, err := w.m.conflict(w.store.Now(), netip.MustParseAddr("192.0.2.100")); err != nil {
		t.Fatal(err)
	}
	w.expect("probe 192.0.2.102", w.discover(c))
	again := &Arrival{Packet: c.packet(Discover, ""), Link: &w.link, Own: func(netip.Addr) bool { return false }}
	w.expect("DHCPOFFER 192.0.2.102", w.m.decide(w.store.Now(), again, netip.MustParseAddr("192.0.2.102")))
	w.expect("DHCPOFFER 192.0.2.102", w.discover(c)) // once is enough
	w.expect("DHCPACK 192.0.2.102", w.selecting(c, "192.0.2.102"))
	w.expect("DHCPOFFER 192.0.2.102", w.discover(c)) // it would answer itself
	w.expect("probe 192.0.2.103", w.discover(client{mac: 3}, Option{RapidCommit, nil}))
	again.Packet = client{mac: 3}.packet(Discover, "", Option{RapidCommit, nil})
	out := w.m.decide(w.store.Now(), again, netip.MustParseAddr("192.0.2.103"))
	w.expect("DHCPACK 192.0.2.103", out)
	if _, ok := out.Reply.Get(RapidCommit); !ok || out.Commit.Wait() != nil {
		t.Error("RFC 4039 §4: not said in the DHCPACK")
	}
	w.pass(10 * time.Minute)
	w.expect("probe 192.0.2.101", w.discover(client{mac: 4}))
}

// TestBOOTP: RFC 1534 §2: BOOTP clients get reserved addresses, or, where it is so configured, any for ever.
func TestBOOTP(t *testing.T) {
	cfg := oneSubnet()
	cfg.ServerName, cfg.BootFile = "boothost", "kernel"
	cfg.Hosts = []HostConfig{{Hardware: "02:00:00:00:00:01", Address: netip.MustParseAddr("192.0.2.9")}}
	w := newWorld(t, cfg)
	plain := client{mac: 1}.packet(0, "")
	plain.Plain = true
	out := w.send(client{}, plain)
	w.expect("BOOTP 192.0.2.9", out)
	b, _ := out.Reply.AppendTo(nil, out.Limit, false)
	if len(b) != minSize || !out.Reply.Plain || text(out.Reply.File[:]) != "kernel" || text(out.Reply.SName[:]) != "boothost" {
		t.Errorf("%d octets, %+v", len(b), out.Reply)
	}
	out = w.send(client{}, client{mac: 1}.packet(0, ""))
	if _, ok := out.Reply.Get(MessageTypeOption); ok || len(out.Reply.Options) != 2 || out.Reply.Options[0].Code != SubnetMask {
		t.Errorf("%v", out.Reply.Options)
	}
	w.expect(string(WhyBOOTP), w.send(client{}, client{mac: 2}.packet(0, "")))
	named := client{mac: 1}.packet(0, "")
	copy(named.SName[:], "elsewhere")
	w.expect(string(WhyOtherServer), w.send(client{}, named))
	known := client{mac: 1, giaddr: "192.0.2.254"}
	if out = w.send(known, known.packet(0, "192.0.2.9")); out.To.AddrPort != netip.MustParseAddrPort("192.0.2.9:68") || out.Reply.CIAddr != netip.MustParseAddr("192.0.2.9") {
		t.Errorf("RFC 1542 §5.4: %v", out.To)
	}
	cfg.BOOTP = "dynamic"
	w = newWorld(t, cfg)
	w.expect("BOOTP 192.0.2.100", w.send(client{}, client{mac: 2}.packet(0, "")))
	w.pass(20000 * time.Hour)
	w.bind(client{mac: 3}, "192.0.2.101")
	w.expect("BOOTP 192.0.2.100", w.send(client{}, client{mac: 2}.packet(0, "")))
	cfg.BOOTP = "none"
	w = newWorld(t, cfg)
	w.expect(string(WhyBOOTP), w.send(client{}, plain))
}

func TestUnanswered(t *testing.T) {
	w := newWorld(t, oneSubnet())
	c := client{mac: 1}
	reply := c.packet(Discover, "")
	reply.Op = BootReply
	w.expect(string(WhyReply), w.send(c, reply))
	for _, kind := range []MessageType{Offer, Ack, Nak, 9, 255} {
		w.expect(string(WhyType), w.send(c, c.packet(kind, "")))
	}
	w.expect(string(WhyType), w.send(c, c.packet(0, "", Option{MessageTypeOption, []byte{1, 1}})))
	release := func(c client, a string) Outcome { return w.send(c, c.packet(Release, a)) }
	w.expect(string(WhyNotHeld), release(c, "192.0.2.100"))
	w.bind(c, "192.0.2.100")
	w.expect(string(WhyNotHeld), release(client{mac: 2}, "192.0.2.100"))
	w.expect(string(WhyIncomplete), release(c, ""))
	w.expect(string(WhyIncomplete), w.send(c, c.packet(Decline, "")))
	w.link.Addrs = nil
	w.expect(string(WhyNoSubnet), w.discover(c))
	w.expect(string(WhyNoIdentifier), w.discover(client{mac: 1, giaddr: "192.0.2.254"}))
}

// One client, one address on one wire.
func TestMove(t *testing.T) {
	w := newWorld(t, oneSubnet())
	w.bind(client{mac: 1}, "192.0.2.100")
	w.expect("DHCPACK 192.0.2.102", w.selecting(client{mac: 1}, "192.0.2.102"))
	w.bind(client{mac: 2}, "192.0.2.101")
	w.bind(client{mac: 3}, "192.0.2.103")
	w.bind(client{mac: 4}, "192.0.2.100")
}

func TestSpoofedClients(t *testing.T) { // many clients that do not exist
	cfg := oneSubnet()
	cfg.PortRate = 50
	w := newWorld(t, cfg)
	refused := map[Why]int{}
	for i := range 1000 {
		c := client{id: fmt.Sprintf("\x00%08d", i), giaddr: "192.0.2.254", more: []Option{{RelayAgentInformation, []byte{1, 1, 'x'}}}}
		refused[w.discover(c).Why]++
	}
	if refused[WhyRate] != 950 || refused[WhyNoAddress] != 46 || len(w.m.offers) != 4 {
		t.Errorf("%v, %d offers", refused, len(w.m.offers))
	}
	other := client{mac: 1, giaddr: "192.0.2.254", more: []Option{{RelayAgentInformation, []byte{1, 1, 'y'}}}}
	w.expect(string(WhyNoAddress), w.discover(other)) // not its fault, but not for want of rate
	w.pass(31 * time.Second)
	w.expect("DHCPOFFER 192.0.2.100", w.discover(other))
	if len(w.m.offers) != 1 || len(w.m.queue) != 1 {
		t.Errorf("%d offers, %d queued", len(w.m.offers), len(w.m.queue))
	}
}

func TestConfigFaults(t *testing.T) {
	good := oneSubnet()
	for key, spoil := range map[string]func(c *Config){
		"min_lease":        func(c *Config) { c.MinLease = 48 * time.Hour },
		"options.nonsense": func(c *Config) { c.Options = map[string]string{"nonsense": "1"} },
		"options":          func(c *Config) { c.Options = map[string]string{"routers": "192.0.2.1", "3": "c0000201"} },
		"subnet[1].prefix": func(c *Config) { c.Subnets[0].Prefix = netip.MustParsePrefix("192.0.2.1/24") },
		"subnet[2].prefix": func(c *Config) { c.Subnets = append(c.Subnets, c.Subnets[0]) },
		"subnet[1].pool[1].first": func(c *Config) {
			c.Subnets[0].Pools = []PoolConfig{{First: netip.MustParseAddr("192.0.3.1"), Last: netip.MustParseAddr("192.0.3.2")}}
		},
		"subnet[1].pool[2].first": func(c *Config) { c.Subnets[0].Pools = append(c.Subnets[0].Pools[:1:1], c.Subnets[0].Pools[0]) },
		"subnet[1].pool[1].class": func(c *Config) {
			c.Subnets[0].Pools = []PoolConfig{{First: netip.MustParseAddr("192.0.2.1"), Last: netip.MustParseAddr("192.0.2.2"), Class: "x"}}
		},
		"host[1].hardware":  func(c *Config) { c.Hosts = []HostConfig{{}} },
		"host[1].client_id": func(c *Config) { c.Hosts = []HostConfig{{ClientID: "0"}} },
		"host[1].address":   func(c *Config) { c.Hosts = []HostConfig{{ClientID: "0000", Address: netip.MustParseAddr("10.0.0.1")}} },
		"host[2].hardware": func(c *Config) {
			c.Hosts = []HostConfig{{Hardware: "02:00:00:00:00:01"}, {Hardware: "02-00-00-00-00-01"}}
		},
		"class[1].vendor_class": func(c *Config) { c.Classes = []ClassConfig{{Name: "x"}} },
		"class[2].name": func(c *Config) {
			c.Classes = []ClassConfig{{Name: "x", VendorClass: "y"}, {Name: "z", VendorClass: "y"}}
		},
		"boot_file":   func(c *Config) { c.BootFile = string(make([]byte, 128)) },
		"next_server": func(c *Config) { c.NextServer = netip.MustParseAddr("2001:db8::1") },
	} {
		cfg := good
		cfg.Subnets = append([]SubnetConfig(nil), good.Subnets...)
		spoil(&cfg)
		var found []string
		cfg.CheckConfig(func(k string, err error) { found = append(found, k) })
		if len(found) == 0 || found[0] != key {
			t.Errorf("%s: reported %v", key, found)
		}
	}
	good.CheckConfig(func(key string, err error) { t.Error(key, err) })
}

// Whatever comes in, nothing panics, every reply can be read, and no address is held by two.
func FuzzDecide(f *testing.F) {
	f.Add(discover(), []byte{0})
	f.Add(withOptions(53, 1, 3, 50, 4, 192, 0, 2, 100, 54, 4, 192, 0, 2, 1, 255), []byte{1})
	f.Add(raw(make([]byte, vendorSize)...), []byte{2})
	cfg := oneSubnet()
	cfg.RapidCommit, cfg.BOOTP, cfg.MailServers = true, "dynamic", true
	w := newWorld(f, cfg)
	own := func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.1") }
	f.Fuzz(func(t *testing.T, b, how []byte) {
		var p, q Packet
		if p.Parse(b) != nil {
			return
		}
		a := &Arrival{Packet: &p, Link: &w.link, Own: own, Direct: len(how) > 0 && how[0]&1 != 0}
		w.pass(time.Duration(len(how)) * time.Minute)
		out := w.m.decide(w.store.Now(), a, netip.Addr{})
		if (out.Reply == nil) != (out.Why != "" || out.Note == "declined" || out.Note == "released") {
			t.Fatalf("%+v", out)
		}
		if out.Reply == nil {
			return
		}
		reply, _ := out.Reply.AppendTo(nil, out.Limit, out.Reply.Type() != Nak)
		if err := q.Parse(reply); err != nil || len(reply) > out.Limit || q.XID != p.XID {
			t.Fatalf("%v: %d octets", err, len(reply))
		}
	})
}

func BenchmarkExchange(b *testing.B) { // four messages, without the disk and the sockets
	cfg := oneSubnet()
	cfg.Subnets = []SubnetConfig{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Pools: []PoolConfig{{First: netip.MustParseAddr("10.0.1.0"), Last: netip.MustParseAddr("10.15.255.255")}}}}
	w := newWorld(b, cfg)
	w.link.Addrs = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}
	a := &Arrival{Link: &w.link, Own: func(netip.Addr) bool { return false }}
	out := make([]byte, 0, MaxSize)
	b.ReportAllocs()
	i := uint32(0)
	for b.Loop() {
		i++
		c := client{}
		p := c.packet(Discover, "")
		binary.BigEndian.PutUint32(p.CHAddr[2:], i)
		a.Packet = p
		o := w.m.decide(w.now, a, netip.Addr{})
		if o.Reply == nil {
			b.Fatal(o.Why)
		}
		out, _ = o.Reply.AppendTo(out[:0], o.Limit, true)
		p.Set(MessageTypeOption, []byte{byte(Request)})
		p.Set(RequestedAddress, o.Reply.YIAddr.AsSlice())
		p.Set(ServerIdentifier, []byte{10, 0, 0, 1})
		if o = w.m.decide(w.now, a, netip.Addr{}); o.Reply == nil || o.Reply.Type() != Ack {
			b.Fatal(o.Why)
		}
		out, _ = o.Reply.AppendTo(out[:0], o.Limit, true)
	}
}
