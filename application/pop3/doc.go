// Package pop3 lets people fetch their mail: the server's side of POP3, on a connection somebody else opened.
//
//	RFC 1939  POP3                      all but APOP
//	RFC 2449  CAPA, response codes      all but LOGIN-DELAY
//	RFC 2595  STLS                      §2, §4
//	RFC 3206  SYS and AUTH codes        all
//	RFC 5034  AUTH                      all
//	RFC 8314  TLS from the first octet  §3.1, §3.4: give Serve the TLS connection
//
// Left out: APOP, which RFC 1939 §13 forbids beside USER and PASS and which needs the password itself on the server; AUTH with CRAM-MD5
// does the same for accounts that opted in. UTF8 and LANG (RFC 6856): messages go out as they were delivered.
//
// Before TLS nothing is offered that shows a password: neither USER and PASS nor AUTH PLAIN, only challenges.
//
// Plane: application. The path of one message: serve.go reads commands, wire.go parses them, the table in machine.go says
// where each is legal, serve_auth.go logs in and takes the maildrop, serve_mail.go sends what the mailbox keeps, octet by octet
// as it lies there, and removes at QUIT what was marked.
package pop3
