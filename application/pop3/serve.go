package pop3

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"bothy/application/mailbox"
	"bothy/application/message"
	"bothy/application/sasl"
)

// Config is what the operator sets.
type Config struct {
	Listen      []string      `doc:"Addresses of the POP3 port, where STLS is offered (RFC 2595 §4). Empty: nowhere." example:":110"`
	ListenTLS   []string      `toml:"listen_tls" doc:"Addresses of the POP3 port where TLS comes first (RFC 8314 §3.1). Empty: nowhere." example:":995"`
	IdleTimeout time.Duration `doc:"Wait for the next command; after it the session is closed and nothing removed (RFC 1939 §3: at least 10 minutes)." default:"10m" min:"10m"`
	Errors      int           `doc:"Refused commands borne before the session is closed." default:"20" min:"1"`
	Logins      int           `doc:"Failed logins borne before the session is closed." default:"5" min:"1"`
}

// The defaults of Config, and what it does not set.
const (
	idleTimeout   = 10 * time.Minute // RFC 1939 §3
	maxErrors     = 20
	maxLogins     = 5
	writeTimeout  = 5 * time.Minute // a client that takes no octets, for each buffer
	handshakeTime = time.Minute
	readBuffer    = 1 << 10
	writeBuffer   = 16 << 10 // responses of a pipelined group kept for one write
)

// Authenticator logs people in; sasl.Authenticator is one.
type Authenticator interface {
	Mechanisms(ch sasl.Channel) []string
	Start(mechanism string, ch sasl.Channel) (sasl.Server, error)
	Password(ctx context.Context, ch sasl.Channel, username, password string) (account string, err error)
}

// Boxes keeps the mail; mailbox.Store does.
type Boxes interface {
	// Hold gives an account's maildrop to one session, or returns mailbox.ErrInUse.
	Hold(account string) (release func(), err error)
	Messages(ctx context.Context, account string) ([]mailbox.Message, error)
	// Body opens Message.Size octets, of which the last are CRLF; mailbox.ErrDamaged says that they are not there any more.
	Body(ctx context.Context, account string, m mailbox.Message) (io.ReadCloser, error)
	// Remove has the messages gone, on disk, when it returns nil.
	Remove(ctx context.Context, account string, gone []message.ID) error
}

// Server is the service. Its fields are set before first use and not changed after; one Server serves any number of
// connections at once. It never listens.
type Server struct {
	Hostname string
	TLS      *tls.Config // nil: STLS is not offered
	Auth     Authenticator
	Boxes    Boxes
	Config   Config
	Log      *slog.Logger // nil: none

	// Entered hears who logged in, and from where. Nil: nobody wants to know.
	Entered func(peer netip.Addr, account string)
}

// session is one connection. One goroutine runs it.
type session struct {
	server *Server
	raw    net.Conn // as it was given
	conn   net.Conn // raw, or TLS on it
	r      *bufio.Reader
	w      *bufio.Writer
	line   []byte
	log    *slog.Logger

	tls      *tls.ConnectionState // nil when plain
	state    state
	username string // in the state named
	refused  int    // commands
	failed   int    // logins

	account  string
	release  func()            // gives the maildrop back; nil before login
	messages []mailbox.Message // as they were at login; message n is messages[n-1]
	deleted  []bool
	sent     int // messages
}

// The ways a session ends that are nobody's fault.
var (
	errQuit    = errors.New("pop3: QUIT")
	errTooMany = errors.New("pop3: too many refused commands")
)

// Serve answers one connection from greeting to end, and closes it. nc may be a TLS connection, shaken hands or not (RFC 8314
// §3.1). It returns nil after QUIT, else what ended the session; only QUIT removes messages (RFC 1939 §6). When ctx ends, the
// session is closed at the next command boundary.
func (s *Server) Serve(ctx context.Context, nc net.Conn) error {
	c := &session{server: s, raw: nc, conn: nc, state: authorization, log: s.Log}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if c.release != nil {
			c.release()
		}
		c.conn.Close() // RFC 8314 §3.4: with the closure alert
	}()
	if err := c.secured(ctx); err != nil {
		return fmt.Errorf("pop3: TLS: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { nc.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := c.run(ctx)
	if c.account != "" {
		c.log.Info("maildrop session ended", "account", c.account, "sent", c.sent, "err", err)
	}
	return err
}

// secured notes the TLS state of conn, after its handshake.
func (s *session) secured(ctx context.Context) error {
	s.r = bufio.NewReaderSize(s.conn, readBuffer)
	s.w = bufio.NewWriterSize(patient{s.conn}, writeBuffer)
	conn, ok := s.conn.(interface {
		HandshakeContext(context.Context) error
		ConnectionState() tls.ConnectionState
	})
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	state := conn.ConnectionState()
	s.tls = &state
	return nil
}

// patient bounds each write, not all of them: a message may take hours.
type patient struct{ net.Conn }

func (p patient) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return p.Conn.Write(b)
}

// channel is what mechanisms may know of the connection.
func (s *session) channel() sasl.Channel {
	ch := sasl.Channel{TLS: s.tls}
	if a, ok := s.raw.RemoteAddr().(interface{ AddrPort() netip.AddrPort }); ok {
		ch.Peer = a.AddrPort().Addr().Unmap()
	}
	return ch
}

