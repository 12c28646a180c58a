package dhcp4

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// RelayConfig is what the operator sets.
type RelayConfig struct {
	Interfaces []string     `doc:"Interfaces towards clients, whose DHCPv4 and BOOTP messages are passed on to servers elsewhere. Empty: none. A host that relays serves no addresses itself." example:"eth1" reload:"restart"`
	Servers    []netip.Addr `doc:"The servers; each gets every message." example:"198.51.100.1"`
	MaxHops    int          `doc:"Messages that went through more relay agents than that are dropped (RFC 1542 §4.1.1)." default:"4" min:"1" max:"16"`
	CircuitID  bool         `toml:"circuit_id" doc:"Tell the servers on which interface a client is (RFC 3046 §3.1)." default:"true"`
}

// CheckConfig reports what is wrong with cfg, by key.
func (cfg *RelayConfig) CheckConfig(report func(key string, err error)) {
	if len(cfg.Interfaces) > 0 && len(cfg.Servers) == 0 {
		report("servers", errors.New("a relay agent needs the address of a server"))
	}
	for i, a := range cfg.Servers {
		if !a.Is4() || a.IsUnspecified() || a.IsMulticast() || a == limited {
			report("servers", fmt.Errorf("%v is no server's IPv4 address", a))
		}
		if slices.Contains(cfg.Servers[:i], a) {
			report("servers", fmt.Errorf("%v stands there twice", a))
		}
	}
}

// What a relay agent does not pass on, beside what a server does not answer.
const (
	WhyLoop       Why = "it was relayed by this very host"
	WhyUntrusted  Why = "a client sent relay agent information"
	WhyStranger   Why = "it came from none of the servers"
	WhyNotRelayed Why = "it answers nothing that was relayed from here"
	WhyNoAddr     Why = "the interface it came from has no address"
	WhyElsewhere  Why = "no client is on the interface it came from"
)

// relay decides what becomes of a message: RFC 1542 §4, RFC 3046 §2. It does no I/O; one goroutine at a time may use it.
type relay struct {
	RelayConfig
	links map[netip.Addr]*Link // from where messages were relayed, by giaddr
}

// pass returns the octets to send and where. The octets are those of raw as far as can be: a relay agent does not read what is not for it.
func (r *relay) pass(a *Arrival, raw []byte) (b []byte, to []Destination, why Why) {
	if a.Packet.Op == BootReply {
		return r.down(a, raw)
	}
	return r.up(a, raw)
}

// up passes a request on to the servers. RFC 1542 §4.1.1.
func (r *relay) up(a *Arrival, raw []byte) (b []byte, to []Destination, why Why) {
	p := a.Packet
	_, informed := p.Get(RelayAgentInformation)
	b = slices.Clone(raw)
	switch {
	case !slices.Contains(r.Interfaces, a.Link.Name):
		return nil, nil, WhyElsewhere
	case int(p.Hops) >= r.MaxHops:
		return nil, nil, WhyHops
	case given(p.GIAddr) && a.Own(p.GIAddr): // RFC 3046 §2.1: spoofed, or a loop
		return nil, nil, WhyLoop
	case given(p.GIAddr): // another relay agent was first, and knows more: RFC 3046 §2.1.1
	case informed: // RFC 3046 §2.1: from an untrusted circuit
		return nil, nil, WhyUntrusted
	case len(a.Link.Addrs) == 0:
		return nil, nil, WhyNoAddr
	default:
		from := a.Link.Addrs[0].Addr()
		copy(b[24:28], from.AsSlice())
		r.links[from] = a.Link
		if r.CircuitID {
			b = withCircuit(b, a.Link.Name)
		}
	}
	b[3]++ // hops
	for _, server := range r.Servers {
		to = append(to, Destination{AddrPort: netip.AddrPortFrom(server, ServerPort), Source: netip.IPv4Unspecified()})
	}
	return b, to, ""
}

// down passes a reply on to the client. RFC 1542 §4.1.2.
func (r *relay) down(a *Arrival, raw []byte) (b []byte, to []Destination, why Why) {
	p := a.Packet
	link := r.links[p.GIAddr]
	switch {
	case !slices.Contains(r.Servers, a.Source):
		return nil, nil, WhyStranger
	case link == nil:
		return nil, nil, WhyNotRelayed
	}
	client := p.YIAddr
	if !given(client) {
		client = p.CIAddr // the answer to a DHCPINFORM
	}
	d := Destination{AddrPort: netip.AddrPortFrom(client, ClientPort), Hardware: true, Source: p.GIAddr, Link: link}
	if p.Broadcast() || !given(client) || p.HType != ethernet || p.HLen != ethernetSize {
		d.AddrPort, d.Hardware = netip.AddrPortFrom(limited, ClientPort), false
	}
	return withoutCircuit(slices.Clone(raw)), []Destination{d}, ""
}

// circuitID is the sub-option of RFC 3046 §3.1.
const circuitID = 1

// remoteID is the sub-option of RFC 3046 §3.2.
const remoteID = 2

// RelayedFrom returns the circuit and the remote ID of relay agent information, which a lease keeps as Data; nil for what is not there.
func RelayedFrom(information []byte) (circuit, remote []byte) {
	for len(information) >= 2 && len(information) >= 2+int(information[1]) {
		value := information[2 : 2+information[1]]
		switch information[0] {
		case circuitID:
			circuit = value
		case remoteID:
			remote = value
		}
		information = information[2+len(value):]
	}
	return circuit, remote
}

// withCircuit adds relay agent information behind the other options; a packet without room for it, or that cannot have it, stays as it is (RFC 3046
// §2.1).
func withCircuit(b []byte, name string) []byte {
	end := optionEnd(b)
	info := append([]byte{byte(RelayAgentInformation), byte(2 + len(name)), circuitID, byte(len(name))}, name...)
	if end < 0 || end+len(info)+1 > MaxSize {
		return b
	}
	b = append(append(b[:end], info...), byte(End))
	if n := minSize - len(b); n > 0 {
		b = append(b, padding[:n]...)
	}
	return b
}

// withoutCircuit takes relay agent information out: RFC 3046 §2.1. What was behind it moves up, and pads follow.
func withoutCircuit(b []byte) []byte {
	if optionEnd(b) < 0 {
		return b
	}
	kept := fixedSize + cookieSize
	for rest := b[kept:]; len(rest) > 0; {
		code, _, after, _ := nextOption(rest) // optionEnd has seen that it is whole
		whole := rest[:len(rest)-len(after)]
		rest = after
		if code == RelayAgentInformation {
			continue
		}
		kept += copy(b[kept:], whole)
		if code == End {
			break
		}
	}
	clear(b[kept:])
	return b[:max(kept, min(minSize, len(b)))]
}

// optionEnd is where the End of the options field stands; -1 when there is none.
func optionEnd(b []byte) int {
	if len(b) < fixedSize+cookieSize || [cookieSize]byte(b[fixedSize:]) != cookie {
		return -1
	}
	for rest := b[fixedSize+cookieSize:]; len(rest) > 0; {
		code, _, after, err := nextOption(rest)
		switch {
		case err != nil:
			return -1
		case code == End:
			return len(b) - len(rest)
		}
		rest = after
	}
	return -1
}
