package dhcp6

import (
	"bytes"
	"net/netip"
	"path/filepath"
	"testing"
	"time"
)

// TestReservedInterface: RFC 9915 §13.1: no address ends in an interface identifier that is reserved (RFC 5453).
func TestReservedInterface(t *testing.T) {
	for a, reserved := range map[string]bool{
		"2001:db8::":                    true,
		"2001:db8::1":                   false,
		"2001:db8::200:5eff:fe00:0":     true,
		"2001:db8::200:5eff:feff:ffff":  true,
		"2001:db8::200:5eff:fd00:0":     false,
		"2001:db8::200:5f00::":          false,
		"2001:db8::fdff:ffff:ffff:ff7f": false,
		"2001:db8::fdff:ffff:ffff:ff80": true,
		"2001:db8::fdff:ffff:ffff:ffff": true,
		"2001:db8:0:0:fe00::":           false,
	} {
		addr, err := netip.ParseAddr(a)
		if err != nil {
			continue
		}
		if reservedInterface(addr) != reserved {
			t.Errorf("%s: %v", a, !reserved)
		}
	}
	cfg := standard()
	cfg.Subnets[0].Pools = []PoolConfig{{netip.MustParseAddr("2001:db8:1:0:fdff:ffff:ffff:ff7f"), netip.MustParseAddr("2001:db8:1:0:fdff:ffff:ffff:ffff")}}
	b := newBench(t, cfg)
	for i := range uint32(3) {
		m, _ := b.ask(Request, client, server, ia(IANonTemporary, i))
		if all, status := b.got(m, IANonTemporary, i); (i == 0) != (len(all) == 1) || (i == 0) != (status == Success) {
			t.Errorf("%v, %v", all, status)
		}
	}
}

// TestUnknownOptions: RFC 9915 §16: what is not known is no reason to drop a message; RFC 9915 §21.5, §21.12: IA_TA and Server Unicast are ignored.
func TestUnknownOptions(t *testing.T) {
	b := newBench(t, standard())
	m, why := b.ask(Solicit, client, ia(IANonTemporary, 1), func(w *writer) {
		w.put(65535, []byte("?"))
		w.put(IATemporary, []byte{0, 0, 0, 1})
		w.put(ServerUnicast, make([]byte, 16))
		w.empty(200)
		at := w.open(IANonTemporary)
		w.b = append(w.b, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0)
		w.put(65535, []byte("?"))
		w.close(at)
	})
	if m == nil {
		t.Fatal(why)
	}
	if all, _ := b.got(m, IANonTemporary, 2); len(all) != 1 {
		t.Errorf("%v", all)
	}
	for _, code := range []Code{65535, IATemporary, ServerUnicast, 200} {
		if _, there := m.Find(code); there {
			t.Errorf("option %d in the answer", code)
		}
	}
}

// TestSameTimes: RFC 9915 §18.1: T1 and T2 are the same in all IAs of a Reply; RFC 9915 §21.4: those that a client asks for, and its lifetimes, do not count.
func TestSameTimes(t *testing.T) {
	b := newBench(t, standard())
	wish := func(code Code) func(*writer) {
		return func(w *writer) {
			at := w.openIA(IA{Code: code, IAID: 1, T1: time.Second, T2: 2 * time.Second})
			if code == IANonTemporary {
				w.resource(code, Resource{Prefix: netip.MustParsePrefix("2001:db8:1::101/128"), Preferred: Forever, Valid: Forever})
			}
			w.close(at)
		}
	}
	for _, kind := range []MessageType{Request, Renew} {
		m, why := b.ask(kind, client, server, wish(IANonTemporary), wish(IAPrefixDelegation))
		if m == nil {
			t.Fatal(why)
		}
		seen := 0
		for _, o := range m.Options {
			if o.Code != IANonTemporary && o.Code != IAPrefixDelegation {
				continue
			}
			got, err := ParseIA(o)
			if seen++; err != nil || got.T1 != 6*time.Hour || got.T2 != 12*time.Hour/5*4 {
				t.Errorf("%v: T1 %v, T2 %v, %v", kind, got.T1, got.T2, err)
			}
			for r := range resources(&got) {
				if r.Valid != 24*time.Hour {
					t.Errorf("%v: %+v", kind, r)
				}
			}
		}
		if seen != 2 {
			t.Errorf("%d IAs", seen)
		}
	}
}

// TestVendorOptions: RFC 9915 §21.17: the lists go out once more under the operator's enterprise number, in one option of suboptions, to who asks for option 17.
func TestVendorOptions(t *testing.T) {
	cfg := standard()
	cfg.Mail.Enterprise = 32473
	b := newBench(t, cfg)
	m, _ := b.ask(InformationRequest, oro(VendorOptions))
	n := 0
	for _, o := range m.Options {
		if o.Code != VendorOptions {
			continue
		}
		n++
		if !bytes.HasPrefix(o.Value, []byte{0, 0, 0x7e, 0xd9}) {
			t.Fatalf("%x", o.Value)
		}
		lists, err := parseOptions(nil, o.Value[4:])
		if err != nil || len(lists) != 3 || lists[0].Code != vendorIMAP || len(lists[0].Value) != 32 {
			t.Errorf("%v, %v", lists, err)
		}
	}
	if n != 1 {
		t.Errorf("%d options", n)
	}
	if m, _ := b.ask(InformationRequest, oro(DNSServers)); m != nil {
		if _, unasked := m.Find(VendorOptions); unasked {
			t.Error("sent unasked")
		}
	}
	c := NewClient(ClientOptions{DUID: clientDUID, Mail: MailConfig{Enterprise: 32473}}, Binding{}, time.Now())
	if c.learn(time.Now(), m, "x"); len(c.binding.IMAP) != 2 {
		t.Errorf("learnt %+v", c.binding)
	}
}

// TestIdentityKept: RFC 9915 §11: a DUID is made once and never changes; §11.5: it is a UUID.
func TestIdentityKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "identity")
	duid, secret, err := Identity(file)
	if err != nil || len(duid) != 18 || duid[1] != 4 || len(secret) != 32 {
		t.Fatalf("%x %v", duid, err)
	}
	again, same, err := Identity(file)
	if err != nil || !bytes.Equal(duid, again) || !bytes.Equal(secret, same) {
		t.Errorf("%x, then %x, %v", duid, again, err)
	}
	if other, _, _ := Identity(file + "2"); bytes.Equal(duid, other) {
		t.Error("two hosts are one")
	}
}
