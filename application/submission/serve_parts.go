package submission

import (
	"context"
	"io"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
)

// Policy is an Agent's smtp.Policy for whoever needs no more than a Directory.
type Policy struct {
	Directory Directory
}

func (p *Policy) agent() *Agent { return New(Options{Directory: p.Directory}) }

// Mail is Agent.Mail.
func (p *Policy) Mail(ctx context.Context, s *smtp.Session, env *message.Envelope) error {
	return p.agent().Mail(ctx, s, env)
}

// Rcpt is Agent.Rcpt.
func (p *Policy) Rcpt(ctx context.Context, s *smtp.Session, env *message.Envelope, to *message.Recipient) error {
	return p.agent().Rcpt(ctx, s, env, to)
}

// Acceptor is an Agent's smtp.Acceptor for whoever needs no more than a Directory.
type Acceptor struct {
	Next       smtp.Acceptor
	Directory  Directory
	Hostname   string
	HeaderSize int64
	Now        func() time.Time
}

// Accept is Agent.Accept.
func (a *Acceptor) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	o := Options{Config: Config{HeaderSize: a.HeaderSize}, Hostname: a.Hostname, Directory: a.Directory, Next: a.Next, Now: a.Now}
	return New(o).Accept(ctx, env, body)
}
