package submission

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/smtp"
)

// rule is one row of the table in docs/submission.md: what RFC 6409 asks for, what we do, and the test that shows it.
type rule struct {
	section string
	level   string // RFC 2119
	does    string
	name    string                                                 // of the test, TestConformance/name
	reply   string                                                 // what the reply begins with; for what changes a text, what becomes of it
	test    func(t *testing.T, codes map[string]bool) (got string) // what came; codes gathers the reply codes seen
}

// after is the test of the reply to the last of some commands of a client that has logged in.
func after(cfg Config, lines ...string) func(*testing.T, map[string]bool) string {
	return afterWith(home, cfg, lines...)
}

func afterWith(h *house, cfg Config, lines ...string) func(*testing.T, map[string]bool) string {
	return func(t *testing.T, codes map[string]bool) string {
		return dialogue(t, agent(h, cfg, &kept{}), codes, lines...)
	}
}

// unknown is the test of the reply to the last of some commands of a client that has not.
func unknown(lines ...string) func(*testing.T, map[string]bool) string {
	return func(t *testing.T, codes map[string]bool) string {
		return session(t, agent(home, Config{}, &kept{}), codes, lines...)
	}
}

// offers is the test of whether EHLO names an extension.
func offers(keyword string) func(*testing.T, map[string]bool) string {
	return func(t *testing.T, codes map[string]bool) string {
		for line := range strings.SplitSeq(dialogue(t, agent(home, Config{}, nil), codes, "EHLO desk.light.example"), "\n") {
			if word, _, _ := strings.Cut(line[4:], " "); word == keyword {
				return "offered"
			}
		}
		return "not offered"
	}
}

// text is the test of what the reply to a message is.
func text(cfg Config, header string) func(*testing.T, map[string]bool) string {
	return after(cfg, mailFrom, rcptTo, "DATA", header+"\r\n\r\nbody")
}

