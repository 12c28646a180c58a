package relay

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"time"

	"bothy/application/message"
	"bothy/application/message/convert"
	"bothy/application/queue"
	"bothy/application/smtp"
)

// send brings one leased message over the open session and settles each recipient by its own reply.
func (w *worker) send(hard context.Context, lease *queue.Lease) {
	r, s := w.relay, w.session
	flaps, reused := r.flapsOf(w.lane), s.sent > 0
	w.introduce(hard, lease)
	replies, err := r.transfer(hard, s, lease)
	answered := slices.ContainsFunc(replies, func(reply smtp.Reply) bool { return reply.Code != 0 && reply.Code != closing })
	over := err != nil || slices.ContainsFunc(replies, func(reply smtp.Reply) bool { return reply.Code == closing })
	s.spent = s.spent || slices.Contains(replies, smtp.RecipientsFull) // RFC 9422 §4.3: of one session
	excused := hard.Err() != nil || flaps != r.flapsOf(w.lane)
	if over {
		w.drop()
	}
	if err != nil && excused && !slices.ContainsFunc(replies, func(reply smtp.Reply) bool { return reply.Code != 0 }) {
		lease.Release()
		return
	}
	if err != nil {
		r.evidence(w.lane, false, "session lost")
		r.o.Log.Warn("session lost", "lane", w.lane, "remote", s.remote, "id", lease.Envelope.ID, "err", err)
	}
	progress := slices.ContainsFunc(replies, func(reply smtp.Reply) bool { return reply.Code/100 == 2 })
	switch {
	case err != nil, over && !excused && !reused:
		r.crew.blame(w.lane)
	case progress:
		r.crew.praise(w.lane)
	}
	r.settle(w.lane, lease, r.judge(w.lane, s, lease, replies, err, over && (excused || reused)), slog.LevelInfo)
	w.reckon(answered, over)
}

// judge makes verdicts of the replies to a message that s was to take: lost is what ended the session, again says that its end proves nothing.
func (r *Relay) judge(lane queue.Lane, s *session, lease *queue.Lease, replies []smtp.Reply, lost error, again bool) []queue.Verdict {
	progress := slices.ContainsFunc(replies, func(reply smtp.Reply) bool { return reply.Code/100 == 2 })
	jitter := r.o.Rand()
	verdicts := make([]queue.Verdict, len(replies))
	for i, reply := range replies {
		if reply.Code == 0 {
			reply = later(4, 2, "the session with %s was lost: %v", s.remote, lost).reply
		}
		verdicts[i] = judgeReply(reply, about{
			smarthost: lane.Kind() != "mx",
			stranger:  !s.known && slices.Contains(r.set.Load().smarthosts, lane.Name()),
			progress:  progress,
			again:     again || reply == smtp.RecipientsFull || reply == smtp.SessionFull,
			retry:     r.retry(lane, lease.Attempts[i]+1, jitter),
			remote:    s.remote,
		})
		_, verdicts[i].Tracks = s.client.Has("MTRK")
		if verdicts[i].Done && s.client.OwesRelayed(&lease.Envelope, &lease.Envelope.Recipients[i]) {
			verdicts[i].Action = queue.Relayed
		}
	}
	return verdicts
}

// closing is the reply of a server that ends the session (RFC 5321 §3.8).
const closing = 421

// reckon decides what the last message means for the session and for the lane.
func (w *worker) reckon(answered, over bool) {
	switch {
	case answered:
		w.lost = 0
	case over:
		w.lost++
	}
	s := w.session
	if s != nil && (s.full() || s.second && w.relay.o.Now().Sub(s.opened) >= firstRest) { // the preferred one may be well again
		w.hangUp()
	}
}

