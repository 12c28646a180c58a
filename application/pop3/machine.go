package pop3

import "context"

// state is where a session stands (RFC 1939 §3). UPDATE is passed through on the way out.
type state uint8

const (
	authorization state = 1 << iota
	named               // authorization, right after a successful USER
	transaction
	anywhere = authorization | named | transaction
)

// argument says whether a command has one.
type argument uint8

const (
	none argument = iota
	optional
	required
)

// command is a row of the table. The table refuses; run only runs. A refusal that run returns is sent; run sends the positive
// response itself.
type command struct {
	keyword string
	legal   state
	arg     argument
	run     func(*session, context.Context, string) error
}

var commands = []command{
	{"USER", authorization | named, required, (*session).user}, // RFC 1939 §7
	{"PASS", named, required, (*session).pass},                 // RFC 1939 §7: immediately after a successful USER
	{"AUTH", authorization | named, required, (*session).auth}, // RFC 5034 §4
	{"STLS", authorization | named, none, (*session).stls},     // RFC 2595 §4
	{"CAPA", anywhere, none, (*session).capa},                  // RFC 2449 §5
	{"QUIT", anywhere, none, (*session).quit},                  // RFC 1939 §4, §6
	{"STAT", transaction, none, (*session).stat},               // RFC 1939 §5
	{"LIST", transaction, optional, (*session).list},           // RFC 1939 §5
	{"RETR", transaction, required, (*session).retr},           // RFC 1939 §5
	{"DELE", transaction, required, (*session).dele},           // RFC 1939 §5
	{"NOOP", transaction, none, (*session).noop},               // RFC 1939 §5
	{"RSET", transaction, none, (*session).rset},               // RFC 1939 §5
	{"TOP", transaction, required, (*session).top},             // RFC 1939 §7
	{"UIDL", transaction, optional, (*session).uidl},           // RFC 1939 §7
}

// permit refuses what the table does not allow (RFC 1939 §3: unknown, malformed and misplaced commands get -ERR).
func (s state) permit(row *command, arg string) error {
	switch {
	case row == nil:
		return refuse("", "unknown command")
	case s&row.legal == 0 && s == transaction:
		return refuse("", "%s: logged in already", row.keyword)
	case s&row.legal == 0 && row.legal == named:
		return refuse("", "%s: comes right after USER", row.keyword)
	case s&row.legal == 0:
		return refuse("", "%s: log in first", row.keyword)
	case row.arg == none && arg != "":
		return refuse("", "%s has no argument", row.keyword)
	case row.arg == required && arg == "":
		return refuse("", "%s has an argument", row.keyword)
	}
	return nil
}
