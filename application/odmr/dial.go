package odmr

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bothy/application/checkpoint"
	"bothy/application/message"
	"bothy/application/sasl"
	"bothy/application/smtp"
	"bothy/lib/pin"
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
	Offer      smtp.Offer                                                           // what the turned session offers the provider
	Handed     func(domain string) bool                                             // whose mail another server here takes; nil: nobody's
	Recipients Recipients                                                           // nil: any recipient in Config.Domains is taken
	Names      func(domain string) (locals []string)                                // everybody whom Recipients knows there; nil: the provider is not told
	// Checkpoints keeps what came of a message whose connection broke (RFC 1845), where Accept keeps its transaction; nil: nobody does.
	Checkpoints *checkpoint.Store
	Outward     Outward        // what a call takes along where Config.Send is set; nil: nothing
	Link        Link           // nil: always up
	Watch       func(Progress) // hears of the calls that Run makes; nil: nobody does
	Log         *slog.Logger
	Now         func() time.Time // in trace fields; nil: time.Now

	once   sync.Once
	poke   chan struct{}
	adopt  chan *call   // for Run: a call that Call has begun
	octets atomic.Int64 // read in all calls: what shows that one is alive
	resume tls.ClientSessionCache

	mu      sync.Mutex
	known   *memory         // of the provider; nil: nothing is
	last    Standing        // Last and what follows it
	current *call           // under way: the provider takes one at a time
	running context.Context // of Run: it does not run where this is nil or has ended

	release  func() // what goes along is held for us; nil: it is not
	away     bool   // the link is down: Run calls when it comes up
	stumbled bool   // a call was cut while it sent, and none has got past that since
}

// Stage is how far a call has come.
type Stage int

// The stages of a call.
const (
	Dialing Stage = iota
	Securing
	LoggingIn
	Sending   // mail that goes along, before ATRN
	Asking    // ATRN is sent; the answer may take 10 minutes (RFC 2645 §5.2.1)
	Receiving // the connection is turned
	Lingering // the provider has sent everything and stays, to send at once what comes
	Ended
)

func (s Stage) String() string {
	return [...]string{"dialing", "securing", "logging in", "sending", "asking", "receiving", "lingering", "ended"}[s]
}

// Progress is one step of a call.
type Progress struct {
	Stage    Stage
	Messages int   // on our disk
	Octets   int64 // of message bodies, that of the message under way included

	// What was waiting when the connection was turned, where the provider says so; 0: it does not. More may have come since.
	Waited       int
	WaitedOctets int64
}

// Report is what a call has brought.
type Report struct {
	Provider string        // host:port
	Domains  []string      // asked for; none: all that the account has
	Messages int           // on our disk
	Octets   int64         // of their bodies
	Sent     int           // messages that went along, which the provider has now
	Took     time.Duration // from dialing to the end
}

func (c *Customer) init() {
	c.once.Do(func() {
		c.poke, c.adopt = make(chan struct{}, 1), make(chan *call, 1)
		c.resume = tls.NewLRUClientSessionCache(resumptions)
		if c.Log == nil {
			c.Log = slog.New(slog.DiscardHandler)
		}
		if c.Now == nil {
			c.Now = time.Now
		}
	})
}

// Call fetches once. It returns when the provider takes its leave or goes quiet: all mail is here then. A session that lingers is left
// to Run; where Run does not run it is ended. While a call is under way, Call sees that one through, and reports what came since.
// progress may be nil and is called from the goroutine of Call. A nil error means that mail came or that the provider took its leave properly;
// all others wrap one of ErrNoMail, ErrLater, ErrUnable, ErrDenied, ErrRefused, ErrInsecure, ErrUnreachable, ErrInterrupted and ErrConfig, and the
// smtp.Reply that was the cause. Mail counted in the Report is ours even when there is an error.
func (c *Customer) Call(ctx context.Context, progress func(Progress)) (Report, error) {
	return c.fetch(ctx, false, progress)
}

// CallAll is Call for everything, whatever Config.Budget and Config.Largest say, or the provider knows of such. A call under way that has
// bounds is ended first.
func (c *Customer) CallAll(ctx context.Context, progress func(Progress)) (Report, error) {
	return c.fetch(ctx, true, progress)
}

