package smtp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"bothy/application/checkpoint"
	"bothy/application/message"
	"bothy/application/sasl"
)

// Server is the receiving side of SMTP on a kind of port. Its fields are set before first use and not changed after;
// one Server serves any number of connections at once. It never listens.
type Server struct {
	Hostname   string        // in the greeting, EHLO and trace fields
	Protocol   Protocol      // which commands exist here
	TLS        *tls.Config   // nil: STARTTLS is not offered. MinVersion is the caller's; 1.2 is what crypto/tls does by itself
	RequireTLS bool          // 530 5.7.0 before TLS for all but EHLO, NOOP, STARTTLS and QUIT (RFC 3207 §4)
	Auth       Authenticator // nil: AUTH is not offered
	Policy     Policy        // who may send what to whom; nil: everybody everything
	Accept     Acceptor      // who keeps the mail; nil: nobody, 554 for all of it
	Extensions []Extension   // further verbs, such as ATRN
	Offer      Offer         // further keywords of EHLO; each binds the rest of the program
	Via        string        // in the VIA clause of Received fields (RFC 5321 §4.4): how the connection came to be; empty: as usual
	Ahead      bool          // lists KeywordAhead under TLS; every Server takes commands ahead
	Limits     Limits
	Refused    func(Reply)      // hears of every reply of 4yz and 5yz, and returns at once; may be nil
	Log        *slog.Logger     // nil: no log
	Now        func() time.Time // nil: time.Now

	// AllowBareNewlines keeps a CR or LF that stands alone in a message instead of refusing the message (554 5.6.0). It never
	// ends a line here (RFC 5321 §2.3.8), but the next server may think so: SMTP smuggling.
	AllowBareNewlines bool

	// Refuse8Bit refuses a message (554 5.6.3) that holds octets above 127 though MAIL said neither BODY=8BITMIME nor SMTPUTF8. Without it
	// they are kept: RFC 5321 §4.5.2 deviation, it says that the highest bits are cleared, which helps nobody.
	Refuse8Bit bool

	// ShowSubmitter puts the client's name and address in the Received field of the protocol Submission too. Without it
	// the field does not tell where the person sits (RFC 5321 §4.4 deviation: it says SHOULD).
	ShowSubmitter bool

	// Refusal, where it is not zero, greets in place of 220: the host takes no mail from anybody (521, RFC 7504 §3), or none from those
	// who come here (554, RFC 5321 §3.1). All but QUIT is refused.
	Refusal Reply

	// Verify answers VRFY for a user or mailbox name (RFC 5321 §3.5.1): 250, 251, 252, 550, 551 or 553. Nil: 252 for every name.
	Verify func(ctx context.Context, s *Session, name string) Reply

	// Expand answers EXPN for the name of a list: 250 with one mailbox a line, 252 or 550. Nil: EXPN is 502, and not offered.
	Expand func(ctx context.Context, s *Session, name string) Reply

	// ShowZone has the name of the time zone, where there is one, as a comment behind the date of Received fields (RFC 5321 §4.4, RFC 5322 §4.3).
	ShowZone bool

	// Etrn starts the queue of a node for the protocol Relay: a domain, "@" with one for it and all below, or "#" with the name of a
	// queue (RFC 1985 §5.3). It decides whether the session may, returns at once, and answers 250 to 253, 458 or 459 (RFC 1985
	// §5.1). Nil: ETRN is not offered.
	Etrn func(ctx context.Context, s *Session, node string) Reply

	// Checkpoints keeps what came of messages whose connection broke (RFC 1845). Nil: CHECKPOINT is not offered. The Acceptor must keep
	// message.Envelope.Transaction with the message, for the store to know what was accepted.
	Checkpoints *checkpoint.Store

	// Arrived hears how many octets of a message's text are here, each time there are more. Nil: nobody does.
	Arrived func(octets int64)

	// PeerName is who the client is for Checkpoints where it does not log in, such as the provider that we have called. Empty: its address.
	PeerName string

	// PolicyAuthorizes leaves it to the Policy to refuse who has not logged in: it may know a client otherwise, or let all write to the
	// postmaster (RFC 6409 §3.3, §6.4). Without it MAIL and RCPT before AUTH are 530 on the protocol Submission.
	PolicyAuthorizes bool

	// Identify names the account of a peer that the operating system vouches for, such as the user at the other end of a unix
	// socket; empty when it cannot. Nil: peers log in with AUTH.
	Identify func(net.Conn) string
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
	MessageSize      int64         `unit:"bytes" doc:"Largest message (RFC 1870 §3; at least 64 KiB, RFC 5321 §4.5.3.1.7)." default:"50MB"`
	Recipients       int           `doc:"Most recipients of one message (RFC 5321 §4.5.3.1.8: at least 100)." default:"1000" min:"100"`
	Excess           string        `doc:"What becomes of recipients beyond that (RFC 5321 §4.5.3.1.10): defer, 452, so that the client sends to them in a further message; refuse, 550; reject, 452, and the whole message with 503." default:"defer" oneof:"defer refuse reject"`
	CommandTimeout   time.Duration `doc:"Wait for the next command (RFC 5321 §4.5.3.2.7: at least 5 minutes)." default:"5m"`
	DataTimeout      time.Duration `doc:"Longest silence inside message data (RFC 5321 §4.5.3.2.5)." default:"3m"`
	DataRate         int64         `unit:"bytes" doc:"Slowest transfer of message data borne for longer than data_timeout, octets a second." default:"64"`
	Errors           int           `doc:"Commands refused for good (5yz) since the last accepted message before 421 closes the session. RCPT for unknown recipients is among them until a recipient of the same message is known." default:"50"`
	Idle             int           `doc:"Commands in a row that bring no mail (NOOP, RSET, VRFY, HELP, EHLO, ETRN) before 421 closes the session; those a minute apart do not count." default:"100" min:"20"`
	Mails            int           `doc:"Most MAIL commands of one session, 0 for no limit (RFC 9422 §4.1 MAILMAX)." default:"0"`
	RecipientDomains int           `doc:"Most different domains of recipients in one session, 0 for no limit (RFC 9422 §4.3 RCPTDOMAINMAX)." default:"0"`
	Priority         int           `doc:"Highest priority that a client who has logged in may give a message (RFC 6710 §4.1); of others it is 0." default:"4" min:"1" max:"9"`
	AuthFailures     int           `doc:"Failed AUTH commands before 421 closes the session (RFC 4954 §9: at least 3)." default:"3" min:"3"`
}

