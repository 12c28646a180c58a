package relay

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"bothy/application/relay/dane"
)

// Resolver asks the DNS. Names are A-labels without a final dot. An error that is neither ErrNoDomain nor ErrNoAddress says that there
// was no answer, which is never a reason to give up a message.
type Resolver interface {
	// MX returns the mail exchangers of domain in no order, CNAMEs followed; none when the domain exists without any.
	MX(ctx context.Context, domain string) ([]MX, Origin, error)
	// Addrs returns the addresses of host in the order to try them; at least one when err is nil.
	Addrs(ctx context.Context, host string) ([]netip.Addr, Origin, error)
	// TLSA returns the records of a name such as "_25._tcp.mx.far.example" (RFC 6698 §3), and none but secure ones. That there are
	// none is no error.
	TLSA(ctx context.Context, name string) ([]dane.Record, error)
	// TXT returns the texts of a name, each with its strings joined. That there are none is no error.
	TXT(ctx context.Context, name string) ([]string, error)
}

// MX is one mail exchanger (RFC 1035 §3.3.9).
type MX struct {
	Preference uint16
	Host       string // lower case; empty for the root, the null MX (RFC 7505 §3)
}

// Origin is where an answer came from.
type Origin struct {
	Name        string // where CNAMEs led from the name that was asked for, or that name
	Secure      bool   // DNSSEC vouches for everything on the way (RFC 4033 §5), and so does a resolver that we may believe
	SecureAlias bool   // not for everything, but for the first of the CNAMEs (RFC 7672 §2.2.2)
}

// What the DNS knows for certain not to be there.
var (
	ErrNoDomain  = errors.New("no such domain")                 // RFC 2308 §2.1
	ErrNoAddress = errors.New("the name has no address in DNS") // RFC 2308 §2.2, for A and AAAA
)

// DNS is a stub resolver (RFC 1034 §5.3.1): it asks recursive servers, over UDP and where an answer is truncated over TCP, and
// keeps their answers for as long as these say, an hour at most. The zero DNS uses the servers of /etc/resolv.conf, read anew for
// each question: a site's uplink may bring others. Do not copy one that was used.
type DNS struct {
	Servers []string                                                             // address or address:port; empty: resolv.conf's
	TrustAD bool                                                                 // believe the AD bit of all of them; else only of those on loopback
	Dial    func(ctx context.Context, network, address string) (net.Conn, error) // nil: net.Dialer's
	Now     func() time.Time                                                     // nil: time.Now

	cache cache
}

// MX is Resolver's.
func (d *DNS) MX(ctx context.Context, domain string) ([]MX, Origin, error) {
	found, err := d.lookup(ctx, domain, dns.TypeMX)
	if err != nil {
		return nil, Origin{}, err
	}
	var exchangers []MX
	for _, rr := range found.records {
		if mx, ok := rr.(*dns.MX); ok {
			exchangers = append(exchangers, MX{mx.Preference, plainName(mx.Mx)})
		}
	}
	return exchangers, found.origin, nil
}

// Addrs is Resolver's. IPv6 and IPv4 addresses alternate, so that two tries reach both (RFC 5321 §5.2, RFC 8305 §4).
func (d *DNS) Addrs(ctx context.Context, host string) ([]netip.Addr, Origin, error) {
	type result struct {
		addrs  []netip.Addr
		origin Origin
		err    error
	}
	six := make(chan result, 1)
	go func() {
		addrs, origin, err := d.addrs(ctx, host, dns.TypeAAAA)
		six <- result{addrs, origin, err}
	}()
	v4, origin, err4 := d.addrs(ctx, host, dns.TypeA)
	v6 := <-six
	switch {
	case len(v4) > 0 && len(v6.addrs) > 0:
		origin.Secure = origin.Secure && v6.origin.Secure
	case len(v6.addrs) > 0:
		origin = v6.origin
	case len(v4) == 0:
		// Only what both families agree on is certain.
		for _, err := range []error{err4, v6.err} {
			if !errors.Is(err, ErrNoAddress) && !errors.Is(err, ErrNoDomain) {
				return nil, Origin{}, err
			}
		}
		return nil, Origin{}, err4
	}
	if !origin.Secure && origin.Name != host {
		// RFC 7672 §2.1.3: whether the first CNAME is secure shows only when it is asked for alone.
		alias, err := d.lookup(ctx, host, dns.TypeCNAME)
		if err != nil {
			return nil, Origin{}, err
		}
		origin.SecureAlias = alias.origin.Secure
	}
	return alternate(v6.addrs, v4), origin, nil
}

