package dsn

import (
	"bytes"
	"errors"
	"io"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/message/convert"
	"bothy/application/smtp"
)

// compose composes and checks what must hold for every notice.
func compose(t *testing.T, c *Composer, r *Report) (*message.Envelope, []byte) {
	t.Helper()
	notice, body := c.Compose(r)
	if notice == nil {
		if body != nil {
			t.Error("content without an envelope")
		}
		return nil, nil
	}
	content, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	if err := body.Close(); err != nil {
		t.Fatal(err)
	}
	if !notice.ReversePath.IsNull() || len(notice.Recipients) != 1 || notice.Recipients[0].Notify != message.NotifyNever || // RFC 3461 §6.1
		notice.Return != message.ReturnUnset || notice.Size != int64(len(content)) || scan(content) > notice.Body {
		t.Errorf("envelope %+v of %d octets, which need %v", notice, len(content), scan(content))
	}
	return notice, content
}

// report is of a message for one recipient of each action.
func report(notify message.Notify, of ...Action) *Report {
	all := map[Action]Outcome{
		Failed: {
			Recipient: message.Recipient{Address: message.Address{Local: "gone", Domain: "hospital.example"}},
			Reply:     smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such person"}, Remote: "mx.hospital.example", LastTry: now,
		},
		Delayed: {
			Recipient: message.Recipient{Address: message.Address{Local: "far", Domain: "sea.example"}, Original: "rfc822;far@sea.example"},
			Reply:     smtp.Reply{Code: 451, Enhanced: [3]int{4, 4, 1}, Text: "no answer from mx.sea.example"},
			LastTry:   now.Add(-time.Minute), RetryUntil: now.Add(114 * time.Hour),
		},
		Expanded: {Recipient: message.Recipient{Address: message.Address{Local: "ward", Domain: "light.example"}, Original: "rfc822;ward@light.example"}, LastTry: now},
		Relayed: {
			Recipient: message.Recipient{Address: doctor, Original: "rfc822;Doctor@hospital.example"},
			Reply:     smtp.Reply{Code: 250, Text: "queued as 17"}, Remote: "mx.hospital.example", LastTry: now,
		},
		Delivered: {Recipient: message.Recipient{Address: message.Address{Local: "nurse", Domain: "light.example"}}, LastTry: now},
	}
	r := &Report{Envelope: envelope(), Header: []byte(header), Now: now}
	for _, a := range of {
		o := all[a]
		o.Action, o.Recipient.Notify = a, notify
		r.Outcomes = append(r.Outcomes, o)
	}
	return r
}

const everything = message.NotifySuccess | message.NotifyFailure | message.NotifyDelay

// TestActions: RFC 3464 §2.3.3: delayed, delivered, relayed, expanded and failed, each with what it says, in one notice too. RFC 3464 §2.3.9:
// Will-Retry-Until with a delay, and with nothing else. RFC 3461 §6.3: a relayed recipient has the Remote-MTA and its reply.
func TestActions(t *testing.T) {
	for _, c := range []struct {
		file, subject string
		actions       []Action
		want          []map[string]string // fields of each recipient; "": not there
	}{
		{"delayed.eml", "Delayed", []Action{Delayed}, []map[string]string{{
			"Action": "delayed", "Status": "4.4.1", "Will-Retry-Until": "Wed, 07 Jan 2026 09:04:05 +0000", "Remote-Mta": "",
			"Original-Recipient": "rfc822;far@sea.example", "Diagnostic-Code": "smtp; 451 4.4.1 no answer from mx.sea.example",
		}}},
		{"delivered.eml", "Delivered", []Action{Delivered}, []map[string]string{{
			"Action": "delivered", "Status": "2.0.0", "Diagnostic-Code": "", "Will-Retry-Until": "", "Original-Recipient": "",
		}}},
		{"relayed.eml", "Passed on", []Action{Relayed}, []map[string]string{{ // RFC 3461 §6.3 (h), (i)
			"Action": "relayed", "Status": "2.0.0", "Remote-Mta": "dns; mx.hospital.example", "Diagnostic-Code": "smtp; 250 queued as 17",
		}}},
		{"expanded.eml", "Passed on", []Action{Expanded}, []map[string]string{{"Action": "expanded", "Status": "2.0.0", "Diagnostic-Code": "", "Remote-Mta": "", "Original-Recipient": "rfc822;ward@light.example"}}},
		{"mixed.eml", "Not delivered", []Action{Delivered, Relayed, Failed, Delayed}, []map[string]string{
			{"Action": "failed", "Status": "5.1.1"}, {"Action": "delayed"}, {"Action": "relayed"}, {"Action": "delivered"},
		}},
	} {
		r := report(everything, c.actions...)
		notice, content := compose(t, composer, r)
		m, parts := parse(t, content)
		if got := m.Header.Get("Subject"); got != c.subject+": lamp oil and bandages" {
			t.Errorf("%s: Subject: %s", c.file, got)
		}
		found := groups(t, parts[1].body)[1:]
		if len(found) != len(c.want) {
			t.Fatalf("%s: %v", c.file, found)
		}
		for i, want := range c.want {
			for name, value := range want {
				if got := found[i].Get(name); got != value {
					t.Errorf("%s, %d: %s: %q, want %q", c.file, i, name, got, value)
				}
			}
		}
		golden(t, c.file, r.Envelope, notice, content)
	}
}

