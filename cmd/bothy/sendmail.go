package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strings"
	"syscall"
	"time"

	"bothy/application/drop"
	"bothy/application/message"
	"bothy/application/smtp"
)

// sendmailCmd is the command that programs expect at /usr/sbin/sendmail.
type sendmailCmd struct {
	Args []string `arg:"" optional:"" name:"args" help:"Flags as of other sendmail commands, and recipients."`
}

func (sendmailCmd) Help() string {
	return `Reads a message from standard input, line ends LF or CRLF, and hands it to the running server. From, Date and Message-ID are added when
they are missing. While the server is not running the message is kept on disk, and sent when it runs. More recipients than it takes with one
message (1000) get it in several. A link to bothy with the name sendmail
is this command; mailq and newaliases are -bp and -bi.

    -t          take recipients from To, Cc and Bcc too, or where there are Resent- fields from those, and remove Bcc
    -i, -oi     a line with a single dot is not the end
    -f ADDRESS  envelope sender; "<>" for none. Also -r
    -F NAME     full name for a From that is added
    -B TYPE     7BIT or 8BITMIME
    -N EVENTS   delivery notices: never, or some of success,failure,delay (RFC 3461 §4.1)
    -R TYPE     return full or hdrs (RFC 3461 §4.3)
    -V ID       envelope id (RFC 3461 §4.4)
    --track     print the command that asks what became of it (RFC 3885), on standard error
    -bs         speak SMTP on standard input and output
    -bp         list the queue
    -bi         nothing: aliases need no building
    -q          try what waits now
    -C FILE     configuration file; -c and --config are taken before the word sendmail only

To a submission server far away instead:

    --server URL          smtps://USER@HOST[:465], or smtp://USER@HOST[:587] with STARTTLS
    --password-file FILE  of USER; else the environment's BOTHY_PASSWORD
    --json                say at the end what became of it, as JSON

A link that breaks is waited for, up to an hour without progress; where the server offers CHECKPOINT (RFC 1845) the message goes on where it was
cut off, and does not come twice when the last reply was lost.

Other flags of sendmail's, such as -om, -oem and -v, are taken and ignored.

Exit codes (sysexits.h):

    0   the server has the message, or it is on disk for it
    64  wrong usage
    65  the message or an address is not one
    67  a recipient's domain is not fully qualified
    75  not now: the server says so, or never ran here; try again
    77  no permission

Examples:

    printf 'Subject: hello\n\nHello.\n' | bothy sendmail keeper@clinic.example
    bothy sendmail -t -i < hello.eml
    bothy sendmail --server smtps://keeper@mail.provider.example -f keeper@clinic.example doctor@hospital.example < xray.eml`
}

// The exit codes of sysexits.h that callers of sendmail know.
const (
	exUsage    = 64
	exData     = 65
	exNoUser   = 67
	exTempFail = 75
	exNoPerm   = 77
)

func (c *sendmailCmd) Run(ctx context.Context, g *globals, std stdio) error {
	o, err := parseSendmail(c.Args)
	if err != nil {
		return exit{exUsage, err}
	}
	if o.config != "" {
		g.Config = o.config
	}
	switch o.mode {
	case 'p':
		return (&queueListCmd{Limit: 1000}).Run(ctx, g, std)
	case 'q':
		return (&queueRetryCmd{queueChoice{All: true}}).Run(ctx, g, std)
	case 'i': // newaliases: they are in the directory, and count at once
		return nil
	}
	if o.server != "" {
		return submitFar(ctx, o, std)
	}
	cfg, err := g.load()
	if err != nil {
		return exit{exTempFail, err}
	}
	dial := func() (net.Conn, error) { return dialSubmit(ctx, cfg.SubmitSocket()) }
	if o.mode == 's' {
		return talk(ctx, dial, std)
	}
	outgoing, err := readOutgoing(o, cfg.Hostname, std.in, time.Now())
	if err != nil {
		return err
	}
	defer outgoing.Close()
	if o.track {
		outgoing.track(cfg.Hostname, time.Now(), std.err)
	}
	conn, err := dial()
	if errors.Is(err, errDown) {
		return outgoing.leave(cfg.DropFolder(), std, err)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	return outgoing.send(ctx, conn, cfg.Hostname, cfg.DropFolder())
}

// leave keeps the message for the server to collect when it runs: it is not lost because of an upgrade or a reboot.
func (l *outgoing) leave(dir string, std stdio, down error) error {
	err := drop.Put(dir, &l.env, l)
	switch {
	case errors.Is(err, fs.ErrNotExist): // no server ever ran here
		return down
	case err != nil:
		return exit{exTempFail, errors.Join(down, err)}
	}
	if tty, ok := std.err.(*os.File); ok && isTerminal(tty) {
		fmt.Fprintln(std.err, "bothy: the server is not running; the message waits until it does")
	}
	return nil
}

// errDown says that nobody listens.
var errDown = errors.New("the server is not running")

// dialSubmit opens the server's socket for local mail.
func dialSubmit(ctx context.Context, path string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, exit{exNoPerm, fmt.Errorf("no permission to open %s", path)}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, exit{exTempFail, fmt.Errorf("%w (nobody listens at %s): start it with `bothy serve`", errDown, path)}
	}
	return nil, exit{exTempFail, err}
}

