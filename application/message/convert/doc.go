// Package convert rewrites a message for a server that cannot take it as it is: 8-bit content into 7-bit lines, binary content
// into either. It walks the MIME structure as the octets pass and re-encodes leaf parts; nothing is kept in memory but the header
// section at hand.
//
//	RFC 6152 §3:                     8-bit content and a server without 8BITMIME: no loss, valid MIME, or a failure
//	RFC 3030 §3:                     the same for binary content; encodings are never nested
//	RFC 2045 §2.7 to §2.9, §6:       what 7bit, 8bit and binary are; Content-Transfer-Encoding; quoted-printable, base64
//	RFC 2046 §5.1, §5.2:             multipart and message: only the parts inside them are encoded
//	RFC 6532 §3.7, RFC 6533 §4.4:    message/global and its kin may be encoded themselves
//	RFC 1847 §2.1:                   a signed part must not be touched
//
// Left out: header fields, which no transfer encoding covers (a raw 8-bit octet in one, even of a body part, makes the message
// unconvertible); the insides of multipart/encrypted; parts that claim to be encoded and are not.
//
// Plane: application. No I/O but on the reader it is given.
//
// The path of one message: the relay finds that a server lacks 8BITMIME. It has the message read once (Examine), which tells whether
// there is anything to do, whether it can be done, and the size of the outcome, which SMTP wants to know first. Then it reads the message
// again through Plan.Reader, while it is sent. An unconvertible message is refused with 554 5.6.3, and its sender gets a notice.
//
// # What changes
//
// A leaf whose octets need more than the target (its label proves nothing) is encoded: text as quoted-printable or base64,
// whichever is shorter, all else as base64. Its Content-Transfer-Encoding field is rewritten or added, and so are those of the multiparts
// and messages around it that claimed more than they hold now. Every other octet stays: a leaf labelled 8bit that holds only
// ASCII, preambles, delimiters, signed parts, the order of fields.
//
// A message without MIME-Version gets one, because from now on its meaning depends on MIME. Where it has no Content-Type either it
// is plain text in UTF-8 if it is well-formed as such, else in unknown-8bit (RFC 1428 §3). Where it has one it is read as
// if the version were there, as mail programs do.
//
// A DKIM signature over the body does not survive (RFC 6376 §5.3 has signers avoid that): a message without its signature is
// worth more than none.
//
// What readers could understand in different ways is not converted: duplicate fields, a line that is no field in a header section,
// a delimiter with something behind it. So is structure beyond the bounds in walk.go.
package convert
