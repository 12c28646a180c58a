package dhcp6

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"net/netip"
	"slices"
	"testing"
	"time"

	"bothy/control/lease"
)

func accept(w *writer) { w.empty(ReconfigureAccept) }

// RFC 9915 §18.3.2, §20.4.2: who accepts Reconfigure messages is given a key in a Reply, and nobody else is.
func TestReconfigureKey(t *testing.T) {
	cfg := standard()
	for _, on := range []bool{false, true} {
		cfg.Reconfigure, cfg.RapidCommit = on, true
		b := newBench(t, cfg)
		na := ia(IANonTemporary, 1)
		for _, c := range []struct {
			t        MessageType
			options  []func(*writer)
			accepted bool
			key      bool
		}{
			{Solicit, []func(*writer){client, na, accept}, true, false},
			{Solicit, []func(*writer){client, na, accept, rapid}, true, true},
			{Request, []func(*writer){client, server, na, accept}, true, true},
			{Request, []func(*writer){client, server, na}, false, false},
			{InformationRequest, []func(*writer){client, accept}, true, true},
			{InformationRequest, []func(*writer){accept}, false, false}, // whoever that is
		} {
			m, why := b.ask(c.t, c.options...)
			if m == nil {
				t.Fatal(c.t, why)
			}
			_, accepted := m.Find(ReconfigureAccept)
			auth, key := m.Find(Authentication)
			if accepted != (on && c.accepted) || key != (on && c.key) {
				t.Errorf("on %v, %v: accept %v, key %v", on, c.t, accepted, key)
			}
			if key && (len(auth) != rkapSize || auth[rkapHead-1] != rkapKey) {
				t.Errorf("%x", auth)
			}
		}
	}
}

// RFC 9915 §18.3.11, §20.4: our own client is woken by our own server and by nobody else, also after a restart of the server; the message names the mail
// servers (the draft, §7).
func TestReconfigure(t *testing.T) {
	cfg := standard()
	cfg.Reconfigure = true
	p := newPair(t, cfg, ClientOptions{Address: true, Reconfigure: true}, 1)
	p.until("bound", time.Minute, func() bool { return p.c.State() == "bound" })
	rows := p.leases.List()
	if len(rows) != 1 || len(rows[0].Data) == 0 {
		t.Fatalf("%+v", rows)
	}
	var w wakes
	w.begin(p.leases.Now(), rows)
	var wokenBy []byte
	w.due(p.leases.Now(), func(id lease.ID, kind MessageType, path []byte) {
		to, name, datagram, ok := along(path, p.m.waking(id, kind))
		if !ok || to != netip.MustParseAddrPort("[fe80::2]:546") || name != "eth0" {
			t.Fatal(to, name, ok)
		}
		wokenBy = datagram
	})
	var m Message
	if err := m.Parse(wokenBy); err != nil {
		t.Fatal(err)
	}
	if oro, _ := m.Find(OptionRequest); !slices.Equal(oro, []byte{0xfd, 0xe9, 0xfd, 0xea, 0xfd, 0xeb}) || m.XID != 0 {
		t.Errorf("%+v", m)
	}
	forged := bytes.Clone(wokenBy)
	forged[len(forged)-1] ^= 1
	if p.c.Receive(p.now, forged); p.c.State() != "bound" {
		t.Fatal("a stranger woke the client")
	}
	if p.c.Receive(p.now, wokenBy); p.c.State() != "Renew" {
		t.Fatal(p.c.State())
	}
	p.until("renewed", time.Minute, func() bool { return p.c.State() == "bound" })
	if p.c.Receive(p.now, wokenBy); p.c.State() != "bound" { // §20.3
		t.Error("replayed")
	}
	another := newMachine(p.m.plan, p.leases, serverDUID, bytes.Repeat([]byte{7}, 32), Mail{})
	if p.c.Receive(p.now, another.waking(lease.ID(clientDUID), Renew)); p.c.State() != "bound" {
		t.Error("woken by a server with another secret")
	}
	again := newMachine(p.m.plan, p.leases, serverDUID, make([]byte, 32), Mail{}) // restarted: it remembers nothing
	if p.c.Receive(p.now, again.waking(lease.ID(clientDUID), Renew)); p.c.State() != "Renew" {
		t.Error("not woken after a restart of the server")
	}
}

