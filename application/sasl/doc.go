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
