package relay

import (
	"context"
	"time"

	"bothy/application/queue"
)

// worker serves one lane over one session at a time.
type worker struct {
	relay   *Relay
	lane    queue.Lane
	since   time.Time // when it was hired
	session *session  // nil: none open
	lost    int       // sessions in a row that ended before any message got an answer
	wake    chan bool // while idle: true, there is mail; false, leave
}

// maxLost sessions in a row without a single answer are the next hop's fault and not a message's.
const maxLost = 3

// run takes one message of the lane after the other until there is none and the session has been idle long enough, or until others
// need its place more. It takes nothing new once ctx has ended, and drops what is under way when hard ends.
func (w *worker) run(ctx, hard context.Context) {
	more := true
	defer func() {
		w.hangUp()
		w.relay.crew.leave(w, more)
	}()
	for ctx.Err() == nil && w.relay.runs(w.lane) {
		lease, err := w.relay.o.Queue.Lease(w.lane, "relay")
		switch {
		case err != nil:
			w.relay.o.Log.Error("queue gives no mail", "lane", w.lane, "err", err)
			time.AfterFunc(deadTime, func() { w.relay.crew.wake(w.lane) })
			more = false
			return
		case lease != nil:
			if !w.carry(ctx, hard, lease) || w.relay.crew.yield(w) {
				return
			}
		case w.session == nil || !w.idle(ctx):
			more = false
			return
		}
	}
}

// idle waits for mail with the session open, so that a burst pays for one handshake; false: leave.
func (w *worker) idle(ctx context.Context) bool {
	crew := &w.relay.crew
	if !crew.rest(w) {
		return true
	}
	timer := time.NewTimer(w.relay.set.Load().Idle)
	defer timer.Stop()
	var work bool
	select {
	case work = <-w.wake:
	case <-timer.C:
		if crew.tire(w) {
			return false
		}
		work = <-w.wake
	}
	if work {
		w.nudge(ctx)
	}
	return work
}

// nudge drops the session if the other end has tired of it: a message must not find that out.
func (w *worker) nudge(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, w.relay.set.Load().DialTimeout)
	defer cancel()
	if err := w.session.client.Noop(ctx); err != nil {
		w.drop()
	}
}

// carry brings one leased message to the next hop; where that cannot be reached, it defers the message and all behind it. False: w is
// of no use now, and the lane's mail stays due.
func (w *worker) carry(ctx, hard context.Context, lease *queue.Lease) bool {
	r := w.relay
	need := ordinary
	switch {
	case requiresTLS(&lease.Envelope) && (w.session == nil || !w.session.strict):
		if !w.connectStrictly(ctx, lease) {
			return true
		}
	case lease.Envelope.TLSOptional:
		need = loose
	case w.session != nil && w.session.loose:
		w.hangUp()
	}
	if w.session == nil {
		if f, until, ok := r.crew.mourned(w.lane, r.o.Now()); ok && fresh(lease) && !f.reply.Permanent() && need != loose {
			w.put(lease, f, until)
			return true
		}
		f := w.connect(ctx, need)
		switch {
		case w.session != nil:
		case f == nil: // neither the message's fault nor the next hop's
			lease.Release()
			return true
		case w.retreat(f):
			lease.Release()
			return false
		default:
			w.fail(ctx, hard, lease, f, need)
			return true
		}
	}
	r.crew.grow(w.lane, false)
	slow := time.AfterFunc(patience, func() { r.crew.grow(w.lane, true) })
	defer slow.Stop()
	w.send(hard, lease)
	return true
}

// connect opens a session, or says why there is none; nil without a session: we, or the link, broke it off.
func (w *worker) connect(ctx context.Context, need care) *failure {
	r := w.relay
	if w.lost == maxLost {
		w.lost = 0
		return later(4, 2, "%d sessions in a row were lost without an answer", maxLost)
	}
	flaps := r.flapsOf(w.lane)
	s, f := r.connect(ctx, w.lane, need)
	switch {
	case f == nil:
		w.meet(s)
	case ctx.Err() != nil || flaps != r.flapsOf(w.lane):
		return nil
	}
	return f
}