// transfer sends the message in transactions of as many recipients as the server takes. A zero Reply stands for each recipient
// without a certain answer; err is not nil when the session is over.
func (r *Relay) transfer(ctx context.Context, s *session, lease *queue.Lease) ([]smtp.Reply, error) {
	all := lease.Envelope.Recipients
	replies := make([]smtp.Reply, len(all))
	rest := func(from int, reply smtp.Reply) {
		for i := from; i < len(all); i++ {
			replies[i] = reply
		}
	}
	content, err := convert.Fit(lease.Envelope.Body, s.client.Takes(), lease.Size, lease.Open) // RFC 6152 §3, RFC 3030 §3
	var signature []byte
	if err == nil {
		signature = r.signature(lease, content)
	}
	for from := 0; from < len(all) && err == nil; from += s.limits.recipients {
		if from > 0 && s.full() {
			rest(from, smtp.RecipientsFull)
			return replies, nil
		}
		to := min(from+s.limits.recipients, len(all))
		d := draft{lease: lease, content: content, signature: signature, recipients: all[from:to], apart: len(all) > s.limits.recipients}
		got, lost, failed := r.transact(ctx, s, d)
		copy(replies[from:to], got)
		if lost != nil {
			return replies, lost
		}
		err = failed
	}
	if err != nil {
		r.o.Log.Error("message cannot be read", "id", lease.Envelope.ID, "err", err)
		for i := range replies {
			if replies[i].Code == 0 {
				replies[i] = later(3, 0, "the message cannot be read from the queue").reply
			}
		}
	}
	return replies, nil
}

// signature is the DKIM-Signature fields of a message that was submitted here, over what will be sent. What cannot be signed goes without.
func (r *Relay) signature(lease *queue.Lease, content *convert.Plan) []byte {
	if r.o.Sign == nil || lease.Envelope.Account == "" {
		return nil
	}
	if fields, ok := r.begun.of(lease, content); ok {
		return fields
	}
	fields, err := r.o.Sign(func() (io.ReadCloser, error) {
		body, err := lease.Open()
		if err != nil {
			return nil, err
		}
		return fitted{content.Reader(body), body}, nil
	})
	if err != nil {
		r.o.Log.Warn("message not signed", "id", lease.Envelope.ID, "err", err)
		return nil
	}
	r.begun.keep(lease, content, fields)
	return fields
}

// fitted is a body as it will be sent.
type fitted struct {
	io.Reader
	io.Closer
}

// put gives every recipient of lease the same verdict: f's.
func (w *worker) put(lease *queue.Lease, f *failure, retry time.Time) {
	verdicts := make([]queue.Verdict, len(lease.Envelope.Recipients))
	for i := range verdicts {
		verdicts[i] = queue.Verdict{Failed: f.reply.Permanent(), Reply: f.reply, Remote: f.remote, Retry: retry}
	}
	w.relay.settle(w.lane, lease, verdicts, slog.LevelDebug) // the failure itself is in the log once
}

// settle hands the verdicts to the queue, and tells the log, deferrals at the level given, and whoever listens.
func (r *Relay) settle(lane queue.Lane, lease *queue.Lease, verdicts []queue.Verdict, deferred slog.Level) {
	id := lease.Envelope.ID
	recipients := slices.Clone(lease.Envelope.Recipients)
	if err := lease.Settle(verdicts); err != nil {
		r.o.Log.Error("verdicts not kept", "lane", lane, "id", id, "err", err)
		return
	}
	for i, v := range verdicts {
		r.record(lane, id, recipients[i].Address, v, deferred)
	}
}

func (r *Relay) record(lane queue.Lane, id message.ID, to message.Address, v queue.Verdict, deferred slog.Level) {
	log := r.o.Log.With("lane", lane, "id", id, "to", to, "remote", v.Remote, "reply", v.Reply.Error())
	switch {
	case v.Done:
		log.Info("recipient relayed")
	case v.Failed:
		log.Warn("recipient refused")
	default:
		log.Log(context.Background(), deferred, "recipient deferred", "until", v.Retry)
	}
	if r.o.Sent != nil {
		r.o.Sent(lane, id, to, v.Reply)
	}
}
