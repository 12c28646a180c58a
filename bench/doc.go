// Package bench measures the whole program side by side with peers in the same run: `make bench`. Nothing here is a test, and no
// test measures time.
//
// # The spool and the relay
//
// BenchmarkGoals runs what BenchmarkGoals/intake and its neighbours measure, one after the other, and prints at the end what was to be
// reached and what was. Load comes from Postfix's smtp-source, mail goes to its smtp-sink; figures are medians of 5 runs, peers taking
// turns within each, so that a change of the machine's speed hits all of them.
//
//	intake    4 KiB, kept sessions, 1, 20 and 100 of them: bothy, Postfix, smtp-sink (which stores nothing), and syncs a message
//	relay     4 KiB, 20 sessions in, into the spool, out to smtp-sink until the last message is there: bothy, Postfix
//	large     1 MiB, 20 sessions; the peak of the process's memory with that and with 16 MiB
//	idle      what an open connection takes of the process, 10,000 of them in the clear, 2,000 in TLS; the other ends are another process
//	million   a spool in which 1,000,000 messages wait, 10,000 lanes: the first message of one more lane, and a start
//
// What Postfix takes in waits on hold, ours for a customer who never calls, so that intake pays for no delivery. Syncs are counted by
// strace in runs of their own: ours from its start, halted at its syncs alone; Postfix's attached to a running server, which is slow and
// for it makes no difference, since it syncs each message by itself.
//
// The machine should have nothing else to do, `ulimit -n` should be 20,000, and the temporary directory should stand on the disk
// that is to be measured.
//
// # On-demand mail relay
//
// BenchmarkODMR… measure calls and push over links, as odmr_test.go says; BenchmarkODMRLingering `bothy serve` with 20,000 customers who stay, and
// how they come back; BenchmarkCustomers a directory of 100,000.
package bench
