package submission

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"bothy/application/message"
)

// What may be done to an address, in this order, before anything is asked about it: complete, expand, rewrite.

// resolve returns the address that a stands for by the rules of the configuration; a itself where none applies. A forward-pointing
// address's local part is its domain's to read, so it is rewritten only where the domain is ours (RFC 6409 §8.8).
func (a *Agent) resolve(m message.Address) message.Address {
	if m.IsNull() {
		return m
	}
	if m.Domain == "" {
		if whole, ok := a.complete(m.Local); ok {
			m = whole
		}
	}
	if !strings.Contains(m.Domain, ".") {
		m.Domain = a.expand(m.Domain)
	}
	return a.rewriter.apply(m, a.isLocal)
}

// complete finds whose address a local part is. RFC 6409 §8: nothing is completed that was not verified to be somebody's.
func (a *Agent) complete(local string) (m message.Address, ok bool) {
	if a.Config.Complete && a.Names != nil {
		for _, name := range []string{local, a.rewriter.locals[strings.ToLower(local)]} {
			m = message.Address{Local: name, Domain: a.Names.Chief()}
			if name != "" && m.Domain != "" && len(a.Names.Resolve(m)) > 0 {
				return m, true
			}
		}
	}
	if a.Users != nil && a.Users(local) {
		return message.Address{Local: local, Domain: a.Hostname}, true
	}
	return message.Address{}, false
}

// expand makes a known domain of a single label, or leaves it (RFC 6409 §4.2).
func (a *Agent) expand(label string) string {
	if domain, ok := a.expansion(label); ok {
		return domain
	}
	return label
}

func (a *Agent) expansion(domain string) (whole string, ok bool) {
	for _, suffix := range a.Config.Expand {
		if whole := domain + "." + strings.ToLower(suffix); domain != "" && a.isLocal(whole) {
			return whole, true
		}
	}
	return "", false
}

// everyDomain stands for all domains in Config.CNAMEs.
const everyDomain = "*"

// lookupTime is how long the look-ups of one command or one text may take together: far less than a client waits for its reply (RFC 6409 §5.3).
const lookupTime = 10 * time.Second

