package dhcp4

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"bothy/control/lease"
)

// Config is what the operator sets.
type Config struct {
	Interfaces   []string      `doc:"Interfaces on which DHCPv4 is served; packets on others are ignored. Empty: nowhere." example:"eth1" reload:"restart"`
	DefaultLease time.Duration `doc:"Lease of a client that asks for no time (RFC 2131 §4.3.1)." default:"12h" min:"10s" max:"876000h"`
	MinLease     time.Duration `doc:"Shortest lease, whatever a client asks for." default:"2m" min:"1s" max:"876000h"`
	MaxLease     time.Duration `doc:"Longest lease, whatever a client asks for." default:"24h" min:"10s" max:"876000h"`
	OfferHold    time.Duration `doc:"How long an offered address waits for its client (RFC 2131 §4.3.1)." default:"30s" min:"1s" max:"10m"`
	Quarantine   time.Duration `doc:"How long an address is given to nobody after a client, or a probe, found it in use (RFC 2131 §4.3.3)." default:"10m" min:"10s"`
	Probe        time.Duration `doc:"Before a new address is offered: how long to wait for somebody who uses it to answer ARP, or ping behind a relay (RFC 2131 §3.1). 0s: do not ask." default:"250ms" max:"2s"`
	RapidCommit  bool          `doc:"Give clients that ask for it an address in two messages instead of four (RFC 4039)."`
	ByHardware   bool          `doc:"Know clients by their hardware address alone, so that a device has one address whatever system it starts. This deviates from RFC 2131 §4.2, which has the client identifier count."`
	KnownOnly    bool          `doc:"Serve only clients that have an entry under host (RFC 2131 §4.2)."`
	BOOTP        string        `toml:"bootp" doc:"Clients that speak BOOTP only (RFC 1534): \"none\" are answered, those with an address \"reserved\" under host, or all, from the pools and for ever (\"dynamic\")." default:"reserved" oneof:"none reserved dynamic"`
	MailServers  bool          `doc:"Tell clients this site's own SMTP and POP3 servers, options 69 and 70 (RFC 2132 §8.14, §8.15), where options do not say otherwise." default:"true"`
	PortRate     int           `doc:"Packets a second that are answered from one port of one relay (RFC 3046 §3.1), or from one interface. 0: all." min:"0"`

	Options    map[string]string `doc:"What clients are told: the name of an option and its value, or its number and octets in hexadecimal. Those of a subnet count before these, those of a class before a subnet's, those of a host first (RFC 2131 §4.3.1)." example:"domain-name-servers = \"192.0.2.1\""`
	NextServer netip.Addr        `doc:"Where clients load their boot file from (RFC 2131 §2, siaddr)." example:"192.0.2.5"`
	ServerName string            `doc:"Name of the boot server (RFC 2131 §2, sname)." max:"63"`
	BootFile   string            `doc:"Boot file (RFC 2131 §2, file)." max:"127"`

	Subnets []SubnetConfig `toml:"subnet" doc:"Subnets and their addresses."`
	Classes []ClassConfig  `toml:"class" doc:"Kinds of clients, by vendor class."`
	Hosts   []HostConfig   `toml:"host" doc:"Known clients and reserved addresses."`
}

// SubnetConfig is one subnet.
type SubnetConfig struct {
	Prefix       netip.Prefix      `doc:"The subnet." required:"true" example:"192.0.2.0/24"`
	Network      string            `doc:"Subnets of one network share a wire: a client there may have an address of any of them (RFC 2131 §4.3.1)."`
	Interface    string            `doc:"Serve this subnet on this interface, though the interface has no address in it."`
	Pools        []PoolConfig      `toml:"pool" doc:"Ranges of addresses to give away. None: only those reserved under host."`
	DefaultLease time.Duration     `doc:"As above, for this subnet." max:"876000h"`
	MinLease     time.Duration     `doc:"As above, for this subnet." max:"876000h"`
	MaxLease     time.Duration     `doc:"As above, for this subnet." max:"876000h"`
	KnownOnly    bool              `doc:"Serve only clients that have an entry under host."`
	Options      map[string]string `doc:"What clients on this subnet are told. The subnet mask goes by itself." example:"routers = \"192.0.2.1\""`
	NextServer   netip.Addr        `doc:"As above, for this subnet."`
	ServerName   string            `doc:"As above, for this subnet." max:"63"`
	BootFile     string            `doc:"As above, for this subnet." max:"127"`
}

// PoolConfig is one range of addresses.
type PoolConfig struct {
	First netip.Addr `doc:"First address." required:"true" example:"192.0.2.100"`
	Last  netip.Addr `doc:"Last address." required:"true" example:"192.0.2.199"`
	Class string     `doc:"Only for clients of this class."`
}

