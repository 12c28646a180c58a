package site

import (
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

// border is the server for mail from other servers.
func (s *Site) border(cfg Config) *smtp.Server {
	border := &smtp.Server{
		Hostname: cfg.Hostname, Protocol: smtp.Relay, TLS: s.certs.server(false),
		Offer:  smtp.Offer{Limits: true, DSN: true, NoSoliciting: true, Unsolicited: cfg.SMTP.NoSoliciting},
		Policy: s.router.Border(), Accept: s.watched(s.spool), Limits: cfg.SMTP.Limits,
		Log: s.env.Log.With("service", "smtp"), Now: s.env.Now,
	}
	if len(cfg.ODMR.Listen)+len(cfg.ODMR.ListenTLS) > 0 { // for customers who have an address of their own
		border.Etrn = s.starter.Etrn
	}
	return border
}
