package dhcp4

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// Code is the number of an option.
type Code byte

// The options that the protocol itself uses. options names the others.
const (
	Pad                   Code = 0   // RFC 2132 §3.1
	SubnetMask            Code = 1   // RFC 2132 §3.3
	Router                Code = 3   // RFC 2132 §3.5
	HostName              Code = 12  // RFC 2132 §3.14
	BroadcastAddress      Code = 28  // RFC 2132 §5.3
	RequestedAddress      Code = 50  // RFC 2132 §9.1
	LeaseTime             Code = 51  // RFC 2132 §9.2
	OptionOverload        Code = 52  // RFC 2132 §9.3
	MessageTypeOption     Code = 53  // RFC 2132 §9.6
	ServerIdentifier      Code = 54  // RFC 2132 §9.7
	ParameterRequestList  Code = 55  // RFC 2132 §9.8
	Message               Code = 56  // RFC 2132 §9.9
	MaximumMessageSize    Code = 57  // RFC 2132 §9.10
	RenewalTime           Code = 58  // RFC 2132 §9.11
	RebindingTime         Code = 59  // RFC 2132 §9.12
	VendorClassIdentifier Code = 60  // RFC 2132 §9.13
	ClientIdentifier      Code = 61  // RFC 2132 §9.14
	SMTPServer            Code = 69  // RFC 2132 §8.14
	POP3Server            Code = 70  // RFC 2132 §8.15
	RapidCommit           Code = 80  // RFC 4039 §4
	RelayAgentInformation Code = 82  // RFC 3046 §2.0
	End                   Code = 255 // RFC 2132 §3.2
)

func (c Code) String() string {
	if o := byCode(c); o != nil {
		return o.name
	}
	return strconv.Itoa(int(c))
}

// MessageType is what a DHCP message is for; 0 is a BOOTP message.
type MessageType byte

// The message types of RFC 2132 §9.6.
const (
	Discover MessageType = 1
	Offer    MessageType = 2
	Request  MessageType = 3
	Decline  MessageType = 4
	Ack      MessageType = 5
	Nak      MessageType = 6
	Release  MessageType = 7
	Inform   MessageType = 8
)

func (t MessageType) String() string {
	names := [...]string{"BOOTP", "DHCPDISCOVER", "DHCPOFFER", "DHCPREQUEST", "DHCPDECLINE", "DHCPACK", "DHCPNAK", "DHCPRELEASE", "DHCPINFORM"}
	if int(t) < len(names) {
		return names[t]
	}
	return "type " + strconv.Itoa(int(t))
}

// Type returns the message type; 0 when there is none: BOOTP.
func (p *Packet) Type() MessageType {
	v, ok := p.Get(MessageTypeOption)
	if !ok || len(v) != 1 {
		return 0
	}
	return MessageType(v[0])
}

// Get returns the value of an option.
func (p *Packet) Get(code Code) (value []byte, ok bool) {
	o, ok := p.find(code)
	return o.Value, ok
}

// Addr returns the value of an option that is one address; false when it is absent, of another length or 0.0.0.0.
func (p *Packet) Addr(code Code) (netip.Addr, bool) {
	v, _ := p.Get(code)
	if len(v) != 4 || binary.BigEndian.Uint32(v) == 0 {
		return netip.Addr{}, false
	}
	return addr4(v), true
}

// Uint32 returns the value of an option of 4 octets.
func (p *Packet) Uint32(code Code) (uint32, bool) {
	v, _ := p.Get(code)
	if len(v) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(v), true
}

// Uint16 returns the value of an option of 2 octets.
func (p *Packet) Uint16(code Code) (uint16, bool) {
	v, _ := p.Get(code)
	if len(v) != 2 {
		return 0, false
	}
	return binary.BigEndian.Uint16(v), true
}

// Set replaces the value of an option, or adds the option behind the others.
func (p *Packet) Set(code Code, value []byte) {
	for i := range p.Options {
		if p.Options[i].Code == code {
			p.Options[i].Value = value
			return
		}
	}
	p.Options = append(p.Options, Option{code, value})
}

// Hardware is the client's hardware address: what of chaddr counts.
func (p *Packet) Hardware() []byte { return p.CHAddr[:min(p.HLen, chaddrSize)] }

// Broadcast reports whether the client asks for replies by broadcast.
func (p *Packet) Broadcast() bool { return p.Flags&broadcastFlag != 0 }

// given reports whether an address field holds an address.
func given(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() }
