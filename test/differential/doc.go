// Package differential plays the same odd SMTP inputs to Bothy and to Debian's Postfix, Exim and OpenSMTPD, and writes down how they
// differ and why we do as we do: docs/differences.md.
//
// An [Input] is a byte script with the message texts that it may lead to. [Input.Play] speaks it to a server and notes the code of every
// reply, in which step it came, and whether the server closed the connection. Each server is the border of far.example and has a [Sink]
// of ours as next hop, so that envelope and text can be compared octet by octet with what was sent. Bothy holds the domain for
// a customer: the sink calls for the mail by ODMR. A delivery is told by the id that the 250 named and the Received field repeats.
//
// What came out is recorded in testdata, a file a server. `go test` plays our own server alone, compares, and holds what must be true
// of every input, whatever the record says (holds, in differential_test.go). The others are played with -args -peers, as root on Debian;
// their packages are unpacked into bin/mta by the script mta. -update writes the records and docs/differences.md anew, -only 'regexp' plays
// some inputs alone:
//
//	BOTHY_DIFFERENTIAL=1 go test ./test/differential -args -update
//	BOTHY_DIFFERENTIAL=1 go test ./test/differential -timeout 30m -args -peers -update -only 'BDAT: '
//
// Record where the machine is idle: the player cannot tell a slow server from a silent one until it has a record.
package differential
