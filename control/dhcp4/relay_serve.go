package dhcp4

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	"bothy/control/lease"
)

// Relay is the relay agent. Run it once.
type Relay struct {
	relay relay
	log   *slog.Logger

	mu     sync.Mutex
	stats  RelayStats
	second int64 // of the last line about a message that was not relayed
	lines  int   // in that second
}

// RelayStats are counters since NewRelay.
type RelayStats struct {
	Up      uint64 // requests, to servers
	Down    uint64 // replies, to clients
	Dropped map[Why]uint64
}

// NewRelay returns a relay agent.
func NewRelay(cfg RelayConfig, log *slog.Logger) *Relay {
	return &Relay{relay: relay{cfg, map[netip.Addr]*Link{}}, log: log, stats: RelayStats{Dropped: map[Why]uint64{}}}
}

// Stats returns the counters.
func (r *Relay) Stats() RelayStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.stats
	st.Dropped = maps.Clone(st.Dropped)
	return st
}

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
	r.mu.Lock()
	if a.Packet.Op == BootReply {
		r.stats.Down++
	} else {
		r.stats.Up++
	}
	r.mu.Unlock()
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
		r.log.Debug("relayed", "type", a.Packet.Type(), "to", d.AddrPort, "hops", b[3])
	}
}

// dropped counts a message that is not passed on and says why, unless there are too many.
func (r *Relay) dropped(a *Arrival, why Why) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Dropped[why]++
	if second := time.Now().Unix(); second != r.second {
		r.second, r.lines = second, 0
	}
	if r.lines++; r.lines <= whysASecond {
		r.log.Info("message not relayed", "why", string(why), "interface", a.Link.Name, "from", a.Source, "hardware", lease.ID(a.Packet.Hardware()).String())
	}
}
