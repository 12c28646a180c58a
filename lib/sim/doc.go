// Package sim holds a network, a disk and dice that misbehave on purpose, for tests of what must survive them. Nothing
// here knows a protocol. Standard library only.
//
//	Pipe   a connection in memory: delay, rate, small reads, and a cut after exactly n octets
//	Line   a stretch of real TCP that goes down and comes up again (`bothy try` uses it as well)
//	Seeds  the same test with many dice; one seed is one run, and -seed replays it
//
// What Pipe and the disk do depends on their arguments alone, so a failure repeats. Inside a synctest bubble their
// time is the bubble's.
package sim
