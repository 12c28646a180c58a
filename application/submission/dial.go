package submission

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"bothy/application/message"
	"bothy/application/sasl"
	"bothy/application/smtp"
)

// Sender submits messages to a server over a link that breaks: it comes back, and where the server offers CHECKPOINT it goes on where it
// was cut off, and its message does not come twice (RFC 1845). Its fields are set before first use and not changed after.
type Sender struct {
	Hostname string // in EHLO
	Server   string // host:port
	TLS      string // "implicit" (RFC 8314 §3.3), "required": STARTTLS; "none"
	Config   *tls.Config
	Username string // empty: no login
	Password string

	Dial     func(ctx context.Context, network, address string) (net.Conn, error) // nil: net.Dialer's
	Patience time.Duration                                                        // how long it comes back in vain; 0 means an hour
	Progress func(Attempt)                                                        // hears of each attempt that broke; nil: nobody does
}

// Attempt is one that broke.
type Attempt struct {
	Number int           // 1 for the first
	Err    error         // what broke it
	Wait   time.Duration // before the next
}

const (
	patience     = time.Hour
	firstWait    = time.Second // after an attempt that brought nothing; the double after the next
	longestWait  = time.Minute
	dialingTime  = 30 * time.Second
	enoughToGoOn = 16 << 10 // octets: an attempt that wrote so many is followed by the next at once
)

// Send submits a message of size octets, which open reads from its start each time. The replies are those of smtp.Client.Send. err says that there
// are none, and why: the server could not be reached for as long as the Sender's patience lasts, or a person must mend something.
func (s *Sender) Send(ctx context.Context, env *message.Envelope, open func() (io.ReadCloser, error), size int64) ([]smtp.Reply, error) {
	transid := smtp.TransID(s.Hostname, rand.Text())
	cfg := new(tls.Config)
	if s.Config != nil {
		cfg = s.Config.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(s.Server)
	}
	if cfg.ClientSessionCache == nil {
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1) // coming back costs a round trip less
	}
	wait, since := firstWait, time.Now()
	for number := 1; ; number++ {
		replies, wrote, err := s.attempt(ctx, cfg, env, open, size, transid)
		if err == nil || errors.Is(err, errFinal) || ctx.Err() != nil {
			return replies, err
		}
		if wrote >= enoughToGoOn {
			wait, since = firstWait, time.Now()
		}
		if time.Since(since) > cmp.Or(s.Patience, patience) {
			return nil, fmt.Errorf("given up after %d attempts: %w", number, err)
		}
		pause := wait
		if wrote >= enoughToGoOn {
			pause = 0
		}
		if s.Progress != nil {
			s.Progress(Attempt{number, err, pause})
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), err)
		}
		if pause > 0 {
			wait = min(2*wait, longestWait)
		}
	}
}

// errFinal says that coming back will not help.
var errFinal = errors.New("submission")

// attempt is one connection. wrote counts the octets that were given to it.
func (s *Sender) attempt(
	ctx context.Context, cfg *tls.Config, env *message.Envelope, open func() (io.ReadCloser, error), size int64, transid string,
) (replies []smtp.Reply, wrote int64, err error) {
	body, err := open()
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errFinal, err)
	}
	defer body.Close()
	dial := s.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	dialing, cancel := context.WithTimeout(ctx, dialingTime)
	defer cancel()
	nc, err := dial(dialing, "tcp", s.Server)
	if err != nil {
		return nil, 0, err
	}
	counted := &metered{Conn: nc}
	defer counted.Close()
	var conn net.Conn = counted
	if s.TLS == "implicit" {
		conn = tls.Client(counted, cfg)
	}
	client := smtp.NewClient(smtp.NewConn(conn), s.Hostname, smtp.Timeouts{})
	if err := s.enter(ctx, client, cfg); err != nil {
		return nil, counted.n.Load(), err
	}
	replies, err = client.Transfer(ctx, smtp.Outgoing{Envelope: env, Body: body, Size: size, TransID: transid})
	if err == nil {
		_ = client.Quit(ctx) // the message is safe already
	}
	return replies, counted.n.Load(), err
}

// enter greets, secures and logs in. Only a refusal for good is final.
func (s *Sender) enter(ctx context.Context, client *smtp.Client, cfg *tls.Config) error {
	if err := client.Greet(ctx); err != nil {
		return final(err)
	}
	if s.TLS == "" || s.TLS == "required" {
		if _, ok := client.Has("STARTTLS"); !ok {
			return fmt.Errorf("%w: %s does not offer STARTTLS", errFinal, s.Server)
		}
		if err := client.StartTLS(ctx, cfg); err != nil {
			return final(err)
		}
	}
	if s.Username == "" {
		return nil
	}
	offered, _ := client.Has("AUTH")
	mechanism, err := sasl.Choose(strings.Fields(offered), sasl.Channel{TLS: client.Conn.TLS()}, sasl.Credentials{Username: s.Username, Password: s.Password})
	if err != nil {
		return fmt.Errorf("%w: %w", errFinal, err)
	}
	return final(client.Auth(ctx, mechanism))
}

// final marks what will be the same the next time: a refusal for good, or a certificate that is not the server's.
func final(err error) error {
	var reply smtp.Reply
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) || errors.As(err, &reply) && reply.Permanent() {
		return fmt.Errorf("%w: %w", errFinal, err)
	}
	return err
}

// metered counts what is written.
type metered struct {
	net.Conn
	n atomic.Int64
}

func (c *metered) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.n.Add(int64(n))
	return n, err
}
