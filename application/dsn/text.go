package dsn

import (
	"mime"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// chapter is what the part for people says of one action.
type chapter struct {
	subject string
	intro   string // of the notice, where this action is its worst
	list    string // before the recipients
	end     string // behind them
}

var chapters = [...]chapter{
	Failed: {
		"Not delivered", "Your message did not reach everybody it was sent to.", "It was not delivered to:",
		"We do not try these addresses again.",
	},
	Delayed: {
		"Delayed", "Your message has not arrived everywhere yet. We keep trying.\r\nYou need not send it again.", "It is still on its way to:",
		"If we have to give up, you will get another notice.",
	},
	Expanded: {
		"Passed on", wished, "It was passed on to everybody who stands behind the address:",
		"If it does not reach one of them, you may get another notice.",
	},
	Relayed: {
		"Passed on", wished, "It was handed to a mail system that does not report deliveries, for:",
		"Most likely it arrives. You may get another notice if it does not.",
	},
	Delivered: {
		"Delivered", wished, "It was put into the mailbox of:",
		"This does not say that it has been read.",
	},
}

const wished = "You asked to be told what became of your message."

// double is the chapter for the postmaster.
var double = chapter{
	"Undeliverable notice",
	"A message that has no sender to return to could not be delivered. Most often\r\n" +
		"that is a notice like this one, about mail with a false or mistyped sender.",
	"It was not delivered to:",
	"Nobody else was told, and the message is gone. If you see many of these, look\r\n" +
		"for a program that sends mail under an address that does not exist.",
}

// stranger is the chapter for the postmaster about mail whose sender may be forged.
var stranger = chapter{
	"Undeliverable, sender in doubt",
	"A message from outside could not be delivered. Its sender was not told, because\r\n" +
		"neither SPF nor DKIM shows that the message is his: the address may be forged.",
	"It was not delivered to:",
	"The message is gone. If it was honest mail, write to its sender yourself.",
}

// chapter returns what is said of an action in this notice.
func (n *notice) chapter(a Action) chapter {
	if n.double() {
		return double
	}
	if n.stranger() {
		return stranger
	}
	return chapters[a]
}

// maxSubject is how much of the original's subject is quoted, in octets.
const maxSubject = 200

// subject quotes that of the original as it is, encoded words and all (RFC 3834 §3.1.5); a long one is cut between words, which no
// encoded word survives being cut in.
func (n *notice) subject() string {
	prefix := n.chapter(n.worst()).subject
	s := n.original.Get("Subject")
	if len(s) > maxSubject {
		s = s[:max(0, strings.LastIndexByte(s[:maxSubject], ' '))]
	}
	if s == "" || ascii(s, len(s)) != s {
		return prefix
	}
	return prefix + ": " + s
}

// text writes the part for people.
func (n *notice) text() {
	b := new(strings.Builder)
	say := func(lines ...string) {
		for _, line := range lines {
			b.WriteString(line + "\r\n")
		}
	}
	say(n.chapter(n.worst()).intro, "")
	if n.stranger() {
		say("  Sender:   " + unicodeForm.text(n.report.Envelope.ReversePath.String(), maxText))
	}
	if s := readable(n.original.Get("Subject")); s != "" {
		say("  Subject:  " + s)
	}
	if env := n.report.Envelope; !env.ID.IsZero() {
		say("  Accepted: " + n.date(env.ID.Time()))
	}
	for i, o := range n.outcomes {
		c := n.chapter(o.Action)
		if i == 0 || n.outcomes[i-1].Action != o.Action {
			say("", c.list)
		}
		say("", "  "+unicodeForm.text(o.Recipient.Address.String(), maxText))
		say(n.about(o)...)
		if i == len(n.outcomes)-1 || n.outcomes[i+1].Action != o.Action {
			say("", c.end)
		}
	}
	if n.untold > 0 {
		say("", "Not counted here: "+strconv.Itoa(n.untold)+" more such messages since the last notice, which are in the log only.")
	}
	if postmaster := n.postmaster(); !n.double() && !n.stranger() {
		say("", "If the message had other recipients, this notice does not concern them.", "",
			"If you need help, forward this whole notice to "+postmaster.String()+".")
	}
	say("", "Mail Delivery System of "+n.Hostname+", message "+n.report.Envelope.ID.String())

	n.field("Content-Description", "Notification")
	n.field("Content-Type", "text/plain; charset=utf-8")
	n.encoded([]byte(b.String()))
}

// about returns the lines about one recipient.
func (n *notice) about(o Outcome) []string {
	var lines []string
	switch o.Action {
	case Failed:
		why, todo := explain(o.Reply)
		lines = append(lines, "    "+why, "    "+todo)
	case Delayed:
		lines = append(lines, "    "+explainDelay(o.Reply))
		if !o.RetryUntil.IsZero() {
			lines = append(lines, "    We try until "+n.date(o.RetryUntil)+".")
		}
	case Relayed:
		if o.Remote != "" {
			lines = append(lines, "    Handed to "+ascii(o.Remote, maxText)+".")
		}
		return lines
	default:
		return nil
	}
	if o.Reply.Code == 0 {
		return lines
	}
	who := "this mail system"
	if o.Remote != "" {
		who = ascii(o.Remote, maxText)
	}
	lines = append(lines, "    Answer of "+who+":")
	for _, line := range unicodeForm.diagnostic(o.Reply) {
		lines = append(lines, "      "+line)
	}
	return lines
}

// readable decodes a subject for people: "" if it cannot be (RFC 2047 §6.2), and bounded.
func readable(s string) string {
	decoded, err := new(mime.WordDecoder).DecodeHeader(s)
	if err != nil || !utf8.ValidString(decoded) {
		return ""
	}
	if runes := []rune(decoded); len(runes) > maxSubject {
		decoded = string(runes[:maxSubject]) + " ..."
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return ' '
		}
		return r
	}, decoded)
}
