package smtp

import (
	"context"
	"strings"
)

// state is how far a session is (RFC 5321 §4.1.4).
type state uint8

const (
	fresh     state = 1 << iota // no HELO or EHLO yet, or forgotten with STARTTLS
	ready                       // no transaction open
	mailing                     // MAIL accepted
	addressed                   // and a RCPT
	chunking                    // and a BDAT that was not the last (RFC 3030 §2)
	broken                      // a BDAT failed: what follows it in the pipeline is discarded until RSET (RFC 3030 §2)

	anytime = fresh | ready | mailing | addressed | chunking | broken
)

// need is what must be there before a command is obeyed.
type need uint8

const (
	needTLS      need = 1 << iota // where the server requires TLS (RFC 3207 §4)
	needIdentity                  // where the server requires authentication (RFC 6409 §4.3)
	needBare                      // no argument (RFC 5321 §4.1.1)

	noEnhanced // replies carry no enhanced code (RFC 2034 §4)
	idling     // it brings no mail, so there is no need for many of it
	heldBack   // the reply may wait for those of the commands behind it (RFC 2920 §3.2)
)

// command is one row of a command table.
type command struct {
	verb  string
	legal state // states in which the verb is allowed; else 503
	needs need
	run   func(*Session, context.Context, string) (Reply, error) // the zero Reply: nothing to say; an error ends the session
}

// commands is SMTP as the protocols Relay and Submission speak it.
var commands = []command{
	{"MAIL", ready, needTLS | needIdentity | heldBack, (*Session).mail},               // RFC 5321 §4.1.1.2
	{"RCPT", mailing | addressed, needTLS | needIdentity | heldBack, (*Session).rcpt}, // RFC 5321 §4.1.1.3
	{"DATA", mailing | addressed, needTLS | needIdentity | needBare, (*Session).data}, // RFC 5321 §4.1.1.4
	{"BDAT", anytime, heldBack, (*Session).bdat},                                      // RFC 3030 §2: it refuses by itself
	{"RSET", anytime, needTLS | needBare | idling | heldBack, (*Session).rset},        // RFC 5321 §4.1.1.5
	{"QUIT", anytime, needBare, (*Session).quit},                                      // RFC 5321 §4.1.1.10
	{"EHLO", anytime, noEnhanced | idling, (*Session).ehlo},                           // RFC 5321 §4.1.1.1
	{"HELO", anytime, needTLS | noEnhanced | idling, (*Session).helo},                 // RFC 5321 §4.1.1.1
	{"NOOP", anytime, idling, (*Session).noop},                                        // RFC 5321 §4.1.1.9
	{"STARTTLS", ready, needBare, (*Session).startTLS},                                // RFC 3207 §4
	{"AUTH", ready, needTLS, (*Session).auth},                                         // RFC 4954 §4
	{"VRFY", anytime, needTLS | needIdentity | idling, (*Session).vrfy},               // RFC 5321 §4.1.1.6
	{"HELP", anytime, needTLS | idling, (*Session).help},                              // RFC 5321 §4.1.1.8
	{"EXPN", anytime, needTLS | needIdentity | idling, (*Session).expn},               // RFC 5321 §4.1.1.7
	{"SEND", anytime, 0, (*Session).notImplemented},                                   // RFC 5321 §F.6
	{"SOML", anytime, 0, (*Session).notImplemented},                                   // RFC 5321 §F.6
	{"SAML", anytime, 0, (*Session).notImplemented},                                   // RFC 5321 §F.6
	{"TURN", anytime, 0, (*Session).notImplemented},                                   // RFC 5321 §F.1
	{"ETRN", anytime, idling, (*Session).etrn},                                        // RFC 1985 §5: it refuses by itself
	{"ATRN", anytime, 0, (*Session).notImplemented},                                   // RFC 2645 §5.2.1, where no Extension brings it
}

// heldCommands is what the protocol Held speaks beside its Extensions; all else is 502 (RFC 2645 §5.4).
var heldCommands = []command{
	{"EHLO", anytime, noEnhanced | idling, (*Session).ehlo}, // RFC 2645 §5.1.1
	{"STARTTLS", ready, needBare, (*Session).startTLS},      // RFC 3207 §4
	{"AUTH", ready, needTLS, (*Session).auth},               // RFC 2645 §5.1.2
	{"QUIT", anytime, needBare, (*Session).quit},            // RFC 2645 §5.1.3
}

// refusingCommands is what a server that takes no mail speaks.
var refusingCommands = []command{{"QUIT", anytime, needBare, (*Session).quit}}

// table chooses the commands.
func (srv *Server) table() []command {
	switch {
	case srv.Refusal.Code != 0:
		return refusingCommands
	case srv.Protocol == Held:
		return heldCommands
	}
	return commands
}

// unknown is the reply to a verb that is not in the table.
func (srv *Server) unknown() Reply {
	switch {
	case srv.Refusal.Code == 521: // RFC 7504 §3: it goes on saying so
		return Reply{521, [3]int{5, 3, 2}, srv.Refusal.Text}
	case srv.Refusal.Code != 0: // RFC 5321 §3.1
		return replySequence
	case srv.Protocol == Held: // RFC 2645 §5.4
		return replyNotHere
	}
	return replyUnknown
}

