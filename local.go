package site

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/user"

	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/application/submission"
	"bothy/management/admin"
)

// local is the server for mail from the users of this machine.
func (s *Site) local(c *composition, next smtp.Acceptor) *smtp.Server {
	cfg := c.cfg
	ours := cfg.Submission // people of this machine: their names are completed, and they may send in any
	ours.Complete, ours.Postmaster, ours.Networks, ours.POPWindow = true, false, nil, 0
	trusting := submission.New(submission.Options{
		Config: ours, Hostname: cfg.Hostname, Directory: submission.Anyone{}, Names: s.directory, Users: isUser,
		Next: next, Tracking: s.tracks != nil, Canonical: canonical(c.dns), Notice: s.refusalNotice, Faults: &s.faults, Log: s.env.Log.With("service", "local"), Now: s.env.Now,
	})
	local := trusting.Server(nil, nil)
	local.Identify = localUser
	return local
}

// localUser names who is at the other end of the local submission socket: the kernel says so, no password is needed.
func localUser(conn net.Conn) string {
	peer, err := admin.PeerOf(conn)
	if err != nil {
		return ""
	}
	return userAccount(peer.UID)
}

// userAccount names a user of this machine as an account.
func userAccount(uid int) string { return fmt.Sprintf("uid:%d", uid) }

// isUser reports whether this machine has a user of this name.
func isUser(name string) bool {
	_, err := user.Lookup(name)
	return err == nil
}

// submitAs hands a message in for a user of this machine, as if he had come to the socket.
func (s *Site) submitAs(ctx context.Context, user int, env *message.Envelope, content io.Reader, size int64) ([]smtp.Reply, error) {
	now := s.current.Load()
	server := *now.local
	server.Identify = func(net.Conn) string { return userAccount(user) }
	near, far := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer far.Close()
		_ = server.Serve(ctx, smtp.NewConn(far)) // what went wrong shows at the other end
	}()
	defer func() {
		near.Close()
		<-ended
	}()
	client := smtp.NewClient(smtp.NewConn(near), now.cfg.Hostname, smtp.Timeouts{})
	if err := client.Greet(ctx); err != nil {
		return nil, err
	}
	replies, err := client.Send(ctx, env, content, size)
	if err == nil {
		_ = client.Quit(ctx) // the message is safe already
	}
	return replies, err
}
