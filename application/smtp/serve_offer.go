package smtp

import (
	"context"
	"strconv"
	"strings"
	"time"

	"bothy/application/message"
)

// Offer is what a Server lists in its reply to EHLO beyond what this package does by itself. Each is a promise that whoever keeps
// the mail and sends it on honours the fields named here; the zero Offer promises nothing. The protocol Held offers none of it.
type Offer struct {
	// DSN is RFC 3461: message.Envelope.Return and EnvelopeID, message.Recipient.Notify and Original.
	DSN bool
	// BinaryMIME is RFC 3030 §3: Envelope.Body may be BodyBinary, whose text has no lines: lone CRs and LFs, and NULs.
	BinaryMIME bool
	// Tracking is RFC 3885, with DSN: Envelope.Tracking. What became of the message can be asked for until then (RFC 3887).
	Tracking bool
	// Limits lists LIMITS with what Limits says (RFC 9422 §4). It concerns nobody but this package.
	Limits bool
	// RequireTLS is RFC 8689: Envelope.RequireTLS. It is listed under TLS only.
	RequireTLS bool
	// Priority is RFC 6710: Envelope.Priority. A session that has logged in gets Limits.Priority at most and any other 0, if not
	// TrustPriority; Policy.Mail may change it. PriorityPolicy is the name of the Priority Assignment Policy, such as "MIXER", at most 20
	// letters, digits and "-_." (RFC 6710 §9.2); empty where all nineteen priorities are what they are.
	Priority       bool
	PriorityPolicy string
	TrustPriority  bool // of a client that we have called, so that we know who it is
	// DeliverBy is the shortest by-time that a message may be returned for, whole seconds (RFC 2852 §3): Envelope.DeliverBy. 0: not
	// offered.
	DeliverBy time.Duration
	// NoSoliciting is RFC 3865: Envelope.Solicit goes on with the message. Unsolicited are the solicitation class keywords that EHLO lists:
	// messages of these classes are refused. There is none by default (RFC 3865 §2.8). Further ones of single recipients are Policy.Rcpt's,
	// by what MAIL said, and the Acceptor's, by what Envelope.Solicit says once the body's header has been read.
	NoSoliciting bool
	Unsolicited  []string
	// Deflate is KeywordDeflate: messages may come compressed. It concerns nobody but this package.
	Deflate bool
	// FutureRelease is the longest that a message is held for its sender, whole seconds, at most 999,999,999 (RFC 4865 §3):
	// Envelope.HoldUntil and HoldFor. 0: not offered; nor is it by any protocol but Submission.
	FutureRelease time.Duration
}

// keywords is the text of the reply to EHLO. A session keeps the stack that its deepest call wanted, and this is it: it appends to one slice, so that an
// idle session has 4 KiB and not 8.
func (s *Session) keywords() string {
	srv := s.server
	b := append(make([]byte, 0, usualOffer+len(srv.Hostname)), srv.Hostname...)
	if srv.Protocol != Held {
		b = append(b, "\nPIPELINING\n8BITMIME\nSMTPUTF8\nCHUNKING\nSIZE "...)
		b = strconv.AppendInt(b, s.limits.MessageSize, 10)
		b = s.appendOffer(b)
	}
	b = append(b, "\nENHANCEDSTATUSCODES"...)
	secure := s.Conn.TLS() != nil
	if srv.TLS != nil && !secure { // RFC 3207 §4.2
		b = append(b, "\nSTARTTLS"...)
	}
	if srv.Auth != nil {
		mechanisms := srv.Auth.Mechanisms(s.channel())
		switch {
		case srv.Protocol == Held, len(mechanisms) > 0 && (secure || !srv.RequireTLS):
			b = append(b, "\nAUTH"...) // RFC 2645 §5.1.1: always there, if only to say that there is nothing before TLS
			for _, m := range mechanisms {
				b = append(append(b, ' '), m...)
			}
		}
	}
	if srv.Ahead && secure {
		b = append(b, "\n"+KeywordAhead...)
	}
	for _, e := range srv.Extensions {
		if e.Keyword != "" {
			b = append(append(b, '\n'), e.Keyword...)
		}
	}
	return string(b)
}

// usualOffer is about how many octets the reply to EHLO has behind the name.
const usualOffer = 320

