package directory

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"bothy/application/message"
	"bothy/application/sasl"
)

// snapshot is all there is, at one moment. It is never changed once it can be seen. All keys are canonical.
type snapshot struct {
	accounts     map[string]*account
	order        []string // account names, the oldest first
	addresses    map[message.Address]string
	aliases      map[message.Address][]message.Address
	host         string            // this server's own name; "": none
	added        map[string]bool   // domains made local by name
	local        map[string]bool   // those, and the domains of addresses and aliases
	chief        string            // local domain
	held         map[string]string // domain to customer
	customers    map[string]*Customer
	certificates map[string]string // fingerprint to account
	invitations  map[string]invitation
	callers      func() []string // accounts of customers, sorted when first asked for
	seq          int64           // of the last change that is in it
	contact      int64           // likewise of the customers' contacts
}

// account is an Account with what stays inside.
type account struct {
	Account
	id       int64 // rises with each new one
	rights   Rights
	verifier sasl.Verifier // without CRAMSecret
	apps     []AppPassword // in the order of verifier.Apps
	sealed   []byte        // CRAMSecret; nil without CRAM
}

func (a *account) clone() Account {
	c := a.Account
	c.Addresses = append([]message.Address{}, a.Addresses...)
	return c
}

func newSnapshot() *snapshot {
	s := &snapshot{
		accounts:     map[string]*account{},
		addresses:    map[message.Address]string{},
		aliases:      map[message.Address][]message.Address{},
		added:        map[string]bool{},
		local:        map[string]bool{},
		held:         map[string]string{},
		customers:    map[string]*Customer{},
		certificates: map[string]string{},
		invitations:  map[string]invitation{},
	}
	s.callers = s.sortCallers()
	return s
}

func (s *snapshot) sortCallers() func() []string {
	return sync.OnceValue(func() []string { return slices.Sorted(maps.Keys(s.customers)) })
}

// clone is a snapshot in which accounts may be forgotten and added. What belongs to no account it shares.
func (s *snapshot) clone() *snapshot {
	c := *s
	c.accounts, c.addresses, c.held, c.customers = maps.Clone(s.accounts), maps.Clone(s.addresses), maps.Clone(s.held), maps.Clone(s.customers)
	c.certificates, c.invitations, c.order = maps.Clone(s.certificates), maps.Clone(s.invitations), slices.Clone(s.order)
	c.local = maps.Clone(s.local)
	c.callers = c.sortCallers()
	return &c
}

// forget takes an account out, with all that is its own; it may be added again.
func (s *snapshot) forget(name string) {
	a, ok := s.accounts[name]
	if !ok {
		return
	}
	delete(s.accounts, name)
	s.order = slices.DeleteFunc(s.order, func(other string) bool { return other == name })
	for _, address := range a.Addresses {
		delete(s.addresses, address)
	}
	if c := s.customers[name]; c != nil {
		for _, domain := range c.Domains {
			delete(s.held, domain)
		}
		delete(s.customers, name)
	}
	maps.DeleteFunc(s.certificates, func(_, account string) bool { return account == name })
	maps.DeleteFunc(s.invitations, func(_ string, i invitation) bool { return i.Account == name })
}

// refinish sets what follows from all accounts, where some of them were forgotten and added since before.
func (s *snapshot) refinish(before *snapshot) {
	if !maps.Equal(before.addresses, s.addresses) {
		s.local = maps.Clone(s.added)
		for a := range s.addresses {
			s.local[a.Domain] = true
		}
		for a := range s.aliases {
			s.local[a.Domain] = true
		}
	}
	if len(s.added) == 0 { // even with the same addresses: who is the oldest may have changed
		s.chief = ""
	}
	s.finish()
}

// The parts of a snapshot, in the order in which they are to be added: accounts, addresses, the rest.

func (s *snapshot) addAccount(a *account) {
	at := len(s.order)
	if at > 0 && s.accounts[s.order[at-1]].id > a.id { // it was forgotten, and is added again
		at, _ = slices.BinarySearchFunc(s.order, a.id, func(name string, id int64) int { return cmp.Compare(s.accounts[name].id, id) })
	}
	s.order = slices.Insert(s.order, at, a.Name)
	s.accounts[a.Name] = a
}

func (s *snapshot) addAddress(a message.Address, name string) {
	owner, ok := s.accounts[name]
	if !ok { // only a hand that bypassed the foreign key wrote this
		return
	}
	s.addresses[a] = name
	owner.Addresses = append(owner.Addresses, a)
	s.local[a.Domain] = true
}

