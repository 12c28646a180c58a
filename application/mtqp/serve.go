package mtqp

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"
)

// Config is the service.
type Config struct {
	Listen []string `doc:"Addresses where senders ask what became of their messages (RFC 3887). Not empty: tracking is offered where mail is taken (MTRK, RFC 3885)." example:":1038"`
}

const (
	maxLine     = 998              // octets before the CRLF (RFC 3887 §2.2)
	idle        = 10 * time.Minute // RFC 3887 §2.5: at least
	writing     = time.Minute
	handshake   = time.Minute
	maxRefused  = 20   // commands refused before the connection is closed
	maxCommands = 1000 // of one connection
	pause       = time.Second
)

// Server is the service. Its fields are set before first use and not changed after.
type Server struct {
	Hostname string
	TLS      *tls.Config // nil: STARTTLS is not offered
	Record   *Record
	Log      *slog.Logger
	Now      func() time.Time // nil: time.Now
}

type session struct {
	*Server
	conn    net.Conn
	r       *bufio.Reader
	secure  bool
	refused int
}

var errQuit = errors.New("mtqp: QUIT")

// Serve answers one connection. It does not close it. It returns nil after QUIT, else what ended the session.
func (srv *Server) Serve(ctx context.Context, conn net.Conn) error {
	s := &session{Server: srv, conn: conn, r: bufio.NewReaderSize(conn, maxLine+2)}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if err := s.greet(); err != nil {
		return err
	}
	for range maxCommands {
		if s.refused > maxRefused {
			return errors.New("mtqp: too many refused commands")
		}
		err := s.step(ctx)
		if errors.Is(err, errQuit) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return errors.New("mtqp: too many commands")
}

// greet says what there is (RFC 3887 §3).
func (s *session) greet() error {
	if s.TLS == nil || s.secure {
		return s.say("+OK/MTQP " + s.Hostname + " MTQP server ready")
	}
	return s.say("+OK+/MTQP "+s.Hostname+" MTQP server ready", "STARTTLS", ".")
}

func (s *session) say(lines ...string) error {
	return s.write([]byte(strings.Join(lines, "\r\n") + "\r\n"))
}

func (s *session) write(b []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writing)); err != nil {
		return err
	}
	_, err := s.conn.Write(b)
	return err
}

// bad refuses a command.
func (s *session) bad(line string) error {
	s.refused++
	return s.say(line)
}

// step reads and answers one command.
func (s *session) step(ctx context.Context) error {
	if err := s.conn.SetReadDeadline(time.Now().Add(idle)); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	line, err := s.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return errors.Join(s.say("-BAD line too long"), err)
	}
	if err != nil {
		return err
	}
	text, whole := strings.CutSuffix(string(line), "\r\n")
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' })
	if !whole || len(words) == 0 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r > '~' }) {
		return s.bad("-BAD syntax")
	}
	switch verb := strings.ToUpper(words[0]); {
	case verb == "TRACK" && len(words) == 3:
		return s.track(ctx, words[1], words[2])
	case verb == "COMMENT": // RFC 3887 §5
		return s.say("+OK")
	case verb == "STARTTLS" && len(words) == 2:
		return s.startTLS(ctx, words[1])
	case verb == "QUIT" && len(words) == 1: // RFC 3887 §7
		return errors.Join(s.say("+OK goodbye"), errQuit)
	}
	return s.bad("-BAD command not recognized")
}

// track is TRACK (RFC 3887 §4). Whoever has not the secret is told what is told of a message that never was.
func (s *session) track(ctx context.Context, envid, secret string) error {
	envid = strings.TrimSuffix(strings.TrimPrefix(envid, "<"), ">")
	a, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(secret, "="))
	if err != nil {
		return s.bad("-BAD secret is not base64")
	}
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	found, err := s.Record.Find(ctx, envid, a, now())
	if err != nil {
		if s.Log != nil {
			s.Log.Error("record of tracked messages cannot be read", "err", err)
		}
		return s.say("-TEMP/unavailable try again later")
	}
	if len(found) == 0 {
		s.refused++
		time.Sleep(pause) // who guesses has to wait
		return s.say("-ERR/noinfo nothing is known of it")
	}
	return s.write(appendDotted([]byte("+OK+ tracking information follows\r\n"), appendStatus(nil, s.Hostname, found)))
}

