package odmr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"bothy/application/message"
	"bothy/application/message/convert"
	"bothy/application/queue"
	"bothy/application/sasl"
	"bothy/application/smtp"
)

// reversed is the reversed state (RFC 2645 §5.3): the customer greets, and the provider sends what waits for the domains it was
// asked for until nothing does, and to a customer that lingers what comes then. Whatever surprises it ends the session and leaves
// everything in doubt where it was. That nothing stood behind ATRN is proven: smtp.Server does so before it sends the 250.
func (s *session) reversed(ctx context.Context) error {
	s.provider.observe(Event{What: Turned, Account: s.account, Reply: replyTurn})
	s.stage.Store(int32(StateSending))
	// fetchmail with implicit TLS sees one line of a TLS record only; it always logs in with CRAM-MD5, and hardly anybody else does.
	s.conn.LinePerWrite = s.implicit && strings.EqualFold(s.mechanism, sasl.CRAMMD5)

	client := smtp.NewClient(s.conn, s.provider.Hostname, s.provider.Config.timeouts())
	client.Deflate = true              // only a site of ours offers it, and who it is is known
	work := context.WithoutCancel(ctx) // a message under way is finished
	if err := client.Greet(work); err != nil {
		return fmt.Errorf("odmr: customer %s did not greet: %w", s.account, err)
	}
	s.afford(client, s.customer)
	defer s.ledger.release()
	err := s.send(ctx, client)
	if err == nil {
		defer s.known.leave(s)
		err = s.learn(ctx, client)
	}
	if err == nil && s.linger > 0 {
		s.provider.sessions().listen(s)
		defer s.follow(ctx)()
		err = s.stay(ctx, client)
	}
	if errors.Is(err, errClosing) && s.linger > 0 && State(s.stage.Load()) == StateLingering {
		s.log.Info("call ended by the customer", "account", s.account, "messages", s.messages.Load(), "why", err)
		return nil
	}
	if err != nil && !errors.Is(err, errQueue) && !errors.Is(err, errNoLonger) {
		return err
	}
	s.log.Info("call served", "account", s.account, "messages", s.messages.Load())
	return errors.Join(err, client.Quit(work))
}

// errQueue says that the fault is ours: the customer hears QUIT all the same.
var errQueue = errors.New("odmr: queue does not answer")

// window is how many messages are under way at once at most, with SendMany's bound of their octets: the waits of a long link are filled,
// and no more is in doubt after a cut.
const window = 64

// send sends all that is due, and then again what needs a transaction of its own. An error ends the session.
func (s *session) send(ctx context.Context, client *smtp.Client) error {
	for {
		apart := len(s.apart)
		if err := s.sendDue(ctx, client); err != nil || len(s.apart) == apart {
			return err
		}
	}
}

// sendDue sends what is due, one message behind the other.
func (s *session) sendDue(ctx context.Context, client *smtp.Client) error {
	_, keeps := client.Has(smtp.KeywordOffset)
	b := &batch{session: s, client: client, line: &line{
		queue: s.provider.Queue, account: s.account, domains: s.domains, keeps: keeps, heads: make([]*queue.Lease, len(s.domains)),
	}}
	defer b.line.release()
	if b.next(ctx); b.message == nil {
		return b.err
	}
	s.stage.Store(int32(StateSending))
	err := client.SendMany(context.WithoutCancel(ctx), func(yield func(smtp.Outgoing) bool) {
		for ; b.message != nil; b.next(ctx) {
			if out, ok := b.outgoing(b.message); ok && !yield(out) {
				return
			}
		}
	}, window)
	if err = errors.Join(err, b.err); err != nil {
		return err
	}
	return s.tellHeldBack(ctx, client)
}

// batch is the messages of one send.
type batch struct {
	session *session
	client  *smtp.Client
	line    *line
	message *leased // the next; nil: none
	err     error   // nothing more is to be sent
	doubt   bool    // there is a message without a reply
}

