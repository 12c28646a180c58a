package submission

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/message/convert"
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
	aliases  = Config{CNAMEs: []string{"Hospital.example"}}

	envelopeOnly = Config{Rewrite: rewrites.Rewrite, Envelope: true}
)

var rules = []rule{
	{"3.1", "MAY", "port 25 is one for submission where `submission.listen` says so", "bothy.TestSubmissionAt25", "yes", elsewhere("../..")},
	{"3.2", "SHOULD", "no return path can be determined: refused at MAIL", "no-return-path", "550 5.1.0", policy(reduced, "198.51.100.1:1", "", "")},
	{"3.2", "MUST NOT", "the null reverse-path is no reason to refuse", "null-path", "250", after(Config{}, "MAIL FROM:<>")},
	{"3.2", "MAY", "a text is refused at once by default, though its sender could get a notice", "reject", "554 5.6.0", text(Config{}, ours+"\r\nTo: a b c")},
	{"3.2", "MAY", "it is accepted and bounced, if configured", "bounce", "250 and notice to keeper@light.example: 554 5.6.0", bounced},
	{"3.2", "MAY", "unless there is nobody to send the notice to", "bounce-nobody", "554 5.6.0", after(Config{Refusals: "bounce"}, "MAIL FROM:<>", rcptTo, "DATA", ours+"\r\nTo: a b c\r\n\r\nbody")},
	{"3.3", "MAY", "listed networks need no AUTH, if configured; they send as one account", "network", "250", policy(network, "192.0.2.7:1", "keeper@light.example", "doctor@hospital.example")},
	{"3.3", "MAY", "and in its names only", "network-rights", "550 5.7.1", policy(network, "192.0.2.7:1", "nurse@hospital.example", "")},
	{"3.3", "MAY", "other networks do", "network-other", "530 5.7.0", policy(network, "198.51.100.7:1", "keeper@light.example", "")},
	{"3.3", "MAY", "a registered client certificate needs no AUTH, if configured", "submission.TestCertificate", "250", elsewhere(".")},
	{"3.3", "MAY", "who has read by POP3 from the same address needs none for a while, if configured", "pop", "250", popBefore(19 * time.Minute)},
	{"3.3", "MAY", "and no longer", "pop-window", "530 5.7.0", popBefore(20 * time.Minute)},
	{"3.3", "MAY", "nor by default", "pop-off", "530 5.7.0", policy(Config{}, "192.0.2.9:1", "keeper@light.example", "")},
	{"3.3", "MAY", "the same in the whole program, with notices, rights and faults", "test.TestSubmissionPolicies", "250", elsewhere("../../test")},
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
	{"4.3", "MUST", "RCPT before AUTH", "no-auth-rcpt", "530 5.7.0", unknown("EHLO desk.light.example", mailFrom, rcptTo)},
	{"4.3", "MUST", "PLAIN and LOGIN are offered under TLS only; SCRAM-SHA-256(-PLUS), EXTERNAL; CRAM-MD5 where asked for (RFC 4954 §4)", "sasl.TestMechanisms", "504 5.5.4, 538 5.7.11", elsewhere("../sasl")},
	{"4.3", "MUST", "swaks, msmtp, mutt, s-nail, curl and smtplib log in and send, with each mechanism that they have", "test.TestClientsSubmit", "250", elsewhere("../../test")},
	{"4.3", "MUST", "so does Postfix, with the site as its relay host", "test.TestPostfixSubmits", "250", elsewhere("../../test")},
	{"4.3", "MUST", "each program may have a password of its own", "sasl.TestApps", "235 2.7.0", elsewhere("../sasl")},
	{"4.3", "MUST", "who guesses learns from no code and no work which accounts exist (RFC 4954 §9)", "sasl.TestNoEnumeration", "535 5.7.8", elsewhere("../sasl")},
	{"4.3", "MUST", "nor from the time that it takes", "sasl.TestUnknownNamesAreHashed", "535 5.7.8", elsewhere("../sasl")},
	{"4.3", "MUST", "who guesses for long waits, by address and by account", "sasl.TestThrottleTotal", "454 4.7.0", elsewhere("../sasl")},
	{"5.1", "SHOULD", "bad syntax of the sender", "sender-syntax", "501 5.1.7", after(Config{}, "MAIL FROM:<keeper@@light.example>")},
	{"5.1", "SHOULD", "bad syntax of a recipient", "recipient-syntax", "501 5.1.3", after(Config{}, mailFrom, "RCPT TO:<doctor@-hospital.example>")},
	{"5.1", "SHOULD", "bad syntax in an address field", "field-syntax", "554 5.6.0", text(Config{}, ours+"\r\nTo: a b c")},
	{"5.2", "SHOULD", "clients' faults are logged and counted, with a limit", "faults", "keeper sends no Date", faultNoted},
	{"5.2", "SHOULD", "and shown to the operator: `bothy faults`", "main.TestFaults", "sends no Date", elsewhere("../../cmd/bothy")},
	{"5.3", "SHOULD", "a reply within 2 minutes: nobody waits longer for the DNS", "timeouts", "250 after 10s", hanging},
	{"6.1", "MAY", "another's reverse-path", "rights-sender", "550 5.7.1", after(Config{}, "MAIL FROM:<doctor@hospital.example>")},
	{"6.1", "MAY", "another's From", "rights-from", "550 5.7.1", text(Config{}, "From: doctor@hospital.example")},
	{"6.1", "MAY", "another's Sender", "rights-field-sender", "550 5.7.1", text(Config{}, ours+"\r\nSender: doctor@hospital.example")},
	{"6.1", "MAY", "another's Resent-From or Resent-Sender (RFC 5322 §3.6.6)", "rights-resent", "550 5.7.1", text(Config{}, "Resent-From: doctor@hospital.example\r\n"+ours)},
	{"6.1", "MAY", "what others have sent on before is theirs", "rights-resent-old", "250", text(Config{}, "Resent-From: keeper@light.example\r\nReceived: x; y\r\nResent-From: doctor@hospital.example\r\n"+ours)},
	{"6.1", "MAY", "another's From in a message sent on", "rights-resend-off", "550 5.7.1", text(Config{}, "Resent-From: keeper@light.example\r\nFrom: doctor@hospital.example")},
	{"6.1", "MAY", "is let pass, if configured", "rights-resend", "250", text(Config{Resend: true}, "Resent-From: keeper@light.example\r\nFrom: doctor@hospital.example")},
	{"6.2", "MAY", "a recipient that the account may not write to", "rights-recipient", "550 5.7.1", afterWith(with(directory.Rights{SendTo: []string{"@light.example"}}), Config{}, mailFrom, rcptTo)},
	{"6.2", "MAY", "more recipients than the account has in a day", "daily-recipients", "550 5.7.1", afterWith(with(directory.Rights{Recipients: 1}), Config{}, mailFrom, rcptTo, "RCPT TO:<nurse@hospital.example>")},
	{"6.2", "MAY", "more messages than the account has in a day", "daily-messages", "550 5.7.1", afterWith(with(directory.Rights{Messages: 1}), Config{}, mailFrom, rcptTo, "DATA", ours+"\r\n\r\nbody", mailFrom)},
	{"6.2", "MAY", "a message declared larger than the account may send", "size-declared", "552 5.3.4", afterWith(with(directory.Rights{Size: 1000}), Config{}, mailFrom+" SIZE=1001")},
	{"6.2", "MAY", "a message larger than the account may send", "size", "552 5.3.4", afterWith(with(directory.Rights{Size: 1000}), Config{}, mailFrom, rcptTo, "DATA", ours+"\r\n\r\n"+strings.Repeat("lamp ", 200))},
	{"6.3", "MAY", "a command of bad syntax", "command-syntax", "501 5.5.4", after(Config{}, mailFrom, rcptTo, "DATA now")},
	{"6.3", "MAY", "a text of bad syntax", "text-syntax", "554 5.6.0", text(Config{}, ours+"\r\nDate: x\r\nDate: y")},
	{"6.3", "MAY", "a text that its user may not send", "text-user", "550 5.7.1", text(Config{}, "From: keeper@light.example, doctor@hospital.example")},
	{"6.3", "MAY", "a text that the site forbids", "text-policy", "550 5.7.0", text(Config{Forbid: []string{"X-Mailer: mass sender"}}, ours+"\r\nX-Mailer: The Mass Sender 2.1")},
	{"6.3", "MAY", "and no other", "text-policy-other", "250", text(Config{Forbid: []string{"X-Mailer: mass sender"}}, ours+"\r\nX-Mailer: Other")},
	{"6.4", "MAY", "anybody may write to a local postmaster, if configured", "postmaster", "250", policy(reduced, "198.51.100.1:1", "a@b.example", "PostMaster@Light.example")},
	{"6.4", "MAY", "also as `<Postmaster>`", "postmaster-bare", "250", policy(reduced, "198.51.100.1:1", "a@b.example", "postmaster")},
	{"6.4", "MAY", "but to nobody else", "postmaster-only", "530 5.7.0", policy(reduced, "198.51.100.1:1", "a@b.example", "keeper@light.example")},
	{"6.4", "MAY", "nor to another's postmaster", "postmaster-local", "530 5.7.0", policy(reduced, "198.51.100.1:1", "a@b.example", "postmaster@hospital.example")},
	{"6.4", "MAY", "not by default", "postmaster-off", "530 5.7.0", policy(Config{}, "198.51.100.1:1", "a@b.example", "")},
	{"6.4", "MAY", "and not too often", "postmaster-rate", "450 4.7.1", postmasterRate},
	{"6.5", "MAY", "character sets are not converted: programs read all of them now, and a wrong guess loses text", "charset", `"caf\xe9\r\n"`, charset},
	{"7", "SHOULD", "PIPELINING (RFC 2920)", "ext-pipelining", "offered", offers("PIPELINING")},
	{"7", "SHOULD", "ENHANCEDSTATUSCODES (RFC 2034)", "ext-enhanced", "offered", offers("ENHANCEDSTATUSCODES")},
	{"7", "SHOULD", "extended codes (RFC 3463): with each reply that may have one (RFC 2034 §4)", "extended-codes", "250 2.1.0", after(Config{}, mailFrom)},
	{"7", "MUST NOT", "ETRN (RFC 1985)", "ext-etrn", "not offered", offers("ETRN")},
	{"7", "MUST NOT", "the command ETRN", "etrn", "502 5.5.1", after(Config{}, "ETRN light.example")},
	{"7", "SHOULD", "DSN (RFC 3461)", "ext-dsn", "offered", offers("DSN")},
	{"7", "MAY", "SIZE (RFC 1870)", "ext-size", "offered", offers("SIZE")},
	{"7", "MUST NOT", "reply code 521 (RFC 1846)", "no-521", "never", nil},
	{"7", "MAY", "CHECKPOINT (RFC 1845)", "ext-checkpoint", "offered", offers("CHECKPOINT")},
	{"7", "MAY", "what came of a message whose connection broke need not be sent again (RFC 1845 §3)", "checkpoint", "355 39999 is the transaction offset", resumed},
	{"7", "MAY", "BINARYMIME (RFC 3030)", "ext-binarymime", "offered", offers("BINARYMIME")},
	{"7", "MAY", "CHUNKING (RFC 3030)", "ext-chunking", "offered", offers("CHUNKING")},
	{"7", "SHOULD", "8BITMIME (RFC 6152)", "ext-8bitmime", "offered", offers("8BITMIME")},
	{"7", "MUST", "AUTH (RFC 4954)", "ext-auth", "offered", offers("AUTH")},
	{"7", "MAY", "STARTTLS (RFC 3207)", "ext-starttls", "offered", offers("STARTTLS")},
	{"7", "MAY", "NO-SOLICITING (RFC 3865)", "ext-no-soliciting", "offered", offers("NO-SOLICITING")},
	{"7", "MAY", "MTRK (RFC 3885), where the query is answered too (RFC 3887)", "ext-mtrk", "offered", offers("MTRK")},
	{"7", "MUST", "MTRK goes with an ENVID that no other message has (RFC 3885 §3.2)", "mtrk-envid", "501 5.5.4", after(Config{}, mailFrom+" MTRK=c0uosxl10Nuup00knn6NoieWyUk ENVID=1")},
	{"7", "MUST NOT", "ATRN (RFC 2645)", "ext-atrn", "not offered", offers("ATRN")},
	{"7", "MUST NOT", "the command ATRN", "atrn", "502 5.5.1", after(Config{}, "ATRN light.example")},
	{"7", "MAY", "DELIVERBY (RFC 2852)", "ext-deliverby", "offered", offers("DELIVERBY")},
	{"7", "MAY", "CONPERM (RFC 4141): it asks whether faxes and pictures may be made smaller on the way; nothing here could", "ext-conperm", "not offered", offers("CONPERM")},
	{"7", "MAY", "CONNEG (RFC 4141): it asks what a recipient's fax can print; no recipient here tells", "ext-conneg", "not offered", offers("CONNEG")},
	{"7", "-", "SMTPUTF8 (RFC 6531)", "ext-smtputf8", "offered", offers("SMTPUTF8")},
	{"7", "-", "FUTURERELEASE (RFC 4865)", "ext-futurerelease", "offered", offers("FUTURERELEASE")},
	{"7", "-", "MT-PRIORITY (RFC 6710)", "ext-mt-priority", "offered", offers("MT-PRIORITY")},
	{"7", "-", "LIMITS (RFC 9422)", "ext-limits", "offered", offers("LIMITS")},
	{"7", "-", "REQUIRETLS (RFC 8689): under TLS", "smtp.TestServerTranscripts", "offered", elsewhere("../smtp")},
	{"7", "-", "who has not logged in learns no names, and no more than is needed", "reply-terse", "530 5.7.0 authentication required", unknown("EHLO desk.light.example", "MAIL FROM:<nobody@light.example>")},
	{"8", "MUST", "no From: the reverse-path becomes it", "from-added", "From: keeper@light.example", becomes(home, Config{}, "From", "Subject: x")},
	{"8", "MUST", "a field twice that may be there once", "repeated", "554 5.6.0", text(Config{}, ours+"\r\nSubject: x\r\nSubject: y")},
	{"8", "MAY", "an address without a domain is completed, if configured and somebody has that name", "complete", "From: keeper@light.example (The Keeper)", becomes(home, complete, "From", "From: keeper (The Keeper)")},
	{"8", "MUST", "it is refused by default", "complete-off", "554 5.6.0", text(Config{}, "From: keeper@light.example\r\nTo: lamp")},
	{"8", "MUST", "and where nobody has that name", "complete-unknown", "554 5.6.0", text(complete, ours+"\r\nTo: doctor")},
	{"8", "MUST", "Bcc is removed (RFC 5322 §3.6.3)", "bcc", "no Bcc", becomes(home, Config{}, "Bcc", ours+"\r\nBcc: doctor@hospital.example")},
	{"8", "MUST", "Return-Path is removed (RFC 5321 §4.4)", "return-path", "no Return-Path", becomes(home, Config{}, "Return-Path", "Return-Path: <x@hospital.example>\r\n"+ours)},
	{"8", "-", "the Received field does not tell where the client sits", "client-hidden", "from submitter.invalid", origin(Config{})},
	{"8", "-", "it does, if configured", "client-shown", "from desk.light.example", origin(Config{ShowClient: true})},
	{"8.1", "MAY", "Sender is left alone by default", "sender-kept", "no Sender", becomes(home, Config{}, "Sender", "From: lamp@light.example")},
	{"8.1", "MAY", "it is added where From does not have the account's address, if configured", "sender-added", "Sender: keeper@light.example", becomes(home, Config{Sender: "add"}, "Sender", "From: lamp@light.example")},
	{"8.1", "MAY", "and only there", "sender-needless", "no Sender", becomes(home, Config{Sender: "add"}, "Sender", ours)},
	{"8.1", "MAY", "it is replaced, if configured", "sender-replaced", "Sender: keeper@light.example", becomes(home, Config{Sender: "replace"}, "Sender", "From: lamp@light.example\r\nSender: lamp@light.example")},
	{"8.1", "MUST", "an address that could not be answered becomes no Sender", "sender-valid", "no Sender", unanswerable},
	{"8.1", "MUST", "several authors have a Sender (RFC 5322 §3.6.2)", "sender-authors", "Sender: keeper@light.example", becomes(home, Config{}, "Sender", "From: lamp@light.example, keeper@light.example")},
	{"8.2", "MAY", "no Date: it is added", "date-added", "Date: Fri, 02 Jan 2026 15:04:05 +0000", becomes(home, Config{}, "Date", ours)},
	{"8.2", "MAY", "a Date of other syntax is corrected", "date-corrected", "Date: Thu, 01 Jan 2026 08:00:00 +0200", becomes(home, Config{}, "Date", ours+"\r\nDate: 2026-01-01T08:00:00+02:00")},
	{"8.2", "MAY", "unless a DKIM signature covers it", "date-signed", "Date: 2026-01-01", becomes(home, Config{}, "Date", ours+"\r\nDate: 2026-01-01\r\nDKIM-Signature: v=1; h=from:date; b=x")},
	{"8.2", "MAY", "or it is switched off", "date-kept", "Date: 2026-01-01", becomes(home, Config{Date: "add"}, "Date", ours+"\r\nDate: 2026-01-01")},
	{"8.3", "SHOULD", "no Message-ID: it is added", "id-added", "Message-ID: <$ID@mail.light.example>", becomes(home, Config{}, "Message-ID", ours)},
	{"8.3", "SHOULD", "a Message-ID of bad syntax is replaced", "id-replaced", "Message-ID: <$ID@mail.light.example>", becomes(home, Config{}, "Message-ID", ours+"\r\nMessage-ID: 17")},
	{"8.3", "SHOULD", "unless it is switched off", "id-off", "Message-ID: 17", becomes(home, Config{MessageID: "add"}, "Message-ID", ours+"\r\nMessage-ID: 17")},
	{"8.3", "SHOULD", "a good one stays", "id-kept", "Message-ID: <1@desk.light.example>", becomes(home, Config{}, "Message-ID", ours+"\r\nMessage-ID: <1@desk.light.example>")},
	{"8.4", "MAY", "transfer encoding is applied on the way out, where the next hop needs it and no signature breaks", "relay.TestDownConversion", "base64 or quoted-printable", elsewhere("../relay")},
	{"8.5", "MAY", "DKIM signatures are made on the way out, when the text is final (`bothy dkim`)", "test.TestSignedOnTheWayOut", "DKIM-Signature", elsewhere("../../test")},
	{"8.6", "MAY", "nothing is encrypted for recipients by itself; a program can put OpenPGP or S/MIME in", "encrypt", "secret", encrypted},
	{"8.6", "-", "then mail is taken over secured sessions only", "encrypt-secured", "530 5.7.0", encryptedInTheClear},
	{"8.7", "MAY", "CNAMEs are left alone by default: www and ftp would become one", "cname", "To: a@www.hospital.example", becomes(home, Config{}, "To", ours+"\r\nTo: a@www.hospital.example")},
	{"8.7", "MAY", "those of the domains configured are resolved, in the header", "cname-header", "To: a@mx.hospital.example", becomes(home, aliases, "To", ours+"\r\nTo: a@www.hospital.example")},
	{"8.7", "MAY", "and in the envelope", "cname-envelope", "a@mx.hospital.example", aliased("a@www.hospital.example")},
	{"8.7", "MAY", "no others", "cname-others", "a@www.far.example", aliased("a@www.far.example")},
	{"8.8", "MAY", "a local part is rewritten by an exact rule", "rewrite-local", "From: K <keeper@light.example>", becomes(home, rewrites, "From", "From: K <kpr@light.example>")},
	{"8.8", "MAY", "a domain is rewritten by an exact rule", "rewrite-domain", "Reply-To: a@foo.example", becomes(home, rewrites, "Reply-To", ours+"\r\nReply-To: a@b.foo.example")},
	{"8.8", "MAY", "and in the envelope", "rewrite-envelope", "250", after(rewrites, "MAIL FROM:<KPR@light.example>")},
	{"8.8", "MUST NOT", "no local part of another's domain is rewritten", "rewrite-foreign", "To: kpr@hospital.example", becomes(home, rewrites, "To", ours+"\r\nTo: kpr@hospital.example")},
	{"8.8", "MUST NOT", "what no rule names stays", "rewrite-none", "To: a@b.c.hospital.example", becomes(home, rewrites, "To", ours+"\r\nTo: a@b.c.hospital.example")},
	{"8.8", "MUST NOT", "a rule that looks at nothing cannot be configured", "rewrite-exact", "rewrite", notConfigurable(Config{Rewrite: map[string]string{"*": "light.example"}})},
	{"8.8", "MAY", "the header stays, if configured", "rewrite-envelope-only", "Reply-To: a@b.foo.example", becomes(home, envelopeOnly, "Reply-To", ours+"\r\nReply-To: a@b.foo.example")},
}

