package authres

import "time"

// Config is what is looked for in mail from outside, and what becomes of it. A lookup without an answer never refuses a message. The zero
// value of each field means its default.
type Config struct {
	SPF   string `toml:"spf" doc:"Whether the sender's domain lets the client send (RFC 7208). \"refuse\": mail that it forbids (-all) is answered 550 5.7.23; \"annotate\": the result is written down; \"off\": nobody asks." default:"annotate" oneof:"off annotate refuse"`
	DKIM  string `toml:"dkim" doc:"Whether signatures verify (RFC 6376). \"refuse\": mail that has some and none of which does is answered 550 5.7.20, which RFC 6376 §6.3 advises against." default:"annotate" oneof:"off annotate refuse"`
	DMARC string `toml:"dmarc" doc:"Whether either stands for the author's domain (RFC 9989). \"refuse\": mail that does not pass is answered 550 5.7.1 where that domain asks for it (p=reject), which mailing lists suffer from. Needs SPF and DKIM." default:"annotate" oneof:"off annotate refuse"`

	ID       string        `toml:"id" doc:"Whose findings they are (authserv-id, RFC 8601 §2.5); fields that claim this name on arrival are removed. Empty: the hostname."`
	Timeout  time.Duration `doc:"How long all lookups for one message may take (RFC 7208 §4.6.4: at least 20 seconds)." default:"20s" min:"1s" max:"2m"`
	Loopback bool          `doc:"Look at mail from this machine too, as one must behind a proxy. Mail of route.relay_from never is."`
}

// How a mechanism is used.
const (
	off      = "off"
	annotate = "annotate"
	refuse   = "refuse"
)

func (c Config) withDefaults() Config {
	for _, mode := range []*string{&c.SPF, &c.DKIM, &c.DMARC} {
		if *mode == "" {
			*mode = annotate
		}
	}
	if c.Timeout == 0 {
		c.Timeout = 20 * time.Second
	}
	if c.SPF == off || c.DKIM == off {
		c.DMARC = off
	}
	return c
}

// none reports whether nobody looks at anything.
func (c Config) none() bool { return c.SPF == off && c.DKIM == off && c.DMARC == off }
