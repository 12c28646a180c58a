package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"bothy/application/smtp"
	"bothy/application/submission"
)

// submitFar hands a message to a submission server over a link that may break.
func submitFar(ctx context.Context, o sendmailOptions, std stdio) error {
	sender, err := farServer(o)
	if err != nil {
		return exit{exUsage, err}
	}
	sender.Progress = func(a submission.Attempt) {
		fmt.Fprintf(std.err, "attempt %d: %v; again in %v\n", a.Number, a.Err, a.Wait.Round(time.Second))
	}
	outgoing, err := readOutgoing(o, sender.Hostname, std.in, time.Now())
	if err != nil {
		return err
	}
	defer outgoing.Close()
	if o.track {
		outgoing.track(sender.Hostname, time.Now(), std.err)
	}
	open := func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(outgoing, 0, outgoing.size)), nil
	}
	replies, err := smtp.Further(len(outgoing.env.Recipients), func(left []int) ([]smtp.Reply, error) {
		env := outgoing.env
		env.Recipients = smtp.Some(env.Recipients, left)
		return sender.Send(ctx, &env, open, outgoing.size)
	})
	if o.json {
		if err := printJSON(std.out, farOutcome(outgoing, replies, err)); err != nil {
			return err
		}
	}
	if reply := (smtp.Reply{}); errors.As(err, &reply) && reply.Permanent() { // of the login, for one
		return exit{refusalCode(reply), fmt.Errorf("the server: %w", err)}
	}
	return outgoing.judge(replies, err)
}

// sent is the answer of --json.
type sent struct {
	Octets     int64       `json:"octets"`
	Recipients []sentReply `json:"recipients"`
	Error      string      `json:"error,omitempty"`
}

type sentReply struct {
	Address string `json:"address"`
	Code    int    `json:"code"` // 0: not known
	Reply   string `json:"reply"`
}

func farOutcome(l *outgoing, replies []smtp.Reply, err error) sent {
	out := sent{Octets: l.size}
	for i, to := range l.env.Recipients {
		r := sentReply{Address: to.Address.String()}
		if i < len(replies) && replies[i].Code != 0 {
			r.Code, r.Reply = replies[i].Code, replies[i].Error()
		}
		out.Recipients = append(out.Recipients, r)
	}
	if err != nil {
		out.Error = err.Error()
	}
	return out
}

// farServer reads --server and finds the password.
func farServer(o sendmailOptions) (*submission.Sender, error) {
	u, err := url.Parse(o.server)
	if err != nil || u.Hostname() == "" || u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("--server %q is not smtps://USER@HOST or smtp://USER@HOST", o.server)
	}
	s := &submission.Sender{Username: u.User.Username()}
	port := ""
	switch u.Scheme {
	case "smtps":
		s.TLS, port = "implicit", "465"
	case "smtp":
		s.TLS, port = "required", "587"
	default:
		return nil, fmt.Errorf("--server %q begins with neither smtps:// nor smtp://", o.server)
	}
	if _, given := u.User.Password(); given {
		return nil, errors.New("--server: a password on the command line is everybody's to read: use --password-file or BOTHY_PASSWORD")
	}
	s.Server = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
	if s.Hostname, err = os.Hostname(); err != nil || !strings.Contains(s.Hostname, ".") {
		s.Hostname = cmp.Or(s.Hostname, "site") + ".invalid"
	}
	s.Password = os.Getenv("BOTHY_PASSWORD")
	if o.passwordFile != "" {
		b, err := os.ReadFile(o.passwordFile)
		if err != nil {
			return nil, fmt.Errorf("--password-file: %w", err)
		}
		s.Password, _, _ = strings.Cut(string(b), "\n")
	}
	if s.Username != "" && s.Password == "" {
		return nil, errors.New("--server names a user, and there is no password: use --password-file or BOTHY_PASSWORD")
	}
	return s, nil
}
