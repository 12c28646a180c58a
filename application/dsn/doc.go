// Package dsn composes the notice that tells a sender which recipients did not get a message, and why: for a person first, in
// words that need no postmaster, and for programs behind it.
//
//	RFC 3464 §2, §3:           the notice and its fields
//	RFC 3461 §5.2.6, §6:       when one is due, and what it says of a message that came by SMTP
//	RFC 6522 §3, §4:           multipart/report, text/rfc822-headers
//	RFC 6533 §3, §4:           addresses and headers beyond ASCII
//	RFC 3834 §3, §4, §5:       how an automatic answer looks, and where it goes
//	RFC 3463 §3:               status codes, put into words
//
// Left out: notices of delay, delivery and relay; notices for mail gatewayed elsewhere. The message itself is never returned, not
// even for RET=FULL: the notice may have to cross the thin link that made it necessary.
//
// Plane: application. Nothing here does I/O or reads a clock.
//
// The path of one message: the queue fails a recipient for good and calls Composer.Failure with the reply and the message's own
// header; the notice comes back as an envelope with the null reverse-path and a content of seven-bit lines, and goes into the
// same commit as the failure.
package dsn
