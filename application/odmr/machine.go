package odmr

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"bothy/application/directory"
	"bothy/application/queue"
	"bothy/application/smtp"
)

// The replies to ATRN (RFC 2645 §7). RFC 5248 §2.4 gives the enhanced codes that go with them. Each is one line: fetchmail
// takes the second line of a reply for the first command of the turned connection.
var (
	replyTurn    = smtp.Reply{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: "OK now reversing the connection"}
	replyNoMail  = smtp.Reply{Code: 453, Enhanced: [3]int{4, 3, 2}, Text: "You have no mail"}
	replyForeign = smtp.Reply{Code: 450, Enhanced: [3]int{4, 7, 0}, Text: "ATRN refused: not all of these domains are yours"}
	replyBusy    = smtp.Reply{Code: 450, Enhanced: [3]int{4, 7, 0}, Text: "ATRN refused: another session of yours is open, call again in 60 seconds"}
	replyUnable  = smtp.Reply{Code: 451, Enhanced: [3]int{4, 3, 0}, Text: "Unable to process ATRN request now"}
	replyAuth    = smtp.Reply{Code: 530, Enhanced: [3]int{5, 7, 0}, Text: "Authentication required"}
	replyBehind  = smtp.Reply{Code: 421, Enhanced: [3]int{4, 5, 0}, Text: "Input behind ATRN, closing the connection"}
	replyStop    = smtp.Reply{Code: 421, Enhanced: [3]int{4, 3, 2}, Text: "The service ends for now, call again"}
	replyClear   = smtp.Reply{Code: 530, Enhanced: [3]int{5, 7, 0}, Text: "Must issue a STARTTLS command first"}
	replySyntax  = smtp.Reply{Code: 501, Enhanced: [3]int{5, 5, 4}, Text: "Syntax: ATRN [domain *(\",\" domain)]"}
)

// entitled decides which domains an ATRN of the customer gets, asked having none for all of them. It returns the Reply that
// refuses the whole command when one of them is not the customer's, or when it calls too soon.
func entitled(c directory.Customer, asked []string, now time.Time) (domains []string, err error) {
	if len(asked) == 0 {
		asked = c.Domains // RFC 2645 §5.2.1: no domains means all to which the customer has access
	}
	if len(asked) == 0 {
		return nil, replyForeign
	}
	for _, d := range asked {
		if !slices.Contains(c.Domains, d) { // RFC 2645 §5.2.1: no mail for any domain when one is another's
			return nil, replyForeign
		}
	}
	// RFC 2645 §5.2.1: requests within a particular interval may be refused. A clock that went back refuses nobody.
	if since := now.Sub(c.LastContact); since >= 0 && since < c.MinInterval {
		r := replyForeign
		r.Text = fmt.Sprintf("ATRN refused: call again in %d seconds", int64((c.MinInterval-since+time.Second-1)/time.Second))
		return nil, r
	}
	return asked, nil
}

// turning is the reply that grants the turn. What waits is told in its text, for a customer that wants to show how far it is.
func turning(messages int, octets int64) smtp.Reply {
	r := replyTurn
	if messages > 0 {
		r.Text = fmt.Sprintf("%s: %d messages of %d octets wait", r.Text, messages, octets)
	}
	return r
}

// told is how turning says it.
var told = regexp.MustCompile(`: (\d{1,9}) messages of (\d{1,18}) octets wait$`)

// promised is what the reply to ATRN says that waits; zeros: it does not say.
func promised(r smtp.Reply) (messages int, octets int64) {
	m := told.FindStringSubmatch(r.Text)
	if m == nil {
		return 0, 0
	}
	messages, _ = strconv.Atoi(m[1]) // digits, few enough
	octets, _ = strconv.ParseInt(m[2], 10, 64)
	return messages, octets
}

// lane is where the mail of one held domain waits. ATRN may name any of an account's domains, so the domain is the unit.
func lane(domain string) queue.Lane { return queue.Lane("odmr/" + domain) }

// domainOf is whose mail waits in a lane.
func domainOf(l queue.Lane) string { return strings.TrimPrefix(string(l), "odmr/") }

