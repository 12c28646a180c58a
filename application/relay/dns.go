package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Resolver asks the DNS. Names are A-labels without a final dot. An error that is neither ErrNoDomain nor ErrNoAddress says that there
// was no answer, which is never a reason to give up a message.
type Resolver interface {
	// MX returns the mail exchangers of domain in no order, CNAMEs followed; none when the domain exists without any.
	MX(ctx context.Context, domain string) ([]MX, error)
	// Addrs returns the addresses of host in the order to try them; at least one when err is nil.
	Addrs(ctx context.Context, host string) ([]netip.Addr, error)
}

// MX is one mail exchanger (RFC 1035 §3.3.9).
type MX struct {
	Preference uint16
	Host       string // lower case; empty for the root, the null MX (RFC 7505 §3)
}

// What the DNS knows for certain not to be there.
var (
	ErrNoDomain  = errors.New("no such domain")                 // RFC 2308 §2.1
	ErrNoAddress = errors.New("the name has no address in DNS") // RFC 2308 §2.2, for A and AAAA
)

// Bounds of one lookup.
const (
	queryTimeout = 5 * time.Second
	queryRounds  = 2    // times each server is asked
	maxServers   = 3    // as in resolv.conf(5)
	ednsSize     = 1232 // octets of a UDP answer: fits any path without fragments
)

// DNS is a stub resolver (RFC 1034 §5.3.1): it asks recursive servers, over UDP and where an answer is truncated over TCP. It keeps
// no answers. The zero DNS uses the servers of /etc/resolv.conf, read anew for each question: a site's uplink may bring others.
type DNS struct {
	Servers []string                                                             // address or address:port; empty: resolv.conf's
	Dial    func(ctx context.Context, network, address string) (net.Conn, error) // nil: net.Dialer's
}

// MX is Resolver's.
func (d *DNS) MX(ctx context.Context, domain string) ([]MX, error) {
	answer, err := d.lookup(ctx, domain, dns.TypeMX)
	if err != nil {
		return nil, err
	}
	var exchangers []MX
	for _, rr := range answer.Answer { // of the name CNAMEs lead to: RFC 5321 §5.1
		if mx, ok := rr.(*dns.MX); ok {
			exchangers = append(exchangers, MX{mx.Preference, strings.ToLower(strings.TrimSuffix(mx.Mx, "."))})
		}
	}
	return exchangers, nil
}

// Addrs is Resolver's. IPv6 and IPv4 addresses alternate, so that two tries reach both (RFC 5321 §5.2, RFC 8305 §4).
func (d *DNS) Addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	type result struct {
		addrs []netip.Addr
		err   error
	}
	six := make(chan result, 1)
	go func() {
		addrs, err := d.addrs(ctx, host, dns.TypeAAAA)
		six <- result{addrs, err}
	}()
	v4, err4 := d.addrs(ctx, host, dns.TypeA)
	v6 := <-six
	if len(v4)+len(v6.addrs) > 0 {
		return alternate(v6.addrs, v4), nil
	}
	// Only what both families agree on is certain.
	for _, err := range []error{err4, v6.err} {
		if !errors.Is(err, ErrNoAddress) && !errors.Is(err, ErrNoDomain) {
			return nil, err
		}
	}
	return nil, err4
}

func (d *DNS) addrs(ctx context.Context, host string, family uint16) ([]netip.Addr, error) {
	answer, err := d.lookup(ctx, host, family)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, rr := range answer.Answer {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A
		case *dns.AAAA:
			ip = rr.AAAA
		}
		if addr, ok := netip.AddrFromSlice(ip); ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	switch {
	case len(addrs) > 0:
		return addrs, nil
	case proven(answer):
		return nil, ErrNoAddress
	}
	return nil, errUnproven
}

func alternate(a, b []netip.Addr) []netip.Addr {
	var both []netip.Addr
	for len(a) > 0 && len(b) > 0 {
		both = append(both, a[0], b[0])
		a, b = a[1:], b[1:]
	}
	return append(append(both, a...), b...)
}

// errUnproven is a "no" without the zone's SOA record: a router whose uplink is gone may say so as well.
var errUnproven = errors.New("DNS server denies the name without proof")

