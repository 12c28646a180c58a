package submission

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
)

// draft is one message on its way through the steps.
type draft struct {
	*Agent
	env    *message.Envelope
	header *message.Header
	at     time.Time
	follow func(message.Address) message.Address // to what an alias stands for
}

// steps are run in order; the first error refuses the message.
var steps = []func(*draft) error{
	(*draft).checkLines,       // RFC 5322 §2.2
	(*draft).checkSingle,      // RFC 5322 §3.6
	(*draft).checkForbidden,   // RFC 6409 §6.3
	(*draft).addFrom,          // RFC 5322 §3.6.2, RFC 6409 §8
	(*draft).resolveAddresses, // RFC 6409 §4.2, §8, §8.8
	(*draft).checkRights,      // RFC 6409 §6.1, §6.3
	(*draft).checkAddresses,   // RFC 6409 §4.2, §5.1
	(*draft).completeResent,   // RFC 5322 §3.6.6
	(*draft).addSender,        // RFC 6409 §8.1
	(*draft).addDate,          // RFC 6409 §8.2
	(*draft).addMessageID,     // RFC 6409 §8.3
	(*draft).dropBcc,          // RFC 5322 §3.6.3
	(*draft).dropReturnPaths,  // RFC 5321 §4.4
}

// singles may be in a header once (RFC 5322 §3.6).
var singles = []string{"From", "Sender", "Reply-To", "To", "Cc", "Message-ID", "In-Reply-To", "References", "Date", "Subject"}

