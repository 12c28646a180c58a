package submission

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/smtp"
)

// forgetful is a policy before which nobody has logged in, though the server thinks so.
type forgetful struct{ *Agent }

func (f forgetful) Mail(ctx context.Context, s *smtp.Session, env *message.Envelope) error {
	s.Identity = ""
	return f.Agent.Mail(ctx, s, env)
}

// certified says MAIL over TLS, with a certificate for name, and returns the reply.
func certified(t *testing.T, a *Agent, name string) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	certificate := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}
	near, far := net.Pipe()
	defer far.Close()
	s := &smtp.Server{
		Hostname: "mail.light.example", Protocol: smtp.Submission, Policy: forgetful{a}, Log: slog.New(slog.DiscardHandler),
		Identify: func(net.Conn) string { return "somebody" },
	}
	go func() {
		defer near.Close()
		s.Serve(t.Context(), smtp.NewConn(tls.Server(near, &tls.Config{Certificates: certificate, ClientAuth: tls.RequestClientCert})))
	}()
	client := tls.Client(far, &tls.Config{Certificates: certificate, InsecureSkipVerify: true})
	r := bufio.NewReader(client)
	reply := hear(t, r)
	for _, line := range []string{"EHLO desk.light.example", mailFrom} {
		if _, err := io.WriteString(client, line+"\r\n"); err != nil {
			t.Fatal(err)
		}
		reply = hear(t, r)
	}
	return reply
}

