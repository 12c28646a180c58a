package dhcp6

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"bothy/control/lease"
)

// ClientOptions say who a client is and what it wants.
type ClientOptions struct {
	DUID        []byte
	IAID        uint32 // of its addresses, and of its prefixes
	Address     bool   // it wants an address
	Prefix      bool   // it wants a prefix
	PrefixHint  int    // of this length if possible; 0: any
	RapidCommit bool
	Reconfigure bool // it takes Reconfigure messages
	Mail        MailConfig
	Rand        *rand.Rand // nil: seeded by the runtime
}

// stateless reports whether it wants no lease (RFC 9915 §6.1).
func (o *ClientOptions) stateless() bool { return !o.Address && !o.Prefix }

// Binding is what a client has learnt. The zero Binding is nothing.
type Binding struct {
	Server    lease.ID     `json:"server,omitzero"`
	Addresses []Held       `json:"addresses,omitempty"`
	Prefixes  []Held       `json:"prefixes,omitempty"`
	Renew     time.Time    `json:"renew,omitzero"`   // T1
	Rebind    time.Time    `json:"rebind,omitzero"`  // T2
	Refresh   time.Time    `json:"refresh,omitzero"` // without leases: when to ask again
	DNS       []netip.Addr `json:"dns,omitempty"`
	Search    []string     `json:"search,omitempty"`
	IMAP      []netip.Addr `json:"imap,omitempty"`
	POP3      []netip.Addr `json:"pop3,omitempty"`
	SMTP      []netip.Addr `json:"smtp,omitempty"`
	Key       []byte       `json:"-"` // by which its server's Reconfigure messages are known,
	Replay    uint64       `json:"-"` // and the number of the last
	Received  time.Time    `json:"received,omitzero"`
}

// Held is an address or a prefix and how long it may be used.
type Held struct {
	Prefix    netip.Prefix `json:"prefix"`
	Preferred time.Time    `json:"preferred"`
	Valid     time.Time    `json:"valid"`
}

// leases reports whether there is any.
func (b *Binding) leases() bool { return len(b.Addresses)+len(b.Prefixes) > 0 }

// Client is the client's machine for one interface: RFC 9915 §15, §16 and §18.2. It does no I/O and takes the time as an argument: Next
// says when it wants to be called again, Tick and Receive return what is to be sent. One goroutine at a time may use it.
type Client struct {
	o       ClientOptions
	binding Binding
	ex      exchange
	offers  []advertised
	solMax  time.Duration // SOL_MAX_RT and INF_MAX_RT: servers may set them
	infMax  time.Duration
	sent    []time.Time // of the last messages: the rate is bounded
	buf     []byte
}

// exchange is one message and its retransmissions (RFC 9915 §15).
type exchange struct {
	kind     MessageType // 0: none
	xid      uint32
	began    time.Time // first sent; zero while the first delay lasts
	due      time.Time // when it is sent next
	rt       time.Duration
	count    int
	timing   timing
	deadline time.Time // zero: none
	server   lease.ID  // whom it names
	given    []Held    // what a Release or Decline is about
	prefixes []Held
	confirm  bool // a Rebind in place of Confirm, because of prefixes (§18.2.12)
}

// timing are the parameters of one kind of message: RFC 9915 §7.6.
type timing struct {
	delay, irt, mrt time.Duration // 0: none
	mrc             int           // 0: without end
	mrd             time.Duration // 0: without end
}

const (
	solMaxRT   = time.Hour // RFC 9915 §7.6
	infMaxRT   = time.Hour
	minMaxRT   = 60 * time.Second // §21.24, §21.25: what a server may set
	maxMaxRT   = 24 * time.Hour
	irtDefault = 24 * time.Hour
	irtMinimum = 10 * time.Minute

	rateMessages = 20 // §14.1: in rateWindow
	rateWindow   = 20 * time.Second
	maxOffers    = 16 // that are remembered
	maxHeld      = 16 // addresses, or prefixes
)