// addressFields hold addresses (RFC 5322 §3.6.2, §3.6.3); resentFields do too and may be there more than once (RFC 5322 §3.6.6).
var (
	addressFields = []string{"From", "Sender", "Reply-To", "To", "Cc"}
	resentFields  = []string{"Bcc", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Bcc"}
)

// checkLines refuses a CR or LF that is no line end: RFC 5322 §2.2 forbids it, and whoever takes it for one further on would see
// fields that we did not check.
func (d *draft) checkLines() error {
	for f := range d.header.Fields() {
		raw := f.Raw()
		folds := bytes.Count(raw, crlf)
		if bytes.Count(raw, crlf[:1]) != folds || bytes.Count(raw, crlf[1:]) != folds {
			return d.refuse(BareLineEnds, "the header has a CR or LF that ends no line")
		}
	}
	return nil
}

var crlf = []byte("\r\n")

// checkSingle refuses a second field of a kind that may be there once: readers differ in which of them they show.
func (d *draft) checkSingle() error {
	for _, name := range singles {
		if d.header.Count(name) > 1 {
			return d.refuse(RepeatedField, "there is more than one %s field", name)
		}
	}
	return nil
}

// addFrom puts the reverse-path, which the account has a right to, where no author is named: RFC 6409 §8 lets nothing out that RFC
// 5322 would not, and local programs hand in bare text.
func (d *draft) addFrom() error {
	if d.header.Has("From") {
		return nil
	}
	if d.env.ReversePath.Domain == "" {
		return d.refuse(NoFrom, "there is no From field")
	}
	d.note(NoFrom)
	d.header.Append("From", d.env.ReversePath.String())
	return nil
}

// resolveAddresses completes, expands and rewrites. A field that a signature covers stays as it is (RFC 6409 §8: the signature
// would be broken), and is refused further on if it cannot stay so.
func (d *draft) resolveAddresses() error {
	for _, name := range addressFields {
		if at := d.header.Index(name); at >= 0 {
			d.resolveAt(at)
		}
	}
	resent, at := d.resent()
	for i, f := range resent {
		if slices.ContainsFunc(resentFields, f.Is) {
			d.resolveAt(at + i)
		}
	}
	return nil
}

// resolveAt does it to the field at an index.
func (d *draft) resolveAt(at int) {
	f := d.header.At(at)
	if d.isSigned(f.Name()) {
		return
	}
	value := f.Value()
	if changed, ok := replaceMailboxes(value, d.resolveField); ok && changed != value {
		d.replaceAt(at, f.Name(), changed)
	}
}

func (d *draft) resolveField(m message.Address) message.Address {
	to := d.follow(d.resolve(m))
	switch {
	case to == m:
	case !d.isQualified(m): // it came without a whole domain
		d.note(BareAddress)
	case d.Config.Envelope: // RFC 6409 §8.8: the header is optional
		return m
	}
	return to
}

// checkRights refuses an author or sender whom the account may not write as. Who sends a message on answers for the Resent- fields that say
// so (RFC 5322 §3.6.6), and where the configuration lets him, for nothing else.
func (d *draft) checkRights() error {
	if d.env.Account == "" && d.Config.Postmaster { // RFC 6409 §6.4
		return nil
	}
	resent, _ := d.resent()
	var claims []message.Field
	for f := range d.header.Fields() {
		if (f.Is("From") || f.Is("Sender")) && (len(resent) == 0 || !d.Config.Resend) {
			claims = append(claims, f)
		}
	}
	for _, f := range resent {
		if f.Is("Resent-From") || f.Is("Resent-Sender") {
			claims = append(claims, f)
		}
	}
	for _, f := range claims {
		list, err := message.ParseAddressList(f.Value())
		if err != nil || len(list) == 0 {
			return d.refuse(BadAddress, "the %s field names no valid address", f.Name())
		}
		for _, m := range list {
			if !d.maySend(d.env.Account, m) {
				d.note(OthersName)
				return notYours(m, d.env.Account)
			}
		}
	}
	return nil
}

// resent returns the fields of the newest re-sending, and where in the header they begin: those of one stand together, and the newest above
// the others (RFC 5322 §3.6.6).
func (d *draft) resent() (fields []message.Field, at int) {
	i := 0
	for f := range d.header.Fields() {
		isResent := len(f.Raw()) > len(resentPrefix) && bytes.EqualFold(f.Raw()[:len(resentPrefix)], resentPrefix)
		again := slices.ContainsFunc(fields, func(g message.Field) bool { return g.Is(f.Name()) })
		if len(fields) > 0 && (!isResent || again) {
			break
		}
		if isResent {
			if len(fields) == 0 {
				at = i
			}
			fields = append(fields, f)
		}
		i++
	}
	return fields, at
}

var resentPrefix = []byte("Resent-")

// completeResent adds what a re-sending has to have: RFC 5322 §3.6.6 wants a date and an author, and a name where there can be one.
func (d *draft) completeResent() error {
	fields, at := d.resent()
	has := func(name string) bool {
		return slices.ContainsFunc(fields, func(f message.Field) bool { return f.Is(name) })
	}
	switch {
	case len(fields) == 0:
		return nil
	case !has("Resent-From"):
		return d.refuse(NoFrom, "there is no Resent-From field above the other Resent- fields")
	}
	if !has("Resent-Message-ID") && d.Config.MessageID != keepField {
		d.header.Insert(at, "Resent-Message-ID", d.messageID())
	}
	if !has("Resent-Date") && d.Config.Date != keepField {
		d.header.Insert(at, "Resent-Date", message.FormatDate(d.at))
	}
	return nil
}

// forbidden is a field that the site does not let out (RFC 6409 §6.3): with a text in it, or with any.
type forbidden struct{ field, text string }

func parseForbidden(s string) (forbidden, error) {
	field, text, _ := strings.Cut(s, ":")
	if field == "" || strings.ContainsFunc(field, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return forbidden{}, fmt.Errorf("%q does not begin with the name of a header field", s)
	}
	return forbidden{field, strings.ToLower(strings.TrimSpace(text))}, nil
}

func (d *draft) checkForbidden() error {
	for _, f := range d.forbidden {
		for _, value := range d.header.All(f.field) {
			if strings.Contains(strings.ToLower(value), f.text) {
				d.note(AgainstPolicy)
				return smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 0}, Text: "this site does not send a message with this " + f.field + " field"}
			}
		}
	}
	return nil
}

// checkAddresses refuses fields that hold anything else than addresses with whole domains.
func (d *draft) checkAddresses() error {
	for _, names := range [][]string{addressFields, resentFields} {
		for _, name := range names {
			for _, value := range d.header.All(name) {
				list, err := message.ParseAddressList(value)
				if err != nil {
					return d.refuse(BadAddress, "the %s field holds something that is not an address", name)
				}
				for _, m := range list {
					if !d.isQualified(m) {
						return d.refuse(BareAddress, "the %s field has an address whose domain is not fully qualified", name)
					}
				}
			}
		}
	}
	return nil
}

