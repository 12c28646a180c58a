package smtp

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"bothy/application/message"
)

// keyword is one parameter that MAIL or RCPT may carry.
type keyword struct {
	name    string
	offered func(*Session) bool                                                                         // nil: always
	take    func(s *Session, env *message.Envelope, to *message.Recipient, p parameter) (refusal Reply) // the zero Reply: taken
}

var mailParameters = []keyword{
	{"SIZE", nil, takeSize},                       // RFC 1870 §6
	{"BODY", nil, takeBody},                       // RFC 6152 §2
	{"SMTPUTF8", nil, takeUTF8},                   // RFC 6531 §3.4
	{"AUTH", nil, takeAuth},                       // RFC 4954 §5; offered or not, a refusal would be ours to explain
	{"RET", offersDSN, takeReturn},                // RFC 3461 §4.3
	{"ENVID", offersDSN, takeEnvelopeID},          // RFC 3461 §4.4
	{"MT-PRIORITY", offersPriority, takePriority}, // RFC 6710 §3
	{"REQUIRETLS", offersTLS, takeRequireTLS},     // RFC 8689 §2
	{"BY", offersDeadline, takeDeadline},          // RFC 2852 §4
	{"SOLICIT", offersSolicit, takeSolicit},       // RFC 3865 §2.3
	{"HOLDFOR", offersRelease, takeHoldFor},       // RFC 4865 §3
	{"HOLDUNTIL", offersRelease, takeHoldUntil},   // RFC 4865 §3
	{"TRANSID", offersCheckpoint, takeTransID},    // RFC 1845 §2
	{KeywordOffset, offersOffset, takeOffset},
	{"MTRK", offersTracking, takeTracking}, // RFC 3885 §3.1
	{KeywordDeflate, offersDeflate, takeDeflate},
}

var rcptParameters = []keyword{
	{"NOTIFY", offersDSN, takeNotify},  // RFC 3461 §4.1
	{"ORCPT", offersDSN, takeOriginal}, // RFC 3461 §4.2
}

// parameters reads the parameters behind a path (RFC 5321 §4.1.1.11); to is nil with MAIL.
func (s *Session) parameters(rest string, known []keyword, env *message.Envelope, to *message.Recipient) Reply {
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
		case i < 0 || !s.Extended || known[i].offered != nil && !known[i].offered(s): // after HELO no extension was agreed on (RFC 5321 §2.2.1)
			return Reply{555, [3]int{5, 5, 4}, "parameter not recognized"}
		case seen&(1<<i) != 0: // RFC 3461 §4.5 and others
			return Reply{501, [3]int{5, 5, 4}, "parameter given twice"}
		}
		seen |= 1 << i
		if r := known[i].take(s, env, to, p); r.Code != 0 {
			return r
		}
		rest = after
	}
}

func badValue(keyword string) Reply {
	return Reply{501, [3]int{5, 5, 4}, "bad value of " + keyword}
}

