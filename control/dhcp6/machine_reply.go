package dhcp6

import (
	"errors"
	"net/netip"
	"slices"

	"bothy/control/lease"
)

// begin writes what stands first in every reply (RFC 9915 §18.3).
func (m *machine) begin(c *asker, t MessageType) *writer {
	w := &m.reply
	w.start(t, c.XID)
	w.put(ServerID, m.duid)
	if c.id != "" {
		w.put(ClientID, []byte(c.id))
	}
	return w
}

// assigned answers Solicit and Request (RFC 9915 §18.3.1, §18.3.2, §18.3.9). With commit the leases are given, else only shown.
func (m *machine) assigned(c *asker, t MessageType, commit bool) Why {
	w := m.begin(c, t)
	for i := range m.ias {
		ia := &m.ias[i]
		if c.Type == Request && ia.Code == IANonTemporary && m.astray(c, ia) { // §18.3.2: must be NotOnLink
			m.statusIA(w, ia, NotOnLink, "these addresses are of another link")
			continue
		}
		if why := m.give(c, w, ia, commit); why != "" {
			return why
		}
	}
	if t == Advertise && m.plan.Preference > 0 { // §21.8
		w.put(Preference, []byte{byte(m.plan.Preference)})
	}
	if t == Reply && c.Type == Solicit {
		w.empty(RapidCommit) // §21.14
	}
	m.reconfigurable(c, w, t)
	m.inform(c, w)
	return ""
}

// give chooses something for an IA and writes it, or that there is nothing.
func (m *machine) give(c *asker, w *writer, ia *IA, commit bool) Why {
	q, ok := m.choose(c, ia)
	if ok {
		m.chosen = append(m.chosen, q)
	}
	if ok && commit {
		err := m.bind(c, ia, q)
		if err != nil && !errors.Is(err, lease.ErrTaken) && !errors.Is(err, lease.ErrMany) {
			return WhyStore
		}
		ok = err == nil
	}
	if !ok {
		if ia.Code == IAPrefixDelegation {
			m.statusIA(w, ia, NoPrefixAvail, "no prefix is free")
		} else {
			m.statusIA(w, ia, NoAddrsAvail, "no address is free")
		}
		return ""
	}
	at := m.openIA(w, ia)
	w.resource(ia.Code, m.granted(q))
	for r := range resources(ia) { // §18.3.4: what it must not use; a Rebind may be of another server's lease
		if r.Prefix != q && (c.Type == Renew || c.Type == Rebind && !m.onLink(c, r.Prefix)) {
			w.resource(ia.Code, Resource{Prefix: r.Prefix})
		}
	}
	w.close(at)
	return ""
}

// granted is an address or prefix with the configured lifetimes.
func (m *machine) granted(q netip.Prefix) Resource {
	return Resource{Prefix: q, Preferred: m.plan.Preferred, Valid: m.plan.Valid}
}

// openIA begins an IA with leases. T1 and T2 are the same in all of them (RFC 9915 §18.3.2), half and four fifths of the preferred
// lifetime (§21.4).
func (m *machine) openIA(w *writer, ia *IA) int {
	t := m.plan.Preferred
	return w.openIA(IA{Code: ia.Code, IAID: ia.IAID, T1: t / 2, T2: t / 5 * 4})
}

// statusIA writes an IA that has nothing but a status. Its times are zero: there is nothing to renew.
func (m *machine) statusIA(w *writer, ia *IA, code StatusValue, text string) {
	at := w.openIA(IA{Code: ia.Code, IAID: ia.IAID})
	w.status(Status{code, text})
	w.close(at)
}

