package odmr

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"bothy/application/smtp"
	"bothy/lib/pin"
)

// ProviderConfig is the service that holds mail and waits for customers to call for it.
type ProviderConfig struct {
	Listen     []string       `doc:"Addresses where customers call; 366 is the port of On-Demand Mail Relay (RFC 2645 §4). Empty: nowhere." example:":366"`
	ListenTLS  []string       `toml:"listen_tls" doc:"Addresses where customers call with TLS from the first octet, as RFC 8314 §3 advises for other mail protocols. No port is registered for it; customers of this program that are invited are sent here (bothy customer add). Who names an application protocol (ALPN) must name \"odmr\" or \"smtp\"." example:":10366"`
	RequireTLS bool           `toml:"require_tls" doc:"Take no login before TLS. This deviates from RFC 2645 §5.1.1 and keeps out customers that know neither STARTTLS nor TLS from the start, such as fetchmail on the plain port."`
	Networks   []netip.Prefix `doc:"Networks customers may call from (RFC 2645 §8). Empty: everywhere." example:"192.0.2.0/24"`
	TakeMail   bool           `toml:"take_mail" doc:"Take mail from customers too, once they have logged in and before ATRN, under the rules of the submission port: one connection carries both directions. Without it the answer to MAIL is 502 (RFC 2645 §5.4)."`
	OverQuota  string         `doc:"What is answered to more mail for a customer with as much waiting as may (bothy customer set --quota-bytes): \"later\", 452 4.2.2, so that the sending server keeps it, or \"refuse\", 552 5.2.2, so that the sender hears at once." default:"later" oneof:"later refuse"`

	DeadAfter time.Duration `doc:"When a customer calls while a session of its account is in the middle of something: how long nothing may have been heard there before that counts as dead and makes way, its mail with it. The newer call is answered within that time, or five seconds if that is longer; beside a session that is alive with 450 and the seconds to wait. A customer slower than a chunk of 64 KiB in that time wants more." default:"30s" min:"5s" max:"10m"`

	NoopInterval time.Duration `doc:"Between the NOOPs that keep a session that lingers alive, through the address translators on its way. At most nine in a row, then the session ends with QUIT and the customer calls again." default:"4m" min:"10s"`

	CommandTimeout  time.Duration `doc:"Wait for a customer's next command (RFC 5321 §4.5.3.2.7)." default:"5m" min:"5m"`
	GreetingTimeout time.Duration `doc:"Wait for the greeting of a customer whose connection was turned round (RFC 5321 §4.5.3.2.1)." default:"5m" min:"5m"`
	DataTimeout     time.Duration `doc:"Wait for the customer to take each buffer of a message (RFC 5321 §4.5.3.2.5)." default:"3m" min:"3m"`
	DoneTimeout     time.Duration `doc:"Wait for the reply to the end of a message (RFC 5321 §4.5.3.2.6)." default:"10m" min:"10m"`
}

// CheckConfig reports what is wrong with cfg, by key.
func (cfg *ProviderConfig) CheckConfig(report func(key string, err error)) {
	if cfg.NoopInterval >= 5*time.Minute {
		report("noop_interval", errors.New("customers end a session in which nothing comes for 5 minutes (RFC 5321 §4.5.3.2.7)"))
	}
}

