// Package dhcp4 gives IPv4 hosts their addresses and what else they must know: the server, the relay agent, and a client for the uplink.
//
//	RFC 2131  DHCP                       §3, §4.1 to §4.3; table 3 is testdata/table3.txt and held against every reply
//	RFC 2132  options                    all names; values are checked where an operator writes them
//	RFC 951, RFC 1542, RFC 1534  BOOTP   packets with and without cookie and End; reserved addresses, or pools for ever
//	RFC 3046  relay agent information    echoed last, whole or not at all; stored with the lease
//	RFC 3396  long options               split and put together
//	RFC 3397, RFC 3442                   domain-search, classless-routes; the client takes these before routers
//	RFC 4039  rapid commit               off by default
//	RFC 4361  client identifiers         taken as they come: opaque
//	RFC 6842  client identifier          echoed in every reply
//
// Left out: authentication (RFC 3118); link selection (RFC 3527) and subnet selection
// (RFC 3011); FORCERENEW; failover.
//
// Plane: control. The path of one packet: listen_linux.go reads it from port 67 and knows the interface, serve.go has it parsed (wire.go,
// wire_option.go) and asks the machine. machine.go finds out who asks from which link, machine_request.go takes the message types one by one,
// machine_address.go chooses an address (RFC 2131 §4.3.1) and a time, machine_reply.go writes the reply and its destination (§4.1). A binding is
// appended to lib/wal by control/lease at that moment; serve.go reads what there is, answers at once what is not bound, and then waits for the disk before
// it sends the rest: all of a batch share one sync. Before a new address is offered, probe.go asks whether somebody uses it. What is not answered is counted
// and logged with a Why.
//
// The relay agent is relay.go (decisions) and relay_serve.go. The client is client.go (the machine of RFC 2131 §4.4: Tick, Receive, Checked),
// client_serve.go (which gives the host its address and routes, and keeps the binding for the next start) and dial_linux.go; client_ask.go asks once, without
// taking an address.
//
// # Deviations
//
//	RFC 1542 §2.1     requests shorter than 300 octets are taken
//	RFC 2131 §4.3.1   a client that names no time is told what is left of its lease, but never less than MinLease
//	RFC 2131 §4.3.2   REBINDING is met with silence where there is no record of the client, as INIT-REBOOT is: another server may have one
//	RFC 2131 §4.2     ByHardware, when set
//
// # What bounds what
//
// Offers are bounded by the addresses, probes by a constant in serve.go, replies that wait by maxBatch in listen_linux.go, quarantined addresses by maxDeclines a client, packets of one
// port by Config.PortRate, log lines by tally.LinesASecond. When no address is free a client is met with silence, and the operator hears of it once a minute.
package dhcp4
