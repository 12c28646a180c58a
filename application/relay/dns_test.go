package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// nameserver answers on loopback, over UDP and TCP.
func nameserver(t *testing.T, answer dns.HandlerFunc) (address string) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", pc.LocalAddr().String())
	for range 10 { // another program may have the same port of TCP
		if err == nil {
			break
		}
		pc.Close()
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err == nil {
			l, err = net.Listen("tcp", pc.LocalAddr().String())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: answer}, {Listener: l, Handler: answer}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe()
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
	return pc.LocalAddr().String()
}

// zone is a nameserver's answer by "name type": RRs, with "!" before one for the authority section, an RCODE's name, and "AD".
type zone map[string][]string

func (z zone) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	q := query.Question[0]
	answer := new(dns.Msg).SetReply(query)
	answer.RecursionAvailable = true
	lines, ok := z[strings.TrimSuffix(q.Name, ".")+" "+dns.TypeToString[q.Qtype]]
	if !ok {
		answer.Rcode = dns.RcodeRefused
	}
	for _, line := range lines {
		if line == "AD" {
			answer.AuthenticatedData = query.AuthenticatedData // RFC 6840 §5.8: for who asks
			continue
		}
		if code, ok := dns.StringToRcode[line]; ok {
			answer.Rcode = code
			continue
		}
		text, authority := strings.CutPrefix(line, "!")
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		if authority {
			answer.Ns = append(answer.Ns, rr)
		} else {
			answer.Answer = append(answer.Answer, rr)
		}
	}
	w.WriteMsg(answer)
}

const soa = "!example. 60 IN SOA ns.example. root.example. 1 2 3 4 5"

var demoZone = zone{
	"far.example MX":       {"far.example. 60 IN MX 20 B.far.example.", "far.example. 60 IN MX 10 a.far.example."},
	"null.example MX":      {"null.example. 60 IN MX 0 ."},
	"alias.example MX":     {"alias.example. 60 IN CNAME far.example.", "far.example. 60 IN MX 10 a.far.example."},
	"plain.example MX":     {soa},
	"stripped.example MX":  {}, // NODATA from a cache that keeps no authority section
	"gone.example MX":      {"NXDOMAIN", soa},
	"dangling.example MX":  {"dangling.example. 60 IN CNAME gone.example.", "NXDOMAIN", soa},
	"offline.example MX":   {"NXDOMAIN"},                                                            // as a router says whose uplink is gone
	"forged.example MX":    {"NXDOMAIN", "!other.test. 60 IN SOA ns.example. r.example. 1 2 3 4 5"}, // not of a zone above
	"broken.example MX":    {"SERVFAIL"},
	"refused.example MX":   {"REFUSED"},
	"lame.example MX":      {"!example. 60 IN NS ns.example."},
	"a.far.example A":      {"a.far.example. 60 IN A 192.0.2.1", "a.far.example. 60 IN A 192.0.2.2"},
	"a.far.example AAAA":   {"a.far.example. 60 IN AAAA 2001:db8::1"},
	"four.example A":       {"four.example. 60 IN A 192.0.2.4"},
	"four.example AAAA":    {soa},
	"half.example A":       {"half.example. 60 IN A 192.0.2.4"},
	"half.example AAAA":    {"SERVFAIL"},
	"empty.example A":      {soa},
	"empty.example AAAA":   {soa},
	"doubt.example A":      {soa},
	"doubt.example AAAA":   {"SERVFAIL"},
	"silent.example A":     {},
	"silent.example AAAA":  {},
	"gone.example A":       {"NXDOMAIN", soa},
	"gone.example AAAA":    {"NXDOMAIN", soa},
	"offline.example A":    {"NXDOMAIN"},
	"offline.example AAAA": {"NXDOMAIN"},
}

func TestDNSMX(t *testing.T) {
	d := &DNS{Servers: []string{nameserver(t, demoZone.ServeDNS)}}
	for _, test := range []struct {
		domain string
		want   []MX
	}{
		{"far.example", []MX{{20, "b.far.example"}, {10, "a.far.example"}}},
		{"null.example", []MX{{0, ""}}},
		{"alias.example", []MX{{10, "a.far.example"}}},
		{"plain.example", nil},
		{"stripped.example", nil},
	} {
		got, _, err := d.MX(t.Context(), test.domain)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, %v, want %v", test.domain, got, err, test.want)
		}
	}
	for _, domain := range []string{"gone.example", "dangling.example"} {
		if _, _, err := d.MX(t.Context(), domain); !errors.Is(err, ErrNoDomain) {
			t.Errorf("%s: %v, want ErrNoDomain", domain, err)
		}
	}
	for _, domain := range []string{"offline.example", "forged.example", "broken.example", "refused.example", "lame.example"} {
		if got, _, err := d.MX(t.Context(), domain); err == nil || errors.Is(err, ErrNoDomain) || errors.Is(err, ErrNoAddress) {
			t.Errorf("%s: %v, %v, want an error that passes", domain, got, err)
		}
	}
}