// The values of Limits.Excess.
const (
	excessDefer  = "defer"
	excessRefuse = "refuse"
	excessReject = "reject"
)

// or fills in defaults.
func (l Limits) or() Limits {
	return Limits{
		MessageSize:      cmp.Or(l.MessageSize, 50_000_000),
		Recipients:       cmp.Or(l.Recipients, 1000),
		Excess:           cmp.Or(l.Excess, excessDefer),
		CommandTimeout:   cmp.Or(l.CommandTimeout, 5*time.Minute),
		DataTimeout:      cmp.Or(l.DataTimeout, 3*time.Minute),
		DataRate:         cmp.Or(l.DataRate, 64),
		Errors:           cmp.Or(l.Errors, 50),
		Idle:             cmp.Or(l.Idle, 100),
		Mails:            l.Mails,
		RecipientDomains: l.RecipientDomains,
		Priority:         cmp.Or(l.Priority, 4),
		AuthFailures:     cmp.Or(l.AuthFailures, 3),
	}
}

// maxReceived is how many Received fields a message may have (RFC 5321 §6.3: at least 100).
const maxReceived = 100

// Policy decides for each command of a transaction; nil accepts, a Reply refuses. An error that is a positive Reply (250, 251)
// accepts with that text; one that is no Reply becomes 451 4.3.0. What it changes in env and to stays changed.
type Policy interface {
	Mail(ctx context.Context, s *Session, env *message.Envelope) error
	Rcpt(ctx context.Context, s *Session, env *message.Envelope, to *message.Recipient) error
}

