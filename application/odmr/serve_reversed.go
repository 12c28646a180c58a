package odmr

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	line := &line{queue: s.provider.Queue, account: s.account, domains: s.domains, heads: make([]*queue.Lease, len(s.domains))}
	defer line.release()
	messages := 0
	for ctx.Err() == nil {
		m, err := line.next()
		if err != nil {
			return errors.Join(err, client.Quit(work))
		}
		if m == nil {
			break
		}
		if err := s.transfer(work, client, m); err != nil {
			return err
		}
		messages++
	}
	s.log.Info("call served", "account", s.account, "messages", messages)
	return client.Quit(work)
}

// errClosing says that the customer has announced that it closes the connection (RFC 5321 §3.8).
var errClosing = errors.New("odmr: customer is closing the connection")

// transfer sends one message and settles each of its recipients by its own reply. An error ends the session.
func (s *session) transfer(ctx context.Context, client *smtp.Client, m *leased) error {
	env := m.envelope()
	body, err := m.leases[0].Open()
	if err != nil {
		s.log.Error("message cannot be read", "id", env.ID, "err", err)
		return s.settle(m, unreadable(len(env.Recipients)))
	}
	defer body.Close()
	source := &source{r: body}
	replies, err := client.Send(ctx, env, source, m.leases[0].Size)
	if source.err != nil {
		s.log.Error("message cannot be read", "id", env.ID, "err", source.err)
		replies = unreadable(len(env.Recipients))
	}
	if err = errors.Join(err, s.settle(m, replies)); err != nil {
		return err
	}
	for _, r := range replies {
		if r.Code == 421 {
			return fmt.Errorf("%w: %w", errClosing, r)
		}
	}
	return nil
}

// settle ends the leases of a message with what the replies mean, in their order. A recipient without a certain reply is due again
// at once: sending it again may make a duplicate, which RFC 1047 prefers to a loss.
func (s *session) settle(m *leased, replies []smtp.Reply) error {
	now := s.provider.now()
	var errs []error
	for _, lease := range m.leases {
		verdicts := make([]queue.Verdict, len(lease.Envelope.Recipients))
		for i := range verdicts {
			// The domain stands for its server in the notice to the sender: where the customer calls from is not the sender's business.
			domain := lease.Envelope.Recipients[i].Address.Domain
			verdicts[i], replies = verdict(replies[0], domain, now), replies[1:]
		}
		switch err := lease.Settle(verdicts); {
		case errors.Is(err, queue.ErrFenced): // somebody else decided meanwhile, such as the operator
			s.log.Warn("lease lost", "id", lease.Envelope.ID, "fence", lease.Fence)
		case err != nil:
			lease.Release()
			errs = append(errs, err)
		default:
			s.tell(lease, verdicts)
		}
	}
	return errors.Join(errs...)
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
