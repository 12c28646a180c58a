package dhcp6

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestClientMessages: RFC 9915 §18.2: what each message of our client must have, and must not; RFC 9915 §16.1: a retransmission has the same transaction ID, and another exchange
// another; RFC 9915 §21.7, §21.23, §21.24, §21.25: what its Option Request names.
func TestClientMessages(t *testing.T) {
	said := map[MessageType][]sent{}
	collect := func(p *pair) {
		for _, s := range p.said {
			said[s.kind] = append(said[s.kind], s)
		}
		p.said = nil
	}
	bound := func(p *pair) func() bool { return func() bool { return p.c.State() == "bound" } }
	p := newPair(t, standard(), everything(), 1)
	p.until("bound", time.Minute, bound(p))
	p.dead = true
	p.until("over", 48*time.Hour, func() bool { return !p.c.binding.leases() })
	p.dead = false
	p.until("bound again", 3*time.Hour, bound(p))
	p.c.Decline(p.now, p.c.Binding().Addresses[0].Prefix.Addr())
	p.until("bound, declined", time.Hour, bound(p))
	p.c.Release(p.now)
	p.until("released", time.Hour, func() bool { return p.c.State() == "idle" })
	collect(p)
	p = newPair(t, standard(), ClientOptions{Address: true}, 2)
	p.until("bound", time.Minute, bound(p))
	p.c.LinkUp(p.now)
	p.until("confirmed", time.Minute, bound(p))
	collect(p)
	p = newPair(t, standard(), ClientOptions{}, 3)
	p.until("informed", time.Minute, func() bool { return p.c.State() == "informed" })
	collect(p)
	const none, both, na = 0, 3, 1
	for _, c := range []struct {
		kind   MessageType
		server bool
		ias    int // 1: addresses, 2: prefixes
		oro    []Code
		never  []Code
	}{
		{Solicit, false, both, []Code{DNSServers, SolMaxRT}, []Code{InformationRefresh}},
		{Request, true, both, []Code{DNSServers, SolMaxRT}, []Code{InformationRefresh}},
		{Renew, true, both, []Code{DNSServers}, []Code{InformationRefresh}},
		{Rebind, false, both, []Code{DNSServers}, []Code{InformationRefresh}},
		{Confirm, false, na, nil, nil},
		{Decline, true, na, nil, nil},
		{Release, true, both, nil, nil},
		{InformationRequest, false, none, []Code{DNSServers, InfMaxRT, InformationRefresh}, nil},
	} {
		if len(said[c.kind]) == 0 {
			t.Errorf("no %v", c.kind)
		}
		for _, s := range said[c.kind] {
			var m Message
			if err := m.Parse(s.b); err != nil {
				t.Fatal(err)
			}
			id, _ := m.Find(ClientID)
			server, named := m.Find(ServerID)
			elapsed, _ := m.Find(ElapsedTime)
			oro, asks := m.Find(OptionRequest)
			if !bytes.Equal(id, clientDUID) || named != c.server || named && !bytes.Equal(server, serverDUID) || len(elapsed) != 2 || asks != (c.oro != nil) {
				t.Errorf("%v: %+v", c.kind, m.Options)
			}
			ias := 0
			for _, o := range m.Options {
				if o.Code != IANonTemporary && o.Code != IAPrefixDelegation {
					continue
				}
				ias |= map[Code]int{IANonTemporary: 1, IAPrefixDelegation: 2}[o.Code]
				ia, err := ParseIA(o)
				if err != nil || ia.T1 != 0 || ia.T2 != 0 {
					t.Errorf("%v: T1 %v, T2 %v, %v", c.kind, ia.T1, ia.T2, err)
				}
				for r := range resources(&ia) {
					if c.kind != Renew && c.kind != Rebind && (r.Valid != 0 || r.Preferred != 0) {
						t.Errorf("%v: lifetimes %+v", c.kind, r)
					}
				}
			}
			if ias&^c.ias != 0 || (ias == 0) != (c.ias == 0) { // there may be only one of them
				t.Errorf("%v: IAs %d", c.kind, ias)
			}
			for _, code := range c.oro {
				if !Requests(oro, code) {
					t.Errorf("%v asks for no %d", c.kind, code)
				}
			}
			for _, code := range c.never {
				if Requests(oro, code) {
					t.Errorf("%v asks for %d", c.kind, code)
				}
			}
		}
	}
	if all := said[Renew]; len(all) < 2 || !bytes.Equal(all[0].b[1:4], all[1].b[1:4]) || bytes.Equal(all[0].b[1:4], said[Rebind][0].b[1:4]) {
		t.Error("transaction IDs")
	}
}

