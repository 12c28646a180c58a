package site

import (
	"time"

	"bothy/application/odmr"
	"bothy/application/smtp"
)

// SMTPConfig is the border service.
type SMTPConfig struct {
	Listen       []string    `doc:"Addresses where other servers deliver mail. Empty: nowhere." example:":25"`
	Limits       smtp.Limits `doc:"Bounds of one session."`
	NoMail       bool        `doc:"Take no mail from anybody: connections are greeted with 521 (RFC 7504 §3)."`
	Verify       bool        `doc:"Answer VRFY with what RCPT would say of the mailbox, instead of 252 for every name (RFC 5321 §3.5, §7.3)."`
	Expand       bool        `doc:"Answer EXPN with the mailboxes behind an address here (RFC 5321 §3.5, §7.3), to everybody. Else it is 502."`
	Refuse8Bit   bool        `toml:"refuse_8bit" doc:"Refuse 8-bit text that was not declared as BODY=8BITMIME (554 5.6.3). Else it is kept as it is (RFC 5321 §4.5.2 would clear its highest bits)."`
	BareNewlines bool        `doc:"Take messages with a CR or LF that stands alone, unchanged. Else they are refused (554 5.6.0): some servers end a line there, which is how mail is smuggled past them (RFC 5321 §2.3.8)."`
	ZoneName     bool        `doc:"Put the name of the time zone behind the date of Received fields, as a comment."`
	NoSoliciting []string    `doc:"Solicitation class keywords: mail of these classes is refused with 550 5.7.1, and EHLO says so (RFC 3865 §2). Empty: none is." example:"net.example:ADV"`
}

// CheckConfig reports what is wrong with cfg, by key.
func (cfg *SMTPConfig) CheckConfig(report func(key string, err error)) {
	if err := smtp.CheckUnsolicited(cfg.NoSoliciting); err != nil {
		report("no_soliciting", err)
	}
}

// everything is what all our servers offer: the queue keeps it, and the relay, the provider of on-demand mail, the mailboxes and the
// notices honour it.
var everything = smtp.Offer{
	DSN: true, BinaryMIME: true, Limits: true, RequireTLS: true, Priority: true, DeliverBy: leastDeliverBy, NoSoliciting: true,
}

// leastDeliverBy is the shortest time in which a message may be asked to arrive or come back (RFC 2852 §3): what is for people here does.
const leastDeliverBy = time.Second

// toFetch is what a site offers the provider it has called, whom it believes.
func toFetch() smtp.Offer {
	offer := everything
	offer.TrustPriority = true
	return offer
}

// border is the server for mail from other servers.
func (s *Site) border(c *composition) *smtp.Server {
	cfg := c.cfg
	offer := everything
	offer.Unsolicited, offer.Tracking = cfg.SMTP.NoSoliciting, s.tracks != nil
	policy := s.router.Border()
	border := &smtp.Server{
		Hostname: cfg.Hostname, Protocol: smtp.Relay, TLS: s.certs.server(false), Offer: offer,
		Refuse8Bit: cfg.SMTP.Refuse8Bit, AllowBareNewlines: cfg.SMTP.BareNewlines, ShowZone: cfg.SMTP.ZoneName,
		Policy: s.quotas(cfg, odmr.Strangers{Next: policy, Known: &s.known, Held: s.directory.Held}), Accept: s.verdicts(c, s.watched(s.spool)), Limits: cfg.SMTP.Limits,
		Refused: s.refused("smtp"), Log: s.env.Log.With("service", "smtp"), Now: s.env.Now,
	}
	if cfg.Checkpoint.Border {
		border.Checkpoints = s.checkpoints
	}
	if cfg.SMTP.NoMail { // RFC 7504 §3
		border.Refusal = smtp.Reply{Code: 521, Text: "takes no mail"}
	}
	if cfg.SMTP.Verify {
		border.Verify = policy.Verify
	}
	if cfg.SMTP.Expand {
		border.Expand = policy.Expand(s.directory)
	}
	if len(cfg.ODMR.Listen)+len(cfg.ODMR.ListenTLS) > 0 { // for customers who have an address of their own
		border.Etrn = s.starter.Etrn
	}
	return border
}
