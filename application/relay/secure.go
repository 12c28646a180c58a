package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"bothy/application/message"
	"bothy/application/relay/dane"
	"bothy/application/relay/mtasts"
	"bothy/application/smtp"
	"bothy/lib/pin"
)

// The further ways to secure a connection: what an exchanger's own domain demands.
const (
	tlsDANE      = "dane"      // TLS with a certificate that TLSA records vouch for
	tlsEncrypted = "encrypted" // TLS with any certificate
)

// mandatory reports whether nothing may be sent to h in the clear.
func (h hop) mandatory() bool { return h.tls != tlsOpportunistic && h.tls != tlsNone }

// exchanger is one host that mail for a domain may go to.
type exchanger struct {
	host   string
	domain string // the mail's
	mx     Origin // of the MX records
	addrs  []netip.Addr
	origin Origin // of those
}

// policy is the MTA-STS policy of a domain (RFC 8461); nil when there is none.
func (r *Relay) policy(ctx context.Context, set *settings, domain string) *mtasts.Policy {
	if set.policies == nil || set.NextHops[domain].TLS != "" {
		return nil
	}
	return set.policies.Policy(ctx, domain)
}

// secure says how the connections to x are to be secured: as the operator wants it for the domain; else as x's TLSA records do, which a
// policy does not overrule (RFC 8461 §2); else as the domain's policy does; else opportunistically. A sender may ask that what the domain wants be ignored (RFC 8689 §4.1).
func (r *Relay) secure(ctx context.Context, set *settings, x exchanger, policy *mtasts.Policy, care care) (hop, *failure) {
	h := hop{name: x.host, sni: x.host, tls: tlsOpportunistic, demand: "relay.tls"}
	if mode := set.NextHops[x.domain].TLS; mode != "" {
		h.tls = mode
		return h, nil
	}
	if care == loose {
		return h, nil
	}
	enforced := policy != nil && policy.Mode == mtasts.Enforce
	if policy != nil && !policy.Matches(x.host) { // RFC 8461 §4.1
		if enforced {
			return h, later(7, 10, "the MTA-STS policy of %s does not name its exchanger %s", x.domain, x.host)
		}
		r.o.Log.Info("MTA-STS policy in testing does not name the exchanger", "domain", x.domain, "exchanger", x.host)
	}
	records, base, err := r.tlsa(ctx, set, x)
	usable := dane.Usable(records)
	switch {
	case err != nil: // RFC 7672 §2.2: as if it were unreachable
		return h, later(4, 3, "DNS did not say whether %s has TLSA records: %v", x.host, err)
	case len(usable) > 0:
		h.tls, h.sni, h.demand = tlsDANE, base, "its TLSA records" // RFC 7672 §8.1
		h.records, h.names = usable, x.names(base)
	case enforced: // records that are of no use want less
		h.tls, h.demand = tlsRequired, "the MTA-STS policy of "+x.domain
	case len(records) > 0: // RFC 7672 §2.2
		h.tls, h.sni, h.demand = tlsEncrypted, base, "its TLSA records"
	case policy != nil:
		h.trial = true
	}
	return h, nil
}

// tlsa returns the secure TLSA records of x and the name they belong to (RFC 7672 §2.2.2, §2.2.3). RFC 7672 §2.2.1: where the MX records
// are not secure, whoever forges those need not forge more, and we do not ask.
func (r *Relay) tlsa(ctx context.Context, set *settings, x exchanger) (records []dane.Record, base string, err error) {
	var candidates []string
	switch {
	case !x.mx.Secure:
	case x.origin.Secure:
		candidates = slices.Compact([]string{x.origin.Name, x.host})
	case x.origin.SecureAlias:
		candidates = []string{x.host}
	}
	for _, base := range candidates {
		records, err := set.resolver.TLSA(ctx, fmt.Sprintf("_%d._tcp.%s", r.o.MXPort, base)) // RFC 6698 §3
		if err != nil || len(records) > 0 {
			return records, base, err
		}
	}
	return nil, "", nil
}

