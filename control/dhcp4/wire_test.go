package dhcp4

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// raw is a packet by hand: the fixed fields, then what follows.
func raw(rest ...byte) []byte {
	b := make([]byte, fixedSize)
	copy(b, []byte{1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 7, 0x80, 0})
	copy(b[28:], []byte{2, 0, 0, 0, 0, 1})
	return append(b, rest...)
}

// withOptions is raw with the cookie.
func withOptions(rest ...byte) []byte { return raw(append(cookie[:], rest...)...) }

func parse(t *testing.T, b []byte) *Packet {
	t.Helper()
	p := new(Packet)
	if err := p.Parse(b); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseFixedFields(t *testing.T) { // RFC 2131 §2
	b := withOptions(53, 1, 1, 255)
	copy(b[12:], []byte{192, 0, 2, 1, 192, 0, 2, 2, 192, 0, 2, 3, 192, 0, 2, 4})
	copy(b[44:], "server")
	copy(b[108:], "boot")
	p := parse(t, b)
	if p.Op != BootRequest || p.HType != 1 || p.XID != 0xdeadbeef || p.Secs != 7 || !p.Broadcast() ||
		p.CIAddr != netip.MustParseAddr("192.0.2.1") || p.YIAddr != netip.MustParseAddr("192.0.2.2") ||
		p.SIAddr != netip.MustParseAddr("192.0.2.3") || p.GIAddr != netip.MustParseAddr("192.0.2.4") ||
		!bytes.Equal(p.Hardware(), []byte{2, 0, 0, 0, 0, 1}) || p.Type() != Discover ||
		!strings.HasPrefix(string(p.SName[:]), "server\x00") || !strings.HasPrefix(string(p.File[:]), "boot\x00") {
		t.Errorf("%+v", p)
	}
}

func TestParseRefuses(t *testing.T) {
	hlen := withOptions(53, 1, 1, 255)
	hlen[2] = 17
	op := withOptions(255)
	op[0] = 3
	file := withOptions(52, 1, 1, 255)
	file[108], file[109] = 12, 127 // longer than what is left of file
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":                  {nil, ErrShort},
		"fixed fields cut":         {raw()[:235], ErrShort},
		"op":                       {op, ErrOp},
		"hlen lies":                {hlen, ErrHLen},
		"length missing":           {withOptions(53, 1, 1, 12), ErrTruncated},
		"value cut":                {withOptions(12, 4, 'h', 'o'), ErrTruncated},
		"longer than file":         {file, ErrTruncated},
		"overload 0":               {withOptions(52, 1, 0, 255), ErrOverload},
		"overload 4":               {withOptions(52, 1, 4, 255), ErrOverload},
		"overload of two octets":   {withOptions(52, 2, 1, 1, 255), ErrOverload},
		"overload of none":         {withOptions(52, 0, 255), ErrOverload},
		"overload twice":           {withOptions(52, 1, 1, 52, 1, 2, 255), ErrOverload},
		"an option of 255, cut at": {withOptions(append([]byte{12, 255}, make([]byte, 254)...)...), ErrTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			if err := new(Packet).Parse(c.b); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func TestParseTakes(t *testing.T) {
	overloaded := withOptions(53, 1, 3, 52, 1, 3, 12, 1, 'a', 255, 12, 1, 'X')
	copy(overloaded[108:], []byte{0, 12, 1, 'b', 77, 0, 255, 12, 1, 'X'})
	copy(overloaded[44:], []byte{12, 1, 'c', 52, 1, 3, 99, 1, 5, 255}) // RFC 2131 §4.1: an overload in here means nothing
	for name, c := range map[string]struct {
		b    []byte
		want []Option
	}{
		"no options":              {withOptions(), nil},
		"End alone":               {withOptions(255), nil},
		"no End":                  {withOptions(53, 1, 1), []Option{{53, []byte{1}}}},
		"Pad between":             {withOptions(0, 0, 53, 1, 1, 0, 255), []Option{{53, []byte{1}}}},
		"nothing counts past End": {withOptions(53, 1, 1, 255, 12, 200), []Option{{53, []byte{1}}}},
		"unknown, order kept":     {withOptions(224, 2, 1, 2, 53, 1, 1, 80, 0, 255), []Option{{224, []byte{1, 2}}, {53, []byte{1}}, {80, []byte{}}}},
		"pieces":                  {withOptions(12, 2, 'a', 'b', 53, 1, 1, 12, 1, 'c', 255), []Option{{12, []byte("abc")}, {53, []byte{1}}}},
		"options, file, sname":    {overloaded, []Option{{53, []byte{3}}, {12, []byte("abc")}, {77, []byte{}}, {99, []byte{5}}}},
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(t, c.b)
			if !slices.EqualFunc(p.Options, c.want, sameOption) {
				t.Errorf("%v, want %v", p.Options, c.want)
			}
			if p.Plain {
				t.Error("taken for one without a cookie")
			}
		})
	}
	if p := parse(t, overloaded); p.File != [fileSize]byte{} || p.SName != [snameSize]byte{} {
		t.Error("overloaded fields are shown as a name")
	}
}

func sameOption(a, b Option) bool { return a.Code == b.Code && bytes.Equal(a.Value, b.Value) }

// TestWithoutCookie: RFC 951 §3: a packet without cookie is read.
func TestWithoutCookie(t *testing.T) {
	vend := bytes.Repeat([]byte{7}, vendorSize)
	p := parse(t, raw(vend...))
	if !p.Plain || !bytes.Equal(p.Vendor[:], vend) || p.Type() != 0 || len(p.Options) != 0 {
		t.Errorf("%+v", p)
	}
	b, omitted := p.AppendTo(nil, DefaultSize, true)
	if !bytes.Equal(b, raw(vend...)) || omitted != 0 {
		t.Errorf("%d octets, %d omitted", len(b), omitted)
	}
}

// TestAppendPads: RFC 1542 §2.1: packets are padded to 300 octets.
func TestAppendPads(t *testing.T) {
	p := parse(t, withOptions(53, 1, 1, 255))
	b, _ := p.AppendTo(nil, DefaultSize, false)
	if len(b) != minSize || !bytes.Equal(b[:fixedSize+8], withOptions(53, 1, 1, 255)) || bytes.ContainsFunc(b[fixedSize+8:], func(r rune) bool { return r != 0 }) {
		t.Errorf("%d octets: %v", len(b), b[fixedSize:])
	}
}

// TestAppendLong: RFC 3396 §6: a long option is split.
func TestAppendLong(t *testing.T) {
	value := bytes.Repeat([]byte("0123456789"), 60)
	p := &Packet{Op: BootReply, Options: []Option{{MessageTypeOption, []byte{2}}, {43, value}, {12, []byte("a")}}}
	b, omitted := p.AppendTo(nil, MaxSize, false)
	if omitted != 0 {
		t.Fatal("left out")
	}
	at := fixedSize + cookieSize + 3
	if b[at] != 43 || b[at+1] != 255 || b[at+257] != 43 || b[at+258] != 255 || b[at+514] != 43 || b[at+515] != 90 {
		t.Error("not split into 255, 255 and 90 octets")
	}
	if got, _ := parse(t, b).Get(43); !bytes.Equal(got, value) {
		t.Errorf("put together again: %d octets", len(got))
	}
}

// TestAppendOverload: RFC 2131 §4.1: file and sname hold options when the options field is full.
func TestAppendOverload(t *testing.T) {
	relay := bytes.Repeat([]byte{9}, 20)
	long := bytes.Repeat([]byte{5}, 450)
	for name, c := range map[string]struct {
		limit    int
		sizes    []int // of options 200, 201 and so on
		sname    string
		omitted  int
		overload byte
	}{
		"all fits":                   {DefaultSize, []int{100, 100}, "", 0, 0},
		"file takes one":             {DefaultSize, []int{200, 100}, "", 0, 1},
		"file before sname":          {DefaultSize, []int{255, 60}, "", 0, 1},
		"sname takes one":            {DefaultSize, []int{255, 125, 50}, "", 0, 3},
		"sname is in use":            {DefaultSize, []int{255, 120, 50}, "boothost", 1, 1},
		"too large for file":         {DefaultSize, []int{255, 126}, "", 1, 0},
		"a later, small one fits":    {DefaultSize, []int{255, 255, 20}, "", 1, 0},
		"a long one goes on in file": {DefaultSize, []int{400}, "", 0, 1},
		"too large for everything":   {minSize, []int{200, 270}, "", 2, 0},
		"all three":                  {DefaultSize, []int{450}, "", 0, 3},
	} {
		t.Run(name, func(t *testing.T) {
			p := &Packet{Op: BootReply}
			copy(p.SName[:], c.sname)
			p.Set(RelayAgentInformation, relay)
			for i, n := range c.sizes {
				p.Set(Code(200+i), long[:n])
			}
			b, omitted := p.AppendTo([]byte("before"), c.limit, true)
			b = b[len("before"):]
			if omitted != c.omitted || len(b) > c.limit {
				t.Errorf("%d left out, want %d; %d octets", omitted, c.omitted, len(b))
			}
			if got := overloadOf(b); got != c.overload {
				t.Errorf("overload %d, want %d", got, c.overload)
			}
			if b[len(bytes.TrimRight(b, "\x00"))-1] != byte(End) || !bytes.Contains(b[fixedSize:], append([]byte{82, 20}, append(relay, 255)...)) {
				t.Error("RFC 3046 §2.2: relay agent information is not the last option")
			}
			got := parse(t, b)
			for _, o := range p.Options {
				if v, ok := got.Get(o.Code); ok && !bytes.Equal(v, o.Value) {
					t.Errorf("option %d changed", o.Code)
				}
			}
			if len(got.Options)+omitted != len(p.Options) {
				t.Errorf("%d options came back", len(got.Options))
			}
		})
	}
}

// overloadOf returns the Option Overload of a packet.
func overloadOf(b []byte) byte {
	for rest := b[fixedSize+cookieSize:]; len(rest) > 0; {
		code, value, next, err := nextOption(rest)
		if err != nil || code == End {
			break
		}
		if code == OptionOverload {
			return value[0]
		}
		rest = next
	}
	return 0
}

// TestRelayInformationThatDoesNotFit: RFC 3046 §2.2: relay agent information is echoed whole or not at all.
func TestRelayInformationThatDoesNotFit(t *testing.T) {
	p := &Packet{Op: BootReply, Options: []Option{{MessageTypeOption, []byte{5}}, {RelayAgentInformation, make([]byte, 255)}}}
	b, omitted := p.AppendTo(nil, minSize, true)
	if got := parse(t, b); omitted != 1 || got.Type() != Ack || len(got.Options) != 1 {
		t.Errorf("%d left out: %v", omitted, got.Options)
	}
}

func TestParseOptionText(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"routers", "192.0.2.1, 192.0.2.2", "\x03|\xc0\x00\x02\x01\xc0\x00\x02\x02"},
		{"domain-name", "clinic.example", "\x0f|clinic.example"},
		{"time-offset", "-3600", "\x02|\xff\xff\xf1\xf0"},
		{"interface-mtu", "1400", "\x1a|\x05\x78"},
		{"path-mtu-plateau-table", "68,296", "\x19|\x00\x44\x01\x28"},
		{"arp-cache-timeout", "1m", "\x23|\x00\x00\x00\x3c"},
		{"ip-forwarding", "false", "\x13|\x00"},
		{"static-routes", "198.51.100.0/192.0.2.1", "\x21|\xc6\x33\x64\x00\xc0\x00\x02\x01"},
		{"mobile-ip-home-agents", "", "\x44|"},
		{"domain-search", "a.example, b.example.", "\x77|\x01a\x07example\x00\x01b\x07example\x00"},
		{"classless-routes", "198.51.100.0/24 via 192.0.2.1, 0.0.0.0/0 via 192.0.2.2", "\x79|\x18\xc6\x33\x64\xc0\x00\x02\x01\x00\xc0\x00\x02\x02"},
		{"224", "01:02 ff", "\xe0|\x01\x02\xff"},
		{"80", "", ""},
		{"lease-time", "1h", ""},
		{"53", "01", ""},
		{"0", "", ""},
		{"255", "", ""},
		{"256", "", ""},
		{"routers", "192.0.2.300", ""},
		{"routers", "", ""},
		{"subnet-mask", "255.0.0.0,255.0.0.0", ""},
		{"nonsense", "1", ""},
		{"interface-mtu", "65536", ""},
		{"domain-search", "a..b", ""},
		{"classless-routes", "198.51.100.0/24", ""},
		{"224", "0g", ""},
		{"routers", "2001:db8::1", ""},
		{"domain-name", "", ""},
		{"ip-forwarding", "perhaps", ""},
		{"arp-cache-timeout", "-1s", ""},
	} {
		o, err := parseOption(c.name, c.value)
		if c.want == "" {
			if err == nil {
				t.Errorf("%s = %q was taken", c.name, c.value)
			}
			continue
		}
		if got := string([]byte{byte(o.Code)}) + "|" + string(o.Value); err != nil || got != c.want {
			t.Errorf("%s = %q: %q, %v, want %q", c.name, c.value, got, err, c.want)
		}
	}
}

