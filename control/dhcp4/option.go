package dhcp4

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is how the value of an option is written.
type kind byte

const (
	kindHex       kind = iota // octets: "01 ab:cd"
	kindText                  // NVT ASCII, not empty
	kindAddr                  // one address
	kindAddrs                 // addresses, one or more
	kindAddrsOr               // addresses, perhaps none
	kindPairs                 // pairs of addresses: "192.0.2.0/192.0.2.1"
	kindBool                  // 0 or 1
	kindByte                  // unsigned, 8 bits
	kindUint16                // unsigned, 16 bits
	kindUint16s               // some of them
	kindUint32                // unsigned, 32 bits
	kindInt32                 // signed, 32 bits
	kindSeconds               // 32 bits: "90s", "2h"
	kindDomains               // names, RFC 1035 §3.1, without compression
	kindRoutes                // RFC 3442: "198.51.100.0/24 via 192.0.2.1"
	kindForbidden             // the server's own business
)

// optionName is an option with a name.
type optionName struct {
	code Code
	name string
	kind kind
}

// options are the options that have names, by code. RFC 2132 unless said otherwise.
var options = []optionName{
	{SubnetMask, "subnet-mask", kindAddr},                       // RFC 2132 §3.3
	{2, "time-offset", kindInt32},                               // RFC 2132 §3.4
	{Router, "routers", kindAddrs},                              // RFC 2132 §3.5
	{4, "time-servers", kindAddrs},                              // RFC 2132 §3.6
	{5, "ien116-name-servers", kindAddrs},                       // RFC 2132 §3.7
	{6, "domain-name-servers", kindAddrs},                       // RFC 2132 §3.8
	{7, "log-servers", kindAddrs},                               // RFC 2132 §3.9
	{8, "cookie-servers", kindAddrs},                            // RFC 2132 §3.10
	{9, "lpr-servers", kindAddrs},                               // RFC 2132 §3.11
	{10, "impress-servers", kindAddrs},                          // RFC 2132 §3.12
	{11, "resource-location-servers", kindAddrs},                // RFC 2132 §3.13
	{HostName, "host-name", kindText},                           // RFC 2132 §3.14
	{13, "boot-size", kindUint16},                               // RFC 2132 §3.15
	{14, "merit-dump", kindText},                                // RFC 2132 §3.16
	{15, "domain-name", kindText},                               // RFC 2132 §3.17
	{16, "swap-server", kindAddr},                               // RFC 2132 §3.18
	{17, "root-path", kindText},                                 // RFC 2132 §3.19
	{18, "extensions-path", kindText},                           // RFC 2132 §3.20
	{19, "ip-forwarding", kindBool},                             // RFC 2132 §4.1
	{20, "non-local-source-routing", kindBool},                  // RFC 2132 §4.2
	{21, "policy-filter", kindPairs},                            // RFC 2132 §4.3
	{22, "max-dgram-reassembly", kindUint16},                    // RFC 2132 §4.4
	{23, "default-ip-ttl", kindByte},                            // RFC 2132 §4.5
	{24, "path-mtu-aging-timeout", kindSeconds},                 // RFC 2132 §4.6
	{25, "path-mtu-plateau-table", kindUint16s},                 // RFC 2132 §4.7
	{26, "interface-mtu", kindUint16},                           // RFC 2132 §5.1
	{27, "all-subnets-local", kindBool},                         // RFC 2132 §5.2
	{BroadcastAddress, "broadcast-address", kindAddr},           // RFC 2132 §5.3
	{29, "perform-mask-discovery", kindBool},                    // RFC 2132 §5.4
	{30, "mask-supplier", kindBool},                             // RFC 2132 §5.5
	{31, "router-discovery", kindBool},                          // RFC 2132 §5.6
	{32, "router-solicitation-address", kindAddr},               // RFC 2132 §5.7
	{33, "static-routes", kindPairs},                            // RFC 2132 §5.8
	{34, "trailer-encapsulation", kindBool},                     // RFC 2132 §6.1
	{35, "arp-cache-timeout", kindSeconds},                      // RFC 2132 §6.2
	{36, "ieee802-3-encapsulation", kindBool},                   // RFC 2132 §6.3
	{37, "default-tcp-ttl", kindByte},                           // RFC 2132 §7.1
	{38, "tcp-keepalive-interval", kindSeconds},                 // RFC 2132 §7.2
	{39, "tcp-keepalive-garbage", kindBool},                     // RFC 2132 §7.3
	{40, "nis-domain", kindText},                                // RFC 2132 §8.1
	{41, "nis-servers", kindAddrs},                              // RFC 2132 §8.2
	{42, "ntp-servers", kindAddrs},                              // RFC 2132 §8.3
	{43, "vendor-specific", kindHex},                            // RFC 2132 §8.4
	{44, "netbios-name-servers", kindAddrs},                     // RFC 2132 §8.5
	{45, "netbios-dd-servers", kindAddrs},                       // RFC 2132 §8.6
	{46, "netbios-node-type", kindByte},                         // RFC 2132 §8.7
	{47, "netbios-scope", kindText},                             // RFC 2132 §8.8
	{48, "font-servers", kindAddrs},                             // RFC 2132 §8.9
	{49, "x-display-managers", kindAddrs},                       // RFC 2132 §8.10
	{RequestedAddress, "requested-address", kindForbidden},      // RFC 2132 §9.1
	{LeaseTime, "lease-time", kindForbidden},                    // RFC 2132 §9.2
	{OptionOverload, "option-overload", kindForbidden},          // RFC 2132 §9.3
	{MessageTypeOption, "message-type", kindForbidden},          // RFC 2132 §9.6
	{ServerIdentifier, "server-identifier", kindForbidden},      // RFC 2132 §9.7
	{ParameterRequestList, "parameter-requests", kindForbidden}, // RFC 2132 §9.8
	{Message, "message", kindForbidden},                         // RFC 2132 §9.9
	{MaximumMessageSize, "max-message-size", kindForbidden},     // RFC 2132 §9.10
	{RenewalTime, "renewal-time", kindForbidden},                // RFC 2132 §9.11
	{RebindingTime, "rebinding-time", kindForbidden},            // RFC 2132 §9.12
	{VendorClassIdentifier, "vendor-class", kindText},           // RFC 2132 §9.13
	{ClientIdentifier, "client-identifier", kindForbidden},      // RFC 2132 §9.14
	{64, "nisplus-domain", kindText},                            // RFC 2132 §8.11
	{65, "nisplus-servers", kindAddrs},                          // RFC 2132 §8.12
	{66, "tftp-server-name", kindText},                          // RFC 2132 §9.4
	{67, "boot-file", kindText},                                 // RFC 2132 §9.5
	{68, "mobile-ip-home-agents", kindAddrsOr},                  // RFC 2132 §8.13
	{SMTPServer, "smtp-servers", kindAddrs},                     // RFC 2132 §8.14
	{POP3Server, "pop3-servers", kindAddrs},                     // RFC 2132 §8.15
	{71, "nntp-servers", kindAddrs},                             // RFC 2132 §8.16
	{72, "www-servers", kindAddrs},                              // RFC 2132 §8.17
	{73, "finger-servers", kindAddrs},                           // RFC 2132 §8.18
	{74, "irc-servers", kindAddrs},                              // RFC 2132 §8.19
	{75, "streettalk-servers", kindAddrs},                       // RFC 2132 §8.20
	{76, "stda-servers", kindAddrs},                             // RFC 2132 §8.21
	{RapidCommit, "rapid-commit", kindForbidden},                // RFC 4039 §4
	{RelayAgentInformation, "relay-agent", kindForbidden},       // RFC 3046 §2.0
	{100, "posix-timezone", kindText},                           // RFC 4833 §2
	{101, "tzdb-timezone", kindText},                            // RFC 4833 §2
	{114, "captive-portal", kindText},                           // RFC 8910 §2.1
	{119, "domain-search", kindDomains},                         // RFC 3397 §2
	{121, "classless-routes", kindRoutes},                       // RFC 3442
	{150, "tftp-servers", kindAddrs},                            // RFC 5859 §3
	{252, "web-proxy-autodiscovery", kindText},                  // private use: RFC 3942 §2.1
}

