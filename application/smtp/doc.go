// Package smtp is the Simple Mail Transfer Protocol: both ends of it, on a connection that somebody else opened. It never
// dials and never listens, which is why a connection can be turned: a Server ends with ErrTurned and a Client goes on.
//
//	RFC 5321  SMTP                          all of both ends; what VRFY and EXPN know is who sets Server.Verify's and Expand's; no relaying decisions (package route), no DNS (package relay)
//	RFC 1845  CHECKPOINT                    all; what is kept of a message whose connection broke is package checkpoint's
//	RFC 1870  SIZE                          all
//	RFC 1951  DEFLATE                       of single messages, between two ends that know each other: KeywordDeflate
//	RFC 1985  ETRN                          all of the server; which queue a node may start is Server.Etrn's
//	RFC 2033  LMTP                          the client: §4.1, §4.2
//	RFC 2034  ENHANCEDSTATUSCODES           all, with the codes of RFC 3463, RFC 5248 and later
//	RFC 2645  On-Demand Mail Relay          the Held command set and the turn; ATRN itself is package odmr's
//	RFC 2852  DELIVERBY                     parameters at both ends; deadlines are kept by package relay, notices are package dsn's
//	RFC 2920  PIPELINING                    all, from one message to the next too
//	RFC 3030  CHUNKING, BINARYMIME          all; the client does not convert, it refuses
//	RFC 3207  STARTTLS                      all; what a certificate must prove is the caller's tls.Config
//	RFC 3461  DSN                           parameters at both ends; notices are package dsn's
//	RFC 3848  transmission types            in the Received field
//	RFC 3865  NO-SOLICITING                 all; the client passes SOLICIT= on
//	RFC 3885  MTRK                          parameters at both ends; who keeps track is package mtqp's
//	RFC 4865  FUTURERELEASE                 parameters at the server; the client asks nobody to hold what it sends
//	RFC 4954  AUTH                          all; the mechanisms are package sasl's
//	RFC 6152  8BITMIME                      all; the client does not convert to 7 bits, it refuses
//	RFC 6409  Message submission            §4.3, authentication; the rest is package submission's
//	RFC 6531  SMTPUTF8                      all; the client does not downgrade, it refuses
//	RFC 6710  MT-PRIORITY                   parameters at both ends, and who may have which; the order of sending is package queue's
//	RFC 7504  521 and 556                   all
//	RFC 8689  REQUIRETLS                    the extension; what proves a server is package relay's; and the field TLS-Required
//	RFC 9422  LIMITS                        all
//
// What binds more than this package, a server offers only when it is told to: see [Offer].
//
// Left out: the obsolete SEND, SOML, SAML and TURN (RFC 5321 §F.1, §F.6).
//
// Plane: application. It imports message, sasl and checkpoint and nothing else of Bothy.
//
// The path of one message, inward: [Server.Serve] reads a line (conn.go), finds its row in the command table (machine.go), which
// refuses what the state does not allow; MAIL and RCPT (serve_mail.go, serve_parameters.go) fill an envelope that [Policy] has a say in; DATA
// or BDAT (serve_data.go) hand [Acceptor] one reader that gives the Received field and then the text as it arrives. The 250 is
// sent when Accept has returned nil. Outward: [Client.Send] (client_send.go) refuses what the peer cannot take, then writes MAIL,
// RCPT and the text in as few flights as the peer offers, while it reads the replies (client_transfer.go, client_text.go), and returns
// one for each recipient. [Client.SendMany] (client_many.go) does so with many messages, one behind the other.
//
// Memory: a session holds a fixed number of octets whatever the size of the message. A connection on which nothing happens
// for a second gives its buffers back.
//
// Deviations, each with its reason where it is made: a space after "FROM:" and "TO:" is taken; EHLO may be followed by a name that
// only a device can have; 8-bit text without BODY=8BITMIME is kept as it is, where not told otherwise; AUTH= is read whether AUTH is offered or not; a
// Received field made for a submitter does not say where they are; a message that holds a lone CR or LF is refused; a short
// text is sent with BDAT before its recipients are answered for, and among several messages the first chunk of a long one (RFC 3030 §2 would
// wait for them: a round trip for each message).
package smtp