// The options that have names are in order, and none is there twice.
func TestOptionNames(t *testing.T) {
	names := map[string]bool{}
	for i, o := range options {
		if i > 0 && options[i-1].code >= o.code || names[o.name] {
			t.Errorf("option %d %s", o.code, o.name)
		}
		names[o.name] = true
	}
}

func FuzzParse(f *testing.F) {
	f.Add(withOptions(53, 1, 1, 255))
	f.Add(withOptions(52, 1, 3, 12, 2, 'a', 'b', 12, 1, 'c', 82, 3, 1, 1, 9, 255))
	f.Add(raw(bytes.Repeat([]byte{7}, vendorSize)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p, q, r Packet
		if p.Parse(b) != nil {
			return
		}
		whole, omitted := p.AppendTo(nil, maxUDP, false)
		if p.Plain {
			if len(whole) != minSize || !bytes.Equal(whole[:min(len(b), minSize)], b[:min(len(b), minSize)]) {
				t.Fatalf("%x became %x", b, whole)
			}
			return
		}
		if omitted != 0 {
			return // more than a datagram holds
		}
		if err := q.Parse(whole); err != nil {
			t.Fatal(err)
		}
		sameButRelay(t, &p, &q)
		small, omitted := p.AppendTo(nil, DefaultSize, true)
		if err := r.Parse(small); err != nil || len(small) > DefaultSize || len(r.Options)+omitted != len(p.Options) {
			t.Fatalf("%v: %d octets, %d options of %d, %d left out", err, len(small), len(r.Options), len(p.Options), omitted)
		}
		for _, o := range r.Options {
			if v, _ := p.Get(o.Code); !bytes.Equal(v, o.Value) {
				t.Fatalf("option %d: %x became %x", o.Code, v, o.Value)
			}
		}
	})
}

