package submission

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"bothy/application/smtp"
)

// Config of the submission service.
type Config struct {
	Listen     []string    `doc:"Addresses to listen on for submission with STARTTLS (RFC 6409 §3.1). Empty: nowhere." example:":587"`
	ListenTLS  []string    `toml:"listen_tls" doc:"Addresses to listen on for submission that begins with TLS (RFC 8314 §3.3). Empty: nowhere." example:":465"`
	Plaintext  bool        `doc:"Let clients log in and send without TLS. Their mail, and what their mechanism shows, is then readable on the way."`
	Mechanisms []string    `doc:"SASL mechanisms offered, best first; empty: all but CRAM-MD5." oneof:"EXTERNAL SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN CRAM-MD5"`
	AnySender  bool        `doc:"Let every account send in any name, in MAIL FROM and in From and Sender fields (RFC 6409 §6.1 refuses that with 550 5.7.1)."`
	HeaderSize int64       `doc:"Longest header section taken; a longer one is refused with 554 5.6.0." default:"256KiB" unit:"bytes" min:"64KiB" max:"16MiB"`
	Limits     smtp.Limits `doc:"Bounds of one session."`
	ShowClient bool        `doc:"Tell in the Received field where the client sits (RFC 5321 §4.4); else it tells nobody."`

	Networks       []netip.Prefix `doc:"Networks whose clients may send without AUTH (RFC 6409 §3.3). Addresses can be forged where the path is not trusted. Empty: none." example:"192.0.2.0/24"`
	NetworkAccount string         `doc:"The account that clients in those networks send as: its names and bounds are theirs." example:"desk@clinic.example"`
	Certificates   bool           `doc:"Let a client certificate that an account has registered stand for AUTH (RFC 6409 §3.3)."`
	POPWindow      time.Duration  `toml:"pop_window" doc:"How long after a login by POP3 its client's address may send without AUTH, as that account (RFC 6409 §3.3 names 20 minutes). Whoever shares the address, or forges it, may too. 0s: not at all." default:"0s" max:"1h"`
	Postmaster     bool           `doc:"Take mail for the postmasters of local domains, and for nobody else, without AUTH (RFC 6409 §6.4)."`
	PostmasterRate int            `doc:"How many such recipients one client address may give in an hour." default:"10" min:"1"`

	Sender    string            `doc:"The Sender field (RFC 6409 §8.1): keep it as it is; add it where the account's address is not in From; or also replace one that is there. It is always added where From has several authors (RFC 5322 §3.6.2)." default:"keep" oneof:"keep add replace"`
	Date      string            `doc:"The Date field (RFC 6409 §8.2): keep what is there or is not; add a missing one; or also correct one that is no date." default:"correct" oneof:"keep add correct"`
	MessageID string            `toml:"message_id" doc:"The Message-ID field (RFC 6409 §8.3): keep what is there or is not; add a missing one; or also replace one that is no id." default:"replace" oneof:"keep add replace"`
	Complete  bool              `doc:"Complete an address without a domain with the chief local domain, if somebody here has that name (RFC 6409 §8); all others are refused."`
	Expand    []string          `doc:"Domains to put behind a domain of a single label, the first that makes a local domain (RFC 6409 §4.2). Empty: single labels are refused." example:"clinic.example"`
	Rewrite   map[string]string `doc:"Addresses to rewrite, in envelope and header (RFC 6409 §8.8): \"jru\" = \"J.Random.User\" in local domains, \"a@b.example\" = \"c@d.example\", \"@old.example\" = \"new.example\", \"*.foo.example\" = \"foo.example\"."`
	CNAMEs    []string          `toml:"cnames" doc:"Domains that are replaced by what they are an alias of in the DNS, with all domains below them; \"*\": all domains. Aliases are not allowed in addresses (RFC 5321 §2.3.5), but www and ftp may become one (RFC 6409 §8.7). Empty: none." example:"clinic.example"`
	Envelope  bool              `doc:"Rewrite the envelope only, by rules and by aliases (RFC 6409 §8.8)."`

	Resend      bool     `doc:"Let an account send another's message on, with his From, in its own Resent-From (RFC 5322 §3.6.6). Readers look at From: it lets accounts write in any name."`
	Forbid      []string `doc:"Header fields whose messages are refused with 550 5.7.0 (RFC 6409 §6.3): \"Field\" wherever it is there, \"Field: text\" where it has that text, no matter the case." example:"X-Mailer: Mass Sender"`
	Unsolicited []string `doc:"Solicitation class keywords that EHLO lists (RFC 3865 §2): messages of these classes are refused." example:"net.example:ADV"`
	Refusals    string   `doc:"What becomes of a message whose text is refused: the client is told at once, or it is accepted and its sender gets a notice (RFC 6409 §3.2), if there is somebody to send one to. Commands are refused at once always." default:"reject" oneof:"reject bounce"`
}

// The values of Sender, Date and MessageID.
const (
	keepField    = "keep"
	addField     = "add"
	correctField = "correct"
	replaceField = "replace"
)

// The values of Refusals.
const (
	rejectText = "reject"
	bounceText = "bounce"
)

const defaultPostmasterRate = 10

// defaults fills what is zero.
func (c *Config) defaults() {
	c.PostmasterRate = cmp.Or(c.PostmasterRate, defaultPostmasterRate)
	c.Sender = cmp.Or(c.Sender, keepField)
	c.Date = cmp.Or(c.Date, correctField)
	c.MessageID = cmp.Or(c.MessageID, replaceField)
	c.Refusals = cmp.Or(c.Refusals, rejectText)
}

// CheckConfig reports what is wrong with c, by key.
func (c *Config) CheckConfig(report func(key string, err error)) {
	if (len(c.Networks) > 0) != (c.NetworkAccount != "") {
		report("network_account", errors.New("networks and the account they send as go together"))
	}
	for _, p := range c.Networks {
		if p.Bits() == 0 { // RFC 6409 §9
			report("networks", fmt.Errorf("%s is everybody: that makes an open relay", p))
		}
	}
	if _, err := newRewriter(c.Rewrite); err != nil {
		report("rewrite", err)
	}
	for _, domain := range c.Expand {
		if _, err := domainOf(domain); err != nil {
			report("expand", err)
		}
	}
	for _, domain := range c.CNAMEs {
		if _, err := domainOf(domain); err != nil && domain != everyDomain {
			report("cnames", err)
		}
	}
	for _, f := range c.Forbid {
		if _, err := parseForbidden(f); err != nil {
			report("forbid", err)
		}
	}
}
