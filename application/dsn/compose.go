package dsn

import (
	"bytes"
	"io"
	"mime/quotedprintable"
	"slices"
	"strings"
	"time"

	"bothy/application/message"
	"bothy/application/message/convert"
)

// Composer composes notices in the name of one host; it is a queue.Notifier. It may be used by many at once.
type Composer struct {
	Hostname string // of this mail system, as in its greeting: Reporting-MTA, Message-ID
	Config

	strangers strangers
}

// Config says how much a notice tells, and whom. The zero Config returns headers only, and tells senders only.
type Config struct {
	FullSize      int64           `unit:"bytes" doc:"Largest message that a notice of failure returns whole where its sender asks for that (RFC 3461 §6.2, RET=FULL); of others the header is returned. 0: of all." default:"0" min:"0"`
	DoubleBounces bool            `doc:"Tell the postmaster of mail that could neither be delivered nor returned (RFC 3461 §5.2)." default:"true"`
	Strangers     string          `doc:"Who is told of mail that cannot be delivered and whose sender may be forged: it came from outside, and neither SPF nor DKIM vouches for its reverse-path (see authres). \"postmaster\": the postmaster, in place of that sender; \"sender\": that sender all the same, who may never have heard of it (backscatter); \"nobody\": it is logged only." default:"postmaster" oneof:"postmaster sender nobody"`
	StrangersMax  int             `doc:"Most notices an hour to the postmaster about such mail; the next one says how many more were logged only." default:"20" min:"1"`
	Postmaster    message.Address `doc:"Who answers for this mail system: From of notices, and where double bounces go. Default: postmaster at the hostname."`
}

// Compose composes the notice of a report. Its envelope has the null reverse-path, and the exact size of content, which the caller reads
// and closes. Both are nil when none is due: for a message that had the null reverse-path (RFC 5321 §4.5.5; but see DoubleBounces), and where
// no recipient's sender wants one of its outcome (RFC 3461 §5.2). If the message cannot be read or returned whole, its header is.
func (c *Composer) Compose(r *Report) (env *message.Envelope, content io.ReadCloser) {
	to, outcomes := c.due(r)
	if len(outcomes) == 0 {
		return nil, nil
	}
	n := &notice{Composer: c, id: message.NewID(r.Now), report: r, outcomes: outcomes}
	if n.stranger() {
		var tell bool
		if n.untold, tell = c.strangers.count(r.Now, c.StrangersMax); !tell {
			return nil, nil
		}
	}
	n.original, _, _ = message.ReadHeader(bytes.NewReader(r.Header), maxHeader) // what could not be read is not quoted
	// RFC 3464 §2: to the return address of the original, in the envelope and in the header.
	var ascii bool
	n.to, ascii = to.ASCII()
	n.utf8 = !ascii
	whole, plan := n.openWhole()
	eight := n.utf8 || whole != nil && plan.Body == message.Body8Bit
	head, tail := n.compose(whole != nil, eight)

	env = &message.Envelope{
		ID:          n.id,
		Recipients:  []message.Recipient{{Address: n.to, Notify: message.NotifyNever}}, // RFC 3461 §6.1
		UTF8:        n.utf8,
		Priority:    r.Envelope.Priority,    // RFC 6710 §4.6
		RequireTLS:  r.Envelope.RequireTLS,  // RFC 8689 §5
		TLSOptional: r.Envelope.TLSOptional, // RFC 8689 §6
		Size:        int64(len(head) + len(tail)),
	}
	if eight {
		env.Body = message.Body8Bit
	}
	if whole == nil {
		return env, io.NopCloser(bytes.NewReader(append(head, tail...)))
	}
	env.Size += plan.Size
	return env, &enclosing{io.MultiReader(bytes.NewReader(head), plan.Reader(whole), bytes.NewReader(tail)), whole}
}

// enclosing reads a notice around a message.
type enclosing struct {
	io.Reader
	io.Closer
}

// notice is one notice being written.
type notice struct {
	*Composer
	id       message.ID
	report   *Report
	to       message.Address
	utf8     bool // it needs SMTPUTF8 to be sent, and may hold anything that RFC 6533 allows
	outcomes []Outcome
	original message.Header // of the report's message
	untold   int            // how many reports on strangers were left out before this one
	out      []byte
}

