package odmr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"bothy/application/queue"
	"bothy/application/sasl"
	"bothy/application/smtp"
)

// reversed is the reversed state (RFC 2645 §5.3): the customer greets, and the provider sends what waits for the domains it was
// asked for until nothing does. Whatever surprises it ends the session and leaves everything in doubt where it was. That nothing
// stood behind ATRN is proven: smtp.Server does so before it sends the 250.
func (s *session) reversed(ctx context.Context) error {
	s.provider.observe(Event{What: Turned, Account: s.account, Reply: replyTurn})
	// fetchmail with implicit TLS sees one line of a TLS record only; it always logs in with CRAM-MD5, and hardly anybody else does.
	s.conn.LinePerWrite = s.implicit && strings.EqualFold(s.mechanism, sasl.CRAMMD5)

	client := smtp.NewClient(s.conn, s.provider.Hostname, s.provider.Config.timeouts())
	work := context.WithoutCancel(ctx) // a message under way is finished
	if err := client.Greet(work); err != nil {
		return fmt.Errorf("odmr: customer %s did not greet: %w", s.account, err)
	}
	defer s.release()
	messages := 0
	for ctx.Err() == nil {
		lease, err := s.next()
		if err != nil {
			return errors.Join(err, client.Quit(work))
		}
		if lease == nil {
			break
		}
		if err := s.transfer(work, client, lease); err != nil {
			return err
		}
		messages++
	}
	s.log.Info("call served", "account", s.account, "messages", messages)
	return client.Quit(work)
}

// maxLate bounds the messages a session puts off. They hold a lease and no body.
const maxLate = 64

// next leases the next message of the lanes that were asked for; nil when nothing is due there. What was tried before goes
// behind what was not: else a message too large for the minutes a bad link lasts would keep all others back for ever.
func (s *session) next() (*queue.Lease, error) {
	for {
		lease, err := s.lease()
		if err != nil {
			return nil, err
		}
		if lease != nil && (slices.Max(lease.Attempts) == 0 || len(s.late) == maxLate) {
			return lease, nil
		}
		if lease != nil {
			s.late = append(s.late, lease)
			continue
		}
		if len(s.late) == 0 {
			return nil, nil
		}
		i := smallest(s.late)
		lease = s.late[i]
		s.late = slices.Delete(s.late, i, i+1)
		return lease, nil
	}
}

// lease takes the oldest message of the first lane that has one.
func (s *session) lease() (*queue.Lease, error) {
	for _, d := range s.domains {
		lease, err := s.provider.Queue.Lease(lane(d), "odmr/"+s.account)
		if lease != nil || err != nil {
			return lease, err
		}
	}
	return nil, nil
}

func smallest(leases []*queue.Lease) (at int) {
	for i, l := range leases {
		if l.Size < leases[at].Size {
			at = i
		}
	}
	return at
}

// release gives back what was put off and did not get its turn.
func (s *session) release() {
	for _, l := range s.late {
		l.Release()
	}
}

// errClosing says that the customer has announced that it closes the connection (RFC 5321 §3.8).
var errClosing = errors.New("odmr: customer is closing the connection")

// transfer sends one message and settles each of its recipients by its own reply. An error ends the session.
func (s *session) transfer(ctx context.Context, client *smtp.Client, lease *queue.Lease) error {
	body, err := lease.Open()
	if err != nil {
		s.log.Error("message cannot be read", "id", lease.Envelope.ID, "err", err)
		return s.settle(lease, unreadable(len(lease.Envelope.Recipients)))
	}
	defer body.Close()
	source := &source{r: body}
	replies, err := client.Send(ctx, &lease.Envelope, source, lease.Size)
	if source.err != nil {
		s.log.Error("message cannot be read", "id", lease.Envelope.ID, "err", source.err)
		return errors.Join(err, s.settle(lease, unreadable(len(lease.Envelope.Recipients))))
	}
	if serr := s.settle(lease, replies); serr != nil || err != nil {
		return errors.Join(err, serr)
	}
	for _, r := range replies {
		if r.Code == 421 {
			return fmt.Errorf("%w: %w", errClosing, r)
		}
	}
	return nil
}

// settle ends the lease with what the replies mean. A recipient without a certain reply is due again at once: sending it again
// may make a duplicate, which RFC 1047 prefers to a loss.
func (s *session) settle(lease *queue.Lease, replies []smtp.Reply) error {
	now := s.provider.now()
	verdicts := make([]queue.Verdict, len(lease.Envelope.Recipients))
	for i := range min(len(verdicts), len(replies)) {
		verdicts[i] = verdict(replies[i], s.peer, now)
	}
	err := lease.Settle(verdicts)
	if errors.Is(err, queue.ErrFenced) { // somebody else decided meanwhile, such as the operator
		s.log.Warn("lease lost", "id", lease.Envelope.ID, "fence", lease.Fence)
		return nil
	}
	if err != nil {
		lease.Release()
		return err
	}
	s.tell(lease, verdicts)
	return nil
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

// unreadable stands for the customer's replies when we cannot read our own message.
func unreadable(n int) []smtp.Reply {
	replies := make([]smtp.Reply, n)
	for i := range replies {
		replies[i] = smtp.Reply{Code: 451, Enhanced: [3]int{4, 3, 0}, Text: "message cannot be read from disk"}
	}
	return replies
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