// RFC 9915 §19.3, §18.3.11: a Reconfigure goes through the relay agents by which the client came.
func TestPath(t *testing.T) {
	cfg := standard()
	cfg.Reconfigure = true
	b := newBench(t, cfg)
	layers := []Layer{
		{Hops: 1, Peer: netip.MustParseAddr("2001:db8:ffff::3"), Link: netip.IPv6Unspecified()},
		{Link: netip.MustParseAddr("2001:db8:1::2"), Peer: netip.MustParseAddr("fe80::77"), Options: []byte{0, 18, 0, 2, 'p', '5'}},
	}
	c := &asker{Arrival: &Arrival{Link: b.link, Source: netip.MustParseAddrPort("[2001:db8:ffff::2]:547")}, relays: layers, accept: true}
	path := b.m.path(c)
	to, name, datagram, ok := along(path, []byte{byte(Reconfigure), 0, 0, 0})
	if !ok || to != c.Source || name != "eth0" || !bytes.Equal(datagram, Wrap(nil, layers, []byte{byte(Reconfigure), 0, 0, 0})) {
		t.Errorf("%v %q %v %x", to, name, ok, datagram)
	}
	for n := range path {
		along(path[:n], nil) // never out of bounds
	}
	layers[0].Options = append([]byte{0, 18, 4, 0}, make([]byte, 1024)...)
	if b.m.path(c) != nil {
		t.Error("a path without bound")
	}
}

// RFC 9915 §18.3.11, §7.6: after 2, 4, 8 ... seconds again, eight times in all, until the client does what it was asked for.
func TestWakes(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var rows []lease.Lease
	for i := range byte(2) {
		rows = append(rows, lease.Lease{Client: lease.ID([]byte{1, 2, i}), State: lease.Bound, Data: []byte("path")})
	}
	rows = append(rows, lease.Lease{Client: "released", State: lease.Released, Data: []byte("path")}, lease.Lease{Client: "deaf", State: lease.Bound})
	var w wakes
	w.begin(now, rows)
	var times []time.Duration
	for at := now; at.Before(now.Add(time.Hour)); at = at.Add(time.Second) {
		w.due(at, func(id lease.ID, _ MessageType, _ []byte) {
			if id == rows[0].Client {
				times = append(times, at.Sub(now)/time.Second)
			} else if id != rows[1].Client || at.Sub(now) > 5*time.Second {
				t.Errorf("%v woken after %v", id, at.Sub(now))
			}
		})
		if at == now.Add(5*time.Second) {
			w.heard(rows[1].Client, Renew)
		}
	}
	if want := []time.Duration{0, 2, 6, 14, 30, 62, 126, 254}; !slices.Equal(times, want) || len(w.waiting) != 0 {
		t.Errorf("%v, want %v; %d left", times, want, len(w.waiting))
	}
	rows = rows[:0]
	for i := range 1000 {
		rows = append(rows, lease.Lease{Client: lease.ID([]byte{byte(i), byte(i >> 8), 1}), State: lease.Bound, Data: []byte("path")})
	}
	w.begin(now, rows)
	n := 0
	for i := range 10 {
		w.due(now.Add(time.Duration(i)*100*time.Millisecond), func(lease.ID, MessageType, []byte) { n++ })
	}
	if n != wakesASecond {
		t.Errorf("%d woken in one second", n)
	}
}