// addSender names who sent a message that others wrote. RFC 5322 §3.6.2: where there are several authors there is a Sender.
func (d *draft) addSender() error {
	authors, err := message.ParseAddressList(d.header.Get("From"))
	if resent, _ := d.resent(); err != nil || len(resent) > 0 || d.isSigned("Sender") { // RFC 5322 §3.6.6: Resent-Sender is who sent it on
		return err
	}
	sender := d.identity()
	known := !sender.IsNull()
	written := known && hasAddress(authors, sender)
	there := d.header.Has("Sender")
	if !known && len(authors) > 1 {
		sender = authors[0]
	}
	switch {
	case there && d.Config.Sender == replaceField && known && !written:
		d.replace("Sender", sender.String())
	case there:
	case len(authors) > 1:
		d.note(NoSender)
		d.header.Append("Sender", sender.String())
	case d.Config.Sender != keepField && known && !written:
		d.header.Append("Sender", sender.String())
	}
	return nil
}

// identity is the address that the account is known by, or else its reverse-path; null when neither is an address that could be
// answered (RFC 6409 §8.1: a Sender is a valid address).
func (d *draft) identity() message.Address {
	m := d.env.ReversePath
	if d.Accounts != nil && d.env.Account != "" {
		if chief, ok := d.Accounts.Address(d.env.Account); ok {
			m = chief
		}
	}
	if _, err := message.ParseAddress(m.String()); err != nil || !d.isQualified(m) {
		return message.Address{}
	}
	return m
}

// hasAddress reports whether list has m; the case of local parts does not matter.
func hasAddress(list []message.Address, m message.Address) bool {
	for _, one := range list {
		if one.Domain == m.Domain && strings.EqualFold(one.Local, m.Local) {
			return true
		}
	}
	return false
}

// addDate adds a date, and corrects one that is none: to what it means, or to the present time where nobody can tell.
func (d *draft) addDate() error {
	value, signed := d.header.Get("Date"), d.isSigned("Date")
	switch {
	case value == "":
		d.note(NoDate)
		if d.Config.Date != keepField && !(signed && d.header.Has("Date")) {
			d.header.Del("Date")
			d.header.Append("Date", message.FormatDate(d.at))
		}
	case !isDate(value):
		d.note(BadDate)
		if d.Config.Date == correctField && !signed {
			t, ok := parseOddDate(value)
			if !ok {
				t = d.at
			}
			d.replace("Date", message.FormatDate(t))
		}
	}
	return nil
}

// addMessageID names a message that has no name, or one that is not valid syntax, after its ID here.
func (d *draft) addMessageID() error {
	value := d.header.Get("Message-ID")
	mode, signed := d.Config.MessageID, d.isSigned("Message-ID") && d.header.Has("Message-ID")
	switch {
	case value == "":
		d.note(NoMessageID)
		if mode == keepField || signed {
			return nil
		}
	case isMessageID(value):
		return nil
	default:
		d.note(BadMessageID)
		if mode != replaceField || signed {
			return nil
		}
	}
	d.header.Del("Message-ID")
	d.header.Append("Message-ID", d.messageID())
	return nil
}

// messageID names a message after its ID here.
func (d *draft) messageID() string { return "<" + d.env.ID.String() + "@" + d.Hostname + ">" }

func (d *draft) dropBcc() error {
	d.header.Del("Bcc")
	d.header.Del("Resent-Bcc")
	return nil
}

// dropReturnPaths leaves the field to final delivery, which alone knows (RFC 5321 §4.4).
func (d *draft) dropReturnPaths() error {
	d.header.Del("Return-Path")
	return nil
}

// replace puts a new value into the field of a name that is there once, in its place.
func (d *draft) replace(name, value string) {
	d.replaceAt(d.header.Index(name), name, value)
}

// replaceAt puts a field in the place of the one at an index.
func (d *draft) replaceAt(at int, name, value string) {
	i := -1
	d.header.DelFunc(func(message.Field) bool { i++; return i == at })
	d.header.Insert(at, name, value)
}

// isSigned reports whether a DKIM signature covers a field (RFC 6376 §3.5, h=).
func (d *draft) isSigned(name string) bool {
	for _, value := range d.header.All("DKIM-Signature") {
		for tag := range strings.SplitSeq(value, ";") {
			key, list, _ := strings.Cut(tag, "=")
			if strings.TrimSpace(key) != "h" {
				continue
			}
			for covered := range strings.SplitSeq(list, ":") {
				if strings.EqualFold(strings.TrimSpace(covered), name) {
					return true
				}
			}
		}
	}
	return false
}

func (d *draft) note(kind Kind) {
	d.Agent.note(d.env.Account, kind, cmp.Or(d.header.Get("User-Agent"), d.header.Get("X-Mailer")))
}

// refuse notes a fault and returns the reply to it.
func (d *draft) refuse(kind Kind, format string, args ...any) error {
	d.note(kind)
	return refusal(format, args...)
}
