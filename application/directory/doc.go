// Package directory knows who belongs here: accounts and their passwords, addresses and aliases, local domains, and the customers whose
// mail waits to be fetched. It is one SQLite file.
//
//	RFC 5321  §4.5.1: postmaster; §2.4: the case of local parts is ours to ignore, and we do
//	RFC 5233  §1: subaddresses, "user+detail"
//	RFC 2645  §5.2.1: customers, their domains, the interval between calls, how they are served
//	RFC 5890  §2.3.2.1: domains are kept and compared as A-labels
//	RFC 6409  §6.1, §6.2: as whom and to whom an account sends, and how much
//	RFC 5802  §3: what is kept of a password
//	RFC 2195  §4: what has to be kept for CRAM-MD5, and why it is sealed
//
// Plane: application. One message: smtp's policy asks [Directory.Local], [Directory.Held] and [Directory.Resolve] at RCPT, submission asks
// [Directory.MaySend] at MAIL and [Directory.MaySendTo] at RCPT; odmr asks [Directory.Customer] at ATRN. These answers come from a snapshot in memory (machine.go) and wait
// for nothing. sasl asks [Directory.Verifier].
//
// # Files
//
//	NAME      the database: journal in WAL mode, synchronous=FULL, so that a change that was reported survives a power cut; mode 0600
//	NAME-wal, NAME-shm   SQLite's own, while it is open; they belong to the database when it is copied
//	NAME.ballast   room that is given away when the disk is full, so that a start and changes go on; made anew when there is room
//	NAME.key  256 bits in hexadecimal that seal the CRAM-MD5 passwords (AES-GCM); mode 0600, made when the first account opts in.
//	          A copy of the database alone gives away no such password. Without the key CRAM-MD5 fails, and all else works.
//
// # Changes
//
// One connection does everything (store.go). A change holds SQLite's write lock and is judged against the state under that lock. Triggers note
// whose rows it changed in the table "changed"; those accounts are read anew under the same lock and put into a copy of the snapshot (30 ms
// with a hundred thousand accounts; all of them are read, in 0.6 s, at the start and where a domain, an alias or more than a hundred accounts changed), so that every question is answered by the new state when
// the method returns. A change by another process is seen by PRAGMA data_version, asked ten times a second: some 10 µs a time. The schema
// carries its number in PRAGMA user_version, and opening brings an older one up to date in one transaction (store_schema.go).
//
// # What counts
//
//   - Names, local parts and domains are compared and kept in lower case; a person logs in with the account's name or one of its addresses.
//   - What resolves first counts: an address, an alias, the same without "+detail", postmaster.
//   - postmaster of a local domain is an address or alias of that name there, or at the chief domain, or else the first account of the
//     domain. The chief domain is the first that was added, or else that of the first address.
//   - This server's own name is local (RFC 5321 §4.5.1). There the names of the chief domain are known, and postmaster. Other names there
//     are refused to strangers; what this site sends to them, cron's mail to root and notices, is the postmaster's ([Directory.Last]).
//   - A disabled account cannot log in and may not send. Mail for it is still accepted and waits in its mailbox: disabling is for a lost
//     telephone or an unpaid bill, and mail is not bounced for that. To refuse its mail, remove its addresses.
//   - The null reverse-path belongs to nobody, so everybody may use it (RFC 5321 §4.5.5); a customer, whose site relays for its people, may
//     send from any address of its domains, and of the hosts below them, whose notices it relays.
//   - A domain is local or held for one customer, never both.
//   - Who shows a certificate is known by its public key (SHA-256 of the SubjectPublicKeyInfo), whoever signed it and however old it is.
//   - An invitation (store_invitation.go) lets a site set its account's password and key, once, by a secret that is not kept.
//   - An import (store_import.go) enters any number of customers in one transaction, which is judged as a whole (machine_import.go): a domain may
//     go from one of them to another.
//   - Rights (rights.go) widen as whom an account sends and narrow to whom; a disabled account has none of them.
//
// Left out: aliases that lead to other hosts (a mailbox can forward), groups and rights beyond sending.
package directory