// bdat is a BDAT command with its chunk, the last.
func bdat(chunk string) string {
	return fmt.Sprintf("BDAT %d LAST\r\n%s", len(chunk), chunk)
}

// elsewhere is the test of a row that a test of another name or package shows, "package.TestName": it is there, among the tests of dir.
func elsewhere(dir string) func(*testing.T, map[string]bool) string {
	return func(t *testing.T, _ map[string]bool) string {
		_, name, _ := strings.Cut(t.Name()[strings.LastIndexByte(t.Name(), '/')+1:], ".")
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if content, err := os.ReadFile(file); err == nil && bytes.Contains(content, []byte("\nfunc "+name+"(t *testing.T) {")) {
				return shownThere
			}
		}
		t.Errorf("there is no %s in %s", name, dir)
		return ""
	}
}

// shownThere is what comes of a test that is elsewhere.
const shownThere = "shown there"

// popBefore is the test of MAIL so long after somebody has read by POP3.
func popBefore(passed time.Duration) func(*testing.T, map[string]bool) string {
	return func(t *testing.T, _ map[string]bool) string {
		a := agent(home, Config{POPWindow: 20 * time.Minute}, &kept{})
		a.Readers = new(Readers)
		a.Readers.Note(netip.MustParseAddr("192.0.2.9"), "keeper", now.Add(-passed))
		env := &message.Envelope{ReversePath: parsed(t, "keeper@light.example")}
		if r := said(a.Mail(t.Context(), guest("192.0.2.8:1"), new(message.Envelope))); r != replyNeedAuth.Error() {
			t.Error("another address:", r)
		}
		return said(a.Mail(t.Context(), guest("192.0.2.9:1"), env))
	}
}

