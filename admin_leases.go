package site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"bothy/control/dhcp4"
	"bothy/control/dhcp6"
	"bothy/control/lease"
	"bothy/management/admin"
)

// Uplink is the answer of GET /v1/uplink: what our clients were given. A client that is off has none.
type Uplink struct {
	DHCP4 *dhcp4.Binding `json:"dhcp4,omitempty"`
	DHCP6 *dhcp6.Binding `json:"dhcp6,omitempty"`
}

// Lease is one row of GET /v1/leases. Its times are those of people's clocks.
type Lease struct {
	lease.Lease
	Kind    string    `json:"kind"`    // "address", or "prefix" for one that was delegated
	Current bool      `json:"current"` // held now
	Expires time.Time `json:"expires,omitzero"`
	Updated time.Time `json:"updated"`
	Circuit string    `json:"circuit,omitempty"` // where a relay agent says that the client is (RFC 3046 §3.1), as text or in hexadecimal
	Remote  string    `json:"remote,omitempty"`  // and who it is (§3.2)
}

// LeaseRequest names an address, or a delegated prefix.
type LeaseRequest struct {
	Address string `json:"address"`
	Pinned  bool   `json:"pinned,omitempty"` // POST /v1/leases/pin: kept, or no longer
}

// handleLeases answers the command line about leases, and about what our own clients have.
func (s *Site) handleLeases(server *admin.Server) {
	admin.Handle(server, http.MethodGet, "/v1/uplink", func(context.Context, struct{}) (Uplink, error) {
		four, six := s.dhcp.client4.Load(), s.dhcp.client6.Load()
		if four == nil && six == nil {
			return Uplink{}, &admin.Error{Status: http.StatusConflict, Text: "this server asks nobody for an address", Hint: "set dhcp4_client.interface or dhcp6_client.interface in the configuration"}
		}
		var up Uplink
		if four != nil {
			up.DHCP4 = new(four.Binding())
		}
		if six != nil {
			up.DHCP6 = new(six.Binding())
		}
		return up, nil
	})
	admin.Handle(server, http.MethodGet, "/v1/leases", func(context.Context, struct{}) ([]Lease, error) {
		rows := []Lease{}
		stores := s.dhcp.stores()
		if len(stores) == 0 {
			return nil, errNoDHCP
		}
		for _, store := range stores {
			for _, l := range store.List() {
				rows = append(rows, shownLease(store, l))
			}
		}
		return rows, nil
	})
	admin.Handle(server, http.MethodPost, "/v1/leases/delete", func(_ context.Context, q LeaseRequest) (Lease, error) {
		return s.changeLease(q, func(store *lease.Store, p netip.Prefix) (lease.Pending, error) { return store.Delete(p) })
	})
	admin.Handle(server, http.MethodPost, "/v1/leases/pin", func(_ context.Context, q LeaseRequest) (Lease, error) {
		return s.changeLease(q, func(store *lease.Store, p netip.Prefix) (lease.Pending, error) { return store.Pin(p, q.Pinned) })
	})
}

var errNoDHCP = &admin.Error{Status: http.StatusConflict, Text: "this server gives no addresses", Hint: "set dhcp4.interfaces or dhcp6.interfaces in the configuration and restart"}

// changeLease does one thing to one address, and returns its row as it was when it is gone, else as it is.
func (s *Site) changeLease(q LeaseRequest, change func(*lease.Store, netip.Prefix) (lease.Pending, error)) (Lease, error) {
	p, err := parseAddress(q.Address)
	if err != nil {
		return Lease{}, &admin.Error{Status: http.StatusBadRequest, Text: err.Error(), Hint: "bothy lease list shows the addresses"}
	}
	if len(s.dhcp.stores()) == 0 {
		return Lease{}, errNoDHCP
	}
	for _, store := range s.dhcp.stores() {
		before, known := store.Get(p)
		if !known {
			continue
		}
		pending, err := change(store, p)
		if err == nil {
			err = pending.Wait()
		}
		if errors.Is(err, lease.ErrNotHeld) {
			return Lease{}, &admin.Error{Status: http.StatusConflict, Text: fmt.Sprintf("nobody has, or had, %s", q.Address)}
		}
		if after, still := store.Get(p); still {
			before = after
		}
		return shownLease(store, before), err
	}
	return Lease{}, &admin.Error{Status: http.StatusNotFound, Text: q.Address + " was never given to anybody", Hint: "bothy lease list shows the addresses"}
}

func shownLease(store *lease.Store, l lease.Lease) Lease {
	shown := Lease{Lease: l, Kind: "address", Current: l.Current(store.Now()), Expires: store.TimeOfDay(l.Expires), Updated: store.TimeOfDay(l.Updated)}
	switch {
	case !l.Prefix.IsSingleIP():
		shown.Kind = "prefix"
	case l.Prefix.Addr().Is4():
		circuit, remote := dhcp4.RelayedFrom(l.Data)
		shown.Circuit, shown.Remote = readable(circuit), readable(remote)
	}
	return shown
}

// readable is octets as text where they are some, else in hexadecimal.
func readable(b []byte) string {
	if bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' || r > '~' }) {
		return lease.ID(b).String()
	}
	return string(b)
}

// parseAddress reads an address, or a prefix.
func parseAddress(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no address", text)
	}
	return lease.Host(a.Unmap()), nil
}