// appendOffer appends the lines of what the Offer promises.
func (s *Session) appendOffer(b []byte) []byte {
	offer, limits := &s.server.Offer, &s.limits
	if offer.BinaryMIME {
		b = append(b, "\nBINARYMIME"...)
	}
	if offer.DSN {
		b = append(b, "\nDSN"...)
	}
	if offer.Limits { // RFC 9422 §3
		b = appendNumber(b, "\nLIMITS RCPTMAX=", int64(min(limits.Recipients, maxLimit)))
		if limits.Mails > 0 {
			b = appendNumber(b, " MAILMAX=", int64(min(limits.Mails, maxLimit)))
		}
		if limits.RecipientDomains > 0 {
			b = appendNumber(b, " RCPTDOMAINMAX=", int64(min(limits.RecipientDomains, maxLimit)))
		}
	}
	if offersPriority(s) {
		b = append(b, "\nMT-PRIORITY"...)
		if offer.PriorityPolicy != "" {
			b = append(append(b, ' '), offer.PriorityPolicy...)
		}
	}
	if offersTLS(s) {
		b = append(b, "\nREQUIRETLS"...)
	}
	if offersDeadline(s) {
		b = appendNumber(b, "\nDELIVERBY ", int64(offer.DeliverBy/time.Second))
	}
	if offersRelease(s) { // RFC 4865 §4.2: both
		b = appendNumber(b, "\nFUTURERELEASE ", int64(offer.FutureRelease/time.Second))
		b = s.instant().Add(offer.FutureRelease).AppendFormat(append(b, ' '), time.RFC3339)
	}
	if offer.NoSoliciting { // RFC 3865 §2
		b = append(b, "\nNO-SOLICITING"...)
		if len(offer.Unsolicited) > 0 {
			b = append(append(b, ' '), strings.Join(offer.Unsolicited, ",")...)
		}
	}
	if offersTracking(s) { // RFC 3885 §2
		b = append(b, "\nMTRK"...)
	}
	if offersCheckpoint(s) { // RFC 1845 §2
		b = appendNumber(b, "\nCHECKPOINT\nXCHECKPOINT ", s.server.Checkpoints.Least())
	}
	if offersOffset(s) {
		b = append(b, "\n"+KeywordOffset...)
		for _, part := range s.server.Checkpoints.Parts(s.server.PeerName, listedParts) {
			b = appendPart(b, part.Name, part.Octets)
		}
	}
	if offersDeflate(s) {
		b = append(b, "\n"+KeywordDeflate...)
	}
	if s.server.Expand != nil { // RFC 5321 §3.5.2: it must be listed
		b = append(b, "\nEXPN"...)
	}
	if s.etrnOffered() {
		b = append(b, "\nETRN"...)
	}
	return b
}

func appendNumber(b []byte, before string, n int64) []byte {
	return strconv.AppendInt(append(b, before...), n, 10)
}

// listedParts is how many transactions are told of that go on: their names and numbers fit into a reply line (RFC 5321 §4.5.3.1.5: 512 octets).
const listedParts = 4

// maxLimit is the largest number that LIMITS can say (RFC 9422 §4.1: six digits).
const maxLimit = 999_999

func offersDSN(s *Session) bool { return s.server.Offer.DSN }

func offersPriority(s *Session) bool { return s.server.Offer.Priority }

func offersTLS(s *Session) bool { return s.server.Offer.RequireTLS && s.Conn.TLS() != nil } // RFC 8689 §2

func offersDeadline(s *Session) bool { return s.server.Offer.DeliverBy > 0 }

func offersSolicit(s *Session) bool { return s.server.Offer.NoSoliciting }

func offersRelease(s *Session) bool { // RFC 4865 §4.2
	return s.server.Offer.FutureRelease > 0 && s.server.Protocol == Submission
}

func (s *Session) etrnOffered() bool { return s.server.Etrn != nil && s.server.Protocol == Relay }

// etrn is ETRN (RFC 1985 §5).
func (s *Session) etrn(ctx context.Context, arg string) (Reply, error) {
	if !s.etrnOffered() {
		return replyNotHere, nil
	}
	if r := s.permit(&command{verb: "ETRN", legal: ready, needs: needTLS}, ""); r.Code != 0 {
		return r, nil
	}
	node := arg
	switch {
	case arg == "": // RFC 1985 §7, its example
		return replySyntax, nil
	case arg[0] == '#': // RFC 1985 §5.3: the name of a queue, whatever it is here
		if len(arg) > 1 && isPrintable(arg) {
			return s.started(s.server.Etrn(ctx, s, arg)), nil
		}
	case arg[0] == '@':
		node = arg[1:]
	}
	if !message.IsDomain(node) || !strings.Contains(node, ".") { // RFC 1985 §5: fully qualified
		return Reply{501, [3]int{5, 5, 4}, "want a domain"}, nil
	}
	return s.started(s.server.Etrn(ctx, s, arg)), nil
}

func (s *Session) started(r Reply) Reply {
	if r.Code == 0 {
		return replyLocal
	}
	return r
}