// bounced is what the queue gets in the place of a message with a fault.
func bounced(t *testing.T, codes map[string]bool) string {
	var next kept
	a := agent(home, Config{Refusals: "bounce"}, &next)
	a.Notice = func(env *message.Envelope, header []byte, refusal smtp.Reply, _ time.Time) (*message.Envelope, []byte) {
		if !bytes.Contains(header, []byte("To: a b c\r\n")) {
			t.Errorf("%q", header)
		}
		return &message.Envelope{Recipients: []message.Recipient{{Address: env.ReversePath}}}, []byte(refusal.Error())
	}
	reply := dialogue(t, a, codes, mailFrom, rcptTo, "DATA", ours+"\r\nTo: a b c\r\n\r\nbody")
	if next.env == nil {
		return reply
	}
	return fmt.Sprintf("%s and notice to %s: %s", reply[:3], next.env.Recipients[0].Address, next.body)
}

// hanging is RCPT while the DNS does not answer.
func hanging(t *testing.T, _ map[string]bool) (got string) {
	synctest.Test(t, func(t *testing.T) {
		a := agent(home, aliases, &kept{})
		a.Canonical = func(ctx context.Context, domain string) string {
			<-ctx.Done()
			return domain
		}
		began := time.Now()
		env := &message.Envelope{Account: "keeper"}
		reply := said(a.Rcpt(t.Context(), guest("192.0.2.9:1"), env, &message.Recipient{Address: parsed(t, "a@www.hospital.example")}))
		got = fmt.Sprintf("%s after %v", reply, time.Since(began))
	})
	return got
}

