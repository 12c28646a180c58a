// Package authres finds out whether mail from outside is what it says it is, and signs what leaves here, so that others can find out.
//
//	RFC 7208 §2, §4:         SPF of the reverse-path, or of EHLO's argument; the language itself is a library's
//	RFC 6376 §3, §5, §6:     DKIM signatures, made and verified
//	RFC 8301 §3:             rsa-sha256 only, keys of 1024 to 4096 bits; we make 2048
//	RFC 8463 §3, §4:         ed25519-sha256
//	RFC 9989 §4, §5:         DMARC: the DNS tree walk, alignment, the policy
//	RFC 8601 §2, §5:         Authentication-Results, written, read, and removed where it is forged
//	RFC 7372 §3:             the codes of refusals
//
// Left out: ARC; reports to domains (RFC 9990, RFC 9991); in signatures made here the "simple" form, l=, x=, z= and i=, none of which makes them
// better; l= is not believed.
//
// Plane: application. wire.go is canonicalization and the field we sign with, wire_tags.go signatures and keys, wire_results.go Authentication-Results, bytes to
// values; verify.go, spf.go and dmarc.go decide; arrive.go is the border's Acceptor and carried.go that of a site whose provider has looked; key.go makes
// keys and their DNS records, store.go keeps them in files, sign.go is the signer.
//
// The path of one message, inward: Border reads its header, starts all lookups, passes header and body on and hashes the body as it passes; at its end it
// waits for the answers and puts the verdict into the envelope, whose Trace the queue writes before the text.
//
// # Why a message is signed when it leaves and not when it comes
//
// The signature stands before the header and covers the body, and what is submitted comes as a stream of which only the header is ever in
// memory. To sign it then would need the body on disk twice. Where mail leaves, the queue has the body on disk already and opens it as often as
// one likes: once to hash, once to send. There the text is also final: a conversion to 7 bits for one next hop has been made before it is
// signed (RFC 6376 §5.3). What is delivered here needs no signature and gets none.
//
// The path of one message, outward: relay leases it, asks [Signer.Sign] with the lease's Open (behind the conversion, if there is one), and sends the
// fields it gets before the text. The cost of an attempt is one more reading of the text, from the page cache as a rule.
package authres
