package smtp

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"bothy/application/message"
)

// peer is a go-smtp server's backend, session and mailbox in one.
type peer struct {
	from  string
	asked string // the parameters of the last MAIL and RCPT
	to    []string
	mails []string
}

func (p *peer) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return p, nil }
func (p *peer) AuthMechanisms() []string                        { return []string{"PLAIN"} }
func (p *peer) Reset()                                          { p.from, p.to = "", nil }
func (p *peer) Logout() error                                   { return nil }

func (p *peer) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		if username != "keeper" || password != "lamp" {
			return gosmtp.ErrAuthFailed
		}
		return nil
	}), nil
}

func (p *peer) Mail(from string, o *gosmtp.MailOptions) error {
	p.from = from
	p.asked = fmt.Sprintln(o.Body, o.RequireTLS, o.Return, o.EnvelopeID)
	return nil
}

func (p *peer) Rcpt(to string, o *gosmtp.RcptOptions) error {
	p.asked += fmt.Sprintln(o.Notify, o.OriginalRecipientType, o.OriginalRecipient)
	if strings.HasPrefix(to, "nobody@") {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "who?"}
	}
	p.to = append(p.to, to)
	return nil
}

func (p *peer) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	p.mails = append(p.mails, string(b))
	return err
}

// plainClient is SASL PLAIN for our client.
type plainClient struct{}

func (plainClient) Name() string                { return "PLAIN" }
func (plainClient) Start() ([]byte, error)      { return []byte("\x00keeper\x00lamp"), nil }
func (plainClient) Next([]byte) ([]byte, error) { return nil, io.ErrUnexpectedEOF }

// Our client against emersion/go-smtp's server: STARTTLS, AUTH, small and large messages, DATA and BDAT.
func TestClientWithGoSMTP(t *testing.T) {
	p := &peer{}
	srv := gosmtp.NewServer(p)
	srv.Domain, srv.TLSConfig, srv.MaxMessageBytes = "light.example", testTLS(t), 1<<20
	srv.EnableSMTPUTF8, srv.EnableDSN, srv.EnableREQUIRETLS, srv.EnableBINARYMIME = true, true, true, true
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l)
	defer srv.Close()
	large := strings.Repeat("a line of it\r\n..\r\n.\r\n", 10_000)
	for _, drop := range []string{"", "CHUNKING", "PIPELINING"} {
		p.mails = nil
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c := NewClient(NewConn(nc), "site.example", Timeouts{})
		for _, step := range []func() error{
			func() error { return c.Greet(t.Context()) },
			func() error { return c.StartTLS(t.Context(), testTLSClient) },
			func() error { return c.Auth(t.Context(), plainClient{}) },
			func() error { return c.Noop(t.Context()) },
			func() error { return c.Reset(t.Context()) },
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		delete(c.keywords, drop)
		for i, text := range []string{hello, large, "", hello} {
			replies, err := c.Send(t.Context(), envelope(recipients("keeper", "nobody")), strings.NewReader(text), int64(len(text)))
			if err != nil || replies[0].Code != 250 || replies[1].Code != 550 {
				t.Fatalf("without %q, message %d: %v %v", drop, i, replies, err)
			}
			if len(p.mails) != i+1 || p.mails[i] != text {
				t.Fatalf("without %q, message %d: %d mails", drop, i, len(p.mails))
			}
		}
		if replies, err := c.Send(t.Context(), envelope(recipients("nobody")), strings.NewReader(hello), int64(len(hello))); err != nil || replies[0].Code != 550 {
			t.Fatal(replies, err)
		}
		if replies, err := c.Send(t.Context(), envelope(recipients("a")), strings.NewReader(hello), int64(len(hello))); err != nil || replies[0].Code != 250 {
			t.Fatal(replies, err)
		}
		texts := []string{hello, large, "", hello, hello}
		results := make([][]Reply, len(texts))
		p.mails = nil
		if err := c.SendMany(t.Context(), outgoing(texts, results, "nobody", "keeper"), 5); err != nil || !slices.Equal(p.mails, texts) {
			t.Fatalf("without %q: %d mails, %v %v", drop, len(p.mails), results, err)
		}
		if drop == "" {
			env := &message.Envelope{Recipients: recipients("keeper"), RequireTLS: true, Return: message.ReturnHeaders, EnvelopeID: "a b+c", Body: message.BodyBinary}
			env.Recipients[0].Notify, env.Recipients[0].Original = message.NotifySuccess|message.NotifyDelay, "rfc822;k+2Bb@light.example"
			replies, err := c.Send(t.Context(), env, strings.NewReader("\x00\n"), 2)
			if want := "BINARYMIME true HDRS a b+c\n[SUCCESS DELAY] RFC822 k+b@light.example\n"; err != nil || replies[0].Code != 250 || p.asked != want {
				t.Errorf("%v %v, asked for %q, want %q", replies, err, p.asked, want)
			}
		}
		if err := c.Quit(t.Context()); err != nil {
			t.Fatal(err)
		}
		nc.Close()
	}
}

// emersion/go-smtp's client against our server.
func TestServerWithGoSMTP(t *testing.T) {
	st := &store{}
	srv := newServer(st)
	srv.TLS, srv.Offer = testTLS(t), everything
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		nc, err := l.Accept()
		if err == nil {
			err = srv.Serve(context.Background(), NewConn(nc))
			nc.Close()
		}
		done <- err
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := gosmtp.NewClientStartTLS(nc, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("a line of it\r\n..\r\n.\r\n", 10_000)
	for i, text := range []string{hello, large} {
		if err := c.SendMail("a@site.example", []string{"keeper@light.example", "b@light.example"}, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		if got := st.text(t, i); got != text {
			t.Errorf("message %d: %d octets, want %d", i, len(got), len(text))
		}
	}
	if err := c.Mail("a@site.example", &gosmtp.MailOptions{RequireTLS: true, Return: gosmtp.DSNReturnHeaders, EnvelopeID: "a b+c"}); err != nil {
		t.Error(err)
	}
	notify := []gosmtp.DSNNotify{gosmtp.DSNNotifySuccess, gosmtp.DSNNotifyDelayed}
	if err := c.Rcpt("keeper@light.example", &gosmtp.RcptOptions{Notify: notify, OriginalRecipientType: gosmtp.DSNAddressTypeRFC822, OriginalRecipient: "k+b@light.example"}); err != nil {
		t.Error(err)
	}
	if w, err := c.Data(); err != nil || w.Close() != nil {
		t.Error(err)
	}
	if env := st.mails[2].env; env.Return != message.ReturnHeaders || env.EnvelopeID != "a b+c" || !env.RequireTLS ||
		env.Recipients[0].Notify != message.NotifySuccess|message.NotifyDelay || env.Recipients[0].Original != "RFC822;k+2Bb@light.example" {
		t.Errorf("%+v", env)
	}
	if err := c.Mail("a@site.example", &gosmtp.MailOptions{Size: 60_000_000}); err == nil {
		t.Error("60 MB were accepted")
	}
	if err := c.Quit(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	to := func(r message.Recipient) bool { return r.Address.Local == "b" }
	if !slices.ContainsFunc(st.mails[0].env.Recipients, to) {
		t.Errorf("%v", st.mails[0].env.Recipients)
	}
}
