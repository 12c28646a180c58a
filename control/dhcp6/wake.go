package dhcp6

import (
	"maps"
	"time"

	"bothy/control/lease"
)

// The bounds of waking clients: RFC 9915 §7.6.
const (
	recTimeout = 2 * time.Second // REC_TIMEOUT
	recMaxRC   = 8               // REC_MAX_RC

	wakesASecond = 200 // Reconfigure messages: each of them is answered, and all those bindings are synced

	maxStateless = 4096 // clients without a lease that are remembered; those beyond ask by themselves when it is time (§21.23)
	sweepEvery   = time.Minute
)

// wakes are the clients that are told of a new configuration and have not asked for it yet, and those without a lease that could be. It does no
// I/O and takes the time as an argument.
type wakes struct {
	waiting   map[lease.ID]*wake
	stateless map[lease.ID]stateless
	swept     time.Time // stateless, of who is gone
	second    int64
	sent      int // in that second
}

type wake struct {
	kind  MessageType // that the client is to send
	path  []byte
	due   time.Time
	rt    time.Duration
	count int
}

// stateless is a client whose Information-request was answered with a key. The memory of the process must do: what it forgets is told at the client's
// next refresh.
type stateless struct {
	path  []byte
	until time.Time // it has asked again by then, or is gone
}

// remember notes that a client without a lease takes Reconfigure messages, until a time.
func (w *wakes) remember(now time.Time, id lease.ID, path []byte, until time.Time) {
	if now.Sub(w.swept) >= sweepEvery {
		w.swept = now
		maps.DeleteFunc(w.stateless, func(_ lease.ID, s stateless) bool { return !now.Before(s.until) })
	}
	if _, known := w.stateless[id]; !known && len(w.stateless) >= maxStateless {
		return
	}
	if w.stateless == nil {
		w.stateless = map[lease.ID]stateless{}
	}
	w.stateless[id] = stateless{path, until}
}

// begin wakes every client whose lease says how, and those without a lease that are remembered.
func (w *wakes) begin(now time.Time, leases []lease.Lease) {
	w.waiting = map[lease.ID]*wake{}
	for id, s := range w.stateless {
		if now.Before(s.until) {
			w.waiting[id] = &wake{kind: InformationRequest, path: s.path, due: now}
		}
	}
	for _, l := range leases { // who has a lease too learns everything when it renews
		if l.Current(now) && len(l.Data) > 0 {
			w.waiting[l.Client] = &wake{kind: Renew, path: l.Data, due: now}
		}
	}
}

// heard ends the waking of a client that sent what it was asked for (RFC 9915 §18.3.11).
func (w *wakes) heard(id lease.ID, t MessageType) {
	if k := w.waiting[id]; k != nil && k.kind == t {
		delete(w.waiting, id)
	}
}

// due calls send for each client that is due now, with the message that it is to send.
func (w *wakes) due(now time.Time, send func(id lease.ID, kind MessageType, path []byte)) {
	if s := now.Unix(); s != w.second {
		w.second, w.sent = s, 0
	}
	for id, k := range w.waiting {
		switch {
		case now.Before(k.due):
			continue
		case k.count == recMaxRC:
			delete(w.waiting, id)
			continue
		case w.sent >= wakesASecond:
			return
		}
		if k.rt *= 2; k.rt == 0 {
			k.rt = recTimeout
		}
		k.due, k.count, w.sent = now.Add(k.rt), k.count+1, w.sent+1
		send(id, k.kind, k.path)
	}
}