// extended answers Renew and Rebind (RFC 9915 §18.3.4, §18.3.5).
func (m *machine) extended(c *asker) Why {
	w := m.begin(c, Reply)
	said := false
	for i := range m.ias {
		ia := &m.ias[i]
		if m.bound(c, ia) {
			if why := m.extendIA(c, w, ia); why != "" {
				return why
			}
			said = true
			continue
		}
		dead := m.astray(c, ia)
		switch {
		case c.Type == Rebind && dead: // §18.3.5: an explicit word that they must not be used
			at := w.openIA(IA{Code: ia.Code, IAID: ia.IAID})
			for r := range resources(ia) {
				if !m.onLink(c, r.Prefix) {
					w.resource(ia.Code, Resource{Prefix: r.Prefix})
				}
			}
			w.close(at)
		case c.Type == Rebind && !m.plan.RapidCommit: // §18.3.5: another server may have it
			continue
		default: // §18.3.4: a binding is made
			if why := m.give(c, w, ia, true); why != "" {
				return why
			}
		}
		said = true
	}
	if !said {
		return WhyNothing
	}
	m.reconfigurable(c, w, Reply)
	m.inform(c, w)
	return ""
}

// bound reports whether an IA has a lease now.
func (m *machine) bound(c *asker, ia *IA) bool {
	for _, l := range m.leases.Client(c.id, ia.IAID) {
		if m.mine(&l, ia) && l.Current(c.now) {
			return true
		}
	}
	return false
}

// astray reports whether an IA names an address or a prefix of another link.
func (m *machine) astray(c *asker, ia *IA) bool {
	for r := range resources(ia) {
		if !m.onLink(c, r.Prefix) {
			return true
		}
	}
	return false
}

// extendIA renews what an IA has, and says of the rest of what it names that it is over.
func (m *machine) extendIA(c *asker, w *writer, ia *IA) Why {
	at := m.openIA(w, ia)
	kept := false
	for _, l := range m.leases.Client(c.id, ia.IAID) {
		if !m.mine(&l, ia) || !l.Current(c.now) || !m.usable(c, ia, l.Prefix) {
			continue
		}
		if err := m.bind(c, ia, l.Prefix); err != nil {
			return WhyStore
		}
		m.chosen = append(m.chosen, l.Prefix)
		w.resource(ia.Code, m.granted(l.Prefix))
		kept = true
	}
	if !kept { // renumbered: what it has now is of no pool any more
		w.b = w.b[:at-4]
		return m.give(c, w, ia, true)
	}
	for r := range resources(ia) {
		if !slices.Contains(m.chosen, r.Prefix) {
			w.resource(ia.Code, Resource{Prefix: r.Prefix}) // lifetimes of 0
		}
	}
	w.close(at)
	return ""
}

// confirmed answers Confirm (RFC 9915 §18.3.3): are these addresses of the link the client is on now?
func (m *machine) confirmed(c *asker) Why {
	any, astray := false, false
	for i := range m.ias {
		if m.ias[i].Code != IANonTemporary {
			continue
		}
		for r := range resources(&m.ias[i]) {
			any = true
			astray = astray || !m.onLink(c, r.Prefix)
		}
	}
	if !any {
		return WhyNothing
	}
	w := m.begin(c, Reply)
	if astray {
		w.status(Status{NotOnLink, "these addresses are of another link"})
	} else {
		w.status(Status{Success, "these addresses are of this link"})
	}
	return ""
}

// givenBack answers Release and Decline (RFC 9915 §18.3.7, §18.3.8).
func (m *machine) givenBack(c *asker) Why {
	w := m.begin(c, Reply)
	w.status(Status{Code: Success})
	for i := range m.ias {
		ia := &m.ias[i]
		if c.Type == Decline && ia.Code != IANonTemporary {
			continue
		}
		if !m.bound(c, ia) {
			m.statusIA(w, ia, NoBinding, "there is no such binding")
			continue
		}
		for r := range resources(ia) {
			l, ok := m.leases.Get(r.Prefix)
			if !ok || !l.Is(c.id, ia.IAID) || !l.Current(c.now) {
				continue // ignored
			}
			var pending lease.Pending
			var err error
			what := "released"
			if c.Type == Decline {
				what = "declined"
				pending, err = m.leases.Decline(r.Prefix, c.id, ia.IAID, c.now.Add(m.plan.Quarantine))
			} else {
				pending, err = m.leases.Release(r.Prefix, c.id, ia.IAID)
			}
			if err != nil {
				return WhyStore
			}
			m.commit, m.notes = append(m.commit, pending), append(m.notes, Note{what, r.Prefix})
		}
	}
	return ""
}

