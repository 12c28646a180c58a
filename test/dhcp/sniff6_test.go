//go:build dhcp

package dhcp

import (
	"net/netip"
	"slices"
	"testing"

	"bothy/control/dhcp6"
)

// asked6 are the types of messages that the host sent after the first n.
func (s *sniffer) asked6(n int) (types []dhcp6.MessageType) {
	for _, h := range s.heard()[n:] {
		var m dhcp6.Message
		if h.sent && h.from.Addr().Is6() && m.Parse(h.payload) == nil {
			types = append(types, m.Type)
		}
	}
	return types
}

// replied6 is the Reply to a message of a type that the host sent after the first n, and what it answers; false while there is none.
func (s *sniffer) replied6(asked dhcp6.MessageType, n int) (question, reply *dhcp6.Message, ok bool) {
	xids := map[uint32]*dhcp6.Message{}
	for _, h := range s.heard()[n:] {
		m := new(dhcp6.Message)
		switch {
		case !h.from.Addr().Is6() || m.Parse(h.payload) != nil:
		case h.sent && m.Type == asked:
			xids[m.XID] = m
		case !h.sent && m.Type == dhcp6.Reply && xids[m.XID] != nil:
			return xids[m.XID], m, true
		}
	}
	return nil, nil, false
}

// resources6 are the addresses and prefixes in a message, those with a lifetime of 0 left out.
func resources6(t *testing.T, m *dhcp6.Message) (all []netip.Prefix) {
	t.Helper()
	for _, o := range m.Options {
		if o.Code != dhcp6.IANonTemporary && o.Code != dhcp6.IAPrefixDelegation {
			continue
		}
		ia, err := dhcp6.ParseIA(o)
		if err != nil {
			t.Fatal(err)
		}
		var inner dhcp6.Message
		if err := inner.Parse(append(make([]byte, 4), ia.Options...)); err != nil { // options behind an empty head
			t.Fatal(err)
		}
		for _, o := range inner.Options {
			if r, err := dhcp6.ParseResource(o); err == nil && r.Valid > 0 {
				all = append(all, r.Prefix)
			}
		}
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	return all
}

// mailLists are what the server of the tests says, by option code.
var mailLists = map[dhcp6.Code][]netip.Addr{
	65001: {netip.MustParseAddr("2001:db8:1::143"), netip.MustParseAddr("2001:db8:1::144")},
	65002: {netip.MustParseAddr("2001:db8:1::110")},
	65003: {netip.MustParseAddr("2001:db8:1::1")},
}

// mailAsked are the messages in which a client may ask for the lists, and whose answer may have them: the draft, §7.
var mailAsked = []dhcp6.MessageType{dhcp6.Solicit, dhcp6.Request, dhcp6.Renew, dhcp6.Rebind, dhcp6.InformationRequest}

// mail6 holds that each answer has the lists that its question asks for, in their order, and no message has any otherwise. It returns the types of the questions
// that were answered with all three.
func (s *sniffer) mail6(t *testing.T) (types []dhcp6.MessageType) {
	t.Helper()
	questions := map[uint32]*dhcp6.Message{}
	for _, h := range s.heard() {
		m := new(dhcp6.Message)
		if !h.from.Addr().Is6() || m.Parse(h.payload) != nil {
			continue
		}
		if h.sent {
			questions[m.XID] = m
			continue
		}
		q := questions[m.XID]
		if q == nil {
			q = new(dhcp6.Message)
		}
		oro, _ := q.Find(dhcp6.OptionRequest)
		n := 0
		for code, want := range mailLists {
			v, has := m.Find(code)
			list, err := dhcp6.Addresses(v)
			asked := slices.Contains(mailAsked, q.Type) && dhcp6.Requests(oro, code)
			switch {
			case has != asked:
				t.Errorf("%v to %v: option %d asked for %v, sent %v", m.Type, q.Type, code, asked, has)
			case has && (err != nil || !slices.Equal(list, want)):
				t.Errorf("%v to %v: option %d is %v, not %v", m.Type, q.Type, code, list, want)
			case has:
				n++
			}
		}
		if n == len(mailLists) && !slices.Contains(types, q.Type) {
			types = append(types, q.Type)
		}
	}
	return types
}
