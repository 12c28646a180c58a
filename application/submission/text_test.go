package submission

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
)

// What is sent on: RFC 5322 §3.6.6.
func TestResent(t *testing.T) {
	const original = "From: doctor@hospital.example\r\nDate: Thu, 01 Jan 2026 08:00:00 +0200\r\nMessage-ID: <1@hospital.example>\r\n\r\nbody"
	for _, c := range []struct{ name, in, want string }{
		{
			"bare", "Resent-From: keeper@light.example\r\nResent-To: nurse@hospital.example\r\n",
			"Resent-Date: Fri, 02 Jan 2026 15:04:05 +0000\r\nResent-Message-ID: <$ID@mail.light.example>\r\nResent-From: keeper@light.example\r\nResent-To: nurse@hospital.example\r\n",
		},
		{
			"complete", "Resent-From: keeper@light.example\r\nResent-Date: Fri, 02 Jan 2026 15:00:00 +0000\r\nResent-Message-ID: <2@light.example>\r\nResent-Bcc: nurse@hospital.example\r\n",
			"Resent-From: keeper@light.example\r\nResent-Date: Fri, 02 Jan 2026 15:00:00 +0000\r\nResent-Message-ID: <2@light.example>\r\n",
		},
		{
			"the second time", "Resent-Date: Fri, 02 Jan 2026 15:00:00 +0000\r\nResent-From: keeper@light.example\r\nResent-Message-ID: <2@light.example>\r\nResent-Date: Thu, 01 Jan 2026 15:00:00 +0000\r\nResent-From: nurse@hospital.example\r\n",
			"Resent-Date: Fri, 02 Jan 2026 15:00:00 +0000\r\nResent-From: keeper@light.example\r\nResent-Message-ID: <2@light.example>\r\nResent-Date: Thu, 01 Jan 2026 15:00:00 +0000\r\nResent-From: nurse@hospital.example\r\n",
		},
	} {
		var next kept
		env := &message.Envelope{ID: message.NewID(now), Account: "keeper"}
		a := agent(home, Config{Resend: true, Sender: "add"}, &next)
		if err := a.Accept(t.Context(), env, strings.NewReader(c.in+original)); err != nil || next.body != strings.ReplaceAll(c.want, "$ID", env.ID.String())+original {
			t.Errorf("%s: %v\n%q", c.name, err, next.body)
		}
	}
	var next kept
	a := agent(home, Config{Resend: true, Complete: true, Rewrite: rewrites.Rewrite}, &next)
	if err := a.Accept(t.Context(), &message.Envelope{Account: "keeper"}, strings.NewReader("Resent-From: K <kpr>\r\nResent-To: a@b.foo.example\r\nX: 1\r\nResent-From: a@b.foo.example\r\n"+original)); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"Resent-From: K <keeper@light.example>\r\nResent-To: a@foo.example\r\nX: 1\r\nResent-From: a@b.foo.example\r\n"} {
		if !strings.Contains(next.body, want) {
			t.Errorf("%q", next.body)
		}
	}
	for in, want := range map[string]string{
		"Resent-To: nurse@hospital.example\r\n":                                                        "554 5.6.0",
		"Resent-From: keeper@light.example\r\nResent-Sender: doctor@hospital.example\r\n":              "550 5.7.1",
		"Resent-To: x@y.example\r\nX-Between: 1\r\nResent-From: keeper@light.example\r\n":              "554 5.6.0",
		"Resent-From: keeper@light.example, doctor@hospital.example\r\nResent-To: nurse@a.example\r\n": "550 5.7.1",
		"Resent-From: keeper@light.example\r\nResent-Date: x\r\nResent-To: nobody\r\n":                 "554 5.6.0",
		"Resent-From: keeper\r\nResent-To: nurse@hospital.example\r\n":                                 "554 5.6.0",
		"X-First: 1\r\nResent-From: doctor@hospital.example\r\nResent-From: keeper@light.example\r\n":  "550 5.7.1",
	} {
		a := agent(home, Config{Resend: true}, &kept{})
		if got := said(a.Accept(t.Context(), &message.Envelope{Account: "keeper"}, strings.NewReader(in+original))); !strings.HasPrefix(got, want) {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// What is refused behind the client's back is whole, is its account's, and is wanted to be told of: RFC 6409 §3.2.
func TestBounce(t *testing.T) {
	const bad = ours + "\r\nTo: a b c\r\n\r\nbody"
	broken := errors.New("cut")
	told := func(*message.Envelope, []byte, smtp.Reply, time.Time) (*message.Envelope, []byte) {
		return &message.Envelope{}, []byte("notice")
	}
	untold := func(*message.Envelope, []byte, smtp.Reply, time.Time) (*message.Envelope, []byte) { return nil, nil }
	keeper := message.Address{Local: "keeper", Domain: "light.example"}
	full := smtp.Reply{Code: 452, Enhanced: [3]int{4, 3, 1}, Text: "disk full"}
	for _, c := range []struct {
		name       string
		notice     func(*message.Envelope, []byte, smtp.Reply, time.Time) (*message.Envelope, []byte)
		env        message.Envelope
		body       io.Reader
		next       smtp.Acceptor
		want, gets string
	}{
		{"told", told, message.Envelope{Account: "keeper", ReversePath: keeper}, strings.NewReader(bad), &kept{}, "250", "notice"},
		{"NOTIFY=NEVER", untold, message.Envelope{Account: "keeper", ReversePath: keeper}, strings.NewReader(bad), &kept{}, "554 5.6.0", ""},
		{"nobody to tell", told, message.Envelope{Account: "keeper"}, strings.NewReader(bad), &kept{}, "554 5.6.0", ""},
		{"not known", told, message.Envelope{ReversePath: keeper}, strings.NewReader(bad), &kept{}, "554 5.6.0", ""},
		{"no notices", nil, message.Envelope{Account: "keeper", ReversePath: keeper}, strings.NewReader(bad), &kept{}, "554 5.6.0", ""},
		{"cut", told, message.Envelope{Account: "keeper", ReversePath: keeper}, io.MultiReader(strings.NewReader(bad), iotest.ErrReader(broken)), &kept{}, "cut", ""},
		{"the queue's own refusal", told, message.Envelope{Account: "keeper", ReversePath: keeper}, strings.NewReader(ours + "\r\n\r\nbody"), refuser{full}, "452 4.3.1", ""},
		{"nor is there room for the notice", told, message.Envelope{Account: "keeper", ReversePath: keeper}, strings.NewReader(bad), refuser{full}, "452 4.3.1", ""},
	} {
		a := agent(home, Config{Refusals: "bounce", Postmaster: true}, c.next)
		a.Notice = c.notice
		got := said(a.Accept(t.Context(), &c.env, c.body))
		if k, _ := c.next.(*kept); !strings.HasPrefix(got, c.want) || k != nil && k.body != c.gets {
			t.Errorf("%s: %s, the queue got %q", c.name, got, k.body)
		}
	}
}

func TestFollow(t *testing.T) {
	asked := map[string]int{}
	a := agent(home, Config{CNAMEs: []string{"*"}}, nil)
	a.Canonical = func(_ context.Context, domain string) string {
		asked[domain]++
		return "canonical.example"
	}
	follow, done := a.follower(t.Context())
	for in, want := range map[string]string{
		"a@www.hospital.example": "a@canonical.example", "b@www.hospital.example": "b@canonical.example", "a@light.example": "a@light.example",
		"a@[192.0.2.1]": "a@[192.0.2.1]", "a@π.example": "a@canonical.example", "postmaster": "postmaster",
	} {
		if got := follow(parsed(t, in)).String(); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
	done()
	if fmt.Sprint(asked) != "map[www.hospital.example:1 xn--1xa.example:1]" {
		t.Error(asked)
	}
	if got := follow(parsed(t, "a@late.example")).String(); got != "a@late.example" {
		t.Error("asked after the end:", got)
	}
}

func TestReaders(t *testing.T) {
	var r Readers
	r.Note(netip.Addr{}, "nobody", now)
	first := netip.MustParseAddr("192.0.2.1")
	r.Note(netip.MustParseAddr("::ffff:192.0.2.1"), "keeper", now)
	if got := r.account(first, now.Add(time.Minute), time.Hour); got != "keeper" {
		t.Errorf("%q", got)
	}
	addr := netip.MustParseAddr("2001:db8::")
	for i := range maxReaders {
		addr = addr.Next()
		r.Note(addr, "nurse", now.Add(time.Duration(i+1)))
	}
	if len(r.last) != maxReaders || r.account(first, now, time.Hour) != "" || r.account(addr, now, time.Hour) != "nurse" {
		t.Errorf("%d remembered", len(r.last))
	}
	if (*Readers)(nil).account(first, now, time.Hour) != "" {
		t.Error("nobody remembers")
	}
}
