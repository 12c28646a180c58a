// Package join brings a site to its provider with one line that is pasted: an invitation, which the provider prints and the site redeems for
// credentials of its own.
//
//	RFC 4954, 5802  the site proves that it has the invitation's secret, and the provider that it knows it: SCRAM, bound to the TLS channel
//	RFC 5803  §3    what the site gives the provider of its password
//	RFC 5321  §4.1.5: XJOIN is a private command
//
// # One invitation
//
// The provider makes it (directory.Invite, `bothy customer add`) and prints a [Token]. The site calls the port where it will call for its
// mail, and speaks to nobody but the server with the public key that the token names. It logs in as "join:ID" and sends XJOIN with the verifier
// of a password that it has made up and the fingerprint of its key; neither password nor key leave the site. directory.Redeem decides
// whether the invitation is still good, once, and the reply says which domains are the site's. A reply that is lost does no harm: the same again
// gets the same answer.
//
// What such a login may do is XJOIN: for everything else there is no account of that name.
//
// Left out: renewal of credentials, which a new invitation does.
//
// Plane: application.
package join
