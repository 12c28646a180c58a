package smtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"bothy/application/sasl"
)

// errQuit ends a session well.
var errQuit = errors.New("smtp: QUIT")

// Serve answers one connection from greeting to end; it does not close it. It returns nil after QUIT, ErrTurned after a turn,
// io.EOF when the client closed without QUIT, else what ended the session. When ctx ends, the session gets 421 at the next
// command boundary (RFC 5321 §3.8); a message that is being sent is taken to its end, within the grace that the caller
// gives by closing the connection.
func (srv *Server) Serve(ctx context.Context, c *Conn) (err error) {
	s := &Session{Conn: c, Peer: c.Peer(), server: srv, limits: srv.Limits.or(), state: fresh}
	if srv.Identify != nil {
		s.Identity = srv.Identify(c.Conn)
	}
	s.table = srv.table()
	defer c.shrink()
	defer s.suspend()
	defer func() {
		if fault := recover(); fault != nil { // one session's fault is one session's
			s.Log().Error("session panicked", "fault", fault, "stack", string(debug.Stack()))
			s.say(replyBroken)
			err = errors.Join(fmt.Errorf("smtp: panic: %v", fault), c.flush())
		}
	}()
	if err := c.begin(ctx); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, c.interrupt())()
	s.say(srv.greeting())
	if err := c.flush(); err != nil {
		return err
	}
	for err == nil {
		err = s.step(ctx)
	}
	if errors.Is(err, errQuit) {
		err = nil
	}
	return err
}

// greeting is the first reply, without an enhanced code (RFC 2034 §4).
func (srv *Server) greeting() Reply {
	if srv.Refusal.Code != 0 {
		return Reply{Code: srv.Refusal.Code, Text: srv.Hostname + " " + srv.Refusal.Text}
	}
	return Reply{Code: 220, Text: srv.Hostname + " ESMTP ready"} // RFC 5321 §4.3.1
}

// Refuse answers a connection that is not wanted: the reply instead of a greeting (RFC 5321 §3.1), such as 421 for too many
// connections or 554. It does not close it.
func (srv *Server) Refuse(c *Conn, r Reply) error {
	s := Session{Conn: c, server: srv}
	s.say(r.enhanced())
	return c.flush()
}

// now returns the time that is written down. Deadlines do not use it.
func (s *Session) now() time.Time {
	if s.server.Now != nil {
		return s.server.Now()
	}
	return time.Now()
}

// step reads one command and answers it.
func (s *Session) step(ctx context.Context) error {
	line, err := s.readLine(ctx)
	switch {
	case errors.Is(err, errLineLength):
		if _, ok := cutPrefixFold(string(line), "AUTH "); ok { // RFC 4954 §6
			return s.answer(nil, replyAuthLong, nil)
		}
		return s.answer(nil, replyTooLong, nil)
	case errors.Is(err, errLineEnd):
		return s.answer(nil, replyLineEnd, nil)
	case errors.Is(err, errEndless), errors.Is(err, errNotSMTP):
		return s.close(replyNotSMTP, fmt.Errorf("%w: %w", ErrRefused, err))
	case err != nil:
		return err
	}
	verb, arg, ok := splitCommand(line)
	if !ok || bytes.IndexByte(line, 0) >= 0 {
		return s.answer(nil, replySyntax, nil)
	}
	if extension := s.extension(verb); extension != nil {
		return s.extend(ctx, extension, extensionArg(line, verb))
	}
	row := s.find(string(verb))
	if row == nil && isHTTP(verb) {
		return s.close(replyNotSMTP, fmt.Errorf("%w: %w", ErrRefused, errNotSMTP))
	}
	if row == nil {
		return s.answer(nil, s.server.unknown(), nil)
	}
	text := string(arg)
	reply := s.permit(row, text)
	if reply.Code == 0 {
		reply, err = row.run(s, ctx, text)
	}
	return s.answer(row, reply, err)
}

// readLine waits for the client's next line. At a command boundary the end of ctx is obeyed at once.
func (s *Session) readLine(ctx context.Context) ([]byte, error) {
	var err error
	if !s.Conn.hasLine() {
		err = s.Conn.await(ctx, time.Now().Add(s.limits.CommandTimeout))
	}
	if ctx.Err() != nil {
		return nil, s.close(replyShutdown, context.Cause(ctx))
	}
	var line []byte
	switch {
	case err != nil:
	case s.Conn.tls == nil && len(s.Conn.in) > 0 && s.Conn.in[0] == handshakeRecord:
		return nil, errNotSMTP
	default:
		line, err = s.Conn.readLine(maxCommandLine)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if ctx.Err() != nil {
			return nil, s.close(replyShutdown, context.Cause(ctx))
		}
		return nil, s.close(replyTimeout, err)
	}
	return line, err
}

// errNotSMTP says that the client speaks something else: TLS from the start, or HTTP because a web page told a browser to.
var errNotSMTP = errors.New("smtp: the client does not speak SMTP")

// handshakeRecord is the first octet of TLS (RFC 8446 §5.1). The client would wait for an answer in kind, and never end a line.
const handshakeRecord = 0x16

