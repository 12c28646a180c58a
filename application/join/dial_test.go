package join

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bothy/application/directory"
	"bothy/application/sasl"
	"bothy/application/smtp"
	"bothy/lib/pin"
	"bothy/lib/sim"
)

// provider is one with a customer, "clinic.example".
type provider struct {
	directory *directory.Directory
	tls       *tls.Config
	now       time.Time
	server    smtp.Server
	implicit  bool
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	d, err := directory.Open(t.Context(), filepath.Join(t.TempDir(), "d.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.AddAccount(t.Context(), directory.Account{Name: "clinic.example"}, "before"); err != nil {
		t.Fatal(err)
	}
	if err := d.AddCustomer(t.Context(), directory.Customer{Account: "clinic.example", Domains: []string{"clinic.example", "lab.clinic.example"}}); err != nil {
		t.Fatal(err)
	}
	p := &provider{directory: d, now: time.Now(), tls: &tls.Config{Certificates: []tls.Certificate{certificate(t)}}}
	desk := &Desk{Directory: d, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return p.now }}
	p.server = smtp.Server{
		Hostname: "provider.example", Protocol: smtp.Held, TLS: p.tls, Auth: &sasl.Authenticator{Accounts: Accounts(d), Allowed: sasl.All()},
		Extensions: []smtp.Extension{desk.Extension()},
	}
	return p
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"another.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// invite makes a token.
func (p *provider) invite(t *testing.T) Token {
	t.Helper()
	i, secret, err := p.directory.Invite(t.Context(), "clinic.example", time.Hour, p.now)
	if err != nil {
		t.Fatal(err)
	}
	return Token{
		Host: "provider.example", Calls: 366, Implicit: p.implicit, Pin: pin.Of(p.tls.Certificates[0].Leaf), Account: i.Account, ID: i.ID, Secret: secret,
		Expires: i.Expires, Domains: []string{"clinic.example"},
	}
}

func (p *provider) dial(context.Context, string, string) (net.Conn, error) {
	near, far := sim.Pipe(sim.Path{})
	go func() {
		defer far.Close()
		conn := net.Conn(far)
		if p.implicit {
			conn = tls.Server(far, p.tls)
		}
		_ = p.server.Serve(context.Background(), smtp.NewConn(conn))
	}()
	return near, nil
}

// TestRedeem: an invitation is good once, for who speaks to the provider that made it; whoever does not have it learns nothing.
func TestRedeem(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		p := newProvider(t)
		p.implicit = implicit
		redeem := func(token Token, password string) (Grant, error) {
			return Redeem(t.Context(), p.dial, "mail.clinic.example", token, Credentials{Password: password, Fingerprint: strings.Repeat("ab", 32)})
		}
		old, token := p.invite(t), p.invite(t)
		wrong := func(change func(*Token)) Token {
			w := token
			change(&w)
			return w
		}
		for _, c := range []struct {
			what     string
			token    Token
			password string
			later    time.Duration
			want     error
			text     string
		}{
			{"a wrong pin", wrong(func(w *Token) { w.Pin = strings.Repeat("00", 32) }), "mine", 0, ErrPin, "not the provider"},
			{"a wrong secret", wrong(func(w *Token) { w.Secret = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" }), "mine", 0, ErrUnknown, "does not know"},
			{"no such invitation", wrong(func(w *Token) { w.ID = "zzzzzzzz" }), "mine", 0, ErrUnknown, "does not know"},
			{"an older one", old, "mine", 0, ErrRefused, "revoked"},
			{"expired", token, "mine", 2 * time.Hour, ErrRefused, "expired on"},
			{"in time", token, "mine", 0, nil, ""},
			{"its reply was lost", token, "mine", 2 * time.Hour, nil, ""},
			{"used by somebody else", token, "theirs", 0, ErrRefused, "was used on"},
		} {
			now := p.now
			p.now = p.now.Add(c.later)
			grant, err := redeem(c.token, c.password)
			p.now = now
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: %v, want %v", c.what, err, c.want)
			}
			if err == nil && (grant.Account != "clinic.example" || len(grant.Domains) != 2) {
				t.Errorf("%s: %+v", c.what, grant)
			}
		}
		if v, err := p.directory.Verifier(t.Context(), "clinic.example"); err != nil || !v.Check("mine") {
			t.Errorf("the account does not have the site's password: %v", err)
		}
	}
}

// TestStrangers: nobody joins without an invitation, and an invitation is good for nothing else.
func TestStrangers(t *testing.T) {
	p := newProvider(t)
	token := p.invite(t)
	log := func(username, password string, secure bool) *smtp.Client {
		nc, _ := p.dial(t.Context(), "", "")
		t.Cleanup(func() { nc.Close() })
		client := smtp.NewClient(smtp.NewConn(nc), "a.example", smtp.Timeouts{})
		if err := client.Greet(t.Context()); err != nil {
			t.Fatal(err)
		}
		if secure {
			if err := client.StartTLS(t.Context(), &tls.Config{InsecureSkipVerify: true}); err != nil {
				t.Fatal(err)
			}
		}
		if username == "" {
			return client
		}
		offered, _ := client.Has("AUTH")
		mechanism, err := sasl.Choose(scramOnly(offered), sasl.Channel{TLS: client.Conn.TLS()}, sasl.Credentials{Username: username, Password: password, Random: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Auth(t.Context(), mechanism); err != nil {
			t.Fatal(err)
		}
		return client
	}
	v, _ := sasl.NewVerifier("", "mine", 4096)
	good := "XJOIN " + request{v, ""}.String()
	for _, c := range []struct {
		what   string
		client *smtp.Client
		line   string
		code   int
	}{
		{"no login", log("", "", true), good, 530},
		{"the login of an account", log("clinic.example", "before", true), good, 530},
		{"in the clear", log("join:"+token.ID, token.Secret, false), good, 538},
		{"no verifier", log("join:"+token.ID, token.Secret, true), "XJOIN", 501},
		{"nonsense", log("join:"+token.ID, token.Secret, true), "XJOIN a b c", 501},
		{"a weak verifier", log("join:"+token.ID, token.Secret, true), "XJOIN SCRAM-SHA-256$1:AAAA$AAAA:AAAA", 550},
	} {
		if r, err := c.client.Do(t.Context(), c.line, time.Minute); err != nil || r.Code != c.code {
			t.Errorf("%s: %v, %v, want %d", c.what, r, err, c.code)
		}
	}
	if v, err := p.directory.Verifier(t.Context(), "clinic.example"); err != nil || !v.Check("before") {
		t.Error("the password was changed")
	}
	if _, err := Redeem(t.Context(), func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route") }, "a.example", token, Credentials{Password: "x"}); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
}