// informed answers Information-request (RFC 9915 §18.3.6).
func (m *machine) informed(c *asker) Why {
	w := m.begin(c, Reply)
	m.reconfigurable(c, w, Reply)
	if Requests(c.oro, InformationRefresh) {
		w.time(InformationRefresh, m.plan.Refresh) // §21.23
	}
	m.inform(c, w)
	return ""
}

// inform writes what else the client asked for (RFC 9915 §18.3, §21.7). Nothing goes out unasked.
func (m *machine) inform(c *asker, w *writer) {
	if Requests(c.oro, DNSServers) {
		w.addresses(DNSServers, c.on.dns)
	}
	if Requests(c.oro, DomainList) && len(c.on.search) > 0 {
		w.put(DomainList, c.on.search)
	}
	if m.plan.SolMaxRT > 0 && Requests(c.oro, SolMaxRT) {
		w.time(SolMaxRT, m.plan.SolMaxRT) // §21.24
	}
	if m.plan.InfMaxRT > 0 && Requests(c.oro, InfMaxRT) {
		w.time(InfMaxRT, m.plan.InfMaxRT) // §21.25
	}
	m.mailServers(c, w)
}

// The suboptions of option 17 under the operator's own enterprise number.
const (
	vendorIMAP Code = 1
	vendorPOP3 Code = 2
	vendorSMTP Code = 3
)

// mailServers writes the lists of the draft, §4 to §7: only those that the client's Option Request names, and only in the messages where
// inform is called, which are those of §7.
func (m *machine) mailServers(c *asker, w *writer) {
	cfg := &m.plan.Mail
	lists := [...]struct {
		code   int
		vendor Code
		set    []netip.Addr
		own    []netip.Addr
	}{
		{cfg.IMAPCode, vendorIMAP, cfg.IMAP, nil},
		{cfg.POP3Code, vendorPOP3, cfg.POP3, m.mail.POP3},
		{cfg.SMTPCode, vendorSMTP, cfg.SMTP, m.mail.SMTP},
	}
	for _, l := range lists {
		if l.code != 0 && Requests(c.oro, Code(l.code)) {
			w.addresses(Code(l.code), c.servers(l.set, l.own))
		}
	}
	if cfg.Enterprise == 0 || !Requests(c.oro, VendorOptions) {
		return
	}
	at := w.open(VendorOptions) // RFC 9915 §21.17
	w.uint32(uint32(cfg.Enterprise))
	empty := len(w.b)
	for _, l := range lists {
		w.addresses(l.vendor, c.servers(l.set, l.own))
	}
	if len(w.b) == empty {
		w.b = w.b[:at-4]
		return
	}
	w.close(at)
}

// servers are those set by the operator, else our own as this client reaches them.
func (c *asker) servers(set, own []netip.Addr) []netip.Addr {
	if len(set) > 0 {
		return set
	}
	var all []netip.Addr
	for _, a := range own {
		if a.IsUnspecified() {
			a = c.here()
		}
		if a.IsValid() {
			all = append(all, a)
		}
	}
	return all
}

// here is this server's address where the client is: one of the link's prefix, else any that is routed.
func (c *asker) here() netip.Addr {
	var routed netip.Addr
	for _, own := range c.Arrival.Link.Addrs {
		switch {
		case c.on.prefix.Contains(own.Addr()):
			return own.Addr()
		case !own.Addr().IsLinkLocalUnicast() && !routed.IsValid():
			routed = own.Addr()
		}
	}
	return routed
}
