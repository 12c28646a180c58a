package dhcp4

import "time"

// rates bounds the packets a second from each port, so that one port cannot take every address or all of our time.
type rates struct {
	perSecond int // 0: no bound
	second    int64
	counts    map[string]int
}

// maxPorts bounds the ports that are told apart; the rest share one count.
const maxPorts = 4096

// take reports whether a packet may be looked at now.
func (r *rates) take(now time.Time, a *Arrival) bool {
	if r.perSecond <= 0 {
		return true
	}
	if s := now.Unix(); s != r.second || r.counts == nil {
		r.second, r.counts = s, make(map[string]int)
	}
	key := port(a)
	if _, ok := r.counts[key]; !ok && len(r.counts) >= maxPorts {
		key = ""
	}
	r.counts[key]++
	return r.counts[key] <= r.perSecond
}

// port names where a packet entered: the relay and its circuit and remote IDs (RFC 3046 §3.1: a circuit ID means nothing without its relay), or
// the interface.
func port(a *Arrival) string {
	if !given(a.Packet.GIAddr) {
		return "interface " + a.Link.Name
	}
	relay, _ := a.Packet.Get(RelayAgentInformation)
	return a.Packet.GIAddr.String() + " " + string(relay)
}
