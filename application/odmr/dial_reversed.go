package odmr

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
)

// receive is the customer's part of the reversed state (RFC 2645 §5.3): it greets, and takes mail for its own domains and for
// nobody else. It offers neither STARTTLS nor AUTH: both belong to the connection's first half.
func (k *call) receive(ctx context.Context, conn *smtp.Conn) error {
	offer := k.customer.Offer
	offer.Deflate = k.cfg.Compress
	server := &smtp.Server{
		Hostname: k.customer.Hostname, Protocol: smtp.Relay,
		Offer:  offer,
		Policy: gate{k.report.Domains, k.customer.Recipients, k.customer.Handed, k.begun}, Accept: k, Via: ViaODMR,
		Extensions: k.wishes(), Limits: k.cfg.Limits, Log: k.customer.Log, Now: k.customer.Now, Arrived: k.arrived,
		Checkpoints: k.customer.Checkpoints, PeerName: "provider " + k.cfg.Provider + " " + k.cfg.Username,
	}
	return server.Serve(ctx, conn)
}

// ViaODMR is what the Received field of a message says that came over a turned connection (RFC 5321 §4.4, the VIA clause).
const ViaODMR = "ODMR"

// wishes are the keywords in which a site of ours tells its provider what it wants; another provider takes no notice.
func (k *call) wishes() (keywords []smtp.Extension) {
	if terms := (budget{k.cfg.Budget, k.cfg.Largest}); terms != (budget{}) || k.all {
		if k.all {
			terms = budget{}
		}
		keywords = append(keywords, smtp.Extension{Keyword: terms.keyword()})
	}
	if l := k.listing(); l != nil {
		keywords = append(keywords, smtp.Extension{Verb: keywordRecipients, Keyword: keywordRecipients + " " + l.tag(), Run: k.recipients})
	}
	return keywords
}

// listing is who is here, for the provider; nil if that cannot be told.
func (k *call) listing() listing {
	c := k.customer
	if c.Names == nil || c.Recipients == nil || len(k.report.Domains) == 0 {
		return nil
	}
	l := listing{}
	for _, d := range k.report.Domains {
		if !c.Recipients.Local(d) { // somebody means to have accounts there
			continue
		}
		l[d] = []uint64{}
		for _, local := range c.Names(d) {
			l[d] = append(l[d], hashRecipient(local, d))
		}
		slices.Sort(l[d])
	}
	if len(l) == 0 || l.size() > maxRecipient {
		return nil
	}
	return l
}

// recipients answers XRECIPIENTS.
func (k *call) recipients(_ context.Context, _ *smtp.Session, tag string) (reply smtp.Reply, turn bool) {
	l := k.listing()
	if l == nil {
		return smtp.Reply{Code: 450, Enhanced: [3]int{4, 3, 0}, Text: "nobody can say any more who is here"}, false
	}
	text := l.tag()
	if tag != text {
		text = l.text()
	}
	return smtp.Reply{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: text}, false
}

// arrived hears of the text of the message under way.
func (k *call) arrived(octets int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.partial = max(octets, 0); octets-k.told >= progressStep || octets < k.told {
		k.told = octets
		k.step(Receiving)
	}
}

// progressStep is how many octets of a message pass between two reports of progress.
const progressStep = 32 << 10

// Accept implements smtp.Acceptor: it counts what our queue takes.
func (k *call) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	m := &meter{r: body}
	err := k.customer.Accept.Accept(ctx, env, m)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.partial, k.told, k.open = 0, 0, false
	k.last.Store(time.Now().UnixNano()) // the provider waited for us
	if err != nil {
		return err
	}
	k.report.Messages++
	k.report.Octets += m.n
	k.step(Receiving)
	return nil
}

// meter counts a body on its way to the disk.
type meter struct {
	r io.Reader
	n int64
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.n += int64(n)
	return n, err
}

// gate is the policy of the reversed state: whoever the provider is, we relay for nobody (RFC 5321 §7.9).
type gate struct {
	domains    []string // what we asked for; none: all that are local here
	recipients Recipients
	handed     func(domain string) bool // to another server here, which knows its recipients; nil: none is
	begun      func()                   // hears of each message
}

var (
	replyRelay = smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "we take mail for our own domains only"}
	// The provider keeps it: somebody means to have accounts there, and nobody else takes that mail (RFC 5321 §6.1).
	replyEmpty   = smtp.Reply{Code: 450, Enhanced: [3]int{4, 1, 1}, Text: "no account in this domain yet"}
	replyUnknown = smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such recipient here"}
)

// Mail implements smtp.Policy: any sender may write to us.
func (g gate) Mail(context.Context, *smtp.Session, *message.Envelope) error {
	g.begun()
	return nil
}

// Rcpt implements smtp.Policy.
func (g gate) Rcpt(_ context.Context, _ *smtp.Session, _ *message.Envelope, to *message.Recipient) error {
	a, _ := to.Address.ASCII() // domains are compared as A-labels
	local := g.recipients != nil && g.recipients.Local(a.Domain)
	handed := g.handed != nil && !local && g.handed(a.Domain)
	switch {
	case a.Domain == "": // RFC 5321 §4.5.1: <Postmaster> is always served
		return nil
	case len(g.domains) > 0 && !slices.Contains(g.domains, a.Domain), len(g.domains) == 0 && !local && !handed:
		return replyRelay
	case handed:
		return nil
	case g.recipients != nil && !local: // taken, it would only go back to the provider
		return replyEmpty
	case local && !strings.EqualFold(a.Local, "postmaster") && len(g.recipients.Resolve(to.Address)) == 0: // RFC 5321 §4.5.1
		return replyUnknown
	}
	return nil
}