func (b *batch) next(ctx context.Context) {
	b.message = nil
	if ctx.Err() != nil || b.err != nil || b.session.full || b.session.ledger.full() {
		return
	}
	if b.err = b.session.entitled(ctx); b.err != nil {
		return
	}
	var err error
	if b.message, err = b.line.next(); err != nil {
		b.err = fmt.Errorf("%w: %w", errQueue, err)
	}
}

// outgoing readies a message; ok is false if it stays here.
func (b *batch) outgoing(m *leased) (out smtp.Outgoing, ok bool) {
	s, env := b.session, m.envelope()
	r, kept := s.tooLarge(b.client, m)
	if !kept {
		r, kept = s.tooOpen(env)
	}
	if kept {
		b.fail(b.settle(m, same(r, len(env.Recipients)), nextCall))
		return out, false
	}
	if !s.ledger.takes(m) {
		return out, false
	}
	lease := m.leases[0]
	plan, err := convert.Fit(env.Body, b.client.Takes(), lease.Size, lease.Open) // RFC 6152 §3, RFC 3030 §3
	var body io.ReadCloser
	if err == nil {
		body, err = lease.Open()
	}
	if err != nil {
		s.log.Error("message cannot be read", "id", env.ID, "err", err)
		b.fail(b.settle(m, same(replyUnreadable, len(env.Recipients)), s.retry()))
		return out, false
	}
	source := &source{r: plan.Reader(body)}
	env.Body = plan.Body
	return smtp.Outgoing{
		Envelope: env, Body: source, Size: plan.Size, TransID: s.transaction(env), Tried: m.tries() > 0,
		Asked: func(i int, r smtp.Reply) {
			if a, ok := env.Recipients[i].Address.ASCII(); ok {
				s.provider.Known.answered(s.account, a, r, time.Now())
			}
		},
		Done: func(replies []smtp.Reply) {
			body.Close()
			b.done(m, source, replies)
		},
	}, true
}

// transaction names the transaction of a message for a site of ours: the same whenever it is sent, so that it goes on where the link broke, and
// does not come twice when the reply was lost (RFC 1845 §3). Recipients whom the site did not take with the others have one of their own, and so
// have those of a session for some of the account's domains: another one may have the same message for others of them at the same time.
func (s *session) transaction(env *message.Envelope) string {
	parts := []string{"odmr", s.account, env.ID.String(), env.Body.String()}
	if len(s.domains) < len(s.customer.Domains) {
		parts = append(parts, slices.Sorted(slices.Values(s.domains))...)
	}
	if s.apart[env.ID] {
		for _, to := range env.Recipients {
			parts = append(parts, to.Address.String())
		}
	}
	return smtp.TransID(s.provider.Hostname, parts...)
}

func (b *batch) fail(err error) { b.err = errors.Join(b.err, err) }

// done settles each recipient of a message by its own reply. Of several in doubt only the first was in the way of what did not come.
func (b *batch) done(m *leased, source *source, replies []smtp.Reply) {
	s := b.session
	lost := !slices.ContainsFunc(replies, func(r smtp.Reply) bool { return r.Code != 0 })
	switch {
	case source.err != nil:
		s.log.Error("message cannot be read", "id", m.leases[0].Envelope.ID, "err", source.err)
		replies = same(replyUnreadable, len(replies))
	case replies[0] == smtp.SessionFull: // RFC 9422 §4.1: the next session takes it
		m.release()
		s.full = true
		return
	case lost && b.doubt:
		m.release()
		return
	}
	b.doubt = b.doubt || lost
	b.fail(b.settle(m, replies, s.retry()))
	if slices.Contains(replies, smtp.NotOfTransaction) {
		if s.apart == nil {
			s.apart = map[message.ID]bool{}
		}
		s.apart[m.leases[0].Envelope.ID] = true
	}
	s.count(m, replies)
	for _, r := range replies {
		if r.Code == 421 && b.err == nil {
			b.fail(fmt.Errorf("%w: %w", errClosing, r))
		}
	}
}

