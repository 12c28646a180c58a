package authres

import (
	"context"
	"errors"
	"strings"

	"bothy/application/message"
	"bothy/application/relay"
)

// DMARC is whether what was authenticated is the author's domain, and what that asks for where it is not (RFC 9989 §5.3).
type DMARC struct {
	Result Result
	Why    string // for people
	Domain string // the author's
	Policy string // "none", "quarantine" or "reject": what is asked for a message that fails; "" without a record
}

// policyRecord is a DMARC Policy Record (RFC 9989 §4.7).
type policyRecord struct {
	policy, subdomains, absent string // p, sp, np; "" for none given
	valid                      bool   // they are, or "rua" makes up for it
	strictDKIM, strictSPF      bool
	psd                        string // "y", "n" or "u"
	testing                    bool
}

// parsePolicy reads a record; ok is false for what is none (RFC 9989 §4.7, §4.8).
func parsePolicy(text string) (r policyRecord, ok bool) {
	first, rest, _ := strings.Cut(text, ";")
	if name, value, _ := strings.Cut(first, "="); strings.Trim(name, " \t") != "v" || strings.Trim(value, " \t") != "DMARC1" {
		return r, false
	}
	found := map[string]string{}
	for spec := range strings.SplitSeq(rest, ";") {
		name, value, _ := strings.Cut(spec, "=")
		name, value = strings.ToLower(strings.Trim(name, " \t")), strings.Trim(value, " \t")
		if _, twice := found[name]; !twice {
			found[name] = strings.ToLower(value)
		}
	}
	r = policyRecord{valid: true, strictDKIM: found["adkim"] == "s", strictSPF: found["aspf"] == "s", psd: "u", testing: found["t"] == "y"}
	if psd := found["psd"]; psd == "y" || psd == "n" {
		r.psd = psd
	}
	for name, to := range map[string]*string{"p": &r.policy, "sp": &r.subdomains, "np": &r.absent} {
		value, given := found[name]
		switch value {
		case "none", "quarantine", "reject":
			*to = value
		default:
			r.valid = r.valid && !given && name != "p"
		}
	}
	if !r.valid { // RFC 9989 §4.10.1: p=none if it asks for reports, else no DMARC
		r.valid = strings.Contains(found["rua"], "mailto:")
		r.policy, r.subdomains, r.absent = "none", "", ""
	}
	return r, true
}

// walker finds policy records, each name asked once.
type walker struct {
	dns   Resolver
	known map[string]published
}

type published struct {
	record policyRecord
	found  bool
}

// at asks for the record of one domain; several are none (RFC 9989 §4.10).
func (w *walker) at(ctx context.Context, domain string) (policyRecord, bool, error) {
	if p, ok := w.known[domain]; ok {
		return p.record, p.found, nil
	}
	texts, err := w.dns.TXT(ctx, "_dmarc."+domain)
	if err != nil {
		return policyRecord{}, false, err
	}
	var p published
	count := 0
	for _, text := range texts {
		if r, ok := parsePolicy(text); ok {
			p.record = r
			count++
		}
	}
	p.found = count == 1
	if w.known == nil {
		w.known = map[string]published{}
	}
	w.known[domain] = p
	return p.record, p.found, nil
}

// maxWalk is how many names of a domain are asked for (RFC 9989 §4.10).
const maxWalk = 8

// walk lists the domains to ask for, from the domain itself up: of a long name the second is that of its last seven labels (RFC 9989 §4.10).
func walk(domain string) []string {
	all := []string{domain}
	for {
		_, parent, more := strings.Cut(domain, ".")
		if !more {
			return all
		}
		domain = parent
		if strings.Count(domain, ".")+1 < maxWalk {
			all = append(all, domain)
		}
	}
}

// organization finds the Organizational Domain of a domain, and where the walk met a record with psd=y its name (RFC 9989 §4.10.2).
func (w *walker) organization(ctx context.Context, domain string) (org, suffix string, err error) {
	org = domain
	names := walk(domain)
	for _, name := range names {
		r, found, err := w.at(ctx, name)
		switch {
		case err != nil:
			return "", "", err
		case !found:
		case r.psd == "n", r.psd == "y" && name == domain:
			return name, "", nil
		case r.psd == "y":
			return oneBelow(name, domain), name, nil
		default:
			org = name // the shortest so far
		}
	}
	return org, "", nil
}

