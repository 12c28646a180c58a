package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bothy/application/relay/dane"
)

// liars is a zone of answers that are not what they seem.
var liars = zone{
	"extra.example MX":   {"other.example. 60 IN MX 1 evil.example.", "extra.example. 60 IN MX 10 mx.extra.example.", "extra.example. 60 IN A 192.0.2.66"},
	"other.example MX":   {"evil.example. 60 IN MX 1 evil.example."}, // only what nobody asked for
	"chaos.example MX":   {"chaos.example. 60 CH MX 1 evil.example."},
	"extra.example A":    {"evil.example. 60 IN A 192.0.2.66", "extra.example. 60 IN A 192.0.2.1", "extra.example. 60 IN AAAA 2001:db8::66"},
	"extra.example AAAA": {"extra.example. 60 IN A 192.0.2.66", soa},
	"self.example MX":    {"self.example. 60 IN CNAME self.example."},
	"ring.example MX":    {"ring.example. 60 IN CNAME b.ring.example.", "b.ring.example. 60 IN CNAME ring.example."},
	"wide.example MX":    {"wide.example. 60 IN CNAME b.wide.example."}, // a ring over several answers
	"b.wide.example MX":  {"b.wide.example. 60 IN CNAME wide.example."},
	"step.example MX":    {"step.example. 60 IN CNAME b.step.example."}, // leaves the rest to us
	"b.step.example MX":  {"b.step.example. 60 IN CNAME c.step.example."},
	"c.step.example MX":  {"c.step.example. 60 IN MX 10 mx.step.example."},
	"fork.example MX":    {"fork.example. 60 IN CNAME gone.example.", "NXDOMAIN", "!fork.example. 60 IN SOA ns.example. r.example. 1 2 3 4 5"}, // proof of another name
}

func TestDNSLies(t *testing.T) {
	d := &DNS{Servers: []string{nameserver(t, liars.ServeDNS)}}
	for domain, want := range map[string][]MX{
		"extra.example": {{10, "mx.extra.example"}}, "other.example": nil, "chaos.example": nil, "step.example": {{10, "mx.step.example"}},
	} {
		if got, _, err := d.MX(t.Context(), domain); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", domain, got, err, want)
		}
	}
	if got, _, err := d.Addrs(t.Context(), "extra.example"); err != nil || fmt.Sprint(got) != "[192.0.2.1]" {
		t.Errorf("addresses: %v, %v", got, err)
	}
	for _, domain := range []string{"self.example", "ring.example", "wide.example"} {
		if got, _, err := d.MX(t.Context(), domain); !errors.Is(err, errAliases) {
			t.Errorf("%s: %v, %v", domain, got, err)
		}
	}
	if _, _, err := d.MX(t.Context(), "fork.example"); err == nil || errors.Is(err, ErrNoDomain) {
		t.Errorf("a denial of another name was believed: %v", err)
	}
}

// TestDNSAliases: so many CNAMEs are followed, whether an answer holds one of them, some, or all; not one more.
func TestDNSAliases(t *testing.T) {
	for _, each := range []int{1, 4, maxAliases + 1} {
		for count, want := range map[int]error{maxAliases: nil, maxAliases + 1: errAliases} {
			z, name := zone{}, func(i int) string { return fmt.Sprintf("a%d.example", i) }
			for i := range count + 1 {
				var answer []string
				for k := i; k < min(i+each, count); k++ {
					answer = append(answer, fmt.Sprintf("%s. 60 IN CNAME %s.", name(k), name(k+1)))
				}
				if i+each >= count {
					answer = append(answer, name(count)+". 60 IN MX 10 mx.example.")
				}
				z[name(i)+" MX"] = answer
			}
			d := &DNS{Servers: []string{nameserver(t, z.ServeDNS)}}
			if got, _, err := d.MX(t.Context(), name(0)); !errors.Is(err, want) || (err == nil) != slices.Equal(got, []MX{{10, "mx.example"}}) {
				t.Errorf("%d CNAMEs, %d in an answer: %v, %v", count, each, got, err)
			}
		}
	}
}

// TestDNSFlood: an answer with thousands of records costs a bounded part of them.
func TestDNSFlood(t *testing.T) {
	d := &DNS{Servers: []string{nameserver(t, func(w dns.ResponseWriter, query *dns.Msg) {
		answer := new(dns.Msg).SetReply(query)
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			answer.Truncated = true
		} else {
			for i := range 1500 {
				rr, _ := dns.NewRR(fmt.Sprintf("far.example. 60 IN MX %d a%d.far.example.", i, i))
				answer.Answer = append(answer.Answer, rr)
			}
			answer.Compress = true
		}
		w.WriteMsg(answer)
	})}}
	if got, _, err := d.MX(t.Context(), "far.example"); err != nil || len(got) != maxRecords {
		t.Errorf("%d records, %v", len(got), err)
	}
}

