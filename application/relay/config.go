package relay

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"bothy/application/queue"
	"bothy/lib/pin"
)

// Config is how mail leaves. The zero value of each field means its default.
type Config struct {
	Username string   `doc:"Name to log in with at the smarthost and its fallbacks; empty: no login. It is shown to no other server."`
	Password string   `doc:"Password for it." secret:"true"`
	TLS      string   `doc:"To the smarthost: \"required\" is TLS with a verified certificate (RFC 8314 §3.3: implicit on port 465, else STARTTLS), \"opportunistic\" takes what is offered, \"none\" sends mail readable by everybody on the way." default:"required" oneof:"required opportunistic none"`
	ViaTLS   string   `doc:"The same for the next hops of route.via and route.lan." default:"opportunistic" oneof:"required opportunistic none"`
	Pins     []string `doc:"SHA-256 of the smarthost's public key (SubjectPublicKeyInfo), in hexadecimal: where given, and tls is \"required\", the smarthost is who has one of these keys, and its name and authority do not matter. \"bothy join\" sets it." max:"10"`
	CAFile   string   `doc:"PEM file of further certificate authorities."`

	DNS []string `doc:"DNS servers, address or address:port; empty: those of /etc/resolv.conf, as it is at the moment." example:"192.0.2.53"`

	TrustAD bool   `doc:"The DNS servers check DNSSEC, and nobody can forge what they say on the way here: exchangers with TLSA records get mail over TLS with a certificate that fits those, or none (DANE, RFC 7672). A server on loopback is trusted without this."`
	MTASTS  string `toml:"mta_sts" doc:"Whether domains may demand verified TLS by a policy on a web server of theirs (RFC 8461)." default:"on" oneof:"on off"`

	// RFC 5321 §4.5.4.1: the parameters to the retry algorithm must be configurable.
	FirstRetry time.Duration `doc:"Wait after the first failed attempt; it doubles each time (RFC 5321 §4.5.4.1 advises 30m)." default:"5m" min:"10s"`
	LastRetry  time.Duration `doc:"Longest wait between attempts." default:"4h" min:"1m"`

	Connections          int           `doc:"Most connections in all; a fifth is kept for next hops that have none yet." default:"50" min:"1"`
	SmarthostConnections int           `doc:"Most connections to one smarthost, or to one server of route.via or route.lan. There are as many as its mail is worth and it bears: one more after each round of messages that went well, half as many after a failure." default:"5" min:"1"`
	MXConnections        int           `doc:"The same for the mail exchangers of one domain." default:"5" min:"1"`
	Idle                 time.Duration `doc:"How long a connection stays open for further mail." default:"10s" min:"1s" max:"4m"`

	NextHops map[string]NextHop `doc:"What is different for one next hop, named as in the routes (\"192.0.2.7:25\"), or for one domain whose mail goes to its exchangers (\"partner.example\"). What is not given holds as above."`

	DialTimeout    time.Duration `doc:"Wait for a connection, and again for its TLS handshake." default:"30s" min:"1s"`
	CommandTimeout time.Duration `doc:"Wait for the greeting and the reply to each command (RFC 5321 §4.5.3.2.1 to §4.5.3.2.3: 5m)." default:"5m" min:"1s"`
	DataTimeout    time.Duration `doc:"Wait for each block of a message to leave (RFC 5321 §4.5.3.2.5: 3m)." default:"3m" min:"1s"`
	DoneTimeout    time.Duration `doc:"Wait for the reply to a whole message; cut it short and messages are doubled (RFC 5321 §4.5.3.2.6: 10m)." default:"10m" min:"1m"`
	Grace          time.Duration `doc:"At a stop, how long a message under way may take to finish." default:"10s"`
}

// NextHop is what is different for one next hop; the zero value of each field means that nothing is.
type NextHop struct {
	Username    string        `doc:"Name to log in with."`
	Password    string        `doc:"Password for it." secret:"true"`
	Pins        []string      `doc:"As pins above." max:"10"`
	Protocol    string        `doc:"What it speaks: \"lmtp\" is for servers that put mail into mailboxes (RFC 2033); not on port 25." default:"smtp" oneof:"smtp lmtp"`
	TLS         string        `doc:"As tls above. For a domain it takes the place of what its TLSA records or MTA-STS policy demand; \"required\" means that the certificate must name the exchanger." oneof:"required opportunistic none"`
	Connections int           `doc:"Most connections." min:"1"`
	FirstRetry  time.Duration `doc:"Wait after the first failed attempt." min:"10s"`
	LastRetry   time.Duration `doc:"Longest wait between attempts." min:"1m"`
}

// protocolLMTP is what a next hop speaks that does not speak SMTP.
const protocolLMTP = "lmtp"

// How a connection is secured.
const (
	tlsRequired      = "required"
	tlsOpportunistic = "opportunistic"
	tlsNone          = "none"
)

var tlsModes = []string{tlsRequired, tlsOpportunistic, tlsNone}