func (s *snapshot) addAlias(a Alias) {
	s.aliases[a.Alias] = append(s.aliases[a.Alias], a.Target)
	s.local[a.Alias.Domain] = true
}

func (s *snapshot) addDomain(domain string) {
	if len(s.added) == 0 {
		s.chief = domain
	}
	s.added[domain] = true
	s.local[domain] = true
}

func (s *snapshot) addHeld(domain, name string) {
	c, ok := s.customers[name]
	if !ok {
		return
	}
	c.Domains = append(c.Domains, domain)
	s.held[domain] = name
}

// finish finds the chief domain where none was added by name: that of the oldest account with an address.
func (s *snapshot) finish() {
	for _, name := range s.order {
		if s.chief != "" {
			return
		}
		if len(s.accounts[name].Addresses) > 0 {
			s.chief = s.accounts[name].Addresses[0].Domain
		}
	}
}

func (s *snapshot) account(name string) (*account, error) {
	if a, ok := s.accounts[name]; ok {
		return a, nil
	}
	return nil, refuse(ErrNotFound, "there is no account %q", name)
}

func (s *snapshot) customer(name string) (Customer, error) {
	found, ok := s.customers[name]
	if !ok {
		return Customer{}, refuse(ErrNotFound, "there is no customer %q", name)
	}
	c := *found
	c.Domains = slices.Clone(c.Domains)
	c.Disabled = s.accounts[name].Disabled
	return c, nil
}

// login finds the account that somebody means: by its name, or by one of its addresses.
func (s *snapshot) login(username string) (*account, bool) {
	if a, ok := s.accounts[username]; ok {
		return a, true
	}
	local, domain, ok := cutDomain(username)
	if !ok {
		return nil, false
	}
	a, ok := s.accounts[s.addresses[message.Address{Local: local, Domain: domain}]]
	return a, ok
}

// maxAliasDepth bounds the aliases followed one behind the other.
const maxAliasDepth = 20

// resolution follows one address to its accounts.
type resolution struct {
	*snapshot
	seen     map[message.Address]bool
	accounts []string
}

func (s *snapshot) resolve(a message.Address) []string {
	if name, ok := s.addresses[a]; ok { // nearly always
		return []string{name}
	}
	r := resolution{snapshot: s, seen: map[message.Address]bool{}}
	r.follow(a, 0)
	return r.accounts
}

func (r *resolution) follow(a message.Address, depth int) {
	if r.seen[a] || depth > maxAliasDepth {
		return
	}
	r.seen[a] = true
	if name, ok := r.addresses[a]; ok {
		r.deliver(name)
		return
	}
	if targets, ok := r.aliases[a]; ok {
		for _, target := range targets {
			r.follow(target, depth+1)
		}
		return
	}
	if a.Domain == r.host && a.Domain != r.chief && r.isLocal(a.Domain) && r.isName(message.Address{Local: a.Local, Domain: r.chief}) {
		a.Domain = r.chief // the server's people are those of its chief domain
		r.follow(a, depth+1)
		return
	}
	if user, _, ok := strings.Cut(a.Local, "+"); ok && user != "" { // RFC 5233 §1
		r.follow(message.Address{Local: user, Domain: a.Domain}, depth+1)
		return
	}
	if a.Local == "postmaster" {
		r.postmaster(a.Domain, depth)
	}
}

// isName reports whether somebody was given the address, as his own or as an alias.
func (s *snapshot) isName(a message.Address) bool {
	_, ok := s.addresses[a]
	return ok || len(s.aliases[a]) > 0
}

// names are the local parts that isName knows in a domain; at this server's own name those of the chief domain too.
func (s *snapshot) names(domain string) (locals []string) {
	add := func(a message.Address) {
		if a.Domain == domain || domain == s.host && a.Domain == s.chief {
			locals = append(locals, a.Local)
		}
	}
	for a := range s.addresses {
		add(a)
	}
	for a := range s.aliases {
		add(a)
	}
	slices.Sort(locals)
	return slices.Compact(locals)
}

// isLocal reports whether domain has mailboxes here, or is this server's own name (RFC 5321 §4.5.1).
func (s *snapshot) isLocal(domain string) bool {
	if domain != "" && domain == s.host {
		_, held := s.held[domain]
		return !held
	}
	return s.local[domain]
}

