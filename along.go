package site

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"bothy/application/odmr"
	"bothy/application/queue"
	"bothy/application/smtp"
)

// along is the mail for the smarthost that a call to the same host takes along.
type along struct {
	site     *Site
	provider string // host:port
}

// atSmarthost returns which of our smarthost and its fallbacks, as host:port, is at the provider, and the lane of its mail; false: none is.
func (cfg *Config) atSmarthost(provider string) (address string, lane queue.Lane, ok bool) {
	host, _, _ := net.SplitHostPort(provider)
	for _, address := range cfg.Route.Smarthosts() {
		if name, _, _ := net.SplitHostPort(address); strings.EqualFold(name, host) {
			return address, queue.Lane("smarthost/" + cfg.Route.Smarthost), true
		}
	}
	return "", "", false
}

// checkAlong says why a call cannot take mail along that is to.
func (cfg *Config) checkAlong(fetch odmr.CustomerConfig) error {
	if !fetch.Send {
		return nil
	}
	address, _, ok := cfg.atSmarthost(fetch.Provider)
	account := cmp.Or(cfg.Relay.NextHops[address].Username, cfg.Relay.Username)
	switch {
	case !ok:
		return fmt.Errorf("%s is not the host of route.smarthost: mail for another server does not go there", fetch.Provider)
	case fetch.TLS == "none" && cfg.Relay.TLS != "none":
		return errors.New("the call is in clear (tls), and mail for the smarthost is to go over TLS (relay.tls)")
	case account != "" && fetch.Username != "" && fetch.Username != account:
		return fmt.Errorf("the call logs in as %q, and mail for the smarthost goes as %q (relay.username): its senders may be refused to another account", fetch.Username, account)
	}
	return nil
}

// Waits implements odmr.Outward.
func (a along) Waits() bool {
	_, lane, ok := a.smarthost()
	if !ok {
		return false
	}
	_, all := a.site.spool.Waiting(lane)
	return all > 0
}

// Hold implements odmr.Outward.
func (a along) Hold() (release func()) {
	_, lane, ok := a.smarthost()
	out := a.site.relaying.Load()
	if !ok || out == nil {
		return func() {}
	}
	return out.Hold(lane)
}

// SendAlong implements odmr.Outward.
func (a along) SendAlong(ctx context.Context, client *smtp.Client) (taken int, err error) {
	address, lane, ok := a.smarthost()
	out := a.site.relaying.Load()
	if !ok || out == nil {
		return 0, nil
	}
	host, _, _ := net.SplitHostPort(address) // spelt as in the relay's own sessions: it is part of the names of transactions
	return out.SendAlong(ctx, client, lane, host)
}

func (a along) smarthost() (address string, lane queue.Lane, ok bool) {
	return a.site.current.Load().cfg.atSmarthost(a.provider)
}
