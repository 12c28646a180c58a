package odmr

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bothy/application/message"
	"bothy/application/sasl"
	"bothy/application/smtp"
)

// Recipients tells which mail is delivered at this site; directory.Directory has it.
type Recipients interface {
	Local(domain string) bool                      // has mailboxes here
	Resolve(a message.Address) (accounts []string) // who gets a's mail; nobody: unknown
}

// Customer calls a provider for the mail of its domains. Its fields are set before first use and not changed after.
type Customer struct {
	Hostname   string // in EHLO, and in the greeting once the connection is turned
	Config     CustomerConfig
	Dial       func(ctx context.Context, network, address string) (net.Conn, error) // nil: net.Dialer's
	TLS        *tls.Config                                                          // what to start from, with our certificate if we have one; may be nil
	Accept     smtp.Acceptor                                                        // our own queue
	Recipients Recipients                                                           // nil: any recipient in Config.Domains is taken
	Link       Link                                                                 // nil: always up
	Watch      func(Progress)                                                       // hears of the calls that Run makes; nil: nobody does
	Log        *slog.Logger
	Now        func() time.Time // in trace fields; nil: time.Now

	once   sync.Once
	line   chan struct{} // holds a token while a call is under way: the provider takes one at a time
	poke   chan struct{}
	octets atomic.Int64 // read in all calls: what shows that one is alive
}

// Stage is how far a call has come.
type Stage int

// The stages of a call.
const (
	Dialing Stage = iota
	Securing
	LoggingIn
	Asking    // ATRN is sent; the answer may take 10 minutes (RFC 2645 §5.2.1)
	Receiving // the connection is turned
	Ended
)

func (s Stage) String() string {
	return [...]string{"dialing", "securing", "logging in", "asking", "receiving", "ended"}[s]
}

// Progress is one step of a call.
type Progress struct {
	Stage    Stage
	Messages int   // on our disk
	Octets   int64 // of message bodies, that of the message under way included
}

// Report is what a call has brought.
type Report struct {
	Provider string        // host:port
	Domains  []string      // asked for; none: all that the account has
	Messages int           // on our disk
	Octets   int64         // of their bodies
	Took     time.Duration // from dialing to the end
}

func (c *Customer) init() {
	c.once.Do(func() {
		c.line, c.poke = make(chan struct{}, 1), make(chan struct{}, 1)
		if c.Log == nil {
			c.Log = slog.New(slog.DiscardHandler)
		}
		if c.Now == nil {
			c.Now = time.Now
		}
	})
}

// Call fetches once; while another call runs it waits for that to end. progress may be nil and is called from the
// goroutine of Call. A nil error means that the provider turned the connection and took its leave properly; all others wrap
// one of ErrNoMail, ErrLater, ErrDenied, ErrRefused, ErrInsecure, ErrUnreachable, ErrInterrupted and ErrConfig, and the
// smtp.Reply that was the cause. Mail counted in the Report is ours even when there is an error.
func (c *Customer) Call(ctx context.Context, progress func(Progress)) (Report, error) {
	c.init()
	select {
	case c.line <- struct{}{}:
		defer func() { <-c.line }()
	case <-ctx.Done():
		return Report{}, fmt.Errorf("%w: another call is under way: %w", ErrLater, context.Cause(ctx))
	}
	start := time.Now()
	call := &call{customer: c, cfg: c.Config, progress: progress}
	call.report = Report{Provider: c.Config.Provider, Domains: c.Config.domains()}
	err := call.run(ctx)
	if ctx.Err() == nil && (errors.Is(err, ErrUnreachable) || errors.Is(err, ErrInterrupted)) {
		c.evidence(false, err.Error())
	}
	call.report.Took = time.Since(start)
	call.tell(Ended)
	return call.report, err
}

// evidence tells the link what a call saw of it.
func (c *Customer) evidence(up bool, why string) {
	if c.Link != nil {
		c.Link.Evidence(up, "odmr: "+strings.TrimPrefix(why, "odmr: "))
	}
}

// call is one call. One goroutine owns it.
type call struct {
	customer *Customer
	cfg      CustomerConfig
	progress func(Progress)
	report   Report
	partial  int64 // octets of the message under way
}

func (c *call) tell(s Stage) {
	if c.progress != nil {
		c.progress(Progress{s, c.report.Messages, c.report.Octets + c.partial})
	}
}

func (c *call) run(ctx context.Context) error {
	if err := c.cfg.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c.tell(Dialing)
	nc, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer nc.Close()
	defer closeAfter(ctx, nc)()
	conn := smtp.NewConn(nc)
	client := smtp.NewClient(conn, c.customer.Hostname, smtp.Timeouts{})
	if err := c.request(ctx, client); err != nil {
		return err
	}
	if err := conn.Turn(); err != nil {
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	}
	c.tell(Receiving)
	if err := c.receive(ctx, conn); err != nil {
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	}
	return nil
}

// grace is how long a message under way may take once the call is asked to end.
const grace = 10 * time.Second

// closeAfter closes conn some time after ctx ends, at once if the call is known to be dead.
func closeAfter(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), errStalled) {
			conn.Close()
			return
		}
		time.AfterFunc(grace, func() { conn.Close() })
	})
}