const (
	// nextCall keeps a recipient that was refused for now out of the way for as long as a session lasts; the next call makes it due.
	nextCall = time.Hour
	// sameCall is when a session that lingers tries it again.
	sameCall = 10 * time.Minute
)

// sooner is the earlier of two times.
func sooner(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// verdict is what the customer's reply means for a recipient. The zero Reply, whose true one was lost, and one that cannot stand
// there make the zero Verdict: try again at once.
func verdict(r smtp.Reply, remote string, retry time.Time) queue.Verdict {
	switch {
	case r.Code/100 == 2:
		return queue.Verdict{Done: true, Reply: r, Remote: remote}
	case r.Permanent():
		return queue.Verdict{Failed: true, Reply: r, Remote: remote}
	case r.Temporary():
		return queue.Verdict{Reply: r, Remote: remote, Retry: retry}
	}
	return queue.Verdict{}
}

// The ways a call ends without mail. What Call returns wraps one of them, and the provider's Reply if that was the cause.
var (
	ErrNoMail      = errors.New("odmr: no mail")                              // 453: all is well
	ErrLater       = errors.New("odmr: the provider asks to call later")      // 450: called too soon, or a session of ours is open, or not our domains
	ErrUnable      = errors.New("odmr: the provider is not able to, for now") // 451 and all other 4yz: the fault is there
	ErrDenied      = errors.New("odmr: the provider denied access")           // 530, 535 and other refusals of AUTH
	ErrRefused     = errors.New("odmr: the provider refused the request")     // 5yz: it does not offer ATRN, or not like this
	ErrInsecure    = errors.New("odmr: no trustworthy TLS to the provider")   // it does not offer TLS, or its name is not certified
	ErrUnreachable = errors.New("odmr: provider not reached")                 // the network failed before the connection was turned
	ErrInterrupted = errors.New("odmr: call interrupted")                     // the connection was lost after it was turned
	ErrConfig      = errors.New("odmr: the configuration cannot be used")     // a file is missing, a value is wrong
)

const (
	soonest = 15 * time.Second // after the first loss of a connection
	briefly = time.Minute      // after the first 4yz
	longest = time.Hour        // between calls that fail until somebody mends something
)

// pause is how long to wait for the next call: err is how the last one ended, failures how many in a row ended without mail
// (a count, 1 or more), interval what is configured.
func pause(err error, failures int, interval time.Duration) time.Duration {
	first, most := interval, interval
	switch {
	case err == nil, errors.Is(err, ErrNoMail):
		return interval
	case errors.Is(err, ErrUnreachable), errors.Is(err, ErrInterrupted):
		first = min(soonest, interval)
	case errors.Is(err, ErrLater):
		if wait := wished(err); wait > 0 {
			return min(wait, max(interval, longest))
		}
		first = briefly
		most = max(interval, briefly)
	case errors.Is(err, ErrUnable):
		first = briefly
		most = max(interval, briefly)
	default: // a person must mend it
		most = max(interval, longest)
	}
	for ; failures > 1 && first < most; failures-- {
		first *= 2
	}
	return min(first, most)
}

// wish is how a provider of ours says when to come back.
var wish = regexp.MustCompile(`call again in (\d{1,6}) seconds`)

// wished is when the provider wants to be called again; 0: it did not say. The second more is for the clocks' rounding.
func wished(err error) time.Duration {
	var reply smtp.Reply
	if !errors.As(err, &reply) {
		return 0
	}
	m := wish.FindStringSubmatch(reply.Text)
	if m == nil {
		return 0
	}
	seconds, _ := strconv.Atoi(m[1]) // digits, few enough
	return time.Duration(seconds+1) * time.Second
}

// spread moves d by up to a tenth either way, so that customers do not call in step; after err that many may have met together, a provider's
// restart or more callers than it takes, by up to a half, and not beyond a wait without failures. dice is in [0,1).
func spread(d time.Duration, err error, interval time.Duration, dice float64) time.Duration {
	share, most := 0.1, max(d, interval)*11/10
	if errors.Is(err, ErrUnreachable) || errors.Is(err, ErrInterrupted) || errors.Is(err, ErrUnable) {
		share = 0.5
	}
	return min(d+time.Duration((2*dice-1)*share*float64(d)), most)
}
