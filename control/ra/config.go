package ra

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Config is what the operator sets.
type Config struct {
	Links []LinkConfig `toml:"link" doc:"Links on which this host is the router, and tells hosts so."`
}

// LinkConfig is one link: RFC 4861 §6.2.1.
type LinkConfig struct {
	Interface   string         `doc:"The interface to the link." required:"true" example:"eth1"`
	Managed     bool           `doc:"Hosts get addresses by DHCPv6: the M flag (RFC 4861 §4.2)."`
	Other       bool           `doc:"Hosts get other things by DHCPv6, such as where their mail is: the O flag."`
	MaxInterval time.Duration  `doc:"The longest time between two advertisements." default:"10m" min:"4s" max:"30m"`
	MinInterval time.Duration  `doc:"The shortest. 0: a third of max_interval." max:"22m30s"`
	NotDefault  bool           `doc:"Advertise prefixes and flags only: this host is nobody's default router."`
	Lifetime    time.Duration  `doc:"How long hosts use this router without hearing of it again. 0: three times max_interval." max:"9000s"`
	Preference  string         `doc:"Whether hosts take this router before others (RFC 4191 §2.1): low, medium or high." default:"medium"`
	HopLimit    int            `doc:"Hop limit of what hosts send. 0: their own." default:"64" min:"0" max:"255"`
	MTU         int            `toml:"mtu" doc:"Largest packet of the link. 0: not said." min:"0" max:"65535"`
	Prefixes    []PrefixConfig `toml:"prefix" doc:"Prefixes of the link."`
	Subnets     []SubnetConfig `toml:"delegated" doc:"Prefixes of the link that are cut from what the provider delegates to this host (dhcp6_client.prefix): their lifetimes are what is left of the delegation, and one that is lost is advertised with lifetimes of 0 (RFC 9915 §6.3). This host has the first address of each."`
	DNS         []netip.Addr   `toml:"dns" doc:"DNS servers (RFC 8106 §5.1), for hosts without DHCPv6." example:"2001:db8:1::1"`
	Search      []string       `doc:"Domains in which short names are looked up (RFC 8106 §5.2)." example:"clinic.example"`
}

// PrefixConfig is one prefix of a link.
type PrefixConfig struct {
	Prefix     netip.Prefix  `doc:"The prefix." required:"true" example:"2001:db8:1::/64"`
	OnLink     bool          `doc:"Its addresses are reached without a router: the L flag (RFC 4861 §4.6.2)." default:"true"`
	Autonomous bool          `doc:"Hosts make addresses of it by themselves: the A flag (RFC 4862). Off where DHCPv6 gives them." default:"true"`
	Valid      time.Duration `doc:"How long it holds." default:"720h" max:"876000h"`
	Preferred  time.Duration `doc:"How long addresses of it are for new connections." default:"168h" max:"876000h"`
}

// SubnetConfig is one prefix of a link, of what is delegated.
type SubnetConfig struct {
	Number     int  `doc:"Which /64 of the delegated prefix: 0 is the first." min:"0" max:"65535"`
	OnLink     bool `doc:"As above." default:"true"`
	Autonomous bool `doc:"As above." default:"true"`
}

var preferences = map[string]Preference{"low": Low, "medium": Medium, "high": High}

// maxServers bounds a list of DNS servers.
const maxServers = 8

// CheckConfig reports what is wrong with cfg, by key.
func (cfg *Config) CheckConfig(report func(key string, err error)) {
	seen := map[string]bool{}
	for i := range cfg.Links {
		l, key := &cfg.Links[i], fmt.Sprintf("link[%d].", i+1)
		if seen[l.Interface] {
			report(key+"interface", fmt.Errorf("%s is there twice", l.Interface))
		}
		seen[l.Interface] = true
		l.check(func(k string, err error) { report(key+k, err) })
	}
}

