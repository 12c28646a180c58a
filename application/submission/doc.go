// Package submission is what a server does to mail handed in by its own people, and must not do to mail that only passes through.
//
//	RFC 6409 §3.3, §4.3: only authenticated accounts submit (530 comes from smtp.Server with Protocol Submission)
//	RFC 6409 §4.2, §5.1: domains are fully qualified, addresses are addresses, in the envelope and in the header
//	RFC 6409 §6.1, §6.3: an account sends in its own names only
//	RFC 6409 §8, §8.2, §8.3, RFC 5322 §3.6: From, Date and Message-ID are there; Bcc and Return-Path are not
//	RFC 8314 §3.3: implicit TLS beside STARTTLS
//
// Left out, all of it optional: adding Sender (RFC 6409 §8.1), transfer encoding (§8.4), signing (§8.5), rewriting of addresses (§8.7,
// §8.8), correcting a Date that is there (§8.2). Resent- fields pass as they are.
//
// Plane: application. machine.go holds the checks and changes, each a row that cites its section; serve.go is the smtp.Policy and the
// smtp.Acceptor they run behind. Of a message only the header is held in memory, within Acceptor.HeaderSize.
//
// The path of one message: smtp.Server (587, 465) asks Policy at MAIL and RCPT, then hands envelope and body to Acceptor; that reads the
// header, runs the checks and changes on it, and hands the message on to Next, the queue. The sendmail command's messages come in
// by the same Acceptor.
package submission
