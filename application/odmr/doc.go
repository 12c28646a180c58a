// Package odmr lets a site fetch its mail over a connection that the site itself opened: On-Demand Mail Relay.
//
//	RFC 2645  On-Demand Mail Relay  all, both sides
//	RFC 5321, 4954, 3207            by package smtp, on the same connection
//	RFC 1870  §4                    what is larger than the customer takes is not sent; §3: a provider that lists SIZE takes mail
//	RFC 2920  §3.1                  messages one behind the other, by package smtp
//	RFC 1047                        what is in doubt is sent again
//	RFC 7301  §3.2                  a name for what is spoken where TLS comes first
//	RFC 1985  ETRN                  §5: what it starts, for customers with an address of their own
//
// Left out: TURN without authentication (RFC 5321 §F.1 warns of it).
//
// Plane: application.
//
// # One message
//
// The provider has accepted it (package queue) and it waits in the lane of its held domain. The customer dials (dial.go, dial_call.go), logs
// in and sends ATRN; serve_atrn.go reads it, machine.go decides it, serve_sessions.go gives it the seats of its domains. The connection turns.
// The provider leases the message with its recipients in the domains asked for (line.go) and sends it with a smtp.Client
// (serve_reversed.go); the customer takes it with a smtp.Server whose policy knows its own domains only (dial_reversed.go), and its
// reply to each recipient settles that recipient at the provider. Mail the other way may go along before ATRN (dial_along.go; package relay sends it). run.go decides when the customer calls, dial_attend.go lets others see a
// call through.
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
//	     |  | authenticated |<---------------------------------.
//	     |  | ATRN QUIT     |----------------------------------+
//	     |  +---------------+                                  |
//	     |    | QUIT    | ATRN, and not an octet behind it     |
//	     |    |         v                                      |
//	     |    |  +---------------+  no mail and no long poll: 453; another session is alive: 450
//	     |    |  | turning       |------------------------------+
//	     |    |  +---------------+                              |
//	     |    |    | mail, | no mail, long poll                |
//	     |    |    | or    v                                   |
//	     |    |    | linger   +------+  time is over: 453; a newer session: 450
//	     |    |    |          | held |-------------------------'
//	     |    |    | 250      +------+  stopping, or input: 421, terminated
//	     |    |    |             | mail: 250
//	     |    |    v             v
//	     |    |  +---------------+             provider: smtp.Client
//	     |    |  | sending       |<-.          customer: smtp.Server, Protocol Relay, greets
//	     |    |  +---------------+  | mail
//	     |    |    | QUIT   | all is sent, linger
//	     |    |    |        v       |
//	     |    |    |  +---------------+  NOOP 250, nine in a row at most
//	     |    |    |  | lingering     |<---.
//	     |    |    |  +---------------+----'
//	     v    v    v        | QUIT: the account's time is over, the ninth NOOP, the provider stops
//	    terminated <--------'       | the customer speaks unasked, hangs up, or does not answer
//
// "held", "sending" and "lingering" are what Sessions shows the operator, with "turning" before them.
//
// # What must hold, wherever the connection breaks
//
//	a recipient is settled by its own reply, or it stays where it was
//	a recipient outside the domains of this ATRN is not leased, so it can neither be sent nor lost
//	a message comes twice only if the connection broke after its end of data and before its reply was read (RFC 1047): at most those
//	under way at once, and none whose reply was read
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
//	Its §5.2.1 has no word on spaces, trailing dots or case: the grammar is kept to the letter, one space and one only, names are
//	compared without regard to case, and an internationalized name is its A-label. White space at the end of the line is borne,
//	as RFC 5321 §4.1.1 asks of every command.
//
//	Octets that come with ATRN, or before its 250, were written before the roles were known, so nobody can tell what they mean: 503,
//	and the connection is closed. RFC 3207 §4.2 gives the same reason for STARTTLS. A refusal changes no roles and waits for none.
//
//	One session an account and domain: each domain is a seat, and an ATRN takes those of all its domains or none. So an account may call for
//	its domains separately, and at once. A newer session that has logged in takes the seat of a dead one: one that lingers and does
//	not answer NOOP within 5 seconds, or one in the middle of something that was not heard for 30 seconds (ProviderConfig.DeadAfter) and carries
//	nothing for 5 since the newer one asked, which so waits 30 seconds at most. The dead one's connection is closed, what was in flight is
//	settled or due again, and only then is the newer one answered.
//	Beside a session that is alive it gets 450 and the seconds to wait. An answer held back gives way at once: nothing is in flight.
//
//	A domain is one account's (package directory), at any time. When it moves to another, or the account is disabled, sessions that are open
//	end before the next message, with QUIT, and whoever has it now need not wait for them.
//
//	The queue is empty: 453. By account, 250 and QUIT (EmptyTurns), or the answer is held back until mail comes (LongPoll; 4 minutes at
//	most, for fetchmail waits 300 seconds by default), or 250 at once and the session stays (Linger). The last two are off for a
//	new account, because a peer that polls from a table of times would be surprised to find itself still connected; fetchmail works with
//	both, and a Bothy site wants Linger, 40 minutes say.
//
//	A session that lingers is a goroutine that reads from its peer, and holds no buffer; one goroutine listens to the queue for all of them
//	and wakes whom new mail concerns. NOOP every 4 minutes keeps address translators and the customer's own timeout away, nine in a row
//	at most, because Exim ends a session at the eleventh. Then QUIT, and the customer calls again at once.
//
//	The customer cannot see that the provider lingers, only that it is quiet: after 5 seconds of silence with no message open a call
//	has brought all there is. Run keeps the session; a Call without Run says 421 and waits for the provider to close, which proves that
//	it was there. When the link goes down, a session that lingers is over.
//
//	Of the 32 oldest messages the smallest goes first, where one of more than 64 KiB counts a second younger for every 4 KiB: mail of
//	minutes does not wait for a video, and the video's turn comes.
//
//	A site of ours offers XDEFLATE in its EHLO reply, of which package smtp tells: each message by itself is compressed, after the turn
//	only, where that makes it smaller by a sixteenth at least.
//
//	A session may have a budget (serve_budget.go), the account's or the site's: XBUDGET in its EHLO reply, which a site of ours alone
//	says. What does not fit keeps its lease until the session ends, so that nothing is met twice and nothing counts as tried.
//
//	What the customer's SIZE does not allow is not sent: its sender gets a notice, or by account it waits (KeepLarge) for a larger
//	SIZE or the operator.
//
//	The reply to ATRN is one line, because fetchmail takes one for the reply and the rest for the customer's mail server.
//	fetchmail with `ssl` also stands still when a TLS record holds two lines. So after a CRAM-MD5 login on a port that begins with
//	TLS, which is how fetchmail and hardly anybody else comes, each line is a record of its own.
//
//	A recipient that the customer refused with 4yz is tried again at its next call, in a session that lingers after 10 minutes.
//
//	A message whose transfer broke off goes behind those that were not tried yet, the smallest first: one that is too large for
//	the minutes a bad link lasts must not keep all others back. Of those under way only the first without a reply counts as tried. At a site of ours
//	it goes on where it broke off, so there it keeps its place, three times.
//
//	While the account's mail is being sent, ATRN costs the directory one read and one write. 450 for calls closer together than the
//	account's interval says in how many seconds to come back.
//
//	Who is at the site a site of ours tells (XRECIPIENTS); of another it is remembered for an hour whom it refused with 5.1.1. Either is put
//	off at the provider's RCPT, and refused where the site said so after the sender came.
//
//	Before TLS and before login the provider says nothing that depends on an account, so 450 and 453 tell strangers nothing.
package odmr
