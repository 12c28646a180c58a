package ra

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// The ICMPv6 types: RFC 4861 §4.1, §4.2.
const (
	typeSolicitation  = 133
	typeAdvertisement = 134
)

// The options: RFC 4861 §4.6, RFC 8106 §5.
const (
	optionSource  = 1
	optionPrefix  = 3
	optionMTU     = 5
	optionServers = 25
	optionDomains = 31
)

// The flags of an advertisement (RFC 4861 §4.2, RFC 4191 §2.2) and of a prefix in it (RFC 4861 §4.6.2).
const (
	flagManaged    = 0x80
	flagOther      = 0x40
	flagOnLink     = 0x80
	flagAutonomous = 0x40

	preferenceShift = 3
	preferenceMask  = 3 << preferenceShift
)

const (
	hopLimit          = 255 // of every message: RFC 4861 §6.1, it has passed no router
	headSolicitation  = 8
	headAdvertisement = 16
	maxMessage        = 1280 // octets of what is sent: it fits every link
)

// The faults of a message.
var (
	ErrFar     = errors.New("ra: it has passed a router")
	ErrShort   = errors.New("ra: shorter than its header")
	ErrCode    = errors.New("ra: its code is not 0")
	ErrOption  = errors.New("ra: bad option")
	ErrSource  = errors.New("ra: bad source address")
	ErrMessage = errors.New("ra: not a message for routers")
)

// Preference is that of a default router (RFC 4191 §2.1).
type Preference byte

// The preferences, as they are on the wire.
const (
	Medium Preference = 0
	High   Preference = 1
	Low    Preference = 3
)

// Advertisement is a Router Advertisement (RFC 4861 §4.2).
type Advertisement struct {
	HopLimit   byte
	Managed    bool // addresses by DHCPv6
	Other      bool // other things by DHCPv6
	Preference Preference
	Lifetime   time.Duration // as a default router; 0: it is none
	MTU        uint32        // 0: not said
	Prefixes   []Prefix
	Servers    []netip.Addr // of DNS
	Domains    []byte       // as DNS writes them
	NamesLast  time.Duration
}

// Prefix is a Prefix Information option (RFC 4861 §4.6.2).
type Prefix struct {
	Prefix           netip.Prefix
	OnLink           bool
	Autonomous       bool
	Valid, Preferred time.Duration
}

// AppendTo appends the message, without its checksum, which is the kernel's. hardware is the sending interface's, if it has any.
func (a *Advertisement) AppendTo(b, hardware []byte) []byte {
	var flags byte
	if a.Managed {
		flags |= flagManaged
	}
	if a.Other {
		flags |= flagOther
	}
	if a.Lifetime > 0 { // RFC 4191 §2.2: else the preference is zero
		flags |= byte(a.Preference) << preferenceShift
	}
	b = append(b, typeAdvertisement, 0, 0, 0, a.HopLimit, flags)
	b = binary.BigEndian.AppendUint16(b, uint16(min(a.Lifetime/time.Second, 1<<16-1)))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // reachable time and retransmission: left to the hosts
	if len(hardware) > 0 {
		b = appendOption(b, optionSource, hardware)
	}
	if a.MTU > 0 {
		b = appendOption(b, optionMTU, binary.BigEndian.AppendUint32([]byte{0, 0}, a.MTU))
	}
	for _, p := range a.Prefixes {
		var flags byte
		if p.OnLink {
			flags |= flagOnLink
		}
		if p.Autonomous {
			flags |= flagAutonomous
		}
		addr := p.Prefix.Addr().As16()
		v := binary.BigEndian.AppendUint32([]byte{byte(p.Prefix.Bits()), flags}, seconds(p.Valid))
		v = append(binary.BigEndian.AppendUint32(v, seconds(p.Preferred)), 0, 0, 0, 0)
		b = appendOption(b, optionPrefix, append(v, addr[:]...))
	}
	if len(a.Servers) > 0 {
		v := binary.BigEndian.AppendUint32([]byte{0, 0}, seconds(a.NamesLast))
		for _, s := range a.Servers {
			addr := s.As16()
			v = append(v, addr[:]...)
		}
		b = appendOption(b, optionServers, v)
	}
	if len(a.Domains) > 0 {
		v := binary.BigEndian.AppendUint32([]byte{0, 0}, seconds(a.NamesLast))
		b = appendOption(b, optionDomains, append(v, a.Domains...))
	}
	return b
}

