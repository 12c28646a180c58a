package submission

import "bothy/application/smtp"

// Config of the submission service.
type Config struct {
	Listen     []string    `doc:"Addresses to listen on for submission with STARTTLS (RFC 6409 §3.1). Empty: nowhere." example:":587"`
	ListenTLS  []string    `toml:"listen_tls" doc:"Addresses to listen on for submission that begins with TLS (RFC 8314 §3.3). Empty: nowhere." example:":465"`
	Plaintext  bool        `doc:"Let clients log in and send without TLS. Their mail, and what their mechanism shows, is then readable on the way."`
	Mechanisms []string    `doc:"SASL mechanisms offered, best first; empty: all but CRAM-MD5."`
	AnySender  bool        `doc:"Let every account send in any name, in MAIL FROM and in From and Sender fields (RFC 6409 §6.1 refuses that with 550 5.7.1)."`
	HeaderSize int64       `doc:"Longest header section taken; a longer one is refused with 554 5.6.0." default:"256KiB" unit:"bytes" min:"64KiB" max:"16MiB"`
	Limits     smtp.Limits `doc:"Bounds of one session."`
}
