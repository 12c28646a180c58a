package odmr

import (
	"context"
	"io"
	"mime/quotedprintable"
	netmail "net/mail"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
)

func TestParseBudget(t *testing.T) {
	for params, want := range map[string]budget{"0 0": {}, "5000000 200000": {5e6, 2e5}, "0 7": {0, 7}} {
		got, ok := parseBudget(params)
		if !ok || got != want || got.keyword() != "XBUDGET "+params {
			t.Errorf("%q: %+v, %v", params, got, ok)
		}
	}
	for _, params := range []string{"", "5", "5 ", " 5", "-1 0", "0 -1", "5 5 5", "5MB 1", "9223372036854775808 0"} {
		if b, ok := parseBudget(params); ok {
			t.Errorf("%q: %+v", params, b)
		}
	}
}

func FuzzParseBudget(f *testing.F) {
	f.Add("5000000 200000")
	f.Fuzz(func(t *testing.T, params string) {
		if b, ok := parseBudget(params); ok {
			if again, ok := parseBudget(strings.TrimPrefix(b.keyword(), keywordBudget+" ")); !ok || again != b {
				t.Errorf("%q: %+v, then %+v", params, b, again)
			}
		}
	})
}

// digests are the digests that come to a site, whose other mail x takes.
type digests struct {
	x    *exchange
	text []string
}

func (d *digests) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	if !env.ReversePath.IsNull() {
		return d.x.Accept(ctx, env, body)
	}
	text, err := io.ReadAll(body)
	d.text = append(d.text, string(text))
	return err
}

// take returns the digests since the last take.
func (d *digests) take() string {
	all := strings.ReplaceAll(strings.Join(d.text, ""), "=\r\n", "") // RFC 2045 §6.7: soft line breaks
	d.text = nil
	return all
}

// TestBudget: what does not fit waits where it was, a digest says what it is, once, and a call without bounds brings it. The site's
// wish counts more than the account's.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := emptyExchange(t)
		for _, m := range []letter{
			{"huge", strings.Repeat(strings.Repeat("h", 62)+"\r\n", 100), []string{"a@clinic.example", "z@light.example"}},
			{"tall", strings.Repeat(strings.Repeat("t", 62)+"\r\n", 30), []string{"b@clinic.example.net"}},
			{"wide", strings.Repeat(strings.Repeat("w", 62)+"\r\n", 30), []string{"c@clinic.example"}},
			{"tiny", "t\r\n", []string{"d@clinic.example", "e@clinic.example"}},
		} {
			time.Sleep(time.Millisecond)
			x.post(m)
		}
		in := &digests{x: x}
		c := x.customer()
		c.Accept, c.Dial = in, x.dial
		call := func(c *Customer, all bool) (messages int) {
			t.Helper()
			fetch := c.Call
			if all {
				fetch = c.CallAll
			}
			report, err := fetch(t.Context(), nil)
			if err != nil {
				t.Error(err)
			}
			x.serving.Wait()
			return report.Messages
		}
		x.set(func(c *directory.Customer) { c.Budget, c.Largest = 3000, 5000 })
		if n := call(c, false); n != 3 || x.arrived("tall") != 1 || x.arrived("tiny") != 1 { // and the digest
			t.Errorf("%d messages: %q", n, x.arrivals)
		}
		text := in.take()
		for _, want := range []string{
			"To: <postmaster@clinic.example>", "From: Mail at provider.example <postmaster@provider.example>", "Auto-Submitted: auto-generated",
			"Subject: 2 messages held back, 8.", "(3.0 kB in all, 5.0 kB a message)", "bothy fetch --all", "\r\nhuge\r\n", "\r\nwide\r\n", "To:      c@clinic.example",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		if strings.Contains(text, "light.example") {
			t.Errorf("another's recipient is told of:\n%s", text)
		}
		if due, all := x.hold.Waiting(lane("clinic.example")); due != 2 || all != 2 {
			t.Errorf("%d due, %d wait", due, all)
		}
		c.Config.Budget, c.Config.Largest = 1000, 2500 // what did not fit then does not fit now: the customer knows
		if n := call(c, false); n != 0 || in.take() != "" {
			t.Errorf("%d messages", n)
		}
		time.Sleep(time.Second)
		x.post(letter{"vast", strings.Repeat("v", 4000), []string{"a@clinic.example"}})
		if n, text := call(c, false), in.take(); n != 1 || !strings.Contains(text, "3 messages held back") || !strings.Contains(text, "vast") ||
			strings.Contains(text, "huge") || !strings.Contains(text, "And 2 messages besides.") {
			t.Errorf("%d messages, %s", n, text)
		}
		c.Config.Budget, c.Config.Largest = 0, 5000 // the site counts more than the account
		if n := call(c, false); n != 2 || x.arrived("wide") != 1 || x.arrived("vast") != 1 || in.take() != "" {
			t.Errorf("%d messages: %q", n, x.arrivals)
		}
		if n := call(c, true); n != 1 || x.arrived("huge") != 1 {
			t.Errorf("%d messages: %q", n, x.arrivals)
		}
		x.set(func(c *directory.Customer) { c.Budget, c.Largest = 0, 0 })
		x.finish()
		x.duplicates()
	})
}