// connectStrictly opens a session for mail whose sender requires TLS. It serves other mail too; where there is none, that is this message's
// trouble alone.
func (w *worker) connectStrictly(ctx context.Context, lease *queue.Lease) bool {
	r := w.relay
	w.hangUp()
	flaps := r.flapsOf(w.lane)
	s, f := r.connect(ctx, w.lane, strict)
	switch {
	case f == nil:
		w.meet(s)
		return true
	case ctx.Err() != nil || flaps != r.flapsOf(w.lane):
		lease.Release()
	default:
		w.testify(f)
		w.put(lease, f, r.retry(w.lane, tries(lease), r.o.Rand()))
	}
	return false
}

// meet starts to use s.
func (w *worker) meet(s *session) {
	r := w.relay
	w.session = s
	r.crew.opened(w.lane)
	r.evidence(w.lane, true, s.remote+" answered")
	if r.crew.revive(w.lane) { // RFC 5321 §4.5.4.1: what waits for this host can now be sent
		r.o.Queue.Flush(w.lane)
	}
}

// retreat reports whether f says too little to put off a lane for it: others of its sessions are alive, so that w was one too many, or
// nobody answered, and that for the first time.
func (w *worker) retreat(f *failure) bool {
	r := w.relay
	if f.reply.Permanent() || !r.crew.blame(w.lane) && (!f.silent || !r.crew.doubt(w.lane, f)) {
		return false
	}
	r.o.Log.Info("next hop not reached, its mail stays due", "lane", w.lane, "reply", f.reply.Error())
	w.testify(f)
	return true
}

// testify tells the link what f shows of it.
func (w *worker) testify(f *failure) {
	if f.unreached || f.remote != "" {
		w.relay.evidence(w.lane, f.remote != "", f.reply.Text) // a refusal is an answer too
	}
}

// fail defers lease because the next hop cannot be used, and with it whatever else of the lane is due: one attempt a round is
// enough for all (RFC 5321 §4.5.4.1), but for those whose senders do not mind that there is no TLS as it should be: for them need says whether
// the attempt was theirs. What is permanent for the lane is so for each of its recipients.
func (w *worker) fail(ctx, hard context.Context, lease *queue.Lease, f *failure, need care) {
	r := w.relay
	r.o.Log.Warn("next hop cannot be used", "lane", w.lane, "reply", f.reply.Error())
	w.testify(f)
	r.crew.mourn(w.lane, f, r.o.Now())
	jitter := r.o.Rand()
	for lease != nil {
		if f.insecure() && lease.Envelope.TLSOptional && need != loose {
			w.carry(ctx, hard, lease)
		} else {
			w.put(lease, f, r.retry(w.lane, tries(lease), jitter))
		}
		if ctx.Err() != nil || !r.runs(w.lane) {
			return
		}
		var err error
		if lease, err = r.o.Queue.Lease(w.lane, "relay"); err != nil {
			return // run finds the same error and says so
		}
	}
}

// tries counts this attempt with those before it.
func tries(lease *queue.Lease) int {
	most := 0
	for _, n := range lease.Attempts {
		most = max(most, n)
	}
	return most + 1
}

// fresh reports whether none of lease's recipients was ever tried.
func fresh(lease *queue.Lease) bool { return tries(lease) == 1 }

// hangUp ends the session, politely where the link allows.
func (w *worker) hangUp() {
	if w.session != nil && w.relay.runs(w.lane) {
		w.session.quit()
	}
	w.drop()
}

// drop ends the session without a further word: it is lost, or the link is, or all is said.
func (w *worker) drop() {
	if w.session != nil {
		w.session.conn.Close()
		w.session = nil
		w.relay.crew.shut(w.lane)
	}
}
