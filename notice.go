package site

import (
	"context"
	"io"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"
)

// refusalNotice returns what tells the sender of a message that it was accepted and then refused for all of its recipients; nil: nobody is to be told.
func (s *Site) refusalNotice(env *message.Envelope, header []byte, refusal smtp.Reply, now time.Time) (*message.Envelope, []byte) {
	r := &queue.Report{Envelope: env, Header: header, Now: now}
	for _, to := range env.Recipients {
		r.Outcomes = append(r.Outcomes, queue.Outcome{Recipient: to, Reply: refusal})
	}
	notice, body := s.notices.Compose(r)
	if notice == nil {
		return nil, nil
	}
	content, _ := io.ReadAll(body) // from memory: there is no message to enclose
	return notice, content
}

// queueRefusalNotice is the same for recipients who were each refused in their own way, and queues it.
func (s *Site) queueRefusalNotice(ctx context.Context, env *message.Envelope, refused []queue.Outcome, header []byte) (told bool, err error) {
	notice, content := s.notices.Compose(&queue.Report{Envelope: env, Outcomes: refused, Header: header, Now: s.env.Now()})
	if notice == nil {
		return false, nil
	}
	defer content.Close()
	return true, s.spool.Accept(ctx, notice, content)
}
