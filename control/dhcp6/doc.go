// Package dhcp6 gives IPv6 hosts their addresses and prefixes, and what else they must know: the server, and the client.
//
//	RFC 9915  DHCPv6                      §9 relayed messages, §13, §16 to §21
//	RFC 3646  DNS servers and domains     options 23, 24
//	RFC 8415 §21.23                       information refresh time, as RFC 9915 has it
//	draft-cadar-dhc-dhcpv6-opt-email-00   servers of IMAP, POP3 and SMTP: §4 to §7
//
// Left out: leasequery; failover; Relay Agent Echo (RFC 4994). IA_TA and Server Unicast are obsolete and ignored (RFC 9915 §21.5, §21.12).
//
// Plane: control. The path of one message: listen_linux.go reads it from port 547 and knows the interface, machine.go takes off what
// relay agents put around it, finds out who asks from which link and takes the message types one by one, machine_assign.go chooses
// addresses and prefixes, machine_reply.go writes the rest of the reply. A binding is appended to lib/wal by control/lease at that moment;
// serve.go reads what there is, answers at once what is not bound, and then waits for the disk before it sends the rest: all of a batch share
// one sync. What is not answered is counted and logged with a Why.
// After a new configuration wake.go says who is told so (Reconfigure), and machine_reconfigure.go what.
//
// The client is client.go, which decides what is sent and when, and client_receive.go, which takes what comes; neither does any I/O.
//
// # Deviations
//
//	RFC 9915 §13.1   an address is drawn by a keyed hash of client and IAID first, so nobody can predict it; when that one is taken, the
//	                 one that has been free the longest is given
//	draft, §8        asks for authenticated DHCPv6 (RFC 3315 §21), which RFC 9915 no longer has but for Reconfigure
//	RFC 9915 §18.3.11 an Option Request with the codes of the mail servers is in a Reconfigure, as the draft, §7, allows
//	draft, §9        has no option codes assigned: they are configuration, and nothing is sent or read unless they are set
package dhcp6