func takeSize(s *Session, env *message.Envelope, _ *message.Recipient, p parameter) Reply {
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

func takeBody(s *Session, env *message.Envelope, _ *message.Recipient, p parameter) Reply {
	switch {
	case strings.EqualFold(p.value, "7BIT"):
		env.Body = message.Body7Bit
	case strings.EqualFold(p.value, "8BITMIME"):
		env.Body = message.Body8Bit
	case strings.EqualFold(p.value, "BINARYMIME") && s.server.Offer.BinaryMIME: // RFC 3030 §3
		env.Body = message.BodyBinary
	case strings.EqualFold(p.value, "BINARYMIME"):
		return Reply{555, [3]int{5, 5, 4}, "BODY=BINARYMIME not implemented"}
	default:
		return badValue(p.keyword)
	}
	return Reply{}
}

func takeUTF8(_ *Session, env *message.Envelope, _ *message.Recipient, p parameter) Reply {
	if p.hasValue { // RFC 6531 §3.4
		return badValue(p.keyword)
	}
	env.UTF8 = true
	return Reply{}
}

func takeAuth(_ *Session, env *message.Envelope, _ *message.Recipient, p parameter) Reply {
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

func takeReturn(_ *Session, env *message.Envelope, _ *message.Recipient, p parameter) Reply {
	if !p.hasValue || env.Return.UnmarshalText([]byte(p.value)) != nil {
		return badValue(p.keyword)
	}
	return Reply{}
}

// What RFC 3461 lets a value be long, in octets as sent.
const (
	maxEnvelopeID = 100 // RFC 3461 §4.4
	maxOriginal   = 500 // RFC 3461 §4.2
)

func takeEnvelopeID(_ *Session, env *message.Envelope, _ *message.Recipient, p parameter) Reply {
	id, ok := parseXtext(p.value)
	if !p.hasValue || !ok || len(p.value) > maxEnvelopeID || !isPrintable(id) { // RFC 3461 §4.4
		return badValue(p.keyword)
	}
	env.EnvelopeID = id
	return Reply{}
}

func takeNotify(_ *Session, _ *message.Envelope, to *message.Recipient, p parameter) Reply {
	if !p.hasValue || to.Notify.UnmarshalText([]byte(p.value)) != nil {
		return badValue(p.keyword)
	}
	return Reply{}
}

func takeOriginal(_ *Session, env *message.Envelope, to *message.Recipient, p parameter) Reply {
	if len(p.value) > maxOriginal || !isOriginal(p.value, env.UTF8) {
		return badValue(p.keyword)
	}
	to.Original = p.value // RFC 3461 §5.2.1: it goes on exactly as it came
	return Reply{}
}

func takePriority(_ *Session, env *message.Envelope, _ *message.Recipient, p parameter) Reply {
	priority, ok := parsePriority(p.value)
	if !ok { // RFC 6710 §4.1
		return Reply{501, [3]int{5, 5, 2}, "bad value of MT-PRIORITY"}
	}
	env.Priority = priority
	return Reply{}
}

// mayRaise takes a priority above what the client may have, and above the ordinary from who is not known (RFC 6710 §4.1), and returns the
// one that was asked for.
// Policy may change it further.
func (s *Session) mayRaise(env *message.Envelope) (asked int8) {
	asked = env.Priority
	switch {
	case s.server.Offer.TrustPriority:
	case s.Identity != "":
		env.Priority = min(env.Priority, int8(s.limits.Priority))
	default:
		env.Priority = min(env.Priority, 0)
	}
	return asked
}

func takeRequireTLS(_ *Session, env *message.Envelope, _ *message.Recipient, p parameter) Reply {
	if p.hasValue { // RFC 8689 §2
		return badValue(p.keyword)
	}
	env.RequireTLS = true
	return Reply{}
}

func takeDeadline(s *Session, env *message.Envelope, _ *message.Recipient, p parameter) Reply {
	in, back, trace, ok := parseBy(p.value)
	switch {
	case !ok || back && in <= 0: // RFC 2852 §4
		return badValue(p.keyword)
	case back && in < s.server.Offer.DeliverBy: // RFC 2852 §3, §4
		return Reply{555, [3]int{5, 5, 4}, "by-time shorter than DELIVERBY says"}
	}
	env.DeliverBy = message.Deadline{At: s.instant().Add(in), Return: back, Trace: trace}
	return Reply{}
}

func takeSolicit(s *Session, env *message.Envelope, _ *message.Recipient, p parameter) Reply {
	if !isSolicit(p.value) {
		return badValue(p.keyword)
	}
	if found := unwanted(p.value, s.server.Offer.Unsolicited); found != "" {
		return replySolicit(found)
	}
	env.Solicit = p.value
	return Reply{}
}

// replySolicit refuses a message for the solicitation class keywords found, which it names (RFC 3865 §2.4).
func replySolicit(found string) Reply {
	return Reply{550, [3]int{5, 7, 1}, "no soliciting here: SOLICIT=" + found}
}

func takeHoldFor(s *Session, env *message.Envelope, _ *message.Recipient, p parameter) Reply {
	if len(p.value) > 9 || !isDigits(p.value) || p.value[0] == '0' || !env.HoldUntil.IsZero() { // RFC 4865 §3, §4.2
		return badValue(p.keyword)
	}
	n, err := strconv.Atoi(p.value)
	hold := time.Duration(n) * time.Second
	if err != nil || hold > s.server.Offer.FutureRelease { // RFC 4865 §4.2
		return badValue(p.keyword)
	}
	env.HoldFor, env.HoldUntil = hold, s.instant().Add(hold)
	return Reply{}
}

func takeHoldUntil(s *Session, env *message.Envelope, _ *message.Recipient, p parameter) Reply {
	until, err := time.Parse(time.RFC3339, p.value)
	if err != nil || !strings.HasSuffix(p.value, "Z") || !env.HoldUntil.IsZero() || // RFC 4865 §3, §4.2
		until.After(s.instant().Add(s.server.Offer.FutureRelease)) {
		return badValue(p.keyword)
	}
	env.HoldUntil = until.UTC().Truncate(time.Second)
	return Reply{}
}

// consistent refuses parameters that contradict each other.
func (s *Session) consistent(env *message.Envelope) Reply {
	if by := env.DeliverBy.At; !by.IsZero() && env.HoldUntil.After(by) { // RFC 4865 §5.2.2
		return Reply{501, [3]int{5, 5, 4}, "to be held longer than there is time to deliver it"}
	}
	if local, host, ok := strings.Cut(env.EnvelopeID, "@"); env.Tracking.Certifier != "" && (!ok || local == "" || host == "") { // RFC 3885 §3.2
		return Reply{501, [3]int{5, 5, 4}, "MTRK wants ENVID=local@host"}
	}
	if s.from >= 0 && s.transid == "" {
		return Reply{501, [3]int{5, 5, 4}, KeywordOffset + " wants TRANSID"}
	}
	return Reply{}
}

// instant is now as an envelope has it.
func (s *Session) instant() time.Time { return s.now().UTC().Truncate(time.Second) }

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