// admits reports whether a peer may call.
func (cfg *ProviderConfig) admits(peer net.Addr) bool {
	if len(cfg.Networks) == 0 {
		return true
	}
	tcp, ok := peer.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, n := range cfg.Networks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// noopInterval is up to a tenth shorter than configured, so that customers who came together do not stay in step. A customer
// ends a session in which no command comes for 5 minutes (RFC 5321 §4.5.3.2.7).
func (cfg *ProviderConfig) noopInterval() time.Duration {
	d := cmp.Or(cfg.NoopInterval, 4*time.Minute)
	return d - time.Duration(rand.Float64()*0.1*float64(d))
}

func (cfg *ProviderConfig) timeouts() smtp.Timeouts {
	return smtp.Timeouts{
		Greeting: cfg.GreetingTimeout, Command: cfg.CommandTimeout, Mail: cfg.CommandTimeout, Rcpt: cfg.CommandTimeout,
		DataBlock: cfg.DataTimeout, DataDone: cfg.DoneTimeout,
	}
}

// CustomerConfig is the site that calls its provider for the mail of its domains.
type CustomerConfig struct {
	Provider    string   `doc:"Whom to call, as host:port; 366 is the port of On-Demand Mail Relay (RFC 2645 §4). Empty: nobody." example:"odmr.provider.example:366"`
	TLS         string   `toml:"tls" doc:"\"required\": STARTTLS, or no login; \"implicit\": TLS from the first octet; \"none\": everything in clear, which lets anybody on the way read the mail." default:"required" oneof:"required implicit none"`
	CAFile      string   `toml:"ca_file" doc:"PEM file of the authorities that may certify the provider. Empty: the system's."`
	Pins        []string `doc:"SHA-256 of the provider's public key (SubjectPublicKeyInfo), in hexadecimal: where given, the provider is who has one of these keys, and its name and authority do not matter. \"bothy join\" sets it." max:"10"`
	Username    string   `doc:"The account to log in with. Empty: this server's own certificate says who we are (EXTERNAL)."`
	Password    string   `secret:"true" doc:"Its password."`
	Certificate bool     `doc:"Log in with this server's own certificate (EXTERNAL) where the provider offers that, and with the password where it does not take it: two round trips less for each call. Without a username it is so anyway. \"bothy join\" sets it."`

	Domains  []string `doc:"Domains to ask for, and to take mail for. Empty: all that the account has (RFC 2645 §5.2.1), of which those are taken that are local here and that no other table asks for by name." max:"100" example:"clinic.example"`
	Verdicts string   `doc:"Whose findings on its mail are believed (authserv-id, RFC 8601 §2.5). Empty: those of provider's host, in the field that it alone can have written; a name given here is believed wherever it stands, so its provider must remove forged fields." example:"mx.provider.example"`

	Budget   int64 `unit:"bytes" doc:"Most mail to take in one call, where octets cost money; what is left waits at the provider, and a digest says what it is. 0: any number." default:"0" min:"0"`
	Compress bool  `doc:"Let a provider of our kind compress each message on its way here (DEFLATE, by itself, so that one tells nothing of another). For links below some 10 Mbit/s; others take no notice." default:"true"`
	Largest  int64 `unit:"bytes" doc:"Largest message to take in a call; larger ones wait likewise. 0: any." default:"0" min:"0"`

	Send bool `doc:"Take mail for the smarthost along, where that is this provider: what waits for it when a call begins goes over the same connection, before ATRN, if the provider takes mail there (odmr.take_mail of a provider of our kind). What comes later goes to the smarthost's port as ever."`

	Interval      time.Duration `doc:"Between calls, give or take a tenth. A call is also made when the link comes up." default:"10m" min:"10s"`
	DialTimeout   time.Duration `doc:"Wait for the connection, and for the TLS handshake." default:"1m" min:"1s"`
	AnswerTimeout time.Duration `doc:"Wait for the answer to ATRN (RFC 2645 §5.2.1: at least 10 minutes)." default:"10m" min:"10m"`
	Limits        smtp.Limits   `doc:"Bounds of the turned session, in which the provider sends."`
}

// CheckConfig reports what is wrong with cfg, by key.
func (cfg *CustomerConfig) CheckConfig(report func(key string, err error)) {
	if host, port, err := net.SplitHostPort(cfg.Provider); cfg.Provider != "" && (err != nil || host == "" || port == "") {
		report("provider", fmt.Errorf("%q is not host:port", cfg.Provider))
	} else if n, err := net.LookupPort("tcp", port); err != nil || n == 0 && port != "" {
		report("provider", fmt.Errorf("%q: the port is neither a number from 1 to 65535 nor the name of a service", cfg.Provider))
	}
	switch cfg.TLS {
	case "", "required", "implicit", "none":
	default:
		report("tls", fmt.Errorf("%q is none of \"required\", \"implicit\", \"none\"", cfg.TLS))
	}
	if cfg.Username != "" && cfg.Password == "" {
		report("password", errors.New("there is a username and no password"))
	}
	for _, p := range cfg.Pins {
		if _, err := pin.Parse(p); err != nil {
			report("pins", err)
		}
	}
	for _, d := range cfg.Domains {
		if !isDomain(d) {
			report("domains", fmt.Errorf("%q is not a domain with a dot, in ASCII (RFC 2645 §5.2.1)", d))
		}
	}
	if line := atrn(cfg.Domains); len(line) > maxCommand { // RFC 5321 §4.5.3.1.4
		report("domains", fmt.Errorf("ATRN would be a line of %d octets, of at most %d: leave the list empty to get all", len(line), maxCommand))
	}
}

// CheckFiles reports what is wrong with the files that cfg names, by key.
func (cfg *CustomerConfig) CheckFiles(report func(key string, err error)) {
	if _, err := cfg.roots(); err != nil {
		report("ca_file", err)
	}
}

// roots are the authorities that may certify the provider; nil: the system's.
func (cfg *CustomerConfig) roots() (*x509.CertPool, error) {
	if cfg.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", cfg.CAFile)
	}
	return pool, nil
}

// check is CheckConfig as one error.
func (cfg *CustomerConfig) check() error {
	var errs []error
	cfg.CheckConfig(func(key string, err error) { errs = append(errs, fmt.Errorf("%s: %w", key, err)) })
	if cfg.Provider == "" {
		errs = append(errs, errors.New("provider: nobody to call"))
	}
	return errors.Join(errs...)
}

// domains are those to ask for, as the mail path compares them.
func (cfg *CustomerConfig) domains() []string {
	lower := make([]string, len(cfg.Domains))
	for i, d := range cfg.Domains {
		lower[i] = strings.ToLower(d)
	}
	return lower
}