func (d *DNS) addrs(ctx context.Context, host string, family uint16) ([]netip.Addr, Origin, error) {
	found, err := d.lookup(ctx, host, family)
	if err != nil {
		return nil, Origin{}, err
	}
	var addrs []netip.Addr
	for _, rr := range found.records {
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
		return addrs, found.origin, nil
	case found.proven:
		return nil, Origin{}, ErrNoAddress
	}
	return nil, Origin{}, errUnproven
}

func alternate(a, b []netip.Addr) []netip.Addr {
	var both []netip.Addr
	for len(a) > 0 && len(b) > 0 {
		both = append(both, a[0], b[0])
		a, b = a[1:], b[1:]
	}
	return append(append(both, a...), b...)
}

// TLSA is Resolver's.
func (d *DNS) TLSA(ctx context.Context, name string) ([]dane.Record, error) {
	found, err := d.lookup(ctx, name, dns.TypeTLSA)
	if errors.Is(err, ErrNoDomain) {
		return nil, nil
	}
	if err != nil || !found.origin.Secure { // RFC 7672 §2.2: insecure ones are as good as none
		return nil, err
	}
	var records []dane.Record
	for _, rr := range found.records {
		tlsa, ok := rr.(*dns.TLSA)
		if !ok {
			continue
		}
		data, err := hex.DecodeString(tlsa.Certificate)
		if err != nil {
			return nil, err
		}
		records = append(records, dane.Record{Usage: tlsa.Usage, Selector: tlsa.Selector, Matching: tlsa.MatchingType, Data: data})
	}
	return records, nil
}

// TXT is Resolver's.
func (d *DNS) TXT(ctx context.Context, name string) ([]string, error) {
	found, err := d.lookup(ctx, name, dns.TypeTXT)
	if errors.Is(err, ErrNoDomain) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, rr := range found.records {
		if txt, ok := rr.(*dns.TXT); ok {
			texts = append(texts, strings.Join(txt.Txt, ""))
		}
	}
	return texts, nil
}

// PTR returns the names that an address says it has, one of ErrNoDomain where it has none (RFC 1035 §3.5, RFC 3596 §2.5).
func (d *DNS) PTR(ctx context.Context, addr netip.Addr) ([]string, error) {
	name, err := dns.ReverseAddr(addr.Unmap().WithZone("").String())
	if err != nil {
		return nil, err
	}
	found, err := d.lookup(ctx, plainName(name), dns.TypePTR)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, rr := range found.records {
		if ptr, ok := rr.(*dns.PTR); ok {
			names = append(names, plainName(ptr.Ptr))
		}
	}
	return names, nil
}

// plainName is a name as the rest of the package has it.
func plainName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Static is a Resolver with all its answers given: for tests and demonstrations. A name in neither of the first two tables does not
// exist. Nothing is secure but the names in Secure.
type Static struct {
	Exchangers map[string][]MX
	Addresses  map[string][]netip.Addr
	TLSAs      map[string][]dane.Record
	Texts      map[string][]string
	Names      map[netip.Addr][]string
	Secure     map[string]bool
}

// MX is Resolver's.
func (s Static) MX(_ context.Context, domain string) ([]MX, Origin, error) {
	exchangers, known := s.Exchangers[domain]
	if _, host := s.Addresses[domain]; !known && !host {
		return nil, Origin{}, ErrNoDomain
	}
	return exchangers, s.origin(domain), nil
}

// Addrs is Resolver's.
func (s Static) Addrs(_ context.Context, host string) ([]netip.Addr, Origin, error) {
	if addrs := s.Addresses[host]; len(addrs) > 0 {
		return addrs, s.origin(host), nil
	}
	if _, known := s.Exchangers[host]; known {
		return nil, Origin{}, ErrNoAddress
	}
	return nil, Origin{}, ErrNoDomain
}

func (s Static) origin(name string) Origin { return Origin{Name: name, Secure: s.Secure[name]} }

// TLSA is Resolver's.
func (s Static) TLSA(_ context.Context, name string) ([]dane.Record, error) {
	return s.TLSAs[name], nil
}

// TXT is Resolver's.
func (s Static) TXT(_ context.Context, name string) ([]string, error) { return s.Texts[name], nil }

// PTR is DNS.PTR.
func (s Static) PTR(_ context.Context, addr netip.Addr) ([]string, error) {
	names, ok := s.Names[addr]
	if !ok {
		return nil, ErrNoDomain
	}
	return names, nil
}
