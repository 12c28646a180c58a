package submission

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"time"

	"bothy/application/checkpoint"
	"bothy/application/directory"
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

// Names knows which addresses are here; directory.Directory does.
type Names interface {
	Chief() string // the domain that an address without one means; "" if none
	Local(domain string) bool
	Resolve(a message.Address) (accounts []string)
}

// Permissions knows to whom an account may write, and how much (RFC 6409 §6.2); directory.Directory does.
type Permissions interface {
	MaySendTo(account string, a message.Address) bool
	Rights(account string) directory.Rights
}

// Accounts knows the address an account is known by, and whose a certificate is.
type Accounts interface {
	Address(account string) (a message.Address, ok bool)
	Certificate(ctx context.Context, cert *x509.Certificate) (account string, err error)
}

// Options of an Agent. Directory and Next are required.
type Options struct {
	Config      Config // its listeners, mechanisms and limits are not looked at here
	Hostname    string // in Message-IDs made here, and what local users' addresses end with
	Directory   Directory
	Names       Names       // nil: no domain is local, and nothing is completed
	Permissions Permissions // nil: everybody may write to everybody, as much as they like
	Accounts    Accounts    // nil: certificates say nothing, and an account is known by its reverse-path
	Next        smtp.Acceptor

	// Users reports whether the operating system has a user of this name: to complete what cron and its like send through the
	// local socket. Nil: it has none.
	Users func(name string) bool

	// Canonical finds what a domain, in A-labels, is an alias of (RFC 6409 §8.7): that, or the domain itself where it is none or nobody
	// answered. Nil: aliases are left alone.
	Canonical func(ctx context.Context, domain string) string

	// Encrypt puts an encrypted text in the place of a message's (RFC 6409 §8.6), after all other changes; the header is its to change
	// too. An error is the answer to the client. Then mail is taken over secured sessions only. Nil: nothing is encrypted.
	Encrypt func(ctx context.Context, env *message.Envelope, header *message.Header, text io.Reader) (io.Reader, error)

	// Notice composes the notice to the sender of a message that was refused after it had been accepted; nil if none is due. Nil: the
	// client is told at once, whatever Config.Refusals says.
	Notice func(env *message.Envelope, header []byte, refusal smtp.Reply, now time.Time) (notice *message.Envelope, content []byte)

	Readers *Readers // who read by POP3 lately, for Config.POPWindow; nil: nobody
	// Checkpoints keeps what came of messages whose connection broke (RFC 1845), where Next keeps their transactions. Nil: nobody does.
	Checkpoints *checkpoint.Store

	// Tracking offers MTRK (RFC 3885), where Next tells who keeps track.
	Tracking bool

	Faults *Faults // nil: counted for this Agent alone
	Usage  *Usage  // nil: counted for this Agent alone
	Log    *slog.Logger
	Now    func() time.Time // nil: time.Now
}

// Agent is a Message Submission Agent (RFC 6409 §2.1): the smtp.Policy and the smtp.Acceptor of a submission port. It is safe for
// concurrent use.
type Agent struct {
	Options
	rewriter  *rewriter
	forbidden []forbidden
}

// New returns an Agent. What Config.CheckConfig would refuse is left out.
func New(o Options) *Agent {
	o.Config.defaults()
	if o.Config.HeaderSize == 0 {
		o.Config.HeaderSize = message.DefaultHeaderSize
	}
	if o.Faults == nil {
		o.Faults = new(Faults)
	}
	if o.Usage == nil {
		o.Usage = new(Usage)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	rules, err := newRewriter(o.Config.Rewrite)
	if err != nil {
		o.Log.Error("addresses are not rewritten", "err", err)
		rules, _ = newRewriter(nil)
	}
	a := &Agent{Options: o, rewriter: rules}
	for _, text := range o.Config.Forbid {
		f, err := parseForbidden(text)
		if err != nil {
			o.Log.Error("a field is not forbidden", "err", err)
			continue
		}
		a.forbidden = append(a.forbidden, f)
	}
	return a
}

const (
	maxHold          = 30 * 24 * time.Hour // how far ahead people may ask for a message to be sent (RFC 4865 §4)
	shortestDeadline = time.Second         // of a message that may be returned for it (RFC 2852 §3): what is for people here arrives within it
)

// Server returns the server that the Agent stands behind. certificates, which may be nil, are for STARTTLS; auth says who somebody is.
func (a *Agent) Server(certificates *tls.Config, auth smtp.Authenticator) *smtp.Server {
	offer := smtp.Offer{ // RFC 6409 §7
		Limits: true, DSN: true, NoSoliciting: true, Unsolicited: a.Config.Unsolicited, RequireTLS: true, Tracking: a.Tracking,
		FutureRelease: maxHold, DeliverBy: shortestDeadline, Priority: true, BinaryMIME: true,
	}
	return &smtp.Server{
		Hostname: a.Hostname, Protocol: smtp.Submission, TLS: certificates, RequireTLS: certificates != nil && !a.Config.Plaintext, Auth: auth,
		Offer: offer, Policy: a, PolicyAuthorizes: true, Accept: a, ShowSubmitter: a.Config.ShowClient,
		Limits: a.Config.Limits, Log: a.Log, Now: a.Now, Checkpoints: a.Checkpoints,
	}
}

// Mail decides who a client is and whether it may use its reverse-path. The null reverse-path is everybody's whom we know: a notice to them
// goes to their account (RFC 6409 §3.2).
func (a *Agent) Mail(ctx context.Context, s *smtp.Session, env *message.Envelope) error {
	env.Account = a.identify(ctx, s)
	if env.Account == "" && !a.Config.Postmaster { // RFC 6409 §4.3
		a.note("", Unauthorized, "")
		return replyNeedAuth
	}
	if a.Encrypt != nil && !isSecured(s) { // RFC 6409 §8.6: whoever listens here has read it already
		return replyNeedTLS
	}
	if env.ReversePath.IsNull() {
		if env.Account == "" { // RFC 6409 §3.2: neither the path nor an identity says whom to answer
			a.note("", NoReturnPath, "")
			return smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 0}, Text: "log in, or name a sender who can be answered"}
		}
		return a.checkAllowance(env)
	}
	follow, done := a.follower(ctx)
	defer done()
	env.ReversePath = follow(a.resolve(env.ReversePath))
	if !a.isQualified(env.ReversePath) { // RFC 6409 §4.2
		a.note(env.Account, BareAddress, "")
		return smtp.Reply{Code: 554, Enhanced: [3]int{5, 1, 8}, Text: "the sender's domain is not fully qualified"}
	}
	if env.Account != "" && !a.maySend(env.Account, env.ReversePath) { // RFC 6409 §6.1
		a.note(env.Account, OthersName, "")
		return notYours(env.ReversePath, env.Account)
	}
	return a.checkAllowance(env)
}

