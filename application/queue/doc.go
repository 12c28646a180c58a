// Package queue keeps accepted mail until every recipient is settled: a 250 is a promise (RFC 5321 §6.1).
//
//	RFC 5321 §4.5.4   retrying: due times, lifetime (§4.5.4.1); how often to try is the caller's
//	RFC 5321 §6.1     what was accepted is not lost
//	RFC 1047          a crash between delivery and its record delivers twice, never not at all
//	RFC 2852 §4       what is not delivered in time goes back, or its sender is told
//	RFC 3461 §5.2     when there is a notice to compose (Notifier): failure, success, delay
//	RFC 3463          4.3.1, 4.3.0, 4.5.3, 5.4.7
//	RFC 4865 §4       mail that is released later
//	RFC 6710 §5       the higher priority leaves first, then age
//
// Left out: more than one machine (another Store).
//
// Plane: application. One message: Accept (store_accept.go) reads the body and appends one record to the log of lib/wal, body and
// all, or first writes a large body into a file of its own (store_body.go); it returns when the group it rode with is durable.
// Then the message is in the index (machine.go): a row for each recipient, in the lane the Router names. Who carries a lane
// hears of it by Due (serve_due.go), takes a Lease (store_lease.go), and settles each recipient; deliveries ride with the next group,
// what a sender is told of is one record together with its notice (report.go). Run (serve.go) wakes what is due, fails what is too old, tells senders of delay, and has
// store_clean.go move what still waits out of old segments. Open replays the log (store_replay.go). store_operator.go is for people, and store_copy.go.
//
// # In memory
//
// A waiting recipient is a row of numbers, about 250 octets with its message; addresses, replies and envelopes stay on the disk and
// are read when somebody leases or lists them. Lanes are never stored.
//
// Open asks the Router for every recipient again, but reads no body: beside each complete segment of the log stand the heads of its
// records (wal.Heads), about 200 octets a message, which Run has written. Without them it reads everything.
//
// # On disk
//
//	log/      the segments of lib/wal, its lock (one process at a time), and log/damaged for what cannot be read
//	bodies/   bodies larger than Config.InlineBody, by message ID, in checked pieces
//
// wire.go describes the records. Those about one recipient stand in the log in the order in which they hold in memory.
//
// # What a crash can leave
//
//	S1  body being read, or its file written in part                nothing; the file is removed by Open
//	S2  body file durable, no record                                the same: nobody was told 250
//	S3  record appended, its group not synced                       as S2, or as S4: the client, told nothing, sends it again
//	S4  record durable, 250 said or not                             the message is served
//	S5  leased                                                      due again: a lease dies with its holder
//	S6  delivery or deferral settled, its record not yet durable    served once more: bounded by Linger of lib/wal
//	S7  failure with notice appended, not synced                    neither: it is tried again; or both, as S8
//	S8  failure with notice durable                                 the recipient is gone, exactly one notice is served;
//	                                                                S7 and S8 hold for success, expansion and delay that are told, too
//	S9  last settlement durable, body file still there              the message is gone; Open removes the file
//	S10 message moved, old record still there                       the later record counts; settlements fit both
//	S11 segment dropped, directory not synced                       as S10: whatever settles a record stands behind it
//	S12 pause recorded or not                                       the time since counts as it was recorded
//
// # When the disk fails or is full
//
// A sync that fails is never tried again: from then on Accept answers 451 4.3.0, Lease fails once the log is dead, for what
// it delivers could not be remembered, and Run ends, so that the program does and its next start finds out what the disk holds. While less than Config.FreeSpace is free Accept answers 452 4.3.1; what was accepted before is still
// settled, from the space kept free. A settlement that finds no room all the same waits in memory, in order.
package queue
