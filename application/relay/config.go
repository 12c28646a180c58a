package relay

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// Config is how mail leaves. The zero value of each field means its default.
type Config struct {
	Username string `doc:"Name to log in with at the smarthost; empty: no login. It is shown to no other server."`
	Password string `doc:"Password for it." secret:"true"`
	TLS      string `doc:"To the smarthost: \"required\" is TLS with a verified certificate (RFC 8314 §3.3: implicit on port 465, else STARTTLS), \"opportunistic\" takes what is offered, \"none\" sends mail readable by everybody on the way." default:"required" oneof:"required opportunistic none"`
	ViaTLS   string `doc:"The same for the next hops of route.via, without any login." default:"opportunistic" oneof:"required opportunistic none"`
	CAFile   string `doc:"PEM file of further certificate authorities for the smarthost and via."`

	DNS []string `doc:"DNS servers, address or address:port; empty: those of /etc/resolv.conf, as it is at the moment." example:"192.0.2.53"`

	// RFC 5321 §4.5.4.1: the parameters to the retry algorithm must be configurable.
	FirstRetry time.Duration `doc:"Wait after the first failed attempt; it doubles each time (RFC 5321 §4.5.4.1 advises 30m)." default:"5m" min:"10s"`
	LastRetry  time.Duration `doc:"Longest wait between attempts." default:"4h" min:"1m"`

	Connections          int           `doc:"Most connections in all." default:"50" min:"1"`
	SmarthostConnections int           `doc:"Most connections to one smarthost." default:"5" min:"1"`
	MXConnections        int           `doc:"Most connections for one domain." default:"5" min:"1"`
	Idle                 time.Duration `doc:"How long a connection stays open for further mail." default:"10s" min:"1s" max:"4m"`

	DialTimeout    time.Duration `doc:"Wait for a connection, and again for its TLS handshake." default:"30s" min:"1s"`
	CommandTimeout time.Duration `doc:"Wait for the greeting and the reply to each command (RFC 5321 §4.5.3.2.1 to §4.5.3.2.3: 5m)." default:"5m" min:"1s"`
	DataTimeout    time.Duration `doc:"Wait for each block of a message to leave (RFC 5321 §4.5.3.2.5: 3m)." default:"3m" min:"1s"`
	DoneTimeout    time.Duration `doc:"Wait for the reply to a whole message; cut it short and messages are doubled (RFC 5321 §4.5.3.2.6: 10m)." default:"10m" min:"1m"`
	Grace          time.Duration `doc:"At a stop, how long a message under way may take to finish." default:"10s"`
}

// How a connection is secured.
const (
	tlsRequired      = "required"
	tlsOpportunistic = "opportunistic"
	tlsNone          = "none"
)

// CheckConfig reports what is wrong with cfg, by key. It reads CAFile.
func (cfg *Config) CheckConfig(report func(key string, err error)) {
	for key, mode := range map[string]string{"tls": cfg.TLS, "via_tls": cfg.ViaTLS} {
		switch mode {
		case "", tlsRequired, tlsOpportunistic, tlsNone:
		default:
			report(key, fmt.Errorf("%q is none of \"required\", \"opportunistic\" and \"none\"", mode))
		}
	}
	if (cfg.Username == "") != (cfg.Password == "") {
		report("password", errors.New("username and password go together"))
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
func (cfg Config) RetryAfter(attempts int) time.Duration {
	cfg = cfg.withDefaults()
	wait := cfg.FirstRetry
	for range attempts - 1 {
		if wait >= cfg.LastRetry/2 {
			return cfg.LastRetry
		}
		wait *= 2
	}
	return min(wait, cfg.LastRetry)
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