// counting is a zone with a clock that counts the questions.
func counting(t *testing.T, z zone) (d *DNS, asked *atomic.Int32, pass func(time.Duration)) {
	t.Helper()
	asked = new(atomic.Int32)
	address := nameserver(t, func(w dns.ResponseWriter, query *dns.Msg) {
		asked.Add(1)
		z.ServeDNS(w, query)
	})
	var mu sync.Mutex
	now := time.Unix(1000, 0)
	d = &DNS{Servers: []string{address}, Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }}
	return d, asked, func(after time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(after) }
}

func TestDNSCache(t *testing.T) {
	d, asked, pass := counting(t, zone{
		"far.example MX":    {"far.example. 60 IN MX 10 a.far.example.", "far.example. 30 IN MX 20 b.far.example."},
		"alias.example MX":  {"alias.example. 10 IN CNAME far.example.", "far.example. 60 IN MX 10 a.far.example."},
		"long.example MX":   {"long.example. 604800 IN MX 10 a.far.example."},
		"zero.example MX":   {"zero.example. 0 IN MX 10 a.far.example."},
		"minus.example MX":  {"minus.example. 2147483648 IN MX 10 a.far.example."}, // RFC 2181 §8
		"gone.example MX":   {"NXDOMAIN", "!example. 600 IN SOA ns.example. r.example. 1 2 3 4 20"},
		"plain.example MX":  {"!example. 10 IN SOA ns.example. r.example. 1 2 3 4 600"},
		"never.example MX":  {"NXDOMAIN", "!example. 99999 IN SOA ns.example. r.example. 1 2 3 4 99999"},
		"bare.example MX":   {},
		"broken.example MX": {"SERVFAIL"},
	})
	for _, test := range []struct {
		domain string
		lasts  time.Duration // 0: not kept
	}{
		{"far.example", 30 * time.Second},
		{"FAR.example", 30 * time.Second},
		{"alias.example", 10 * time.Second},
		{"long.example", maxLasting},
		{"zero.example", 0},
		{"minus.example", 0},
		{"gone.example", 20 * time.Second},
		{"plain.example", 10 * time.Second},
		{"never.example", maxDenial},
		{"bare.example", 0},
		{"broken.example", 0},
	} {
		ask := func() (string, bool) {
			before := asked.Load()
			got, origin, err := d.MX(t.Context(), strings.ToLower(test.domain))
			return fmt.Sprint(got, origin, errors.Is(err, ErrNoDomain)), asked.Load() != before
		}
		first, anew := ask()
		if !anew {
			t.Errorf("%s: not asked", test.domain)
		}
		pass(max(test.lasts-1, 0))
		if again, anew := ask(); anew != (test.lasts == 0) || again != first {
			t.Errorf("%s: asked again: %v; %s after %s", test.domain, anew, again, first)
		}
		pass(1)
		if again, anew := ask(); !anew || again != first {
			t.Errorf("%s: kept beyond its time", test.domain)
		}
		pass(24 * time.Hour)
	}
}

func TestDNSCacheIsBounded(t *testing.T) {
	var c cache
	now := time.Unix(1000, 0)
	for i := range 3 * maxCached {
		c.put(question{fmt.Sprint(i), dns.TypeMX}, found{lasts: time.Minute}, nil, now)
		if len(c.answers) > maxCached {
			t.Fatalf("%d answers", len(c.answers))
		}
	}
	newest := question{fmt.Sprint(3*maxCached - 1), dns.TypeMX}
	if _, _, ok := c.get(newest, now); !ok {
		t.Error("the newest is not there")
	}
	for i := range maxCached { // what is out of date makes room first
		c.put(question{fmt.Sprint("b", i), dns.TypeMX}, found{lasts: time.Hour}, nil, now.Add(time.Minute))
	}
	if _, _, ok := c.get(question{"b0", dns.TypeMX}, now.Add(time.Minute)); !ok || len(c.answers) > maxCached {
		t.Errorf("%d answers, the newer went first", len(c.answers))
	}
}

