package route

import (
	"context"
	"fmt"
	"strings"

	"bothy/application/message"
	"bothy/application/smtp"
)

// elsewhere is where the mailboxes are that are not here any more, by their old addresses (RFC 5321 §3.4).
type elsewhere map[message.Address]message.Address

// key is what an address is looked up by: people write the same name in any case.
func key(a message.Address) message.Address {
	return message.Address{Local: strings.ToLower(a.Local), Domain: ascii(a)}
}

// parseElsewhere reads a table of the configuration.
func parseElsewhere(table string, moves map[string]string, report func(key string, err error)) elsewhere {
	all := make(elsewhere, len(moves))
	for from, to := range moves {
		old, err := message.ParseAddress(from)
		next, err2 := message.ParseAddress(to)
		switch {
		case err != nil:
			report(fmt.Sprintf("%s.%q", table, from), fmt.Errorf("%q is no address", from))
		case err2 != nil:
			report(fmt.Sprintf("%s.%q", table, from), fmt.Errorf("%q is no address", to))
		default:
			all[key(old)] = next
		}
	}
	return all
}

// moved says what is to be said of a recipient that is not here any more: 251 with its mail sent on, so that to changes, 551 with the new
// address, 556 for a domain that takes no mail. The zero Reply: nothing.
func (r *routes) moved(to *message.Address) smtp.Reply {
	if next, ok := r.forward[key(*to)]; ok { // RFC 5321 §3.4
		*to = next
		return smtp.Reply{Code: 251, Enhanced: [3]int{2, 1, 5}, Text: "User not local; will forward to <" + next.String() + ">"}
	}
	if next, ok := r.gone[key(*to)]; ok { // RFC 5321 §3.4, RFC 3463 §3.2: X.1.6
		return smtp.Reply{Code: 551, Enhanced: [3]int{5, 1, 6}, Text: "User not local; please try <" + next.String() + ">"}
	}
	if r.noMail[ascii(*to)] { // RFC 7504 §4
		return smtp.Reply{Code: 556, Enhanced: [3]int{5, 1, 10}, Text: "the domain " + ascii(*to) + " takes no mail"}
	}
	return smtp.Reply{}
}

// Verify answers VRFY by what RCPT would say of the mailbox, in the words of RFC 5321 §4.3.2.
func (b Border) Verify(ctx context.Context, s *smtp.Session, name string) smtp.Reply {
	a, ok := b.named(name)
	if !ok {
		return smtp.Reply{Code: 553, Enhanced: [3]int{5, 1, 3}, Text: "want a mailbox, such as <name@" + b.router.hostname + ">"}
	}
	to := message.Recipient{Address: a}
	err := b.Rcpt(ctx, s, new(message.Envelope), &to)
	r, refused := err.(smtp.Reply)
	switch {
	case r.Code == 556: // no code for VRFY
		r.Code = 550
		return r
	case refused:
		return r
	case !b.router.local(ascii(a)): // somebody else knows
		return smtp.Reply{Code: 252, Enhanced: [3]int{2, 5, 0}, Text: "cannot verify <" + a.String() + ">, but will take mail for it"}
	}
	return smtp.Reply{Code: 250, Enhanced: [3]int{2, 1, 5}, Text: "<" + a.String() + ">"}
}

// Mailboxes knows by which address an account is known; directory.Directory does.
type Mailboxes interface {
	Address(account string) (message.Address, bool)
}

// Expand returns what answers EXPN with the mailboxes behind an address here (RFC 5321 §3.5.1).
func (b Border) Expand(mailboxes Mailboxes) func(context.Context, *smtp.Session, string) smtp.Reply {
	return func(_ context.Context, _ *smtp.Session, name string) smtp.Reply { return b.expand(mailboxes, name) }
}

func (b Border) expand(mailboxes Mailboxes, name string) smtp.Reply {
	a, ok := b.named(name)
	if ok && !b.router.local(ascii(a)) {
		return smtp.Reply{Code: 252, Enhanced: [3]int{2, 5, 0}, Text: "no list of this server's"}
	}
	var lines []string
	for _, account := range b.router.directory.Resolve(key(a)) {
		if mailbox, ok := mailboxes.Address(account); ok {
			lines = append(lines, "<"+mailbox.String()+">")
		}
	}
	if !ok || len(lines) == 0 {
		return smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such list"}
	}
	return smtp.Reply{Code: 250, Enhanced: [3]int{2, 1, 5}, Text: strings.Join(lines, "\n")}
}

// named reads the argument of VRFY and EXPN: a mailbox, in angle brackets or not, or the name of one at this server's own name.
func (b Border) named(name string) (a message.Address, ok bool) {
	name = strings.TrimSuffix(strings.TrimPrefix(name, "<"), ">")
	a, err := message.ParseAddress(name)
	if err != nil {
		a, err = message.ParseAddress(name + "@" + b.router.hostname)
	}
	return a, err == nil
}