// stay sends what comes the moment it is there, and NOOP in between, until the account's time is over or ctx ends.
func (s *session) stay(ctx context.Context, client *smtp.Client) error {
	quiet, noops := time.Now(), 0 // when the last message was sent, and the NOOPs since then
	for {
		sent := s.messages.Load()
		if err := s.send(ctx, client); err != nil {
			return err
		}
		if s.messages.Load() > sent {
			quiet, noops = time.Now(), 0
		}
		end := quiet.Add(s.linger)
		if ctx.Err() != nil || s.full || !time.Now().Before(end) || noops == maxNoops {
			return nil
		}
		if err := s.lighten(client); err != nil {
			return err
		}
		s.stage.Store(int32(StateLingering))
		noop := time.Now().Add(s.provider.Config.noopInterval())
		what, err := s.rest(sooner(noop, end))
		switch {
		case errors.Is(err, errClosing): // RFC 5321 §3.8: in order, for nothing is in flight
			return err
		case err != nil:
			return fmt.Errorf("odmr: customer %s left: %w", s.account, err)
		case s.entitled(ctx) != nil:
			return errNoLonger
		case what&ringAsk != 0:
			if err := s.learn(ctx, client); err != nil {
				return err
			}
		case what&ringSeat != 0, what == 0 && !time.Now().Before(noop):
			alive := s.noop
			if s.tag != "" {
				alive = s.learn // whether its list still holds: an answer is an answer
			}
			if err := alive(ctx, client); err != nil {
				return err
			}
			noops++
		}
	}
}

const (
	maxNoops    = 9           // in a row: Exim ends a session at the eleventh
	noopTimeout = time.Minute // a customer that does not answer NOOP within this is gone
)

// noop asks whether the customer is there. One that answers anything but 250 does not want to stay.
func (s *session) noop(ctx context.Context, client *smtp.Client) error {
	reply, err := client.Do(context.WithoutCancel(ctx), "NOOP", noopTimeout)
	switch {
	case err != nil:
		return fmt.Errorf("odmr: customer %s does not answer NOOP: %w", s.account, err)
	case reply.Code/100 != 2:
		return fmt.Errorf("%w: %w", errClosing, reply)
	}
	return nil
}

// lighten drops the connection's buffers, which are empty, for a session at rest.
func (s *session) lighten(client *smtp.Client) error {
	if err := s.conn.Turn(); err != nil { // nothing is outstanding, so nothing may have come
		return fmt.Errorf("odmr: customer %s: %w", s.account, err)
	}
	conn := smtp.NewConn(s.conn.Conn)
	conn.LinePerWrite = s.conn.LinePerWrite
	s.conn, client.Conn = conn, conn
	return nil
}

// errClosing says that the customer has announced that it closes the connection (RFC 5321 §3.8).
var errClosing = errors.New("odmr: customer is closing the connection")

// settle ends the leases of a message, as one, with what the replies mean, in their order. A recipient without a certain reply is due again
// at once: sending it again may make a duplicate, which RFC 1047 prefers to a loss. retry is for those refused for now.
func (b *batch) settle(m *leased, replies []smtp.Reply, retry time.Duration) error {
	s := b.session
	again := s.provider.now().Add(retry)
	progress := slices.ContainsFunc(replies, smtp.Reply.Positive)
	lease := s.provider.Queue.Join(m.leases...) // whatever the lanes: the sender is told once
	verdicts := make([]queue.Verdict, len(lease.Envelope.Recipients))
	for i := range verdicts {
		// The domain stands for its server in the notice to the sender: where the customer calls from is not the sender's business.
		to := &lease.Envelope.Recipients[i]
		verdicts[i] = verdict(replies[i], to.Address.Domain, again)
		_, verdicts[i].Tracks = b.client.Has("MTRK")
		switch v := &verdicts[i]; {
		case v.Done && b.client.OwesRelayed(&lease.Envelope, to):
			v.Action = queue.Relayed
		case progress && tooMany(v.Reply), v.Reply == smtp.NotOfTransaction && !s.apart[m.leases[0].Envelope.ID]:
			*v = queue.Verdict{}
		}
	}
	switch err := lease.Settle(verdicts); {
	case errors.Is(err, queue.ErrFenced): // somebody else decided meanwhile, such as the operator
		s.log.Warn("lease lost", "id", lease.Envelope.ID, "fence", lease.Fence)
	case err != nil:
		lease.Release()
		return err
	default:
		s.tell(lease, verdicts)
	}
	return nil
}

