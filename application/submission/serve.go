package submission

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
)

// Directory knows who may send as whom; directory.Directory is one. Domains are asked for as A-labels.
type Directory interface {
	MaySend(account string, a message.Address) bool
}

// Anyone is a Directory in which everybody may send as anybody: for a Config with AnySender, and for local users who are trusted.
type Anyone struct{}

// MaySend is true.
func (Anyone) MaySend(string, message.Address) bool { return true }

// Policy decides on MAIL and RCPT; it is an smtp.Policy.
type Policy struct {
	Directory Directory
}

// Mail refuses a sender the account has no right to. The null reverse-path is everybody's (RFC 6409 §3.2).
func (p *Policy) Mail(_ context.Context, s *smtp.Session, env *message.Envelope) error {
	switch {
	case s.Identity == "": // RFC 6409 §4.3
		return smtp.Reply{Code: 530, Enhanced: [3]int{5, 7, 0}, Text: "authentication required"}
	case env.ReversePath.IsNull():
		return nil
	case !isQualified(env.ReversePath): // RFC 6409 §4.2
		return smtp.Reply{Code: 554, Enhanced: [3]int{5, 1, 8}, Text: "the sender's domain is not fully qualified"}
	case !maySend(p.Directory, s.Identity, env.ReversePath): // RFC 6409 §6.1
		return notYours(env.ReversePath, s.Identity)
	}
	return nil
}

// Rcpt lets an authenticated account write to everybody whose domain is a whole one, and to <Postmaster> (RFC 5321 §4.5.1).
func (p *Policy) Rcpt(_ context.Context, _ *smtp.Session, _ *message.Envelope, to *message.Recipient) error {
	if to.Address.Domain != "" && !isQualified(to.Address) { // RFC 6409 §4.2
		return smtp.Reply{Code: 554, Enhanced: [3]int{5, 1, 2}, Text: "the recipient's domain is not fully qualified"}
	}
	return nil
}

// Acceptor checks and completes the header of a submitted message, and hands it on; it is an smtp.Acceptor.
type Acceptor struct {
	Next       smtp.Acceptor
	Directory  Directory
	Hostname   string           // in Message-IDs made here
	HeaderSize int64            // longest header section taken, in octets; 0: message.DefaultHeaderSize
	Now        func() time.Time // nil: time.Now
}

// Accept refuses with a Reply what RFC 6409 says to refuse; else the message is Next's, and so is the answer. Its header
// is read before anything is passed on: an error of body in it is returned as it is.
func (a *Acceptor) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	size := a.HeaderSize
	if size == 0 {
		size = message.DefaultHeaderSize
	}
	header, rest, err := message.ReadHeader(body, int(size))
	if errors.Is(err, message.ErrHeaderSize) {
		return refusal("the header is longer than the %d octets we take", size)
	}
	if err != nil {
		return err
	}
	d := draft{Acceptor: a, env: env, header: &header}
	for _, step := range steps {
		if err := step(&d); err != nil {
			return err
		}
	}
	return a.Next.Accept(ctx, env, header.Reader(rest))
}

func (a *Acceptor) now() time.Time {
	if a.Now == nil {
		return time.Now()
	}
	return a.Now()
}

// refusal is the reply to a message that is not what RFC 5322 says one is (RFC 6409 §4.1, §6.3).
func refusal(format string, args ...any) error {
	return smtp.Reply{Code: 554, Enhanced: [3]int{5, 6, 0}, Text: fmt.Sprintf(format, args...)}
}

// maxReply is the most octets of a reply's text, well within the 512 of a reply line (RFC 5321 §4.5.3.1.5).
const maxReply = 400

// notYours is the reply to an account that sends in another's name (RFC 6409 §6.1, §6.3).
func notYours(a message.Address, account string) error {
	text := fmt.Sprintf("%s may not send as %s", account, a)
	if len(text) > maxReply || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) { // RFC 6531 §3.7.4
		text = "this account may not send with this address"
	}
	return smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: text}
}