// lookup asks the servers in turn until one has an answer.
func (d *DNS) lookup(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	servers, err := d.servers()
	if err != nil {
		return nil, err
	}
	query := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	query.SetEdns0(ednsSize, false)
	for range queryRounds {
		for _, server := range servers {
			var answer *dns.Msg
			if answer, err = d.ask(ctx, query, server); err == nil {
				err = judge(answer)
			}
			if err == nil || errors.Is(err, ErrNoDomain) || ctx.Err() != nil {
				return answer, err
			}
			err = fmt.Errorf("DNS server %s: %w", server, err)
		}
	}
	return nil, err
}

// ask puts one question to one server.
func (d *DNS) ask(ctx context.Context, query *dns.Msg, server string) (*dns.Msg, error) {
	dial := d.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	query.Id = dns.Id()
	for _, network := range []string{"udp", "tcp"} {
		ctx, cancel := context.WithTimeout(ctx, queryTimeout)
		defer cancel()
		conn, err := dial(ctx, network, server)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
		answer, _, err := (&dns.Client{Timeout: queryTimeout}).ExchangeWithConnContext(ctx, query, &dns.Conn{Conn: conn, UDPSize: ednsSize})
		if err != nil {
			return nil, err
		}
		if !answer.Response || len(answer.Question) != 1 || !strings.EqualFold(answer.Question[0].Name, query.Question[0].Name) ||
			answer.Question[0].Qtype != query.Question[0].Qtype {
			return nil, errors.New("answer to another question")
		}
		if !answer.Truncated { // RFC 7766 §5: else the same over TCP
			return answer, nil
		}
	}
	return nil, errors.New("answer truncated over TCP")
}

// judge returns nil for an answer that can be used, ErrNoDomain for a certain denial, any other error for what is no answer.
func judge(answer *dns.Msg) error {
	switch answer.Rcode {
	case dns.RcodeSuccess:
		if len(answer.Answer) == 0 && !proven(answer) && refers(answer) {
			return errors.New("referral in place of an answer: not a recursive server")
		}
		return nil
	case dns.RcodeNameError:
		if proven(answer) {
			return ErrNoDomain
		}
		return errUnproven
	}
	return errors.New("answered " + cmp.Or(dns.RcodeToString[answer.Rcode], "an unknown code"))
}

// proven reports whether a denial carries the SOA record of a zone that the name is in (RFC 2308 §3: servers authoritative for the zone
// must include it).
func proven(answer *dns.Msg) bool {
	name := answer.Question[0].Name
	for _, rr := range answer.Answer {
		if cname, ok := rr.(*dns.CNAME); ok && strings.EqualFold(cname.Hdr.Name, name) {
			name = cname.Target // RFC 2308 §2.1: the denial is of where the chain ends
		}
	}
	for _, rr := range answer.Ns {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, name) {
			return true
		}
	}
	return false
}

// refers reports whether answer names other servers to ask.
func refers(answer *dns.Msg) bool {
	for _, rr := range answer.Ns {
		if _, ok := rr.(*dns.NS); ok {
			return true
		}
	}
	return false
}

const resolvConf = "/etc/resolv.conf"

// servers lists whom to ask.
func (d *DNS) servers() ([]string, error) {
	from := d.Servers
	if len(from) == 0 {
		conf, err := dns.ClientConfigFromFile(resolvConf)
		if err != nil {
			return nil, err
		}
		from = conf.Servers
	}
	var servers []string
	for _, server := range from[:min(len(from), maxServers)] {
		address, err := serverAddress(server)
		if err != nil {
			return nil, err
		}
		servers = append(servers, address)
	}
	if len(servers) == 0 {
		return nil, errors.New("no DNS server is known")
	}
	return servers, nil
}

// Static is a Resolver with all its answers given: for tests and demonstrations. A name in neither table does not exist.
type Static struct {
	Exchangers map[string][]MX
	Addresses  map[string][]netip.Addr
}

// MX is Resolver's.
func (s Static) MX(_ context.Context, domain string) ([]MX, error) {
	exchangers, known := s.Exchangers[domain]
	if _, host := s.Addresses[domain]; !known && !host {
		return nil, ErrNoDomain
	}
	return exchangers, nil
}

// Addrs is Resolver's.
func (s Static) Addrs(_ context.Context, host string) ([]netip.Addr, error) {
	if addrs := s.Addresses[host]; len(addrs) > 0 {
		return addrs, nil
	}
	if _, known := s.Exchangers[host]; known {
		return nil, ErrNoAddress
	}
	return nil, ErrNoDomain
}
