package dhcp6

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"bothy/control/lease"
)

// Config is what the operator sets.
type Config struct {
	Interfaces  []string      `doc:"Interfaces on which DHCPv6 is served; messages on others are ignored. Empty: nowhere." example:"eth1" reload:"restart"`
	Preferred   time.Duration `doc:"How long an address or prefix is to be used for new connections (RFC 9915 §21.6)." default:"12h" min:"10s" max:"876000h"`
	Valid       time.Duration `doc:"How long it may be used at all: the lease." default:"24h" min:"10s" max:"876000h"`
	Quarantine  time.Duration `doc:"How long an address is given to nobody after a client found it in use (RFC 9915 §18.3.8)." default:"10m" min:"10s"`
	RapidCommit bool          `doc:"Give clients that ask for it an address in two messages instead of four (RFC 9915 §18.3.1). Only where no other server answers."`
	Preference  int           `doc:"Rank among several servers; 255 makes clients stop looking for others (RFC 9915 §21.8)." min:"0" max:"255"`
	KnownOnly   bool          `doc:"Serve only clients that have an entry under host."`
	Reconfigure bool          `doc:"Tell clients that accept it when the configuration has changed (RFC 9915 §18.3.11)."`
	SolMaxRT    time.Duration `toml:"sol_max_rt" doc:"The longest that clients without an answer wait between two Solicits (RFC 9915 §21.24). 0: their own hour." max:"24h"`
	InfMaxRT    time.Duration `toml:"inf_max_rt" doc:"The same between two Information-requests (RFC 9915 §21.25)." max:"24h"`
	Refresh     time.Duration `doc:"When clients that have no lease ask again (RFC 9915 §21.23)." default:"24h" min:"10m" max:"876000h"`
	PortRate    int           `doc:"Messages a second that are answered from one interface of one relay, or from one interface of ours. 0: all." min:"0"`

	DNS     []netip.Addr   `toml:"dns" doc:"DNS servers, best first (RFC 3646 §3)." example:"2001:db8::1"`
	Search  []string       `doc:"Domains in which short names are looked up (RFC 3646 §4)." example:"clinic.example"`
	Mail    MailConfig     `doc:"Servers of mail, as draft-cadar-dhc-dhcpv6-opt-email has them."`
	Subnets []SubnetConfig `toml:"subnet" doc:"Links, and the addresses and prefixes there."`
	Hosts   []HostConfig   `toml:"host" doc:"Known clients, and addresses and prefixes reserved for them."`
}

// MailConfig tells clients where their mail is. The draft was never given option codes: both ends must be told the same ones.
type MailConfig struct {
	IMAPCode   int `toml:"imap_code" doc:"Option code of the list of IMAP servers. 0: not sent. Codes below 151 are assigned, and there is no private range; 65001 is far from both." max:"65535" example:"65001"`
	POP3Code   int `toml:"pop3_code" doc:"Option code of the list of POP3 servers." max:"65535" example:"65002"`
	SMTPCode   int `toml:"smtp_code" doc:"Option code of the list of SMTP servers." max:"65535" example:"65003"`
	Enterprise int `doc:"Your own enterprise number: the three lists are sent as suboptions 1 to 3 of option 17 too, to clients that ask for it (RFC 9915 §21.17). 0: not." example:"32473"`

	IMAP []netip.Addr `toml:"imap" doc:"IMAP servers, best first. Empty: none."`
	POP3 []netip.Addr `toml:"pop3" doc:"POP3 servers, best first. Empty: this server, where it listens for POP3."`
	SMTP []netip.Addr `toml:"smtp" doc:"SMTP servers, best first. Empty: this server, where it listens for mail."`
}

// SubnetConfig is one link.
type SubnetConfig struct {
	Prefix      netip.Prefix       `doc:"The link's prefix." required:"true" example:"2001:db8:1::/64"`
	Interface   string             `doc:"Serve this link on this interface, though the interface has no address in the prefix."`
	InterfaceID string             `toml:"interface_id" doc:"Serve this link where a relay agent says this Interface-Id, whatever its link-address (RFC 9915 §19.1.1)."`
	Pools       []PoolConfig       `toml:"pool" doc:"Ranges of addresses to give away. None: only those reserved under host."`
	Prefixes    []DelegationConfig `toml:"delegate" doc:"Prefixes to give to routers on this link (IA_PD)."`
	DNS         []netip.Addr       `toml:"dns" doc:"As above, for this link."`
	Search      []string           `doc:"As above, for this link."`
}

// PoolConfig is one range of addresses.
type PoolConfig struct {
	First netip.Addr `doc:"First address." required:"true" example:"2001:db8:1::1000"`
	Last  netip.Addr `doc:"Last address." required:"true" example:"2001:db8:1::ffff"`
}