func TestDNSAddrs(t *testing.T) {
	d := &DNS{Servers: []string{nameserver(t, demoZone.ServeDNS)}}
	for _, test := range []struct{ host, want string }{
		{"a.far.example", "2001:db8::1 192.0.2.1 192.0.2.2"},
		{"four.example", "192.0.2.4"},
		{"half.example", "192.0.2.4"},
	} {
		got, _, err := d.Addrs(t.Context(), test.host)
		var words []string
		for _, addr := range got {
			words = append(words, addr.String())
		}
		if err != nil || strings.Join(words, " ") != test.want {
			t.Errorf("%s: %v, %v, want %s", test.host, got, err, test.want)
		}
	}
	for host, want := range map[string]error{"empty.example": ErrNoAddress, "gone.example": ErrNoDomain} {
		if _, _, err := d.Addrs(t.Context(), host); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", host, err, want)
		}
	}
	for _, host := range []string{"doubt.example", "silent.example", "offline.example"} {
		if got, _, err := d.Addrs(t.Context(), host); err == nil || errors.Is(err, ErrNoDomain) || errors.Is(err, ErrNoAddress) {
			t.Errorf("%s: %v, %v, want an error that passes", host, got, err)
		}
	}
}

// TestDNSNextServer: one server that fails does not matter while another answers.
func TestDNSNextServer(t *testing.T) {
	var asked atomic.Int32
	broken := nameserver(t, func(w dns.ResponseWriter, query *dns.Msg) {
		asked.Add(1)
		w.WriteMsg(new(dns.Msg).SetRcode(query, dns.RcodeServerFailure))
	})
	d := &DNS{Servers: []string{broken, nameserver(t, demoZone.ServeDNS)}}
	if got, _, err := d.MX(t.Context(), "far.example"); err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	if asked.Load() != 1 {
		t.Fatalf("the broken server was asked %d times", asked.Load())
	}
}

func TestDNSTruncated(t *testing.T) { // RFC 7766 §5
	d := &DNS{Servers: []string{nameserver(t, func(w dns.ResponseWriter, query *dns.Msg) {
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			answer := new(dns.Msg).SetReply(query)
			answer.Truncated = true
			w.WriteMsg(answer)
			return
		}
		demoZone.ServeDNS(w, query)
	})}}
	if got, _, err := d.MX(t.Context(), "far.example"); err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestDNSAnswerToAnotherQuestion(t *testing.T) {
	d := &DNS{Servers: []string{nameserver(t, func(w dns.ResponseWriter, query *dns.Msg) {
		query.Question[0].Name = "gone.example."
		answer := new(dns.Msg).SetRcode(query, dns.RcodeNameError)
		rr, _ := dns.NewRR(soa[1:])
		answer.Ns = append(answer.Ns, rr)
		w.WriteMsg(answer)
	})}}
	if _, _, err := d.MX(t.Context(), "far.example"); err == nil || errors.Is(err, ErrNoDomain) {
		t.Fatalf("believed: %v", err)
	}
}

// TestDNSNobody: no server, no network, an end of patience: never a denial.
func TestDNSNobody(t *testing.T) {
	unreachable := func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("network is unreachable")
	}
	silent := func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			for b := make([]byte, 512); ; {
				if _, err := far.Read(b); err != nil {
					return
				}
			}
		}()
		return near, nil
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx context.Context
		d   *DNS
	}{
		"unreachable": {t.Context(), &DNS{Servers: []string{"192.0.2.53"}, Dial: unreachable}},
		"silent":      {ended, &DNS{Servers: []string{"192.0.2.53"}, Dial: silent}},
	} {
		if _, _, err := test.d.MX(test.ctx, "far.example"); err == nil || errors.Is(err, ErrNoDomain) {
			t.Errorf("%s: MX %v", name, err)
		}
		if _, _, err := test.d.Addrs(test.ctx, "far.example"); err == nil || errors.Is(err, ErrNoDomain) || errors.Is(err, ErrNoAddress) {
			t.Errorf("%s: Addrs %v", name, err)
		}
	}
}

func TestStatic(t *testing.T) {
	s := Static{
		Exchangers: map[string][]MX{"far.example": {{10, "mx.far.example"}}},
		Addresses:  map[string][]netip.Addr{"mx.far.example": {netip.MustParseAddr("192.0.2.1")}},
	}
	if got, _, err := s.MX(t.Context(), "mx.far.example"); err != nil || got != nil {
		t.Errorf("a host without exchangers: %v, %v", got, err)
	}
	if _, _, err := s.Addrs(t.Context(), "far.example"); !errors.Is(err, ErrNoAddress) {
		t.Errorf("a domain without address: %v", err)
	}
	if _, _, err := s.MX(t.Context(), "nowhere.example"); !errors.Is(err, ErrNoDomain) {
		t.Errorf("nowhere: %v", err)
	}
}
