package dhcp6

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// The sizes of messages, in octets.
const (
	headSize  = 4  // message type and transaction ID: RFC 9915 §8
	relaySize = 34 // type, hop count and two addresses: RFC 9915 §9
	addrSize  = 16
	// MaxSize is the longest datagram that is read. RFC 9915 names no bound; this is one UDP datagram of a jumbo frame less headers.
	MaxSize = 9000 - 48
	// maxLayers is how many relay agents a message may have passed: HOP_COUNT_LIMIT (RFC 9915 §7.6), and the one that starts at zero.
	maxLayers = 9
	maxDUID   = 130 // RFC 9915 §11.1: 128 octets and the type
)

// The faults of a message. What a message is refused for is one of them, wrapped.
var (
	ErrShort     = errors.New("dhcp6: shorter than its header")
	ErrTruncated = errors.New("dhcp6: an option is longer than what holds it")
	ErrLayers    = errors.New("dhcp6: relayed too often")
	ErrNoMessage = errors.New("dhcp6: a relay's message without the client's")
	ErrValue     = errors.New("dhcp6: bad value of an option")
)

// Message is what a client and a server say to each other (RFC 9915 §8). Values of options point into what was parsed.
type Message struct {
	Type    MessageType
	XID     uint32 // 24 bits
	Options []Option
}

// Option is one option. DHCPv6 has no long options: one that comes twice stands twice (RFC 9915 §21).
type Option struct {
	Code  Code
	Value []byte
}

// Parse reads b into m, whose memory it uses again: parsing into the same Message over and over allocates nothing.
func (m *Message) Parse(b []byte) (err error) {
	if len(b) < headSize {
		return fmt.Errorf("%w: %d octets", ErrShort, len(b))
	}
	m.Type, m.XID = MessageType(b[0]), binary.BigEndian.Uint32(b)&0xffffff
	m.Options, err = parseOptions(m.Options[:0], b[headSize:])
	return err
}

// Find returns the first option of a code.
func (m *Message) Find(code Code) ([]byte, bool) { return find(m.Options, code) }

func find(options []Option, code Code) ([]byte, bool) {
	for _, o := range options {
		if o.Code == code {
			return o.Value, true
		}
	}
	return nil, false
}

// parseOptions appends the options in field to all.
func parseOptions(all []Option, field []byte) ([]Option, error) {
	for len(field) > 0 {
		o, rest, err := nextOption(field)
		if err != nil {
			return all, err
		}
		all, field = append(all, o), rest
	}
	return all, nil
}

// nextOption reads what stands first in a field (RFC 9915 §21.1).
func nextOption(field []byte) (o Option, rest []byte, err error) {
	if len(field) < 4 {
		return o, nil, fmt.Errorf("%w: %d octets left", ErrTruncated, len(field))
	}
	o.Code = Code(binary.BigEndian.Uint16(field))
	end := 4 + int(binary.BigEndian.Uint16(field[2:]))
	if len(field) < end {
		return o, nil, fmt.Errorf("%w: option %d", ErrTruncated, o.Code)
	}
	o.Value = field[4:end:end]
	return o, field[end:], nil
}

// Layer is what one relay agent put around a message (RFC 9915 §9).
type Layer struct {
	Hops    byte
	Link    netip.Addr // says which link the client is on; unspecified when the agent left that to its Interface-Id
	Peer    netip.Addr // who the agent had it from
	Options []byte     // all of them; the one that holds the message included
}

// Unwrap takes off what relay agents put around a client's message, and appends the layers to layers, the outermost first. A message
// that was not relayed is returned as it is.
func Unwrap(b []byte, layers []Layer) (message []byte, _ []Layer, err error) {
	for len(b) > 0 && MessageType(b[0]) == RelayForward {
		l, inner, err := parseLayer(b)
		if err != nil {
			return nil, layers, err
		}
		if len(layers) == maxLayers {
			return nil, layers, ErrLayers
		}
		layers, b = append(layers, l), inner
	}
	return b, layers, nil
}

// parseLayer reads a Relay-forward or Relay-reply message.
func parseLayer(b []byte) (l Layer, inner []byte, err error) {
	if len(b) < relaySize {
		return l, nil, fmt.Errorf("%w: %d octets", ErrShort, len(b))
	}
	l = Layer{
		Hops: b[1], Link: netip.AddrFrom16([16]byte(b[2:])), Peer: netip.AddrFrom16([16]byte(b[18:])),
		Options: b[relaySize:],
	}
	found := false
	for field := l.Options; len(field) > 0; {
		var o Option
		if o, field, err = nextOption(field); err != nil {
			return l, nil, err
		}
		if o.Code == RelayMessage && !found { // RFC 9915 §21: a second one is not a part of the first
			inner, found = o.Value, true
		}
	}
	if !found {
		return l, nil, ErrNoMessage
	}
	return l, inner, nil
}

