package dsn

import (
	"bufio"
	"bytes"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"
)

var _ queue.Notifier = (*Composer)(nil)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	composer = &Composer{Hostname: "mail.light.example"}
	now      = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	keeper   = message.Address{Local: "keeper", Domain: "light.example"}
	doctor   = message.Address{Local: "doctor", Domain: "hospital.example"}
)

const header = "Received: from desk (desk [192.0.2.9])\r\n\tby mail.light.example with ESMTPSA id 1;\r\n\tFri, 02 Jan 2026 09:00:00 +0000\r\n" +
	"From: Keeper <keeper@light.example>\r\nTo: doctor@hospital.example\r\nSubject: lamp oil and bandages\r\n" +
	"Message-ID: <2@light.example>\r\nReferences: <0@light.example>\r\n <1@light.example>\r\n\r\n"

func envelope() *message.Envelope {
	return &message.Envelope{
		ID: message.NewID(now.Add(-6 * time.Hour)), ReversePath: keeper, EnvelopeID: "QQ314159",
		Recipients: []message.Recipient{{Address: doctor}},
	}
}

// part is one part of a notice, decoded.
type part struct {
	header textproto.MIMEHeader
	body   string
}

// parse takes a notice apart with the standard library and checks what must hold for every notice.
func parse(t *testing.T, content []byte) (*mail.Message, []part) {
	t.Helper()
	for line := range bytes.SplitSeq(content, []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsAny(line, "\r\n\x00") {
			t.Errorf("bad line %q", line)
		}
	}
	m, err := mail.ReadMessage(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("%s %v, %v", kind, params, err)
	}
	if _, err := m.Header.Date(); err != nil {
		t.Error(err)
	}
	if got := m.Header.Get("Auto-Submitted"); got != "auto-replied" {
		t.Errorf("Auto-Submitted: %s", got)
	}
	var parts []part
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var body io.Reader = p
		if p.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
			body = quotedprintable.NewReader(p)
		}
		b, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part{p.Header, string(b)})
	}
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	return m, parts
}

func isSevenBit(b []byte) bool { return scan(b) == message.Body7Bit }

// groups reads message/delivery-status: the fields of the message, then of each recipient (RFC 3464 §2.1).
func groups(t *testing.T, report string) (groups []textproto.MIMEHeader) {
	t.Helper()
	r := textproto.NewReader(bufio.NewReader(strings.NewReader(report + "\r\n")))
	for {
		h, err := r.ReadMIMEHeader()
		if len(h) > 0 {
			groups = append(groups, h)
		}
		if err == io.EOF {
			return groups
		}
		if err != nil {
			t.Fatalf("%v in %q", err, report)
		}
	}
}

func golden(t *testing.T, name string, env, notice *message.Envelope, content []byte) {
	t.Helper()
	text := strings.NewReplacer(notice.ID.String(), "00000000000000notice", env.ID.String(), "0000000000000message", "\r\n", "\n").Replace(string(content))
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs (-update writes it):\n%s", file, text)
	}
}

// failure is a notice of recipients that failed, with the header alone.
func failure(env *message.Envelope, failed []Outcome, header []byte, now time.Time) (*message.Envelope, []byte) {
	notice, body := composer.Compose(&Report{Envelope: env, Outcomes: failed, Header: header, Now: now})
	if notice == nil {
		return nil, nil
	}
	content, _ := io.ReadAll(body) // from memory
	return notice, content
}

