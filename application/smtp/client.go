package smtp

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"bothy/application/sasl"
)

// Client is the sending side of SMTP on an open connection. It never dials. It is used by one goroutine at a time. Once a
// method has returned an error that is not a Reply the connection is of no use: every later call returns that error.
type Client struct {
	Conn     *Conn
	Hostname string // for EHLO
	Timeouts Timeouts
	LMTP     bool // the peer speaks RFC 2033: LHLO, and a reply for each recipient behind the text
	Deflate  bool // compress for a peer that offers KeywordDeflate, and is known to mean it

	keywords map[string]string // learnt from EHLO, in upper case
	bounds   bounds            // from LIMITS
	mails    int               // MAIL commands of the session
	domains  map[string]bool   // of recipients of the session, where the peer limits them
	authed   bool
	pace     pace
	parts    string // from KeywordOffset, not gone on with yet
	refused  bool   // the last envelope had no recipient that was accepted
	open     bool   // a transaction may be open at the peer: RSET before the next
	err      error  // what ended the connection
}

// Timeouts are the client's waits (RFC 5321 §4.5.3.2); zero means the RFC's minimum. Command is for all commands that
// the RFC gives none.
type Timeouts struct {
	Greeting, Mail, Rcpt, DataInit, DataBlock, DataDone, Command time.Duration
}

// or fills in the minimums of RFC 5321 §4.5.3.2.
func (t Timeouts) or() Timeouts {
	return Timeouts{
		Greeting:  cmp.Or(t.Greeting, 5*time.Minute),
		Mail:      cmp.Or(t.Mail, 5*time.Minute),
		Rcpt:      cmp.Or(t.Rcpt, 5*time.Minute),
		DataInit:  cmp.Or(t.DataInit, 2*time.Minute),
		DataBlock: cmp.Or(t.DataBlock, 3*time.Minute),
		DataDone:  cmp.Or(t.DataDone, 10*time.Minute),
		Command:   cmp.Or(t.Command, 5*time.Minute),
	}
}

// ErrOutOfStep says that the peer's replies do not fit what it was asked: one came unasked, or it is no reply. Nothing it
// says can be believed to answer anything any more (RFC 2920 §3.1: replies are matched by counting).
var ErrOutOfStep = errors.New("smtp: peer out of step")

// NewClient returns a client on c that will call itself hostname. It reads nothing.
func NewClient(c *Conn, hostname string, t Timeouts) *Client {
	return &Client{Conn: c, Hostname: hostname, Timeouts: t.or()}
}

// Greet reads the greeting and sends EHLO, falling back to HELO (RFC 5321 §3.2). A refusal is a Reply.
func (c *Client) Greet(ctx context.Context) error {
	if err := c.Conn.begin(ctx); err != nil {
		return c.fail(ctx, err)
	}
	defer context.AfterFunc(ctx, c.Conn.interrupt())()
	r, err := c.read(ctx, c.Timeouts.Greeting)
	switch {
	case err != nil:
		return err
	case r.Positive() && r.Code != 220: // RFC 5321 §4.3.2: a 250 answers what we have not asked yet
		return c.outOfStep("the connection", r)
	case !r.Positive():
		return r
	}
	return c.hello(ctx)
}

// hello is EHLO, or HELO for a peer that does not know it.
func (c *Client) hello(ctx context.Context) error {
	c.keywords, c.bounds, c.authed, c.open = nil, bounds{}, false, false // RFC 9422 §3.6
	verb := "EHLO "
	if c.LMTP {
		verb = "LHLO " // RFC 2033 §4.1
	}
	asked := time.Now()
	r, err := c.command(ctx, verb+c.Hostname, c.Timeouts.Command)
	if err != nil {
		return err
	}
	c.pace.trip = time.Since(asked)
	if !c.LMTP && (r.Code == 500 || r.Code == 502) { // RFC 5321 §3.2
		if r, err = c.command(ctx, "HELO "+c.Hostname, c.Timeouts.Command); err != nil {
			return err
		}
		r.Text = ""
	}
	switch {
	case r.Code/100 == 3:
		return c.outOfStep("EHLO", r)
	case !r.Positive():
		return r
	}
	c.keywords = parseKeywords(r.Text)
	c.bounds, c.parts = parseLimits(c.keywords["LIMITS"]), c.keywords[KeywordOffset]
	return nil
}

// parseKeywords reads the text of the reply to EHLO (RFC 5321 §4.1.1.1): the first line is the peer's name.
func parseKeywords(text string) map[string]string {
	keywords := make(map[string]string)
	_, text, _ = strings.Cut(text, "\n")
	for line := range strings.Lines(text) {
		keyword, params, _ := strings.Cut(strings.TrimSpace(line), " ")
		if isKeyword(keyword) {
			keywords[strings.ToUpper(keyword)] = params
		}
	}
	return keywords
}