// DelegationConfig is a prefix that is cut into prefixes for routers.
type DelegationConfig struct {
	Prefix netip.Prefix `doc:"What is cut." required:"true" example:"2001:db8:100::/48"`
	Length int          `doc:"Length of the pieces." default:"56" min:"1" max:"128"`
}

// HostConfig is one known client.
type HostConfig struct {
	DUID    string       `toml:"duid" doc:"Its DUID, in hexadecimal (RFC 9915 §11)." required:"true" example:"00:03:00:01:02:00:00:00:00:01"`
	Address netip.Addr   `doc:"The address reserved for it, in a pool or outside. Empty: any." example:"2001:db8:1::10"`
	Prefix  netip.Prefix `doc:"The prefix reserved for it. Empty: any." example:"2001:db8:200::/56"`
}

// CheckConfig reports what is wrong with cfg, by key.
func (cfg *Config) CheckConfig(report func(key string, err error)) { newPlan(*cfg, report) }

// plan is a Config made ready to be asked.
type plan struct {
	Config
	search  []byte
	subnets []*subnet
	hosts   map[lease.ID]*HostConfig
	taken   map[netip.Prefix]lease.ID // what is reserved, and for whom
}

type subnet struct {
	prefix        netip.Prefix
	interfaceName string
	interfaceID   string
	pools         []*lease.Pool
	sizes         []netip.Addr // the first address of each pool
	delegations   []*delegation
	dns           []netip.Addr
	search        []byte
}

// newPlan makes a plan of a Config, and reports what is wrong with it. The zero value of a field with a default means that default.
func newPlan(cfg Config, report func(key string, err error)) *plan {
	cfg.Preferred = cmp.Or(cfg.Preferred, 12*time.Hour)
	cfg.Valid = cmp.Or(cfg.Valid, 24*time.Hour)
	cfg.Quarantine = cmp.Or(cfg.Quarantine, 10*time.Minute)
	cfg.Refresh = cmp.Or(cfg.Refresh, 24*time.Hour)
	p := &plan{Config: cfg, hosts: map[lease.ID]*HostConfig{}, taken: map[netip.Prefix]lease.ID{}}
	if cfg.Preferred > cfg.Valid {
		report("preferred", errors.New("is longer than valid (RFC 9915 §21.6)"))
	}
	for key, d := range map[string]time.Duration{"sol_max_rt": cfg.SolMaxRT, "inf_max_rt": cfg.InfMaxRT} {
		if d != 0 && (d < minMaxRT || d > maxMaxRT) {
			report(key, fmt.Errorf("%v is not within %v and %v, and clients ignore it (RFC 9915 §21.24)", d, minMaxRT, maxMaxRT))
		}
	}
	checkServers("dns", cfg.DNS, report)
	p.search = encodeDomains("search", cfg.Search, report)
	cfg.Mail.check(report)
	for i, s := range cfg.Subnets {
		p.addSubnet(s, fmt.Sprintf("subnet[%d].", i+1), report)
	}
	for i, h := range cfg.Hosts {
		p.addHost(h, fmt.Sprintf("host[%d].", i+1), report)
	}
	return p
}

// lastAssigned is the last option code that was assigned when this was written.
const lastAssigned = 150

// maxServers bounds a list of servers, so that a message stays within one packet.
const maxServers = 16

func (m *MailConfig) check(report func(key string, err error)) {
	seen := map[int]bool{}
	for _, o := range []struct {
		key  string
		code int
	}{{"mail.imap_code", m.IMAPCode}, {"mail.pop3_code", m.POP3Code}, {"mail.smtp_code", m.SMTPCode}} {
		switch {
		case o.code == 0:
		case o.code <= lastAssigned:
			report(o.key, fmt.Errorf("option %d is assigned to something else: choose one above %d, such as 65001", o.code, lastAssigned))
		case seen[o.code]:
			report(o.key, fmt.Errorf("option %d is used twice", o.code))
		}
		seen[o.code] = true
	}
	checkServers("mail.imap", m.IMAP, report)
	checkServers("mail.pop3", m.POP3, report)
	checkServers("mail.smtp", m.SMTP, report)
}

// checkServers reports addresses that mean nothing to a client.
func checkServers(key string, all []netip.Addr, report func(key string, err error)) {
	if len(all) > maxServers {
		report(key, fmt.Errorf("%d addresses: at most %d fit", len(all), maxServers))
	}
	for _, a := range all {
		if !reachable(a) {
			report(key, fmt.Errorf("%v is no IPv6 address that a host could reach", a))
		}
	}
}