// RFC 9915 §18.3.11, §18.2.6: a client without a lease is told too, asks that very server, and has what is new; whom the server does not remember is told at
// the refresh.
func TestReconfigureStateless(t *testing.T) {
	cfg := standard()
	cfg.Reconfigure = true
	p := newPair(t, cfg, ClientOptions{Reconfigure: true, Mail: MailConfig{IMAPCode: 65001}}, 1)
	var w wakes
	p.heard = func(out Outcome) {
		if out.Path != nil {
			w.remember(p.leases.Now(), lease.ID(clientDUID), out.Path, p.leases.Now().Add(time.Hour))
		}
	}
	informed := func() bool { return p.c.State() == "informed" }
	p.until("informed", time.Minute, informed)
	if len(w.stateless) != 1 {
		t.Fatal("not remembered")
	}
	cfg.Mail.IMAP = cfg.Mail.IMAP[:1]
	pl, err := checkedPlan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.m.plan = pl
	w.begin(p.leases.Now(), nil)
	var wokenBy []byte
	w.due(p.leases.Now(), func(id lease.ID, kind MessageType, path []byte) {
		to, name, datagram, ok := along(path, p.m.waking(id, kind))
		if kind != InformationRequest || !ok || to != netip.MustParseAddrPort("[fe80::2]:546") || name != "eth0" {
			t.Fatal(kind, to, name, ok)
		}
		wokenBy = datagram
	})
	p.said = nil
	if p.c.Receive(p.now, wokenBy); p.c.State() != "Information-request" {
		t.Fatal(p.c.State())
	}
	p.until("informed anew", time.Minute, informed)
	var m Message
	if err := m.Parse(p.said[0].b); err != nil {
		t.Fatal(err)
	}
	if server, _ := m.Find(ServerID); !bytes.Equal(server, serverDUID) {
		t.Errorf("it asks server %x", server)
	}
	if b := p.c.Binding(); len(b.IMAP) != 1 {
		t.Errorf("%+v", b)
	}
	w.heard(lease.ID(clientDUID), Renew)
	if len(w.waiting) != 1 {
		t.Error("a Renew is no answer")
	}
	if w.heard(lease.ID(clientDUID), InformationRequest); len(w.waiting) != 0 {
		t.Error("it is woken still")
	}
	now := p.leases.Now()
	for i := range 2 * maxStateless { // of whom nobody is there
		w.remember(now, lease.ID([]byte{byte(i), byte(i >> 8), 1}), []byte("path"), now.Add(time.Hour))
	}
	if len(w.stateless) != maxStateless {
		t.Errorf("%d remembered", len(w.stateless))
	}
	if w.begin(now.Add(2*time.Hour), nil); len(w.waiting) != 0 {
		t.Errorf("%d woken who are gone", len(w.waiting))
	}
	w.remember(now.Add(2*time.Hour), "new", []byte("path"), now.Add(3*time.Hour))
	if len(w.stateless) != 1 {
		t.Errorf("%d remembered", len(w.stateless))
	}
}

// TestAuthenticationTwice: RFC 9915 §20.2: a message with two Authentication options is not authenticated, though the first is right.
func TestAuthenticationTwice(t *testing.T) {
	cfg := standard()
	cfg.Reconfigure = true
	p := newPair(t, cfg, ClientOptions{Address: true, Reconfigure: true}, 1)
	p.until("bound", time.Minute, func() bool { return p.c.State() == "bound" })
	good := p.m.waking(lease.ID(clientDUID), Renew)
	w := &writer{b: bytes.Clone(good)}
	w.put(Authentication, make([]byte, rkapSize))
	key := p.m.key(lease.ID(clientDUID))
	place := bytes.Index(w.b, good[len(good)-md5.Size:])
	clear(w.b[place : place+md5.Size])
	mac := hmac.New(md5.New, key[:])
	mac.Write(w.b)
	mac.Sum(w.b[:place])
	if _, why := p.c.Receive(p.now, w.b); why != WhyForged {
		t.Errorf("%q, %s", why, p.c.State())
	}
	if _, why := p.c.Receive(p.now, good); why != "" || p.c.State() != "Renew" {
		t.Errorf("%q, %s", why, p.c.State())
	}
}