// follower returns what puts in the place of an alias the domain that it stands for (RFC 6409 §8.7), where the configuration lists it; done
// ends it. Each domain is asked for once.
func (a *Agent) follower(ctx context.Context) (follow func(message.Address) message.Address, done func()) {
	if a.Canonical == nil || len(a.Config.CNAMEs) == 0 {
		return func(m message.Address) message.Address { return m }, func() {}
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	known := map[string]string{}
	return func(m message.Address) message.Address {
		ascii, _ := m.ASCII()
		if !a.isAliased(ascii.Domain) {
			return m
		}
		domain, ok := known[ascii.Domain]
		if !ok {
			if domain = ascii.Domain; ctx.Err() == nil {
				domain = a.Canonical(ctx, domain)
			}
			known[ascii.Domain] = domain
		}
		if domain != ascii.Domain {
			m.Domain = domain
		}
		return m
	}, cancel
}

// isAliased reports whether a domain is to be replaced if it is an alias. Ours are never.
func (a *Agent) isAliased(domain string) bool {
	if !strings.Contains(domain, ".") || strings.HasPrefix(domain, "[") || a.isLocal(domain) {
		return false
	}
	return slices.ContainsFunc(a.Config.CNAMEs, func(listed string) bool {
		listed = strings.ToLower(listed)
		return listed == everyDomain || domain == listed || strings.HasSuffix(domain, "."+listed)
	})
}

func (a *Agent) isLocal(domain string) bool { return a.Names != nil && a.Names.Local(domain) }

// nowhere are the last labels that the public DNS does not and will not have: RFC 6761 §6.3, §6.4, RFC 6762 §3, ICANN's "internal", and
// what old hosts files say.
var nowhere = map[string]bool{"localhost": true, "invalid": true, "local": true, "internal": true, "localdomain": true}

// isQualified reports whether m's domain is whole (RFC 6409 §4.2): an address literal, a domain of ours, or one that the DNS could have. RFC
// 6409 §4.2 also wants incomplete domains of several labels refused: those that would be ours with one of the configured domains behind them.
func (a *Agent) isQualified(m message.Address) bool {
	if strings.HasPrefix(m.Domain, "[") || m.Domain != "" && a.isLocal(m.Domain) {
		return true
	}
	dot := strings.LastIndexByte(m.Domain, '.')
	if dot < 0 {
		return false
	}
	top := m.Domain[dot+1:]
	if nowhere[top] || strings.Trim(top, "0123456789") == "" {
		return false
	}
	_, partial := a.expansion(m.Domain)
	return !partial
}

// isPostmaster reports whether m is the postmaster here, however it is spelt (RFC 5321 §4.1.1.3, §4.5.1).
func (a *Agent) isPostmaster(m message.Address) bool {
	return strings.EqualFold(m.Local, "postmaster") && (m.Domain == "" || a.isLocal(m.Domain))
}

// rewriter holds exact rules (RFC 6409 §8.8); all keys are in lower case. Each of its maps is asked once, so that no rule meets its own result.
type rewriter struct {
	whole   map[message.Address]message.Address
	domains map[string]string // by "example.net", or ".example.net" for all below it
	locals  map[string]string
}

// newRewriter reads the rules of Config.Rewrite.
func newRewriter(rules map[string]string) (*rewriter, error) {
	r := &rewriter{map[message.Address]message.Address{}, map[string]string{}, map[string]string{}}
	for from, to := range rules {
		if err := r.add(strings.ToLower(from), to); err != nil {
			return nil, fmt.Errorf("%q = %q: %w", from, to, err)
		}
	}
	return r, nil
}

func (r *rewriter) add(from, to string) error {
	below, isBelow := strings.CutPrefix(from, "*.")
	at, isDomain := strings.CutPrefix(from, "@")
	switch {
	case isBelow || isDomain:
		key, err := domainOf(below)
		if isDomain {
			key, err = domainOf(at)
		}
		if err != nil {
			return err
		}
		domain, err := domainOf(strings.TrimPrefix(to, "@"))
		if err != nil {
			return err
		}
		if isBelow {
			key = "." + key
		}
		r.domains[key] = domain
	case strings.Contains(from, "@"):
		old, err := message.ParseAddress(from)
		if err != nil {
			return err
		}
		r.whole[old], err = message.ParseAddress(to)
		return err
	default:
		for _, local := range []string{from, to} {
			if _, err := message.ParseAddress(local + "@x.example"); err != nil || strings.Contains(local, "*") { // RFC 6409 §8.8: exact rules only
				return fmt.Errorf("%q is not a local part", local)
			}
		}
		r.locals[from] = to
	}
	return nil
}

// domainOf checks that s is a domain, and returns it in lower case.
func domainOf(s string) (string, error) {
	a, err := message.ParseAddress("x@" + s)
	if err != nil || strings.HasPrefix(s, "[") {
		return "", fmt.Errorf("%q is not a domain", s)
	}
	return a.Domain, nil
}

// apply rewrites m by the rule for the whole address, or else by those for its domain and then its local part.
func (r *rewriter) apply(m message.Address, isLocal func(domain string) bool) message.Address {
	if m.Domain == "" {
		return m
	}
	lower := message.Address{Local: strings.ToLower(m.Local), Domain: m.Domain}
	if to, ok := r.whole[lower]; ok && (to.Local == lower.Local || isLocal(m.Domain)) {
		return to
	}
	if to, ok := r.domains[m.Domain]; ok {
		m.Domain = to
	} else {
		m.Domain = r.parent(m.Domain)
	}
	if to, ok := r.locals[lower.Local]; ok && isLocal(m.Domain) {
		m.Local = to
	}
	return m
}

// parent applies the nearest rule for what is below a domain.
func (r *rewriter) parent(domain string) string {
	for rest := domain; len(r.domains) > 0; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			break
		}
		if to, ok := r.domains[rest[dot:]]; ok {
			return to
		}
		rest = rest[dot+1:]
	}
	return domain
}
