package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"

	"bothy/application/message"
	"bothy/application/queue"
)

// Directory is what routing asks of the accounts: directory.Directory has it. Domains are asked for in lower case, as A-labels.
type Directory interface {
	Local(domain string) bool                      // has mailboxes here
	Held(domain string) (account string, ok bool)  // waits here for a customer's call
	Resolve(a message.Address) (accounts []string) // who gets a's mail; nobody: unknown
}

// Config is the site's routes.
type Config struct {
	Smarthost         string            `doc:"The server that takes all mail that is neither ours nor named in via or lan, as host:port (587 and 465 are for submission, RFC 6409 §3.1, RFC 8314 §3.3). Empty: straight to each domain's mail exchangers." example:"mail.provider.example:587"`
	SmarthostFallback []string          `doc:"Servers that take the smarthost's place while it cannot be used, in this order. They are shown the same login, unless relay.next_hops has one for them." example:"mail2.provider.example:587"`
	Via               map[string]string `doc:"Other next hops by recipient domain: \"partner.example\" is that domain, \".partner.example\" all domains below it; the longest match wins." example:"192.0.2.7:25"`
	LAN               map[string]string `toml:"lan" doc:"The same for servers on this side of the uplink: their mail goes whether the link is up or not, and what becomes of it says nothing of the link." example:"192.168.1.5:25"`
	Forward           map[string]string `doc:"Mailboxes that have gone elsewhere and whose mail from other servers is sent on: RCPT is answered with 251 and the new address (RFC 5321 §3.4)." example:"nurse@hospital.example"`
	Moved             map[string]string `doc:"The same for those whose mail is not sent on: 551 and the new address, which everybody can learn so." example:"doctor@hospital.example"`
	NoMail            []string          `doc:"Domains that take no mail: 556 for every recipient in them (RFC 7504 §4)." example:"www.clinic.example"`
	RelayFrom         []netip.Prefix    `doc:"Networks whose hosts may send mail to anywhere through the border port without authentication (RFC 5321 §7.9). Best left empty." example:"192.0.2.0/28"`
}

// CheckConfig reports what is wrong with cfg, by key.
func (cfg *Config) CheckConfig(report func(key string, err error)) {
	if cfg.Smarthost != "" {
		if err := checkHop(cfg.Smarthost); err != nil {
			report("smarthost", err)
		}
	}
	for _, hop := range cfg.SmarthostFallback {
		if err := checkHop(hop); err != nil {
			report("smarthost_fallback", err)
		}
	}
	if cfg.Smarthost == "" && len(cfg.SmarthostFallback) > 0 {
		report("smarthost_fallback", errors.New("there is no smarthost: set smarthost to the first of them"))
	}
	checkHops("via", cfg.Via, report)
	checkHops("lan", cfg.LAN, report)
	for domain := range cfg.LAN {
		if _, twice := cfg.Via[domain]; twice {
			report(fmt.Sprintf("lan.%q", domain), errors.New("stands in via too"))
		}
	}
	parseElsewhere("forward", cfg.Forward, report)
	for from := range parseElsewhere("moved", cfg.Moved, report) {
		if _, twice := parseElsewhere("", cfg.Forward, func(string, error) {})[from]; twice {
			report(fmt.Sprintf("moved.%q", from), errors.New("stands in forward too"))
		}
	}
	for _, domain := range cfg.NoMail {
		if _, err := message.ParseAddress("postmaster@" + domain); err != nil {
			report("no_mail", fmt.Errorf("%q is no domain", domain))
		}
	}
	for _, p := range cfg.RelayFrom {
		if p.IsValid() && p.Bits() == 0 {
			report("relay_from", errors.New(p.String()+" is everybody: an open relay"))
		}
	}
}

// checkHops checks a table of next hops by domain.
func checkHops(table string, hops map[string]string, report func(key string, err error)) {
	for domain, hop := range hops {
		key := fmt.Sprintf("%s.%q", table, domain)
		if _, err := message.ParseAddress("postmaster@" + strings.TrimPrefix(domain, ".")); err != nil {
			report(key, fmt.Errorf("%q is neither a domain nor a dot and a domain", domain))
		}
		if err := checkHop(hop); err != nil {
			report(key, err)
		}
	}
}

func checkHop(hop string) error {
	host, port, err := net.SplitHostPort(hop)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("%q is not host:port, such as \"mail.provider.example:587\"", hop)
	}
	if n, err := net.LookupPort("tcp", port); err != nil || n == 0 {
		return fmt.Errorf("%q: the port is neither a number from 1 to 65535 nor the name of a service", hop)
	}
	return nil
}

// Smarthosts are the smarthost and those that take its place, in the order to try them; none when there is no smarthost.
func (cfg *Config) Smarthosts() []string {
	if cfg.Smarthost == "" {
		return nil
	}
	return append([]string{cfg.Smarthost}, cfg.SmarthostFallback...)
}