// ClassConfig is one kind of clients.
type ClassConfig struct {
	Name        string            `doc:"The name by which pools mean this class." required:"true"`
	VendorClass string            `doc:"Vendor class identifier, all of it (RFC 2132 §9.13; RFC 2131 §4.3.1: an exact match)." required:"true" example:"anacapa"`
	Options     map[string]string `doc:"What clients of this class are told."`
	NextServer  netip.Addr        `doc:"As above, for this class."`
	ServerName  string            `doc:"As above, for this class." max:"63"`
	BootFile    string            `doc:"As above, for this class." max:"127"`
}

// HostConfig is one known client.
type HostConfig struct {
	Hardware   string            `doc:"Its Ethernet address; a client identifier it sends beside it does not matter." example:"02:00:00:00:00:01"`
	ClientID   string            `toml:"client_id" doc:"Or its client identifier, in hexadecimal (RFC 2132 §9.14)." example:"01:02:00:00:00:00:01"`
	Address    netip.Addr        `doc:"The address reserved for it, in a pool or outside. Empty: any." example:"192.0.2.10"`
	Name       string            `doc:"The name it is told is its own (RFC 2132 §3.14)." max:"255"`
	Options    map[string]string `doc:"What it is told."`
	NextServer netip.Addr        `doc:"As above, for this host."`
	ServerName string            `doc:"As above, for this host." max:"63"`
	BootFile   string            `doc:"As above, for this host." max:"127"`
}

// CheckConfig reports what is wrong with cfg, by key.
func (cfg *Config) CheckConfig(report func(key string, err error)) { newPlan(*cfg, report) }

// plan is a Config made ready to be asked.
type plan struct {
	Config
	common  settings
	subnets []*subnet
	classes []*class
	byID    map[lease.ID]*known
	byAddr  map[netip.Addr]*known
	byMAC   map[lease.ID]*known
}

// settings are what a layer of the configuration tells clients.
type settings struct {
	options    []Option // by code
	nextServer netip.Addr
	serverName string
	bootFile   string
}

type subnet struct {
	settings
	prefix         netip.Prefix
	mask           []byte // option 1
	broadcast      []byte // option 28
	network        string
	interfaceName  string
	pools          []pool
	standard       time.Duration
	least, longest time.Duration
	knownOnly      bool
}

type pool struct {
	*lease.Pool
	class string
}

type class struct {
	settings
	name, vendor string
}

type known struct {
	settings
	address netip.Addr
}

// newPlan makes a plan of a Config, and reports what is wrong with it. The zero value of a field with a default means that default, but Probe and
// MailServers, which are off then.
func newPlan(cfg Config, report func(key string, err error)) *plan {
	cfg.DefaultLease = cmp.Or(cfg.DefaultLease, 12*time.Hour)
	cfg.MinLease = cmp.Or(cfg.MinLease, 2*time.Minute)
	cfg.MaxLease = cmp.Or(cfg.MaxLease, 24*time.Hour)
	cfg.OfferHold = cmp.Or(cfg.OfferHold, 30*time.Second)
	cfg.Quarantine = cmp.Or(cfg.Quarantine, 10*time.Minute)
	cfg.BOOTP = cmp.Or(cfg.BOOTP, "reserved")
	p := &plan{Config: cfg, byID: map[lease.ID]*known{}, byAddr: map[netip.Addr]*known{}, byMAC: map[lease.ID]*known{}}
	if cfg.MinLease > cfg.MaxLease {
		report("min_lease", errors.New("is longer than max_lease"))
	}
	p.common = newSettings(cfg.Options, cfg.NextServer, cfg.ServerName, cfg.BootFile, "", report)
	for i, c := range cfg.Classes {
		p.addClass(c, fmt.Sprintf("class[%d].", i+1), report)
	}
	for i, s := range cfg.Subnets {
		p.addSubnet(s, fmt.Sprintf("subnet[%d].", i+1), report)
	}
	for i, h := range cfg.Hosts {
		p.addHost(h, fmt.Sprintf("host[%d].", i+1), report)
	}
	return p
}

// newSettings reads one layer's options.
func newSettings(named map[string]string, next netip.Addr, name, file, key string, report func(key string, err error)) settings {
	s := settings{nextServer: next, serverName: name, bootFile: file}
	for n, v := range named {
		o, err := parseOption(n, v)
		if err != nil {
			report(key+"options."+n, err)
			continue
		}
		s.options = append(s.options, o)
	}
	sortOptions(s.options)
	for i := 1; i < len(s.options); i++ {
		if s.options[i].Code == s.options[i-1].Code {
			report(key+"options", fmt.Errorf("option %d is given twice, by name and by number", s.options[i].Code))
		}
	}
	if next.IsValid() && !next.Is4() {
		report(key+"next_server", fmt.Errorf("%v is no IPv4 address", next))
	}
	if len(name) >= snameSize {
		report(key+"server_name", errors.New("is longer than 63 octets"))
	}
	if len(file) >= fileSize {
		report(key+"boot_file", errors.New("is longer than 127 octets"))
	}
	return s
}

