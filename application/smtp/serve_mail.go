package smtp

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"bothy/application/message"
)

// mail opens a transaction (RFC 5321 §4.1.1.2).
func (s *Session) mail(ctx context.Context, arg string) (Reply, error) {
	rest, ok := cutPrefixFold(arg, "FROM:")
	if !ok {
		return Reply{501, [3]int{5, 5, 4}, "want MAIL FROM:<address>"}, nil
	}
	// RFC 5321 §3.3 deviation: we take a space after "FROM:"; old devices send one, and so does RFC 2645 §6.
	path, rest, err := s.path(strings.TrimLeft(rest, " "))
	if err != nil || path.Domain == "" && path.Local != "" && s.server.Protocol != Submission {
		return badPath(err, 7, "sender"), nil
	}
	if s.mails++; s.limits.Mails > 0 && s.mails > s.limits.Mails { // RFC 9422 §4.1: the refused ones count too
		return replyFull, nil
	}
	s.transid, s.from, s.deflated = "", -1, false
	env := &message.Envelope{ReversePath: path, Account: s.Identity, Client: s.Peer.Addr().Unmap(), Helo: s.Helo}
	if r := s.parameters(rest, mailParameters, env, nil); r.Code != 0 {
		return r, nil
	}
	if r := s.consistent(env); r.Code != 0 {
		return r, nil
	}
	asked := s.mayRaise(env)
	if !env.UTF8 && !path.IsASCII() { // RFC 6531 §3.5
		return Reply{550, [3]int{5, 6, 7}, "non-ASCII sender without SMTPUTF8"}, nil
	}
	if env.Submitter == "" || s.Identity == "" { // RFC 4954 §5: whom we do not know we do not believe
		env.Submitter = "<>"
	}
	reply := Reply{250, [3]int{2, 1, 0}, "sender ok"}
	if s.server.Policy != nil {
		if err := s.server.Policy.Mail(ctx, s, env); err != nil {
			if reply = s.asReply(ctx, err, "MAIL"); !reply.Positive() {
				s.stranger = reply.Code == replyNeedAuth.Code
				return reply, nil
			}
		}
		s.stranger = false
	}
	if env.Priority != asked { // RFC 6710 §4.1
		reply.Enhanced, reply.Text = [3]int{2, 3, 6}, strconv.Itoa(int(env.Priority))+" is the priority here"
	}
	s.env, s.state, s.idle = env, mailing, 0
	if s.transid != "" {
		reply = s.checkpoint(ctx, reply)
	}
	return reply, nil
}

// rcpt adds a recipient (RFC 5321 §4.1.1.3).
func (s *Session) rcpt(ctx context.Context, arg string) (Reply, error) {
	rest, ok := cutPrefixFold(arg, "TO:")
	if !ok {
		return Reply{501, [3]int{5, 5, 4}, "want RCPT TO:<address>"}, nil
	}
	path, rest, err := s.path(strings.TrimLeft(rest, " ")) // RFC 5321 §3.3 deviation, as with MAIL
	if err != nil || path.IsNull() {
		return badPath(err, 3, "recipient"), nil
	}
	to := message.Recipient{Address: path}
	if r := s.parameters(rest, rcptParameters, s.env, &to); r.Code != 0 {
		return r, nil
	}
	if !s.env.UTF8 && !path.IsASCII() { // RFC 6531 §3.5
		return Reply{553, [3]int{5, 6, 7}, "non-ASCII recipient without SMTPUTF8"}, nil
	}
	if s.renames(path) {
		return replyRecipient, nil
	}
	if len(s.env.Recipients) >= s.limits.Recipients { // RFC 5321 §4.5.3.1.10
		if s.excess = true; s.limits.Excess == excessRefuse {
			return replyExcess, nil
		}
		return replyTooManyTo, nil
	}
	if !s.admitDomain(path.Domain) {
		return Reply{452, [3]int{4, 5, 3}, "too many recipient domains in one session"}, nil
	}
	reply := replyRecipient
	if s.server.Policy != nil {
		if err := s.server.Policy.Rcpt(ctx, s, s.env, &to); err != nil {
			if reply = s.asReply(ctx, err, "RCPT"); !reply.Positive() {
				return reply, nil
			}
		}
	}
	if s.repeats() && !s.renames(to.Address) {
		return NotOfTransaction, nil
	}
	if !s.repeats() && !slices.Contains(s.env.Recipients, to) { // one copy each
		s.env.Recipients = append(s.env.Recipients, to)
	}
	s.state = addressed
	return reply, nil
}

// admitDomain counts the recipients' domains of the session where they are limited (RFC 9422 §4.3).
func (s *Session) admitDomain(domain string) bool {
	most := s.limits.RecipientDomains
	if most == 0 || s.domains[domain] {
		return true
	}
	if len(s.domains) >= most {
		return false
	}
	if s.domains == nil {
		s.domains = make(map[string]bool)
	}
	s.domains[domain] = true
	return true
}

// path is parsePath, and at submission also a local part alone: the policy completes it or refuses it (RFC 6409 §4.2, §8).
func (s *Session) path(arg string) (message.Address, string, error) {
	path, rest, err := parsePath(arg)
	if err == nil || s.server.Protocol != Submission || s.server.Policy == nil {
		return path, rest, err
	}
	inner, rest, ok := cutPath(arg)
	if !ok {
		return path, arg, err
	}
	whole, incomplete := message.ParseAddress(inner + "@incomplete.invalid")
	if incomplete != nil {
		return path, arg, err
	}
	return message.Address{Local: whole.Local}, rest, nil
}

// badPath refuses a path; detail is that of RFC 3463 §3.2: X.1.3 a bad destination, X.1.7 a bad sender.
func badPath(err error, detail int, whose string) Reply {
	if errors.Is(err, errPathLength) { // RFC 5321 §4.5.3.1.9
		return Reply{501, [3]int{5, 1, detail}, whose + " path too long"}
	}
	return Reply{501, [3]int{5, 1, detail}, "bad syntax of the " + whose + "'s path"}
}

// cutPrefixFold is strings.CutPrefix without regard to case, for a prefix in ASCII.
func cutPrefixFold(s, prefix string) (rest string, ok bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
