// Package relay takes mail that waits for another server to that server.
//
//	RFC 5321  Simple Mail Transfer Protocol  §4.5.4.1 sending strategy, §5 address resolution, §6.1 what a 250 means
//	RFC 7505  Null MX                        all
//	RFC 7504  521 and 556 replies            all
//	RFC 2308  Negative caching of DNS        §2: which "no" is an answer
//	RFC 3207  STARTTLS                       the client's side of §4
//	RFC 8314  Cleartext considered obsolete  §3.3: implicit TLS to a smarthost's port 465
//	RFC 7435  Opportunistic security         to mail exchangers
//	RFC 9422  SMTP LIMITS                    MAILMAX and RCPTMAX are kept
//
// Left out: DANE (RFC 7672) and MTA-STS (RFC 8461), so that TLS to a mail exchanger keeps off listeners only; fail-over between
// smarthosts; a cache of DNS answers (one connection asks once).
//
// Plane: application. One message: the queue says that a lane has due mail (relay.go), and somebody is found to carry it (crew.go). A
// worker leases the oldest message of the lane (worker.go), opens a session if it has none (exchangers.go finds where, dial.go
// connects), sends the message (send.go), and settles each recipient by its own reply (machine.go). Further messages of the
// lane go over the same session; it stays open for a few idle seconds, so that a burst of mail pays for one handshake.
//
// # What is permanent
//
// A recipient fails for good only when somebody who knows said so: the next hop by a 5yz to that recipient or message, the domain's zone
// that it does not exist (5.1.2) or has no address (5.4.4), its null MX (5.1.10), every one of its exchangers
// by a 5yz greeting, or its MX records by naming us (5.4.6). Everything else is deferred however often it happens, until
// the queue's lifetime ends: no answer from DNS or a denial without proof, no route, refused and lost connections, failed TLS, and all that is wrong between us
// and a smarthost: its address, its greeting, a password it does not take, AUTH or TLS it does not offer. The deferred reply, which the
// operator sees in the queue, says what to mend.
//
// # The uplink
//
// While the link is down the kinds of lane that need it are paused, and nothing is dialled. When it comes up everything
// waiting is tried at once. A failure that a change of the link explains is not counted as a try.
package relay