// Limits returns how many transactions the peer takes in one session and how many recipients in one of them (RFC 9422 §4.1, §4.2); 0 where it
// does not say.
func (c *Client) Limits() (mails, recipients int) { return c.bounds.mails, c.bounds.recipients }

// Has returns an EHLO keyword's parameters and whether the peer offered it. The keyword is given in upper case.
func (c *Client) Has(keyword string) (params string, ok bool) {
	params, ok = c.keywords[keyword]
	return params, ok
}

func (c *Client) has(keyword string) bool {
	_, ok := c.keywords[keyword]
	return ok
}

// StartTLS upgrades the connection and sends EHLO again (RFC 3207 §4.2). A refusal is a Reply, after which the connection is
// as it was. What the certificate must prove and the lowest version of TLS (1.2 if it says nothing) are cfg's.
func (c *Client) StartTLS(ctx context.Context, cfg *tls.Config) error {
	if err := c.SecureOnly(ctx, cfg); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, c.Conn.interrupt())()
	return c.hello(ctx)
}

// SecureOnly is StartTLS without the EHLO behind it: Ahead brings that.
func (c *Client) SecureOnly(ctx context.Context, cfg *tls.Config) error {
	if c.Conn.TLS() != nil { // RFC 3207 §4.2
		return errors.New("smtp: TLS is active already")
	}
	defer context.AfterFunc(ctx, c.Conn.interrupt())()
	r, err := c.command(ctx, "STARTTLS", c.Timeouts.Command)
	switch {
	case err != nil:
		return err
	case r.Code != 220 && r.Positive():
		return c.outOfStep("STARTTLS", r)
	case !r.Positive():
		return r
	}
	if err := c.Conn.probe(); err != nil { // what came in the clear must not be taken for a reply under TLS
		return c.fail(ctx, err)
	}
	if err := c.Conn.secure(ctx, func(nc net.Conn) *tls.Conn { return tls.Client(nc, cfg) }); err != nil {
		return c.fail(ctx, fmt.Errorf("smtp: STARTTLS: %w", err))
	}
	return nil
}

// Auth authenticates (RFC 4954 §4). A refusal is a Reply. It does not choose: sasl.Choose does, from what Has("AUTH") says.
func (c *Client) Auth(ctx context.Context, m sasl.Client) error {
	defer context.AfterFunc(ctx, c.Conn.interrupt())()
	response, err := m.Start()
	if err != nil {
		return err
	}
	line, sent := "AUTH "+m.Name(), false
	if response != nil {
		// RFC 4954 §4: a command line keeps its limit, so a long response waits to be asked for.
		if full := line + " " + encodeResponse(response, true); len(full) <= 510 {
			line, sent = full, true
		}
	}
	r, err := c.command(ctx, line, c.Timeouts.Command)
	for ; err == nil && r.Code == 334; r, err = c.command(ctx, line, c.Timeouts.Command) {
		challenge, bad := base64.StdEncoding.DecodeString(r.Text)
		switch {
		case bad != nil:
			return c.cancelAuth(ctx, errors.New("smtp: challenge is not base64"))
		case !sent && response != nil && len(challenge) == 0:
			line, sent = encodeResponse(response, false), true
			continue
		}
		answer, bad := m.Next(challenge)
		if bad != nil {
			return c.cancelAuth(ctx, bad)
		}
		line = encodeResponse(answer, false)
	}
	switch {
	case err != nil:
		return err
	case r.Code/100 == 3:
		return c.outOfStep("AUTH", r)
	case !r.Positive():
		return r
	}
	if err := sasl.Finish(m); err != nil { // the peer says yes without having proved who it is
		return c.fail(ctx, err)
	}
	c.authed = true
	return nil
}

func encodeResponse(response []byte, initial bool) string {
	if initial && len(response) == 0 { // RFC 4954 §4
		return "="
	}
	return base64.StdEncoding.EncodeToString(response)
}

// cancelAuth ends an exchange that the client does not want to go on with (RFC 4954 §4), and returns why.
func (c *Client) cancelAuth(ctx context.Context, why error) error {
	if _, err := c.command(ctx, "*", c.Timeouts.Command); err != nil {
		return errors.Join(why, err)
	}
	return why
}

// Do sends one command line and returns its reply; wait bounds the reply. It is how ATRN is sent. The reply may be a refusal;
// err says that there is none.
func (c *Client) Do(ctx context.Context, line string, wait time.Duration) (Reply, error) {
	defer context.AfterFunc(ctx, c.Conn.interrupt())()
	return c.command(ctx, line, wait)
}