// find returns the row of verb in the session's table, nil if it has none.
func (s *Session) find(verb string) *command {
	for i := range s.table {
		if row := &s.table[i]; len(row.verb) == len(verb) && strings.EqualFold(row.verb, verb) {
			return row
		}
	}
	return nil
}

// The refusals of the table.
var (
	replyUnknown   = Reply{500, [3]int{5, 5, 1}, "command not recognized"}
	replySyntax    = Reply{500, [3]int{5, 5, 2}, "syntax error"}
	replyTooLong   = Reply{500, [3]int{5, 5, 2}, "line too long"}
	replyAuthLong  = Reply{500, [3]int{5, 5, 6}, "authentication exchange line is too long"}
	replyLineEnd   = Reply{500, [3]int{5, 5, 2}, "CR or LF alone in a line"}
	replyNotHere   = Reply{502, [3]int{5, 5, 1}, "command not implemented"}
	replyNoArg     = Reply{501, [3]int{5, 5, 4}, "no argument allowed"}
	replyGreet     = Reply{503, [3]int{5, 5, 1}, "send EHLO first"}
	replySequence  = Reply{503, [3]int{5, 5, 1}, "bad sequence of commands"}
	replyNeedMail  = Reply{503, [3]int{5, 5, 1}, "need MAIL first"}
	replyNoRcpt    = Reply{554, [3]int{5, 5, 1}, "no valid recipients"}
	replyNeedTLS   = Reply{530, [3]int{5, 7, 0}, "must issue a STARTTLS command first"}
	replyNeedAuth  = Reply{530, [3]int{5, 7, 0}, "authentication required"}
	replyTooManyTo = Reply{452, [3]int{4, 5, 3}, "too many recipients"}
	replyExcess    = Reply{550, [3]int{5, 5, 3}, "too many recipients"}
	replyTooManyIn = Reply{503, [3]int{5, 5, 3}, "too many recipients: send it to fewer"}
	replyFull      = Reply{421, [3]int{4, 7, 0}, "too many messages in one session, closing connection"}
	replyIdle      = Reply{421, [3]int{4, 7, 0}, "too many commands and no mail, closing connection"}
	replyCannotSay = Reply{252, [3]int{2, 5, 0}, "cannot verify, send some mail to find out"}
	replyBinary    = Reply{503, [3]int{5, 5, 1}, "binary message: want BDAT"}
	replyTooMany   = Reply{421, [3]int{4, 7, 0}, "too many errors, closing connection"}
	replyNotSMTP   = Reply{421, [3]int{4, 7, 0}, "this is no SMTP, closing connection"}
	replyNoSize    = Reply{501, [3]int{5, 5, 4}, "want BDAT size [LAST], closing connection"}
	replyChunk     = Reply{501, [3]int{5, 5, 4}, "want BDAT size [LAST]"}
	replyShutdown  = Reply{421, [3]int{4, 3, 2}, "service shutting down, closing connection"}
	replyTimeout   = Reply{421, [3]int{4, 4, 2}, "timeout, closing connection"}
	replyBroken    = Reply{421, [3]int{4, 3, 0}, "internal error, closing connection"}
	replyLocal     = Reply{451, [3]int{4, 3, 0}, "local error in processing"}
	replyTooBig    = Reply{552, [3]int{5, 3, 4}, "message size exceeds fixed maximum message size"}
	replyBareText  = Reply{554, [3]int{5, 6, 0}, "CR or LF alone in the message"}
	reply8Bit      = Reply{554, [3]int{5, 6, 3}, "8-bit text without BODY=8BITMIME"}
	replyLoop      = Reply{554, [3]int{5, 4, 6}, "too many hops, the message loops"}
	replyBuffered  = Reply{503, [3]int{5, 5, 0}, "input behind a command that must be last"}
	replyCancelled = Reply{501, [3]int{5, 7, 0}, "authentication cancelled"}
)

// permit returns why row may not run now; the zero Reply if it may.
func (s *Session) permit(row *command, arg string) Reply {
	srv := s.server
	switch {
	case row.needs&needTLS != 0 && srv.RequireTLS && s.Conn.TLS() == nil: // RFC 3207 §4
		return replyNeedTLS
	case row.needs&needIdentity != 0 && srv.Protocol == Submission && s.Identity == "" && !srv.PolicyAuthorizes: // RFC 6409 §4.3
		return replyNeedAuth
	case row.legal&s.state == 0:
		return s.outOfSequence(row)
	case row.needs&needBare != 0 && arg != "": // RFC 5321 §4.1.1
		return replyNoArg
	}
	return Reply{}
}

// outOfSequence says what is missing (RFC 5321 §4.1.4: 503, and the state stays).
func (s *Session) outOfSequence(row *command) Reply {
	switch {
	case s.state == fresh:
		return replyGreet
	case s.state == ready && row.legal&(mailing|addressed) != 0:
		if s.stranger && s.Identity == "" { // RFC 4954 §6: what follows MAIL in the pipeline is told the same
			return replyNeedAuth
		}
		return replyNeedMail
	}
	return replySequence
}