// TestFailure: RFC 3461 §6.1: a notice has the null reverse-path, no RET, and NOTIFY=NEVER for the sender of the original. RFC 3461 §6.3, RFC 3464
// §2.2.1: Original-Envelope-Id is the ENVID that was given. RFC 3464 §2.2.2: Reporting-MTA is the host. RFC 3461 §6.3, RFC 3464 §2.3.1:
// Original-Recipient is the ORCPT that was given, decoded, and is not there without one. RFC 3464 §2.3.2: Final-Recipient is the address of the
// envelope. RFC 3464 §2.3.3, §2.3.4: each recipient has an Action and a Status of its class. RFC 3464 §2.3.5, §2.3.6: Remote-MTA and
// Diagnostic-Code are what the server answered, line by line, and not there where none did. RFC 3464 §2.3.7: Last-Attempt-Date. RFC 6522 §3: a
// text, a report and the header, in this order. RFC 3834 §3.1.6: it continues the thread of the original.
func TestFailure(t *testing.T) {
	env := envelope()
	full := message.Recipient{Address: message.Address{Local: "ward 3", Domain: "hospital.example"}, Notify: message.NotifyFailure | message.NotifyDelay}
	notice, content := failure(env, []Outcome{
		{
			Recipient: message.Recipient{Address: doctor, Original: "rfc822;Doctor+2Bnight@hospital.example"},
			Reply:     smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such person\nask the porter"},
			Remote:    "mx.hospital.example", LastTry: now.Add(-time.Minute),
		},
		{Recipient: full, Reply: smtp.Reply{Code: 552, Text: "too big"}, Remote: "mx.hospital.example", LastTry: now.Add(-time.Minute)},
		{
			Recipient: message.Recipient{Address: message.Address{Local: "far", Domain: "sea.example"}},
			Reply:     smtp.Reply{Code: 451, Enhanced: [3]int{4, 4, 7}, Text: "expired after 5 days"},
		},
	}, []byte(header), now)

	if !notice.ReversePath.IsNull() || len(notice.Recipients) != 1 || notice.Recipients[0].Address != keeper || // RFC 3461 §6.1
		notice.Recipients[0].Notify != message.NotifyNever || notice.Return != message.ReturnUnset || notice.UTF8 || notice.Size != int64(len(content)) {
		t.Errorf("envelope %+v", notice)
	}
	m, parts := parse(t, content)
	if got := m.Header.Get("References"); got != "<0@light.example> <1@light.example> <2@light.example>" {
		t.Errorf("References: %s", got)
	}
	report := groups(t, parts[1].body)
	if len(report) != 4 || report[0].Get("Original-Envelope-Id") != "QQ314159" || report[0].Get("Reporting-Mta") != "dns; mail.light.example" {
		t.Fatalf("%v", report)
	}
	for i, want := range []map[string]string{
		{
			"Original-Recipient": "rfc822;Doctor+night@hospital.example", "Final-Recipient": "rfc822;doctor@hospital.example", "Status": "5.1.1",
			"Remote-Mta": "dns; mx.hospital.example", "Diagnostic-Code": "smtp; 550-5.1.1 no such person 550 5.1.1 ask the porter",
			"Last-Attempt-Date": "Fri, 02 Jan 2026 15:03:05 +0000",
		},
		{"Original-Recipient": "", "Final-Recipient": `rfc822;"ward 3"@hospital.example`, "Status": "5.0.0", "Diagnostic-Code": "smtp; 552 too big"},
		{"Final-Recipient": "rfc822;far@sea.example", "Status": "4.4.7", "Remote-Mta": "", "Last-Attempt-Date": ""},
	} {
		if got := report[i+1].Get("Action"); got != "failed" {
			t.Errorf("%d: Action: %s", i, got)
		}
		for name, value := range want {
			if got := report[i+1].Get(name); got != value {
				t.Errorf("%d: %s: %q, want %q", i, name, got, value)
			}
		}
	}
	if got, want := parts[2].body, strings.TrimSuffix(header, "\r\n"); got != want {
		t.Errorf("header returned: %q", got)
	}
	golden(t, "failure.eml", env, notice, content)
}

// TestFailureNotDue: RFC 3461 §5.2: no notice for mail with the null reverse-path. RFC 3461 §5.2.6: none of a failure where NOTIFY is NEVER or lacks
// FAILURE, and one where there is no NOTIFY. RFC 3461 §5.2.8: a notice says nothing of recipients that want none.
func TestFailureNotDue(t *testing.T) {
	null := envelope()
	null.ReversePath = message.Address{}
	for _, c := range []struct {
		name   string
		env    *message.Envelope
		notify []message.Notify
		due    int
	}{
		{"null reverse-path", null, []message.Notify{0, message.NotifyFailure}, 0}, // RFC 5321 §4.5.5
		{"NEVER", envelope(), []message.Notify{message.NotifyNever}, 0},            // RFC 3461 §5.2.6
		{"SUCCESS,DELAY", envelope(), []message.Notify{message.NotifySuccess | message.NotifyDelay}, 0},
		{"nobody failed", envelope(), nil, 0},
		{"some", envelope(), []message.Notify{message.NotifyNever, 0, message.NotifySuccess, message.NotifyFailure}, 2},
	} {
		var failed []Outcome
		for _, n := range c.notify {
			failed = append(failed, Outcome{Recipient: message.Recipient{Address: doctor, Notify: n}, Reply: smtp.Reply{Code: 550}})
		}
		notice, content := failure(c.env, failed, nil, now)
		if c.due == 0 {
			if notice != nil || content != nil {
				t.Errorf("%s: a notice", c.name)
			}
			continue
		}
		_, parts := parse(t, content)
		if got := len(groups(t, parts[1].body)) - 1; got != c.due {
			t.Errorf("%s: %d recipients", c.name, got)
		}
	}
}