// Noop asks whether the peer is there (RFC 5321 §4.1.1.9).
func (c *Client) Noop(ctx context.Context) error { return c.simple(ctx, "NOOP") }

// Open reports whether something of a transaction may be open at the peer.
func (c *Client) Open() bool { return c.open }

// Reset forgets what of a transaction may be open at the peer (RFC 5321 §4.1.1.5). Send does so by itself where it must.
func (c *Client) Reset(ctx context.Context) error {
	err := c.simple(ctx, "RSET")
	if err == nil {
		c.open = false
	}
	return err
}

// Quit takes leave and waits for the reply (RFC 5321 §4.1.1.10). It does not close the connection.
func (c *Client) Quit(ctx context.Context) error { return c.simple(ctx, "QUIT") }

// simple is a command that succeeds with 2yz and nothing else.
func (c *Client) simple(ctx context.Context, line string) error {
	r, err := c.Do(ctx, line, c.Timeouts.Command)
	switch {
	case err != nil:
		return err
	case r.Code/100 == 3:
		return c.outOfStep(line, r)
	case !r.Positive():
		return r
	}
	return nil
}

// command sends one line and reads its reply.
func (c *Client) command(ctx context.Context, line string, wait time.Duration) (Reply, error) {
	if strings.ContainsAny(line, "\r\n") {
		return Reply{}, fmt.Errorf("smtp: line end in command %.4q", line)
	}
	if err := c.inStep(); err != nil {
		return Reply{}, err
	}
	c.Conn.out = append(append(c.Conn.out, line...), "\r\n"...)
	if err := c.Conn.flush(); err != nil {
		return Reply{}, c.fail(ctx, err)
	}
	return c.read(ctx, wait)
}

// inStep returns an error if the connection is lost or the peer has said something it was not asked.
func (c *Client) inStep() error {
	if c.err == nil && len(c.Conn.in) > 0 {
		c.err = fmt.Errorf("%w: a reply came unasked", ErrOutOfStep)
	}
	return c.err
}

// read reads the reply to the oldest command that has none yet.
func (c *Client) read(ctx context.Context, wait time.Duration) (Reply, error) {
	if c.err != nil {
		return Reply{}, c.err
	}
	var err error
	if !c.Conn.hasLine() {
		err = c.Conn.await(ctx, time.Now().Add(wait))
	} else {
		c.Conn.deadline(ctx, time.Now().Add(wait))
	}
	if err != nil {
		return Reply{}, c.fail(ctx, err)
	}
	r, err := c.readReply()
	if err != nil {
		return Reply{}, c.fail(ctx, err)
	}
	return r, nil
}

// readReply reads a reply of one line or several, maxReply octets at most (RFC 5321 §4.2.1). A line of more than its 512
// octets (RFC 5321 §4.5.3.1.5) is cut short in memory, not in meaning.
func (c *Client) readReply() (r Reply, err error) {
	var text []byte // of the second line and those behind it
	for total, more := 0, true; more; {
		line, err := c.Conn.readLine(maxCommandLine)
		if err != nil && !errors.Is(err, errLineLength) {
			return Reply{}, outOfStep(err)
		}
		var code int
		var part []byte
		code, more, part, err = parseReplyLine(line)
		if total += len(line) + 2; err != nil || total > maxReply || r.Code != 0 && code != r.Code {
			return Reply{}, fmt.Errorf("%w: %q", ErrOutOfStep, line[:min(len(line), 80)])
		}
		enhanced, rest := parseEnhanced(code, string(part))
		if r.Code == 0 {
			r = Reply{code, enhanced, rest}
		} else {
			text = append(append(text, '\n'), rest...)
		}
	}
	if len(text) > 0 {
		r.Text += string(text)
	}
	return r, nil
}

// outOfStep makes a broken line an ErrOutOfStep.
func outOfStep(err error) error {
	if errors.Is(err, errLineEnd) || errors.Is(err, errEndless) {
		return fmt.Errorf("%w: %w", ErrOutOfStep, err)
	}
	return err
}

// outOfStep ends the connection for a reply that cannot be the answer to what.
func (c *Client) outOfStep(what string, r Reply) error {
	c.err = fmt.Errorf("%w: %d in reply to %s", ErrOutOfStep, r.Code, what)
	return c.err
}

// fail notes what ended the connection; when that was the end of ctx, it is the cause of that.
func (c *Client) fail(ctx context.Context, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if c.err == nil {
		c.err = err
	}
	return c.err
}

// sizeLimit returns the largest message the peer takes, in octets; 0 if it does not say (RFC 1870 §4).
func (c *Client) sizeLimit() int64 {
	limit, err := strconv.ParseInt(c.keywords["SIZE"], 10, 64)
	if err != nil {
		return 0
	}
	return limit
}