// talk joins standard input and output to the server, for callers that speak SMTP themselves (-bs).
func talk(ctx context.Context, dial func() (net.Conn, error), std stdio) error {
	conn, err := dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go func() { // ends with the process when its input does not
		_, _ = io.Copy(conn, std.in)
		if c, ok := conn.(*net.UnixConn); ok {
			_ = c.CloseWrite()
		}
	}()
	if _, err := io.Copy(std.out, conn); err != nil {
		return exit{exTempFail, err}
	}
	return nil
}

// outgoing is a message read from a program, complete and with its line ends right, in a file without a name.
type outgoing struct {
	*os.File
	env  message.Envelope
	size int64
}

// readOutgoing reads one message and completes its envelope and header.
func readOutgoing(o sendmailOptions, hostname string, in io.Reader, now time.Time) (_ *outgoing, err error) {
	text := newLines(in, !o.ignoreDots)
	header, rest, err := message.ReadHeader(text, message.DefaultHeaderSize)
	if err != nil {
		return nil, exit{exData, fmt.Errorf("message: %w", err)}
	}
	l := &outgoing{env: o.env}
	sender, err := o.from(hostname)
	if err != nil {
		return nil, exit{exUsage, err}
	}
	l.env.ReversePath = sender
	if err := l.address(&header, o, hostname); err != nil {
		return nil, err
	}
	complete(&header, o, cmp.Or(sender, localAddress(hostname)), hostname, now)
	if l.File, err = os.CreateTemp("", "bothy-sendmail-"); err != nil {
		return nil, exit{exTempFail, err}
	}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if err := os.Remove(l.Name()); err != nil {
		return nil, exit{exTempFail, err}
	}
	if l.size, err = io.Copy(l, header.Reader(rest)); err == nil {
		_, err = l.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, exit{exTempFail, fmt.Errorf("message: %w", err)}
	}
	if text.eightBit {
		l.env.Body = max(l.env.Body, message.Body8Bit)
	}
	l.env.UTF8 = needsUTF8(&header, &l.env)
	return l, nil
}

// address fills the envelope's recipients from the arguments and, with -t, from the header, which then loses its Bcc.
func (l *outgoing) address(header *message.Header, o sendmailOptions, hostname string) error {
	add := func(list string) error {
		addresses, err := parseRecipients(list, hostname)
		if err != nil {
			return exit{exData, fmt.Errorf("recipient %q: %w", list, err)}
		}
		for _, a := range addresses {
			l.env.Recipients = append(l.env.Recipients, message.Recipient{Address: a, Notify: o.notify})
		}
		return nil
	}
	for _, arg := range o.recipients {
		if err := add(arg); err != nil {
			return err
		}
	}
	if o.fromHeader {
		prefix := ""
		if header.Has("Resent-To") || header.Has("Resent-Cc") || header.Has("Resent-Bcc") { // RFC 5322 §3.6.6: sent on, to those
			prefix = "Resent-"
		}
		for _, name := range []string{"To", "Cc", "Bcc"} {
			for _, value := range header.All(prefix + name) {
				if err := add(value); err != nil {
					return err
				}
			}
		}
		header.Del("Bcc")
		header.Del("Resent-Bcc")
	}
	seen := map[message.Address]bool{}
	kept := l.env.Recipients[:0]
	for _, r := range l.env.Recipients {
		if !seen[r.Address] {
			seen[r.Address] = true
			kept = append(kept, r)
		}
	}
	if l.env.Recipients = kept; len(kept) == 0 {
		if o.fromHeader {
			return exit{exData, errors.New("no recipients in To, Cc and Bcc")}
		}
		return exit{exUsage, errors.New("no recipients: name them, or give -t to take them from the message")}
	}
	return nil
}

// parseRecipients reads one argument or header value. A name without a domain is one of this host.
func parseRecipients(list, hostname string) ([]message.Address, error) {
	if list != "" && !strings.ContainsAny(list, "@,:;<>\"() \t") {
		list += "@" + hostname
	}
	if strings.TrimSpace(list) == "" {
		return nil, nil
	}
	return message.ParseAddressList(list)
}