// TestCertificate: RFC 6409 §3.3.
func TestCertificate(t *testing.T) {
	for _, c := range []struct {
		name    string
		allowed bool
		want    string
	}{{"keeper", true, "250 "}, {"keeper", false, "530 5.7.0 "}, {"stranger", true, "530 5.7.0 "}} {
		if got := certified(t, agent(home, Config{Certificates: c.allowed}, nil), c.name); !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// Who logged in is who he is, wherever he comes from.
func TestIdentityFirst(t *testing.T) {
	s := guest("192.0.2.7:1")
	s.Identity = "nurse"
	env := &message.Envelope{}
	if err := agent(home, network, nil).Mail(t.Context(), s, env); err != nil || env.Account != "nurse" {
		t.Error(env.Account, err)
	}
}

// A message to the postmaster may be anybody's, also in its text; an account's may not.
func TestPostmasterText(t *testing.T) {
	const text = "From: stranger@hospital.example\r\n\r\nmy password does not work"
	var next kept
	a := agent(home, reduced, &next)
	if err := a.Accept(t.Context(), &message.Envelope{}, strings.NewReader(text)); err != nil || !strings.HasPrefix(next.body, "From: stranger@") {
		t.Error(next.body, err)
	}
	if err := a.Accept(t.Context(), &message.Envelope{Account: "keeper"}, strings.NewReader(text)); !strings.HasPrefix(said(err), "550 5.7.1") {
		t.Error(err)
	}
}

// What cron sends through the local socket: RFC 6409 §8.
func TestLocalUsers(t *testing.T) {
	var next kept
	a := New(Options{
		Hostname: "mail.light.example", Directory: Anyone{}, Next: &next, Now: func() time.Time { return now },
		Users: func(name string) bool { return name == "root" },
	})
	env := &message.Envelope{ID: message.NewID(now), Account: "uid:0", ReversePath: message.Address{Local: "root", Domain: "mail.light.example"}}
	if err := a.Accept(t.Context(), env, strings.NewReader("From: root (Cron Daemon)\r\nTo: root\r\nSubject: Cron\r\n\r\nlamp out\r\n")); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(next.body, "From: root@mail.light.example (Cron Daemon)\r\nTo: root@mail.light.example\r\nSubject: Cron\r\n") {
		t.Error(next.body)
	}
	if err := a.Accept(t.Context(), env, strings.NewReader("From: wheel\r\n\r\n")); !strings.HasPrefix(said(err), "554 5.6.0") {
		t.Error(err)
	}
	to := &message.Recipient{Address: message.Address{Local: "root"}}
	if err := a.Rcpt(t.Context(), &smtp.Session{}, env, to); err != nil || to.Address.Domain != "mail.light.example" {
		t.Error(to.Address, err)
	}
}

func TestResolve(t *testing.T) {
	cfg := Config{
		Complete: true, Expand: []string{"hospital.example", "Light.example"},
		Rewrite: map[string]string{
			"kpr": "keeper", "lamp@light.example": "light@foo.example", "lamp@hospital.example": "x@y.example", "doctor@hospital.example": "doctor@clinic.example",
			"@Old.example": "new.example", "*.foo.example": "foo.example", "*.b.foo.example": "b.example", "keeper@light.example": "keeper@light.example",
		},
	}
	a := agent(home, cfg, nil)
	if errs := problems(cfg); len(errs) > 0 {
		t.Fatal(errs)
	}
	for in, want := range map[string]string{
		"keeper": "keeper@light.example", "KPR": "keeper@light.example", "doctor": "doctor", "x@sales": "x@sales.light.example", "x@unknown": "x@unknown",
		"KPR@light.example": "keeper@light.example", "kpr@Foo.example": "keeper@foo.example", "kpr@hospital.example": "kpr@hospital.example",
		"lamp@light.example": "light@foo.example", "lamp@hospital.example": "lamp@hospital.example", "DOCTOR@hospital.example": "doctor@clinic.example",
		"a@old.example": "a@new.example", "a@sub.old.example": "a@sub.old.example", "a@x.y.foo.example": "a@foo.example", "a@x.b.foo.example": "a@b.example",
		"kpr@x.foo.example": "keeper@foo.example", "a@foo.example": "a@foo.example", "a@xfoo.example": "a@xfoo.example", "a@[192.0.2.1]": "a@[192.0.2.1]",
	} {
		if got := a.resolve(parsed(t, in)).String(); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
	// RFC 6409 §8.8: the header is optional
	cfg.Envelope = true
	if got := becomes(home, cfg, "Reply-To", ours+"\r\nReply-To: <kpr@light.example>, keeper")(t, nil); got != "Reply-To: <kpr@light.example>, keeper@light.example" {
		t.Error(got)
	}
}

func problems(cfg Config) (keys []string) {
	cfg.CheckConfig(func(key string, err error) { keys = append(keys, key) })
	return keys
}

func TestCheckConfig(t *testing.T) {
	for want, cfg := range map[string]Config{
		"":                {},
		"network_account": {Networks: lan},
		"networks":        {Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, NetworkAccount: "keeper"},
		"expand":          {Expand: []string{"light..example"}},
		"cnames":          {CNAMEs: []string{"*.light.example"}},
		"forbid":          {Forbid: []string{"X Mailer: x"}},
	} {
		if got := strings.Join(problems(cfg), " "); got != want {
			t.Errorf("%+v: %s", cfg, got)
		}
	}
	for from, to := range map[string]string{
		"": "x", "a b": "c", "x": "", "a@b.example": "c", "a@": "c@d.example", "*.": "x.example", "*.x": "", "@x.example": "a@b.example", "*": "x", "@[192.0.2.1]": "x.example",
	} {
		if got := problems(Config{Rewrite: map[string]string{from: to}}); !slices.Equal(got, []string{"rewrite"}) {
			t.Errorf("%q = %q: %v", from, to, got)
		}
	}
}

func TestFaults(t *testing.T) {
	var log bytes.Buffer
	clock := now
	a := New(Options{
		Directory: Anyone{}, Next: &kept{}, Hostname: "mail.light.example", Now: func() time.Time { return clock },
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	submit := func(account string) {
		t.Helper()
		clock = clock.Add(time.Second)
		text := ours + "\r\nMessage-ID: <1@x.example>\r\nX-Mailer: Meter 2 " + strings.Repeat("x", 200) + "\r\n\r\n"
		if err := a.Accept(t.Context(), &message.Envelope{Account: account}, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	submit("meter")
	submit("meter")
	list := a.Faults.List()
	if len(list) != 1 || list[0].Count != 2 || list[0].Kind != NoDate || list[0].Last.Sub(list[0].First) != time.Second || !strings.HasPrefix(list[0].Client, "Meter 2 ") || len(list[0].Client) != maxClient {
		t.Errorf("%+v", list)
	}
	if lines := strings.Count(log.String(), "client fault"); lines != 1 || !strings.Contains(log.String(), `fault="sends no Date"`) {
		t.Errorf("%d lines: %s", lines, log.String())
	}
	clock = clock.Add(tellAgain)
	submit("meter")
	if lines := strings.Count(log.String(), "client fault"); lines != 2 {
		t.Errorf("%d lines an hour later", lines)
	}
	log.Reset()
	clock = clock.Add(time.Second)
	for i := range maxFaults + 10 {
		a.note(fmt.Sprint(i), BadAddress, "")
	}
	if list = a.Faults.List(); len(list) != maxFaults || slices.ContainsFunc(list, func(f Fault) bool { return f.Account == "meter" }) {
		t.Errorf("%d faults kept", len(list))
	}
	if lines := strings.Count(log.String(), "\n"); lines > tellMost {
		t.Errorf("%d lines in a moment", lines)
	}
}

func TestUsage(t *testing.T) {
	var u Usage
	day := time.Date(2026, 1, 2, 15, 4, 5, 0, time.Local)
	bound := spent{messages: 2, recipients: 5}
	take := func(at time.Time, recipients int) bool {
		return u.take("keeper", aDay, at, spent{messages: 1, recipients: recipients}, bound)
	}
	for i, c := range []struct {
		at   time.Time
		n    int
		want bool
	}{
		{day, 3, true},
		{day, 3, false}, // it uses nothing
		{day, 2, true},
		{day, 0, false},
		{day.AddDate(0, 0, 1), 5, true},
	} {
		if got := take(c.at, c.n); got != c.want {
			t.Errorf("%d: %t", i, got)
		}
	}
	u.give("keeper", aDay, day.AddDate(0, 0, 1), spent{messages: 1, recipients: 5})
	u.give("keeper", aDay, day, spent{messages: 1, recipients: 5}) // of a day that is past
	if !take(day.AddDate(0, 0, 1), 5) || take(day.AddDate(0, 0, 1), 1) {
		t.Error("what was given back cannot be taken")
	}
	if !u.take("nurse", aDay, day, spent{messages: 1}, spent{}) || len(u.spent[aDay]) != 1 {
		t.Error("who has no bound is counted")
	}
	for i := range maxSpent + 10 {
		u.take(fmt.Sprint(i), anHour, day, spent{messages: 1}, bound)
	}
	if len(u.spent[anHour]) > maxSpent || u.take("new", anHour, day, spent{messages: 1}, bound) || !u.take("new", anHour, day.Add(25*time.Hour), spent{messages: 1}, bound) {
		t.Errorf("%d are counted", len(u.spent[anHour]))
	}
	for i := range maxSpent {
		u.take(fmt.Sprint(i), anHour, day.AddDate(0, 0, 3), spent{messages: 1}, bound)
	}
	if !u.take("surgeon", aDay, day.AddDate(0, 0, 3), spent{messages: 1}, bound) {
		t.Error("clients take the room of accounts")
	}
}

// A message that the queue did not take costs nothing; those that come at once do not pass the bound.
func TestAllowance(t *testing.T) {
	h := with(directory.Rights{Messages: 3})
	full := errors.New("disk")
	a := agent(h, Config{}, refuser{full})
	env := func() *message.Envelope {
		return &message.Envelope{Account: "keeper", Recipients: make([]message.Recipient, 1)}
	}
	for range 5 {
		if err := a.Accept(t.Context(), env(), strings.NewReader(ours+"\r\n\r\n")); err != full {
			t.Error(err)
		}
	}
	a.Next = acceptorFunc(func(context.Context, *message.Envelope, io.Reader) error { return nil })
	var sessions sync.WaitGroup
	var mu sync.Mutex
	accepted := 0
	for range 10 {
		sessions.Go(func() {
			if a.Accept(t.Context(), env(), strings.NewReader(ours+"\r\n\r\n")) == nil {
				mu.Lock()
				defer mu.Unlock()
				accepted++
			}
		})
	}
	sessions.Wait()
	if accepted != 3 {
		t.Errorf("%d of 3 messages accepted", accepted)
	}
}

type acceptorFunc func(context.Context, *message.Envelope, io.Reader) error

func (f acceptorFunc) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	return f(ctx, env, body)
}