func byCode(c Code) *optionName {
	for i := range options {
		if options[i].code == c {
			return &options[i]
		}
	}
	return nil
}

// parseOption reads an option as an operator writes it: its name, or its number for one without a name or with a value of
// octets, and the value.
func parseOption(name, value string) (Option, error) {
	for _, o := range options {
		if o.name != name {
			continue
		}
		if o.kind == kindForbidden {
			return Option{}, fmt.Errorf("option %s is set by the server itself", name)
		}
		v, err := o.kind.appendValue(nil, strings.TrimSpace(value))
		if err != nil {
			return Option{}, fmt.Errorf("option %s: %w", name, err)
		}
		return Option{o.code, v}, nil
	}
	n, err := strconv.ParseUint(name, 10, 8)
	if err != nil || Code(n) == Pad || Code(n) == End {
		return Option{}, fmt.Errorf("%q is neither the name of an option nor a number from 1 to 254", name)
	}
	if o := byCode(Code(n)); o != nil && o.kind == kindForbidden {
		return Option{}, fmt.Errorf("option %s is set by the server itself", o.name)
	}
	v, err := kindHex.appendValue(nil, value)
	if err != nil {
		return Option{}, fmt.Errorf("option %s: %w", name, err)
	}
	return Option{Code(n), v}, nil
}

