package site

import (
	"time"

	"bothy/application/smtp"
)

// SMTPConfig is the border service.
type SMTPConfig struct {
	Listen       []string    `doc:"Addresses where other servers deliver mail. Empty: nowhere." example:":25"`
	Limits       smtp.Limits `doc:"Bounds of one session."`
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
	offer.Unsolicited = cfg.SMTP.NoSoliciting
	border := &smtp.Server{
		Hostname: cfg.Hostname, Protocol: smtp.Relay, TLS: s.certs.server(false), Offer: offer,
		Policy: s.router.Border(), Accept: s.verdicts(c, s.watched(s.spool)), Limits: cfg.SMTP.Limits,
		Log: s.env.Log.With("service", "smtp"), Now: s.env.Now,
	}
	if cfg.Checkpoint.Border {
		border.Checkpoints = s.checkpoints
	}
	if len(cfg.ODMR.Listen)+len(cfg.ODMR.ListenTLS) > 0 { // for customers who have an address of their own
		border.Etrn = s.starter.Etrn
	}
	return border
}
