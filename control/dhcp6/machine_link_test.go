package dhcp6

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// relayed puts a message into a Relay-forward message.
func relayed(hops byte, link, id string, what []byte) []byte {
	w := &writer{b: []byte{byte(RelayForward), hops}}
	l, p := netip.MustParseAddr(link).As16(), netip.MustParseAddr("fe80::77").As16()
	w.b = append(append(w.b, l[:]...), p[:]...)
	if id != "" {
		w.put(InterfaceID, []byte(id))
	}
	w.put(RelayMessage, what)
	return w.b
}

// RFC 9915 §13.1, §19.1.1: which link a client is on.
func TestLink(t *testing.T) {
	cfg := standard()
	cfg.Subnets = append(cfg.Subnets, SubnetConfig{Prefix: netip.MustParsePrefix("2001:db8:2::/64"), InterfaceID: "ward 2"})
	b := newBench(t, cfg)
	w := &writer{}
	w.start(InformationRequest, 1)
	for _, c := range []struct {
		name     string
		datagram []byte
		source   string
		want     string
	}{
		{"direct", w.b, "fe80::2", "2001:db8:1::/64"},
		{"link-address", relayed(0, "2001:db8:2::9", "", w.b), "2001:db8:ffff::2", "2001:db8:2::/64"},
		{"Interface-Id alone", relayed(0, "::", "ward 2", w.b), "2001:db8:ffff::2", "2001:db8:2::/64"},
		{"Interface-Id and a link-local link-address", relayed(0, "fe80::9", "ward 2", w.b), "2001:db8:ffff::2", "2001:db8:2::/64"},
		{"a switch on our link (RFC 6221)", relayed(0, "::", "port 1", w.b), "fe80::9", "2001:db8:1::/64"},
		{"a switch behind a relay agent", relayed(1, "2001:db8:2::9", "", relayed(0, "::", "port 1", w.b)), "2001:db8:ffff::2", "2001:db8:2::/64"},
		{"the closest says it", relayed(1, "2001:db8:1::9", "", relayed(0, "2001:db8:2::9", "", w.b)), "2001:db8:ffff::2", "2001:db8:2::/64"},
		{"nobody says it", relayed(0, "::", "port 1", w.b), "2001:db8:ffff::2", ""},
		{"unknown link", relayed(0, "2001:db8:77::1", "", w.b), "2001:db8:ffff::2", ""},
	} {
		inner, layers, err := Unwrap(c.datagram, nil)
		if err != nil {
			t.Fatal(err)
		}
		a := &asker{Arrival: &Arrival{Link: b.link, Source: netip.AddrPortFrom(netip.MustParseAddr(c.source), 547)}, Message: &Message{}, relays: layers}
		if err := a.Parse(inner); err != nil {
			t.Fatal(err)
		}
		got := ""
		if s := b.m.link(a); s != nil {
			got = s.prefix.String()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// RFC 9915 §12: several IAs of one message get different addresses and prefixes, before any of them is stored.
func TestManyIAs(t *testing.T) {
	b := newBench(t, standard())
	var options []func(*writer)
	for i := range uint32(4) {
		options = append(options, ia(IANonTemporary, i), ia(IAPrefixDelegation, i))
	}
	m, _ := b.ask(Solicit, append(options, client)...)
	seen := map[netip.Prefix]bool{}
	for i := range uint32(4) {
		for _, code := range []Code{IANonTemporary, IAPrefixDelegation} {
			all, _ := b.got(m, code, i)
			if len(all) != 1 || seen[all[0].Prefix] {
				t.Fatalf("IA %d of %d: %v, and there are %v", i, code, all, seen)
			}
			seen[all[0].Prefix] = true
		}
	}
	for i := range uint32(maxIAs) {
		options = append(options, ia(IANonTemporary, 100+i))
	}
	if _, why := b.ask(Solicit, append(options, client)...); why != WhyMany {
		t.Errorf("%q", why)
	}
}

// RFC 9915 §18.3.4: a Renew of what we do not know gets a new binding, and the word that the old one is over.
func TestRenewUnknown(t *testing.T) {
	b := newBench(t, standard())
	b.ask(Request, other, server, ia(IANonTemporary, 1, "2001:db8:1::100"))
	for _, named := range []string{"2001:db8:1::100", "2001:db8:77::5"} { // another's, and another link's
		m, why := b.ask(Renew, client, server, ia(IANonTemporary, 1, named))
		if m == nil {
			t.Fatal(why)
		}
		all, status := b.got(m, IANonTemporary, 1)
		slices.SortFunc(all, func(x, y Resource) int { return int(y.Valid - x.Valid) })
		if len(all) != 2 || status != Success || all[0].Valid == 0 || all[1].Valid != 0 || all[1].Preferred != 0 || all[1].Prefix.Addr().String() != named {
			t.Errorf("%s: %v, %v", named, all, status)
		}
	}
	full := standard()
	full.Subnets[0].Pools = nil
	b = newBench(t, full)
	m, _ := b.ask(Renew, client, server, ia(IANonTemporary, 1, "2001:db8:1::100"))
	if all, status := b.got(m, IANonTemporary, 1); len(all) != 0 || status != NoAddrsAvail {
		t.Errorf("nothing to give: %v, %v", all, status)
	}
}

// RFC 9915 §18.3.4: the lease of a pool that was taken away is replaced, or its end is told.
func TestRenumbered(t *testing.T) {
	b := newBench(t, standard())
	m, _ := b.ask(Request, client, server, ia(IANonTemporary, 1))
	old, _ := b.got(m, IANonTemporary, 1)
	cfg := standard()
	cfg.Subnets[0].Pools[0] = PoolConfig{netip.MustParseAddr("2001:db8:1::200"), netip.MustParseAddr("2001:db8:1::20f")}
	p, err := checkedPlan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.m.stop()
	b.m = newMachine(p, b.leases, serverDUID, make([]byte, 32), Mail{})
	m, _ = b.ask(Renew, client, server, ia(IANonTemporary, 1, old[0].Prefix.Addr().String()))
	all, _ := b.got(m, IANonTemporary, 1)
	if len(all) != 2 || all[0].Valid == 0 || !p.subnets[0].pools[0].Contains(all[0].Prefix.Addr()) || all[1].Prefix != old[0].Prefix || all[1].Valid != 0 {
		t.Errorf("%v, had %v", all, old)
	}
}

// RFC 9915 §13.2: a prefix given before the pieces became smaller, or larger, is still nobody else's, nor is a part of it.
func TestPiecesChanged(t *testing.T) {
	for _, length := range []int{49, 52} { // it was 50
		b := newBench(t, standard())
		m, _ := b.ask(Request, client, server, ia(IAPrefixDelegation, 1))
		old, _ := b.got(m, IAPrefixDelegation, 1)
		cfg := standard()
		cfg.Subnets[0].Prefixes[0].Length = length
		p, err := checkedPlan(cfg)
		if err != nil {
			t.Fatal(err)
		}
		b.m.stop()
		b.m = newMachine(p, b.leases, serverDUID, make([]byte, 32), Mail{})
		given := 0
		for i := range uint32(1) << (length - 48) {
			hint := p.subnets[0].delegations[0].piece(number(i)).String() // by asking for each
			m, _ := b.ask(Request, other, server, ia(IAPrefixDelegation, 10+i, hint))
			all, _ := b.got(m, IAPrefixDelegation, 10+i)
			for _, r := range all {
				if given++; r.Prefix.Overlaps(old[0].Prefix) {
					t.Fatalf("%v is a part of %v", r.Prefix, old[0].Prefix)
				}
			}
		}
		if want := map[int]int{49: 1, 52: 12}[length]; given != want {
			t.Errorf("length %d: %d given, want %d", length, given, want)
		}
	}
}

// RFC 8168 §3.2: a hint at a length is followed where there are prefixes of it.
func TestPrefixHint(t *testing.T) {
	cfg := standard()
	cfg.Subnets[0].Prefixes = append(cfg.Subnets[0].Prefixes, DelegationConfig{netip.MustParsePrefix("2001:db8:200::/48"), 60})
	b := newBench(t, cfg)
	for hint, want := range map[int]int{50: 50, 60: 60, 64: 50} {
		m, _ := b.ask(Solicit, client, ia(IAPrefixDelegation, uint32(hint), fmt.Sprintf("::/%d", hint)))
		if all, _ := b.got(m, IAPrefixDelegation, uint32(hint)); len(all) != 1 || all[0].Prefix.Bits() != want {
			t.Errorf("hint %d: %v", hint, all)
		}
	}
}

// RFC 9915 §18.3.2, §22: of a hundred thousand clients that are not there every one is told NoAddrsAvail once the pool is used up, and nothing grows.
func TestSpoofed(t *testing.T) {
	b := newBench(t, standard())
	given := 0
	duid := []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 0}
	for i := range 100_000 {
		duid[7], duid[8], duid[9] = byte(i>>16), byte(i>>8), byte(i)
		w := &writer{}
		w.start(Request, uint32(i))
		w.put(ClientID, duid)
		server(w)
		ia(IANonTemporary, 1)(w)
		out := b.m.decide(b.leases.Now(), &Arrival{Datagram: w.b, Link: b.link, Source: netip.MustParseAddrPort("[fe80::2]:546"), Multicast: true})
		if out.Why != "" {
			t.Fatal(out.Why)
		}
		if given += len(out.Commit); i < 10 || i > 99_990 {
			m := &Message{}
			if err := m.Parse(out.Reply); err != nil {
				t.Fatal(err)
			}
			if all, status := b.got(m, IANonTemporary, 1); len(all) == 0 && status != NoAddrsAvail {
				t.Fatal(status)
			}
		}
	}
	if given != 4 || len(b.leases.List()) != 4 {
		t.Errorf("%d given, %d rows", given, len(b.leases.List()))
	}
}

// One port, or one relay agent's interface, cannot take all of our time.
func TestPortRate(t *testing.T) {
	cfg := standard()
	cfg.PortRate = 3
	b := newBench(t, cfg)
	count := func(datagram []byte) (answered int) {
		now := time.Unix(1_000_000, 0)
		for range 10 {
			if out := b.m.decide(now, &Arrival{Datagram: datagram, Link: b.link, Source: netip.MustParseAddrPort("[fe80::2]:546"), Multicast: true}); out.Why == "" {
				answered++
			} else if out.Why != WhyRate {
				t.Fatal(out.Why)
			}
		}
		return answered
	}
	w := &writer{}
	w.start(InformationRequest, 1)
	for name, datagram := range map[string][]byte{
		"direct": w.b, "port 1": relayed(0, "2001:db8:1::2", "1", w.b), "port 2": relayed(0, "2001:db8:1::2", "2", w.b),
	} {
		if n := count(datagram); n != 3 {
			t.Errorf("%s: %d answered", name, n)
		}
	}
}

// RFC 9915 §21.24, §21.25: to those who ask, and only within the bounds that clients obey.
func TestMaxRT(t *testing.T) {
	cfg := standard()
	cfg.SolMaxRT, cfg.InfMaxRT = 2*time.Hour, 3*time.Hour
	b := newBench(t, cfg)
	m, _ := b.ask(Solicit, client, ia(IANonTemporary, 1), oro(SolMaxRT, InfMaxRT))
	for code, want := range map[Code]time.Duration{SolMaxRT: 2 * time.Hour, InfMaxRT: 3 * time.Hour} {
		if v, ok := m.Find(code); !ok || len(v) != 4 || lifetime(v) != want {
			t.Errorf("option %d: %x", code, v)
		}
	}
	if m, _ = b.ask(Solicit, client, ia(IANonTemporary, 1)); len(m.Options) != 3 {
		t.Errorf("unasked: %v", m.Options)
	}
	cfg.SolMaxRT = time.Second
	if _, err := checkedPlan(cfg); err == nil {
		t.Error("a second is taken")
	}
}
