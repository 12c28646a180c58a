package lease

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// ID names a client: the octets of a DHCPv4 client identifier, or of hardware type and address (RFC 2131 §4.2), or of a DUID
// (RFC 9915 §11). At most 1,024 octets.
type ID string

const maxID = 1024

// String is the octets in hexadecimal, parted by colons.
func (id ID) String() string {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 3*len(id))
	for i := range len(id) {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, digits[id[i]>>4], digits[id[i]&15])
	}
	return string(b)
}

// ParseID reads what String wrote; colons may be left out.
func ParseID(s string) (ID, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) == 0 || len(b) > maxID {
		return "", fmt.Errorf("%q is not a client identifier in hexadecimal", s)
	}
	return ID(b), nil
}

// MarshalText is String.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseID; no text is no client.
func (id *ID) UnmarshalText(text []byte) (err error) {
	if *id = ""; len(text) > 0 {
		*id, err = ParseID(string(text))
	}
	return err
}

// State is what became of an address.
type State byte

// The states. A lease that has expired is still Bound; Holds knows.
const (
	Bound    State = 1 // given to Client until Expires
	Released State = 2 // given back before it expired
	Declined State = 3 // somebody else uses it: given to nobody until Expires (RFC 2131 §4.3.3)
)

var stateNames = [...]string{"", "bound", "released", "declined"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", byte(s))
}

// MarshalText is String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *State) UnmarshalText(text []byte) error {
	for i, name := range stateNames {
		if i > 0 && name == string(text) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no state of a lease", text)
}

// Lease is one address, or prefix, and who has it or had it last. The record of a client outlives its lease, so that it can have
// the same address again (RFC 2131 §4.3.1).
type Lease struct {
	Prefix   netip.Prefix `json:"prefix"` // all bits for an address
	Client   ID           `json:"client"`
	IAID     uint32       `json:"iaid,omitzero"` // RFC 9915 §12; 0 for DHCPv4
	State    State        `json:"state"`
	Pinned   bool         `json:"pinned,omitzero"`  // kept for Client even after it has expired
	Expires  time.Time    `json:"expires,omitzero"` // by the store's clock; zero is never
	Updated  time.Time    `json:"updated"`          // last bound, released or declined
	Hardware ID           `json:"hardware,omitzero"`
	Hostname string       `json:"hostname,omitzero"` // what the client calls itself, at most 255 octets
	Data     []byte       `json:"data,omitzero"`     // the server's own, at most 4,096 octets
}

// Bounds of Lease.
const (
	maxHardware = 255
	maxHostname = 255
	maxData     = 4096
)

// Holds reports whether the address may be given to nobody but client and iaid at now.
func (l *Lease) Holds(now time.Time) bool {
	return l.Pinned || l.State != Released && !l.expired(now)
}

// Current reports whether the client holds the address at now: bound and not expired.
func (l *Lease) Current(now time.Time) bool { return l.State == Bound && !l.expired(now) }

// Is reports whether the lease is, or was, that client's.
func (l *Lease) Is(client ID, iaid uint32) bool { return l.Client == client && l.IAID == iaid }

// Until is when the address is free for another client; ok is false when it never is.
func (l *Lease) Until() (t time.Time, ok bool) {
	switch {
	case l.Pinned:
		return time.Time{}, false
	case l.State == Released:
		return l.Updated, true
	}
	return l.Expires, !l.Expires.IsZero()
}

func (l *Lease) expired(now time.Time) bool { return !l.Expires.IsZero() && !now.Before(l.Expires) }

// check says what is wrong with a lease.
func (l *Lease) check() error {
	switch {
	case !l.Prefix.IsValid() || l.Prefix != l.Prefix.Masked() || l.Prefix.Addr().Is4In6() || l.Prefix.Addr().Zone() != "":
		return fmt.Errorf("lease: %v is no address", l.Prefix)
	case len(l.Client) > maxID || len(l.Hardware) > maxHardware || len(l.Hostname) > maxHostname || len(l.Data) > maxData:
		return fmt.Errorf("lease: %v: client, hardware address, name or data too long", l.Prefix)
	}
	return nil
}

// Host is the prefix that is one address.
func Host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