func (c *Customer) fetch(ctx context.Context, all bool, progress func(Progress)) (Report, error) {
	c.init()
	start := time.Now()
	for {
		a := &attendant{all: all, more: make(chan struct{}, 1), progress: progress}
		k := c.join(ctx, a)
		if all && !k.all {
			k.cancel(errEnough)
			k.dismiss(a)
			<-k.done
			continue
		}
		if a.came == Lingering && time.Since(k.heard()) > fresh {
			k.cancel(errStalled) // who asks wants to know, and a new call tells
			k.dismiss(a)
			<-k.done
			continue
		}
		err := k.attend(ctx, a)
		report := a.since(k.sum())
		report.Took = time.Since(start)
		if progress != nil {
			progress(Progress{Stage: Ended, Messages: report.Messages, Octets: report.Octets})
		}
		if errors.Is(err, ErrOpen) && report.Messages > 0 {
			err = nil
		}
		return report, err
	}
}

// fresh is how long a session that lingers in silence counts as alive for a Call.
const fresh = time.Minute

// join returns the call under way, or begins one: Run's if Run runs, else one that ends with ctx. Nobody attends what Run begins.
func (c *Customer) join(ctx context.Context, a *attendant) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil {
		c.current.admit(a)
		return c.current
	}
	k := &call{customer: c, cfg: c.Config, began: time.Now(), done: make(chan struct{}), attendants: map[*attendant]bool{}}
	k.report, k.all = Report{Provider: c.Config.Provider, Domains: c.Config.domains()}, a != nil && a.all
	if c.running != nil && c.running.Err() == nil {
		ctx, k.kept = c.running, true
	}
	ctx, k.cancel = context.WithCancelCause(ctx)
	if a == nil {
		k.watch = c.Watch
	} else if k.kept {
		select {
		case c.adopt <- k:
		default: // Run will meet it when it wants to begin the next
		}
	}
	k.admit(a)
	c.current = k
	go k.see(ctx)
	return k
}

// underWay returns the call that is; nil: none.
func (c *Customer) underWay() *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// evidence tells the link what a call saw of it.
func (c *Customer) evidence(up bool, why string) {
	if c.Link != nil {
		c.Link.Evidence(up, "odmr: "+strings.TrimPrefix(why, "odmr: "))
	}
}

// grace is how long a message under way may take once the call is asked to end.
const grace = 10 * time.Second

// closeAfter closes conn some time after ctx ends, at once if the call is known to be dead.
func closeAfter(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); errors.Is(cause, errStalled) || errors.Is(cause, errLinkDown) {
			conn.Close()
			return
		}
		time.AfterFunc(grace, func() { conn.Close() })
	})
}

// counted notes what a call reads.
type counted struct {
	net.Conn
	call *call
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.call.customer.octets.Add(int64(n))
		c.call.read.Add(int64(n))
		c.call.last.Store(time.Now().UnixNano())
	}
	return n, err
}

// dial opens the connection, with TLS when that comes first.
func (k *call) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(k.cfg.DialTimeout, time.Minute))
	defer cancel()
	dial := k.customer.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	nc, err := dial(ctx, "tcp", k.cfg.Provider)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	nc = counted{nc, k}
	if k.cfg.TLS != "implicit" {
		return nc, nil
	}
	k.tell(Securing)
	cfg, err := k.tls()
	if err != nil {
		nc.Close()
		return nil, err
	}
	cfg.NextProtos = Protocols()
	secured := tls.Client(nc, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, insecure(err)
	}
	return secured, nil
}

// request is the customer's part of the initial and the authenticated state (RFC 2645 §5.1, §5.2). It returns nil when the
// provider has agreed to turn the connection.
func (k *call) request(ctx context.Context, client *smtp.Client) error {
	if k.cfg.TLS == "" || k.cfg.TLS == "required" {
		if err := k.greetSecurely(ctx, client, client.StartTLS); err != nil {
			return err
		}
	} else if err := client.Greet(ctx); err != nil {
		return refused(err, ErrRefused)
	}
	k.customer.evidence(true, "provider answered")
	k.tell(LoggingIn)
	if err := k.login(ctx, client); err != nil {
		return k.leave(ctx, client, err)
	}
	if err := k.send(ctx, client); err != nil {
		return err
	}
	k.tell(Asking)
	reply, err := client.Do(ctx, atrn(k.report.Domains), k.answerTimeout())
	if err != nil {
		return refused(err, ErrRefused)
	}
	k.customer.remember(client, k.stranger)
	return k.answered(ctx, client, reply)
}