// names are what a certificate for x may be issued to, by a trust anchor of x's (RFC 7672 §3.2.2).
func (x exchanger) names(base string) []string {
	names := []string{base}
	for _, name := range []string{x.domain, x.mx.Name} {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// tlsConfig is what h's certificate must prove. Opportunistically anybody's does: nothing says which name an exchanger must have, and to
// refuse would mean the clear (RFC 7435 §1).
func (r *Relay) tlsConfig(set *settings, h hop) *tls.Config {
	cfg := set.tls.Clone()
	cfg.ServerName = h.sni
	cfg.InsecureSkipVerify = h.tls != tlsRequired
	if !h.external {
		cfg.Certificates = nil
	}
	switch {
	case h.tls == tlsRequired:
		pin.Trust(cfg, h.pins)
	case h.tls == tlsDANE:
		cfg.VerifyConnection = func(state tls.ConnectionState) error {
			return dane.Verify(h.records, state.PeerCertificates, h.names, r.o.Now())
		}
	case h.trial:
		cfg.VerifyConnection = func(state tls.ConnectionState) error {
			if err := verifyName(cfg.RootCAs, state.PeerCertificates, h.sni); err != nil {
				r.o.Log.Info("MTA-STS policy in testing would refuse the certificate", "exchanger", h.name, "err", err)
			}
			return nil
		}
	}
	return cfg
}

// requiresTLS reports whether env goes by verified TLS and REQUIRETLS only. RFC 8689 §5: a notice goes on without.
func requiresTLS(env *message.Envelope) bool { return env.RequireTLS && !env.ReversePath.IsNull() }

// strictly is h for mail whose sender requires TLS (RFC 8689 §4.2.1): with the server's name proved, and REQUIRETLS.
func (h hop) strictly() hop {
	if h.tls != tlsDANE {
		h.tls, h.sni = tlsRequired, h.name
	}
	h.demand, h.strict = "the sender", true
	return h
}

// strictly is the same for an exchanger: that it is one must be proved as well, by DNSSEC or by a policy.
func (x exchanger) strictly(h hop, policy *mtasts.Policy) (hop, *failure) {
	if !x.mx.Secure && (policy == nil || !policy.Matches(x.host)) {
		return h, later(7, 10, "nothing proves that %s is a mail exchanger of %s, which is required (the sender)", x.host, x.domain)
	}
	return h.strictly(), nil
}

// unwilling is the failure of a server that does not promise what the sender requires.
func unwilling(h hop) *failure {
	return &failure{reply: smtp.Reply{Code: 451, Enhanced: [3]int{4, 7, 30}, Text: h.name + " does not offer REQUIRETLS, which is required (the sender)"}}
}

// insecure reports whether f is that TLS is not as the next hop's domain wants it.
func (f *failure) insecure() bool {
	return f.remote == "" && f.reply.Enhanced[1] == 7 && (f.reply.Enhanced[2] == 5 || f.reply.Enhanced[2] == 10)
}

// final is f for mail whose sender requires TLS: that there is none, or none that is proved, is permanent (RFC 8689 §4.2.1).
func (f *failure) final(strict bool) *failure {
	if f == nil || !strict || f.remote != "" || f.reply.Enhanced[1] != 7 {
		return f
	}
	switch f.reply.Enhanced[2] {
	case 5, 10: // X.7.10 is for whatever keeps us from TLS
		f.reply.Code, f.reply.Enhanced = 550, [3]int{5, 7, 10}
	case 30:
		f.reply.Code, f.reply.Enhanced = 550, [3]int{5, 7, 30}
	}
	return f
}

// verifyName verifies a chain as TLS itself would.
func verifyName(roots *x509.CertPool, chain []*x509.Certificate, name string) error {
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: name})
	return err
}

// dialHost connects to a host that the resolver finds: it is how policies are fetched.
func (r *Relay) dialHost(resolver Resolver) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		addrs, _, err := resolver.Addrs(ctx, host)
		if err != nil {
			return nil, err
		}
		for _, addr := range addrs[:min(len(addrs), maxPerHost)] {
			if conn, err = r.o.Dial(ctx, network, net.JoinHostPort(addr.String(), port)); err == nil {
				return conn, nil
			}
		}
		return nil, err
	}
}