// complete adds what RFC 5322 §3.6 wants and is missing.
func complete(header *message.Header, o sendmailOptions, from message.Address, hostname string, now time.Time) {
	if !header.Has("From") {
		value := from.String()
		if name := cmp.Or(o.fullName, fullName()); name != "" {
			value = phrase(name) + " <" + value + ">"
		}
		header.Append("From", value)
	}
	if !header.Has("Date") {
		header.Append("Date", message.FormatDate(now))
	}
	if !header.Has("Message-ID") {
		header.Append("Message-ID", "<"+message.NewID(now).String()+"@"+hostname+">")
	}
}

// phrase is a name as a quoted string (RFC 5322 §3.2.4).
func phrase(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, name)
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
}

// localAddress is the address of whoever runs this.
func localAddress(hostname string) message.Address {
	name := "nobody"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	return message.Address{Local: name, Domain: hostname}
}

// fullName is what the system calls whoever runs this.
func fullName() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(u.Name, ",")
	return name
}

// needsUTF8 reports whether the message can only travel with SMTPUTF8 (RFC 6531 §3.2).
func needsUTF8(header *message.Header, env *message.Envelope) bool {
	for f := range header.Fields() {
		if bytes.ContainsFunc(f.Raw(), func(r rune) bool { return r > 0x7f }) {
			return true
		}
	}
	for _, r := range env.Recipients {
		if !r.Address.IsASCII() {
			return true
		}
	}
	return !env.ReversePath.IsASCII()
}

// send hands the message to the server on conn, in as many transactions as its recipients take. Behind the first the caller must not try it again, for
// some have it: whom a further one does not reach is left on disk in dir.
func (l *outgoing) send(ctx context.Context, conn net.Conn, hostname, dir string) error {
	client := smtp.NewClient(smtp.NewConn(conn), hostname, smtp.Timeouts{})
	if err := client.Greet(ctx); err != nil {
		return exit{exTempFail, fmt.Errorf("the server: %w", err)}
	}
	all := l.env.Recipients
	transactions := 0
	replies, err := smtp.Further(len(all), func(left []int) ([]smtp.Reply, error) {
		if _, err := l.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		env := l.env
		env.Recipients = smtp.Some(all, left)
		transactions++
		return client.Send(ctx, &env, l, l.size)
	})
	if err == nil {
		_ = client.Quit(ctx) // the message is safe already
	}
	var left []int
	for i, r := range replies {
		if !r.Positive() && !r.Permanent() {
			left = append(left, i)
		}
	}
	if transactions < 2 || len(left) == 0 {
		return l.judge(replies, err)
	}
	rest := l.env
	rest.Recipients = smtp.Some(all, left)
	if _, err := l.Seek(0, io.SeekStart); err != nil {
		return exit{exTempFail, err}
	}
	if kept := drop.Put(dir, &rest, l); kept != nil {
		return exit{exTempFail, errors.Join(fmt.Errorf("%d of %d recipients have it, from %s on nobody: %w", len(all)-len(left), len(all), rest.Recipients[0].Address, kept), err)}
	}
	for _, i := range left {
		replies[i] = smtp.Reply{}
	}
	return l.judge(replies, nil)
}

// judge makes the exit code of what was answered for each recipient.
func (l *outgoing) judge(replies []smtp.Reply, err error) error {
	var refused []error
	code, done := 0, 0
	for i, r := range replies {
		if r.Positive() {
			done++
		}
		if r.Code == 0 || r.Positive() {
			continue
		}
		refused = append(refused, fmt.Errorf("%s: %s", l.env.Recipients[i].Address, printable(r.Error())))
		code = worse(code, refusalCode(r))
	}
	if err != nil {
		if done > 0 {
			refused = append(refused, fmt.Errorf("%d of %d recipients have the message", done, len(replies)))
		}
		return exit{exTempFail, errors.Join(append(refused, fmt.Errorf("the server: %w", err))...)}
	}
	if code != 0 {
		return exit{code, errors.Join(refused...)}
	}
	return nil
}

// refusalCode is the exit code for a reply.
func refusalCode(r smtp.Reply) int {
	switch {
	case r.Temporary():
		return exTempFail
	case r.Enhanced[1] == 7, r.Code == 530: // RFC 3463 §3.8: security or policy
		return exNoPerm
	case r.Enhanced[1] == 1 && r.Enhanced[2] <= 6 && r.Enhanced[2] > 0, r.Code == 550: // RFC 3463 §3.2: the address
		return exNoUser
	}
	return exData
}

// worse chooses between the codes of two recipients: one that must not be tried again wins, since the other has been accepted or will
// be reported anyway.
func worse(a, b int) int {
	if a == 0 || a == exTempFail {
		return b
	}
	return a
}
