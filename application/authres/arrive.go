package authres

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/idna"

	"bothy/application/message"
	"bothy/application/smtp"
)

// Border gives its verdict on each message from outside before Next has kept it: what it finds out is in the message's envelope when the
// body has ended. It is an smtp.Acceptor. Its fields are set before first use.
type Border struct {
	Hostname string
	Config   Config
	DNS      Resolver
	Inside   []netip.Prefix // whose mail is not looked at
	Next     smtp.Acceptor
	Told     func(Verdict)    // hears of each; may be nil
	Log      *slog.Logger     // nil: discarded
	Now      func() time.Time // nil: time.Now
}

// Verdict is what was found out about one message. A mechanism that is off has the zero Result.
type Verdict struct {
	SPF        SPF
	DKIM       []DKIM // one a signature
	DMARC      DMARC
	Unverified bool       // as in message.Envelope
	Refusal    smtp.Reply // zero where it is not refused

	dkim bool // it is on
}

var replyHeader = smtp.Reply{Code: 554, Enhanced: [3]int{5, 6, 0}, Text: "the header is too long to be looked through"}

// Accept gives Next the message without the fields that were forged (RFC 8601 §5), and with the field of our own.
func (b *Border) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	cfg := b.Config.withDefaults()
	if cfg.none() || b.inside(cfg, env) {
		return b.Next.Accept(ctx, env, body)
	}
	header, rest, err := message.ReadHeader(body, message.DefaultHeaderSize)
	if errors.Is(err, message.ErrHeaderSize) {
		return replyHeader
	}
	if err != nil {
		return err
	}
	a := &arrival{border: b, cfg: cfg, env: env, id: cmp.Or(cfg.ID, b.Hostname), asked: ctx}
	defer a.begin(ctx, &header)()
	remove(&header, func(id string) bool { return sameID(id, a.id) })
	a.text = header.Reader(&tee{rest, a.dkim})
	return b.Next.Accept(ctx, env, a)
}

// inside reports whether a message is none of a stranger's.
func (b *Border) inside(cfg Config, env *message.Envelope) bool {
	return env.Account != "" || !env.Client.IsValid() || env.Client.IsLoopback() && !cfg.Loopback ||
		slices.ContainsFunc(b.Inside, func(p netip.Prefix) bool { return p.Contains(env.Client.WithZone("")) })
}

func (b *Border) now() time.Time {
	if b.Now == nil {
		return time.Now()
	}
	return b.Now()
}

// remove removes the fields of results that who does not want, and those that name nobody or that are of a version we do not know (RFC 8601
// §5). It returns how many there were.
func remove(h *message.Header, who func(id string) bool) int {
	return h.DelFunc(func(f message.Field) bool {
		if !strings.EqualFold(f.Name(), fieldName) {
			return false
		}
		id, _, ok := parseResults(f.Value())
		return id == "" || who(id) || !ok
	})
}

// sameID compares names of services in any case, and as A-labels (RFC 8601 §5); a dot at the end makes none of it another name.
func sameID(a, b string) bool {
	a, b = strings.TrimSuffix(a, "."), strings.TrimSuffix(b, ".")
	if strings.EqualFold(a, b) {
		return true
	}
	x, err1 := idna.Lookup.ToASCII(a)
	y, err2 := idna.Lookup.ToASCII(b)
	return err1 == nil && err2 == nil && strings.EqualFold(x, y)
}

// arrival is one message on its way to Next. Its reader says what was found out when the text has ended.
type arrival struct {
	border *Border
	cfg    Config
	env    *message.Envelope
	id     string
	asked  context.Context // for lookups at the end
	text   io.Reader

	lookups sync.WaitGroup
	spf     SPF
	dkim    *dkim
	authors []string
	walker  *walker
	ended   bool
}

// begin starts what needs no text; done gives it all up.
func (a *arrival) begin(ctx context.Context, h *message.Header) (done func()) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	dns := a.border.DNS
	fields := slices.Collect(h.Fields())
	if len(fields) > 0 && strings.EqualFold(fields[0].Name(), "Received") {
		fields = fields[1:] // our own
	}
	a.walker = &walker{dns: dns}
	a.dkim = new(dkim)
	if a.cfg.DKIM != off {
		a.dkim = verifyDKIM(ctx, dns, fields, a.border.now())
	}
	if a.cfg.SPF != off {
		a.lookups.Go(func() { a.spf = checkSPF(ctx, dns, a.env) })
	}
	if a.cfg.DMARC != off {
		if a.authors = authors(h); len(a.authors) == 1 {
			a.lookups.Go(func() { _, _, _, _ = a.walker.discover(ctx, a.authors[0]) }) // the walker remembers
		}
	}
	return func() {
		cancel()
		a.lookups.Wait()
		a.dkim.keys.Wait()
	}
}