// CheckConfig reports what is wrong with cfg, by key. It reads CAFile.
func (cfg *Config) CheckConfig(report func(key string, err error)) {
	for key, mode := range map[string]string{"tls": cfg.TLS, "via_tls": cfg.ViaTLS} {
		if mode != "" && !slices.Contains(tlsModes, mode) {
			report(key, fmt.Errorf("%q is none of \"required\", \"opportunistic\" and \"none\"", mode))
		}
	}
	if (cfg.Username == "") != (cfg.Password == "") {
		report("password", errors.New("username and password go together"))
	}
	for _, p := range cfg.Pins {
		if _, err := pin.Parse(p); err != nil {
			report("pins", err)
		}
	}
	for name, hop := range cfg.NextHops {
		key := fmt.Sprintf("next_hops.%q.", name)
		if (hop.Username == "") != (hop.Password == "") {
			report(key+"password", errors.New("username and password go together"))
		}
		if _, _, err := net.SplitHostPort(name); err != nil && hop.Username != "" {
			report(key+"username", errors.New("nobody logs in at mail exchangers: name a server, as host:port"))
		}
		if hop.TLS != "" && !slices.Contains(tlsModes, hop.TLS) {
			report(key+"tls", fmt.Errorf("%q is none of \"required\", \"opportunistic\" and \"none\"", hop.TLS))
		}
		for _, p := range hop.Pins {
			if _, err := pin.Parse(p); err != nil {
				report(key+"pins", err)
			}
		}
		if _, port, _ := net.SplitHostPort(name); hop.Protocol == protocolLMTP && (port == "" || port == "25") { // RFC 2033 §5
			report(key+"protocol", errors.New("LMTP is for a server named as host:port, and not for port 25"))
		}
		if first, last := cfg.retries(name); last < first {
			report(key+"last_retry", errors.New("shorter than first_retry"))
		}
	}
	if _, err := cfg.roots(); err != nil {
		report("ca_file", err)
	}
	for _, server := range cfg.DNS {
		if _, err := serverAddress(server); err != nil {
			report("dns", err)
		}
	}
	if c := cfg.withDefaults(); c.LastRetry < c.FirstRetry {
		report("last_retry", errors.New("shorter than first_retry"))
	}
}

// roots are the authorities a server's certificate may come from; nil: the system's alone.
func (cfg *Config) roots() (*x509.CertPool, error) {
	if cfg.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a host without any: the file's must do
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", cfg.CAFile)
	}
	return pool, nil
}

func (cfg Config) withDefaults() Config {
	cfg.TLS = cmp.Or(cfg.TLS, tlsRequired)
	cfg.ViaTLS = cmp.Or(cfg.ViaTLS, tlsOpportunistic)
	cfg.MTASTS = cmp.Or(cfg.MTASTS, "on")
	cfg.FirstRetry = cmp.Or(cfg.FirstRetry, 5*time.Minute)
	cfg.LastRetry = cmp.Or(cfg.LastRetry, 4*time.Hour)
	cfg.Connections = cmp.Or(cfg.Connections, 50)
	cfg.SmarthostConnections = cmp.Or(cfg.SmarthostConnections, 5)
	cfg.MXConnections = cmp.Or(cfg.MXConnections, 5)
	cfg.Idle = cmp.Or(cfg.Idle, 10*time.Second)
	cfg.DialTimeout = cmp.Or(cfg.DialTimeout, 30*time.Second)
	cfg.CommandTimeout = cmp.Or(cfg.CommandTimeout, 5*time.Minute)
	cfg.DataTimeout = cmp.Or(cfg.DataTimeout, 3*time.Minute)
	cfg.DoneTimeout = cmp.Or(cfg.DoneTimeout, 10*time.Minute)
	cfg.Grace = cmp.Or(cfg.Grace, 10*time.Second)
	return cfg
}

// RetryAfter returns how long a message waits after failed attempts (a count, 1 or more) before the next one: FirstRetry, doubling up
// to LastRetry. RFC 5321 §4.5.4.1 deviation: it advises at least 30 minutes; we start at 5, because greylisting and busy
// servers want no more, and behind the first doublings there is no difference.
func (cfg Config) RetryAfter(attempts int) time.Duration { return cfg.retryAfter("", attempts) }

// retryAfter is RetryAfter for the lane of a next hop.
func (cfg Config) retryAfter(lane queue.Lane, attempts int) time.Duration {
	wait, last := cfg.retries(lane.Name())
	for range attempts - 1 {
		if wait >= last/2 {
			return last
		}
		wait *= 2
	}
	return min(wait, last)
}

// retries are the first and the longest wait for a next hop.
func (cfg Config) retries(name string) (first, last time.Duration) {
	cfg = cfg.withDefaults()
	hop := cfg.NextHops[name]
	return cmp.Or(hop.FirstRetry, cfg.FirstRetry), cmp.Or(hop.LastRetry, cfg.LastRetry)
}

// connections is how many a lane may have.
func (cfg Config) connections(lane queue.Lane) int {
	most := cfg.SmarthostConnections
	if lane.Kind() == "mx" {
		most = cfg.MXConnections
	}
	return cmp.Or(cfg.NextHops[lane.Name()].Connections, most)
}

// serverAddress is a DNS server as host:port.
func serverAddress(server string) (string, error) {
	if addr, err := netip.ParseAddr(server); err == nil {
		return net.JoinHostPort(addr.String(), "53"), nil
	}
	if _, err := netip.ParseAddrPort(server); err != nil {
		return "", fmt.Errorf("%q is neither an address nor address:port", server)
	}
	return server, nil
}
