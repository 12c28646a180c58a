// Package dane checks a server's certificate against the TLSA records of its name.
//
//	RFC 6698  The DANE TLSA protocol                 §2.1: what a record says
//	RFC 7671  Updates to and operation of DANE       §9: the strongest digest alone counts
//	RFC 7672  SMTP security by opportunistic DANE    §3: usages, names
//
// Left out: PKIX-TA(0) and PKIX-EE(1), which mean nothing for SMTP (RFC 7672 §3.1.3); a trust anchor of which the DNS holds the
// bare key alone and the server sends nothing (RFC 7672 §3.1.2).
//
// Plane: application. One handshake: whoever connects has looked up the records, securely, and drops those that are not Usable; if
// some are left, Verify decides on the chain that the server presents.
package dane