// run greets and answers command after command.
func (s *session) run(ctx context.Context) error {
	s.ok("%s POP3 server ready", s.server.Hostname) // RFC 1939 §4
	for {
		line, err := s.readLine(ctx, maxCommand)
		now := s.state
		if s.state == named {
			s.state = authorization // RFC 1939 §7: PASS comes immediately after USER
		}
		if err == nil {
			err = s.obey(ctx, now, line)
		}
		no, isRefusal := errors.AsType[refusal](err)
		switch {
		case err == nil:
			continue
		case errors.Is(err, errQuit):
			return s.w.Flush()
		case !isRefusal:
			return s.stopped(ctx, err)
		}
		s.refuse(no)
		if s.refused++; s.refused >= cmp.Or(s.server.Config.Errors, maxErrors) || s.failed >= cmp.Or(s.server.Config.Logins, maxLogins) {
			return errors.Join(errTooMany, s.w.Flush())
		}
	}
}

// stopped is err, or why ctx ended: then the client hears of it in place of the response it may be waiting for.
func (s *session) stopped(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	s.refuse(refusal{codeTemp, "server is closing down, nothing was removed"})
	return errors.Join(context.Cause(ctx), s.w.Flush())
}

// obey runs one command, if the table allows it in the state that the session was in.
func (s *session) obey(ctx context.Context, now state, line []byte) error {
	keyword, arg, ok := parseCommand(line)
	if !ok {
		return errSyntax
	}
	var row *command
	if i := slices.IndexFunc(commands, func(c command) bool { return c.keyword == keyword }); i >= 0 {
		row = &commands[i]
	}
	if err := now.permit(row, arg); err != nil {
		return err
	}
	return row.run(s, ctx, arg)
}

// readLine waits for a line of at most so many octets; it is valid until the next one is read. Responses are sent when no
// further command is there already (RFC 2449 §6.6).
func (s *session) readLine(ctx context.Context, most int) ([]byte, error) {
	if ahead, _ := s.r.Peek(s.r.Buffered()); bytes.IndexByte(ahead, '\n') < 0 {
		if err := s.w.Flush(); err != nil {
			return nil, err
		}
	}
	if err := s.raw.SetReadDeadline(time.Now().Add(cmp.Or(s.server.Config.IdleTimeout, idleTimeout))); err != nil {
		return nil, err
	}
	if ctx.Err() != nil { // in this order: what the end of ctx sets is not lost
		return nil, context.Cause(ctx)
	}
	var err error
	s.line, err = readLine(s.r, s.line[:0], most)
	return s.line, err
}

// ok sends a positive response. What fails to be written shows at the next flush.
func (s *session) ok(format string, args ...any) { s.say("+OK " + fmt.Sprintf(format, args...)) }

func (s *session) refuse(r refusal) { s.say(r.Error()) }

func (s *session) say(line string) {
	s.w.WriteString(line[:min(len(line), maxLine-len("\r\n"))])
	s.w.WriteString("\r\n")
}

// stls is STLS (RFC 2595 §4).
func (s *session) stls(ctx context.Context, _ string) error {
	switch {
	case s.tls != nil:
		return refuse("", "TLS is active already")
	case s.server.TLS == nil:
		return refuse("", "TLS is not available")
	case s.r.Buffered() > 0: // it would be taken for encrypted
		s.refuse(refusal{text: "nothing may follow STLS before its response"})
		return errors.Join(errors.New("pop3: input behind STLS"), s.w.Flush())
	}
	s.ok("begin TLS")
	if err := s.w.Flush(); err != nil {
		return err
	}
	if err := s.raw.SetDeadline(time.Time{}); err != nil {
		return err
	}
	s.conn = tls.Server(s.raw, s.server.TLS)
	if err := s.secured(ctx); err != nil {
		return fmt.Errorf("pop3: STLS: %w", err)
	}
	return nil
}

// capa is CAPA (RFC 2449 §5).
func (s *session) capa(context.Context, string) error {
	s.ok("capabilities follow")
	for _, line := range s.capabilities() {
		s.say(line)
	}
	s.say(".")
	return nil
}

func (s *session) capabilities() []string {
	list := []string{
		"TOP",            // RFC 2449 §6.1
		"UIDL",           // RFC 2449 §6.8
		"RESP-CODES",     // RFC 2449 §6.4
		"AUTH-RESP-CODE", // RFC 3206 §6
		"PIPELINING",     // RFC 2449 §6.6
		"EXPIRE NEVER",   // RFC 2449 §6.7
	}
	mechanisms := s.mechanisms()
	if slices.Contains(mechanisms, sasl.PLAIN) {
		list = append(list, "USER") // RFC 2449 §6.2
	}
	if len(mechanisms) > 0 {
		line := "SASL" // RFC 5034 §3
		for _, m := range mechanisms {
			line += " " + m
		}
		list = append(list, line)
	}
	if s.server.TLS != nil && s.tls == nil && s.state != transaction {
		list = append(list, "STLS") // RFC 2595 §4: where it is permitted
	}
	return append(list, "IMPLEMENTATION bothy") // RFC 2449 §6.9
}