func (p *plan) addClass(c ClassConfig, key string, report func(key string, err error)) {
	for _, other := range p.classes {
		if other.name == c.Name || other.vendor == c.VendorClass {
			report(key+"name", fmt.Errorf("there is a class %q for %q already", other.name, other.vendor))
		}
	}
	if c.Name == "" || c.VendorClass == "" {
		report(key+"vendor_class", errors.New("a class needs a name and a vendor class"))
	}
	p.classes = append(p.classes, &class{
		settings: newSettings(c.Options, c.NextServer, c.ServerName, c.BootFile, key, report), name: c.Name, vendor: c.VendorClass,
	})
}

func (p *plan) addSubnet(c SubnetConfig, key string, report func(key string, err error)) {
	if !c.Prefix.IsValid() || !c.Prefix.Addr().Is4() || c.Prefix != c.Prefix.Masked() {
		report(key+"prefix", fmt.Errorf("%v is no IPv4 subnet", c.Prefix))
		return
	}
	for _, other := range p.subnets {
		if other.prefix.Overlaps(c.Prefix) {
			report(key+"prefix", fmt.Errorf("overlaps %v", other.prefix))
		}
	}
	last := lastAddr(c.Prefix)
	s := &subnet{
		settings: newSettings(c.Options, c.NextServer, c.ServerName, c.BootFile, key, report),
		prefix:   c.Prefix, network: c.Network, interfaceName: c.Interface, knownOnly: c.KnownOnly || p.KnownOnly,
		mask: net.CIDRMask(c.Prefix.Bits(), 32), broadcast: last.AsSlice(),
		standard: cmp.Or(c.DefaultLease, p.DefaultLease), least: cmp.Or(c.MinLease, p.MinLease), longest: cmp.Or(c.MaxLease, p.MaxLease),
	}
	if s.least > s.longest {
		report(key+"min_lease", errors.New("is longer than max_lease"))
	}
	for i, pc := range c.Pools {
		key := fmt.Sprintf("%spool[%d].", key, i+1)
		made, err := lease.NewPool(pc.First, pc.Last)
		switch {
		case err != nil:
			report(key+"first", err)
			continue
		case !c.Prefix.Contains(pc.First) || !c.Prefix.Contains(pc.Last):
			report(key+"first", fmt.Errorf("%v to %v is not within %v", pc.First, pc.Last, c.Prefix))
		case s.inPool(pc.First) != nil || s.inPool(pc.Last) != nil:
			report(key+"first", fmt.Errorf("%v to %v overlaps another pool", pc.First, pc.Last))
		case pc.Class != "" && p.className(pc.Class) == nil:
			report(key+"class", fmt.Errorf("there is no class %q", pc.Class))
		}
		s.pools = append(s.pools, pool{made, pc.Class})
	}
	p.subnets = append(p.subnets, s)
}

func (p *plan) addHost(c HostConfig, key string, report func(key string, err error)) {
	h := &known{settings: newSettings(c.Options, c.NextServer, c.ServerName, c.BootFile, key, report), address: c.Address}
	if c.Name != "" {
		h.options = append(h.options, Option{HostName, []byte(c.Name)})
		sortOptions(h.options)
	}
	if c.Hardware == "" && c.ClientID == "" {
		report(key+"hardware", errors.New("a host needs a hardware address or a client identifier"))
	}
	if c.Hardware != "" {
		mac, err := net.ParseMAC(c.Hardware)
		if err != nil || len(mac) > chaddrSize {
			report(key+"hardware", fmt.Errorf("%q is no hardware address", c.Hardware))
		} else if id := lease.ID(mac); p.byMAC[id] != nil {
			report(key+"hardware", fmt.Errorf("%q is another host's too", c.Hardware))
		} else {
			p.byMAC[id] = h
		}
	}
	if c.ClientID != "" {
		id, err := lease.ParseID(c.ClientID)
		if err != nil {
			report(key+"client_id", err)
		} else if p.byID[id] != nil {
			report(key+"client_id", fmt.Errorf("%q is another host's too", c.ClientID))
		} else {
			p.byID[id] = h
		}
	}
	if !c.Address.IsValid() {
		return
	}
	if p.subnetOf(c.Address) == nil {
		report(key+"address", fmt.Errorf("%v is in no subnet", c.Address))
	}
	if p.byAddr[c.Address] != nil {
		report(key+"address", fmt.Errorf("%v is another host's too", c.Address))
	}
	p.byAddr[c.Address] = h
}

func (p *plan) className(name string) *class {
	for _, c := range p.classes {
		if c.name == name {
			return c
		}
	}
	return nil
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

// inPool returns the pool that holds an address.
func (s *subnet) inPool(a netip.Addr) *pool {
	for i := range s.pools {
		if s.pools[i].Contains(a) {
			return &s.pools[i]
		}
	}
	return nil
}

// host reports whether an address may be a host's: neither the subnet's own nor its broadcast address (RFC 1122 §3.2.1.3).
func (s *subnet) host(a netip.Addr) bool {
	return s.prefix.Contains(a) && (s.prefix.Bits() > 30 || a != s.prefix.Addr() && a != lastAddr(s.prefix))
}

// lastAddr is the last address of an IPv4 prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}