// counted counts what is read from a connection.
type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// dial opens the connection, with TLS when that comes first.
func (c *call) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.cfg.DialTimeout, time.Minute))
	defer cancel()
	dial := c.customer.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	nc, err := dial(ctx, "tcp", c.cfg.Provider)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	nc = counted{nc, &c.customer.octets}
	if c.cfg.TLS != "implicit" {
		return nc, nil
	}
	c.tell(Securing)
	cfg, err := c.tls()
	if err != nil {
		nc.Close()
		return nil, err
	}
	secured := tls.Client(nc, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, insecure(err)
	}
	return secured, nil
}

// request is the customer's part of the initial and the authenticated state (RFC 2645 §5.1, §5.2). It returns nil when the
// provider has agreed to turn the connection.
func (c *call) request(ctx context.Context, client *smtp.Client) error {
	if err := client.Greet(ctx); err != nil {
		return refused(err, ErrRefused)
	}
	c.customer.evidence(true, "provider answered")
	if c.cfg.TLS == "" || c.cfg.TLS == "required" {
		c.tell(Securing)
		if _, ok := client.Has("STARTTLS"); !ok {
			return c.leave(ctx, client, fmt.Errorf("%w: it does not offer STARTTLS", ErrInsecure))
		}
		cfg, err := c.tls()
		if err != nil {
			return c.leave(ctx, client, err)
		}
		if err := client.StartTLS(ctx, cfg); err != nil {
			return c.leave(ctx, client, insecure(err))
		}
	}
	c.tell(LoggingIn)
	if err := c.login(ctx, client); err != nil {
		return c.leave(ctx, client, err)
	}
	c.tell(Asking)
	reply, err := client.Do(ctx, atrn(c.report.Domains), cmp.Or(c.cfg.AnswerTimeout, 10*time.Minute)) // RFC 2645 §5.2.1: at least 10 minutes
	switch {
	case err != nil:
		return refused(err, ErrRefused)
	case reply.Code/100 == 2:
		return nil
	case reply.Code == 453:
		return c.leave(ctx, client, fmt.Errorf("%w: %w", ErrNoMail, reply))
	case reply.Code == 530:
		return c.leave(ctx, client, fmt.Errorf("%w: %w", ErrDenied, reply))
	}
	return c.leave(ctx, client, refused(reply, ErrRefused))
}

// login authenticates with the best that both sides can. ATRN need not be in the EHLO reply, though it must be (RFC 2645 §5.1.1): its
// own reply tells.
func (c *call) login(ctx context.Context, client *smtp.Client) error {
	offered, _ := client.Has("AUTH")
	ch := sasl.Channel{TLS: client.Conn.TLS()}
	mechanism, err := sasl.Choose(strings.Fields(offered), ch, sasl.Credentials{
		Username: c.cfg.Username, Password: c.cfg.Password,
		Certificate: c.cfg.Username == "" && c.customer.TLS != nil && len(c.customer.TLS.Certificates) > 0,
		AllowCRAM:   true, // RFC 2645 §5.1.2: what every provider has
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	if err := client.Auth(ctx, mechanism); err != nil {
		var reply smtp.Reply
		if errors.Is(err, sasl.ErrServer) {
			return fmt.Errorf("%w: %w", ErrInsecure, err)
		}
		if !errors.As(err, &reply) || reply.Temporary() {
			return refused(err, ErrDenied)
		}
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	return nil
}

// leave says QUIT before the turn and returns why.
func (c *call) leave(ctx context.Context, client *smtp.Client, why error) error {
	if !errors.Is(why, ErrUnreachable) {
		_ = client.Quit(ctx) // the provider has nothing left to tell us
	}
	return why
}

// refused says which kind of error a failed command is: a lost connection, a 4yz, or the kind given for a 5yz.
func refused(err, permanent error) error {
	var reply smtp.Reply
	switch {
	case !errors.As(err, &reply):
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case reply.Temporary():
		return fmt.Errorf("%w: %w", ErrLater, err)
	}
	return fmt.Errorf("%w: %w", permanent, err)
}

// insecure tells a handshake that failed for trust from one that the network broke or the provider put off.
func insecure(err error) error {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var reply smtp.Reply
	switch {
	case errors.As(err, &certificate), errors.As(err, &record), errors.As(err, &alert):
		return fmt.Errorf("%w: %w", ErrInsecure, err)
	case errors.As(err, &reply) && reply.Permanent():
		return fmt.Errorf("%w: %w", ErrInsecure, err)
	}
	return refused(err, ErrInsecure)
}

// tls returns the configuration that checks the provider's name. The file of authorities is read anew for each call.
func (c *call) tls() (*tls.Config, error) {
	cfg := &tls.Config{}
	if c.customer.TLS != nil {
		cfg = c.customer.TLS.Clone()
	}
	cfg.ServerName, _, _ = net.SplitHostPort(c.cfg.Provider)
	if c.cfg.CAFile == "" {
		return cfg, nil
	}
	pem, err := os.ReadFile(c.cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("%w: ca_file: %w", ErrConfig, err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: ca_file: no certificate in %s", ErrConfig, c.cfg.CAFile)
	}
	return cfg, nil
}
