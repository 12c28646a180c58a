// Package authres signs what leaves here with DKIM, so that others can tell that it came from us.
//
//	RFC 6376 §3.4, §3.5, §5: relaxed canonicalization, the DKIM-Signature field, what a signer does
//	RFC 8301 §3:             rsa-sha256 only, keys of 2048 bits
//	RFC 8463 §3, §4:         ed25519-sha256
//
// Left out: "simple" canonicalization, l=, x=, z= and i=, none of which makes a signature better; verifying.
//
// Plane: application. wire.go is canonicalization and the field, bytes to bytes; key.go makes keys and their DNS records; store.go keeps keys
// in files; sign.go is the signer.
//
// # Why a message is signed when it leaves and not when it comes
//
// The signature stands before the header and covers the body, and what is submitted comes as a stream of which only the header is ever in
// memory. To sign it then would need the body on disk twice. Where mail leaves, the queue has the body on disk already and opens it as often as
// one likes: once to hash, once to send. There the text is also final: a conversion to 7 bits for one next hop has been made before it is
// signed (RFC 6376 §5.3). What is delivered here needs no signature and gets none.
//
// The path of one message: relay leases it, asks [Signer.Sign] with the lease's Open (behind the conversion, if there is one), and sends the
// fields it gets before the text. The cost of an attempt is one more reading of the text, from the page cache as a rule.
package authres
