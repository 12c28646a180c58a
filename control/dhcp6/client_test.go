package dhcp6

import (
	"crypto/hmac"
	"crypto/md5"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"bothy/control/lease"
	"bothy/lib/sim"
)

// pair is a client and a server, on a link that loses messages, in a time of their own.
type pair struct {
	*bench
	c          *Client
	now        time.Time
	rand       *rand.Rand
	loss       float64
	echo, late float64       // of the replies come twice, and come behind the next
	held       [][]byte      // those
	ahead      time.Duration // the client's clock, of the world's
	dead       bool          // the server
	said       []sent        // by the client
	heard      func(Outcome) // what the server made of each; may be nil
	wall       time.Time
	run        time.Duration
}

type sent struct {
	at   time.Time
	kind MessageType
	b    []byte
}

func newPair(t *testing.T, cfg Config, o ClientOptions, seed uint64) *pair {
	t.Helper()
	p := &pair{rand: rand.New(rand.NewPCG(seed, 1)), wall: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	store, err := lease.Open(lease.Options{FS: sim.NewDisk(), Dir: "leases", Clock: func() (time.Time, time.Duration) { return p.wall.Add(p.run), p.run }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	pl, err := checkedPlan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.bench = &bench{
		t, newMachine(pl, store, serverDUID, make([]byte, 32), Mail{}), store,
		&Link{Name: "eth0", Index: 2, Addrs: []netip.Prefix{netip.MustParsePrefix("2001:db8:1::1/64")}},
	}
	o.DUID, o.IAID, o.Rand = clientDUID, 5, p.rand
	p.now = p.wall
	p.c = NewClient(o, Binding{}, p.now)
	return p
}

// until lets time pass until done, and fails when it never is.
func (p *pair) until(what string, limit time.Duration, done func() bool) {
	p.Helper()
	end := p.now.Add(limit)
	for !done() {
		next := p.c.Next()
		if next.IsZero() || next.After(end) {
			p.Fatalf("%s: not within %v; %s, %+v", what, limit, p.c.State(), p.c.Binding())
		}
		p.pass(max(next.Sub(p.now), 0))
		if out := p.c.Tick(p.now); out != nil {
			p.exchange(slices.Clone(out))
		}
	}
}

func (p *pair) pass(d time.Duration) { p.now, p.run = p.now.Add(d), p.run+d }

// exchange carries a message to the server and its answer back.
func (p *pair) exchange(b []byte) {
	p.Helper()
	p.said = append(p.said, sent{p.now, MessageType(b[0]), b})
	if p.dead || p.rand.Float64() < p.loss {
		return
	}
	out := p.m.decide(p.leases.Now(), &Arrival{Datagram: b, Link: p.link, Source: netip.MustParseAddrPort("[fe80::2]:546"), Multicast: true})
	for _, pending := range out.Commit {
		if err := pending.Wait(); err != nil {
			p.Fatal(err)
		}
	}
	if p.heard != nil {
		p.heard(out)
	}
	if out.Why != "" || p.rand.Float64() < p.loss {
		return
	}
	p.pass(10 * time.Millisecond)
	reply := slices.Clone(out.Reply)
	for _, old := range p.held {
		p.c.Receive(p.clientNow(), old)
	}
	p.held = nil
	if p.rand.Float64() < p.late {
		p.held = append(p.held, reply)
		return
	}
	p.c.Receive(p.clientNow(), reply)
	if p.rand.Float64() < p.echo {
		p.c.Receive(p.clientNow(), reply)
	}
}

func everything() ClientOptions {
	return ClientOptions{Address: true, Prefix: true, Mail: MailConfig{IMAPCode: 65001}}
}

// RFC 9915 §18.2: whatever is lost, the client has its leases in the end, keeps them over many renewals, and gives them back.
func TestClientLossy(t *testing.T) {
	for seed := range uint64(20) {
		cfg := standard()
		cfg.RapidCommit = seed%2 == 1
		o := everything()
		o.RapidCommit = cfg.RapidCommit
		p := newPair(t, cfg, o, seed)
		p.loss = 0.4
		bound := func() bool {
			b := p.c.Binding()
			return len(b.Addresses) == 1 && len(b.Prefixes) == 1 && p.c.State() == "bound"
		}
		p.until("bound", time.Hour, bound)
		first := p.c.Binding()
		if len(first.IMAP) != 2 || len(first.DNS) != 1 || len(first.Search) != 1 || first.Search[0] != "clinic.example" {
			t.Errorf("learnt %+v", first)
		}
		for range 5 {
			renewed := p.c.Binding().Received
			p.until("renewed", 24*time.Hour, func() bool { return bound() && p.c.Binding().Received.After(renewed) })
		}
		if now := p.c.Binding(); now.Addresses[0].Prefix != first.Addresses[0].Prefix || now.Prefixes[0].Prefix != first.Prefixes[0].Prefix {
			t.Errorf("seed %d: another address: %+v, then %+v", seed, first, now)
		}
		p.c.Release(p.now)
		p.until("released", time.Hour, func() bool { return p.c.State() == "idle" })
	}
}

// RFC 9915 §15 and §7.6: the retransmissions of each message, when nobody answers.
func TestClientTiming(t *testing.T) {
	p := newPair(t, standard(), everything(), 7)
	p.dead = true
	p.until("an hour of silence", 3*time.Hour, func() bool { return len(p.said) >= 14 })
	if first := p.said[0].at.Sub(p.wall); first < 0 || first > time.Second {
		t.Errorf("first Solicit after %v: SOL_MAX_DELAY is 1 s", first)
	}
	rt := p.said[1].at.Sub(p.said[0].at)
	if rt <= time.Second || rt > 1100*time.Millisecond {
		t.Errorf("first RT %v: must be above 1 s (§18.2.1)", rt)
	}
	for i := 2; i < len(p.said); i++ {
		next := p.said[i].at.Sub(p.said[i-1].at)
		if low, high := rt*19/10, rt*21/10; next < min(low, 54*time.Minute) || next > min(high, 66*time.Minute) {
			t.Errorf("RT %d is %v after %v", i, next, rt)
		}
		rt = next
	}
	elapsed := func(b []byte) uint16 {
		var m Message
		if err := m.Parse(b); err != nil {
			t.Fatal(err)
		}
		v, _ := m.Find(ElapsedTime)
		return uint16(v[0])<<8 | uint16(v[1])
	}
	if elapsed(p.said[0].b) != 0 || elapsed(p.said[1].b) < 100 || elapsed(p.said[13].b) != 0xffff { // §21.9
		t.Errorf("elapsed times %d %d %d", elapsed(p.said[0].b), elapsed(p.said[1].b), elapsed(p.said[13].b))
	}
	p.dead = false
	p.until("bound", 3*time.Hour, func() bool { return p.c.State() == "bound" })

	p.dead, p.said = true, nil
	p.until("over", 48*time.Hour, func() bool { return !p.c.binding.leases() })
	b := map[MessageType][]sent{}
	for _, s := range p.said {
		b[s.kind] = append(b[s.kind], s)
	}
	if len(b[Renew]) == 0 || len(b[Rebind]) == 0 {
		t.Fatalf("%d Renews, %d Rebinds", len(b[Renew]), len(b[Rebind]))
	}
	for kind, all := range map[MessageType][]sent{Renew: b[Renew], Rebind: b[Rebind]} {
		if rt := all[1].at.Sub(all[0].at); rt < 9*time.Second || rt > 11*time.Second {
			t.Errorf("%v: first RT %v", kind, rt)
		}
		for i := 1; i < len(all); i++ {
			if rt := all[i].at.Sub(all[i-1].at); rt > 660*time.Second {
				t.Errorf("%v: RT %v above MRT", kind, rt)
			}
		}
	}
	if last, first := b[Renew][len(b[Renew])-1].at, b[Rebind][0].at; !last.Before(first) {
		t.Errorf("Renew after T2")
	}
}

// RFC 9915 §14.1: a server that refuses again and again is not flooded.
func TestClientRate(t *testing.T) {
	p := newPair(t, standard(), ClientOptions{Address: true}, 3)
	for p.now.Sub(p.wall) < time.Minute {
		p.pass(50 * time.Millisecond)
		if p.c.Tick(p.now) != nil {
			p.said = append(p.said, sent{at: p.now})
			p.c.solicit(p.now) // as if a NotOnLink came
		}
	}
	for i := range p.said {
		if i >= rateMessages && p.said[i].at.Sub(p.said[i-rateMessages].at) < rateWindow {
			t.Fatalf("%d messages in %v", rateMessages+1, p.said[i].at.Sub(p.said[i-rateMessages].at))
		}
	}
	if len(p.said) < rateMessages {
		t.Errorf("only %d messages in a minute", len(p.said))
	}
}

// RFC 9915 §18.2.12: after a restart, and on another link.
func TestClientMoves(t *testing.T) {
	p := newPair(t, standard(), ClientOptions{Address: true}, 5)
	p.until("bound", time.Minute, func() bool { return p.c.State() == "bound" })
	before := p.c.Binding()
	p.said = nil
	p.c = NewClient(p.c.o, before, p.now)
	p.until("confirmed", time.Minute, func() bool { return p.c.State() == "bound" })
	if p.said[0].kind != Confirm || !slices.Equal(p.c.Binding().Addresses, before.Addresses) {
		t.Errorf("%v, %+v", p.said[0].kind, p.c.Binding())
	}
	p.dead, p.said = true, nil
	p.c.LinkUp(p.now)
	p.until("given up", time.Minute, func() bool { return p.c.State() == "bound" }) // §18.2.3: goes on with what it has
	if took := p.now.Sub(p.said[0].at); took < 9*time.Second || took > 12*time.Second {
		t.Errorf("Confirm for %v: CNF_MAX_RD is 10 s", took)
	}
	p.dead = false
	cfg := standard()
	cfg.Subnets[0].Prefix = netip.MustParsePrefix("2001:db8:2::/64") // renumbered
	cfg.Subnets[0].Pools = []PoolConfig{{netip.MustParseAddr("2001:db8:2::100"), netip.MustParseAddr("2001:db8:2::110")}}
	pl, err := checkedPlan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.link.Addrs = []netip.Prefix{netip.MustParsePrefix("2001:db8:2::1/64")}
	p.m = newMachine(pl, p.leases, serverDUID, make([]byte, 32), Mail{})
	p.c.LinkUp(p.now)
	p.until("at home there", time.Minute, func() bool {
		b := p.c.Binding()
		return len(b.Addresses) == 1 && pl.subnets[0].prefix.Contains(b.Addresses[0].Prefix.Addr())
	})

	p = newPair(t, standard(), everything(), 6)
	p.until("bound", time.Minute, func() bool { return p.c.State() == "bound" })
	p.said = nil
	p.c.LinkUp(p.now)
	p.until("rebound", time.Minute, func() bool { return p.c.State() == "bound" })
	if p.said[0].kind != Rebind { // because of the prefix
		t.Errorf("%v", p.said[0].kind)
	}
}

// RFC 9915 §18.2.8: an address that somebody has is declined, and another is asked for.
func TestClientDecline(t *testing.T) {
	p := newPair(t, standard(), ClientOptions{Address: true}, 5)
	bound := func() bool { return p.c.State() == "bound" }
	p.until("bound", time.Minute, bound)
	first := p.c.Binding().Addresses[0].Prefix
	p.c.Decline(p.now, first.Addr())
	p.until("bound again", time.Minute, bound)
	if second := p.c.Binding().Addresses[0].Prefix; second == first {
		t.Errorf("%v again", first)
	}
	if l, _ := p.leases.Get(first); l.State != lease.Declined {
		t.Errorf("%+v", l)
	}
}

// RFC 9915 §18.2.6, §21.23: without a lease, and asked again when it is time.
func TestClientStateless(t *testing.T) {
	cfg := standard()
	cfg.Refresh = time.Hour
	p := newPair(t, cfg, ClientOptions{Mail: MailConfig{IMAPCode: 65001}}, 5)
	informed := func() bool { return p.c.State() == "informed" }
	p.until("informed", time.Minute, informed)
	first := p.c.Binding()
	if len(first.IMAP) != 2 || !first.Refresh.Equal(first.Received.Add(time.Hour)) {
		t.Errorf("%+v", first)
	}
	cfg.Mail.IMAP = nil // §18.2.10.5: what is said no more is forgotten
	pl, err := checkedPlan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.m = newMachine(pl, p.leases, serverDUID, make([]byte, 32), Mail{})
	p.until("refreshed", 2*time.Hour, func() bool { return informed() && p.c.Binding().Received.After(first.Received) })
	if b := p.c.Binding(); len(b.IMAP) != 0 {
		t.Errorf("%+v", b)
	}
}

// RFC 9915 §16.3, §16.10: what a client must discard.
func TestClientDiscards(t *testing.T) {
	for name, spoil := range map[string]func(*Message, *writer){
		"no server":      func(m *Message, w *writer) { w.put(ClientID, clientDUID) },
		"no client":      func(m *Message, w *writer) { w.put(ServerID, serverDUID) },
		"other client":   func(m *Message, w *writer) { w.put(ServerID, serverDUID); w.put(ClientID, []byte{1, 2, 3}) },
		"other exchange": func(m *Message, w *writer) { w.b[3]++; w.put(ServerID, serverDUID); w.put(ClientID, clientDUID) },
		"nothing for us": func(m *Message, w *writer) { w.put(ServerID, serverDUID); w.put(ClientID, clientDUID) },
		"not rapid": func(m *Message, w *writer) {
			w.b[0] = byte(Reply)
			w.put(ServerID, serverDUID)
			w.put(ClientID, clientDUID)
		},
		"truncated": func(m *Message, w *writer) { w.put(ServerID, serverDUID); w.b = append(w.b, 0, 1, 0, 99) },
		"no reconfigure": func(m *Message, w *writer) {
			w.b[0] = byte(Reconfigure)
			w.put(ServerID, serverDUID)
			w.put(ClientID, clientDUID)
		},
		"somebody's type": func(m *Message, w *writer) {
			w.b[0] = byte(Solicit)
			w.put(ServerID, serverDUID)
			w.put(ClientID, clientDUID)
		},
	} {
		p := newPair(t, standard(), ClientOptions{Address: true}, 1)
		p.pass(time.Second)
		var m Message
		if err := m.Parse(p.c.Tick(p.now)); err != nil {
			t.Fatal(err)
		}
		w := &writer{}
		w.start(Advertise, m.XID)
		spoil(&m, w)
		if changed, why := p.c.Receive(p.now, w.b); changed || p.c.State() != "Solicit" || len(p.c.offers) != 0 || why == "" && name != "nothing for us" {
			t.Errorf("%s: %v, %q, %s, %v", name, changed, why, p.c.State(), p.c.offers)
		}
	}
}

// RFC 9915 §20.4: only who gave us the key may wake us, and once with each message.
func TestClientReconfigure(t *testing.T) {
	p := newPair(t, standard(), ClientOptions{Address: true, Reconfigure: true}, 1)
	p.until("bound", time.Minute, func() bool { return p.c.State() == "bound" })
	key := []byte("0123456789abcdef")
	p.c.binding.Key = key
	make := func(key []byte, replay byte) []byte {
		w := &writer{}
		w.start(Reconfigure, 0)
		w.put(ServerID, serverDUID)
		w.put(ClientID, clientDUID)
		w.put(ReconfigureMessage, []byte{byte(Renew)})
		at := w.open(Authentication)
		w.b = append(w.b, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0, replay, 2)
		digest := len(w.b)
		w.b = append(w.b, make16()...)
		w.close(at)
		mac := hmac.New(md5.New, key)
		mac.Write(w.b)
		copy(w.b[digest:], mac.Sum(nil))
		return w.b
	}
	p.c.Receive(p.now, make([]byte("another key 0000"), 9))
	if p.c.State() != "bound" {
		t.Fatal("a stranger woke the client")
	}
	p.c.Receive(p.now, make(key, 5))
	if p.c.State() != "Renew" {
		t.Fatalf("%s", p.c.State())
	}
	p.until("renewed", time.Minute, func() bool { return p.c.State() == "bound" })
	p.c.binding.Key = key
	p.c.Receive(p.now, make(key, 5))
	if p.c.State() != "bound" {
		t.Error("replayed")
	}
}

func make16() []byte {
	return []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
}

func FuzzClient(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 0, 1, 0, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
		o := everything()
		o.DUID, o.IAID, o.Reconfigure = clientDUID, 5, true
		c := NewClient(o, Binding{}, now)
		now = now.Add(2 * time.Second)
		m := c.Tick(now)
		if len(b) >= headSize && m != nil {
			copy(b[1:4], m[1:4])
		}
		c.Receive(now, b)
		c.Tick(now.Add(time.Hour))
	})
}