func (c *Client) timingOf(kind MessageType) timing {
	switch kind {
	case Solicit:
		return timing{delay: time.Second, irt: time.Second, mrt: c.solMax}
	case Request:
		return timing{irt: time.Second, mrt: 30 * time.Second, mrc: 10}
	case Confirm:
		return timing{delay: time.Second, irt: time.Second, mrt: 4 * time.Second, mrd: 10 * time.Second}
	case Renew, Rebind:
		return timing{irt: 10 * time.Second, mrt: 600 * time.Second} // MRD by the binding: deadline
	case Release, Decline:
		return timing{irt: time.Second, mrc: 4}
	}
	return timing{delay: time.Second, irt: time.Second, mrt: c.infMax} // Information-request
}

// advertised is a server that answered a Solicit.
type advertised struct {
	server     lease.ID
	preference byte
	leases     int // that it has for us
}

// NewClient returns a client that has nothing yet, or what it had before: of that, leases that ended are dropped.
func NewClient(o ClientOptions, before Binding, now time.Time) *Client {
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	c := &Client{o: o, solMax: solMaxRT, infMax: infMaxRT}
	if !now.Before(before.Received) { // else the clock was set back, and how old the leases are is not known
		c.binding = before.from(now)
	}
	c.dropEnded(now)
	c.LinkUp(now)
	return c
}

// from is b with its times on the running clock of now, so that a time of day that is set afterwards moves none of them.
func (b Binding) from(now time.Time) Binding {
	move := func(t *time.Time) {
		if !t.IsZero() {
			*t = now.Add(t.Sub(now))
		}
	}
	b.Addresses, b.Prefixes = slices.Clone(b.Addresses), slices.Clone(b.Prefixes)
	for _, held := range [][]Held{b.Addresses, b.Prefixes} {
		for i := range held {
			move(&held[i].Preferred)
			move(&held[i].Valid)
		}
	}
	move(&b.Renew)
	move(&b.Rebind)
	move(&b.Refresh)
	return b
}

// Binding is what the client has now.
func (c *Client) Binding() Binding { return c.binding }

// State is what the client is doing, for people.
func (c *Client) State() string {
	switch {
	case c.ex.kind != 0:
		return c.ex.kind.String()
	case c.binding.leases():
		return "bound"
	case c.binding.Server != "":
		return "informed"
	}
	return "idle"
}

// Confirming reports whether the client is asking if what it has fits the link that it is on (RFC 9915 §18.2.12).
func (c *Client) Confirming() bool { return c.ex.kind == Confirm || c.ex.confirm }

// LinkUp is the start, and whenever the client may be on another link (RFC 9915 §18.2.12).
func (c *Client) LinkUp(now time.Time) {
	switch {
	case c.o.stateless():
		c.start(now, InformationRequest, "")
	case len(c.binding.Prefixes) > 0:
		c.start(now, Rebind, "")
		c.ex.timing, c.ex.confirm = c.timingOf(Confirm), true
	case len(c.binding.Addresses) > 0:
		c.start(now, Confirm, "")
	default:
		c.solicit(now)
	}
}

// Release gives everything back (RFC 9915 §18.2.7): what is returned by Binding is empty at once, and must not be used any more.
func (c *Client) Release(now time.Time) {
	given, prefixes, server := c.binding.Addresses, c.binding.Prefixes, c.binding.Server
	c.binding = Binding{}
	c.ex = exchange{}
	if len(given)+len(prefixes) > 0 {
		c.start(now, Release, server)
		c.ex.given, c.ex.prefixes = given, prefixes
	}
}

