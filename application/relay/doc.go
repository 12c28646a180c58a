// Package relay takes mail that waits for another server to that server.
//
//	RFC 5321  Simple Mail Transfer Protocol  §4.5.4.1 sending strategy, §5 address resolution, §6.1 what a 250 means
//	RFC 7505  Null MX                        all
//	RFC 7504  521 and 556 replies            all
//	RFC 2308  Negative caching of DNS        §2: which "no" is an answer, §5: for how long
//	RFC 3207  STARTTLS                       the client's side of §4
//	RFC 8314  Cleartext considered obsolete  §3.3: implicit TLS to a smarthost's port 465
//	RFC 7435  Opportunistic security         to mail exchangers
//	RFC 7672  DANE for SMTP                  to mail exchangers in signed zones: §2.2 discovery, §3 authentication
//	RFC 8461  MTA-STS                        to mail exchangers of domains with a policy
//	RFC 8689  REQUIRETLS                     §4.2.1, and TLS-Required: No, §4.2.2
//	RFC 9422  SMTP LIMITS                    MAILMAX and RCPTMAX are kept here, RCPTDOMAINMAX by the client
//	RFC 3461  DSN                            §5.2.2: a server without it ends the sender's wishes
//	RFC 6152  8BITMIME                       §3: conversion for servers without it, and for BINARYMIME (RFC 3030)
//
// Left out: DANE for smarthosts, whose names the operator gives and whose certificates are verified; the optional use of TLSA
// records behind insecure MX records (RFC 7672 §2.2.1); reports on TLS (RFC 8460).
//
// Plane: application. One message: the queue says that a lane has due mail (relay.go), and somebody is found to carry it (crew.go). A
// worker leases the oldest message of the lane (worker.go) and opens a session if it has none: health.go orders the smarthosts,
// exchangers.go finds the exchangers of a domain, secure.go says what their domain demands, dial.go connects. It sends the message
// (send.go) and settles each recipient by its own reply (machine.go). Further messages of the lane go over the same session; it
// stays open for a few idle seconds, so that a burst of mail pays for one handshake.
//
// Mail of a lane may also go over a connection that is somebody else's, such as a call for held mail (along.go): with the same leases and verdicts. The lane is
// held back from the workers meanwhile.
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
// Two replies of a smarthost are read with that in mind: what wants a login or TLS of us (530, 534, 535, 538), and "not authorized"
// (X.7.1, as in "554 5.7.1 Relay access denied") where we did not log in and no recipient of the message was accepted. Both are
// deferred, and shown. A server that says the same without an enhanced code is taken at its word, and so is one that knows who we are.
//
// A message whose sender requires TLS (RFC 8689) fails where there is no verified TLS, or no promise to go on with it.
//
// # How much at once
//
// The number of connections of a lane is a window: it begins at 2, grows by one for each window full of messages that went well, up
// to Config.SmarthostConnections or MXConnections, and halves when a connection or session fails; after that it grows eight
// times slower. A connection refused while others of the lane are alive costs that connection alone. Lanes share
// Config.Connections as crew.go says.
//
// # The uplink
//
// While the link is down the kinds of lane that need it, "smarthost" and "mx", are paused, and nothing is dialled. When it comes up
// everything waiting is tried at once. A failure that a change of the link explains is not counted as a try. Nor is the first
// time that a next hop is silent: its mail stays due, and it is looked at again after some seconds, or as soon as the link has proved
// itself. Servers on this side of the uplink have lanes of the kind "lan", which know nothing of all this.
package relay