func (a *arrival) Read(p []byte) (int, error) {
	n, err := a.text.Read(p)
	if err != io.EOF || a.ended {
		return n, err
	}
	a.ended = true
	v := a.verdict()
	if told := a.border.Told; told != nil {
		told(v)
	}
	if log := a.border.Log; log != nil {
		log.Info("verdict", "id", a.env.ID, "spf", v.SPF.Result, "dkim", best(v.DKIM), "dmarc", v.DMARC.Result, "unverified", v.Unverified, "refused", v.Refusal.Code != 0)
	}
	if v.Refusal.Code != 0 {
		return n, v.Refusal
	}
	a.env.Unverified = v.Unverified
	a.env.Trace = append(appendResults(nil, a.id, a.cfg.results(v, a.env)), a.env.Trace...)
	return n, err
}

// verdict waits for the lookups and puts everything together.
func (a *arrival) verdict() (v Verdict) {
	ctx, cancel := context.WithTimeout(a.asked, a.cfg.Timeout)
	defer cancel()
	a.lookups.Wait()
	v.SPF, v.DKIM, v.dkim = a.spf, a.dkim.results(), a.cfg.DKIM != off
	if a.cfg.DMARC != off {
		v.DMARC = a.walker.evaluate(ctx, a.authors, v.SPF, v.DKIM)
	}
	v.Unverified = a.cfg.SPF != off && a.cfg.DKIM != off && !a.vouched(ctx, v)
	v.Refusal = a.cfg.refusal(v)
	return v
}

// vouched reports whether SPF or DKIM stands for the domain of the reverse-path: then who gets a notice there has sent the message.
func (a *arrival) vouched(ctx context.Context, v Verdict) bool {
	from, _ := a.env.ReversePath.ASCII()
	if from.IsNull() || v.SPF.Result == Pass {
		return true
	}
	return slices.ContainsFunc(v.DKIM, func(d DKIM) bool {
		if d.Result != Pass {
			return false
		}
		ok, err := a.walker.aligned(ctx, d.Domain, from.Domain, false)
		return ok && err == nil
	})
}

// refusal is what the policy makes of a verdict; zero where the message is taken.
func (c Config) refusal(v Verdict) smtp.Reply {
	switch {
	case c.SPF == refuse && v.SPF.Result == Fail: // RFC 7372 §3.2
		return smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 23}, Text: "SPF of " + v.SPF.Domain + " does not let your server send its mail"}
	case c.DKIM == refuse && (best(v.DKIM) == Fail || best(v.DKIM) == PermError): // RFC 7372 §3.1
		return smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 20}, Text: "no DKIM signature passes: " + printable(v.DKIM[0].Why)}
	case c.DMARC == refuse && v.DMARC.Result == Fail && v.DMARC.Policy == "reject": // RFC 9989 §7.2
		return smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "DMARC of " + v.DMARC.Domain + " asks to reject this message"}
	case c.DMARC == refuse && v.DMARC.Result == PermError: // RFC 9989 §11.5
		return smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: v.DMARC.Why}
	}
	return smtp.Reply{}
}

// best is the one result of all signatures: a pass, or else what leaves hope, or the first.
func best(all []DKIM) Result {
	for _, want := range []Result{Pass, TempError} {
		if slices.ContainsFunc(all, func(d DKIM) bool { return d.Result == want }) {
			return want
		}
	}
	if len(all) == 0 {
		return None
	}
	return all[0].Result
}

// Best is the result of all signatures: a pass, or else what leaves hope, or the first; "" where nobody looked.
func (v *Verdict) Best() Result {
	if v.dkim {
		return best(v.DKIM)
	}
	return ""
}

// results is the verdict as it stands in the field.
func (c Config) results(v Verdict, env *message.Envelope) []result {
	var all []result
	if c.SPF != off {
		of := "smtp.mailfrom" // RFC 8601 §2.7.2: without the local part
		if v.SPF.Helo {
			of = "smtp.helo"
		}
		all = append(all, result{"spf", v.SPF.Result, v.SPF.Why, []property{{of, v.SPF.Domain}}})
	}
	for _, d := range v.DKIM {
		all = append(all, result{"dkim", d.Result, d.Why, []property{
			{"header.d", d.Domain}, {"header.s", d.Selector}, {"header.a", d.Algorithm}, {"header.b", quoted(d.Short)},
		}})
	}
	if c.DKIM != off && len(v.DKIM) == 0 {
		all = append(all, result{method: "dkim", result: None})
	}
	if c.DMARC != off {
		all = append(all, result{"dmarc", v.DMARC.Result, v.DMARC.Why, []property{{"policy.dmarc", v.DMARC.Policy}, {"header.from", v.DMARC.Domain}}})
	}
	return all
}

// quoted is a value in quotes; base64 is no token (RFC 2045 §5.1).
func quoted(s string) string {
	if s == "" {
		return ""
	}
	return `"` + printable(s) + `"`
}

// tee gives what is read to w as well.
type tee struct {
	r io.Reader
	w io.Writer
}

func (t *tee) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if n > 0 {
		t.w.Write(p[:n]) // hashes do not fail
	}
	return n, err
}