// aliased is what a recipient becomes.
func aliased(to string) func(*testing.T, map[string]bool) string {
	return func(t *testing.T, codes map[string]bool) string {
		var next kept
		dialogue(t, agent(home, aliases, &next), codes, mailFrom, "RCPT TO:<"+to+">", "DATA", ours+"\r\n\r\nbody")
		return next.env.Recipients[0].Address.String()
	}
}

// origin is where the Received field says that a message comes from.
func origin(cfg Config) func(*testing.T, map[string]bool) string {
	return func(t *testing.T, codes map[string]bool) string {
		var next kept
		dialogue(t, agent(home, cfg, &next), codes, mailFrom, rcptTo, "DATA", ours+"\r\n\r\nbody")
		from, _, _ := strings.Cut(strings.TrimPrefix(next.body, "Received: "), "\r\n")
		return from
	}
}

// unanswerable is the Sender of an account that has no address, whose reverse-path is none that the DNS could have.
func unanswerable(t *testing.T, _ map[string]bool) string {
	var next kept
	a := agent(home, Config{Sender: "add"}, &next)
	a.Accounts = nil
	env := &message.Envelope{Account: "keeper", ReversePath: message.Address{Local: "keeper", Domain: "desk.localdomain"}}
	if err := a.Accept(t.Context(), env, strings.NewReader("From: lamp@light.example\r\n\r\nbody")); err != nil {
		t.Error(err)
	}
	if strings.Contains(next.body, "\r\nSender:") {
		return next.body
	}
	return "no Sender"
}