// advertised6 makes an Advertise of a server for the client's Solicit.
func advertised6(t *testing.T, c *Client, now time.Time, duid []byte, more ...func(*writer)) {
	t.Helper()
	w := &writer{}
	w.start(Advertise, c.ex.xid)
	w.put(ServerID, duid)
	w.put(ClientID, clientDUID)
	for _, m := range more {
		m(w)
	}
	if _, why := c.Receive(now, w.b); why != "" {
		t.Fatal(why)
	}
}

func holds(code Code, prefix string, preferred, valid, t1, t2 time.Duration) func(*writer) {
	return func(w *writer) {
		at := w.openIA(IA{Code: code, IAID: 5, T1: t1, T2: t2})
		w.resource(code, Resource{Prefix: netip.MustParsePrefix(prefix), Preferred: preferred, Valid: valid})
		w.close(at)
	}
}

// TestPreference: RFC 9915 §18.2.9: the server of the highest preference is asked, then that which has more for us; RFC 9915 §18.2.1: preference 255 ends the collecting at once; §21.8, §18.3.9:
// ours says what is configured, and nothing by default.
func TestPreference(t *testing.T) {
	rank := func(n byte) func(*writer) { return func(w *writer) { w.put(Preference, []byte{n}) } }
	na := holds(IANonTemporary, "2001:db8:1::7/128", time.Hour, time.Hour, 0, 0)
	pd := holds(IAPrefixDelegation, "2001:db8:100::/56", time.Hour, time.Hour, 0, 0)
	poor, rich, best, first := []byte{0, 4, 1}, []byte{0, 4, 2}, []byte{0, 4, 3}, []byte{0, 4, 4}
	for _, c := range []struct {
		name string
		say  func(*Client, time.Time)
		want []byte
	}{
		{"who has more", func(c *Client, now time.Time) {
			advertised6(t, c, now, poor, na)
			advertised6(t, c, now, rich, na, pd)
		}, rich},
		{"preference", func(c *Client, now time.Time) {
			advertised6(t, c, now, rich, na, pd)
			advertised6(t, c, now, best, na, rank(7))
		}, best},
		{"255", func(c *Client, now time.Time) { advertised6(t, c, now, first, na, rank(255)) }, first},
	} {
		p := newPair(t, standard(), everything(), 1)
		p.dead = true
		p.until("asked", time.Minute, func() bool { return len(p.said) == 1 })
		c.say(p.c, p.now)
		if at := p.c.ex.kind; (at == Request) != (c.name == "255") {
			t.Errorf("%s: %v at once", c.name, at)
		}
		p.until("a Request", 3*time.Second, func() bool { return p.said[len(p.said)-1].kind == Request })
		var m Message
		if err := m.Parse(p.said[len(p.said)-1].b); err != nil {
			t.Fatal(err)
		}
		if id, _ := m.Find(ServerID); !bytes.Equal(id, c.want) {
			t.Errorf("%s: asks %x", c.name, id)
		}
	}
	cfg := standard()
	for _, set := range []int{0, 9} {
		cfg.Preference = set
		m, _ := newBench(t, cfg).ask(Solicit, client, ia(IANonTemporary, 1))
		if v, there := m.Find(Preference); there != (set != 0) || there && v[0] != byte(set) {
			t.Errorf("%d: %v", set, v)
		}
	}
}

// TestMaxRTLearnt: RFC 9915 §18.2.9, §18.2.10, §21.24, §21.25: SOL_MAX_RT and INF_MAX_RT count though the message that has them offers nothing, and only between a minute and a day.
func TestMaxRTLearnt(t *testing.T) {
	for value, want := range map[time.Duration]time.Duration{
		59 * time.Second: solMaxRT, time.Minute: time.Minute, 2 * time.Hour: 2 * time.Hour, 24 * time.Hour: 24 * time.Hour, 24*time.Hour + time.Second: solMaxRT,
	} {
		p := newPair(t, standard(), ClientOptions{Address: true}, 1)
		p.dead = true
		p.until("asked", time.Minute, func() bool { return len(p.said) == 1 })
		advertised6(t, p.c, p.now, serverDUID, func(w *writer) {
			w.status(Status{NoAddrsAvail, ""})
			w.time(SolMaxRT, value)
			w.time(InfMaxRT, value)
		})
		if p.c.solMax != want || p.c.infMax != want || p.c.ex.timing.mrt != want || len(p.c.offers) != 0 {
			t.Errorf("%v: %v and %v, MRT %v", value, p.c.solMax, p.c.infMax, p.c.ex.timing.mrt)
		}
	}
}

