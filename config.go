package site

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"bothy/application/dsn"
	"bothy/application/mailbox"
	"bothy/application/message"
	"bothy/application/odmr"
	"bothy/application/pop3"
	"bothy/application/queue"
	"bothy/application/relay"
	"bothy/application/route"
	"bothy/application/smtp"
	"bothy/application/submission"
	"bothy/operational/link"
)

// Config is everything the file says: one table a service, each defined beside its code. Accounts, domains and customers are not here;
// they live in the directory and are changed with `bothy account` and `bothy customer`.
type Config struct {
	Hostname  string        `doc:"This server's name, in greetings, trace fields and its own certificate (RFC 5321 §2.3.5: a fully qualified domain name)." required:"true" example:"mail.clinic.example" reload:"restart"`
	Data      string        `doc:"Directory of everything that lasts: spool, mailboxes, directory, own certificate, sockets." default:"/var/lib/bothy" reload:"restart"`
	LogLevel  slog.Level    `doc:"What is logged: debug, info, warn or error." default:"info" example:"info"`
	StopGrace time.Duration `doc:"At a stop, how long sessions may finish the message they are in." default:"10s" min:"1s" max:"10m"`

	TLS         TLSConfig           `toml:"tls" doc:"The certificate of all services."`
	Connections ListenLimits        `doc:"Bounds on the connections of each service."`
	SMTP        SMTPConfig          `toml:"smtp" doc:"The border: mail from other servers."`
	Submission  submission.Config   `doc:"Mail from the people of this site (RFC 6409)."`
	POP3        pop3.Config         `toml:"pop3" doc:"How people read their mail (RFC 1939)."`
	ODMR        odmr.ProviderConfig `toml:"odmr" doc:"For a provider: mail held for customers who call (RFC 2645)."`
	Fetch       odmr.CustomerConfig `doc:"For a site: the provider to call for its mail (RFC 2645)."`
	Route       route.Config        `doc:"Where mail for others goes."`
	Relay       relay.Config        `doc:"How mail leaves."`
	Queue       queue.Config        `doc:"Mail that waits." reload:"restart"`
	Notices     dsn.Config          `doc:"What senders are told." reload:"restart"`
	Mailbox     mailbox.Config      `doc:"Mail that has arrived."`
	Link        link.Config         `doc:"What tells whether the uplink is up."`
}

// SMTPConfig is the border service.
type SMTPConfig struct {
	Listen []string    `doc:"Addresses where other servers deliver mail. Empty: nowhere." example:":25"`
	Limits smtp.Limits `doc:"Bounds of one session."`
}

// CheckConfig reports what is wrong with cfg beyond its services' own checks, by key.
func (cfg *Config) CheckConfig(report func(key string, err error)) {
	if _, err := message.ParseAddress("postmaster@" + cfg.Hostname); err != nil {
		report("hostname", fmt.Errorf("%q is not a domain name", cfg.Hostname))
	}
	if (cfg.TLS.Certificate == "") != (cfg.TLS.Key == "") {
		report("tls.key", errors.New("certificate and key go together"))
	}
	if cfg.Relay.Username != "" && cfg.Route.Smarthost == "" {
		report("relay.username", errors.New("there is no smarthost to log in at: set route.smarthost"))
	}
	seen := map[string]string{}
	for _, p := range cfg.ports() {
		if other, ok := seen[p.address]; ok && p.address != "" {
			report(p.service, fmt.Errorf("%s is listened on twice, also for %s", p.address, other))
		}
		if !zeroPort(p.address) {
			seen[p.address] = p.service
		}
	}
}

// DirectoryFile is where accounts, domains and customers are.
func (cfg *Config) DirectoryFile() string { return filepath.Join(cfg.Data, "directory.db") }

// AdminSocket is where the command line talks to the running server.
func (cfg *Config) AdminSocket() string { return filepath.Join(cfg.Data, "run", "admin.sock") }

// SubmitSocket is where local programs submit mail by SMTP.
func (cfg *Config) SubmitSocket() string { return filepath.Join(cfg.Data, "run", "submit.sock") }

// KeyFolder is where the DKIM keys are.
func (cfg *Config) KeyFolder() string { return filepath.Join(cfg.Data, "dkim") }

// CAFile is the certificate of the CA that this site makes for itself when it is given no certificate.
func (cfg *Config) CAFile() string { return ownCA(cfg.tlsDir()) }

func (cfg *Config) tlsDir() string { return filepath.Join(cfg.Data, "tls") }

// ports are all addresses to listen on.
func (cfg *Config) ports() []port {
	var ports []port
	add := func(service string, tls bool, addresses []string) {
		for _, a := range addresses {
			ports = append(ports, port{service: service, network: "tcp", address: a, tls: tls})
		}
	}
	add("smtp", false, cfg.SMTP.Listen)
	add("submission", false, cfg.Submission.Listen)
	add("submission", true, cfg.Submission.ListenTLS)
	add("odmr", false, cfg.ODMR.Listen)
	add("odmr", true, cfg.ODMR.ListenTLS)
	add("pop3", false, cfg.POP3.Listen)
	add("pop3", true, cfg.POP3.ListenTLS)
	return append(ports, port{service: "local", network: "unix", address: cfg.SubmitSocket()})
}