func charset(t *testing.T, codes map[string]bool) string {
	var next kept
	dialogue(t, agent(home, Config{}, &next), codes, mailFrom+" BODY=8BITMIME", rcptTo, "DATA", ours+"\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\ncaf\xe9")
	_, body, _ := strings.Cut(next.body, "\r\n\r\n")
	return fmt.Sprintf("%q", body)
}

func encrypted(t *testing.T, _ map[string]bool) string {
	var next kept
	a := agent(home, Config{}, &next)
	a.Encrypt = func(_ context.Context, env *message.Envelope, header *message.Header, text io.Reader) (io.Reader, error) {
		plain, err := io.ReadAll(text)
		if string(plain) != "body" || env.Account != "keeper" {
			t.Errorf("%q of %q", plain, env.Account)
		}
		header.Append("Content-Type", "multipart/encrypted")
		return strings.NewReader("secret"), err
	}
	if err := a.Accept(t.Context(), &message.Envelope{Account: "keeper"}, strings.NewReader(ours+"\r\n\r\nbody")); err != nil {
		t.Error(err)
	}
	header, body, _ := strings.Cut(next.body, "\r\n\r\n")
	if !strings.Contains(header, "\r\nContent-Type: multipart/encrypted") {
		t.Errorf("%q", next.body)
	}
	return body
}

