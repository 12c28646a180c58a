package dsn

import (
	"bytes"
	"io"
	"mime"
	"mime/quotedprintable"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"bothy/application/message"
	"bothy/application/queue"
)

// Composer composes failure notices in the name of one host; it is a queue.Notifier. It may be used by many at once.
type Composer struct {
	Hostname   string          // of this mail system, as in its greeting: Reporting-MTA, Message-ID
	Postmaster message.Address // who answers for it; zero: postmaster@Hostname
}

// Failure composes the notice for recipients that failed for good. header is the header section of the message, or as much
// of it as there is. The notice is nil when none is due: for a message that had the null reverse-path (RFC 5321 §4.5.5), and when no
// failed recipient's sender wants one (RFC 3461 §5.2.6).
func (c *Composer) Failure(env *message.Envelope, failed []queue.Failed, header []byte, now time.Time) (*message.Envelope, []byte) {
	due := slices.DeleteFunc(slices.Clone(failed), func(f queue.Failed) bool {
		n := f.Recipient.Notify
		return n != 0 && n&message.NotifyFailure == 0
	})
	if env.ReversePath.IsNull() || len(due) == 0 {
		return nil, nil
	}
	n := notice{Composer: c, id: message.NewID(now), env: env, failed: due, header: header, now: now}
	// RFC 3464 §2: to the return address of the original, in the envelope and in the header.
	n.to, n.ascii = env.ReversePath.ASCII()
	content := n.compose()
	reply := &message.Envelope{
		ID:         n.id,
		Recipients: []message.Recipient{{Address: n.to, Notify: message.NotifyNever}}, // RFC 3461 §6.1
		Size:       int64(len(content)),
	}
	if !n.ascii { // only in its own To: all else is made ASCII
		reply.UTF8, reply.Body = true, message.Body8Bit
	}
	return reply, content
}

// notice is one notice being written.
type notice struct {
	*Composer
	id       message.ID
	env      *message.Envelope
	to       message.Address
	ascii    bool // the notice's own header can be ASCII: SMTPUTF8 is not needed to send it
	failed   []queue.Failed
	header   []byte
	original message.Header // header, read
	now      time.Time
	out      []byte
}

// compose writes the whole message.
func (n *notice) compose() []byte {
	n.original, _, _ = message.ReadHeader(bytes.NewReader(n.header), maxHeader) // what could not be read is not quoted
	boundary := "=_" + n.id.String()
	n.fields(boundary)
	n.line("This is a notice in several parts (RFC 6522). Your mail program should show the first.")

	n.line("\r\n--" + boundary)
	n.text()
	n.line("\r\n--" + boundary)
	n.report()
	n.line("\r\n--" + boundary)
	n.returned()
	n.line("\r\n--" + boundary + "--")
	return n.out
}

func (n *notice) line(s string)           { n.out = append(append(n.out, s...), "\r\n"...) }
func (n *notice) date(t time.Time) string { return message.FormatDate(t.In(n.now.Location())) }
func (n *notice) field(name, v string)    { n.out = message.AppendField(n.out, name, v) }

// fields writes the notice's own header.
func (n *notice) fields(boundary string) {
	postmaster := n.postmaster()
	n.field("From", "Mail Delivery System <"+postmaster.String()+">") // RFC 3464 §2: a human who is responsible
	n.field("To", "<"+n.to.String()+">")
	n.field("Subject", n.subject())
	n.field("Date", message.FormatDate(n.now))
	n.field("Message-ID", "<"+n.id.String()+"@"+n.Hostname+">")
	if id := n.original.Get("Message-ID"); isMessageID(id) { // RFC 3834 §3.1.6
		n.field("In-Reply-To", id)
		n.field("References", strings.Join(append(n.references(), id), " "))
	}
	n.field("Auto-Submitted", "auto-replied") // RFC 3834 §5.2: never "auto-generated" on a notice like this
	n.field("MIME-Version", "1.0")
	n.field("Content-Type", `multipart/report; report-type=delivery-status; boundary="`+boundary+`"`) // RFC 6522 §3
	n.line("")
}

func (n *notice) postmaster() message.Address {
	if n.Postmaster.IsNull() {
		return message.Address{Local: "postmaster", Domain: n.Hostname}
	}
	return n.Postmaster
}

// maxReferences is how many ids of a long thread are kept: its last ones.
const maxReferences = 20

// references returns the thread the original stands in (RFC 5322 §3.6.4).
func (n *notice) references() []string {
	ids := slices.DeleteFunc(strings.Fields(n.original.Get("References")), func(id string) bool { return !isMessageID(id) })
	return ids[max(0, len(ids)-maxReferences):]
}

// maxSubject is how much of the original's subject is quoted, in octets.
const maxSubject = 200

