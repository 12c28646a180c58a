package relay

import (
	"cmp"
	"fmt"
	"time"

	"bothy/application/queue"
	"bothy/application/smtp"
)

// failure is why a lane cannot be served now, or ever.
type failure struct {
	reply     smtp.Reply // 4yz: later; 5yz: never
	remote    string     // who said so; empty: we found out ourselves
	silent    bool       // nobody spoke to us: it may pass within seconds
	unreached bool       // nor did anybody refuse to: the uplink may be the cause
}

func (f *failure) Error() string { return f.reply.Error() }

// later is a failure we found out ourselves and that may pass: RFC 3463 §3 gives subject and detail their meaning.
func later(subject, detail int, format string, args ...any) *failure {
	return &failure{reply: smtp.Reply{Code: 451, Enhanced: [3]int{4, subject, detail}, Text: fmt.Sprintf(format, args...)}}
}

// never is a failure we found out ourselves and for certain.
func never(code, subject, detail int, format string, args ...any) *failure {
	return &failure{reply: smtp.Reply{Code: code, Enhanced: [3]int{5, subject, detail}, Text: fmt.Sprintf(format, args...)}}
}

// ours makes a permanent failure a passing one: what a smarthost has against us is for the operator to mend, not for the sender.
func (f *failure) ours() *failure {
	if f.reply.Permanent() {
		f.reply.Text = f.remote + " said: " + f.reply.Error()
		f.reply.Code, f.reply.Enhanced = 451, [3]int{4, f.reply.Enhanced[1], f.reply.Enhanced[2]}
		if f.reply.Enhanced == [3]int{4, 0, 0} {
			f.reply.Enhanced = [3]int{4, 3, 0}
		}
	}
	return f
}

// tally is what trying several exchangers of one domain came to.
type tally struct{ passing, final *failure }

func (t *tally) add(f *failure) {
	switch {
	case f.reply.Permanent():
		t.final = f
	case t.passing == nil:
		t.passing = f // the most preferred exchanger's: what the operator wants to read
	default:
		t.passing.unreached = t.passing.unreached && f.unreached
		t.passing.silent = t.passing.silent && f.silent
	}
}

// result is permanent only when all that was tried is (RFC 5321 §5.1, RFC 7504 §3). It is nil when nothing was tried.
func (t *tally) result() *failure {
	if t.passing != nil {
		return t.passing
	}
	return t.final
}

// about is what decides on a verdict beside the reply.
type about struct {
	smarthost bool      // the reply is a smarthost's
	stranger  bool      // of ours, and we did not log in there
	progress  bool      // another recipient of the same transaction was accepted
	again     bool      // a lost session proves nothing: try at once
	retry     time.Time // else the next attempt
	remote    string
}

// judgeReply turns the reply to one recipient into a verdict; the zero Reply means that the session ended before one came.
func judgeReply(reply smtp.Reply, a about) queue.Verdict {
	v := queue.Verdict{Reply: reply, Remote: a.remote}
	switch {
	case reply.Code/100 == 2: // RFC 5321 §6.1: theirs now
		v.Done = true
	case reply.Permanent() && !tooMany(reply) && !(a.smarthost && aboutLogin(reply)) && !(a.stranger && !a.progress && aboutUs(reply)):
		v.Failed = true
	case a.again, a.progress && tooMany(reply): // RFC 5321 §4.5.3.1.10: the rest in a further transaction, at once
	default:
		v.Retry = a.retry
	}
	return v
}

// aboutLogin reports whether reply wants authentication or encryption of us (RFC 4954 §6, RFC 3207 §4).
func aboutLogin(r smtp.Reply) bool {
	switch r.Code {
	case 530, 534, 535, 538:
		return true
	}
	return false
}

// aboutUs reports whether reply says "not authorized" (RFC 3463 §3.8: X.7.1), as "554 5.7.1 Relay access denied" does. Of a smarthost that
// does not know who we are, that is a mistake in the configuration more likely than a judgement on the message; to one that does
// know, it is the latter.
func aboutUs(r smtp.Reply) bool { return r.Enhanced[1] == 7 && r.Enhanced[2] == 1 }

// tooMany reports whether reply refuses one more recipient, and not this one. RFC 5321 §4.5.3.1.10: 552 in this sense is 452.
func tooMany(r smtp.Reply) bool {
	return (r.Code == 452 || r.Code == 552) && r.Enhanced[1] == 5 && r.Enhanced[2] == 3 // RFC 3463 §3.6: X.5.3
}

// limits are a server's (RFC 9422 §4).
type limits struct {
	mails      int // transactions in one session; 0: not said
	recipients int // in one transaction
}

// defaultRecipients is what every server must take: RFC 5321 §4.5.3.1.8.
const defaultRecipients = 100

// limitsOf is what a server says of itself, or must take.
func limitsOf(c *smtp.Client) limits {
	mails, recipients := c.Limits()
	return limits{mails, cmp.Or(recipients, defaultRecipients)}
}

// window is how many connections a lane is worth: what a server bears shows in what becomes of them.
type window struct {
	size float64
	hurt bool // a failure has shown where the bound is
}

// A lane begins with its second connection in reach, and approaches a bound that it has met before with care.
const (
	firstWindow = 2
	careful     = 1.0 / 8
)

var newWindow = window{size: firstWindow}

// wider is w after a message that went well: one more for each window full of them, until the first failure.
func (w window) wider(most int) window {
	step := 1 / w.size
	if w.hurt {
		step *= careful
	}
	w.size = min(w.size+step, float64(most))
	return w
}

// halved is w after a failure.
func (w window) halved() window { return window{size: max(w.size/2, 1), hurt: true} }

// workers is how many may work on a lane whose bound is most.
func (w window) workers(most int) int { return max(1, min(int(w.size), most)) }
