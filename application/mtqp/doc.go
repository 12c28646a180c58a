// Package mtqp tells who sent a message what became of it: message tracking, on a connection somebody else opened.
//
//	RFC 3885  MTRK  §3.1, how long the answer is kept; the parameter is package smtp's
//	RFC 3886        the answer, message/tracking-status, all
//	RFC 3887  MTQP  all of the server, and of the client but for the URI scheme (§9)
//
// Left out: chaining, asking the next server on behalf of the client (RFC 3887 §2.4 leaves it open): the answer names it.
//
// Plane: application. One message: smtp.Server reads MTRK and ENVID; the queue tells a Record of every tracked message that it accepts and of
// everything that becomes of its recipients, before it takes note itself, so that what is asked is never behind what was done; TRACK finds it
// (serve.go) by the hash of the secret, and status.go writes the answer.
package mtqp
