package relay

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// Bounds of the search for a server that answers. RFC 5321 §5.1: there may be a limit; at least two should be tried.
const (
	maxExchangers = 20 // MX records looked at, the most preferred
	maxTries      = 5  // addresses dialled
	maxPerHost    = 2  // of them on one exchanger
)

// connectMX opens a session with the best exchanger of domain, or of an address literal, that answers.
func (r *Relay) connectMX(ctx context.Context, set *settings, domain string, care care) (*session, *failure) {
	strict := care == strict
	if literal, ok := strings.CutPrefix(domain, "["); ok {
		return r.connectLiteral(ctx, set, literal, strict)
	}
	preferences, mx, f := r.exchangers(ctx, set, domain)
	if f != nil {
		return nil, f
	}
	policy := r.policy(ctx, set, domain)
	var t tally
	tries := 0
	for _, hosts := range preferences {
		found, loop := r.addresses(ctx, set, hosts, &t)
		if loop {
			t.add(never(554, 4, 6, "the mail exchangers of %s lead back to this server, which has no mailboxes for it", domain))
			break
		}
		for _, x := range found {
			x.domain, x.mx = domain, mx
			h, f := r.secure(ctx, set, x, policy, care)
			if f == nil && strict {
				h, f = x.strictly(h, policy)
			}
			if f != nil {
				t.add(f.final(strict))
				continue
			}
			for _, addr := range x.addrs {
				if tries == maxTries {
					return nil, t.result()
				}
				tries++
				h.address = netip.AddrPortFrom(addr, r.o.MXPort).String()
				s, f := r.open(ctx, set, h)
				if f == nil {
					return s, nil
				}
				t.add(f.final(strict))
				if ctx.Err() != nil || f.reply.Permanent() { // it said so by name: its other addresses will too
					break
				}
			}
		}
	}
	return nil, t.result()
}

// connectLiteral is for "[192.0.2.1]" and "[ipv6:2001:db8::1]" (RFC 5321 §4.1.3).
func (r *Relay) connectLiteral(ctx context.Context, set *settings, literal string, strict bool) (*session, *failure) {
	literal = strings.TrimSuffix(strings.ToLower(literal), "]")
	addr, err := netip.ParseAddr(strings.TrimPrefix(literal, "ipv6:"))
	at := netip.AddrPortFrom(addr, r.o.MXPort)
	switch {
	case err != nil:
		return nil, never(550, 1, 2, "[%s] is no address literal", literal)
	case r.o.Self(at):
		return nil, never(554, 4, 6, "[%s] is this server, which has no mailboxes for it", literal)
	}
	// RFC 7672 §2.2, RFC 8461 §3.4: neither TLSA records nor policies are for literals.
	h := hop{name: addr.String(), sni: addr.String(), address: at.String(), tls: tlsOpportunistic}
	if strict {
		h = h.strictly()
	}
	s, f := r.open(ctx, set, h)
	return s, f.final(strict)
}

// exchangers returns the hosts of domain that mail may go to, the preferred first, those of equal preference together in random
// order (RFC 5321 §5.1), and where that is known from.
func (r *Relay) exchangers(ctx context.Context, set *settings, domain string) ([][]string, Origin, *failure) {
	records, mx, err := set.resolver.MX(ctx, domain)
	switch {
	case errors.Is(err, ErrNoDomain):
		return nil, mx, never(550, 1, 2, "the domain %s does not exist; is the address spelt right?", domain)
	case err != nil: // RFC 5321 §5.1: queued and retried later
		f := later(4, 3, "DNS did not say where mail for %s goes: %v", domain, err)
		f.silent, f.unreached = true, true
		return nil, mx, f
	case len(records) == 0:
		records = []MX{{0, domain}} // RFC 5321 §5.1: the implicit MX
	case len(records) == 1 && records[0].Host == "":
		return nil, mx, never(556, 1, 10, "the domain %s takes no mail (null MX)", domain) // RFC 7505 §4.1
	}
	type ranked struct {
		MX
		dice float64
	}
	var order []ranked
	for _, mx := range records {
		if mx.Host != "" { // RFC 7505 §3: a null MX among others means nothing
			order = append(order, ranked{mx, r.o.Rand()})
		}
	}
	slices.SortFunc(order, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.Preference, b.Preference), cmp.Compare(a.dice, b.dice))
	})
	var preferences [][]string
	for i, mx := range order[:min(len(order), maxExchangers)] {
		if i == 0 || mx.Preference != order[i-1].Preference {
			preferences = append(preferences, nil)
		}
		last := len(preferences) - 1
		preferences[last] = append(preferences[last], mx.Host)
	}
	// RFC 5321 §5.1: from where we are listed ourselves on, nothing comes into question.
	for i, hosts := range preferences {
		if slices.ContainsFunc(hosts, func(host string) bool { return strings.EqualFold(host, r.o.Hostname) }) {
			preferences = preferences[:i]
			break
		}
	}
	if len(preferences) == 0 {
		return nil, mx, never(554, 4, 6, "the mail exchangers of %s lead back to this server, which has no mailboxes for it", domain)
	}
	return preferences, mx, nil
}

// addresses finds at most maxPerHost addresses of each host, and whether one is ours. Hosts without any go to t.
func (r *Relay) addresses(ctx context.Context, set *settings, hosts []string, t *tally) (found []exchanger, loop bool) {
	for _, host := range hosts {
		addrs, origin, err := set.resolver.Addrs(ctx, host)
		switch {
		case errors.Is(err, ErrNoDomain), errors.Is(err, ErrNoAddress): // RFC 5321 §5.1: must be reported as an error
			t.add(never(550, 4, 4, "the mail exchanger %s has no address in DNS", host))
			continue
		case err != nil:
			f := later(4, 3, "DNS did not give the address of the mail exchanger %s: %v", host, err)
			f.silent, f.unreached = true, true
			t.add(f)
			continue
		}
		for _, addr := range addrs {
			loop = loop || r.o.Self(netip.AddrPortFrom(addr, r.o.MXPort))
		}
		found = append(found, exchanger{host: host, addrs: addrs[:min(len(addrs), maxPerHost)], origin: origin})
	}
	return found, loop
}