// answerTimeout is the wait for the answer to ATRN: at least 10 minutes (RFC 2645 §5.2.1).
func (k *call) answerTimeout() time.Duration { return cmp.Or(k.cfg.AnswerTimeout, 10*time.Minute) }

// answered is what the reply to ATRN comes to.
func (k *call) answered(ctx context.Context, client *smtp.Client, reply smtp.Reply) error {
	k.stumble(false)
	switch {
	case reply.Code/100 == 2:
		k.promise(promised(reply))
		return nil
	case reply.Code == 453:
		return k.leave(ctx, client, fmt.Errorf("%w: %w", ErrNoMail, reply))
	case reply.Code == 530:
		return k.leave(ctx, client, fmt.Errorf("%w: %w", ErrDenied, reply))
	}
	return k.leave(ctx, client, refused(reply, ErrRefused))
}

// credentials are what this site can show of itself.
func (k *call) credentials() sasl.Credentials {
	return sasl.Credentials{
		Username: k.cfg.Username, Password: k.cfg.Password,
		Certificate: (k.cfg.Certificate && !k.stranger || k.cfg.Username == "") && k.customer.TLS != nil && len(k.customer.TLS.Certificates) > 0,
		AllowCRAM:   true, // RFC 2645 §5.1.2: what every provider has
	}
}

// login authenticates with the best that both sides can, and with the password where the certificate is not known there. ATRN need not be in the EHLO reply, though it must be (RFC 2645 §5.1.1): its
// own reply tells.
func (k *call) login(ctx context.Context, client *smtp.Client) error {
	mechanism, err := sasl.Choose(offered(client), sasl.Channel{TLS: client.Conn.TLS()}, k.credentials())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	err = client.Auth(ctx, mechanism)
	if err != nil && k.unknown(mechanism, err) {
		return k.login(ctx, client) // RFC 4954 §4: another AUTH may follow one that failed
	}
	if err != nil {
		return denied(err)
	}
	return nil
}

// unknown reports whether err says that the provider does not know our certificate, and there is a password to log in with instead; k uses that
// from then on.
func (k *call) unknown(m sasl.Client, err error) bool {
	var reply smtp.Reply
	if m.Name() != sasl.EXTERNAL || k.cfg.Username == "" || !errors.As(err, &reply) || !reply.Permanent() {
		return false
	}
	k.customer.Log.Info("the provider does not know our certificate: logging in with the password", "why", reply)
	k.stranger = true
	return true
}

// denied says which kind of error a failed login is.
func denied(err error) error {
	var reply smtp.Reply
	if errors.Is(err, sasl.ErrServer) {
		return fmt.Errorf("%w: %w", ErrInsecure, err)
	}
	if !errors.As(err, &reply) || reply.Temporary() {
		return refused(err, ErrDenied)
	}
	return fmt.Errorf("%w: %w", ErrDenied, err)
}

// leave says QUIT before the turn and returns why.
func (k *call) leave(ctx context.Context, client *smtp.Client, why error) error {
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
	case reply.Code == 450: // RFC 2645 §5.2.1
		return fmt.Errorf("%w: %w", ErrLater, err)
	case reply.Temporary():
		return fmt.Errorf("%w: %w", ErrUnable, err)
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
	case errors.Is(err, pin.ErrMismatch), errors.As(err, &certificate), errors.As(err, &record), errors.As(err, &alert):
		return fmt.Errorf("%w: %w", ErrInsecure, err)
	case errors.As(err, &reply) && reply.Permanent():
		return fmt.Errorf("%w: %w", ErrInsecure, err)
	}
	return refused(err, ErrInsecure)
}

// tls returns the configuration that checks the provider's name. The file of authorities is read anew for each call.
func (k *call) tls() (*tls.Config, error) {
	cfg := &tls.Config{}
	if k.customer.TLS != nil {
		cfg = k.customer.TLS.Clone()
	}
	cfg.ServerName, _, _ = net.SplitHostPort(k.cfg.Provider)
	cfg.ClientSessionCache = k.customer.resume
	roots, err := k.cfg.roots()
	if err != nil {
		return nil, fmt.Errorf("%w: ca_file: %w", ErrConfig, err)
	}
	if roots != nil {
		cfg.RootCAs = roots
	}
	pin.Trust(cfg, k.cfg.Pins)
	return cfg, nil
}
