// Package message holds what the mail services say to each other about a message: its envelope, its addresses, its name, and
// its header section, read and edited in place.
//
//	RFC 5321 §4.1.2, §4.1.3, §4.5.3.1: mailboxes and their limits; §4.4: Return-Path
//	RFC 5322 §2.2, §3.3, §3.4, §4.4:   header fields, dates, address lists, obsolete addresses
//	RFC 6531 §3.3, RFC 6532 §3:        the same in UTF-8
//	RFC 3461 §4:                       the DSN parameters, as values
//
// Left out: MIME (package convert walks it), bodies, encoded words (RFC 2047): they pass through untouched. Of a message only the header section is
// ever in memory, never more than the bound its reader names, and a field nobody edits leaves with the octets it came with,
// since a signature may cover them (RFC 6376 §3.4.1).
//
// Plane: application. It imports nothing of Bothy and does no I/O but on the readers and writers it is given.
//
// The path of one message: smtp parses addresses (ParseAddress) into an Envelope and names it (NewID); submission reads
// the header from the body's stream (ReadHeader), edits it and passes header and rest on as one stream (Header.Reader).
package message