// TestFailureUTF8: RFC 6533 §4.1: addresses beyond ASCII stand as they are in a message/global-delivery-status. RFC 6533 §4.3: the header comes back
// as message/global-headers. RFC 6533 §6.4: to who takes SMTPUTF8 the parts go in eight bits.
func TestFailureUTF8(t *testing.T) {
	env := envelope()
	env.UTF8 = true
	env.ReversePath = message.Address{Local: "φύλακας", Domain: "παράδειγμα.example"}
	notice, content := failure(env, []Outcome{{
		Recipient: message.Recipient{Address: message.Address{Local: "δ", Domain: "x.example"}, Original: `utf-8;\x{3B4}@x.example`},
		Reply:     smtp.Reply{Code: 550, Enhanced: [3]int{5, 6, 7}, Text: "Ελληνικά"},
	}}, []byte("Subject: λάδι\r\nMessage-ID: <α@x.example>\r\n\r\n"), now)
	if !notice.UTF8 || notice.Body != message.Body8Bit {
		t.Errorf("envelope %+v", notice)
	}
	m, parts := parse(t, content)
	if got := m.Header.Get("To"); got != "<φύλακας@xn--hxajbheg2az3al.example>" {
		t.Errorf("To: %s", got)
	}
	if m.Header.Get("Subject") != "Not delivered" || m.Header.Get("In-Reply-To") != "" || m.Header.Get("Content-Transfer-Encoding") != "8bit" {
		t.Errorf("header %v", m.Header)
	}
	for _, p := range parts {
		if got := p.header.Get("Content-Transfer-Encoding"); got != "8bit" { // RFC 6533 §6.4
			t.Errorf("%v: %s", p.header, got)
		}
	}
	if kind := parts[1].header.Get("Content-Type"); kind != "message/global-delivery-status" {
		t.Error(kind)
	}
	report := groups(t, parts[1].body)[1]
	for name, want := range map[string]string{ // RFC 6533 §4.1
		"Final-Recipient": "utf-8;δ@x.example", "Original-Recipient": "utf-8;δ@x.example", "Diagnostic-Code": "smtp; 550 5.6.7 Ελληνικά",
	} {
		if got := report.Get(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if !strings.Contains(parts[0].body, "  δ@x.example\r\n") || !strings.Contains(parts[0].body, "Subject:  λάδι") {
		t.Errorf("text %q", parts[0].body)
	}
	if kind := parts[2].header.Get("Content-Type"); kind != "message/global-headers" || !strings.Contains(parts[2].body, "λάδι") {
		t.Errorf("%s: %q", kind, parts[2].body)
	}
	golden(t, "utf8.eml", env, notice, content)

	// A domain alone needs no SMTPUTF8: it has A-labels.
	env.ReversePath.Local = "keeper"
	if notice, _ := failure(env, []Outcome{{Recipient: message.Recipient{Address: doctor}}}, nil, now); notice.UTF8 ||
		notice.Recipients[0].Address.String() != "keeper@xn--hxajbheg2az3al.example" {
		t.Errorf("envelope %+v", notice)
	}
}

// TestFailureSevenBit: RFC 6533 §4.4, §4.5: to a sender whose address is ASCII a notice is ASCII too, in the traditional types unless they lose
// something. RFC 6533 §3: addresses beyond ASCII are escaped there.
func TestFailureSevenBit(t *testing.T) {
	env := envelope()
	env.UTF8 = true
	for _, c := range []struct{ text, kind, final string }{
		{"no such person", "message/delivery-status", `utf-8;\x{3B4}@x.example`},
		{"κανείς", "message/global-delivery-status", "utf-8;δ@x.example"},
	} {
		notice, content := failure(env, []Outcome{{
			Recipient: message.Recipient{Address: message.Address{Local: "δ", Domain: "x.example"}, Original: `utf-8;\x{3B4}@x.example`},
			Reply:     smtp.Reply{Code: 550, Enhanced: [3]int{5, 6, 7}, Text: c.text},
		}}, []byte("Subject: λάδι\r\nMessage-ID: <α@x.example>\r\n\r\n"), now)
		if notice.UTF8 || notice.Body != message.Body7Bit || !isSevenBit(content) {
			t.Errorf("%+v: %q", notice, content)
		}
		_, parts := parse(t, content)
		if kind := parts[1].header.Get("Content-Type"); kind != c.kind {
			t.Errorf("%s: %s", c.text, kind)
		}
		report := groups(t, parts[1].body)[1]
		if report.Get("Final-Recipient") != c.final || report.Get("Original-Recipient") != c.final ||
			report.Get("Diagnostic-Code") != "smtp; 550 5.6.7 "+c.text {
			t.Errorf("%v", report)
		}
		if kind := parts[2].header.Get("Content-Type"); kind != "message/global-headers" || !strings.Contains(parts[2].body, "λάδι") {
			t.Errorf("%s: %q", kind, parts[2].body)
		}
	}
}

// TestFailureHostile: whatever strangers wrote, the notice is well formed and bounded.
func TestFailureHostile(t *testing.T) {
	env := envelope()
	env.EnvelopeID = "a\r\nAction: delivered"
	long := strings.Repeat("x", 5000)
	for _, header := range []string{
		"Subject: =?utf-8?q?a=0D=0AAction:_b?=\r\nMessage-ID: <a b@c>\r\n\r\n",
		"Subject: " + long + "\r\nMessage-ID: <" + long + "@c>\r\nReferences: " + strings.Repeat("<a@b>\r\n ", 3000) + "<c@d>\r\n\r\n",
		"Subject: a\nB: \x00\xff\r\n",
		"no header\r\n",
		"",
		strings.Repeat("X: "+long+"\r\n", 100) + "\r\n",
	} {
		_, content := failure(env, []Outcome{{
			Recipient: message.Recipient{Address: doctor, Original: "rfc822;a+0D+0AAction:+20delivered"},
			Reply:     smtp.Reply{Code: 550, Enhanced: [3]int{5, 1000, -1}, Text: strings.Repeat(long+"\x00\r\xff\n", 100)},
			Remote:    "mx\r\n\r\nAction: delivered",
		}}, []byte(header), now)
		_, parts := parse(t, content)
		report := groups(t, parts[1].body)
		if len(report) != 2 || report[1].Get("Status") != "5.0.0" || len(report[1].Values("Action")) != 1 || report[0].Get("Action") != "" {
			t.Errorf("%.40q: %v", header, report)
		}
		if len(content) > 2*maxHeader {
			t.Errorf("%.40q: %d octets", header, len(content))
		}
	}
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		reply  smtp.Reply
		status string
		why    string // a piece of it
	}{
		{smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}}, "5.1.1", "no mailbox"},
		{smtp.Reply{Code: 556, Enhanced: [3]int{5, 1, 10}}, "5.1.10", "takes no mail"},
		{smtp.Reply{Code: 550}, "5.0.0", "refused"},
		{smtp.Reply{Code: 552}, "5.0.0", "larger"},
		{smtp.Reply{Code: 451}, "4.0.0", "refused"},
		{smtp.Reply{Code: 452, Enhanced: [3]int{4, 2, 2}}, "4.2.2", "full"},
		{smtp.Reply{Code: 554, Enhanced: [3]int{5, 7, 26}}, "5.7.26", "rules"},
		{smtp.Reply{Code: 550, Enhanced: [3]int{2, 0, 0}}, "5.0.0", "refused"},
		{smtp.Reply{}, "5.0.0", "refused"},
	} {
		why, todo := explain(c.reply)
		if got := status(Outcome{Reply: c.reply}); got != c.status || !strings.Contains(why, c.why) || todo == "" {
			t.Errorf("%v: %s, %q", c.reply, got, why)
		}
	}
}

