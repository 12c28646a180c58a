// Package mailbox keeps delivered mail, one store an account, and takes it there from the queue.
//
//	RFC 5321  §4.4: final delivery puts the Return-Path on top
//	RFC 3463  §3.3, §3.4: the codes of a full mailbox and of a full disk
//	RFC 9051  §2.3: unique identifiers, flags and internal dates are kept for IMAP
//	RFC 7162  §3.1: so are mod-sequences, and what was expunged
//
// Left out: mailboxes other than INBOX, flags that change, search: they come with IMAP, in the tables that are here.
//
// Plane: application. What lies on the disk:
//
//	lock                            one process holds it
//	ballast                         room that is given away when the disk is full, so that mail can be read and removed
//	tmp/<id>-*                      bodies being written; emptied at Open
//	accounts/<name>/mail/<id>       one file a message, complete and synced before it has this name
//	accounts/<name>/index.sqlite    what is known of each message beside its octets
//	accounts/<name>/damaged.sqlite  the last index that was damaged, for whoever wants to look
//
// The path of one message: serve.go leases it from the queue, machine.go decides what each recipient's accounts mean for it,
// store_deliver.go writes the body (wire.go puts the trace fields on top), syncs it, gives it its name and commits its row. Its
// states, and what a crash in each leads to:
//
//	M1  tmp/<id>-* being written           the file is removed at Open; the queue delivers again
//	M2  tmp/<id>-* synced                  the same
//	M3  mail/<id> has its name, no row     the row is made at the first use of the account; delivering again changes nothing
//	M4  the row is committed               delivered; delivering again changes nothing
//	M5  the row is moved to expunged       the file is removed at the first use of the account; delivering again changes nothing
//
// So a body in mail/ is always whole, and the index follows the bodies: an index that is damaged is set aside and made anew
// from them. Flags and unique identifiers are lost then, and the mailbox gets a new UIDVALIDITY; POP3's unique-ids are the
// names of the bodies and stay.
package mailbox
