// Package checkpoint keeps what came of messages whose connection broke, so that their clients go on where they were cut off.
//
//	RFC 1845 §3  the transaction and its state in non-volatile storage; the commands are package smtp's
//
// Plane: application. One message: MAIL with TRANSID makes smtp.Server Begin a Transaction, which is that session's alone; a dead session that
// has it is closed. The text is written to it (store_write.go), 64 KiB in memory and then in a file of its own. When all is there the Acceptor
// reads it, and the file goes. When the connection breaks Suspend keeps it, and the next Begin finds it, verified, and its Offset.
//
// What was accepted is not remembered here but by whoever has the message on disk, with it (Options.Accepted): between the two there is no
// moment in which a crash could make a message come twice.
//
// # What is not kept
//
// A short text, of 32 KiB at most (Config.Least), comes faster again than it is asked for; a client may send such a one behind MAIL and RCPT without a wait, and could
// not take part of it back. What is behind the last line end of a text is not kept either: the offset is a line's beginning, whichever
// command brings the rest (RFC 1845 §3). A text for which there is no room is taken as if the client had not asked.
//
// # On disk
//
//	partial/<key>   pieces: what it is (2 bits) and length (30) u32 | crc32c of key, index and octets u32 | octets; little-endian
//
// A piece is text that ends behind a line, text that does not, or the context: whose it is, to whom it goes, and when that was written. The last
// context holds. A piece that is not whole ends the file.
//
// # What a crash can leave
//
//	C1  text in memory                         the client sends it again
//	C2  pieces written, not synced             as many as are whole; the offset says so
//	C3  all is there, the message not accepted  as C2; the client ends the transaction again
//	C4  message accepted, file still there     Begin finds the message accepted, and removes the file
package checkpoint