// TestDNSSecure: what DNSSEC vouches for, as far as the server that says so is to be believed.
func TestDNSSecure(t *testing.T) {
	z := zone{
		"signed.example MX":                 {"AD", "signed.example. 60 IN MX 10 mx.signed.example."},
		"open.example MX":                   {"open.example. 60 IN MX 10 mx.signed.example."},
		"mx.signed.example A":               {"AD", "mx.signed.example. 60 IN A 192.0.2.1"},
		"mx.signed.example AAAA":            {"AD", soa},
		"half.signed.example A":             {"AD", "half.signed.example. 60 IN A 192.0.2.1"},
		"half.signed.example AAAA":          {"half.signed.example. 60 IN AAAA 2001:db8::1"},
		"to.signed.example A":               {"AD", "to.signed.example. 60 IN CNAME mx.signed.example.", "mx.signed.example. 60 IN A 192.0.2.1"},
		"to.signed.example AAAA":            {"AD", "to.signed.example. 60 IN CNAME mx.signed.example.", soa},
		"out.signed.example A":              {"out.signed.example. 60 IN CNAME mx.open.example.", "mx.open.example. 60 IN A 192.0.2.1"},
		"out.signed.example AAAA":           {"out.signed.example. 60 IN CNAME mx.open.example.", soa},
		"out.signed.example CNAME":          {"AD", "out.signed.example. 60 IN CNAME mx.open.example."},
		"hop.signed.example A":              {"AD", "hop.signed.example. 60 IN CNAME mx.open.example."}, // leaves the rest to us
		"mx.open.example A":                 {"mx.open.example. 60 IN A 192.0.2.1"},
		"back.open.example A":               {"back.open.example. 60 IN CNAME mx.signed.example."}, // forged, to where all is signed
		"back.open.example AAAA":            {soa},
		"back.open.example CNAME":           {"back.open.example. 60 IN CNAME mx.signed.example."},
		"six.signed.example A":              {"AD", soa},
		"six.signed.example AAAA":           {"AD", "six.signed.example. 60 IN AAAA 2001:db8::1"},
		"sick.signed.example A":             {"sick.signed.example. 60 IN CNAME mx.open.example.", "mx.open.example. 60 IN A 192.0.2.1"},
		"sick.signed.example AAAA":          {soa},
		"sick.signed.example CNAME":         {"SERVFAIL"},
		"hop.signed.example AAAA":           {soa},
		"hop.signed.example CNAME":          {"AD", "hop.signed.example. 60 IN CNAME mx.open.example."},
		"_25._tcp.mx.signed.example TLSA":   {"AD", "_25._tcp.mx.signed.example. 60 IN TLSA 3 1 1 " + strings.Repeat("ab", 32)},
		"_25._tcp.mx.open.example TLSA":     {"_25._tcp.mx.open.example. 60 IN TLSA 3 1 1 " + strings.Repeat("ab", 32)},
		"_25._tcp.none.signed.example TLSA": {"AD", soa},
		"_25._tcp.gone.signed.example TLSA": {"AD", "NXDOMAIN", soa},
		"_25._tcp.bogus.example TLSA":       {"SERVFAIL"},
	}
	d := &DNS{Servers: []string{nameserver(t, z.ServeDNS)}}
	for _, test := range []struct {
		host string
		want Origin
	}{
		{"mx.signed.example", Origin{"mx.signed.example", true, false}},
		{"half.signed.example", Origin{"half.signed.example", false, false}},
		{"to.signed.example", Origin{"mx.signed.example", true, false}},
		{"out.signed.example", Origin{"mx.open.example", false, true}},
		{"hop.signed.example", Origin{"mx.open.example", false, true}},
		{"back.open.example", Origin{"mx.signed.example", false, false}},
		{"six.signed.example", Origin{"six.signed.example", true, false}},
	} {
		if _, got, err := d.Addrs(t.Context(), test.host); err != nil || got != test.want {
			t.Errorf("%s: %+v, %v, want %+v", test.host, got, err, test.want)
		}
	}
	if _, got, err := d.Addrs(t.Context(), "sick.signed.example"); err == nil { // whether there may be TLSA records is not known
		t.Errorf("a bogus alias counts as %+v", got)
	}
	for domain, want := range map[string]bool{"signed.example": true, "open.example": false} {
		if _, origin, err := d.MX(t.Context(), domain); err != nil || origin.Secure != want {
			t.Errorf("%s: %+v, %v", domain, origin, err)
		}
	}
	for host, want := range map[string]int{"mx.signed.example": 1, "mx.open.example": 0, "none.signed.example": 0, "gone.signed.example": 0} {
		if got, err := d.TLSA(t.Context(), "_25._tcp."+host); err != nil || len(got) != want || want > 0 && got[0].Usage != dane.EndEntity {
			t.Errorf("TLSA of %s: %v, %v", host, got, err)
		}
	}
	if got, err := d.TLSA(t.Context(), "_25._tcp.bogus.example"); err == nil {
		t.Errorf("a bogus answer counts as %v", got)
	}
	// A server beyond the wire is not believed unless the operator says so.
	for server, want := range map[string]bool{"127.0.0.1:53": true, "[::1]:53": true, "[::ffff:127.0.0.1]:53": true, "192.0.2.53:53": false, "[2001:db8::53]:53": false} {
		if got := d.believes(server); got != want {
			t.Errorf("%s is believed: %v", server, got)
		}
		if !(&DNS{TrustAD: true}).believes(server) {
			t.Errorf("%s is not believed", server)
		}
	}
}

