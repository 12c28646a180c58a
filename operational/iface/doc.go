// Package iface sets the addresses and routes of this host's own network interfaces, for clients of DHCP.
//
// Linux only, by netlink; it needs CAP_NET_ADMIN. What it set stays when the program ends: a restart does not cut the host off.
//
// Plane: operational.
package iface