// startTLS is STARTTLS (RFC 3887 §6).
func (s *session) startTLS(ctx context.Context, name string) error {
	switch {
	case s.secure:
		return s.bad("-BAD/tls-in-progress")
	case s.TLS == nil:
		return s.bad("-ERR/unsupported")
	case !s.covers(name):
		return s.bad("-BAD/bad-fqdn")
	case s.r.Buffered() > 0: // RFC 3887 §6: last in a group
		return errors.Join(s.say("-BAD input behind STARTTLS"), errors.New("mtqp: input behind STARTTLS"))
	}
	if err := s.say("+OK begin"); err != nil {
		return err
	}
	tc := tls.Server(s.conn, s.TLS)
	hctx, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	if err := tc.HandshakeContext(hctx); err != nil {
		return err
	}
	s.conn, s.secure = tc, true
	s.r.Reset(tc)
	return s.greet() // RFC 3887 §6.2
}

// covers reports whether our certificate is for name (RFC 3887 §6).
func (s *session) covers(name string) bool {
	hello := &tls.ClientHelloInfo{ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{
		tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.PSSWithSHA256, tls.Ed25519,
	}}
	if s.TLS.GetCertificate != nil {
		c, err := s.TLS.GetCertificate(hello)
		return err == nil && c != nil && (c.Leaf == nil || c.Leaf.VerifyHostname(name) == nil)
	}
	for i := range s.TLS.Certificates {
		if c := &s.TLS.Certificates[i]; c.Leaf != nil && c.Leaf.VerifyHostname(name) == nil {
			return true
		}
	}
	return false
}

// Ask asks a server what became of a message, under TLS where that is offered, or not at all if secure wants it (RFC 3887 §11), and returns the
// answer, a MIME body. conn is used up.
func Ask(ctx context.Context, conn net.Conn, cfg *tls.Config, secure bool, envid string, secret []byte) (string, error) {
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	r := bufio.NewReaderSize(conn, maxLine+2)
	options, err := hear(r)
	if err != nil {
		return "", err
	}
	offered := strings.Contains(strings.ToUpper(options), "STARTTLS")
	if secure && !offered {
		return "", errors.New("mtqp: the server does not offer STARTTLS")
	}
	if offered {
		if _, err := io.WriteString(conn, "STARTTLS "+cfg.ServerName+"\r\n"); err != nil {
			return "", err
		}
		if _, err := hear(r); err != nil {
			return "", err
		}
		tc := tls.Client(conn, cfg)
		if err := tc.HandshakeContext(ctx); err != nil {
			return "", err
		}
		conn = tc
		r.Reset(tc)
		if _, err := hear(r); err != nil {
			return "", err
		}
	}
	if _, err := io.WriteString(conn, "TRACK <"+envid+"> "+base64.StdEncoding.EncodeToString(secret)+"\r\n"); err != nil {
		return "", err
	}
	answer, err := hear(r)
	if err == nil {
		_, _ = io.WriteString(conn, "QUIT\r\n") // nothing is lost without
	}
	return answer, err
}

// ErrNoInfo says that the server knows nothing of the message, or that the secret is another's.
var ErrNoInfo = errors.New("mtqp: the server knows nothing of it")

// maxAnswer bounds an answer, in octets.
const maxAnswer = 1 << 20

// hear reads a response and returns what follows its first line (RFC 3887 §2.3).
func hear(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	switch {
	case strings.HasPrefix(line, "-ERR/noinfo"):
		return "", ErrNoInfo
	case !strings.HasPrefix(line, "+OK"):
		return "", errors.New("mtqp: the server says " + line)
	case !strings.HasPrefix(line, "+OK+"):
		return "", nil
	}
	var b strings.Builder
	for b.Len() < maxAnswer {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if line == ".\r\n" {
			return b.String(), nil
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	return "", errors.New("mtqp: answer too long")
}