// TestBudgetLingering: a session that lingers tells of what is held back as it comes, and makes way for a call without bounds.
func TestBudgetLingering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := emptyExchange(t)
		x.lingering(time.Hour)
		in := &digests{x: x}
		c := x.customer()
		c.Accept = in
		c.Config.Largest = 1000
		end := run(c)
		time.Sleep(time.Minute)
		x.post(letter{"big", strings.Repeat("b", 2000), []string{"a@clinic.example"}})
		time.Sleep(time.Second)
		x.later("small", "a@clinic.example")
		time.Sleep(time.Second)
		if text := in.take(); x.arrived("small") != 1 || x.arrived("big") != 0 || strings.Count(text, "held back") != 1 {
			t.Errorf("%q, %s", x.arrivals, text)
		}
		if report, err := c.CallAll(t.Context(), nil); err != nil || report.Messages != 1 || x.arrived("big") != 1 {
			t.Errorf("%+v, %v", report, err)
		}
		end()
		x.serving.Wait()
		x.lingering(0)
		x.finish()
		x.duplicates()
	})
}

// TestDigest: what strangers wrote stands in it as text.
func TestDigest(t *testing.T) {
	d := &digest{
		hostname: "provider.example", to: address(t, "postmaster@clinic.example"), id: message.NewID(time.Unix(0, 0)), now: time.Unix(0, 0).UTC(), others: 3, octets: 1,
		waiting: []heldBack{
			{from: "=?utf-8?q?B=C3=BCcher?= <b@sender.example>", subject: "=?utf-8?q?line=0D=0Atwo=E2=80=AEgpj?=", to: []message.Recipient{{Address: address(t, "a@clinic.example")}, {Address: address(t, "b@clinic.example")}}, size: 1_500_000},
			{subject: strings.Repeat("\u00fc", 1000), to: []message.Recipient{{Address: address(t, "a@clinic.example")}}, size: 12},
			{subject: "\xff\xfe", to: []message.Recipient{{Address: address(t, "a@clinic.example")}}},
		},
	}
	text := string(d.text())
	for line := range strings.Lines(text) {
		if len(line) > 80 || !strings.HasSuffix(line, "\r\n") && line != "" && !strings.HasSuffix(text, line) || strings.ContainsFunc(line, func(r rune) bool { return r > 126 }) {
			t.Errorf("line %q", line)
		}
	}
	m, err := netmail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\r\nlinetwogpj\r\n", "From:    B\u00fccher <b@sender.example>", "a@clinic.example and 1 more", "1.5 MB", strings.Repeat("\u00fc", maxShown-1) + "\u2026", "(no subject)", "(no sender)", "And 3 messages besides"} {
		if !strings.Contains(string(body), want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
}