// TestWishes: RFC 6710 §4.6, RFC 8689 §5, §6: a notice has the priority of what it is about, and its wishes for TLS. RFC 2852 §4.1.4, §5: it
// tells of a deadline, and that the message was passed on is told to whoever gave one.
func TestWishes(t *testing.T) {
	r := report(0, Relayed)
	if notice, _ := composer.Compose(r); notice != nil {
		t.Error("told of what nobody asked for")
	}
	r.Envelope.Priority, r.Envelope.RequireTLS, r.Envelope.TLSOptional = 3, true, true
	r.Envelope.DeliverBy = message.Deadline{At: now.Add(time.Hour), Trace: true}
	notice, content := compose(t, composer, r)
	if notice.Priority != 3 || !notice.RequireTLS || !notice.TLSOptional {
		t.Errorf("%+v", notice)
	}
	_, parts := parse(t, content)
	if got, want := groups(t, parts[1].body)[0].Get("Deliver-By-Date"), message.FormatDate(now.Add(time.Hour)); got != want {
		t.Errorf("Deliver-By-Date: %q, want %q", got, want)
	}
}

// TestWanted: RFC 3461 §5.2.2, §5.2.3, §5.2.5, §5.2.6, §5.2.7.3: what each NOTIFY asks for, of each action; without NOTIFY it is failure and delay.
func TestWanted(t *testing.T) {
	for notify, want := range map[message.Notify]string{
		0:                     "failed delayed",
		message.NotifyNever:   "",
		message.NotifySuccess: "expanded relayed delivered",
		message.NotifyFailure: "failed",
		message.NotifyDelay:   "delayed",
		everything:            "failed delayed expanded relayed delivered",
		message.NotifySuccess | message.NotifyFailure: "failed expanded relayed delivered",
	} {
		_, content := compose(t, composer, report(notify, Failed, Delayed, Expanded, Relayed, Delivered))
		var got []string
		if content != nil {
			_, parts := parse(t, content)
			for _, g := range groups(t, parts[1].body)[1:] {
				got = append(got, g.Get("Action"))
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%v: %v, want %s", notify, got, want)
		}
	}
	if Action(9).Wanted(everything) || Action(9).String() != "?" {
		t.Error("an action that is none")
	}
}

// TestStatus: RFC 3464 §2.3.4: the class of a Status is the action's, whatever was answered.
func TestStatus(t *testing.T) {
	for _, c := range []struct {
		action Action
		reply  smtp.Reply
		want   string
	}{
		{Failed, smtp.Reply{}, "5.0.0"},
		{Failed, smtp.Reply{Code: 451, Enhanced: [3]int{4, 4, 7}}, "4.4.7"}, // RFC 3464 §2.3.3: the note on action and status
		{Delayed, smtp.Reply{}, "4.0.0"},
		{Delayed, smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}}, "4.7.1"},
		{Delivered, smtp.Reply{}, "2.0.0"},
		{Delivered, smtp.Reply{Code: 250, Enhanced: [3]int{2, 1, 5}}, "2.1.5"},
		{Relayed, smtp.Reply{Code: 250, Enhanced: [3]int{2, 1000, 0}}, "2.0.0"},
		{Relayed, smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}}, "2.0.0"},
	} {
		if got := status(Outcome{Action: c.action, Reply: c.reply}); got != c.want {
			t.Errorf("%v %v: %s, want %s", c.action, c.reply, got, c.want)
		}
	}
}

