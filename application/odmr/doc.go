// Package odmr lets a site fetch its mail over a connection that the site itself opened: On-Demand Mail Relay.
//
//	RFC 2645  On-Demand Mail Relay  all, both sides
//	RFC 5321, 4954, 3207            by package smtp, on the same connection
//	RFC 1047                        what is in doubt is sent again
//
// Left out: TURN without authentication (RFC 5321 §F.1 warns of it), ETRN (RFC 1985).
//
// Plane: application.
//
// # One message
//
// The provider has accepted it (package queue) and it waits in the lane of its held domain. The customer dials (dial.go), logs in and
// sends ATRN; serve.go reads it, machine.go decides it. The connection turns. The provider leases the message with its recipients in
// the domains asked for (line.go) and sends it with a smtp.Client (serve_reversed.go); the customer takes it with a smtp.Server
// whose policy knows its own domains only (dial_reversed.go), and its reply to each recipient settles that recipient at the
// provider. run.go decides when the customer calls.
//
// # States
//
//	       +---------------+  STARTTLS
//	       | initial       |<---------.        provider: smtp.Server, Protocol Held
//	       | EHLO AUTH QUIT|----------'        customer: smtp.Client
//	       +---------------+
//	QUIT |         | AUTH 235
//	     |         v
//	     |  +---------------+  450 451 453 501: nothing changes
//	     |  | authenticated |<---------.
//	     |  | ATRN QUIT     |----------'
//	     |  +---------------+
//	     |    | QUIT    | ATRN 250, and not an octet behind ATRN
//	     |    |         v
//	     |    |  +---------------+             provider: smtp.Client
//	     |    |  | reversed      |             customer: smtp.Server, Protocol Relay, greets
//	     |    |  +---------------+
//	     v    v         | QUIT from the provider
//	    terminated <----'
//
// # What must hold, wherever the connection breaks
//
//	a recipient is settled by its own reply, or it stays where it was
//	a recipient outside the domains of this ATRN is not leased, so it can neither be sent nor lost
//	a message comes twice only if the connection broke after its end of data and before its reply was read (RFC 1047)
//	the customer has a message on disk before it says 250 (RFC 5321 §6.1)
//
// # What RFC 2645 leaves open
//
//	Its §5.1.1 wants AUTH in every EHLO reply. Before TLS it lists mechanisms that do not show the password. A provider may
//	insist on TLS (require_tls), which deviates.
//
//	ATRN may name some of an account's domains, so the lane is the domain's and not the account's. A message to several of them
//	is sent once all the same.
//
//	One domain that is not the account's refuses the whole command with 450 (§5.2.1): there is no partial service.
//
//	Its §5.2.1 has no word on spaces, trailing dots or case: the grammar is kept to the letter, names are compared without
//	regard to case, and an internationalized name is its A-label.
//
//	Octets behind ATRN were written before the roles were known, so nobody can tell what they mean: 503, and the connection
//	is closed. RFC 3207 §4.2 gives the same reason for STARTTLS.
//
//	One session an account. Another gets 450 while the first is alive; a dead one is gone when its command timeout is.
//
//	The reply to ATRN is one line, because fetchmail takes one for the reply and the rest for the customer's mail server.
//	fetchmail with `ssl` also stands still when a TLS record holds two lines. So after a CRAM-MD5 login on a port that begins with
//	TLS, which is how fetchmail and hardly anybody else comes, each line is a record of its own.
//
//	A recipient that the customer refused with 4yz is tried again at its next call, not in the same session.
//
//	A message whose transfer broke off goes behind those that were not tried yet, the smallest first: one that is too large for
//	the minutes a bad link lasts must not keep all others back.
//
//	While the account's mail is being sent, ATRN costs the directory one read and one write. 450 for calls closer together than the
//	account's interval says in how many seconds to come back.
//
//	Before TLS and before login the provider says nothing that depends on an account, so 450 and 453 tell strangers nothing.
package odmr