// find returns the first option of a code that the agent added.
func (l *Layer) find(code Code) ([]byte, bool) {
	for field := l.Options; len(field) > 0; {
		o, rest, err := nextOption(field)
		if err != nil {
			break
		}
		if o.Code == code {
			return o.Value, true
		}
		field = rest
	}
	return nil, false
}

// IA is an identity association for addresses (IA_NA) or prefixes (IA_PD): RFC 9915 §21.4, §21.21.
type IA struct {
	Code    Code // IANonTemporary or IAPrefixDelegation
	IAID    uint32
	T1, T2  time.Duration // Forever for "infinity"
	Options []byte        // IAAddress or IAPrefix, StatusCode
}

// Forever is what 0xffffffff seconds mean (RFC 9915 §7.7).
const Forever = time.Duration(1<<63 - 1)

// ParseIA reads the value of an IA_NA or IA_PD option.
func ParseIA(o Option) (ia IA, err error) {
	if len(o.Value) < 12 {
		return ia, fmt.Errorf("%w: IA of %d octets", ErrValue, len(o.Value))
	}
	return IA{
		Code: o.Code, IAID: binary.BigEndian.Uint32(o.Value), T1: lifetime(o.Value[4:]), T2: lifetime(o.Value[8:]), Options: o.Value[12:],
	}, nil
}

// Resource is an address or a prefix within an IA: RFC 9915 §21.6, §21.22.
type Resource struct {
	Prefix           netip.Prefix // all bits for an address
	Preferred, Valid time.Duration
	Options          []byte
}

// ParseResource reads the value of an IA Address or IA Prefix option.
func ParseResource(o Option) (r Resource, err error) {
	v := o.Value
	switch {
	case o.Code == IAAddress && len(v) >= 24:
		return Resource{netip.PrefixFrom(netip.AddrFrom16([16]byte(v)), 128), lifetime(v[16:]), lifetime(v[20:]), v[24:]}, nil
	case o.Code == IAPrefix && len(v) >= 25 && v[8] <= 128:
		p := netip.PrefixFrom(netip.AddrFrom16([16]byte(v[9:])), int(v[8])).Masked() // RFC 9915 §21.22: bits behind the length are ignored
		return Resource{p, lifetime(v), lifetime(v[4:]), v[25:]}, nil
	}
	return r, fmt.Errorf("%w: option %d of %d octets", ErrValue, o.Code, len(v))
}

// Status is the value of a Status Code option (RFC 9915 §21.13).
type Status struct {
	Code StatusValue
	Text string // UTF-8; may be empty
}

// ParseStatus reads the value of a Status Code option.
func ParseStatus(value []byte) (s Status, err error) {
	if len(value) < 2 {
		return s, fmt.Errorf("%w: status of %d octets", ErrValue, len(value))
	}
	return Status{StatusValue(binary.BigEndian.Uint16(value)), string(value[2:])}, nil
}

// Requests reports whether the value of an Option Request option names a code (RFC 9915 §21.7).
func Requests(oro []byte, code Code) bool {
	for ; len(oro) >= 2; oro = oro[2:] {
		if Code(binary.BigEndian.Uint16(oro)) == code {
			return true
		}
	}
	return false
}

// Addresses reads an option that is a list of addresses, in order of preference: DNS servers (RFC 3646 §3) and the mail servers of
// draft-cadar-dhc-dhcpv6-opt-email. One whose length is no multiple of 16, or zero, is ignored as a whole.
func Addresses(value []byte) ([]netip.Addr, error) {
	if len(value) == 0 || len(value)%addrSize != 0 {
		return nil, fmt.Errorf("%w: %d octets of addresses", ErrValue, len(value))
	}
	all := make([]netip.Addr, 0, len(value)/addrSize)
	for ; len(value) > 0; value = value[addrSize:] {
		all = append(all, netip.AddrFrom16([16]byte(value)))
	}
	return all, nil
}

func lifetime(b []byte) time.Duration {
	seconds := binary.BigEndian.Uint32(b)
	if seconds == 1<<32-1 {
		return Forever
	}
	return time.Duration(seconds) * time.Second
}

func seconds(d time.Duration) uint32 {
	if d >= (1<<32-1)*time.Second {
		return 1<<32 - 1
	}
	return uint32(max(d, 0) / time.Second)
}