// subject quotes that of the original as it is, encoded words and all (RFC 3834 §3.1.5); a long one is cut between words, which no
// encoded word survives being cut in.
func (n *notice) subject() string {
	const prefix = "Not delivered"
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
	say("Your message did not reach everybody it was sent to.", "")
	if s := readable(n.original.Get("Subject")); s != "" {
		say("  Subject:  " + s)
	}
	if !n.env.ID.IsZero() {
		say("  Accepted: " + n.date(n.env.ID.Time()))
	}
	say("", "It was not delivered to:")
	for _, f := range n.failed {
		why, todo := explain(f.Reply)
		say("", "  "+f.Recipient.Address.String(), "    "+why, "    "+todo)
		if f.Reply.Code != 0 {
			who := "Answer of this mail system:"
			if f.Remote != "" {
				who = "Answer of " + ascii(f.Remote, maxText) + ":"
			}
			say("    " + who)
			for _, line := range diagnostic(f.Reply) {
				say("      " + line)
			}
		}
	}
	postmaster := n.postmaster()
	say("", "We do not try these addresses again. If the message had other recipients, this",
		"notice does not concern them.", "",
		"If you need help, forward this whole notice to "+postmaster.String()+".", "",
		"Mail Delivery System of "+n.Hostname+", message "+n.env.ID.String())

	n.field("Content-Description", "Notification")
	n.field("Content-Type", "text/plain; charset=utf-8")
	n.encoded([]byte(b.String()))
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

// report writes the part for programs (RFC 3464 §2.1). It is ASCII even where addresses are not, so that any system can carry it:
// RFC 6533 §4.4 allows the traditional type where nothing is lost.
func (n *notice) report() {
	n.field("Content-Description", "Delivery report")
	n.field("Content-Type", "message/delivery-status")
	n.line("")
	if n.env.EnvelopeID != "" { // RFC 3461 §6.3
		n.line("Original-Envelope-Id: " + ascii(n.env.EnvelopeID, maxText))
	}
	n.line("Reporting-MTA: " + mtaName(n.Hostname))
	if !n.env.ID.IsZero() {
		n.line("Arrival-Date: " + n.date(n.env.ID.Time()))
	}
	for _, f := range n.failed {
		n.line("")
		if orcpt := original(f.Recipient.Original); orcpt != "" {
			n.line("Original-Recipient: " + orcpt)
		}
		n.line("Final-Recipient: " + typedAddress(f.Recipient.Address))
		n.line("Action: failed")
		n.line("Status: " + status(f.Reply))
		if f.Remote != "" {
			n.line("Remote-MTA: " + mtaName(f.Remote))
		}
		if f.Reply.Code != 0 {
			n.line("Diagnostic-Code: smtp; " + strings.Join(diagnostic(f.Reply), "\r\n "))
		}
		if !f.LastTry.IsZero() {
			n.line("Last-Attempt-Date: " + n.date(f.LastTry))
		}
	}
}

// returned writes the header of the original (RFC 6522 §4), whole lines of it if it is very long.
func (n *notice) returned() {
	n.field("Content-Description", "Header of the message")
	kind := "text/rfc822-headers"
	if n.env.UTF8 && !isSevenBit(n.header) {
		kind = "message/global-headers" // RFC 6533 §4.3
	}
	n.field("Content-Type", kind)
	header := n.header
	if len(header) > maxHeader {
		header = header[:bytes.LastIndexByte(header[:maxHeader], '\n')+1]
	}
	if bytes.HasSuffix(header, []byte("\r\n\r\n")) {
		header = header[:len(header)-2]
	}
	n.encoded(header)
}

// encoded ends a part's header and writes its content: as it is if it is seven-bit lines, else quoted-printable (RFC 2045 §6.7,
// which RFC 6533 §4.5 asks for where eight bits may not pass).
func (n *notice) encoded(content []byte) {
	if isSevenBit(content) {
		n.line("Content-Transfer-Encoding: 7bit")
		n.line("")
		n.out = append(n.out, content...)
		return
	}
	n.line("Content-Transfer-Encoding: quoted-printable")
	n.line("")
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	io.Copy(w, bytes.NewReader(content)) // neither writer fails
	w.Close()
	n.out = append(n.out, b.Bytes()...)
}

// isSevenBit reports whether b is 7bit data: lines of at most 998 octets of ASCII, without NUL, bare CR or bare LF (RFC 2045 §2.7).
func isSevenBit(b []byte) bool {
	for line := range bytes.SplitSeq(b, []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsFunc(line, func(r rune) bool { return r == 0 || r == '\r' || r == '\n' || r >= utf8.RuneSelf }) {
			return false
		}
	}
	return true
}
