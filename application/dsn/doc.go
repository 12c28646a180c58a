// Package dsn composes the notice that tells a sender what became of a message and why: for a person first, in
// words that need no postmaster, and for programs behind it.
//
//	RFC 3464 §2, §3:           the notice and its fields; failed, delayed, delivered, relayed, expanded
//	RFC 3461 §5.2, §6:         when one is due, and what it says of a message that came by SMTP
//	RFC 6522 §3, §4:           multipart/report, text/rfc822-headers
//	RFC 6533 §3, §4:           addresses, reports and headers beyond ASCII
//	RFC 3834 §3, §4, §5:       how an automatic answer looks, and where it goes
//	RFC 3463 §3:               status codes, put into words
//
// Left out: notices for mail gatewayed elsewhere; the fields Received-From-MTA and Final-Log-ID; an internationalized message whole
// to a sender whose own address is ASCII. When to tell of a delay is the queue's; whether a reverse-path can be believed is authres's.
//
// Plane: application. Nothing here reads a clock, and no I/O but on the message that a report opens.
//
// The path of one message: the queue settles recipients and calls Composer.Compose with their outcomes and the message's own
// header; the notice comes back as an envelope with the null reverse-path and a content of known size, which is read into the
// same commit as the outcome.
//
// # Who is told
//
//	the sender       of what his NOTIFY asks for
//	the postmaster   of what could neither be delivered nor returned (DoubleBounces), and of failed mail from outside whose sender neither SPF nor
//	                 DKIM vouches for (Strangers): a notice would hit whoever was forged. At most StrangersMax of those an hour
//	nobody           of the failure of such a notice: the queue holds it for an operator
//
// # What of the message comes back
//
// Its header; the whole of it if RET=FULL asks for that, somebody failed, and it is no larger than FullSize. A whole message passes
// through as a stream, as it is: parts of type message/rfc822 have no encoding, so the notice is as 8-bit as the message, and
// the relay converts it where a server wants seven bits. Binary content is re-encoded on its way. Nothing else in a notice
// is beyond seven bits, unless the address it goes to is.
package dsn