// TestClientIgnores: RFC 9915 §21.4: an IA whose T1 lies behind its T2, and RFC 9915 §21.6, §21.22: what is preferred longer than valid.
func TestClientIgnores(t *testing.T) {
	for _, c := range []struct {
		name string
		ia   func(*writer)
		held int
	}{
		{"good", holds(IANonTemporary, "2001:db8:1::7/128", time.Hour, 2*time.Hour, time.Minute, time.Hour), 1},
		{"T1 behind T2", holds(IANonTemporary, "2001:db8:1::7/128", time.Hour, 2*time.Hour, time.Hour, time.Minute), 0},
		{"preferred longer than valid", holds(IANonTemporary, "2001:db8:1::7/128", 2*time.Hour, time.Hour, 0, 0), 0},
		{"a prefix preferred longer", holds(IAPrefixDelegation, "2001:db8:100::/56", 2*time.Hour, time.Hour, 0, 0), 0},
		{"multicast", holds(IANonTemporary, "ff02::1/128", time.Hour, time.Hour, 0, 0), 0},
		{"loopback", holds(IANonTemporary, "::1/128", time.Hour, time.Hour, 0, 0), 0},
	} {
		p := newPair(t, standard(), everything(), 1)
		p.dead = true
		p.until("asked", time.Minute, func() bool { return len(p.said) == 1 })
		p.c.start(p.now, Request, "x")
		p.c.Tick(p.now)
		var m Message
		w := &writer{}
		w.start(Reply, p.c.ex.xid)
		c.ia(w)
		if err := m.Parse(w.b); err != nil {
			t.Fatal(err)
		}
		p.c.reply(p.now, &m, "x")
		if b := p.c.Binding(); len(b.Addresses)+len(b.Prefixes) != c.held {
			t.Errorf("%s: %+v", c.name, b)
		}
	}
}

// TestMailLists: of the draft, section 4: one address or more, in order, a multiple of 16 octets, else the option is ignored; RFC 9915 §21: two of them are not one; §14.2: times of zero are the client's to
// choose; §7.7: for ever.
func TestMailLists(t *testing.T) {
	one, two := netip.MustParseAddr("2001:db8::2").AsSlice(), netip.MustParseAddr("2001:db8::1").AsSlice()
	for _, c := range []struct {
		name  string
		lists [][]byte
		want  string
	}{
		{"two, in order", [][]byte{slices.Concat(one, two)}, "[2001:db8::2 2001:db8::1]"},
		{"empty", [][]byte{{}}, "[]"},
		{"15 octets", [][]byte{one[:15]}, "[]"},
		{"17 octets", [][]byte{append(slices.Clone(one), 1)}, "[]"},
		{"twice", [][]byte{one, two}, "[2001:db8::2]"},
	} {
		c6 := NewClient(ClientOptions{DUID: clientDUID, Mail: MailConfig{IMAPCode: 65001}}, Binding{}, time.Now())
		m := &Message{Type: Reply}
		for _, l := range c.lists {
			m.Options = append(m.Options, Option{65001, l}, Option{65002, two}) // the second code is not configured
		}
		c6.learn(time.Now(), m, "x")
		if got := texts6(c6.binding.IMAP); got != c.want || len(c6.binding.POP3) != 0 {
			t.Errorf("%s: %s", c.name, got)
		}
	}
	now := time.Now()
	c6 := NewClient(everything(), Binding{}, now)
	c6.binding.Addresses = []Held{{netip.MustParsePrefix("2001:db8::7/128"), now.Add(10 * time.Second), now.Add(time.Minute)}}
	if c6.setTimes(now, 0, 0); c6.binding.Renew.Sub(now) < 5*time.Second || c6.binding.Rebind.Before(c6.binding.Renew) {
		t.Errorf("T1 after %v, T2 after %v", c6.binding.Renew.Sub(now), c6.binding.Rebind.Sub(now))
	}
	if c6.setTimes(now, Forever, Forever); !c6.binding.Renew.IsZero() || !c6.binding.Rebind.IsZero() {
		t.Errorf("for ever: %v, %v", c6.binding.Renew, c6.binding.Rebind)
	}
}

func texts6(all []netip.Addr) string {
	var b bytes.Buffer
	for i, a := range all {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(a.String())
	}
	return "[" + b.String() + "]"
}

// TestRefreshTime: RFC 9915 §21.23: a day when the server does not say, ten minutes at least.
func TestRefreshTime(t *testing.T) {
	for name, c := range map[string]struct {
		m    Message
		want time.Duration
	}{
		"not said":  {Message{}, irtDefault},
		"too short": {Message{Options: []Option{{InformationRefresh, []byte{0, 0, 0, 1}}}}, irtMinimum},
		"an hour":   {Message{Options: []Option{{InformationRefresh, []byte{0, 0, 0x0e, 0x10}}}}, time.Hour},
		"malformed": {Message{Options: []Option{{InformationRefresh, []byte{1}}}}, irtDefault},
	} {
		if got := refresh(&c.m); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
