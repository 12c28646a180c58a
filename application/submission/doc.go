// Package submission is what a server does to mail handed in by its own people, and must not do to mail that only passes through.
//
//	RFC 6409 §3.2, §3.3, §4.3, §6.4: who may submit: accounts, listed networks, client certificates; anybody to the postmaster
//	RFC 6409 §4.2, §5.1:             domains are fully qualified, addresses are addresses, in the envelope and in the header
//	RFC 6409 §5.2:                   what clients do wrong is counted and logged, within limits
//	RFC 6409 §6.1, §6.2, §6.3:       as whom an account sends, to whom, and how much
//	RFC 6409 §8, §8.1, §8.2, §8.3:   From, Sender, Date and Message-ID; addresses without a domain
//	RFC 6409 §8.6:                   a place for encryption, and nothing in it (Options.Encrypt)
//	RFC 6409 §8.7, §8.8:             aliases in the DNS, and rewriting by exact rules
//	RFC 5322 §3.6, RFC 5321 §4.4:    fields that may be there once are; Bcc and Return-Path are not
//	RFC 5322 §3.6.6:                 a message sent on: the newest Resent- fields are the account's
//	RFC 8314 §3.3:                   implicit TLS beside STARTTLS
//
// Left out: character sets (RFC 6409 §6.5). Transfer encoding (RFC 6409 §8.4) and signing (RFC 6409 §8.5) wait until the message leaves, for
// only the next hop tells what it needs. Commands are refused at once also where Config.Refusals would have texts bounced.
//
// Plane: application. wire.go finds and replaces addresses in header fields and reads dates. machine.go holds the checks and changes of a text,
// each a row that cites its section; machine_address.go what may be done to an address. serve.go is the Agent, an smtp.Policy and an
// smtp.Acceptor; serve_policy.go who a client is and what it may. faults.go, usage.go and readers.go are what it remembers, in memory and bounded. Of a
// message only the header is held, within Config.HeaderSize. docs/submission.md is for people; its table is written by TestConformance.
//
// The path of one message: smtp.Server (587, 465) asks Agent.Mail and Agent.Rcpt, which may complete or rewrite an address; then it hands
// envelope and body to Agent.Accept; that reads the header, runs the steps on it, and hands the message on to Next, the queue. The
// sendmail command's messages come in by an Agent of their own, which trusts the user whom the kernel names.
package submission