// integers are the kinds that are numbers, with their size in bits.
var integers = map[kind]int{kindByte: 8, kindUint16: 16, kindUint16s: 16, kindUint32: 32}

// appendValue appends the octets of a value written as text.
func (k kind) appendValue(b []byte, s string) ([]byte, error) {
	switch k {
	case kindHex:
		v, err := hex.DecodeString(strings.NewReplacer(":", "", " ", "").Replace(s))
		if err != nil {
			return nil, fmt.Errorf("%q are not octets in hexadecimal", s)
		}
		return append(b, v...), nil
	case kindText:
		if s == "" || strings.ContainsRune(s, 0) {
			return nil, errors.New("text is needed")
		}
		return append(b, s...), nil
	case kindBool:
		v, err := strconv.ParseBool(s)
		if err != nil {
			return nil, fmt.Errorf("%q is neither true nor false", s)
		}
		if v {
			return append(b, 1), nil
		}
		return append(b, 0), nil
	case kindByte, kindUint16, kindUint32:
		return appendInteger(b, s, integers[k])
	case kindInt32:
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number of 32 bits", s)
		}
		return binary.BigEndian.AppendUint32(b, uint32(n)), nil
	case kindSeconds:
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 || d/time.Second > 1<<32-1 {
			return nil, fmt.Errorf("%q is not a time such as \"90s\"", s)
		}
		return binary.BigEndian.AppendUint32(b, uint32(d/time.Second)), nil
	}
	return k.appendList(b, s)
}

func appendInteger(b []byte, s string, bits int) ([]byte, error) {
	n, err := strconv.ParseUint(s, 10, bits)
	if err != nil {
		return nil, fmt.Errorf("%q is not a number of %d bits", s, bits)
	}
	for shift := bits - 8; shift >= 0; shift -= 8 {
		b = append(b, byte(n>>shift))
	}
	return b, nil
}

// appendList appends the values parted by commas.
func (k kind) appendList(b []byte, s string) (_ []byte, err error) {
	parts := strings.Split(s, ",")
	if s == "" && k == kindAddrsOr {
		parts = nil
	}
	if k == kindAddr && len(parts) != 1 {
		return nil, errors.New("one address is needed")
	}
	for _, part := range parts {
		part = strings.TrimSpace(part)
		switch k {
		case kindAddr, kindAddrs, kindAddrsOr:
			b, err = appendText4(b, part)
		case kindPairs:
			first, second, _ := strings.Cut(part, "/")
			if b, err = appendText4(b, first); err == nil {
				b, err = appendText4(b, second)
			}
		case kindUint16s:
			b, err = appendInteger(b, part, integers[k])
		case kindDomains:
			b, err = appendDomain(b, part)
		case kindRoutes:
			b, err = appendRoute(b, part)
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendText4(b []byte, s string) ([]byte, error) {
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil || !a.Is4() {
		return nil, fmt.Errorf("%q is not an IPv4 address", s)
	}
	return appendAddr(b, a), nil
}

// appendDomain appends a name as labels. RFC 1035 §3.1.
func appendDomain(b []byte, name string) ([]byte, error) {
	name = strings.TrimSuffix(name, ".")
	if len(name) > 253 {
		return nil, fmt.Errorf("%q is longer than a domain name can be", name)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return nil, fmt.Errorf("%q is not a domain name", name)
		}
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0), nil
}

// appendRoute appends a destination, as few octets as its prefix has, and its router. RFC 3442, "Classless Route Option Format".
func appendRoute(b []byte, s string) ([]byte, error) {
	to, via, _ := strings.Cut(s, " via ")
	prefix, err := netip.ParsePrefix(strings.TrimSpace(to))
	if err != nil || !prefix.Addr().Is4() {
		return nil, fmt.Errorf("%q is not a route such as \"198.51.100.0/24 via 192.0.2.1\"", s)
	}
	octets := prefix.Masked().Addr().As4()
	b = append(append(b, byte(prefix.Bits())), octets[:(prefix.Bits()+7)/8]...)
	return appendText4(b, via)
}

func sortOptions(all []Option) {
	slices.SortFunc(all, func(a, b Option) int { return cmp.Compare(a.Code, b.Code) })
}
