package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Config chooses the source of one uplink's state.
type Config struct {
	Source    string        `doc:"What tells whether the uplink is up: \"always\" (it is never watched), \"probe\" (connect to the provider now and then) or \"lease\" (a DHCP client of ours has an address there)." default:"always" oneof:"always probe lease"`
	Address   string        `doc:"Where the probe connects: host:port of a service at the provider." example:"odmr.provider.example:366"`
	Interval  time.Duration `doc:"Between probes while the link is up. Services that use the link make probes rarer: what they see counts." default:"30s" min:"1s"`
	Timeout   time.Duration `doc:"Longest wait for the answer to a probe." default:"10s" min:"1s"`
	FailAfter int           `doc:"The link is down after so many failed probes in a row." default:"2" min:"1"`
	Greeting  bool          `doc:"Also wait for the first line the service sends. Needed behind a satellite modem that answers connections by itself; wrong for a port where the client speaks first, such as 465."`
	Metered   bool          `doc:"Octets on this link cost money: services send only what must be sent."`
}

// CheckConfig reports what is wrong with cfg, by key.
func (cfg *Config) CheckConfig(report func(key string, err error)) {
	switch cfg.Source {
	case "", "always", "lease":
	case "probe":
		if _, port, err := net.SplitHostPort(cfg.Address); err != nil || port == "" {
			report("address", fmt.Errorf("%q is not host:port", cfg.Address))
		}
	default:
		report("source", fmt.Errorf("%q is none of \"always\", \"probe\" and \"lease\"", cfg.Source))
	}
}

// Open returns the source cfg asks for; dial opens the probe's connections, and lease is what knows of the lease.
func (cfg Config) Open(dial func(ctx context.Context, network, address string) (net.Conn, error), lease Source) (Source, error) {
	var errs []error
	cfg.CheckConfig(func(key string, err error) { errs = append(errs, fmt.Errorf("link: %s: %w", key, err)) })
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	switch cfg.Source {
	case "lease":
		return lease, nil
	case "", "always":
		return AlwaysUp{}, nil
	}
	return &Probe{
		Dial: dial, Address: cfg.Address, Greeting: cfg.Greeting,
		Interval: cfg.Interval, Timeout: cfg.Timeout, FailAfter: cfg.FailAfter,
	}, nil
}
