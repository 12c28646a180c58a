package dhcp6

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"bothy/control/lease"
	"bothy/lib/sim"
)

// bench is a machine, and a client on its link.
type bench struct {
	*testing.T
	m      *machine
	leases *lease.Store
	link   *Link
}

var (
	serverDUID = []byte{0, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	clientDUID = []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 1}
)

func standard() Config {
	return Config{
		DNS: []netip.Addr{netip.MustParseAddr("2001:db8:1::53")}, Search: []string{"clinic.example"},
		Mail: MailConfig{IMAPCode: 65001, POP3Code: 65002, SMTPCode: 65003, IMAP: []netip.Addr{netip.MustParseAddr("2001:db8:9::1"), netip.MustParseAddr("2001:db8:9::2")}},
		Subnets: []SubnetConfig{{
			Prefix:   netip.MustParsePrefix("2001:db8:1::/64"),
			Pools:    []PoolConfig{{netip.MustParseAddr("2001:db8:1::100"), netip.MustParseAddr("2001:db8:1::103")}},
			Prefixes: []DelegationConfig{{netip.MustParsePrefix("2001:db8:100::/48"), 50}},
		}},
	}
}

func newBench(t *testing.T, cfg Config) *bench {
	t.Helper()
	store, err := lease.Open(lease.Options{FS: sim.NewDisk(), Dir: "leases"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	p, err := checkedPlan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	own := netip.IPv6Unspecified()
	return &bench{
		t, newMachine(p, store, serverDUID, make([]byte, 32), Mail{POP3: []netip.Addr{own}, SMTP: []netip.Addr{own}}), store,
		&Link{Name: "eth0", Index: 2, Addrs: []netip.Prefix{netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("2001:db8:1::1/64")}},
	}
}

// ask sends a message from the link and returns the reply.
func (b *bench) ask(t MessageType, options ...func(*writer)) (*Message, Why) {
	b.Helper()
	w := &writer{}
	w.start(t, 0x123456)
	for _, o := range options {
		o(w)
	}
	return b.send(w.b, true)
}

func (b *bench) send(datagram []byte, multicast bool) (*Message, Why) {
	b.Helper()
	out := b.m.decide(b.leases.Now(), &Arrival{Datagram: datagram, Link: b.link, Source: netip.MustParseAddrPort("[fe80::2]:546"), Multicast: multicast})
	for _, p := range out.Commit {
		if err := p.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	if out.Why != "" {
		return nil, out.Why
	}
	m := &Message{}
	if err := m.Parse(slices.Clone(out.Reply)); err != nil {
		b.Fatal(err)
	}
	return m, ""
}

func client(w *writer)      { w.put(ClientID, clientDUID) }
func other(w *writer)       { w.put(ClientID, []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 9}) }
func server(w *writer)      { w.put(ServerID, serverDUID) }
func otherServer(w *writer) { w.put(ServerID, []byte{9, 9, 9}) }
func rapid(w *writer)       { w.empty(RapidCommit) }

func ia(code Code, iaid uint32, named ...string) func(*writer) {
	return func(w *writer) {
		at := w.openIA(IA{Code: code, IAID: iaid})
		for _, n := range named {
			p, err := netip.ParsePrefix(n)
			if err != nil {
				p = lease.Host(netip.MustParseAddr(n))
			}
			w.resource(code, Resource{Prefix: p})
		}
		w.close(at)
	}
}

func oro(codes ...Code) func(*writer) {
	return func(w *writer) {
		at := w.open(OptionRequest)
		for _, c := range codes {
			w.uint16(uint16(c))
		}
		w.close(at)
	}
}

// got is what a reply says of the IA with a number.
func (b *bench) got(m *Message, code Code, iaid uint32) (all []Resource, status StatusValue) {
	b.Helper()
	for _, o := range m.Options {
		if o.Code != code {
			continue
		}
		found, err := ParseIA(o)
		if err != nil {
			b.Fatal(err)
		}
		if found.IAID != iaid {
			continue
		}
		for r := range resources(&found) {
			all = append(all, r)
		}
		options, err := parseOptions(nil, found.Options)
		if err != nil {
			b.Fatal(err)
		}
		if v, ok := find(options, StatusCode); ok {
			s, err := ParseStatus(v)
			if err != nil {
				b.Fatal(err)
			}
			status = s.Code
		}
		return all, status
	}
	b.Fatalf("no IA %d in the reply", iaid)
	return nil, 0
}

// RFC 9915 §5.2: four messages, and the address stays.
func TestFourMessages(t *testing.T) {
	b := newBench(t, standard())
	advertise, _ := b.ask(Solicit, client, ia(IANonTemporary, 7), ia(IAPrefixDelegation, 7))
	if advertise == nil || advertise.Type != Advertise || len(b.leases.List()) != 0 {
		t.Fatalf("%+v, and %d leases", advertise, len(b.leases.List()))
	}
	shown, _ := b.got(advertise, IANonTemporary, 7)
	prefix, _ := b.got(advertise, IAPrefixDelegation, 7)
	reply, _ := b.ask(Request, client, server, ia(IANonTemporary, 7, shown[0].Prefix.Addr().String()), ia(IAPrefixDelegation, 7, prefix[0].Prefix.String()))
	if reply == nil || reply.Type != Reply || len(b.leases.List()) != 2 {
		t.Fatalf("%+v, and leases %v", reply, b.leases.List())
	}
	given, _ := b.got(reply, IANonTemporary, 7)
	delegated, _ := b.got(reply, IAPrefixDelegation, 7)
	if given[0].Prefix != shown[0].Prefix || delegated[0].Prefix != prefix[0].Prefix || delegated[0].Prefix.Bits() != 50 {
		t.Errorf("shown %v %v, given %v %v", shown, prefix, given, delegated)
	}
	if given[0].Preferred != 12*time.Hour || given[0].Valid != 24*time.Hour {
		t.Errorf("lifetimes %+v", given[0])
	}
	again, _ := b.ask(Solicit, client, ia(IANonTemporary, 7)) // §18.3.2: existing bindings
	if now, _ := b.got(again, IANonTemporary, 7); now[0].Prefix != given[0].Prefix {
		t.Errorf("another address for the same client: %v, then %v", given, now)
	}
	renewed, _ := b.ask(Renew, client, server, ia(IANonTemporary, 7, given[0].Prefix.Addr().String()))
	if now, _ := b.got(renewed, IANonTemporary, 7); len(now) != 1 || now[0].Prefix != given[0].Prefix || now[0].Valid == 0 {
		t.Errorf("renewed: %v", now)
	}
	released, _ := b.ask(Release, client, server, ia(IANonTemporary, 7, given[0].Prefix.Addr().String()))
	if v, ok := released.Find(StatusCode); !ok || len(v) < 2 || v[1] != 0 {
		t.Errorf("released: %+v", released)
	}
	if l, _ := b.leases.Get(given[0].Prefix); l.State != lease.Released {
		t.Errorf("afterwards: %+v", l)
	}
	back, _ := b.ask(Solicit, client, ia(IANonTemporary, 7))
	if now, _ := b.got(back, IANonTemporary, 7); now[0].Prefix != given[0].Prefix {
		t.Errorf("no affinity: %v, then %v", given, now)
	}
}

// RFC 9915 §16: what must be discarded.
func TestValidation(t *testing.T) {
	b := newBench(t, standard())
	na := ia(IANonTemporary, 1)
	for _, c := range []struct {
		name    string
		t       MessageType
		options []func(*writer)
		why     Why
	}{
		{"§16.2 no client", Solicit, []func(*writer){na}, WhyNoClient},
		{"§16.2 a server", Solicit, []func(*writer){client, server, na}, WhyServer},
		{"§16.3", Advertise, []func(*writer){client, server}, WhyType},
		{"§16.4 no server", Request, []func(*writer){client, na}, WhyNoServer},
		{"§16.4 other server", Request, []func(*writer){client, otherServer, na}, WhyOtherServer},
		{"§16.4 no client", Request, []func(*writer){server, na}, WhyNoClient},
		{"§16.5 a server", Confirm, []func(*writer){client, server, na}, WhyServer},
		{"§16.5 no client", Confirm, []func(*writer){na}, WhyNoClient},
		{"§16.6 no server", Renew, []func(*writer){client, na}, WhyNoServer},
		{"§16.6 other server", Renew, []func(*writer){client, otherServer, na}, WhyOtherServer},
		{"§16.7 a server", Rebind, []func(*writer){client, server, na}, WhyServer},
		{"§16.8 other server", Decline, []func(*writer){client, otherServer, na}, WhyOtherServer},
		{"§16.9 no server", Release, []func(*writer){client, na}, WhyNoServer},
		{"§16.10", Reply, []func(*writer){client, server}, WhyType},
		{"§16.11", Reconfigure, []func(*writer){client, server}, WhyType},
		{"§16.12 other server", InformationRequest, []func(*writer){otherServer}, WhyOtherServer},
		{"§16.12 an IA", InformationRequest, []func(*writer){client, na}, WhyIA},
		{"§16.14", RelayReply, []func(*writer){client}, WhyType},
		{"§16 unknown type", 200, []func(*writer){client}, WhyType},
		{"§11.1 DUID of nothing", Solicit, []func(*writer){func(w *writer) { w.empty(ClientID) }, na}, WhyNoClient},
		{"§11.1 DUID of 131", Solicit, []func(*writer){func(w *writer) { w.put(ClientID, make([]byte, 131)) }, na}, WhyNoClient},
		{"§11.1 DUID of 1,000", Solicit, []func(*writer){func(w *writer) { w.put(ClientID, make([]byte, 1000)) }, na}, WhyNoClient},
		{"§18.3.3 Confirm of nothing", Confirm, []func(*writer){client, na}, WhyNothing},
	} {
		if _, why := b.ask(c.t, c.options...); why != c.why {
			t.Errorf("%s: %q, want %q", c.name, why, c.why)
		}
	}
	w := &writer{}
	w.start(Solicit, 1)
	client(w)
	if _, why := b.send(w.b, false); why != WhyUnicast {
		t.Errorf("§16 unicast: %q", why)
	}
	if _, why := b.send(append(w.b, 0, 3, 0, 40), true); why != WhyMalformed {
		t.Errorf("truncated option: %q", why)
	}
}

// RFC 9915 §18.3: what is said of bindings that are not there, of other links, of empty pools.
func TestRefusals(t *testing.T) {
	b := newBench(t, standard())
	status := func(m *Message, why Why, code Code, want StatusValue) {
		t.Helper()
		if m == nil {
			t.Errorf("not answered: %s", why)
			return
		}
		if _, got := b.got(m, code, 1); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	m, why := b.ask(Request, client, server, ia(IANonTemporary, 1, "2001:db8:2::1"))
	status(m, why, IANonTemporary, NotOnLink)
	m, why = b.ask(Release, client, server, ia(IANonTemporary, 1, "2001:db8:1::100"))
	status(m, why, IANonTemporary, NoBinding)
	m, why = b.ask(Decline, client, server, ia(IANonTemporary, 1, "2001:db8:1::100"))
	status(m, why, IANonTemporary, NoBinding)
	for i := range uint32(4) { // all there are
		if m, why := b.ask(Request, other, server, ia(IANonTemporary, 10+i), ia(IAPrefixDelegation, 10+i)); m == nil {
			t.Fatal(why)
		}
	}
	m, why = b.ask(Solicit, client, ia(IANonTemporary, 1))
	status(m, why, IANonTemporary, NoAddrsAvail)
	m, why = b.ask(Request, client, server, ia(IAPrefixDelegation, 1))
	status(m, why, IAPrefixDelegation, NoPrefixAvail)
	seen := map[netip.Prefix]bool{}
	for _, l := range b.leases.List() {
		if seen[l.Prefix] {
			t.Errorf("%v given twice", l.Prefix)
		}
		seen[l.Prefix] = true
	}
	if len(seen) != 8 {
		t.Errorf("%d leases", len(seen))
	}
	if _, why := b.ask(Rebind, client, ia(IANonTemporary, 1, "2001:db8:1::100")); why != WhyNothing { // §18.3.5
		t.Errorf("rebind without a record: %q", why)
	}
	m, _ = b.ask(Rebind, client, ia(IANonTemporary, 1, "2001:db8:77::5"))
	if all, _ := b.got(m, IANonTemporary, 1); len(all) != 1 || all[0].Valid != 0 || all[0].Preferred != 0 {
		t.Errorf("rebind from another link: %v", all)
	}
	for _, c := range []struct {
		named string
		want  StatusValue
	}{{"2001:db8:1::100", Success}, {"2001:db8:77::5", NotOnLink}} { // §18.3.3
		m, _ = b.ask(Confirm, client, ia(IANonTemporary, 1, c.named))
		v, _ := m.Find(StatusCode)
		if s, err := ParseStatus(v); err != nil || s.Code != c.want {
			t.Errorf("confirm %s: %v", c.named, s)
		}
	}
}

// RFC 9915 §18.3.8: what a client declined is given to nobody for a while.
func TestDeclined(t *testing.T) {
	b := newBench(t, standard())
	m, _ := b.ask(Request, client, server, ia(IANonTemporary, 1))
	first, _ := b.got(m, IANonTemporary, 1)
	if _, why := b.ask(Decline, client, server, ia(IANonTemporary, 1, first[0].Prefix.Addr().String())); why != "" {
		t.Fatal(why)
	}
	m, _ = b.ask(Solicit, client, ia(IANonTemporary, 1))
	if now, _ := b.got(m, IANonTemporary, 1); now[0].Prefix == first[0].Prefix {
		t.Errorf("%v given again after it was declined", first)
	}
}

// RFC 9915 §18.3.1, §21.14: two messages, where that is switched on.
func TestRapidCommit(t *testing.T) {
	cfg := standard()
	b := newBench(t, cfg)
	if m, _ := b.ask(Solicit, client, rapid, ia(IANonTemporary, 1)); m.Type != Advertise {
		t.Errorf("not switched on: %v", m.Type)
	}
	cfg.RapidCommit = true
	b = newBench(t, cfg)
	m, _ := b.ask(Solicit, client, rapid, ia(IANonTemporary, 1))
	if _, said := m.Find(RapidCommit); m.Type != Reply || !said || len(b.leases.List()) != 1 {
		t.Errorf("%v, %d leases", m, len(b.leases.List()))
	}
}

// The lists of the draft come only in the messages that its §7 names, and only when the ORO names the option.
func TestMailServers(t *testing.T) {
	b := newBench(t, standard())
	ask := oro(65001, 65002, 65003, DNSServers, DomainList)
	na := ia(IANonTemporary, 1)
	m, _ := b.ask(Request, client, server, na)
	if _, unasked := m.Find(65001); unasked {
		t.Error("sent unasked")
	}
	given, _ := b.got(m, IANonTemporary, 1)
	na = ia(IANonTemporary, 1, given[0].Prefix.Addr().String())
	for _, c := range []struct {
		t       MessageType
		options []func(*writer)
		sent    bool
	}{
		{Solicit, []func(*writer){client, na, ask}, true},
		{Request, []func(*writer){client, server, na, ask}, true},
		{Renew, []func(*writer){client, server, na, ask}, true},
		{Rebind, []func(*writer){client, na, ask}, true},
		{InformationRequest, []func(*writer){ask}, true},
		{Confirm, []func(*writer){client, na, ask}, false},
		{Decline, []func(*writer){client, server, ia(IANonTemporary, 9), ask}, false},
		{Release, []func(*writer){client, server, na, ask}, false},
	} {
		m, why := b.ask(c.t, c.options...)
		if m == nil {
			t.Errorf("%v: %s", c.t, why)
			continue
		}
		imap, ok := m.Find(65001)
		pop3, _ := m.Find(65002)
		smtp, _ := m.Find(65003)
		if ok != c.sent {
			t.Errorf("%v: sent %v", c.t, ok)
		}
		if !c.sent {
			continue
		}
		list, err := Addresses(imap)
		if err != nil || !slices.Equal(list, b.m.plan.Mail.IMAP) {
			t.Errorf("%v: IMAP servers %v, %v", c.t, list, err)
		}
		for _, own := range [][]byte{pop3, smtp} {
			if list, err := Addresses(own); err != nil || len(list) != 1 || list[0].String() != "2001:db8:1::1" {
				t.Errorf("%v: own servers %v, %v", c.t, list, err)
			}
		}
	}
	if m, _ := b.ask(InformationRequest, ask); m != nil {
		if _, named := m.Find(ClientID); named { // RFC 9915 §16.10
			t.Error("a client identifier for a client that sent none")
		}
		if dns, _ := m.Find(DNSServers); len(dns) != 16 {
			t.Errorf("DNS: %v", dns)
		}
		if search, _ := m.Find(DomainList); string(search) != "\x06clinic\x07example\x00" {
			t.Errorf("domains: %q", search)
		}
	}
}

// RFC 9915 §19.3: the way back is the way here.
func TestRelayed(t *testing.T) {
	b := newBench(t, standard())
	b.link = &Link{Name: "eth9", Index: 9, Addrs: []netip.Prefix{netip.MustParsePrefix("2001:db8:ffff::1/64")}}
	inner := &writer{}
	inner.start(Solicit, 42)
	client(inner)
	ia(IANonTemporary, 1)(inner)
	wrap := func(hops byte, link string, id string, what []byte) []byte {
		w := &writer{b: []byte{byte(RelayForward), hops}}
		l, p := netip.MustParseAddr(link).As16(), netip.MustParseAddr("fe80::77").As16()
		w.b = append(append(w.b, l[:]...), p[:]...)
		if id != "" {
			w.put(InterfaceID, []byte(id))
		}
		w.put(RelayMessage, what)
		return w.b
	}
	datagram := wrap(1, "::", "outer", wrap(0, "2001:db8:1::2", "port 5", inner.b))
	out := b.m.decide(b.leases.Now(), &Arrival{Datagram: datagram, Link: b.link, Source: netip.MustParseAddrPort("[2001:db8:ffff::2]:547")})
	if out.Why != "" {
		t.Fatal(out.Why)
	}
	reply := out.Reply
	for i, id := range []string{"outer", "port 5"} {
		if MessageType(reply[0]) != RelayReply || reply[1] != byte(1-i) {
			t.Fatalf("layer %d: %x", i, reply[:2])
		}
		l, next, err := parseLayer(reply)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := l.find(InterfaceID); string(got) != id || l.Peer.String() != "fe80::77" {
			t.Errorf("layer %d: %q, %v", i, got, l.Peer)
		}
		reply = next
	}
	m := &Message{}
	if err := m.Parse(reply); err != nil || m.Type != Advertise || m.XID != 42 {
		t.Errorf("%+v, %v", m, err)
	}
	deep := inner.b
	for range maxLayers + 1 {
		deep = wrap(0, "2001:db8:1::2", "", deep)
	}
	if _, why := b.send(deep, true); why != WhyMalformed {
		t.Errorf("relayed too often: %q", why)
	}
}

func TestReserved(t *testing.T) {
	cfg := standard()
	cfg.Hosts = []HostConfig{{DUID: lease.ID(clientDUID).String(), Address: netip.MustParseAddr("2001:db8:1::100"), Prefix: netip.MustParsePrefix("2001:db8:200::/56")}}
	b := newBench(t, cfg)
	for i := range uint32(4) {
		b.ask(Request, other, server, ia(IANonTemporary, i)) // three of them get one
	}
	m, _ := b.ask(Request, client, server, ia(IANonTemporary, 1), ia(IAPrefixDelegation, 1))
	if got, _ := b.got(m, IANonTemporary, 1); len(got) != 1 || got[0].Prefix.Addr() != cfg.Hosts[0].Address {
		t.Errorf("address: %v", got)
	}
	if got, _ := b.got(m, IAPrefixDelegation, 1); len(got) != 1 || got[0].Prefix != cfg.Hosts[0].Prefix {
		t.Errorf("prefix: %v", got)
	}
}

func TestConfig(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"assigned code":      func(c *Config) { c.Mail.POP3Code = 24 },
		"code twice":         func(c *Config) { c.Mail.POP3Code = 65001 },
		"IPv4 server":        func(c *Config) { c.Mail.IMAP = []netip.Addr{netip.MustParseAddr("192.0.2.1")} },
		"multicast server":   func(c *Config) { c.Mail.IMAP = []netip.Addr{netip.MustParseAddr("ff02::1")} },
		"mapped server":      func(c *Config) { c.DNS = []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1")} },
		"preferred":          func(c *Config) { c.Preferred, c.Valid = time.Hour, time.Minute },
		"IPv4 subnet":        func(c *Config) { c.Subnets[0].Prefix = netip.MustParsePrefix("192.0.2.0/24") },
		"overlapping subnet": func(c *Config) { c.Subnets = append(c.Subnets, SubnetConfig{Prefix: c.Subnets[0].Prefix}) },
		"pool elsewhere": func(c *Config) {
			c.Subnets[0].Pools[0] = PoolConfig{netip.MustParseAddr("2001:db8:2::1"), netip.MustParseAddr("2001:db8:2::2")}
		},
		"too many pieces": func(c *Config) { c.Subnets[0].Prefixes[0].Length = 96 },
		"length":          func(c *Config) { c.Subnets[0].Prefixes[0].Length = 40 },
		"bad domain":      func(c *Config) { c.Search = []string{"a..b"} },
		"bad DUID":        func(c *Config) { c.Hosts = []HostConfig{{DUID: "zz"}} },
		"host elsewhere": func(c *Config) {
			c.Hosts = []HostConfig{{DUID: "00:01:02", Address: netip.MustParseAddr("2001:db8:5::1")}}
		},
	} {
		cfg := standard()
		change(&cfg)
		var err error
		cfg.CheckConfig(func(_ string, e error) { err = errors.Join(err, e) })
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	cfg := standard()
	cfg.CheckConfig(func(key string, err error) { t.Errorf("%s: %v", key, err) })
}

// A piece and its number are each other's inverse, on either side of 64 bits.
func TestDelegation(t *testing.T) {
	for _, c := range []DelegationConfig{
		{netip.MustParsePrefix("2001:db8:100::/48"), 56},
		{netip.MustParsePrefix("2001:db8:100::/56"), 70},
		{netip.MustParsePrefix("2001:db8:100:1::/64"), 80},
		{netip.MustParsePrefix("2001:db8:100::/48"), 48},
		{netip.MustParsePrefix("2001:db8:100::/60"), 64},
	} {
		d, err := newDelegation(c)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[netip.Prefix]bool{}
		for i := range uint32(d.pool.Size()) {
			q := d.piece(number(i))
			if seen[q] || q != q.Masked() || !d.contains(q) || d.number(q) != number(i) {
				t.Fatalf("%v: piece %d is %v, number %v", c, i, q, d.number(q))
			}
			seen[q] = true
		}
	}
}

func FuzzDecide(f *testing.F) {
	w := &writer{}
	w.start(Solicit, 1)
	client(w)
	ia(IANonTemporary, 1, "2001:db8:1::100")(w)
	ia(IAPrefixDelegation, 1)(w)
	oro(65001, DNSServers)(w)
	f.Add(w.b)
	f.Add(Wrap(nil, []Layer{{Link: netip.MustParseAddr("2001:db8:1::1"), Peer: netip.MustParseAddr("fe80::1")}}, w.b))
	store, err := lease.Open(lease.Options{Dir: f.TempDir()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { store.Close() })
	p, err := checkedPlan(standard())
	if err != nil {
		f.Fatal(err)
	}
	m := newMachine(p, store, serverDUID, make([]byte, 32), Mail{})
	link := &Link{Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("2001:db8:1::1/64")}}
	f.Fuzz(func(t *testing.T, datagram []byte) {
		out := m.decide(store.Now(), &Arrival{Datagram: datagram, Link: link, Multicast: true})
		if out.Why != "" {
			return
		}
		reply := out.Reply
		for len(reply) > 0 && MessageType(reply[0]) == RelayReply {
			_, inner, err := parseLayer(reply)
			if err != nil {
				t.Fatal(err)
			}
			reply = inner
		}
		var back Message
		if err := back.Parse(reply); err != nil {
			t.Fatalf("our reply: %v", err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	var back Message
	w := &writer{}
	w.start(InformationRequest, 1)
	client(w)
	oro(65001, DNSServers)(w)
	b.ReportAllocs()
	for b.Loop() {
		if err := back.Parse(w.b); err != nil {
			b.Fatal(err)
		}
	}
}
