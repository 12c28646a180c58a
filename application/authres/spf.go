package authres

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"blitiri.com.ar/go/spf"

	"bothy/application/message"
	"bothy/application/relay"
)

// Resolver asks the DNS; relay.DNS is one. An error that is neither relay.ErrNoDomain nor relay.ErrNoAddress is no answer.
type Resolver interface {
	MX(ctx context.Context, domain string) ([]relay.MX, relay.Origin, error)
	Addrs(ctx context.Context, host string) ([]netip.Addr, relay.Origin, error)
	TXT(ctx context.Context, name string) ([]string, error) // that there are none is no error
	PTR(ctx context.Context, addr netip.Addr) ([]string, error)
}

// SPF is what the sender's domain says of the client (RFC 7208 §2.6).
type SPF struct {
	Result Result
	Why    string // for people
	Domain string // whose policy was asked
	Helo   bool   // it is the EHLO argument's: the reverse-path was null (RFC 7208 §2.4)
}

// checkSPF is check_host() for a message. It makes at most 10 terms' worth of lookups, 2 of them void (RFC 7208 §4.6.4).
func checkSPF(ctx context.Context, dns Resolver, env *message.Envelope) SPF {
	from, _ := env.ReversePath.ASCII()
	v := SPF{Domain: from.Domain, Helo: from.IsNull()}
	if v.Helo {
		from = message.Address{Local: "postmaster", Domain: strings.ToLower(env.Helo)} // RFC 7208 §2.4
		v.Domain = from.Domain
	}
	if _, err := domainName(v.Domain); err != nil || !strings.Contains(v.Domain, ".") { // RFC 7208 §4.3: literals, names of one label
		v.Result = None
		return v
	}
	got, err := spf.CheckHostWithSender(net.IP(env.Client.Unmap().AsSlice()), env.Helo, from.Local+"@"+from.Domain,
		spf.WithContext(ctx), spf.WithResolver(spfResolver{dns}))
	v.Result = Result(got)
	switch {
	case err == nil:
	case v.Result == TempError:
		v.Why = "no answer from DNS"
	case v.Result == PermError:
		v.Why = err.Error()
	}
	return v
}

// spfResolver is a Resolver as the SPF library wants one.
type spfResolver struct{ dns Resolver }

// said is err as that library tells certain absence from no answer.
func said(name string, err error) error {
	if err == nil {
		return nil
	}
	absent := errors.Is(err, relay.ErrNoDomain) || errors.Is(err, relay.ErrNoAddress)
	return &net.DNSError{Err: err.Error(), Name: name, IsNotFound: absent, IsTemporary: !absent}
}

func plain(name string) string { return strings.TrimSuffix(name, ".") }

func (r spfResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	texts, err := r.dns.TXT(ctx, plain(name))
	return texts, said(name, err)
}

func (r spfResolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	exchangers, _, err := r.dns.MX(ctx, plain(name))
	all := make([]*net.MX, len(exchangers))
	for i, x := range exchangers {
		all[i] = &net.MX{Host: x.Host, Pref: x.Preference}
	}
	return all, said(name, err)
}

func (r spfResolver) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	addrs, _, err := r.dns.Addrs(ctx, plain(host))
	all := make([]net.IPAddr, len(addrs))
	for i, a := range addrs {
		all[i] = net.IPAddr{IP: net.IP(a.AsSlice())}
	}
	return all, said(host, err)
}

func (r spfResolver) LookupAddr(ctx context.Context, address string) ([]string, error) {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return nil, &net.DNSError{Err: err.Error(), Name: address, IsNotFound: true}
	}
	hosts, err := r.dns.PTR(ctx, addr)
	return hosts, said(address, err)
}