// Decline says that an address is in use by somebody else (RFC 9915 §18.2.8), and asks for another.
func (c *Client) Decline(now time.Time, a netip.Addr) {
	i := slices.IndexFunc(c.binding.Addresses, func(h Held) bool { return h.Prefix.Addr() == a })
	if i < 0 {
		return
	}
	given := []Held{c.binding.Addresses[i]}
	if c.ex.kind == Decline { // the one before it too
		given = append(given, c.ex.given...)
	}
	c.binding.Addresses = slices.Delete(slices.Clone(c.binding.Addresses), i, i+1)
	c.start(now, Decline, c.binding.Server)
	c.ex.given = given
}

func (c *Client) solicit(now time.Time) {
	c.binding, c.offers = Binding{}, c.offers[:0] // §18.2.13
	c.start(now, Solicit, "")
}

// start begins an exchange.
func (c *Client) start(now time.Time, kind MessageType, server lease.ID) {
	t := c.timingOf(kind)
	c.ex = exchange{kind: kind, xid: c.o.Rand.Uint32() & 0xffffff, due: now, timing: t, server: server}
	if t.delay > 0 {
		c.ex.due = now.Add(time.Duration(c.o.Rand.Int64N(int64(t.delay))))
	}
}

// Next is when Tick wants to be called. The zero Time is never: only a message or the link changes anything.
func (c *Client) Next() time.Time {
	next := c.firstEnd()
	add := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if c.ex.kind != 0 {
		add(c.ex.due)
		add(c.ex.deadline)
	} else {
		add(c.binding.Renew)
		add(c.binding.Rebind)
		add(c.binding.Refresh)
	}
	return next
}

// firstEnd is when the first lease ends.
func (c *Client) firstEnd() (first time.Time) {
	for _, h := range slices.Concat(c.binding.Addresses, c.binding.Prefixes) {
		if first.IsZero() || h.Valid.Before(first) {
			first = h.Valid
		}
	}
	return first
}

// Tick does what is due at now, and returns a message to send to ff02::1:2, if any; it is valid until the next call.
func (c *Client) Tick(now time.Time) []byte {
	if c.dropEnded(now) && !c.binding.leases() && c.ex.kind != Release && c.ex.kind != Decline {
		c.solicit(now) // §18.2.5: all leases ended
	}
	if c.ex.kind == 0 {
		c.wake(now)
	}
	if c.ex.kind == 0 || now.Before(c.ex.due) && (c.ex.deadline.IsZero() || now.Before(c.ex.deadline)) {
		return nil
	}
	if c.failed(now) {
		c.fail(now)
		if c.ex.kind == 0 || now.Before(c.ex.due) {
			return nil
		}
	}
	if c.ex.kind == Solicit && c.ex.count > 0 && len(c.offers) > 0 { // the first RT is over: §18.2.1
		c.choose(now)
	}
	if wait := c.tooFast(now); wait > 0 {
		c.ex.due = now.Add(wait)
		return nil
	}
	return c.transmit(now)
}

// wake begins what the timers of the binding call for.
func (c *Client) wake(now time.Time) {
	b := &c.binding
	switch {
	case due(b.Rebind, now):
		c.start(now, Rebind, "")
	case due(b.Renew, now):
		c.start(now, Renew, b.Server)
		c.ex.deadline = b.Rebind // MRD: until T2
	case due(b.Refresh, now):
		c.start(now, InformationRequest, "")
	}
}