// isHTTP reports whether verb is a method of HTTP (RFC 9110 §9.3). What follows may be commands that somebody else wrote.
func isHTTP(verb []byte) bool {
	switch string(verb) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI":
		return true
	}
	return false
}

// close says r, the last reply of the session, and returns why.
func (s *Session) close(r Reply, why error) error {
	s.say(r)
	if err := s.Conn.flush(); err != nil {
		return errors.Join(why, err)
	}
	return why
}

// answer sends the reply to one command; row is nil for a line that is none. It returns err, or ErrRefused when the
// client has had enough of refusals.
func (s *Session) answer(row *command, r Reply, err error) error {
	if r.Code == 0 {
		return err
	}
	if r.Code >= 500 && s.tooMany(row) && err == nil {
		return s.close(replyTooMany, fmt.Errorf("%w: %d errors, the last was %w", ErrRefused, s.errors+s.unknown, r))
	}
	if row != nil && row.needs&idling != 0 && s.tooIdle() && err == nil {
		return s.close(replyIdle, fmt.Errorf("%w: %d commands and no mail", ErrRefused, s.idle))
	}
	if row == nil || row.needs&noEnhanced == 0 {
		r = r.enhanced()
	}
	s.say(r)
	if r.Code == 421 && err == nil { // a policy said so
		err = fmt.Errorf("%w: %w", ErrRefused, r)
	}
	// RFC 2920 §3.2: replies of a group may wait for each other, these few of them.
	if row != nil && row.needs&heldBack != 0 && err == nil && len(s.Conn.out) < maxHeldBack {
		return nil
	}
	return errors.Join(err, s.Conn.flush())
}

// tooMany counts a command that was refused for good. Recipients who are not known count once one of their transaction is, as mailing
// lists have it, only when that transaction ends without a message, as it does for who guesses names (RFC 5321 §7.3).
func (s *Session) tooMany(row *command) bool {
	switch {
	case row != nil && row.verb == "BDAT" && s.behind > 0 && s.behind <= maxBehind: // RFC 3030 §2: we must be prepared for them
		return false
	case row != nil && row.verb == "RCPT" && s.env != nil:
		s.unknown++
		if len(s.env.Recipients) > 0 {
			return s.unknown > s.limits.Recipients
		}
	default:
		s.errors++
	}
	return s.errors+s.unknown >= s.limits.Errors
}

// idlePause is how far apart commands that bring no mail may come for ever: a peer that keeps a session alive is welcome to.
const idlePause = time.Minute

// tooIdle counts a command that brought no mail.
func (s *Session) tooIdle() bool {
	now := time.Now()
	if now.Sub(s.idled) >= idlePause {
		s.idle = 0
	}
	s.idle, s.idled = s.idle+1, now
	return s.idle > s.limits.Idle
}

// say puts r behind what is to be sent.
func (s *Session) say(r Reply) {
	if r.Code == 421 { // RFC 5321 §4.2.2: the server's name is the first word
		r.Text = s.server.Hostname + " " + r.Text
	}
	if r.Code >= 400 && s.server.Refused != nil {
		s.server.Refused(r)
	}
	s.Conn.out = r.AppendTo(s.Conn.out)
}

// enhanced gives a reply that has none the enhanced code that says no more than the reply code does (RFC 3463 §3.1), and
// mends one that does not agree with it (RFC 2034 §4).
func (r Reply) enhanced() Reply {
	switch class := r.Code / 100; class {
	case 2, 4, 5:
		r.Enhanced[0] = class
	default:
		r.Enhanced = [3]int{}
	}
	return r
}

// asReply makes a reply of an error that a policy or an acceptor returned; what is no fit reply is logged and 451 4.3.0.
func (s *Session) asReply(ctx context.Context, err error, what string) Reply {
	var r Reply
	if errors.As(err, &r) && r.Code >= 200 && r.Code <= 599 && r.Code/100 != 3 {
		return r
	}
	if ctx.Err() == nil {
		s.Log().Error("command failed", "command", what, "err", err)
	}
	return replyLocal
}

func (s *Session) extension(verb []byte) *Extension {
	if s.server.Refusal.Code != 0 {
		return nil
	}
	for i := range s.server.Extensions {
		if e := &s.server.Extensions[i]; strings.EqualFold(e.Verb, string(verb)) {
			return e
		}
	}
	return nil
}

// extensionArg is what stands behind a verb and its space. RFC 5321 §4.1.1: white space at the end is borne.
func extensionArg(line, verb []byte) string {
	rest, _ := bytes.CutPrefix(bytes.TrimRight(line[len(verb):], " \t"), []byte(" "))
	return string(rest)
}