// last finds the postmaster for a name of this server that nobody has.
func (s *snapshot) last(a message.Address) (accounts []string, ok bool) {
	switch {
	case a.Domain == "", a.Domain == s.host && s.isLocal(a.Domain), a.Local == "postmaster" && s.isLocal(a.Domain):
	default:
		return nil, false
	}
	a.Local = "postmaster"
	return s.resolve(a), true
}

func (r *resolution) deliver(name string) {
	if !slices.Contains(r.accounts, name) {
		r.accounts = append(r.accounts, name)
	}
}

// postmaster finds one for a domain where nobody has that name. RFC 5321 §4.5.1: each domain with mail has one, and so has the host itself.
func (r *resolution) postmaster(domain string, depth int) {
	if domain == "" || domain == r.host && domain != r.chief && r.isLocal(domain) { // RFC 5321 §4.1.1.3: <Postmaster>
		domain = r.chief
		r.follow(message.Address{Local: "postmaster", Domain: domain}, depth+1)
		return
	}
	if !r.isLocal(domain) {
		return
	}
	if domain != r.chief {
		named := message.Address{Local: "postmaster", Domain: r.chief}
		if r.isName(named) {
			r.follow(named, depth+1)
			return
		}
	}
	if name := r.firstAccount(domain); name != "" {
		r.deliver(name)
	}
}

// firstAccount is the oldest account with an address in domain, or else with any; one that is not disabled, if there is.
func (s *snapshot) firstAccount(domain string) string {
	var best string
	var merit int
	for _, name := range s.order {
		a := s.accounts[name]
		if len(a.Addresses) == 0 {
			continue
		}
		m := 1
		if slices.ContainsFunc(a.Addresses, func(a message.Address) bool { return a.Domain == domain }) {
			m += 1
		}
		if !a.Disabled {
			m += 2
		}
		if m > merit {
			best, merit = name, m
		}
	}
	return best
}

func (s *snapshot) maySend(name string, from message.Address) bool {
	a, ok := s.accounts[name]
	switch {
	case !ok || a.Disabled:
		return false
	case from == message.Address{}: // RFC 5321 §4.5.5
		return true
	case s.heldBy(from.Domain) == name, s.anyMatches(a.rights.SendAs, from):
		return true
	}
	return slices.Contains(s.resolve(from), name)
}

// heldBy finds the customer whose domain a domain is, or is below: its site's servers send notices in their own names.
func (s *snapshot) heldBy(domain string) (account string) {
	for below := domain; !s.isLocal(below); {
		if account, ok := s.held[below]; ok {
			return account
		}
		_, above, ok := strings.Cut(below, ".")
		if !ok {
			break
		}
		below = above
	}
	return ""
}

func (s *snapshot) listAliases() []Alias {
	all := []Alias{}
	for alias, targets := range s.aliases {
		for _, target := range targets {
			all = append(all, Alias{alias, target})
		}
	}
	slices.SortFunc(all, func(a, b Alias) int {
		return cmp.Or(byAddress(a.Alias, b.Alias), byAddress(a.Target, b.Target))
	})
	return all
}

func byAddress(a, b message.Address) int {
	return cmp.Or(strings.Compare(a.Domain, b.Domain), strings.Compare(a.Local, b.Local))
}

func (s *snapshot) listDomains() []string {
	return slices.SortedFunc(maps.Keys(s.local), func(a, b string) int {
		switch {
		case a == s.chief:
			return -1
		case b == s.chief:
			return 1
		}
		return strings.Compare(a, b)
	})
}

func (s *snapshot) listCertificates() []Certificate {
	all := []Certificate{}
	for fingerprint, name := range s.certificates {
		all = append(all, Certificate{fingerprint, name})
	}
	slices.SortFunc(all, func(a, b Certificate) int {
		return cmp.Or(strings.Compare(a.Account, b.Account), strings.Compare(a.Fingerprint, b.Fingerprint))
	})
	return all
}

// customersAfter is a page of the customers by account, and whether there are more.
func (s *snapshot) customersAfter(account string, limit int) (page []Customer, more bool) {
	names := s.callers()
	from, found := slices.BinarySearch(names, account)
	if found {
		from++
	}
	names = names[from:]
	more = len(names) > limit
	page = make([]Customer, 0, min(len(names), limit))
	for _, name := range names[:min(len(names), limit)] {
		c, _ := s.customer(name) // there is one
		page = append(page, c)
	}
	return page, more
}
