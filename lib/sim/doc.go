// Package sim holds a network, a disk and dice that misbehave on purpose, for tests of what must survive them. Nothing
// here knows a protocol. Standard library only, and package wal for what a disk is.
//
//	Pipe   a connection in memory: delay, rate, small reads, and a cut after exactly n octets
//	Line   a stretch of real TCP that goes down and comes up again (`bothy try` uses it as well)
//	Disk   a file system in memory that fails, fills up and loses power
//	Seeds  the same test with many dice; one seed is one run, and -seed replays it
//
// What Pipe and Disk do depends on their arguments alone, so a failure repeats. Inside a synctest bubble Pipe's time is the
// bubble's.
package sim
