package differential

import (
	"fmt"
	"strings"
)

// Input is one odd thing a client may do.
type Input struct {
	Name  string
	Steps []Step
	Texts []string // the messages it may lead to, one of them or all, in this order; octets after dot-unstuffing (RFC 5321 §4.5.2)

	Early bool // the first step does not wait for the greeting
	Login bool // to the submission port, where logins are taken
}

// Step is what is sent at once. Behind it the player waits for replies, unless more belongs to it.
type Step struct {
	Send string
	More bool // the next step comes a moment later, in another segment, and no reply is waited for
	Text bool // message text: sent only behind a 354
	TLS  bool // begin TLS, and send nothing
}

// Rule is a question that some inputs ask, and why we answer it as we do.
type Rule struct {
	Name   string
	Why    string
	Inputs []Input
}

// Kind is a chapter of docs/differences.md.
type Kind struct {
	Name  string
	Rules []Rule
}

// Kinds are all inputs there are.
func Kinds() []Kind {
	return []Kind{
		endOfData(), textLineEnds(), dots(), octets(), headers(),
		commandLineEnds(), commandOctets(), lengths(), recipients(),
		reversePaths(), forwardPaths(), parameters(), names(),
		sequence(), arguments(), pipelining(), bdat(), startTLS(), auth(),
	}
}

// The envelope where it does not matter.
const (
	hello = "EHLO client.example\r\n"
	mail  = "MAIL FROM:<aunt@elsewhere.example>\r\n"
	rcpt  = "RCPT TO:<keeper@far.example>\r\n"
	quit  = "QUIT\r\n"
)

// note is a message where it does not matter, as text and as it is sent.
const (
	note     = "Subject: note\r\n\r\nhello\r\n"
	noteData = note + ".\r\n"
)

// steps makes a step of each string; what stands behind DATA is text.
func steps(send ...string) []Step {
	s := make([]Step, len(send))
	for i := range send {
		s[i] = Step{Send: send[i], Text: i > 0 && strings.EqualFold(send[i-1], "DATA\r\n") && send[i] != quit}
	}
	return s
}

// parts is one thing sent in several segments.
func parts(send ...string) []Step {
	s := steps(send...)
	for i := range len(s) - 1 {
		s[i].More = true
	}
	return s
}

// script is an input that says each line and waits for its reply; QUIT at the end shows whether both still agree on where they are.
func script(name string, lines ...string) Input {
	return Input{Name: name, Steps: steps(append(lines, quit)...), Texts: []string{note}}
}

// data is an input that sends raw as the text of a message, its end included.
func data(name, raw string) Input {
	return Input{Name: name, Steps: steps(hello, mail, rcpt, "DATA\r\n", raw, quit), Texts: []string{unstuffed(raw)}}
}

// unstuffed is the text in what follows DATA: as far as CRLF.CRLF, the dots that begin a line removed (RFC 5321 §4.5.2). It is written
// from the RFC, on the whole text at once, so that it shares no fault with a server.
func unstuffed(raw string) string {
	text, _, _ := strings.Cut("\r\n"+raw, "\r\n.\r\n")
	if text == "" {
		return ""
	}
	return strings.ReplaceAll(text, "\r\n.", "\r\n")[2:] + "\r\n"
}

// each makes an input of every item.
func each(items []string, f func(item string) Input) []Input {
	inputs := make([]Input, len(items))
	for i, item := range items {
		inputs[i] = f(item)
	}
	return inputs
}

// show names octets in a table: quoted, without the quotes, long ones by their ends.
func show(s string) string {
	q := fmt.Sprintf("%+q", s)
	if q = q[1 : len(q)-1]; len(q) > 80 {
		q = fmt.Sprintf("%s…(%d octets)", q[:40], len(s))
	}
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(q)
}