// oneBelow is the domain one label below name on the way to domain.
func oneBelow(name, domain string) string {
	rest := strings.TrimSuffix(domain, "."+name)
	return rest[strings.LastIndexByte(rest, '.')+1:] + "." + name
}

// discover finds the record to apply to an author's domain and what it asks for (RFC 9989 §4.10.1).
func (w *walker) discover(ctx context.Context, domain string) (r policyRecord, policy string, found bool, err error) {
	if r, found, err = w.at(ctx, domain); err != nil || found {
		return r, r.policy, found && r.valid, err
	}
	org, suffix, err := w.organization(ctx, domain)
	if err != nil {
		return r, "", false, err
	}
	for _, name := range []string{org, suffix} {
		if name == "" || name == domain {
			continue
		}
		if r, found, err = w.at(ctx, name); err != nil || found {
			break
		}
	}
	if err != nil || !found || !r.valid {
		return r, "", false, err
	}
	policy = r.policy
	if r.subdomains != "" {
		policy = r.subdomains
	}
	if r.absent != "" && r.absent != policy {
		if _, _, err := w.dns.Addrs(ctx, domain); errors.Is(err, relay.ErrNoDomain) { // RFC 9989 §3.2.13
			policy = r.absent
		}
	}
	return r, policy, true, nil
}

// aligned reports whether an authenticated domain stands for another (RFC 9989 §4.4).
func (w *walker) aligned(ctx context.Context, authenticated, domain string, strict bool) (bool, error) {
	if authenticated == domain || strict {
		return authenticated == domain, nil
	}
	a, _, err := w.organization(ctx, authenticated)
	if err != nil {
		return false, err
	}
	b, _, err := w.organization(ctx, domain)
	return a == b, err
}

// authors returns the domains in From, each once (RFC 9989 §5.3.1).
func authors(h *message.Header) []string {
	var domains []string
	for _, from := range h.All("From") {
		list, err := message.ParseAddressList(from)
		if err != nil {
			return nil
		}
		for _, a := range list {
			a, _ = a.ASCII()
			if len(domains) == 0 || domains[0] != a.Domain {
				domains = append(domains, a.Domain)
			}
		}
	}
	return domains
}

// evaluate is what a message comes to (RFC 9989 §5.3).
func (w *walker) evaluate(ctx context.Context, domains []string, spf SPF, signatures []DKIM) DMARC {
	if len(domains) != 1 {
		return DMARC{Result: PermError, Why: "not one author's domain in From"}
	}
	v := DMARC{Domain: domains[0]}
	if strings.HasPrefix(v.Domain, "[") {
		v.Result = None
		return v
	}
	record, policy, found, err := w.discover(ctx, v.Domain)
	switch {
	case err != nil:
		v.Result, v.Why = TempError, "no answer from DNS"
		return v
	case !found:
		v.Result = None
		return v
	}
	if v.Policy = policy; record.testing { // RFC 9989 §4.7: one level below
		v.Policy = map[string]string{"reject": "quarantine"}[policy]
		if v.Policy == "" {
			v.Policy = "none"
		}
	}
	v.Result = Fail
	doubt := spf.Result == TempError
	check := func(domain string, strict bool) {
		ok, err := w.aligned(ctx, domain, v.Domain, strict)
		doubt = doubt || err != nil
		if ok && err == nil {
			v.Result = Pass
		}
	}
	if spf.Result == Pass {
		check(spf.Domain, record.strictSPF)
	}
	for _, s := range signatures {
		doubt = doubt || s.Result == TempError
		if s.Result == Pass && v.Result != Pass {
			check(s.Domain, record.strictDKIM)
		}
	}
	if v.Result == Fail && doubt {
		v.Result, v.Why = TempError, "what would have counted got no answer from DNS"
	}
	return v
}
