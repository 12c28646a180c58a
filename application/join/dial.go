package join

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"bothy/application/odmr"
	"bothy/application/sasl"
	"bothy/application/smtp"
	"bothy/lib/pin"
)

// Credentials are what the site will log in with. It has them on its disk before it redeems anything for them.
type Credentials struct {
	Password    string
	Fingerprint string // of the site's key; empty: it has none to show
}

// NewPassword makes one.
func NewPassword() string { return rand.Text() }

// The ways it fails. What Redeem returns wraps one of them.
var (
	ErrUnreachable = errors.New("the provider was not reached")
	ErrPin         = errors.New("whoever answers there is not the provider that made this invitation, or its key was replaced since")
	ErrUnknown     = errors.New("the provider does not know this invitation")
	ErrRefused     = errors.New("the provider refuses the invitation")
	ErrTrouble     = errors.New("the provider cannot answer now; try again")
)

// verifier is what the provider is told of the password. Its salt follows from the password, so that who asks again asks the same.
func (c Credentials) verifier(t Token) (sasl.Verifier, error) {
	h := hmac.New(sha256.New, []byte(c.Password))
	h.Write([]byte("salt " + t.ID))
	v := sasl.Verifier{Account: t.Account, Salt: h.Sum(nil)[:16], Iterations: sasl.DefaultIterations}
	var err error
	v.Keys, err = v.KeysOf(c.Password)
	return v, err
}

// Redeem calls the provider with dial and exchanges the token for an account that c logs in to. hostname is what the site calls itself. Doing it again
// with the same credentials is no error.
func Redeem(ctx context.Context, dial func(ctx context.Context, network, address string) (net.Conn, error), hostname string, t Token, c Credentials) (Grant, error) {
	v, err := c.verifier(t)
	if err != nil {
		return Grant{}, err
	}
	nc, err := dial(ctx, "tcp", t.Address())
	if err != nil {
		return Grant{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer nc.Close()
	client, err := secure(ctx, nc, hostname, t)
	if err != nil {
		return Grant{}, classify(err, ErrUnreachable)
	}
	offered, _ := client.Has("AUTH")
	mechanism, err := sasl.Choose(scramOnly(offered), sasl.Channel{TLS: client.Conn.TLS()}, sasl.Credentials{Username: login + t.ID, Password: t.Secret, Random: true})
	if err != nil {
		return Grant{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err := client.Auth(ctx, mechanism); err != nil {
		return Grant{}, classify(err, ErrUnknown)
	}
	reply, err := client.Do(ctx, "XJOIN "+request{v, c.Fingerprint}.String(), time.Minute)
	switch {
	case err != nil:
		return Grant{}, classify(err, ErrUnreachable)
	case !reply.Positive():
		return Grant{}, classify(reply, ErrRefused)
	}
	grant, ok := parseGrant(reply.Text)
	if !ok {
		return Grant{}, fmt.Errorf("%w: %w", ErrRefused, reply)
	}
	_ = client.Quit(ctx) // nothing is lost without its reply
	grant.Vouched = vouched(client.Conn.TLS(), t.Host)
	return grant, nil
}

// vouched reports whether an authority that this system trusts says that the server has this name.
func vouched(state *tls.ConnectionState, host string) bool {
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: host, Intermediates: between})
	return err == nil
}

// secure greets under TLS whose other end has the token's key.
func secure(ctx context.Context, nc net.Conn, hostname string, t Token) (*smtp.Client, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.Host}
	pin.Trust(cfg, []string{t.Pin})
	if t.Implicit {
		cfg.NextProtos = odmr.Protocols()
		nc = tls.Client(nc, cfg)
	}
	client := smtp.NewClient(smtp.NewConn(nc), hostname, smtp.Timeouts{Greeting: time.Minute, Command: time.Minute})
	if err := client.Greet(ctx); err != nil || t.Implicit {
		return client, err
	}
	return client, client.StartTLS(ctx, cfg)
}

func scramOnly(offered string) []string {
	var scram []string
	for name := range strings.FieldsSeq(offered) {
		if strings.HasPrefix(strings.ToUpper(name), "SCRAM-") {
			scram = append(scram, name)
		}
	}
	return scram
}

// classify says which kind of error err is; kind is that of a refusal for good.
func classify(err, kind error) error {
	var reply smtp.Reply
	switch {
	case errors.Is(err, pin.ErrMismatch):
		return fmt.Errorf("%w: %w", ErrPin, err)
	case errors.Is(err, sasl.ErrServer):
		return fmt.Errorf("%w: %w", ErrPin, err)
	case !errors.As(err, &reply):
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case reply.Temporary():
		return fmt.Errorf("%w: %w", ErrTrouble, err)
	case kind == ErrRefused:
		return fmt.Errorf("%w: %s", ErrRefused, reply.Text)
	case kind == ErrUnreachable:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return fmt.Errorf("%w: %w", kind, err)
}