// appendOption appends an option, filled up to a multiple of eight octets.
func appendOption(b []byte, kind byte, value []byte) []byte {
	size := (2 + len(value) + 7) / 8
	b = append(append(b, kind, byte(size)), value...)
	return append(b, make([]byte, size*8-2-len(value))...)
}

// CheckSolicitation reports why a Router Solicitation is not valid (RFC 4861 §6.1.1); the kernel has checked the checksum.
func CheckSolicitation(b []byte, from netip.Addr, hops int) error {
	switch {
	case hops != hopLimit:
		return ErrFar
	case len(b) < headSolicitation:
		return ErrShort
	case b[0] != typeSolicitation:
		return ErrMessage
	case b[1] != 0:
		return ErrCode
	}
	for kind, err := range options(b[headSolicitation:]) {
		if err != nil {
			return err
		}
		if kind[0] == optionSource && from.IsUnspecified() {
			return fmt.Errorf("%w: a link-layer address of nobody", ErrOption)
		}
	}
	return nil
}

// Parse reads a Router Advertisement that is valid (RFC 4861 §6.1.2). Options that are not known, or not of their length, are passed over.
func Parse(b []byte, from netip.Addr, hops int) (a Advertisement, err error) {
	switch {
	case !from.IsLinkLocalUnicast():
		return a, ErrSource
	case hops != hopLimit:
		return a, ErrFar
	case len(b) < headAdvertisement:
		return a, ErrShort
	case b[0] != typeAdvertisement:
		return a, ErrMessage
	case b[1] != 0:
		return a, ErrCode
	}
	a.HopLimit, a.Managed, a.Other = b[4], b[5]&flagManaged != 0, b[5]&flagOther != 0
	a.Preference = Preference(b[5] & preferenceMask >> preferenceShift)
	if a.Preference == 2 { // RFC 4191 §2.2: to be taken as medium
		a.Preference = Medium
	}
	a.Lifetime = time.Duration(binary.BigEndian.Uint16(b[6:])) * time.Second
	for o, err := range options(b[headAdvertisement:]) {
		if err != nil {
			return a, err
		}
		switch v := o[2:]; {
		case o[0] == optionMTU && len(o) == 8:
			a.MTU = binary.BigEndian.Uint32(v[2:])
		case o[0] == optionPrefix && len(o) == 32 && v[0] <= 128:
			a.Prefixes = append(a.Prefixes, Prefix{
				netip.PrefixFrom(netip.AddrFrom16([16]byte(v[14:])), int(v[0])).Masked(), v[1]&flagOnLink != 0, v[1]&flagAutonomous != 0,
				lifetime(v[2:]), lifetime(v[6:]),
			})
		case o[0] == optionServers && len(o) >= 24 && len(o)%16 == 8:
			a.NamesLast = lifetime(v[2:])
			for v = v[6:]; len(v) > 0; v = v[16:] {
				a.Servers = append(a.Servers, netip.AddrFrom16([16]byte(v)))
			}
		case o[0] == optionDomains && len(o) >= 16:
			a.NamesLast, a.Domains = lifetime(v[2:]), v[6:]
		}
	}
	return a, nil
}

// options yields the options of a field, each whole; one whose length is zero, or too long, is an error and ends them (RFC 4861 §6.1).
func options(field []byte) func(yield func([]byte, error) bool) {
	return func(yield func([]byte, error) bool) {
		for len(field) > 0 {
			size := 0
			if len(field) >= 2 {
				size = int(field[1]) * 8
			}
			if size == 0 || size > len(field) {
				yield(nil, ErrOption)
				return
			}
			if !yield(field[:size], nil) {
				return
			}
			field = field[size:]
		}
	}
}

// forever is what 0xffffffff seconds mean (RFC 4861 §4.6.2).
const forever = (1<<32 - 1) * time.Second

func lifetime(b []byte) time.Duration { return time.Duration(binary.BigEndian.Uint32(b)) * time.Second }

func seconds(d time.Duration) uint32 { return uint32(min(max(d, 0), forever) / time.Second) }