// TestDoubleBounce: RFC 3461 §5.2: no notice for a notice, but the postmaster hears of it, once.
func TestDoubleBounce(t *testing.T) {
	r := report(message.NotifyNever, Failed, Delayed, Delivered)
	r.Envelope.ReversePath = message.Address{}
	if notice, _ := compose(t, composer, r); notice != nil {
		t.Error("a notice for a notice")
	}
	telling := &Composer{Hostname: "mail.light.example", Config: Config{DoubleBounces: true, FullSize: 1 << 20}}
	r.Envelope.Return, r.Open = message.ReturnFull, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(header)), nil }
	notice, content := compose(t, telling, r)
	if notice == nil || notice.Recipients[0].Address.String() != "postmaster@mail.light.example" {
		t.Fatalf("%+v", notice)
	}
	_, parts := parse(t, content)
	if found := groups(t, parts[1].body)[1:]; len(found) != 1 || found[0].Get("Action") != "failed" {
		t.Errorf("%v", found)
	}
	golden(t, "double.eml", r.Envelope, notice, content)

	for _, postmaster := range []string{"Postmaster@mail.light.example", "postmaster@MAIL.light.example", "POSTMASTER"} {
		var a message.Address
		if err := a.UnmarshalText([]byte(postmaster)); err != nil {
			t.Fatal(err)
		}
		r.Outcomes = []Outcome{{Recipient: message.Recipient{Address: a}}}
		if notice, _ := compose(t, telling, r); notice != nil {
			t.Errorf("%s: a notice for a notice for a notice", postmaster)
		}
		if !telling.Keeps(r.Envelope, &r.Outcomes[0].Recipient) || composer.Keeps(r.Envelope, &r.Outcomes[0].Recipient) {
			t.Errorf("%s: that notice is kept, where there are any", postmaster)
		}
	}
}

// closer counts how often a message is open.
type closer struct {
	io.Reader
	open *int
}

func (c closer) Close() error { *c.open--; return nil }

// TestReturnFull: RFC 3461 §6.2: RET=FULL brings a failed message back whole up to a size, RET=HDRS and all else its header.
func TestReturnFull(t *testing.T) {
	const plain, eight = header + "lamp oil\r\n", header + "Öl\r\n"
	const mime = "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n" + header
	utf8 := "Subject: Öl\r\n" + plain
	for _, c := range []struct {
		name, message, file string
		change              func(*Report)
		kind, encoding      string
		want                string // of the part, decoded
		size                int64
	}{
		{"whole", plain, "full.eml", nil, "message/rfc822", "", plain, 0},
		{"8-bit", eight, "full8.eml", nil, "message/rfc822", "8bit", eight, 0},
		{"no empty line at its end", strings.TrimSuffix(plain, "\r\n"), "", nil, "message/rfc822", "", strings.TrimSuffix(plain, "\r\n"), 0},
		{"binary", mime + "\x00\n", "", nil, "message/rfc822", "", "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n" +
			strings.TrimSuffix(header, "\r\n") + "Content-Transfer-Encoding: base64\r\n\r\nAAo=\r\n", 0},
		{"not wanted", plain, "", func(r *Report) { r.Envelope.Return = message.ReturnHeaders }, "text/rfc822-headers", "7bit", "", 0},
		{"not said", plain, "", func(r *Report) { r.Envelope.Return = message.ReturnUnset }, "text/rfc822-headers", "7bit", "", 0},
		{"TLS required", plain, "", func(r *Report) { r.Envelope.RequireTLS = true }, "text/rfc822-headers", "7bit", "", 0}, // RFC 8689 §5
		{"no failure", plain, "", func(r *Report) { r.Outcomes = report(everything, Delayed).Outcomes }, "text/rfc822-headers", "7bit", "", 0},
		{"too large", plain, "", nil, "text/rfc822-headers", "7bit", "", int64(len(plain)) - 1},
		{"cannot be opened", plain, "", func(r *Report) { r.Open = func() (io.ReadCloser, error) { return nil, errors.New("gone") } }, "text/rfc822-headers", "7bit", "", 0},
		{"raw 8-bit header", utf8, "", nil, "text/rfc822-headers", "quoted-printable", "", 0},
		{"SMTPUTF8, sender ASCII", utf8, "", func(r *Report) { r.Envelope.UTF8 = true }, "message/global-headers", "quoted-printable", "", 0},
		{"SMTPUTF8", utf8, "", func(r *Report) {
			r.Envelope.UTF8, r.Envelope.ReversePath.Local = true, "φύλακας"
		}, "message/global", "8bit", utf8, 0},
		{"unconvertible", strings.Replace(header, "\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n\x00", 1), "", nil, "text/rfc822-headers", "7bit", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := report(everything, Failed)
			var open int
			r.Envelope.Return, r.Size = message.ReturnFull, int64(len(c.message))
			r.Header = []byte(c.message[:strings.Index(c.message, "\r\n\r\n")+4])
			r.Open = func() (io.ReadCloser, error) {
				open++
				return closer{strings.NewReader(c.message), &open}, nil
			}
			if c.change != nil {
				c.change(r)
			}
			full := &Composer{Hostname: "mail.light.example", Config: Config{FullSize: c.size}}
			if c.size == 0 {
				full.FullSize = r.Size
			}
			notice, content := compose(t, full, r)
			if open != 0 {
				t.Errorf("the message is open %d times", open)
			}
			m, parts := parse(t, content)
			got := parts[2]
			if got.header.Get("Content-Type") != c.kind || got.header.Get("Content-Transfer-Encoding") != c.encoding {
				t.Errorf("part %v", got.header)
			}
			if c.want == "" {
				c.want = strings.TrimSuffix(string(r.Header), "\r\n")
			}
			if got.body != c.want {
				t.Errorf("%q, want %q", got.body, c.want)
			}
			if (notice.Body == message.Body8Bit) != (m.Header.Get("Content-Transfer-Encoding") == "8bit") { // RFC 2045 §6.4
				t.Errorf("%v: %v", notice.Body, m.Header)
			}
			if c.file != "" {
				golden(t, c.file, r.Envelope, notice, content)
			}
			converts(t, content)
		})
	}
}