// reachable reports whether a is the address of a host that another could reach.
func reachable(a netip.Addr) bool {
	return a.Is6() && !a.Is4In6() && a.Zone() == "" && !a.IsMulticast() && !a.IsUnspecified() && !a.IsLoopback()
}

// encodeDomains writes domains as DNS does, without compression (RFC 9915 §10).
func encodeDomains(key string, all []string, report func(key string, err error)) (b []byte) {
	for _, name := range all {
		size := len(b)
		for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
			if label == "" || len(label) > 63 {
				report(key, fmt.Errorf("%q is not a domain name", name))
				return nil
			}
			b = append(append(b, byte(len(label))), label...)
		}
		if b = append(b, 0); len(b)-size > 255 {
			report(key, fmt.Errorf("%q is longer than a domain name can be", name))
			return nil
		}
	}
	return b
}

func (p *plan) addSubnet(c SubnetConfig, key string, report func(key string, err error)) {
	if !c.Prefix.IsValid() || !c.Prefix.Addr().Is6() || c.Prefix.Addr().Is4In6() || c.Prefix != c.Prefix.Masked() {
		report(key+"prefix", fmt.Errorf("%v is no IPv6 prefix", c.Prefix))
		return
	}
	for _, other := range p.subnets {
		if other.prefix.Overlaps(c.Prefix) {
			report(key+"prefix", fmt.Errorf("overlaps %v", other.prefix))
		}
	}
	checkServers(key+"dns", c.DNS, report)
	s := &subnet{prefix: c.Prefix, interfaceName: c.Interface, interfaceID: c.InterfaceID, dns: p.DNS, search: p.search}
	if len(c.DNS) > 0 {
		s.dns = c.DNS
	}
	if len(c.Search) > 0 {
		s.search = encodeDomains(key+"search", c.Search, report)
	}
	for i, pc := range c.Pools {
		key := fmt.Sprintf("%spool[%d].", key, i+1)
		pool, err := lease.NewPool(pc.First, pc.Last)
		switch {
		case err != nil:
			report(key+"first", err)
			continue
		case !c.Prefix.Contains(pc.First) || !c.Prefix.Contains(pc.Last):
			report(key+"first", fmt.Errorf("%v to %v is not within %v", pc.First, pc.Last, c.Prefix))
		case s.pool(pc.First) != nil || s.pool(pc.Last) != nil:
			report(key+"first", fmt.Errorf("%v to %v overlaps another pool", pc.First, pc.Last))
		}
		s.pools, s.sizes = append(s.pools, pool), append(s.sizes, pc.First)
	}
	for i, dc := range c.Prefixes {
		d, err := newDelegation(dc)
		if err != nil {
			report(fmt.Sprintf("%sdelegate[%d].prefix", key, i+1), err)
			continue
		}
		for _, other := range p.subnets {
			for _, od := range other.delegations {
				if od.from.Overlaps(d.from) {
					report(fmt.Sprintf("%sdelegate[%d].prefix", key, i+1), fmt.Errorf("overlaps %v", od.from))
				}
			}
		}
		s.delegations = append(s.delegations, d)
	}
	p.subnets = append(p.subnets, s)
	for _, link := range p.subnets { // in either order
		for _, other := range p.subnets {
			for _, d := range other.delegations {
				if (link == s || other == s) && d.from.Overlaps(link.prefix) {
					report(key+"delegate", fmt.Errorf("%v overlaps %v, which is a link", d.from, link.prefix))
				}
			}
		}
	}
}

func (p *plan) addHost(c HostConfig, key string, report func(key string, err error)) {
	id, err := lease.ParseID(c.DUID)
	if err != nil || len(id) < minDUID || len(id) > maxDUID {
		report(key+"duid", fmt.Errorf("%q is no DUID of 3 to 130 octets in hexadecimal", c.DUID))
		return
	}
	if p.hosts[id] != nil {
		report(key+"duid", fmt.Errorf("%s is another host's too", c.DUID))
	}
	p.hosts[id] = &c
	reserve := func(field string, q netip.Prefix) {
		if other, twice := p.taken[q]; twice && other != id {
			report(key+field, fmt.Errorf("%v is another host's too", q))
		}
		p.taken[q] = id
	}
	if c.Address.IsValid() {
		if !c.Address.Is6() || p.subnetOf(c.Address) == nil {
			report(key+"address", fmt.Errorf("%v is in no subnet", c.Address))
		}
		reserve("address", lease.Host(c.Address))
	}
	if c.Prefix.IsValid() {
		if !c.Prefix.Addr().Is6() || c.Prefix != c.Prefix.Masked() || c.Prefix.IsSingleIP() {
			report(key+"prefix", fmt.Errorf("%v is no IPv6 prefix", c.Prefix))
		}
		for other := range p.taken {
			if !other.IsSingleIP() && other != c.Prefix && other.Overlaps(c.Prefix) {
				report(key+"prefix", fmt.Errorf("overlaps %v, which is another host's", other))
			}
		}
		for _, s := range p.subnets {
			if s.prefix.Overlaps(c.Prefix) {
				report(key+"prefix", fmt.Errorf("overlaps %v, which is a link", s.prefix))
			}
			for _, d := range s.delegations {
				if d.from.Overlaps(c.Prefix) && !d.contains(c.Prefix) {
					report(key+"prefix", fmt.Errorf("is no piece of length %d of %v", d.length, d.from))
				}
			}
		}
		reserve("prefix", c.Prefix)
	}
}