// Rcpt decides whether a client may write to somebody. Who has not logged in writes to the postmaster or to nobody (RFC 6409 §6.4).
func (a *Agent) Rcpt(ctx context.Context, s *smtp.Session, env *message.Envelope, to *message.Recipient) error {
	if env.Account == "" && a.Config.Postmaster {
		return a.toPostmaster(s, to)
	}
	if a.isPostmaster(to.Address) && to.Address.Domain == "" { // RFC 5321 §4.5.1
		return nil
	}
	follow, done := a.follower(ctx)
	defer done()
	to.Address = follow(a.resolve(to.Address))
	if !a.isQualified(to.Address) { // RFC 6409 §4.2
		a.note(env.Account, BareAddress, "")
		return smtp.Reply{Code: 554, Enhanced: [3]int{5, 1, 2}, Text: "the recipient's domain is not fully qualified"}
	}
	if a.Permissions == nil {
		return nil
	}
	ascii, _ := to.Address.ASCII()
	if env.Account != "" && !a.Permissions.MaySendTo(env.Account, ascii) { // RFC 6409 §6.2
		a.note(env.Account, NotAllowedTo, "")
		return smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "this account may not write to this address"}
	}
	bound := a.bound(env.Account)
	if !a.Usage.enough(env.Account, aDay, a.Now(), spent{recipients: len(env.Recipients) + 1}, bound) {
		return a.overAllowance(env.Account)
	}
	return nil
}

// Accept refuses with a Reply what RFC 6409 says to refuse; else the message is Next's, and so is the answer. Its header
// is read before anything is passed on: an error of body in it is returned as it is.
func (a *Agent) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	d := draft{Agent: a, env: env, header: new(message.Header), at: a.Now()}
	header, text, err := message.ReadHeader(body, int(a.Config.HeaderSize))
	if errors.Is(err, message.ErrHeaderSize) {
		return d.refuse(LongHeader, "the header is longer than the %d octets we take", a.Config.HeaderSize)
	}
	if err != nil {
		return err
	}
	d.header = &header
	if err := d.prepare(ctx); err != nil {
		return d.reject(ctx, text, err)
	}
	want, bound := spent{messages: 1, recipients: len(env.Recipients)}, a.bound(env.Account)
	if bound != (spent{}) && !a.Usage.take(env.Account, aDay, d.at, want, bound) {
		return d.reject(ctx, text, a.overAllowance(env.Account))
	}
	err = d.pass(ctx, text)
	if err != nil && bound != (spent{}) {
		a.Usage.give(env.Account, aDay, d.at, want)
	}
	return err
}

// prepare runs the steps.
func (d *draft) prepare(ctx context.Context) error {
	var done func()
	d.follow, done = d.follower(ctx)
	defer done()
	for _, step := range steps {
		if err := step(d); err != nil {
			return err
		}
	}
	return nil
}

// pass hands the message on.
func (d *draft) pass(ctx context.Context, text io.Reader) (err error) {
	if most := d.rights(d.env.Account).Size; most > 0 {
		text = &bounded{r: text, left: most - int64(d.header.Size())}
	}
	if d.Encrypt != nil {
		if text, err = d.Encrypt(ctx, d.env, d.header, text); err != nil {
			return err
		}
	}
	return d.Next.Accept(ctx, d.env, d.header.Reader(text))
}

// reject answers a message that was refused: with the refusal, or, where the configuration wants that and its sender can be told, with a
// notice to him (RFC 6409 §3.2). A message that did not come whole gets none.
func (d *draft) reject(ctx context.Context, text io.Reader, refusal error) error {
	var reply smtp.Reply
	if d.Config.Refusals != bounceText || d.Notice == nil || d.env.Account == "" || d.env.ReversePath.IsNull() || !errors.As(refusal, &reply) {
		return refusal
	}
	notice, content := d.Notice(d.env, d.header.AppendTo(nil), reply, d.at)
	if notice == nil { // its sender does not want one
		return refusal
	}
	if _, err := io.Copy(io.Discard, text); err != nil {
		return err
	}
	return d.Next.Accept(ctx, notice, bytes.NewReader(content))
}

// bounded is a reader that refuses a message when it is longer than its account may send.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, replySize
	}
	return n, err
}
