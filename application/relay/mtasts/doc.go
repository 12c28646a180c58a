// Package mtasts finds, keeps and applies the policies by which domains demand TLS of who sends them mail.
//
//	RFC 8461  SMTP MTA Strict Transport Security  §3 discovery, §4 validation, §5 application
//
// Left out: reports (RFC 8460); refreshing the policies of domains to which no mail goes (RFC 8461 §3.3 suggests to do it daily: one is
// refreshed with the first mail of a day).
//
// Plane: application. One message: before it connects to a domain's exchangers, the relay asks Store.Policy (store.go). That looks for
// the id in the domain's TXT record (wire.go); if the policy it holds is another or old, it fetches the text from the domain's
// policy host (dial.go), within a minute and 64 KiB, and keeps it on the disk until its max_age is over: a restart, or an attacker
// who keeps us from asking, does not make us forget it.
package mtasts
