// Package route decides where a recipient goes, and what the border takes in.
//
//	RFC 5321  Simple Mail Transfer Protocol  §3.6 relaying, §4.5.1 postmaster, §6.1 notices to ourselves, §7.9 who may relay
//
// Left out: rewriting addresses, aliases (the directory's), rules by sender. Source routes are stripped by whoever parses the
// path (RFC 5321 §3.6.1); a local part is never read for a route: "user%far.example", "far.example!user" and
// "\"user@far.example\"" are names, which somebody here has or nobody has.
//
// This server's own name is local without the directory's word: mail to its postmaster, notices above all, must not leave. Who
// has names there is the directory's to say.
//
// Plane: application. One recipient: policy.go says at RCPT whether it is ours to take; when the queue has the message, router.go
// names its lane, and again whenever routes change.
package route
