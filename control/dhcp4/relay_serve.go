package dhcp4

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"bothy/control/lease"
	"bothy/control/tally"
)

// Relay is the relay agent. Run it once.
type Relay struct {
	relay relay
	log   *slog.Logger

	tally tally.Tally
	lines tally.Lines // about messages that were not relayed
}

// NewRelay returns a relay agent.
func NewRelay(cfg RelayConfig, log *slog.Logger) *Relay {
	return &Relay{relay: relay{cfg, map[netip.Addr]*Link{}}, log: log}
}

// Counts are the counters since NewRelay: every message that is relayed has been received, and is sent once, to however many servers.
func (r *Relay) Counts() tally.Counts { return r.tally.Counts() }

// Run relays what comes from the wire until ctx ends, and closes the wire.
func (r *Relay) Run(ctx context.Context, w Wire) error {
	stop := context.AfterFunc(ctx, func() { w.Close() })
	defer func() {
		if stop() {
			w.Close()
		}
	}()
	var p Packet
	for {
		batch, err := w.Receive()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("dhcp4: relay agent: %w", err)
		}
		for i := range batch {
			batch[i].Packet = &p
			r.handle(w, &batch[i].Arrival, batch[i].Raw)
		}
	}
}

// handle passes one message on.
func (r *Relay) handle(w Wire, a *Arrival, raw []byte) {
	if err := a.Packet.Parse(raw); err != nil || len(raw) > MaxSize {
		r.dropped(a, WhyMalformed)
		return
	}
	b, to, why := r.relay.pass(a, raw)
	if why != "" {
		r.dropped(a, why)
		return
	}
	r.send(w, a, b, to)
}

func (r *Relay) send(w Wire, a *Arrival, b []byte, to []Destination) {
	kind := a.Packet.Type().String()
	r.tally.Received(kind)
	sent := false
	for _, d := range to {
		err := w.Send(b, d)
		if err != nil && d.Hardware { // RFC 1542 §4.1.2: else by broadcast
			d.Hardware, d.AddrPort = false, netip.AddrPortFrom(limited, ClientPort)
			err = w.Send(b, d)
		}
		if err != nil {
			r.log.Warn("message not relayed", "to", d.AddrPort, "error", err)
			continue
		}
		r.log.Debug("relayed", "type", kind, "to", d.AddrPort, "hops", b[3])
		sent = true
	}
	if sent {
		r.tally.Sent(kind)
	}
}

// dropped counts a message that is not passed on and says why, unless there are too many.
func (r *Relay) dropped(a *Arrival, why Why) {
	r.tally.Dropped(string(why))
	ok, left := r.lines.Take(time.Now())
	if left > 0 {
		r.log.Info("more messages not relayed", "count", left)
	}
	if ok {
		r.log.Info("message not relayed", "why", string(why), "interface", a.Link.Name, "from", a.Source, "hardware", lease.ID(a.Packet.Hardware()).String())
	}
}