// converts checks that a notice can be brought to any server.
func converts(t *testing.T, content []byte) {
	t.Helper()
	i := bytes.Index(content, []byte("\r\n\r\n"))
	if !isSevenBit(content[:i]) {
		return // it wants SMTPUTF8
	}
	plan, err := convert.Examine(bytes.NewReader(content), message.Body7Bit)
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(plan.Reader(bytes.NewReader(content)))
	if err != nil || !isSevenBit(out) {
		t.Fatalf("%q, %v", out, err)
	}
}

// TestReadFails: what goes wrong while the message is read is the reader's to know.
func TestReadFails(t *testing.T) {
	broken := errors.New("broken")
	r := report(everything, Failed)
	times := 0
	r.Envelope.Return = message.ReturnFull
	r.Open = func() (io.ReadCloser, error) {
		if times++; times == 1 {
			return io.NopCloser(strings.NewReader(header)), nil
		}
		return io.NopCloser(io.MultiReader(strings.NewReader("Sub"), errReader{broken})), nil
	}
	_, body := (&Composer{Hostname: "mail.light.example", Config: Config{FullSize: 1}}).Compose(r)
	if _, err := io.ReadAll(body); err != broken {
		t.Error(err)
	}
}

type errReader struct{ error }

func (e errReader) Read([]byte) (int, error) { return 0, e.error }

func TestExplainDelay(t *testing.T) {
	for _, c := range []struct {
		reply smtp.Reply
		want  string
	}{
		{smtp.Reply{}, "could not send"},
		{smtp.Reply{Code: 451}, "does not take it now"},
		{smtp.Reply{Code: 452, Enhanced: [3]int{4, 2, 2}}, "full"},
		{smtp.Reply{Code: 452, Enhanced: [3]int{4, 3, 1}}, "no room"},
		{smtp.Reply{Code: 451, Enhanced: [3]int{4, 4, 1}}, "reached"},
		{smtp.Reply{Code: 450, Enhanced: [3]int{4, 7, 1}}, "later"},
	} {
		if got := explainDelay(c.reply); !strings.Contains(got, c.want) {
			t.Errorf("%v: %s", c.reply, got)
		}
	}
}

