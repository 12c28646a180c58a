package site

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"bothy/application/authres"
	"bothy/application/checkpoint"
	"bothy/application/dsn"
	"bothy/application/mailbox"
	"bothy/application/message"
	"bothy/application/mtqp"
	"bothy/application/odmr"
	"bothy/application/pop3"
	"bothy/application/queue"
	"bothy/application/relay"
	"bothy/application/route"
	"bothy/application/submission"
	"bothy/control/dhcp4"
	"bothy/control/dhcp6"
	"bothy/control/hosts"
	"bothy/control/ra"
	"bothy/operational/link"
)

// Config is everything the file says: one table a service, each defined beside its code. Accounts, domains and customers are not here;
// they live in the directory and are changed with `bothy account` and `bothy customer`.
type Config struct {
	Hostname  string        `doc:"This server's name, in greetings, trace fields and its own certificate (RFC 5321 §2.3.5: a fully qualified domain name)." required:"true" example:"mail.clinic.example" reload:"restart"`
	Data      string        `doc:"Directory of everything that lasts: spool, mailboxes, directory, own certificate, sockets." default:"/var/lib/bothy" reload:"restart"`
	LogLevel  slog.Level    `doc:"What is logged: debug, info, warn or error." default:"info" oneof:"debug info warn error"`
	StopGrace time.Duration `doc:"At a stop, how long sessions may finish the message they are in." default:"10s" min:"1s" max:"10m"`

	PasswordIterations int `doc:"How often new passwords are hashed (PBKDF2, RFC 7677 §4): who steals the directory guesses slower, and each login with the password itself costs more. Passwords from before keep theirs until they are set anew." default:"10000" min:"4096" max:"1000000" reload:"restart"`

	TLS         TLSConfig             `toml:"tls" doc:"The certificate of all services."`
	Connections ListenLimits          `doc:"Bounds on the connections of each service."`
	SMTP        SMTPConfig            `toml:"smtp" doc:"The border: mail from other servers."`
	Submission  submission.Config     `doc:"Mail from the people of this site (RFC 6409)."`
	POP3        pop3.Config           `toml:"pop3" doc:"How people read their mail (RFC 1939)."`
	ODMR        odmr.ProviderConfig   `toml:"odmr" doc:"For a provider: mail held for customers who call (RFC 2645)."`
	Fetch       []odmr.CustomerConfig `doc:"For a site: the provider to call for its mail (RFC 2645). Several may be given, and all of them are called. \"[fetch]\" will do for one; \"bothy join\" writes it."`
	Route       route.Config          `doc:"Where mail for others goes."`
	Relay       relay.Config          `doc:"How mail leaves."`
	Authres     authres.Config        `doc:"Whether mail from outside is what it says it is: SPF, DKIM, DMARC (RFC 8601)."`
	Queue       queue.Config          `doc:"Mail that waits." reload:"restart"`
	MTQP        mtqp.Config           `toml:"mtqp" doc:"What became of a message, for who sent it (RFC 3885, 3887)." reload:"restart"`
	Checkpoint  checkpoint.Config     `doc:"Messages whose connection broke (RFC 1845)." reload:"restart"`
	Notices     dsn.Config            `doc:"What senders are told." reload:"restart"`
	Mailbox     mailbox.Config        `doc:"Mail that has arrived."`
	Metrics     MetricsConfig         `doc:"For Prometheus."`
	Link        link.Config           `doc:"What tells whether the uplink is up."`
	DHCP4       dhcp4.Config          `toml:"dhcp4" doc:"For a site: addresses for its hosts (RFC 2131), and where their mail is."`
	DHCP4Relay  dhcp4.RelayConfig     `toml:"dhcp4_relay" doc:"For a site whose hosts get their addresses from a server elsewhere (RFC 1542)."`
	DHCP4Client dhcp4.ClientConfig    `toml:"dhcp4_client" doc:"For a site: the address that its provider gives it over IPv4 (RFC 2131)."`
	DHCP6       dhcp6.Config          `toml:"dhcp6" doc:"For a site: addresses and prefixes for its hosts over IPv6 (RFC 9915), and where their mail is."`
	DHCP6Client dhcp6.ClientConfig    `toml:"dhcp6_client" doc:"For a site: the address, or prefix, that its provider gives it over IPv6 (RFC 9915)."`
	RA          ra.Config             `toml:"ra" doc:"For a site: links on which this host is the IPv6 router (RFC 4861 §6.2)."`
	Hosts       hosts.Config          `doc:"For a site: the names of those hosts."`
}