// extend runs an Extension's command.
func (s *Session) extend(ctx context.Context, e *Extension, arg string) error {
	row := &command{verb: e.Verb, legal: ready, needs: needTLS}
	if r := s.permit(row, arg); r.Code != 0 {
		return s.answer(row, r, nil)
	}
	if err := s.Conn.flush(); err != nil {
		return err
	}
	if len(s.Conn.in) > 0 { // what comes after this is looked for before a turn only: that takes probeTimeout
		return s.close(replyBuffered, ErrBuffered)
	}
	reply, turn := e.Run(ctx, s, arg)
	if reply.Code == 0 {
		reply = replyLocal
	}
	if !turn || !reply.Positive() {
		return s.answer(row, reply, nil)
	}
	if err := s.last(); err != nil { // Run may have taken its time
		return err
	}
	return s.answer(row, reply, ErrTurned)
}

// last returns ErrBuffered, after a reply, if there is input behind a command that must be last (RFC 2920 §3.1).
func (s *Session) last() error {
	err := s.Conn.Turn()
	if errors.Is(err, ErrBuffered) {
		return s.close(replyBuffered, err)
	}
	return err
}

// reset forgets the transaction (RFC 5321 §4.1.1.5).
func (s *Session) reset() {
	s.forget()
	s.errors += s.unknown
	s.env, s.chunk, s.unknown, s.excess = nil, nil, 0, false
	if s.state != fresh {
		s.state = ready
	}
}

func (s *Session) ehlo(_ context.Context, arg string) (Reply, error) { return s.greet(arg, true), nil }

func (s *Session) helo(_ context.Context, arg string) (Reply, error) { return s.greet(arg, false), nil }

// greet is EHLO and HELO (RFC 5321 §4.1.1.1). The name is checked for what may stand in a Received field and nothing else: RFC 5321
// §4.1.4 forbids to refuse mail because it is not the client's.
//
// RFC 5321 §4.1.2, §4.1.3 deviation: printers, meters and cameras call themselves "my_printer", "CAM-" or "[::1]", and cannot be taught
// otherwise.
func (s *Session) greet(arg string, extended bool) Reply {
	name, info, _ := strings.Cut(arg, " ")
	literal := isLiteral(name)
	if len(name) > maxHelo || !literal && (info != "" || !isHelo(name)) { // RFC 5321 §4.1.1.1: only a literal may be followed by more
		return Reply{Code: 501, Text: "want a domain or an address literal"}
	}
	s.reset() // RFC 5321 §4.1.4
	s.state, s.Helo, s.Extended = ready, name, extended
	if !extended {
		return Reply{Code: 250, Text: s.server.Hostname}
	}
	return Reply{Code: 250, Text: s.keywords()}
}

// channel is what SASL may know of the connection.
func (s *Session) channel() sasl.Channel {
	return sasl.Channel{TLS: s.Conn.TLS(), Peer: s.Peer.Addr()}
}

func (s *Session) rset(context.Context, string) (Reply, error) {
	s.reset()
	return Reply{250, [3]int{2, 0, 0}, "reset"}, nil
}

func (s *Session) noop(context.Context, string) (Reply, error) {
	return Reply{250, [3]int{2, 0, 0}, "ok"}, nil
}

func (s *Session) quit(context.Context, string) (Reply, error) {
	s.forget() // RFC 1845 §3
	return Reply{221, [3]int{2, 0, 0}, s.server.Hostname + " closing connection"}, errQuit
}

// vrfy tells nothing that RCPT would not, where not told otherwise (RFC 5321 §3.5.3, §7.3).
func (s *Session) vrfy(ctx context.Context, arg string) (Reply, error) {
	ask := s.server.Verify
	if ask == nil {
		ask = func(context.Context, *Session, string) Reply { return replyCannotSay }
	}
	return s.lookUp(ctx, arg, ask), nil
}

// expn tells who is on a list, to those whom it may (RFC 5321 §3.5.1, §7.3).
func (s *Session) expn(ctx context.Context, arg string) (Reply, error) {
	if s.server.Expand == nil {
		return replyNotHere, nil
	}
	return s.lookUp(ctx, arg, s.server.Expand), nil
}

// lookUp asks about a name. SMTPUTF8 behind it says that the answer may hold more than ASCII (RFC 6531 §3.7.4.2); we have no reply that
// does, and say instead that we cannot tell.
func (s *Session) lookUp(ctx context.Context, arg string, ask func(context.Context, *Session, string) Reply) Reply {
	name := arg
	if i := len(arg) - len(" SMTPUTF8"); i > 0 && strings.EqualFold(arg[i:], " SMTPUTF8") {
		name = strings.TrimRight(arg[:i], " ")
	}
	if name == "" {
		return Reply{501, [3]int{5, 5, 4}, "want a user or mailbox name"}
	}
	r := ask(ctx, s, name)
	switch {
	case r.Code == 0:
		return replyLocal
	case !isASCII([]byte(r.Text)):
		return replyCannotSay
	}
	return r
}

// help names the commands (RFC 5321 §4.1.1.8).
func (s *Session) help(context.Context, string) (Reply, error) {
	const text = "see RFC 5321\nHELO EHLO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY HELP STARTTLS AUTH"
	return Reply{214, [3]int{2, 0, 0}, text}, nil
}

func (s *Session) notImplemented(context.Context, string) (Reply, error) { return replyNotHere, nil }