func TestUnitext(t *testing.T) {
	for in, want := range map[string]string{
		`utf-8;\x{3B4}@b.example`:           "utf-8;δ@b.example",
		`utf-8;δ@b.example`:                 "utf-8;δ@b.example",
		`utf-8;\x{3B4}\x{2B}x@b.example`:    "utf-8;δ+x@b.example",
		`utf-8;\x{3B4@b.example`:            `utf-8;\x{3B4@b.example`, // RFC 6533 §3: what is no address stays
		`utf-8;\x{D800}@b.example`:          `utf-8;\x{D800}@b.example`,
		`utf-8;\x{0000000041}@b.example`:    `utf-8;\x{0000000041}@b.example`,
		`utf-8;\x{D}\x{A}Action: b`:         `utf-8;\x{D}\x{A}Action: b`,
		"utf-8;δ\r\nAction: b":              "utf-8;δ??Action: b",
		"rfc822;a+2Bb@b.example":            "rfc822;a+b@b.example",
		"utf-8;\xff@b.example":              "utf-8;?@b.example",
		"utf-8;" + strings.Repeat("δ", 999): "utf-8;" + strings.Repeat("δ", (maxOriginal-6)/2),
	} {
		if got := unicodeForm.original(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzCompose: whatever strangers wrote, a notice is well formed, is as large as it says, and gets through seven bits.
func FuzzCompose(f *testing.F) {
	f.Add(header+"body\r\n", "no such person\nhere", "rfc822;a@b", "mx.example", byte(0), true)
	f.Add("Subject: \xff\r\n\r\n--=_\xff", "\x00\r\nδ", `utf-8;\x{3B4}`, "\r\n", byte(1), false)
	f.Fuzz(func(t *testing.T, whole, text, orcpt, remote string, action byte, utf8 bool) {
		r := report(everything, Action(action)%5)
		r.Outcomes[0].Reply.Text, r.Outcomes[0].Remote, r.Outcomes[0].Recipient.Original = text, remote, orcpt
		end := strings.Index(whole, "\r\n\r\n")
		if end < 0 {
			end = len(whole) - 4
		}
		r.Header, r.Size = []byte(whole[:max(0, end+4)]), int64(len(whole))
		r.Envelope.UTF8, r.Envelope.Return = utf8, message.ReturnFull
		r.Open = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(whole)), nil }
		_, content := compose(t, &Composer{Hostname: "mail.light.example", Config: Config{FullSize: 1 << 20}}, r)
		_, parts := parse(t, content)
		found := groups(t, parts[1].body)
		if len(found) != 2 || len(found[1][textproto.CanonicalMIMEHeaderKey("Action")]) != 1 {
			t.Fatalf("%v", found)
		}
	})
}

// TestRules: RFC 3461 §5.2.2: behind a server without DSN the sender is told "relayed" for SUCCESS and of failure for FAILURE or no NOTIFY, and
// nothing for NEVER or of success without NOTIFY. RFC 3461 §5.2.3: delivery is told for SUCCESS only. RFC 3461 §5.2.5: delay is told for DELAY or no
// NOTIFY, and to nobody else. RFC 3461 §5.2.6: failure is told for FAILURE or no NOTIFY, and to nobody else. RFC 3461 §5.2.7.3: expansion is told
// for SUCCESS only.
func TestRules(t *testing.T) {
	told := map[Action]map[message.Notify]bool{
		Relayed:   {message.NotifySuccess: true, message.NotifyFailure: false, message.NotifyDelay: false, message.NotifyNever: false, 0: false},
		Delivered: {message.NotifySuccess: true, message.NotifyFailure: false, message.NotifyDelay: false, message.NotifyNever: false, 0: false},
		Expanded:  {message.NotifySuccess: true, message.NotifyFailure: false, message.NotifyDelay: false, message.NotifyNever: false, 0: false},
		Delayed:   {message.NotifySuccess: false, message.NotifyFailure: false, message.NotifyDelay: true, message.NotifyNever: false, 0: true},
		Failed:    {message.NotifySuccess: false, message.NotifyFailure: true, message.NotifyDelay: false, message.NotifyNever: false, 0: true},
	}
	for action, rules := range told {
		for notify, want := range rules {
			notice, content := compose(t, composer, report(notify, action))
			if (notice != nil) != want {
				t.Errorf("%s with NOTIFY=%s: %v, want %v", action, notify, notice != nil, want)
			}
			if notice == nil {
				continue
			}
			_, parts := parse(t, content)
			if found := groups(t, parts[1].body)[1:]; len(found) != 1 || found[0].Get("Action") != action.String() {
				t.Errorf("%s: %v", action, found)
			}
		}
	}
}

// TestEnvelopeID: RFC 3461 §6.3: without an ENVID there is no Original-Envelope-Id; RFC 3464 §2.2.5: Arrival-Date is when the message came.
func TestEnvelopeID(t *testing.T) {
	r := report(0, Failed)
	r.Envelope.EnvelopeID = ""
	_, content := compose(t, composer, r)
	_, parts := parse(t, content)
	fields := groups(t, parts[1].body)[0]
	if fields.Values("Original-Envelope-Id") != nil || fields.Get("Arrival-Date") != message.FormatDate(r.Envelope.ID.Time().In(r.Now.Location())) {
		t.Errorf("%v", fields)
	}
}