// Router names the lane of each recipient; it is a queue.Router. The first of these that fits decides:
//
//  1. no domain, or this server's own name (RFC 5321 §4.5.1)     mailbox/<our own name>
//  2. a local domain of the directory                             mailbox/<domain>
//  3. a domain held for a customer                                odmr/<domain>
//  4. the domain, else its longest ".suffix", in Config.LAN       lan/<host:port>
//     or in Config.Via                                            smarthost/<host:port>
//  5. Config.Smarthost, when set                                  smarthost/<host:port>
//  6. anything else, address literals too                         mx/<domain>, mx/[192.0.2.1]
//
// Domains in lanes are lower-case A-labels (RFC 5890 §2.3.2.1). Safe for concurrent use.
type Router struct {
	hostname  string
	directory Directory
	routes    atomic.Pointer[routes]
}

// routes is a Config made ready for lookups.
type routes struct {
	smarthost string
	via       map[string]queue.Lane // by domain or .suffix
	relayFrom []netip.Prefix
	forward   elsewhere       // mail goes there
	gone      elsewhere       // it does not
	noMail    map[string]bool // domains
}

// New returns a router for the server called hostname.
func New(hostname string, d Directory, cfg Config) (*Router, error) {
	r := &Router{hostname: ascii(message.Address{Local: "x", Domain: hostname}), directory: d}
	return r, r.Set(cfg)
}

// Set replaces the routes at once; mail that already waits moves when the queue asks again (queue.Store.Reroute). A cfg with
// a fault changes nothing.
func (r *Router) Set(cfg Config) error {
	var errs []error
	cfg.CheckConfig(func(key string, err error) { errs = append(errs, fmt.Errorf("route: %s: %w", key, err)) })
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	via := make(map[string]queue.Lane, len(cfg.Via)+len(cfg.LAN))
	for kind, hops := range map[string]map[string]string{"smarthost/": cfg.Via, "lan/": cfg.LAN} {
		for domain, hop := range hops {
			suffix, dot := strings.CutPrefix(domain, ".")
			key := ascii(message.Address{Local: "x", Domain: strings.ToLower(suffix)})
			if dot {
				key = "." + key
			}
			via[key] = queue.Lane(kind + hop)
		}
	}
	relayFrom := make([]netip.Prefix, len(cfg.RelayFrom))
	for i, p := range cfg.RelayFrom {
		relayFrom[i] = p.Masked()
	}
	next := &routes{smarthost: cfg.Smarthost, via: via, relayFrom: relayFrom, noMail: map[string]bool{}}
	ignore := func(string, error) {} // CheckConfig has reported
	next.forward, next.gone = parseElsewhere("", cfg.Forward, ignore), parseElsewhere("", cfg.Moved, ignore)
	for _, domain := range cfg.NoMail {
		next.noMail[ascii(message.Address{Local: "x", Domain: domain})] = true
	}
	r.routes.Store(next)
	return nil
}

// Lane is queue.Router's.
func (r *Router) Lane(_ *message.Envelope, to *message.Recipient) queue.Lane {
	domain := ascii(to.Address)
	if domain == "" {
		domain = r.hostname
	}
	if r.local(domain) {
		return queue.Lane("mailbox/" + domain)
	}
	if _, held := r.directory.Held(domain); held {
		return queue.Lane("odmr/" + domain)
	}
	routes := r.routes.Load()
	if lane, ok := routes.hop(domain); ok {
		return lane
	}
	return queue.Lane("mx/" + domain)
}

// Among returns which lanes may hold recipients of domains, however they came to be routed there: those called after one of the domains, and those of next
// hops, which are called after a host.
func Among(domains []string) func(queue.Lane) bool {
	named := make(map[string]bool, len(domains))
	for _, d := range domains {
		named[d] = true
	}
	return func(l queue.Lane) bool { return l.Kind() == "smarthost" || l.Kind() == "lan" || named[l.Name()] }
}

// Handed reports whether mail for domain goes to another server on this side of the uplink (Config.LAN).
func (r *Router) Handed(domain string) bool {
	lane, ok := r.routes.Load().hop(domain)
	return ok && lane.Kind() == "lan" && !r.local(domain)
}

// local reports whether mail for domain ends here. This server's own name is ours whoever has an account: a notice to our own
// postmaster must not leave (RFC 5321 §6.1). Held for a customer, it is the customer's.
func (r *Router) local(domain string) bool {
	if domain == r.hostname {
		_, held := r.directory.Held(domain)
		return !held
	}
	return r.directory.Local(domain)
}

// hop is the lane of the next hop that the configuration names for domain.
func (r *routes) hop(domain string) (lane queue.Lane, ok bool) {
	if lane, ok := r.via[domain]; ok {
		return lane, true
	}
	if !strings.HasPrefix(domain, "[") {
		for rest := domain; ; { // the longest suffix first
			dot := strings.IndexByte(rest, '.')
			if dot < 0 {
				break
			}
			rest = rest[dot+1:]
			if lane, ok := r.via["."+rest]; ok {
				return lane, true
			}
		}
	}
	return queue.Lane("smarthost/" + r.smarthost), r.smarthost != ""
}

// ascii is the domain of a as lower-case A-labels; one that has none stays as it is, and DNS will not know it.
func ascii(a message.Address) string {
	a, _ = a.ASCII()
	return strings.TrimSuffix(strings.ToLower(a.Domain), ".")
}
