// Package sasl proves who somebody is: the mechanisms of the Simple Authentication and Security Layer, both halves of each.
//
//	RFC 4422        the framework; Appendix A: EXTERNAL, by client certificate
//	RFC 5802, 7677  SCRAM-SHA-256 and SCRAM-SHA-256-PLUS
//	RFC 5929, 9266  the channel bindings tls-unique (TLS 1.2) and tls-exporter (TLS 1.3)
//	RFC 4616        PLAIN, under TLS only
//	RFC 2195        CRAM-MD5, which RFC 2645 §5.1.2 asks for; only for accounts that opted in
//	RFC 4013, 3454  SASLprep
//
// LOGIN has no RFC; it is here, under TLS only, for the mail programs that know nothing else.
//
// Plane: application. No I/O: octets in, octets out; base64, line lengths and the "*" that cancels belong to the protocol that carries an
// exchange. One login: smtp reads AUTH and asks [Authenticator.Start]; each response goes through Next: wire_*.go parses it, machine_*.go
// decides, verifier.go compares. Where this side is the client, [Choose] picks the mechanism and smtp passes the challenges to it.
//
// Left out: OAUTHBEARER (no issuer of tokens exists here yet), SCRAM-SHA-1 and DIGEST-MD5 (RFC 6331), GS2 as GSS-API, security layers (TLS
// is ours), and the binding tls-server-end-point: crypto/tls does not tell a server which certificate it showed. A client that insists on
// it is refused, as RFC 5802 §6 asks.
//
// # Nobody learns which accounts exist
//
// A name without an account gets a whole exchange: its salt is made up from the name under a key (Authenticator.Secret), the iteration
// count is everybody's, the work is the same, and the answer is [ErrCredentials] at the same step as for a wrong password.
//
// # Nobody guesses for long, and nobody is locked out
//
// Until its password is looked at, an owner with a new address is a stranger among strangers, so what they may guess is rationed by where
// they come from ([Throttle]). With the defaults, an address has 5 failures and then about 100 a day. A place (IPv4 /16, IPv6 /32) has 20
// attempts on one account and then one every 5 minutes: 308 the first day. The account has 5000 and then one a second: 91,400 the first
// day, 86,400 a day after; 17,000 years for half of 2^40 passwords. 250 places are needed to use up 5000 at once, 300 to keep up with one a
// second: with fewer, whoever comes from another place is looked at. With more, only a known address (for 30 days) and its vicinity (IPv4
// /24, IPv6 /48: 308 attempts) are sure of it, and EXTERNAL, which nobody can guess. An attempt is paid before it is looked at, so that
// many at once are not more.
//
// An account is counted by the name given, before anybody knows whether it exists: one with three addresses to log in by has four times as
// many.
//
// Memory: 4096 addresses, 4096 known pairs, 4096 places with an account and 4096 accounts, under 700 octets each with the longest name:
// 11 MB at most, whoever comes. Names and places without end do not push out a budget that is used up: the one that is fullest goes first.
// A restart forgets everything.
//
// # Why SASLprep and not PRECIS
//
// The password that goes into a SCRAM proof is prepared by the client, and RFC 5802 §5.1 names SASLprep; RFC 8265 prepares some
// passwords differently, and the proof would be wrong. Differences from RFC 3454: today's Unicode tables do the normalisation and the
// bidirectional check, and code points without meaning in Unicode 3.2 are allowed in stored strings too, since today's passwords have them.
//
// # Once a connection
//
// RFC 9266 §4.1 deviation: after a refused attempt a client may try again on the same connection, as RFC 4954 §4 has it; fresh nonces keep
// the attempts apart.
package sasl
