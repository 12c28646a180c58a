// Package hosts writes the names of hosts that have leases into a file in the format of hosts(5), for whoever resolves names at the site.
//
//	RFC 952, RFC 1123 §2.1   what a name may be
//	RFC 2132 §3.14           a client says what it calls itself
//
// A client chooses its name, so it can choose badly: a name that is a server's, or that another host has now, is not written.
//
// Left out: answering DNS.
//
// Plane: control.
package hosts