// TestOriginal: RFC 3461 §6.3, RFC 3464 §2.3.1: an ORCPT is given back without its xtext, one that is not xtext as it is; RFC 6533 §3: a utf-8 one is
// escaped where it must be ASCII.
func TestOriginal(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		"rfc822":                     "",
		";a":                         "",
		"rfc822;a@b.example":         "rfc822;a@b.example",
		"rfc822;a+2Bb@b.example":     "rfc822;a+b@b.example",
		"rfc822;a+2":                 "rfc822;a+2", // not xtext: as it is
		"rfc822;a+2b":                "rfc822;a+2b",
		"x400;/c=gb/+20s=x":          "x400;/c=gb/ s=x",
		"utf-8;δ@b.example":          `utf-8;\x{3B4}@b.example`,
		`UTF-8;\x{3B4}@b.example`:    `UTF-8;\x{3B4}@b.example`,
		"rfc822;a+0D+0AB:@b.example": "rfc822;a??B:@b.example",
	} {
		if got := asciiForm.original(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzFailure: header and reply of strangers never break the frame.
func FuzzFailure(f *testing.F) {
	f.Add(header, "no such person\nhere", "rfc822;a@b", "mx.example")
	f.Add("Subject: \xff\r\n\r\n--=_", "\x00\r\n", "utf-8;δ", "\r\n")
	f.Fuzz(func(t *testing.T, header, text, orcpt, remote string) {
		_, content := failure(envelope(), []Outcome{{
			Recipient: message.Recipient{Address: doctor, Original: orcpt}, Reply: smtp.Reply{Code: 550, Text: text}, Remote: remote,
		}}, []byte(header), now)
		if !isSevenBit(content) {
			t.Fatalf("%q", content)
		}
		if _, parts := parse(t, content); len(groups(t, parts[1].body)) != 2 {
			t.Fatalf("%q", content)
		}
	})
}