func due(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// failed reports whether an exchange has come to its end without an answer (§15).
func (c *Client) failed(now time.Time) bool {
	return c.ex.timing.mrc > 0 && c.ex.count >= c.ex.timing.mrc || due(c.ex.deadline, now)
}

// fail goes on after that.
func (c *Client) fail(now time.Time) {
	kind, confirm := c.ex.kind, c.ex.confirm
	c.ex = exchange{}
	switch {
	case kind == Confirm || confirm: // §18.2.3: goes on with what it has
	case kind == Renew:
		c.start(now, Rebind, "")
	case kind == Request:
		if len(c.offers) > 0 { // §18.2.9: the next server
			c.choose(now)
			return
		}
		c.solicit(now)
	case kind == Decline:
		c.afterDecline(now)
	}
}

// choose asks the best of the servers that answered.
func (c *Client) choose(now time.Time) {
	slices.SortStableFunc(c.offers, func(a, b advertised) int { // §18.2.9
		return cmp.Or(cmp.Compare(b.preference, a.preference), cmp.Compare(b.leases, a.leases))
	})
	server := c.offers[0].server
	c.offers = slices.Delete(c.offers, 0, 1)
	c.start(now, Request, server)
}

// afterDecline renews what is left, or looks for another address.
func (c *Client) afterDecline(now time.Time) {
	if c.binding.leases() {
		c.start(now, Renew, c.binding.Server)
		c.ex.deadline = c.binding.Rebind
		return
	}
	c.solicit(now)
}

// dropEnded forgets leases that ended, and reports whether there were any.
func (c *Client) dropEnded(now time.Time) bool {
	ended := func(h Held) bool { return !now.Before(h.Valid) }
	before := len(c.binding.Addresses) + len(c.binding.Prefixes)
	c.binding.Addresses = slices.DeleteFunc(slices.Clone(c.binding.Addresses), ended)
	c.binding.Prefixes = slices.DeleteFunc(slices.Clone(c.binding.Prefixes), ended)
	return len(c.binding.Addresses)+len(c.binding.Prefixes) < before
}

// tooFast returns how long the client must be silent (§14.1).
func (c *Client) tooFast(now time.Time) time.Duration {
	c.sent = slices.DeleteFunc(c.sent, func(t time.Time) bool { return now.Sub(t) >= rateWindow })
	if len(c.sent) < rateMessages {
		return 0
	}
	return rateWindow - now.Sub(c.sent[0])
}

// transmit writes the message of the exchange and sets its next RT (§15).
func (c *Client) transmit(now time.Time) []byte {
	ex := &c.ex
	if ex.began.IsZero() {
		ex.began = now
		if ex.timing.mrd > 0 { // §15: since it was first sent
			ex.deadline = now.Add(ex.timing.mrd)
		}
	}
	ex.count++
	c.sent = append(c.sent, now)
	if ex.rt == 0 {
		ex.rt = ex.timing.irt + c.spread(ex.timing.irt)
		if ex.kind == Solicit { // §18.2.1: strictly greater than IRT
			ex.rt = ex.timing.irt + max(c.spread(ex.timing.irt).Abs(), time.Millisecond)
		}
	} else {
		ex.rt = 2*ex.rt + c.spread(ex.rt)
	}
	if mrt := ex.timing.mrt; mrt > 0 && ex.rt > mrt {
		ex.rt = mrt + c.spread(mrt)
	}
	ex.due = now.Add(ex.rt)
	return c.compose(now)
}

// spread is RAND times d: RAND is between -0.1 and +0.1.
func (c *Client) spread(d time.Duration) time.Duration {
	return time.Duration((c.o.Rand.Float64()*0.2 - 0.1) * float64(d))
}

// compose writes the message of the exchange.
func (c *Client) compose(now time.Time) []byte {
	ex := &c.ex
	w := &writer{c.buf[:0]}
	w.start(ex.kind, ex.xid)
	w.put(ClientID, c.o.DUID)
	if ex.server != "" {
		w.put(ServerID, []byte(ex.server))
	}
	at := w.open(ElapsedTime) // §21.9: hundredths of a second
	w.uint16(uint16(min(now.Sub(ex.began)/(10*time.Millisecond), 1<<16-1)))
	w.close(at)
	addresses, prefixes := c.binding.Addresses, c.binding.Prefixes
	switch ex.kind {
	case Release, Decline:
		addresses, prefixes = ex.given, ex.prefixes
	case Solicit, Request:
		addresses, prefixes = nil, nil
	}
	if ex.kind != InformationRequest {
		c.putIAs(w, now, addresses, prefixes)
	}
	if ex.kind != Release && ex.kind != Decline && ex.kind != Confirm {
		c.putRequests(w)
	}
	if ex.kind == Solicit && c.o.RapidCommit {
		w.empty(RapidCommit)
	}
	if c.o.Reconfigure && (ex.kind == Solicit || ex.kind == Request || ex.kind == Renew || ex.kind == Rebind || ex.kind == InformationRequest) {
		w.empty(ReconfigureAccept)
	}
	c.buf = w.b
	return w.b
}

// putIAs writes the IAs of a message; those that it does not have yet are empty.
func (c *Client) putIAs(w *writer, now time.Time, addresses, prefixes []Held) {
	put := func(code Code, all []Held, hint int) {
		at := w.openIA(IA{Code: code, IAID: c.o.IAID}) // §21.4: a client sets T1 and T2 to 0
		for _, h := range all {
			r := Resource{Prefix: h.Prefix}
			if c.ex.kind == Renew || c.ex.kind == Rebind {
				r.Preferred, r.Valid = max(h.Preferred.Sub(now), 0), max(h.Valid.Sub(now), 0)
			}
			w.resource(code, r)
		}
		if len(all) == 0 && hint > 0 {
			w.resource(code, Resource{Prefix: netip.PrefixFrom(netip.IPv6Unspecified(), hint)}) // §18.2.1
		}
		w.close(at)
	}
	only := c.ex.kind == Release || c.ex.kind == Decline || c.ex.kind == Confirm // of what it has, not of what it wants
	if len(addresses) > 0 || c.o.Address && !only {
		put(IANonTemporary, addresses, 0)
	}
	if c.ex.kind != Confirm && (len(prefixes) > 0 || c.o.Prefix && !only) {
		put(IAPrefixDelegation, prefixes, c.o.PrefixHint)
	}
}

// putRequests names what the client wants to know (§21.7).
func (c *Client) putRequests(w *writer) {
	at := w.open(OptionRequest)
	w.uint16(uint16(DNSServers))
	w.uint16(uint16(DomainList))
	if c.ex.kind == InformationRequest {
		w.uint16(uint16(InformationRefresh)) // §18.2.6: must
		w.uint16(uint16(InfMaxRT))
	} else {
		w.uint16(uint16(SolMaxRT)) // §18.2.1: must
	}
	for _, code := range []int{c.o.Mail.IMAPCode, c.o.Mail.POP3Code, c.o.Mail.SMTPCode} {
		if code != 0 {
			w.uint16(uint16(code))
		}
	}
	if c.o.Mail.Enterprise != 0 {
		w.uint16(uint16(VendorOptions))
	}
	w.close(at)
}

// genuine reports whether a Reconfigure message was made by who gave us the key (RFC 9915 §20.4), and is newer than the last.
func (c *Client) genuine(b []byte, m *Message) bool {
	auth, ok := m.Find(Authentication)
	if !ok || len(auth) != rkapSize || len(c.binding.Key) != md5.Size {
		return false
	}
	replay := binary.BigEndian.Uint64(auth[3:])
	if [3]byte(auth) != [3]byte{rkapProtocol, rkapAlgorithm, rkapMethod} || auth[rkapHead-1] != rkapDigest || replay <= c.binding.Replay {
		return false
	}
	if i := slices.IndexFunc(m.Options, func(o Option) bool { return o.Code == Authentication }); slices.ContainsFunc(m.Options[i+1:], func(o Option) bool { return o.Code == Authentication }) {
		return false // §20.2
	}
	whole := bytes.Clone(b)
	at := bytes.Index(whole, auth) + rkapHead
	digest := bytes.Clone(whole[at : at+md5.Size])
	clear(whole[at : at+md5.Size])
	mac := hmac.New(md5.New, c.binding.Key)
	mac.Write(whole)
	if !hmac.Equal(digest, mac.Sum(nil)) {
		return false
	}
	c.binding.Replay = replay
	return true
}