// becomes is the test of what a field is in the text that the queue gets; "" if it is not there.
func becomes(h *house, cfg Config, field, header string) func(*testing.T, map[string]bool) string {
	return func(t *testing.T, _ map[string]bool) string {
		out, reply := sent(t, h, cfg, header+"\r\n\r\nbody")
		if !strings.HasPrefix(reply, "250 ") {
			return reply
		}
		parsed, _, err := message.ReadHeader(strings.NewReader(out+"\r\n\r\n"), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if !parsed.Has(field) {
			return "no " + field
		}
		return field + ": " + parsed.Get(field)
	}
}

// policy is the test of what a client that has not logged in is told at MAIL and then at RCPT, where the agent alone decides.
func policy(cfg Config, peer, from, to string) func(*testing.T, map[string]bool) string {
	return func(t *testing.T, _ map[string]bool) string {
		a, s, env := agent(home, cfg, &kept{}), guest(peer), new(message.Envelope)
		env.ReversePath = parsed(t, from)
		if err := a.Mail(t.Context(), s, env); err != nil || to == "" {
			return said(err)
		}
		return said(a.Rcpt(t.Context(), s, env, &message.Recipient{Address: parsed(t, to)}))
	}
}

func parsed(t *testing.T, s string) message.Address {
	t.Helper()
	local, domain, whole := strings.Cut(s, "@")
	if !whole {
		return message.Address{Local: local}
	}
	if a, err := message.ParseAddress(s); err == nil {
		return a
	}
	return message.Address{Local: local, Domain: domain}
}

const (
	mailFrom = "MAIL FROM:<keeper@light.example>"
	rcptTo   = "RCPT TO:<doctor@hospital.example>"
	ours     = "From: keeper@light.example"
)

var (
	lan      = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	network  = Config{Networks: lan, NetworkAccount: "keeper"}
	reduced  = Config{Postmaster: true}
	expanded = Config{Expand: []string{"light.example"}}
	complete = Config{Complete: true}
	rewrites = Config{Rewrite: map[string]string{"KPR": "keeper", "*.foo.example": "foo.example"}}
)

var rules = []rule{
	{"3.2", "SHOULD", "no return path can be determined: refused at MAIL", "no-return-path", "550 5.1.0", policy(reduced, "198.51.100.1:1", "", "")},
	{"3.2", "MUST NOT", "the null reverse-path is no reason to refuse", "null-path", "250", after(Config{}, "MAIL FROM:<>")},
	{"3.3", "MAY", "listed networks need no AUTH, if configured; they send as one account", "network", "250", policy(network, "192.0.2.7:1", "keeper@light.example", "doctor@hospital.example")},
	{"3.3", "MAY", "and in its names only", "network-rights", "550 5.7.1", policy(network, "192.0.2.7:1", "nurse@hospital.example", "")},
	{"3.3", "MAY", "other networks do", "network-other", "530 5.7.0", policy(network, "198.51.100.7:1", "keeper@light.example", "")},
	{"3.3", "MAY", "another way (tunnel, POP before SMTP) is the program's to add; there is none by default", "authorize", "250", authorized},
	{"4.1", "MUST", "general refusal of what is improper", "general", "554 5.6.0", text(Config{}, "From: keeper@light.example keeper@light.example")},
	{"4.2", "MUST", "a sender's domain that is not whole", "sender-not-qualified", "554 5.1.8", after(Config{}, "MAIL FROM:<keeper@light>")},
	{"4.2", "MUST", "a sender's domain that the DNS cannot have", "sender-nowhere", "554 5.1.8", after(Config{}, "MAIL FROM:<keeper@desk.localdomain>")},
	{"4.2", "MUST", "a recipient's domain that is not whole", "recipient-not-qualified", "554 5.1.2", after(Config{}, mailFrom, "RCPT TO:<doctor@hospital>")},
	{"4.2", "MUST", "a domain in an address field that is not whole", "field-not-qualified", "554 5.6.0", text(Config{}, ours+"\r\nTo: doctor@hospital")},
	{"4.2", "MUST", "the same in the last BDAT's answer", "bdat-not-qualified", "554 5.6.0", after(Config{}, mailFrom, rcptTo, bdat(ours+"\r\nTo: doctor@hospital\r\n\r\n"))},
	{"4.2", "MAY", "a single label is expanded to a known domain, if configured", "expand", "250", after(expanded, mailFrom, "RCPT TO:<info@sales>")},
	{"4.2", "MAY", "and to no other", "expand-unknown", "554 5.1.2", after(expanded, mailFrom, "RCPT TO:<info@hospital>")},
	{"4.2", "SHOULD", "an incomplete domain of several labels is refused, not expanded", "expand-partial", "554 5.1.2", after(expanded, mailFrom, "RCPT TO:<info@desk.sales>")},
	{"4.3", "MUST", "MAIL before AUTH", "no-auth", "530 5.7.0", unknown("EHLO desk.light.example", mailFrom)},
	{"4.3", "MUST", "RCPT before AUTH", "no-auth-rcpt", "530 5.7.0", unknown("EHLO desk.light.example", rcptTo)},
	{"5.1", "SHOULD", "bad syntax of the sender", "sender-syntax", "501 5.1.7", after(Config{}, "MAIL FROM:<keeper@@light.example>")},
	{"5.1", "SHOULD", "bad syntax of a recipient", "recipient-syntax", "501 5.1.3", after(Config{}, mailFrom, "RCPT TO:<doctor@-hospital.example>")},
	{"5.1", "SHOULD", "bad syntax in an address field", "field-syntax", "554 5.6.0", text(Config{}, ours+"\r\nTo: a b c")},
	{"5.2", "SHOULD", "clients' faults are logged and counted, with a limit", "faults", "keeper sends no Date", faultNoted},
	{"6.1", "MAY", "another's reverse-path", "rights-sender", "550 5.7.1", after(Config{}, "MAIL FROM:<doctor@hospital.example>")},
	{"6.1", "MAY", "another's From", "rights-from", "550 5.7.1", text(Config{}, "From: doctor@hospital.example")},
	{"6.1", "MAY", "another's Sender", "rights-field-sender", "550 5.7.1", text(Config{}, ours+"\r\nSender: doctor@hospital.example")},
	{"6.2", "MAY", "a recipient that the account may not write to", "rights-recipient", "550 5.7.1", afterWith(with(directory.Rights{SendTo: []string{"@light.example"}}), Config{}, mailFrom, rcptTo)},
	{"6.2", "MAY", "more recipients than the account has in a day", "daily-recipients", "550 5.7.1", afterWith(with(directory.Rights{Recipients: 1}), Config{}, mailFrom, rcptTo, "RCPT TO:<nurse@hospital.example>")},
	{"6.2", "MAY", "more messages than the account has in a day", "daily-messages", "550 5.7.1", afterWith(with(directory.Rights{Messages: 1}), Config{}, mailFrom, rcptTo, "DATA", ours+"\r\n\r\nbody", mailFrom)},
	{"6.2", "MAY", "a message declared larger than the account may send", "size-declared", "552 5.3.4", afterWith(with(directory.Rights{Size: 1000}), Config{}, mailFrom+" SIZE=1001")},
	{"6.2", "MAY", "a message larger than the account may send", "size", "552 5.3.4", afterWith(with(directory.Rights{Size: 1000}), Config{}, mailFrom, rcptTo, "DATA", ours+"\r\n\r\n"+strings.Repeat("lamp ", 200))},
	{"6.3", "MAY", "a command of bad syntax", "command-syntax", "501 5.5.4", after(Config{}, mailFrom, rcptTo, "DATA now")},
	{"6.3", "MAY", "a text of bad syntax", "text-syntax", "554 5.6.0", text(Config{}, ours+"\r\nDate: x\r\nDate: y")},
	{"6.3", "MAY", "a text that its user may not send", "text-user", "550 5.7.1", text(Config{}, "From: keeper@light.example, doctor@hospital.example")},
	{"6.4", "MAY", "anybody may write to a local postmaster, if configured", "postmaster", "250", policy(reduced, "198.51.100.1:1", "a@b.example", "PostMaster@Light.example")},
	{"6.4", "MAY", "also as `<Postmaster>`", "postmaster-bare", "250", policy(reduced, "198.51.100.1:1", "a@b.example", "postmaster")},
	{"6.4", "MAY", "but to nobody else", "postmaster-only", "530 5.7.0", policy(reduced, "198.51.100.1:1", "a@b.example", "keeper@light.example")},
	{"6.4", "MAY", "nor to another's postmaster", "postmaster-local", "530 5.7.0", policy(reduced, "198.51.100.1:1", "a@b.example", "postmaster@hospital.example")},
	{"6.4", "MAY", "not by default", "postmaster-off", "530 5.7.0", policy(Config{}, "198.51.100.1:1", "a@b.example", "")},
	{"6.4", "MAY", "and not too often", "postmaster-rate", "450 4.7.1", postmasterRate},
	{"7", "SHOULD", "PIPELINING (RFC 2920)", "ext-pipelining", "offered", offers("PIPELINING")},
	{"7", "SHOULD", "ENHANCEDSTATUSCODES (RFC 2034)", "ext-enhanced", "offered", offers("ENHANCEDSTATUSCODES")},
	{"7", "MUST NOT", "ETRN (RFC 1985)", "ext-etrn", "not offered", offers("ETRN")},
	{"7", "MUST NOT", "the command ETRN", "etrn", "502 5.5.1", after(Config{}, "ETRN light.example")},
	{"7", "SHOULD", "DSN (RFC 3461)", "ext-dsn", "", offers("DSN")},
	{"7", "MAY", "SIZE (RFC 1870)", "ext-size", "offered", offers("SIZE")},
	{"7", "MUST NOT", "reply code 521 (RFC 1846)", "no-521", "never", nil},
	{"7", "MAY", "CHECKPOINT (RFC 1845)", "ext-checkpoint", "", offers("CHECKPOINT")},
	{"7", "MAY", "BINARYMIME (RFC 3030)", "ext-binarymime", "", offers("BINARYMIME")},
	{"7", "MAY", "CHUNKING (RFC 3030)", "ext-chunking", "offered", offers("CHUNKING")},
	{"7", "SHOULD", "8BITMIME (RFC 6152)", "ext-8bitmime", "offered", offers("8BITMIME")},
	{"7", "MUST", "AUTH (RFC 4954)", "ext-auth", "offered", offers("AUTH")},
	{"7", "MAY", "NO-SOLICITING (RFC 3865)", "ext-no-soliciting", "", offers("NO-SOLICITING")},
	{"7", "MAY", "MTRK (RFC 3885)", "ext-mtrk", "", offers("MTRK")},
	{"7", "MUST NOT", "ATRN (RFC 2645)", "ext-atrn", "not offered", offers("ATRN")},
	{"7", "MUST NOT", "the command ATRN", "atrn", "502 5.5.1", after(Config{}, "ATRN light.example")},
	{"7", "MAY", "DELIVERBY (RFC 2852)", "ext-deliverby", "", offers("DELIVERBY")},
	{"7", "MAY", "CONPERM (RFC 4141): a fax machine's need, not ours", "ext-conperm", "not offered", offers("CONPERM")},
	{"7", "MAY", "CONNEG (RFC 4141): the same", "ext-conneg", "not offered", offers("CONNEG")},
	{"8", "MUST", "no From: the reverse-path becomes it", "from-added", "From: keeper@light.example", becomes(home, Config{}, "From", "Subject: x")},
	{"8", "MUST", "a field twice that may be there once", "repeated", "554 5.6.0", text(Config{}, ours+"\r\nSubject: x\r\nSubject: y")},
	{"8", "MAY", "an address without a domain is completed, if configured and somebody has that name", "complete", "From: keeper@light.example (The Keeper)", becomes(home, complete, "From", "From: keeper (The Keeper)")},
	{"8", "MUST", "else it is refused", "complete-unknown", "554 5.6.0", text(complete, ours+"\r\nTo: doctor")},
	{"8.1", "MAY", "Sender is left alone by default", "sender-kept", "no Sender", becomes(home, Config{}, "Sender", "From: lamp@light.example")},
	{"8.1", "MAY", "it is added where From does not have the account's address, if configured", "sender-added", "Sender: keeper@light.example", becomes(home, Config{Sender: "add"}, "Sender", "From: lamp@light.example")},
	{"8.1", "MAY", "and only there", "sender-needless", "no Sender", becomes(home, Config{Sender: "add"}, "Sender", ours)},
	{"8.1", "MAY", "it is replaced, if configured", "sender-replaced", "Sender: keeper@light.example", becomes(home, Config{Sender: "replace"}, "Sender", "From: lamp@light.example\r\nSender: lamp@light.example")},
	{"8.1", "MUST", "several authors have a Sender (RFC 5322 §3.6.2)", "sender-authors", "Sender: keeper@light.example", becomes(home, Config{}, "Sender", "From: lamp@light.example, keeper@light.example")},
	{"8.2", "MAY", "no Date: it is added", "date-added", "Date: Fri, 02 Jan 2026 15:04:05 +0000", becomes(home, Config{}, "Date", ours)},
	{"8.2", "MAY", "a Date of other syntax is corrected", "date-corrected", "Date: Thu, 01 Jan 2026 08:00:00 +0200", becomes(home, Config{}, "Date", ours+"\r\nDate: 2026-01-01T08:00:00+02:00")},
	{"8.2", "MAY", "unless a DKIM signature covers it", "date-signed", "Date: 2026-01-01", becomes(home, Config{}, "Date", ours+"\r\nDate: 2026-01-01\r\nDKIM-Signature: v=1; h=from:date; b=x")},
	{"8.2", "MAY", "or it is switched off", "date-kept", "Date: 2026-01-01", becomes(home, Config{Date: "add"}, "Date", ours+"\r\nDate: 2026-01-01")},
	{"8.3", "SHOULD", "no Message-ID: it is added", "id-added", "Message-ID: <$ID@mail.light.example>", becomes(home, Config{}, "Message-ID", ours)},
	{"8.3", "SHOULD", "a Message-ID of bad syntax is replaced", "id-replaced", "Message-ID: <$ID@mail.light.example>", becomes(home, Config{}, "Message-ID", ours+"\r\nMessage-ID: 17")},
	{"8.3", "SHOULD", "a good one stays", "id-kept", "Message-ID: <1@desk.light.example>", becomes(home, Config{}, "Message-ID", ours+"\r\nMessage-ID: <1@desk.light.example>")},
	{"8.7", "MAY", "CNAMEs are not resolved: www and ftp would become one", "cname", "To: a@www.hospital.example", becomes(home, Config{}, "To", ours+"\r\nTo: a@www.hospital.example")},
	{"8.8", "MAY", "a local part is rewritten by an exact rule", "rewrite-local", "From: K <keeper@light.example>", becomes(home, rewrites, "From", "From: K <kpr@light.example>")},
	{"8.8", "MAY", "a domain is rewritten by an exact rule", "rewrite-domain", "Reply-To: a@foo.example", becomes(home, rewrites, "Reply-To", ours+"\r\nReply-To: a@b.foo.example")},
	{"8.8", "MAY", "and in the envelope", "rewrite-envelope", "250", after(rewrites, "MAIL FROM:<KPR@light.example>")},
	{"8.8", "MUST NOT", "no local part of another's domain is rewritten", "rewrite-foreign", "To: kpr@hospital.example", becomes(home, rewrites, "To", ours+"\r\nTo: kpr@hospital.example")},
	{"8.8", "MUST NOT", "what no rule names stays", "rewrite-none", "To: a@b.c.hospital.example", becomes(home, rewrites, "To", ours+"\r\nTo: a@b.c.hospital.example")},
}

// bdat is a BDAT command with its chunk, the last.
func bdat(chunk string) string {
	return fmt.Sprintf("BDAT %d LAST\r\n%s", len(chunk), chunk)
}

func authorized(t *testing.T, _ map[string]bool) string {
	a := agent(home, Config{}, &kept{})
	a.Authorize = func(s *smtp.Session) (string, bool) {
		return "keeper", s.Peer.Addr() == netip.MustParseAddr("192.0.2.9")
	}
	if r := said(a.Mail(t.Context(), guest("192.0.2.8:1"), new(message.Envelope))); r != replyNeedAuth.Error() {
		t.Error(r)
	}
	return said(a.Mail(t.Context(), guest("192.0.2.9:1"), new(message.Envelope)))
}

func faultNoted(t *testing.T, codes map[string]bool) string {
	a := agent(home, Config{}, &kept{})
	dialogue(t, a, codes, mailFrom, rcptTo, "DATA", ours+"\r\nMessage-ID: <1@x.example>\r\n\r\nbody")
	list := a.Faults.List()
	if len(list) != 1 {
		return fmt.Sprint(list)
	}
	return list[0].Account + " " + string(list[0].Kind)
}

func postmasterRate(t *testing.T, _ map[string]bool) string {
	a := agent(home, Config{Postmaster: true, PostmasterRate: 2}, &kept{})
	env := &message.Envelope{ReversePath: message.Address{Local: "a", Domain: "b.example"}}
	to := &message.Recipient{Address: message.Address{Local: "postmaster"}}
	for range 2 {
		if err := a.Rcpt(t.Context(), guest("198.51.100.1:1"), env, to); err != nil {
			t.Error(err)
		}
	}
	if err := a.Rcpt(t.Context(), guest("198.51.100.2:1"), env, to); err != nil {
		t.Error("another client:", err)
	}
	return said(a.Rcpt(t.Context(), guest("198.51.100.1:2"), env, to))
}

// TestConformance runs the rows of the table one by one and holds that docs/submission.md has them as they are; -update writes it anew.
func TestConformance(t *testing.T) {
	codes := map[string]bool{}
	var table bytes.Buffer
	table.WriteString("| section | level | what | what comes of it | test |\n| --- | --- | --- | --- | --- |\n")
	for _, r := range rules {
		got := r.reply
		t.Run(r.name, func(t *testing.T) {
			if r.test == nil {
				return // decided at the end
			}
			got = r.test(t, codes)
			if !strings.HasPrefix(got, r.reply) {
				t.Errorf("%s, want %s", got, r.reply)
			}
		})
		shown := r.reply
		if shown == "" { // others decide whether we offer it; the table says what is
			shown = got
		}
		fmt.Fprintf(&table, "| §%s | %s | %s | `%s` | %s |\n", r.section, r.level, r.does, shown, r.name)
	}
	if codes["521"] || len(codes) < 8 { // RFC 6409 §7
		t.Errorf("codes seen: %v", codes)
	}
	before, body := example(t)
	fresh(t, "table", table.String())
	fresh(t, "example", fmt.Sprintf("```text\n%s```\n\nis passed on as\n\n```text\n%s```\n", before, body))
}

// example is a message of a careless client, before and after.
func example(t *testing.T) (before, body string) {
	h := &house{as: map[string][]string{"keeper": {"keeper@light.example"}}, rights: home.rights}
	cfg := Config{Complete: true, Expand: []string{"light.example"}, Sender: "add"}
	in := "Bcc: nurse@hospital.example\r\nFrom: keeper (The Keeper)\r\nTo: Sales <info@sales>, doctor@hospital.example\r\nDate: 2026-01-02 17:00:00 +0200\r\nSubject: lamp oil\r\n\r\nSend ten casks."
	header, reply := sent(t, h, cfg, in)
	if !strings.HasPrefix(reply, "250 ") {
		t.Error(reply)
	}
	unix := strings.NewReplacer("\r\n", "\n", "$ID", "0123456789abcdefghij")
	_, text, _ := strings.Cut(in, "\r\n\r\n")
	return unix.Replace(in) + "\n", unix.Replace(header) + "\n\n" + text + "\n"
}

// fresh compares a generated part of docs/submission.md, between two marks, with what it should be, or writes it under -update.
func fresh(t *testing.T, part, want string) {
	t.Helper()
	const file = "../../docs/submission.md"
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+part+": generated -->\n\n", "\n<!-- "+part+": end -->"
	head, rest, ok1 := strings.Cut(string(content), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no marks for %q", file, part)
	}
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(file, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("%s is stale: run `go test ./application/submission -run TestConformance -update` and commit it", file)
	}
}
