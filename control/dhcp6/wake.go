package dhcp6

import (
	"time"

	"bothy/control/lease"
)

// The bounds of waking clients: RFC 9915 §7.6.
const (
	recTimeout = 2 * time.Second // REC_TIMEOUT
	recMaxRC   = 8               // REC_MAX_RC

	wakesASecond = 200 // Reconfigure messages: each of them is answered, and all those bindings are synced
)

// wakes are the clients that are told of a new configuration and have not asked for it yet. It does no I/O and takes the time as an argument.
type wakes struct {
	waiting map[lease.ID]*wake
	second  int64
	sent    int // in that second
}

type wake struct {
	path  []byte
	due   time.Time
	rt    time.Duration
	count int
}

// begin wakes every client whose lease says how.
func (w *wakes) begin(now time.Time, leases []lease.Lease) {
	w.waiting = map[lease.ID]*wake{}
	for _, l := range leases {
		if l.Current(now) && len(l.Data) > 0 {
			w.waiting[l.Client] = &wake{path: l.Data, due: now}
		}
	}
}

// heard ends the waking of a client that sent what it was asked for (RFC 9915 §18.3.11).
func (w *wakes) heard(id lease.ID, t MessageType) {
	if len(w.waiting) > 0 && t == Renew {
		delete(w.waiting, id)
	}
}

// due calls send for each client that is due now.
func (w *wakes) due(now time.Time, send func(id lease.ID, path []byte)) {
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
		send(id, k.path)
	}
}