// Acceptor keeps mail. Accept has the message on disk, synced, when it returns nil (RFC 5321 §6.1). The body starts with the
// Received field of this server; it has CRLF line ends and no transparency dots. An error that is a Reply is sent as it is,
// any other becomes 451 4.3.0. It may return before reading all of the body when it refuses. An error other than io.EOF from
// the body means that the message is not whole and must not be kept: it is a Reply if the server refuses the message
// (too big, a bare LF, a loop). ctx does not end when the session is asked to; the body is not used after Accept returns.
type Acceptor interface {
	Accept(ctx context.Context, env *message.Envelope, body io.Reader) error
}

// Authenticator offers SASL mechanisms; sasl.Authenticator is one.
type Authenticator interface {
	Mechanisms(ch sasl.Channel) []string
	Start(mechanism string, ch sasl.Channel) (sasl.Server, error)
}

// Extension adds one verb and its EHLO line to a Server. The verb is refused before EHLO and in a transaction (503), and
// where TLS is required and missing (530). It must be the last of a pipelined group (RFC 2920 §3.1): input that came with
// it gets 503 and ends the session with ErrBuffered before Run is called.
type Extension struct {
	Verb    string // "ATRN"
	Keyword string // EHLO line, "ATRN"; empty for none
	// Run answers the command. A positive reply with turn set ends Serve after it is flushed, with ErrTurned; if input has
	// come meanwhile it ends with ErrBuffered instead and the reply is 503. Arg is what stands behind the verb
	// and one space, without white space at its end (RFC 5321 §4.1.1).
	Run func(ctx context.Context, s *Session, arg string) (reply Reply, turn bool)
}

// ErrTurned is what Serve returns when an Extension turned the connection round: the caller now runs a Client on the same Conn.
var ErrTurned = errors.New("smtp: connection turned")

// ErrRefused is what Serve returns, wrapped, when it closed the session with 421 for what the client did.
var ErrRefused = errors.New("smtp: session closed by the server")

// Session is the server's side of one connection, as policies see it. One goroutine owns it.
type Session struct {
	Conn     *Conn
	Peer     netip.AddrPort // the zero AddrPort if the connection has none
	Helo     string         // the argument of the last HELO or EHLO
	Extended bool           // it was EHLO
	Identity string         // the authenticated account; empty before AUTH

	server   *Server
	limits   Limits
	table    []command
	log      *slog.Logger // made when first used
	state    state
	env      *message.Envelope // of the open transaction
	chunk    *body             // the message BDAT is sending
	transid  string            // TRANSID of the last MAIL
	from     int64             // XOFFSET of it; -1: none
	restored bool              // the envelope's recipients are those of the transaction that was cut off
	behind   int               // chunks since one that failed
	errors   int               // 5yz since the last accepted message
	unknown  int               // recipients refused in the open transaction, not among errors yet
	mails    int               // MAIL commands, whatever became of them
	domains  map[string]bool   // of recipients, where they are limited
	excess   bool              // the open transaction has had more recipients than it may
	idle     int               // commands in a row that brought no mail
	idled    time.Time         // when the last of them came
	failures int               // of AUTH
	authed   bool              // by AUTH
	deflated bool              // the open transaction's message comes compressed
	stranger bool              // the Policy answered 530 to MAIL

	transaction *checkpoint.Transaction // that the open transaction is; nil: it has no name
}

// Server returns the server whose session this is.
func (s *Session) Server() *Server { return s.server }

// Log returns the session's logger, which names the peer.
func (s *Session) Log() *slog.Logger {
	switch {
	case s.log != nil:
	case s.server.Log == nil:
		s.log = slog.New(slog.DiscardHandler)
	default:
		s.log = s.server.Log.With("peer", s.Peer)
	}
	return s.log
}
