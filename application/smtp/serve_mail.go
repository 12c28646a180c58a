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
	path, rest, err := parsePath(strings.TrimLeft(rest, " "))
	if err != nil || path.Domain == "" && path.Local != "" {
		return badPath(err, 7, "sender"), nil
	}
	env := &message.Envelope{ReversePath: path, Account: s.Identity}
	if r := s.parameters(rest, mailParameters, env); r.Code != 0 {
		return r, nil
	}
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
				return reply, nil
			}
		}
	}
	s.env, s.state = env, mailing
	return reply, nil
}

// rcpt adds a recipient (RFC 5321 §4.1.1.3).
func (s *Session) rcpt(ctx context.Context, arg string) (Reply, error) {
	rest, ok := cutPrefixFold(arg, "TO:")
	if !ok {
		return Reply{501, [3]int{5, 5, 4}, "want RCPT TO:<address>"}, nil
	}
	path, rest, err := parsePath(strings.TrimLeft(rest, " ")) // RFC 5321 §3.3 deviation, as with MAIL
	if err != nil || path.IsNull() {
		return badPath(err, 3, "recipient"), nil
	}
	if r := s.parameters(rest, rcptParameters, s.env); r.Code != 0 {
		return r, nil
	}
	if !s.env.UTF8 && !path.IsASCII() { // RFC 6531 §3.5
		return Reply{553, [3]int{5, 6, 7}, "non-ASCII recipient without SMTPUTF8"}, nil
	}
	if len(s.env.Recipients) >= s.limits.Recipients { // RFC 5321 §4.5.3.1.10
		return Reply{452, [3]int{4, 5, 3}, "too many recipients"}, nil
	}
	to := message.Recipient{Address: path}
	reply := Reply{250, [3]int{2, 1, 5}, "recipient ok"}
	if s.server.Policy != nil {
		if err := s.server.Policy.Rcpt(ctx, s, s.env, &to); err != nil {
			if reply = s.asReply(ctx, err, "RCPT"); !reply.Positive() {
				return reply, nil
			}
		}
	}
	if !slices.Contains(s.env.Recipients, to) { // one copy each
		s.env.Recipients = append(s.env.Recipients, to)
	}
	s.state = addressed
	return reply, nil
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

// keyword is one parameter that MAIL or RCPT may carry.
type keyword struct {
	name string
	take func(s *Session, env *message.Envelope, p parameter) Reply // the zero Reply: taken
}

var mailParameters = []keyword{
	{"SIZE", takeSize},     // RFC 1870 §6
	{"BODY", takeBody},     // RFC 6152 §2
	{"SMTPUTF8", takeUTF8}, // RFC 6531 §3.4
	{"AUTH", takeAuth},     // RFC 4954 §5; offered or not, a refusal would be ours to explain
}

var rcptParameters []keyword

// parameters reads the parameters behind a path (RFC 5321 §4.1.1.11).
func (s *Session) parameters(rest string, known []keyword, env *message.Envelope) Reply {
	var seen uint
	for {
		p, after, end, ok := cutParameter(rest)
		switch {
		case end:
			return Reply{}
		case !ok:
			return Reply{501, [3]int{5, 5, 4}, "bad syntax of parameters"}
		}
		i := slices.IndexFunc(known, func(k keyword) bool { return k.name == p.keyword })
		switch {
		case i < 0 || !s.Extended: // after HELO no extension was agreed on (RFC 5321 §2.2.1)
			return Reply{555, [3]int{5, 5, 4}, "parameter not recognized"}
		case seen&(1<<i) != 0:
			return Reply{501, [3]int{5, 5, 4}, "parameter given twice"}
		}
		seen |= 1 << i
		if r := known[i].take(s, env, p); r.Code != 0 {
			return r
		}
		rest = after
	}
}

func badValue(keyword string) Reply {
	return Reply{501, [3]int{5, 5, 4}, "bad value of " + keyword}
}

func takeSize(s *Session, env *message.Envelope, p parameter) Reply {
	if !isDigits(p.value) || len(p.value) > 20 { // RFC 1870 §4: 1*20DIGIT
		return badValue(p.keyword)
	}
	size, err := strconv.ParseInt(p.value, 10, 64)
	if err != nil || size > s.limits.MessageSize { // RFC 1870 §6.1
		return replyTooBig
	}
	env.Size = size
	return Reply{}
}

func takeBody(_ *Session, env *message.Envelope, p parameter) Reply {
	switch {
	case strings.EqualFold(p.value, "7BIT"):
		env.Body = message.Body7Bit
	case strings.EqualFold(p.value, "8BITMIME"):
		env.Body = message.Body8Bit
	case strings.EqualFold(p.value, "BINARYMIME"): // RFC 3030 §3, not offered
		return Reply{555, [3]int{5, 5, 4}, "BODY=BINARYMIME not implemented"}
	default:
		return badValue(p.keyword)
	}
	return Reply{}
}

func takeUTF8(_ *Session, env *message.Envelope, p parameter) Reply {
	if p.hasValue { // RFC 6531 §3.4
		return badValue(p.keyword)
	}
	env.UTF8 = true
	return Reply{}
}

func takeAuth(_ *Session, env *message.Envelope, p parameter) Reply {
	mailbox, ok := parseXtext(p.value)
	if !p.hasValue || !ok {
		return badValue(p.keyword)
	}
	if mailbox != "<>" {
		if _, err := message.ParseAddress(mailbox); err != nil {
			return badValue(p.keyword)
		}
	}
	env.Submitter = mailbox
	return Reply{}
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
