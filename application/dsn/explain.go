package dsn

import (
	"fmt"

	"bothy/application/smtp"
)

// words says what a status means for the sender, and what to do about it. Zero in a code stands for any number.
type words struct {
	subject, detail int // RFC 3463 §2: the second and third number
	why, todo       string
}

// explanations are tried in order (RFC 3463 §3, RFC 7505 §4.1, RFC 6531 §4.2).
var explanations = []words{
	{1, 1, "There is no mailbox with this address.", "Check the spelling of the part before the @, then send your message again."},
	{1, 2, "The part of the address behind the @ does not exist.", "Check its spelling, then send your message again."},
	{1, 3, "The address is not written as an e-mail address should be.", "Check it for missing or extra characters, then send your message again."},
	{1, 6, "The recipient has moved and left no new address.", "Ask the recipient for the new address."},
	{1, 7, "The recipient's mail system could not read your own address.", "Ask your postmaster to look at this notice."},
	{1, 8, "The recipient's mail system could not find yours.", "Ask your postmaster to look at this notice."},
	{1, 10, "The part of the address behind the @ takes no mail at all.", "Ask the recipient for another address."},
	{2, 1, "The mailbox is switched off.", "Reach the recipient in another way."},
	{2, 2, "The recipient's mailbox is full.", "Reach the recipient in another way, or send your message again later."},
	{2, 3, "Your message is larger than this mailbox takes.", "Send it again with fewer or smaller attachments."},
	{3, 4, "Your message is larger than the other mail system takes.", "Send it again with fewer or smaller attachments."},
	{4, 4, "No mail system could be found for this address.", "Check the spelling of the part behind the @, then send your message again."},
	{4, 6, "Mail for this address goes round in a circle.", "Ask your postmaster to look at this notice."},
	{4, 7, "Your message could not be handed over in all the time we tried.", "Send it again, or reach the recipient in another way."},
	{4, 0, "The recipient's mail system could not be reached.", "Send your message again later, or reach the recipient in another way."},
	{6, 3, "The recipient's mail system is too old for the form your message has.", "Send it as plain text without accents, or attach it as a file."},
	{6, 7, "The recipient's mail system cannot take an address with these letters.", "Ask the recipient for an address in plain letters (a to z)."},
	{6, 0, "The recipient's mail system cannot take the contents of your message.", "Send it as plain text, or without its attachments."},
	{7, 0, "The rules of the recipient's mail system do not let this message in.", "Ask the recipient, or the postmaster there, to allow it."},
	{1, 0, "The recipient's mail system does not accept this address.", "Check the address, then send your message again."},
	{2, 0, "The mailbox does not take this message.", "Reach the recipient in another way."},
	{3, 0, "The recipient's mail system cannot take this message.", "Reach the recipient in another way."},
	{0, 0, "The recipient's mail system refused this message.", "Its answer, below, may say why. Otherwise reach the recipient in another way."},
}

// explain puts a reply into words.
func explain(r smtp.Reply) (why, todo string) {
	code := enhanced(r)
	if code == [3]int{5, 0, 0} && r.Code == 552 { // RFC 5321 §4.2.3: "exceeded storage allocation", with no finer code
		code = [3]int{5, 3, 4}
	}
	for _, w := range explanations {
		if w.fits(code) {
			return w.why, w.todo
		}
	}
	return "", "" // not reached: the last row fits all
}

// delays says why a message still waits; as in explanations.
var delays = []words{
	{2, 2, "The recipient's mailbox is full.", ""},
	{3, 0, "The recipient's mail system has no room for it now.", ""},
	{4, 0, "The recipient's mail system could not be reached yet.", ""},
	{7, 0, "The recipient's mail system asks us to come again later.", ""},
	{0, 0, "The recipient's mail system does not take it now.", ""},
}

// explainDelay puts what keeps a recipient waiting into words.
func explainDelay(r smtp.Reply) string {
	if r.Code == 0 {
		return "We could not send it on yet."
	}
	code := enhanced(r)
	for _, w := range delays {
		if w.fits(code) {
			return w.why
		}
	}
	return "" // not reached
}

func (w words) fits(code [3]int) bool {
	return (w.subject == 0 || w.subject == code[1]) && (w.detail == 0 || w.detail == code[2])
}

// enhanced returns the status code of a failure (RFC 3463 §2). RFC 3461 §6.3: without one that fits it is 5.0.0, or 4.0.0.
func enhanced(r smtp.Reply) [3]int {
	e := r.Enhanced
	if (e[0] == 4 || e[0] == 5) && isStatus(e) {
		return e
	}
	if r.Temporary() {
		return [3]int{4, 0, 0}
	}
	return [3]int{5, 0, 0}
}

// status writes the Status field's code (RFC 3464 §2.3.4). Its class says what happened in the end, whatever the reply was.
func status(o Outcome) string {
	e := enhanced(o.Reply)
	switch {
	case o.Action == Delayed:
		e[0] = 4
	case o.Action > Delayed && o.Reply.Enhanced[0] == 2 && isStatus(o.Reply.Enhanced):
		e = o.Reply.Enhanced
	case o.Action > Delayed:
		e = [3]int{2, 0, 0}
	}
	return fmt.Sprintf("%d.%d.%d", e[0], e[1], e[2])
}

// isStatus reports whether the numbers fit into a status code (RFC 3463 §2).
func isStatus(e [3]int) bool { return 0 <= e[1] && e[1] <= 999 && 0 <= e[2] && e[2] <= 999 }