// CheckConfig reports what is wrong with cfg beyond its services' own checks, by key.
func (cfg *Config) CheckConfig(report func(key string, err error)) {
	switch _, err := message.ParseAddress("postmaster@" + cfg.Hostname); {
	case err != nil:
		report("hostname", fmt.Errorf("%q is not a domain name", cfg.Hostname))
	case !strings.Contains(cfg.Hostname, ".") && cfg.Hostname != "localhost": // RFC 5321 §2.3.5
		report("hostname", fmt.Errorf("%q is not fully qualified: give it whole, such as %q", cfg.Hostname, cfg.Hostname+".clinic.example"))
	}
	if cfg.Link.Source == "lease" && cfg.DHCP4Client.Interface == "" && cfg.DHCP6Client.Interface == "" {
		report("link.source", errors.New("no DHCP client is on: set dhcp4_client.interface or dhcp6_client.interface"))
	}
	if len(cfg.DHCP4.Interfaces) > 0 && len(cfg.DHCP4Relay.Interfaces) > 0 {
		report("dhcp4_relay.interfaces", errors.New("this host serves addresses itself: see dhcp4.interfaces"))
	}
	if cfg.Data == "" {
		report("data", errors.New("names no directory: give one such as \"/var/lib/bothy\""))
	}
	if (cfg.TLS.Certificate == "") != (cfg.TLS.Key == "") {
		report("tls.key", errors.New("certificate and key go together"))
	}
	if cfg.Relay.Username != "" && cfg.Route.Smarthost == "" {
		report("relay.username", errors.New("there is no smarthost to log in at: set route.smarthost"))
	}
	calls := map[string]bool{}
	for i, fetch := range cfg.Fetch {
		if name := callName(fetch); fetch.Provider != "" && calls[name] {
			report(fmt.Sprintf("fetch[%d].provider", i+1), fmt.Errorf("%s is called already, with the same account", fetch.Provider))
		}
		calls[callName(fetch)] = true
		if err := cfg.checkAlong(fetch); err != nil {
			report(fmt.Sprintf("fetch[%d].send", i+1), err)
		}
	}
	seen := map[string]string{}
	for _, l := range cfg.listens() {
		for i, address := range l.addresses {
			key := fmt.Sprintf("%s[%d]", l.key, i+1)
			if err := checkListen(address); err != nil {
				report(key, err)
			} else if other, twice := seen[address]; twice {
				report(key, fmt.Errorf("%s is listened on twice, also for %s", address, other))
			}
			if !zeroPort(address) {
				seen[address] = l.key
			}
		}
	}
}

// FetchConfig is one provider to call.
type FetchConfig = odmr.CustomerConfig

// callName tells providers apart, and accounts at the same one.
func callName(cfg odmr.CustomerConfig) string {
	return strings.TrimSpace(cfg.Username + " " + cfg.Provider)
}

// checkListen reports why nobody can listen at address.
func checkListen(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return fmt.Errorf("%q is not host:port or :port", address)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%q: the port is neither a number up to 65535 nor the name of a service", address)
	}
	if _, err := netip.ParseAddr(host); host == "" || err == nil {
		return nil
	}
	if _, err := message.ParseAddress("postmaster@" + host); err != nil || strings.Trim(host, "0123456789.") == "" {
		return fmt.Errorf("%q: the host is neither an IP address nor a name", address)
	}
	return nil
}

// CheckFiles reports what is wrong with the files that cfg names, by key. Only the server need be able to read them.
func (cfg *Config) CheckFiles(report func(key string, err error)) {
	if cfg.TLS.Certificate != "" && cfg.TLS.Key != "" {
		if _, err := readCertificate(cfg.TLS.Certificate); err != nil {
			report("tls.certificate", err)
		} else if _, err := tls.LoadX509KeyPair(cfg.TLS.Certificate, cfg.TLS.Key); err != nil {
			report("tls.key", err)
		}
	}
}

// DirectoryFile is where accounts, domains and customers are.
func (cfg *Config) DirectoryFile() string { return filepath.Join(cfg.Data, "directory.db") }

// SpoolDir is where mail waits.
func (cfg *Config) SpoolDir() string { return filepath.Join(cfg.Data, "spool") }

// AdminSocket is where the command line talks to the running server.
func (cfg *Config) AdminSocket() string { return filepath.Join(cfg.Data, "run", "admin.sock") }

// SubmitSocket is where local programs submit mail by SMTP.
func (cfg *Config) SubmitSocket() string { return filepath.Join(cfg.Data, "run", "submit.sock") }

// DropFolder is where local programs leave mail while the server is not running.
func (cfg *Config) DropFolder() string { return filepath.Join(cfg.Data, "drop") }

// KeyFolder is where the DKIM keys are.
func (cfg *Config) KeyFolder() string { return filepath.Join(cfg.Data, "dkim") }

// CAFile is the certificate of the CA that this site makes for itself when it is given no certificate.
func (cfg *Config) CAFile() string { return ownCA(cfg.tlsDir()) }

// CertificateFolder is where the CA and the certificate are that this site makes for itself.
func (cfg *Config) CertificateFolder() string { return cfg.tlsDir() }

func (cfg *Config) tlsDir() string { return filepath.Join(cfg.Data, "tls") }

// listening is one list of addresses.
type listening struct {
	key       string // of the configuration
	service   string
	tls       bool
	addresses []string
}

func (cfg *Config) listens() []listening {
	return []listening{
		{"smtp.listen", "smtp", false, cfg.SMTP.Listen},
		{"submission.listen", "submission", false, cfg.Submission.Listen},
		{"submission.listen_tls", "submission", true, cfg.Submission.ListenTLS},
		{"odmr.listen", "odmr", false, cfg.ODMR.Listen},
		{"odmr.listen_tls", "odmr", true, cfg.ODMR.ListenTLS},
		{"pop3.listen", "pop3", false, cfg.POP3.Listen},
		{"mtqp.listen", "mtqp", false, cfg.MTQP.Listen},
		{"pop3.listen_tls", "pop3", true, cfg.POP3.ListenTLS},
	}
}

// ports are all addresses to listen on.
func (cfg *Config) ports() []port {
	var ports []port
	for _, l := range cfg.listens() {
		for _, a := range l.addresses {
			ports = append(ports, port{service: l.service, network: "tcp", address: a, tls: l.tls})
		}
	}
	return append(ports, port{service: "local", network: "unix", address: cfg.SubmitSocket()})
}
