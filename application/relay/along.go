package relay

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"bothy/application/queue"
	"bothy/application/smtp"
)

// holds are the lanes whose mail somebody else is about to send, over a connection of his own: the relay opens none for them meanwhile.
type holds struct {
	mu    sync.Mutex
	lanes map[queue.Lane]int
}

func (h *holds) has(lane queue.Lane) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lanes[lane] > 0
}

// add changes how many hold a lane, and returns how many do now.
func (h *holds) add(lane queue.Lane, n int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lanes == nil {
		h.lanes = make(map[queue.Lane]int)
	}
	h.lanes[lane] += n
	if h.lanes[lane] > 0 {
		return h.lanes[lane]
	}
	delete(h.lanes, lane)
	return 0
}

// Hold keeps the relay from beginning to work on a lane until release is called, once. Who works on it already goes on: a lease is one's alone.
func (r *Relay) Hold(lane queue.Lane) (release func()) {
	r.holds.add(lane, 1)
	return sync.OnceFunc(func() {
		if r.holds.add(lane, -1) == 0 {
			r.crew.wake(lane)
		}
	})
}

// SendAlong sends what waits in lane over a session that somebody else has opened, secured and logged in on, and settles each recipient by its own reply, as
// over a session of the relay's. remote is the server's name, as in the lane. It takes what waits when it begins, what was deferred too. It leaves as they
// are messages whose senders require TLS that is not there, and all the rest where the server takes no more: it does not know MAIL, or its LIMITS are
// reached. When ctx ends, it finishes the message under way; who cannot wait for that closes the connection. taken counts the messages that the server
// has now, for some of their recipients at least. err says that the session is over; where it is nil, no transaction is open at the server.
func (r *Relay) SendAlong(ctx context.Context, client *smtp.Client, lane queue.Lane, remote string) (taken int, err error) {
	_, strict := client.Has("REQUIRETLS")
	s := &session{client: client, conn: client.Conn, remote: remote, known: true, strict: strict && client.Conn.TLS() != nil, limits: limitsOf(client)}
	r.o.Queue.Flush(lane)
	_, waiting := r.o.Queue.Waiting(lane)
	for ; waiting > 0 && ctx.Err() == nil && !s.full(); waiting-- {
		lease, err := r.o.Queue.Lease(lane, "call")
		if err != nil {
			r.o.Log.Error("queue gives no mail", "lane", lane, "err", err)
		}
		if lease == nil {
			break
		}
		if requiresTLS(&lease.Envelope) && !s.strict { // RFC 8689 §4.2.1: the relay may find better
			defer lease.Release() // and not again in this round
			continue
		}
		took, err := r.sendOne(ctx, s, lane, lease)
		if took {
			taken++
		}
		if err != nil {
			r.o.Log.Warn("session lost", "lane", lane, "remote", remote, "err", err)
			return taken, err
		}
	}
	if client.Open() {
		err = client.Reset(ctx)
	}
	return taken, err
}

// sendOne sends one message along. took says that the server has it for somebody, err that the session is over.
func (r *Relay) sendOne(ctx context.Context, s *session, lane queue.Lane, lease *queue.Lease) (took bool, err error) {
	flaps := r.flapsOf(lane)
	replies, err := r.transfer(context.WithoutCancel(ctx), s, lease)
	excused := err != nil && (ctx.Err() != nil || flaps != r.flapsOf(lane)) // the end of the session proves nothing
	if excused && !slices.ContainsFunc(replies, func(reply smtp.Reply) bool { return reply.Code != 0 }) {
		lease.Release()
		return false, err
	}
	if err == nil && !s.mailed && !slices.ContainsFunc(replies, func(reply smtp.Reply) bool { return !unknownCommand(reply) }) {
		r.o.Log.Warn("the server takes no mail here", "lane", lane, "remote", s.remote, "reply", replies[0].Error())
		lease.Release()
		s.spent = true
		return false, nil
	}
	s.spent = s.spent || slices.Contains(replies, smtp.RecipientsFull) || slices.Contains(replies, smtp.SessionFull) // RFC 9422 §4
	for _, reply := range replies {
		took = took || reply.Code/100 == 2
		if err == nil && reply.Code == closing && reply != smtp.SessionFull { // RFC 5321 §3.8
			err = reply
		}
	}
	r.settle(lane, lease, r.judge(lane, s, lease, replies, err, excused), slog.LevelInfo)
	return took, err
}

// unknownCommand reports whether a reply says that the server does not do that here (RFC 5321 §4.2.4): it is not about a message.
func unknownCommand(reply smtp.Reply) bool {
	return reply.Code == 500 || reply.Code == 502 || reply.Code == 503
}
