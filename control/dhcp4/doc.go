// Package dhcp4 gives IPv4 hosts their addresses and what else they must know.
//
//	RFC 2131  DHCP                       messages: wire.go
//	RFC 2132  options                    all names; values are not interpreted beyond what the protocol needs
//	RFC 951, RFC 1542  BOOTP             packets with and without cookie and End
//	RFC 3396  long options               split and put together
//	RFC 3046  relay agent information    stands last, whole or not at all
//
// Plane: control. The path of one packet: wire.go turns octets into a Packet and back and allocates nothing when its Packet is used again;
// wire_option.go reads single options; option.go knows the names by which operators write them.
package dhcp4
