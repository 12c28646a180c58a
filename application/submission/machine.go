package submission

import (
	"bytes"
	"strings"

	"bothy/application/message"
)

// draft is one message on its way through the steps.
type draft struct {
	*Acceptor
	env    *message.Envelope
	header *message.Header
}

// steps are run in order; the first error refuses the message. Checks stand before changes.
var steps = []func(*draft) error{
	(*draft).checkLines,      // RFC 5322 §2.2
	(*draft).checkSingle,     // RFC 5322 §3.6
	(*draft).addFrom,         // RFC 5322 §3.6.2, RFC 6409 §8
	(*draft).checkRights,     // RFC 6409 §6.1, §6.3
	(*draft).checkAddresses,  // RFC 6409 §4.2, §5.1
	(*draft).addDate,         // RFC 6409 §8.2
	(*draft).addMessageID,    // RFC 6409 §8.3
	(*draft).dropBcc,         // RFC 5322 §3.6.3
	(*draft).dropReturnPaths, // RFC 5321 §4.4
}

// checkLines refuses a CR or LF that is no line end: RFC 5322 §2.2 forbids it, and whoever takes it for one further on would see
// fields that we did not check.
func (d *draft) checkLines() error {
	for f := range d.header.Fields() {
		raw := f.Raw()
		folds := bytes.Count(raw, []byte("\r\n"))
		if bytes.Count(raw, []byte("\r")) != folds || bytes.Count(raw, []byte("\n")) != folds {
			return refusal("the header has a CR or LF that ends no line")
		}
	}
	return nil
}

// checkSingle refuses a second author or sender field: readers differ in which of them they show. RFC 5322 §3.6 allows one each.
func (d *draft) checkSingle() error {
	for _, name := range []string{"From", "Sender"} {
		if len(d.header.All(name)) > 1 {
			return refusal("there is more than one %s field", name)
		}
	}
	return nil
}

// addFrom puts the reverse-path, which the account has a right to, where no author is named: RFC 6409 §8 lets nothing out that RFC
// 5322 would not, and local programs hand in bare text.
func (d *draft) addFrom() error {
	switch {
	case d.header.Has("From"):
		return nil
	case d.env.ReversePath.IsNull() || d.env.ReversePath.Domain == "":
		return refusal("there is no From field")
	}
	d.header.Append("From", d.env.ReversePath.String())
	return nil
}

// checkRights refuses an author or sender whom the account may not write as.
func (d *draft) checkRights() error {
	for _, name := range []string{"From", "Sender"} {
		if !d.header.Has(name) {
			continue
		}
		list, err := message.ParseAddressList(d.header.Get(name))
		if err != nil || len(list) == 0 {
			return refusal("the %s field names no valid address", name)
		}
		for _, a := range list {
			if !maySend(d.Directory, d.env.Account, a) {
				return notYours(a, d.env.Account)
			}
		}
	}
	return nil
}

// checkAddresses refuses fields that hold anything else than addresses with whole domains.
func (d *draft) checkAddresses() error {
	for _, name := range []string{"From", "Sender", "Reply-To", "To", "Cc", "Bcc"} {
		for _, value := range d.header.All(name) {
			list, err := message.ParseAddressList(value)
			if err != nil {
				return refusal("the %s field holds something that is not an address", name)
			}
			for _, a := range list {
				if !isQualified(a) {
					return refusal("the %s field has an address whose domain is not fully qualified", name)
				}
			}
		}
	}
	return nil
}

func (d *draft) addDate() error {
	if d.header.Get("Date") == "" {
		d.header.Del("Date")
		d.header.Append("Date", message.FormatDate(d.now()))
	}
	return nil
}

// addMessageID names a message that has no name, or one that is not valid syntax, after its ID here.
func (d *draft) addMessageID() error {
	if !isMessageID(d.header.Get("Message-ID")) {
		d.header.Del("Message-ID")
		d.header.Append("Message-ID", "<"+d.env.ID.String()+"@"+d.Hostname+">")
	}
	return nil
}

func (d *draft) dropBcc() error {
	d.header.Del("Bcc")
	return nil
}

// dropReturnPaths leaves the field to final delivery, which alone knows (RFC 5321 §4.4).
func (d *draft) dropReturnPaths() error {
	d.header.Del("Return-Path")
	return nil
}

// maySend asks the directory in its own terms: a domain is its A-labels.
func maySend(d Directory, account string, a message.Address) bool {
	a, _ = a.ASCII()
	return d.MaySend(account, a)
}

// isQualified reports whether a's domain is whole: more than one label, or an address literal (RFC 5321 §2.3.5).
func isQualified(a message.Address) bool {
	return strings.HasPrefix(a.Domain, "[") || strings.Contains(a.Domain, ".")
}

// isMessageID reports whether s is "<", something, "@", something, ">" (RFC 5322 §3.6.4), comments and white space around it
// aside. What stands on either side is not looked at closely: an id is compared, never read.
func isMessageID(s string) bool {
	start, end := strings.IndexByte(s, '<'), strings.LastIndexByte(s, '>')
	if start < 0 || end < start {
		return false
	}
	left, right, ok := strings.Cut(s[start+1:end], "@")
	return ok && left != "" && right != "" && !strings.ContainsAny(left+right, "<> \t")
}