// tooMany says that the recipient would be welcome in a transaction with fewer (RFC 5321 §4.5.3.1.10).
func tooMany(r smtp.Reply) bool { return r.Code == 452 && r.Enhanced == [3]int{4, 5, 3} }

// retry is how long a recipient that was refused for now is left alone.
func (s *session) retry() time.Duration {
	if s.linger > 0 {
		return sameCall
	}
	return nextCall
}

// count notes a message that the customer has taken for anybody.
func (s *session) count(m *leased, replies []smtp.Reply) {
	if slices.ContainsFunc(replies, func(r smtp.Reply) bool { return r.Code/100 == 2 }) {
		s.messages.Add(1)
		s.octets.Add(m.leases[0].Size)
	}
}

// tell logs and reports what became of each recipient.
func (s *session) tell(lease *queue.Lease, verdicts []queue.Verdict) {
	for i, v := range verdicts {
		what := Deferred
		switch {
		case v.Done:
			what = Transferred
		case v.Failed:
			what = Failed
		case v.Reply.Code == 0:
			continue
		}
		to := lease.Envelope.Recipients[i].Address
		s.log.Info("recipient settled", "id", lease.Envelope.ID, "account", s.account, "recipient", to, "what", what, "reply", v.Reply.Error())
		s.provider.observe(Event{What: what, Account: s.account, ID: lease.Envelope.ID, Recipient: to, Reply: v.Reply})
	}
}

// replyUnreadable stands for the customer's replies when we cannot read our own message.
var replyUnreadable = smtp.Reply{Code: 451, Enhanced: [3]int{4, 3, 0}, Text: "message cannot be read from disk"}

// same is one reply for n recipients.
func same(r smtp.Reply, n int) []smtp.Reply { return slices.Repeat([]smtp.Reply{r}, n) }

// tooLarge returns the reply that keeps a message here that the customer does not take (RFC 1870 §4), where its account wants that. Without
// it smtp.Client refuses for the customer with 552 before a single octet is sent, and the sender gets a notice.
func (s *session) tooLarge(client *smtp.Client, m *leased) (r smtp.Reply, kept bool) {
	offered, _ := client.Has("SIZE")
	limit, err := strconv.ParseInt(offered, 10, 64)
	if size := m.leases[0].Size; s.keep && err == nil && limit > 0 && size > limit { // RFC 1870 §4: 0 is no limit
		text := fmt.Sprintf("message of %d octets, the customer takes %d: it waits", size, limit)
		return smtp.Reply{Code: 452, Enhanced: [3]int{4, 3, 4}, Text: text}, true
	}
	return smtp.Reply{}, false
}

// source reads a body and remembers whether it was the one that failed.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// tooOpen returns the reply that keeps a message here whose sender requires TLS with a server that has proved who it is (RFC 8689 §4.2.1), where
// none has. The customer may call for it.
func (s *session) tooOpen(env *message.Envelope) (r smtp.Reply, kept bool) {
	if !s.stranger || !env.RequireTLS || env.ReversePath.IsNull() { // RFC 8689 §5: notices go on without
		return smtp.Reply{}, false
	}
	return smtp.Reply{Code: 451, Enhanced: [3]int{4, 7, 10}, Text: "the customer's host proves nothing, which the sender requires: it waits"}, true
}