// openWhole opens the message if all of it is to be returned (RFC 3461 §6.2); else it returns nil. RFC 8689 §5: never one for which TLS was
// required.
func (n *notice) openWhole() (io.ReadCloser, *convert.Plan) {
	r := n.report
	switch {
	case r.Envelope.Return != message.ReturnFull, r.Envelope.RequireTLS, r.Open == nil, r.Size > n.FullSize, n.worst() != Failed, n.stranger():
		return nil, nil
	case r.Envelope.UTF8 && !n.utf8: // RFC 6533 §4.5 deviation: encoded, it could only be read by who could have had it as it is
		return nil, nil
	case !r.Envelope.UTF8 && scan(r.Header) != message.Body7Bit: // no message/rfc822
		return nil, nil
	}
	body, err := r.Open()
	if err != nil {
		return nil, nil
	}
	plan, err := convert.Examine(body, message.Body8Bit) // RFC 6522 §3: binary data are re-encoded
	body.Close()
	if err != nil {
		return nil, nil
	}
	if body, err = r.Open(); err != nil {
		return nil, nil
	}
	return body, plan
}

// worst is the outcome the sender must hear of first.
func (n *notice) worst() Action { return n.outcomes[0].Action }

// double reports whether the notice tells the postmaster of what has nobody to return to.
func (n *notice) double() bool { return n.report.Envelope.ReversePath.IsNull() }

// stranger reports whether it tells the postmaster of what has a sender who may be forged.
func (n *notice) stranger() bool { return !n.double() && n.doubtful(n.report.Envelope) }

// compose writes the message up to the content of its last part, and what follows that.
func (n *notice) compose(whole, eight bool) (head, tail []byte) {
	boundary := "=_" + n.id.String()
	n.fields(boundary, eight)
	n.line("This is a notice in several parts. Your mail program should show the first.")

	n.line("\r\n--" + boundary)
	n.text()
	n.line("\r\n--" + boundary)
	n.status()
	n.line("\r\n--" + boundary)
	if whole {
		n.whole(eight)
	} else {
		n.returned()
	}
	return n.out, []byte("\r\n--" + boundary + "--\r\n")
}

func (n *notice) line(s string)           { n.out = append(append(n.out, s...), "\r\n"...) }
func (n *notice) date(t time.Time) string { return message.FormatDate(t.In(n.report.Now.Location())) }
func (n *notice) field(name, v string)    { n.out = message.AppendField(n.out, name, v) }

// fields writes the notice's own header.
func (n *notice) fields(boundary string, eight bool) {
	postmaster := n.postmaster()
	n.field("From", "Mail Delivery System <"+postmaster.String()+">") // RFC 3464 §2: a human who is responsible
	n.field("To", "<"+n.to.String()+">")
	n.field("Subject", n.subject())
	n.field("Date", message.FormatDate(n.report.Now))
	n.field("Message-ID", "<"+n.id.String()+"@"+n.Hostname+">")
	if id := n.original.Get("Message-ID"); isMessageID(id) { // RFC 3834 §3.1.6
		n.field("In-Reply-To", id)
		n.field("References", strings.Join(append(n.references(), id), " "))
	}
	n.field("Auto-Submitted", "auto-replied") // RFC 3834 §5.2: never "auto-generated" on a notice like this
	n.field("MIME-Version", "1.0")
	n.field("Content-Type", `multipart/report; report-type=delivery-status; boundary="`+boundary+`"`) // RFC 6522 §3, RFC 6533 §4.4
	if eight {
		n.field("Content-Transfer-Encoding", "8bit") // RFC 2045 §6.4
	}
	n.line("")
}

// maxReferences is how many ids of a long thread are kept: its last ones.
const maxReferences = 20

// references returns the thread the original stands in (RFC 5322 §3.6.4).
func (n *notice) references() []string {
	ids := slices.DeleteFunc(strings.Fields(n.original.Get("References")), func(id string) bool { return !isMessageID(id) })
	return ids[max(0, len(ids)-maxReferences):]
}

// status writes the part for programs (RFC 3464 §2.1). It is ASCII even where addresses are not, so that any system can carry it:
// RFC 6533 §4.4 allows the traditional type where nothing is lost. It is the internationalized one where something would be, and
// where the sender's own address says that his programs know it.
func (n *notice) status() {
	global := n.utf8 || n.report.Envelope.UTF8 &&
		slices.ContainsFunc(n.outcomes, func(o Outcome) bool { return !isASCII(o.Reply.Text) })
	n.field("Content-Description", "Delivery report")
	if global {
		n.field("Content-Type", "message/global-delivery-status") // RFC 6533 §4.1
		n.encoded(n.statusFields(unicodeForm))
		return
	}
	n.field("Content-Type", "message/delivery-status")
	n.line("")
	n.out = append(n.out, n.statusFields(asciiForm)...)
}

