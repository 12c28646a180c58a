package site

import (
	"cmp"
	"net"

	"bothy/application/authres"
	"bothy/application/odmr"
	"bothy/application/smtp"
)

// verdicts gives next the mail of the border with what is found out about it.
func (s *Site) verdicts(c *composition, next smtp.Acceptor) *authres.Border {
	return &authres.Border{
		Hostname: c.cfg.Hostname, Config: c.cfg.Authres, DNS: c.dns, Inside: c.cfg.Route.RelayFrom, Next: next, Told: s.countVerdict,
		Log: s.env.Log.With("service", "authres"), Now: s.env.Now,
	}
}

// carried gives next the mail that is fetched from a provider, with what that found out about it as far as it is to be believed.
func carried(hostname string, cfg odmr.CustomerConfig, next smtp.Acceptor) *authres.Carried {
	host, _, _ := net.SplitHostPort(cfg.Provider) // checked
	return &authres.Carried{
		Hostname: hostname, Provider: cmp.Or(cfg.Verdicts, host), Anywhere: cfg.Verdicts != "", Proven: cfg.TLS != "none", Next: next,
	}
}
