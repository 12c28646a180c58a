package site

import (
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

// atSmarthost returns the lane of the mail that the provider takes as our smarthost or one of its fallbacks; false: it is neither.
func (cfg *Config) atSmarthost(provider string) (lane queue.Lane, ok bool) {
	host, _, _ := net.SplitHostPort(provider)
	for _, address := range cfg.Route.Smarthosts() {
		if name, _, _ := net.SplitHostPort(address); strings.EqualFold(name, host) {
			return queue.Lane("smarthost/" + cfg.Route.Smarthost), true
		}
	}
	return "", false
}

// checkAlong says why a call cannot take mail along that is to.
func (cfg *Config) checkAlong(fetch odmr.CustomerConfig) error {
	if !fetch.Send {
		return nil
	}
	switch _, ok := cfg.atSmarthost(fetch.Provider); {
	case !ok:
		return fmt.Errorf("%s is not the host of route.smarthost: mail for another server does not go there", fetch.Provider)
	case fetch.TLS == "none" && cfg.Relay.TLS != "none":
		return errors.New("the call is in clear (tls), and mail for the smarthost is to go over TLS (relay.tls)")
	}
	return nil
}

// Waits implements odmr.Outward.
func (a along) Waits() bool {
	lane, ok := a.lane()
	if !ok {
		return false
	}
	_, all := a.site.spool.Waiting(lane)
	return all > 0
}

// Hold implements odmr.Outward.
func (a along) Hold() (release func()) {
	lane, ok := a.lane()
	out := a.site.relaying.Load()
	if !ok || out == nil {
		return func() {}
	}
	return out.Hold(lane)
}

// SendAlong implements odmr.Outward.
func (a along) SendAlong(ctx context.Context, client *smtp.Client) (taken int, err error) {
	lane, ok := a.lane()
	out := a.site.relaying.Load()
	if !ok || out == nil {
		return 0, nil
	}
	host, _, _ := net.SplitHostPort(a.provider)
	return out.SendAlong(ctx, client, lane, host)
}

func (a along) lane() (queue.Lane, bool) { return a.site.current.Load().cfg.atSmarthost(a.provider) }
