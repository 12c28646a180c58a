// Package ra tells the hosts of a link who their router is, which prefixes are on the link, and whether to ask DHCPv6.
//
//	RFC 4861  Neighbor discovery        §4.1, §4.2, §6.1, §6.2: what a router sends
//	RFC 4191  Router preferences        §2.2
//	RFC 8106  DNS servers and domains   §5.1, §5.2
//
//	RFC 9915  Prefix delegation         §6.3, §18.2.7: lifetimes of delegated prefixes run down, and what is lost is told
//
// Left out: Mobile IPv6's options; routes (RFC 4191 §2.3); unicast answers; lifetimes that run down, but for delegated prefixes.
//
// Plane: control. One solicitation: listen_linux.go reads it and its hop limit, wire.go says whether it is valid, machine.go when the answer
// is due, serve.go sends it. delegate.go cuts the link's prefixes from those that a provider delegates.
package ra