func encryptedInTheClear(t *testing.T, codes map[string]bool) string {
	a := agent(home, Config{}, &kept{})
	a.Encrypt = func(_ context.Context, _ *message.Envelope, _ *message.Header, text io.Reader) (io.Reader, error) {
		return text, nil
	}
	return dialogue(t, a, codes, mailFrom)
}

// notConfigurable is the key at which a configuration is refused.
func notConfigurable(cfg Config) func(*testing.T, map[string]bool) string {
	return func(*testing.T, map[string]bool) string { return strings.Join(problems(cfg), " ") }
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
			if got != shownThere && !strings.HasPrefix(got, r.reply) {
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
	written(t, "table", table.String())
	written(t, "example", example(t))
	written(t, "example-7bit", sevenBits(t))
}

// becoming shows two texts.
func becoming(before, after string) string {
	unix := strings.NewReplacer("\r\n", "\n", "$ID", "0123456789abcdefghij")
	return fmt.Sprintf("```text\n%s\n```\n\nis passed on as\n\n```text\n%s\n```\n", unix.Replace(before), unix.Replace(after))
}

// example is a message of a careless client, before and after.
func example(t *testing.T) string {
	h := &house{as: map[string][]string{"keeper": {"keeper@light.example"}}, rights: home.rights}
	cfg := Config{Complete: true, Expand: []string{"light.example"}, Sender: "add"}
	in := "Bcc: nurse@hospital.example\r\nFrom: keeper (The Keeper)\r\nTo: Sales <info@sales>, doctor@hospital.example\r\nDate: 2026-01-02 17:00:00 +0200\r\nSubject: lamp oil\r\n\r\nSend ten casks."
	header, reply := sent(t, h, cfg, in)
	if !strings.HasPrefix(reply, "250 ") {
		t.Error(reply)
	}
	_, text, _ := strings.Cut(in, "\r\n\r\n")
	return becoming(in, header+"\r\n\r\n"+text)
}

// sevenBits is a message in 8-bit text without Date and Message-ID, and what a next hop without 8BITMIME gets of it.
func sevenBits(t *testing.T) string {
	const in = "From: keeper@light.example\r\nTo: doctor@hospital.example\r\nSubject: Oel\r\n\r\nDas Öl für die Lampe ist aus. Bitte zehn Fässer.\r\n"
	var next kept
	dialogue(t, agent(home, Config{}, &next), nil, mailFrom+" BODY=8BITMIME", rcptTo, "DATA", strings.TrimSuffix(in, "\r\n"))
	_, text, _ := strings.Cut(strings.ReplaceAll(next.body, next.env.ID.String(), "$ID"), "\r\nFrom:") // without our Received field
	text = "From:" + text
	plan, err := convert.Examine(strings.NewReader(text), message.Body7Bit)
	if err != nil || !plan.Needed() {
		t.Fatal(plan, err)
	}
	out, err := io.ReadAll(plan.Reader(strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	return becoming(strings.TrimSuffix(in, "\r\n"), strings.TrimSuffix(string(out), "\r\n"))
}

// written holds that a part of docs/submission.md between two marks is what it should be, or writes it under -update.
func written(t *testing.T, part, want string) {
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
