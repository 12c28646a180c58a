package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"bothy/application/message"
	"bothy/application/sasl"
)

// Conn is one SMTP connection, whoever opened it and whichever role runs on it: the line reader, the reply or command
// writer and the TLS state. A Server or a Client runs on it; it can be turned to the other role.
type Conn struct{ net.Conn }

// NewConn wraps nc. It reads nothing.
func NewConn(nc net.Conn) *Conn { return &Conn{nc} }

// TLS returns the TLS state, nil on a plain connection.
func (c *Conn) TLS() *tls.ConnectionState { return nil }

// ErrBuffered says that the peer sent octets it must not have sent yet: behind STARTTLS (RFC 3207 §4.2), behind ATRN,
// or before a turned connection's greeting. The connection is not usable any more.
var ErrBuffered = errors.New("smtp: input behind a command that must be last")

// Turn readies the connection for the other role (RFC 2645 §5.3): everything written is flushed, and nothing may have been
// read that was not consumed, else ErrBuffered.
func (c *Conn) Turn() error { return nil }

// Server is the receiving side of SMTP on a kind of port. Its fields are set before first use and not changed after;
// one Server serves any number of connections at once. It never listens.
type Server struct {
	Hostname   string        // in the greeting, EHLO and trace fields
	Protocol   Protocol      // which commands exist here
	TLS        *tls.Config   // nil: STARTTLS is not offered
	RequireTLS bool          // 530 5.7.0 for MAIL and AUTH before TLS (RFC 3207 §4)
	Auth       Authenticator // nil: AUTH is not offered
	Policy     Policy        // who may send what to whom
	Accept     Acceptor      // who keeps the mail
	Extensions []Extension   // further verbs, such as ATRN
	Limits     Limits
	Log        *slog.Logger
	Now        func() time.Time
}

// Protocol chooses the command table.
type Protocol uint8

// The protocols a Server speaks.
const (
	Relay      Protocol = iota // RFC 5321
	Submission                 // RFC 6409: AUTH required before MAIL (530), "ESMTPSA" trace
	Held                       // RFC 2645: EHLO, STARTTLS, AUTH, QUIT and the Extensions; all else 502
)

// Limits are the bounds of one session; the zero value of each means its default.
type Limits struct {
	MessageSize    int64         `unit:"bytes" doc:"Largest message (RFC 1870 §3; at least 64 KiB, RFC 5321 §4.5.3.1.7)." default:"50MB"`
	Recipients     int           `doc:"Most recipients of one message (RFC 5321 §4.5.3.1.8: at least 100)." default:"1000" min:"100"`
	CommandTimeout time.Duration `doc:"Wait for the next command (RFC 5321 §4.5.3.2.7: at least 5 minutes)." default:"5m"`
	DataTimeout    time.Duration `doc:"Wait for each buffer of message data (RFC 5321 §4.5.3.2.5)." default:"3m"`
	DataRate       int64         `unit:"bytes" doc:"Slowest transfer of message data borne, octets a second averaged over the data phase." default:"64"`
	Errors         int           `doc:"Refused commands borne before 421 closes the session." default:"50"`
}

// Policy decides for each command of a transaction; nil accepts, a Reply refuses.
type Policy interface {
	Mail(ctx context.Context, s *Session, env *message.Envelope) error
	Rcpt(ctx context.Context, s *Session, env *message.Envelope, to *message.Recipient) error
}

// Acceptor keeps mail. Accept has the message on disk, synced, when it returns nil (RFC 5321 §6.1). The body starts with the
// Received field of this server; it has CRLF line ends and no transparency dots. An error that is a Reply is sent as it is,
// any other becomes 451 4.3.0. It may return before reading all of the body when it refuses.
type Acceptor interface {
	Accept(ctx context.Context, env *message.Envelope, body io.Reader) error
}

// Authenticator offers SASL mechanisms; sasl.Authenticator is one.
type Authenticator interface {
	Mechanisms(ch sasl.Channel) []string
	Start(mechanism string, ch sasl.Channel) (sasl.Server, error)
}

// Extension adds one verb and its EHLO line to a Server.
type Extension struct {
	Verb    string // "ATRN"
	Keyword string // EHLO line, "ATRN"; empty for none
	// Run answers the command. A positive reply with Turn set ends Serve after it is flushed, with ErrTurned.
	Run func(ctx context.Context, s *Session, arg string) (reply Reply, turn bool)
}

// ErrTurned is what Serve returns when an Extension turned the connection round: the caller now runs a Client on the same Conn.
var ErrTurned = errors.New("smtp: connection turned")

// Session is the server's side of one connection, as policies see it.
type Session struct {
	Conn     *Conn
	Helo     string // the argument of the last HELO or EHLO
	Extended bool   // it was EHLO
	Identity string // the authenticated account; empty before AUTH
	// ...
}

// Serve answers one connection from greeting to end. It returns nil after QUIT, ErrTurned after a turn, else what ended the
// session. When ctx ends, the session gets 421 at the next command boundary (RFC 5321 §3.8) and accepted data is finished
// within the grace the caller gives by closing the connection.
func (s *Server) Serve(ctx context.Context, c *Conn) error { panic("contract") }