// check reports what is wrong with a link: RFC 4861 §6.2.1 has the bounds.
func (l *LinkConfig) check(report func(key string, err error)) {
	l.fill()
	if l.MinInterval < minimumInterval || l.MinInterval > max(l.MaxInterval*3/4, minimumInterval) {
		report("min_interval", fmt.Errorf("%v is not within %v and three quarters of max_interval", l.MinInterval, minimumInterval))
	}
	if l.Lifetime < l.MaxInterval {
		report("lifetime", errors.New("is shorter than max_interval: hosts would forget this router in between"))
	}
	if _, ok := preferences[l.Preference]; !ok {
		report("preference", fmt.Errorf("%q is not low, medium or high", l.Preference))
	}
	if l.MTU != 0 && l.MTU < 1280 {
		report("mtu", fmt.Errorf("%d: a link for IPv6 carries 1280 octets (RFC 8200 §5)", l.MTU))
	}
	for i, p := range l.Prefixes {
		key := fmt.Sprintf("prefix[%d].", i+1)
		switch {
		case !p.Prefix.IsValid() || !p.Prefix.Addr().Is6() || p.Prefix.Addr().Is4In6() || p.Prefix != p.Prefix.Masked() || p.Prefix.Addr().IsLinkLocalUnicast() || p.Prefix.Addr().IsMulticast():
			report(key+"prefix", fmt.Errorf("%v is no prefix to advertise", p.Prefix))
		case p.Preferred > p.Valid:
			report(key+"preferred", errors.New("is longer than valid"))
		case p.Autonomous && p.Prefix.Bits() != 64:
			report(key+"autonomous", fmt.Errorf("hosts make addresses of a /64 only, not of %v (RFC 4862 §5.5.3)", p.Prefix))
		}
	}
	for i, s := range l.Subnets {
		if slices.ContainsFunc(l.Subnets[:i], func(other SubnetConfig) bool { return other.Number == s.Number }) {
			report(fmt.Sprintf("delegated[%d].number", i+1), fmt.Errorf("%d is there twice", s.Number))
		}
	}
	if len(l.DNS) > maxServers {
		report("dns", fmt.Errorf("%d: at most %d", len(l.DNS), maxServers))
	}
	for _, a := range l.DNS {
		if !a.Is6() || a.Is4In6() || a.IsMulticast() || a.IsUnspecified() || a.IsLoopback() || a.Zone() != "" {
			report("dns", fmt.Errorf("%v is no IPv6 address that a host could reach", a))
		}
	}
	a, err := l.advertisement()
	a.Prefixes = append(a.Prefixes, make([]Prefix, len(l.Subnets)+min(len(l.Subnets), 1)*maxLost)...)
	if err == nil && len(a.AppendTo(nil, make([]byte, 6))) > maxMessage {
		err = errors.New("all of this is more than fits into one advertisement")
	}
	if err != nil {
		report("search", err)
	}
}

// fill gives what is zero its default (RFC 4861 §6.2.1).
func (l *LinkConfig) fill() {
	l.MaxInterval = cmp.Or(l.MaxInterval, 10*time.Minute)
	l.MinInterval = cmp.Or(l.MinInterval, max(l.MaxInterval/3, minimumInterval))
	l.Lifetime = cmp.Or(l.Lifetime, 3*l.MaxInterval)
	l.Preference = cmp.Or(l.Preference, "medium")
}

// advertisement is what the link is told.
func (l *LinkConfig) advertisement() (a Advertisement, err error) {
	a = Advertisement{
		HopLimit: byte(l.HopLimit), Managed: l.Managed, Other: l.Other, Preference: preferences[l.Preference], Lifetime: l.Lifetime, MTU: uint32(l.MTU),
		Servers: slices.Clone(l.DNS), NamesLast: 3 * l.MaxInterval, // RFC 8106 §5.1
	}
	if l.NotDefault {
		a.Lifetime = 0
	}
	for _, p := range l.Prefixes {
		a.Prefixes = append(a.Prefixes, Prefix(p))
	}
	for _, name := range l.Search {
		for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
			if label == "" || len(label) > 63 || len(name) > 253 {
				return a, fmt.Errorf("%q is not a domain name", name)
			}
			a.Domains = append(append(a.Domains, byte(len(label))), label...)
		}
		a.Domains = append(a.Domains, 0)
	}
	return a, nil
}
