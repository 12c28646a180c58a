package route

import (
	"context"
	"strings"

	"bothy/application/message"
	"bothy/application/smtp"
)

// Border is who may send what to whom on port 25: everybody to us and to our customers, nobody through us, but for the networks
// of Config.RelayFrom (RFC 5321 §3.6.2, §7.9). It is an smtp.Policy.
type Border struct{ router *Router }

// Border returns the border's policy; it goes by the router's newest Config.
func (r *Router) Border() Border { return Border{r} }

// Mail takes every reverse-path, the null one too (RFC 5321 §4.5.5).
func (b Border) Mail(context.Context, *smtp.Session, *message.Envelope) error { return nil }

// Rcpt takes a recipient that has a mailbox here or had one that went elsewhere, one of a domain held for a customer, and anything from a relay network.
func (b Border) Rcpt(_ context.Context, s *smtp.Session, _ *message.Envelope, to *message.Recipient) error {
	r := b.router
	if moved := r.routes.Load().moved(&to.Address); moved.Code != 0 {
		return moved
	}
	a, domain := to.Address, ascii(to.Address)
	ours := domain == "" || r.local(domain)
	// RFC 5321 §4.5.1: postmaster of every domain we serve, in whatever case, without a domain too.
	if ours && strings.EqualFold(a.Local, "postmaster") {
		return nil
	}
	if ours {
		if len(r.directory.Resolve(message.Address{Local: a.Local, Domain: domain})) == 0 {
			return smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "<" + a.String() + "> has no mailbox here; is the name spelt right?"}
		}
		return nil
	}
	if r.routes.Load().relays(s) {
		return nil
	}
	if _, held := r.directory.Held(domain); !held {
		// RFC 5321 §3.6.2: a 550 response for policy reasons.
		return smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "Relaying denied: this server takes no mail for " + domain + "; to send mail out, log in on the submission port"}
	}
	// The customer's server may read a route out of the local part, and it trusts us: it would relay what it refuses from others.
	if strings.ContainsAny(a.Local, "%!@") {
		return smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "Relaying denied: <" + a.String() + "> has a route in its local part"}
	}
	return nil
}

// relays reports whether the peer of s is in a relay network.
func (r *routes) relays(s *smtp.Session) bool {
	peer := s.Conn.Peer().Addr().WithZone("") // of no network where the connection is not IP
	for _, p := range r.relayFrom {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}
