package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	gosasl "github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"
)

// stranger is a smarthost by somebody else's hand: emersion/go-smtp with PLAIN for site:secret, behind TLS.
type stranger struct {
	mu  sync.Mutex
	got []string
}

func (s *stranger) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return &visit{stranger: s}, nil }

type visit struct {
	*stranger
	login bool
	text  string
}

func (v *visit) AuthMechanisms() []string { return []string{gosasl.Plain} }

func (v *visit) Auth(string) (gosasl.Server, error) {
	return gosasl.NewPlainServer(func(_, username, password string) error {
		if username != "site" || password != "secret" {
			return errors.New("wrong")
		}
		v.login = true
		return nil
	}), nil
}

func (v *visit) Mail(from string, _ *gosmtp.MailOptions) error {
	if !v.login {
		return gosmtp.ErrAuthRequired
	}
	v.text = from
	return nil
}

func (v *visit) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	if strings.HasPrefix(to, "carol") {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "who?"}
	}
	v.text += " " + to
	return nil
}

func (v *visit) Data(r io.Reader) error {
	content, err := io.ReadAll(r)
	_, text, _ := strings.Cut(string(content), "\r\n\r\n")
	v.mu.Lock()
	defer v.mu.Unlock()
	v.got = append(v.got, fmt.Sprintf("%s %q", v.text, text))
	return err
}

func (v *visit) Reset()        { v.text = "" }
func (v *visit) Logout() error { return nil }

// TestStrangeSmarthost: real sockets, real TLS of both kinds, and a server that is not ours.
func TestStrangeSmarthost(t *testing.T) {
	ca := newAuthority(t)
	for _, kind := range []string{"STARTTLS", "implicit TLS"} {
		t.Run(kind, func(t *testing.T) {
			s := new(stranger)
			server := gosmtp.NewServer(s)
			server.Domain = "mail.provider.example"
			server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "mail.provider.example")}}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			hop := "mail.provider.example:587"
			listener := l
			if kind != "STARTTLS" {
				hop, listener = "mail.provider.example:465", tls.NewListener(l, server.TLSConfig)
			}
			go server.Serve(listener)
			defer server.Close()

			sent := make(chan string, 10)
			q := openQueue(t, oneLane("smarthost/"+hop), nil)
			r, err := New(Options{
				Queue: q, Hostname: "light.example", TLS: &tls.Config{RootCAs: ca.pool}, Log: slog.New(slog.DiscardHandler),
				Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
					if address != hop {
						return nil, fmt.Errorf("dialled %s", address)
					}
					return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
				},
				Sent: func(_ queue.Lane, _ message.ID, to message.Address, reply smtp.Reply) {
					sent <- fmt.Sprintf("%s %d", to.Local, reply.Code)
				},
			}, Config{Username: "site", Password: "secret"}, hop)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- r.Run(ctx) }()
			env := &message.Envelope{ID: message.NewID(time.Now()), ReversePath: message.Address{Local: "keeper", Domain: "light.example"}}
			for _, local := range []string{"bob", "carol"} {
				env.Recipients = append(env.Recipients, message.Recipient{Address: message.Address{Local: local, Domain: "far.example"}})
			}
			if err := q.Accept(t.Context(), env, strings.NewReader("Subject: x\r\n\r\n.hello\r\n..\r\n")); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"bob 250", "carol 550"} {
				select {
				case got := <-sent:
					if got != want {
						t.Errorf("%s, want %s", got, want)
					}
				case <-time.After(10 * time.Second):
					t.Fatal("nothing was sent")
				}
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if got := strings.Join(s.got, "; "); got != `keeper@light.example bob@far.example ".hello\r\n..\r\n"` {
				t.Errorf("it got %s", got)
			}
		})
	}
}