// sameButRelay compares two packets; option 82 may have moved to the end.
func sameButRelay(t *testing.T, p, q *Packet) {
	t.Helper()
	a, b := *p, *q
	a.Options, b.Options, a.joined, b.joined = nil, nil, nil, nil
	if !reflect.DeepEqual(a, b) {
		t.Fatalf("%+v became %+v", a, b)
	}
	without := func(all []Option) []Option {
		return slices.DeleteFunc(slices.Clone(all), func(o Option) bool { return o.Code == RelayAgentInformation })
	}
	x, y := p.Options, q.Options
	if _, ok := p.Get(RelayAgentInformation); ok {
		v, _ := p.Get(RelayAgentInformation)
		w, ok := q.Get(RelayAgentInformation)
		if !ok || !bytes.Equal(v, w) {
			t.Fatal("option 82 changed")
		}
		x, y = without(x), without(y)
	}
	if !slices.EqualFunc(x, y, sameOption) {
		t.Fatalf("%v became %v", x, y)
	}
}

// A DHCPDISCOVER as dhclient sends it.
func discover() []byte {
	return withOptions(append([]byte{
		53, 1, 1, 50, 4, 192, 0, 2, 10, 12, 6, 'c', 'l', 'i', 'n', 'i', 'c', 55, 15, 1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42, 69, 70,
		61, 7, 1, 2, 0, 0, 0, 0, 1, 255,
	}, make([]byte, 20)...)...)
}

func TestAllocations(t *testing.T) { // at most two a packet: here none
	b, out := discover(), make([]byte, 0, MaxSize)
	pieces := withOptions(12, 1, 'a', 12, 1, 'b', 255)
	var p Packet
	n := testing.AllocsPerRun(100, func() {
		if p.Parse(b) != nil || p.Parse(pieces) != nil || p.Parse(b) != nil {
			t.Fatal("refused")
		}
		out, _ = p.AppendTo(out[:0], DefaultSize, true)
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParseAppend(b *testing.B) {
	in, out := discover(), make([]byte, 0, MaxSize)
	var p Packet
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Parse(in); err != nil {
			b.Fatal(err)
		}
		out, _ = p.AppendTo(out[:0], DefaultSize, true)
	}
}