// TestDNSWithheld: what a server that checks DNSSEC fails to answer is not asked of one that is not believed: its answer would pass for that of
// an unsigned zone, and the mail go out without DANE. RFC 7672 §2.1.1.
func TestDNSWithheld(t *testing.T) {
	const name = "_25._tcp.mx.signed.example"
	far := nameserver(t, zone{name + " TLSA": {soa}}.ServeDNS)
	for what, test := range map[string]struct {
		answer []string // of the server on loopback
		dial   error    // to it
		trust  bool
		asked  bool // the one beyond the wire
	}{
		"bogus":                         {answer: []string{"SERVFAIL"}},
		"bogus, but both are believed":  {answer: []string{"SERVFAIL"}, trust: true, asked: true},
		"silent":                        {dial: os.ErrDeadlineExceeded},
		"not there":                     {dial: syscall.ECONNREFUSED, asked: true},
		"no resolver":                   {answer: []string{"REFUSED"}, asked: true},
		"a router that knows no uplink": {answer: []string{"NXDOMAIN"}, asked: true},
	} {
		near := nameserver(t, zone{name + " TLSA": test.answer}.ServeDNS)
		asked := false
		d := &DNS{Servers: []string{"127.0.0.1", "192.0.2.53"}, TrustAD: test.trust, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			switch address {
			case "192.0.2.53:53":
				asked, address = true, far
			default:
				if address = near; test.dial != nil {
					return nil, test.dial
				}
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}}
		if got, err := d.TLSA(t.Context(), name); (err == nil) != test.asked || asked != test.asked || len(got) > 0 {
			t.Errorf("%s: %v, %v; asked the other: %v", what, got, err, asked)
		}
	}
}

func TestDNSText(t *testing.T) {
	d := &DNS{Servers: []string{nameserver(t, zone{
		"_mta-sts.far.example TXT":   {`_mta-sts.far.example. 60 IN TXT "v=STSv1; " "id=1;"`, `_mta-sts.far.example. 60 IN TXT "hello"`},
		"_mta-sts.alias.example TXT": {"_mta-sts.alias.example. 60 IN CNAME _mta-sts.far.example.", `_mta-sts.far.example. 60 IN TXT "v=STSv1; id=1;"`},
		"_mta-sts.gone.example TXT":  {"NXDOMAIN", soa},
	}.ServeDNS)}}
	for name, want := range map[string][]string{"far": {"v=STSv1; id=1;", "hello"}, "alias": {"v=STSv1; id=1;"}, "gone": nil} {
		if got, err := d.TXT(t.Context(), "_mta-sts."+name+".example"); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := d.TXT(t.Context(), "refused.example"); err == nil {
		t.Error("no answer counts as none")
	}
}

// FuzzRead: whatever a server answers, what is read of it belongs to the question and is bounded.
func FuzzRead(f *testing.F) {
	for _, z := range []zone{demoZone, liars} {
		for key, lines := range z {
			name, kind, _ := strings.Cut(key, " ")
			answer := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.StringToType[kind])
			for _, line := range lines {
				if rr, err := dns.NewRR(strings.TrimPrefix(line, "!")); err == nil && rr != nil {
					answer.Answer = append(answer.Answer, rr)
				}
			}
			if packed, err := answer.Pack(); err == nil {
				f.Add(packed)
			}
		}
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		answer := new(dns.Msg)
		if answer.Unpack(packed) != nil || len(answer.Question) != 1 {
			return
		}
		q := answer.Question[0]
		if judge(answer) != nil {
			return
		}
		got, more, err := read(answer, q.Name, q.Qtype, maxAliases)
		if err != nil {
			return
		}
		if len(got.records) > maxRecords || got.aliases > maxAliases || got.lasts < 0 || got.lasts > maxLasting || more && len(got.records) > 0 {
			t.Fatalf("%+v", got)
		}
		for _, rr := range got.records {
			if rr.Header().Rrtype != q.Qtype || plainName(rr.Header().Name) != got.origin.Name {
				t.Fatalf("%v is no answer to %v", rr, q)
			}
		}
	})
}