// statusFields returns the fields of the message (RFC 3464 §2.2) and of each recipient (RFC 3464 §2.3).
func (n *notice) statusFields(f form) []byte {
	var b bytes.Buffer
	line := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	env := n.report.Envelope
	if env.EnvelopeID != "" { // RFC 3461 §6.3
		line("Original-Envelope-Id", ascii(env.EnvelopeID, maxText))
	}
	line("Reporting-MTA", mtaName(n.Hostname))
	if !env.ID.IsZero() {
		line("Arrival-Date", n.date(env.ID.Time()))
	}
	if by := env.DeliverBy.At; !by.IsZero() { // RFC 2852 §5
		line("Deliver-By-Date", n.date(by))
	}
	for _, o := range n.outcomes {
		b.WriteString("\r\n")
		if orcpt := f.original(o.Recipient.Original); orcpt != "" {
			line("Original-Recipient", orcpt)
		}
		line("Final-Recipient", f.typedAddress(o.Recipient.Address))
		line("Action", o.Action.String())
		line("Status", status(o))
		if o.Remote != "" {
			line("Remote-MTA", mtaName(o.Remote))
		}
		if o.Reply.Code != 0 {
			line("Diagnostic-Code", "smtp; "+strings.Join(f.diagnostic(o.Reply), "\r\n "))
		}
		if !o.LastTry.IsZero() {
			line("Last-Attempt-Date", n.date(o.LastTry))
		}
		if o.Action == Delayed && !o.RetryUntil.IsZero() { // RFC 3464 §2.3.9: in no other
			line("Will-Retry-Until", n.date(o.RetryUntil))
		}
	}
	return b.Bytes()
}

// whole writes the header of the part that holds the message (RFC 2046 §5.2.1, RFC 6532 §3.7): it has no encoding of its own.
func (n *notice) whole(eight bool) {
	n.field("Content-Description", "The message")
	kind := "message/rfc822"
	if n.report.Envelope.UTF8 {
		kind = "message/global"
	}
	n.field("Content-Type", kind)
	if eight {
		n.field("Content-Transfer-Encoding", "8bit")
	}
	n.line("")
}

// returned writes the header of the original (RFC 6522 §4), whole lines of it if it is very long.
func (n *notice) returned() {
	n.field("Content-Description", "Header of the message")
	header := n.report.Header
	kind := "text/rfc822-headers"
	if n.report.Envelope.UTF8 && scan(header) != message.Body7Bit {
		kind = "message/global-headers" // RFC 6533 §4.3
	}
	n.field("Content-Type", kind)
	if len(header) > maxHeader {
		header = header[:bytes.LastIndexByte(header[:maxHeader], '\n')+1]
	}
	if bytes.HasSuffix(header, []byte("\r\n\r\n")) {
		header = header[:len(header)-2]
	}
	n.encoded(header)
}

// encoded ends a part's header and writes its content: as it is if it is seven-bit lines, or eight-bit ones that need not pass seven
// bits; else quoted-printable (RFC 2045 §6.7, RFC 6533 §4.5).
func (n *notice) encoded(content []byte) {
	need := scan(content)
	switch {
	case need == message.Body7Bit:
		n.line("Content-Transfer-Encoding: 7bit\r\n")
	case need == message.Body8Bit && n.utf8: // RFC 6533 §6.4; who takes SMTPUTF8 takes 8BITMIME (RFC 6531 §3.1)
		n.line("Content-Transfer-Encoding: 8bit\r\n")
	default:
		n.line("Content-Transfer-Encoding: quoted-printable\r\n")
		var b bytes.Buffer
		w := quotedprintable.NewWriter(&b)
		w.Write(content) // neither writer fails
		w.Close()
		content = b.Bytes()
	}
	n.out = append(n.out, content...)
}

// scan returns what it takes to carry b.
func scan(b []byte) message.BodyType {
	need, _ := convert.Scan(bytes.NewReader(b)) // from memory
	return need
}