// subnetOf returns the subnet that holds an address.
func (p *plan) subnetOf(a netip.Addr) *subnet {
	for _, s := range p.subnets {
		if s.prefix.Contains(a) {
			return s
		}
	}
	return nil
}

// pool returns the pool that holds an address.
func (s *subnet) pool(a netip.Addr) *lease.Pool {
	for _, p := range s.pools {
		if p.Contains(a) {
			return p
		}
	}
	return nil
}

// delegation returns what a prefix was cut from.
func (s *subnet) delegation(q netip.Prefix) *delegation {
	for _, d := range s.delegations {
		if d.contains(q) {
			return d
		}
	}
	return nil
}

// delegation cuts a prefix into pieces. Each has a number, and a pool knows which numbers are free.
type delegation struct {
	from   netip.Prefix
	length int
	pool   *lease.Pool
}

func newDelegation(c DelegationConfig) (*delegation, error) {
	c.Length = cmp.Or(c.Length, 56)
	if !c.Prefix.IsValid() || !c.Prefix.Addr().Is6() || c.Prefix != c.Prefix.Masked() {
		return nil, fmt.Errorf("%v is no IPv6 prefix", c.Prefix)
	}
	bits := c.Length - c.Prefix.Bits()
	if bits < 0 || c.Length > 127 {
		return nil, fmt.Errorf("%v cannot be cut into prefixes of length %d", c.Prefix, c.Length)
	}
	if 1<<min(bits, 40) > lease.MaxPool {
		return nil, fmt.Errorf("%v has more than %d prefixes of length %d", c.Prefix, lease.MaxPool, c.Length)
	}
	pool, err := lease.NewPool(number(0), number(1<<bits-1))
	return &delegation{c.Prefix, c.Length, pool}, err
}

// number stands for a piece in a pool of addresses.
func number(i uint32) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint32(b[12:], i)
	return netip.AddrFrom16(b)
}

// piece is the prefix that a pool's number stands for.
func (d *delegation) piece(n netip.Addr) netip.Prefix {
	i, from := n.As16(), d.from.Addr().As16()
	index := uint64(binary.BigEndian.Uint32(i[12:]))
	hi, lo := binary.BigEndian.Uint64(from[:8]), binary.BigEndian.Uint64(from[8:])
	if shift := 128 - d.length; shift >= 64 {
		hi |= index << (shift - 64)
	} else {
		lo |= index << shift
		hi |= index >> (64 - shift)
	}
	binary.BigEndian.PutUint64(from[:8], hi)
	binary.BigEndian.PutUint64(from[8:], lo)
	return netip.PrefixFrom(netip.AddrFrom16(from), d.length)
}

// number is the other way round.
func (d *delegation) number(q netip.Prefix) netip.Addr {
	b := q.Addr().As16()
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	var index uint64
	if shift := 128 - d.length; shift >= 64 {
		index = hi >> (shift - 64)
	} else {
		index = lo>>shift | hi<<(64-shift)
	}
	return number(uint32(index & (1<<(d.length-d.from.Bits()) - 1)))
}

// follow tells the pool what became of a lease. One of another length than the pieces have now, given before the configuration changed,
// holds every piece that it has a part of.
func (d *delegation) follow(l lease.Lease, gone bool) {
	if !d.from.Overlaps(l.Prefix) {
		return
	}
	first, last := netip.PrefixFrom(l.Prefix.Addr(), d.length), l.Prefix.Bits()
	if last <= d.from.Bits() { // it is as large as all of them
		first = netip.PrefixFrom(d.from.Addr(), d.length)
	}
	count := uint32(1) << max(d.length-max(last, d.from.Bits()), 0)
	for i := range count {
		l.Prefix = lease.Host(plus(d.number(first), i))
		d.pool.Follow(l, gone)
	}
}

func (d *delegation) contains(q netip.Prefix) bool {
	return q.Bits() == d.length && d.from.Contains(q.Addr())
}
