package sasl

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/xdg-go/scram"
)

// RFC 7677 §3, byte for byte.
const (
	clientFirstText = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
	serverFirstText = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	clientFinalText = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	serverFinalText = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
)

func vectorClient() *scramClient {
	c := SCRAM("user", "pencil", Channel{}, false).(*scramClient)
	c.nonce = "rOprNGfwEbeRWgbNEkqO"
	return c
}

func TestVectorClient(t *testing.T) {
	c := vectorClient()
	if first, err := c.Start(); err != nil || string(first) != clientFirstText {
		t.Fatalf("%q, %v", first, err)
	}
	if final, err := c.Next([]byte(serverFirstText)); err != nil || string(final) != clientFinalText {
		t.Fatalf("%q, %v", final, err)
	}
	if err := Finish(c); !errors.Is(err, ErrServer) {
		t.Fatalf("believes a success without the server's proof: %v", err)
	}
	if end, err := c.Next([]byte(serverFinalText)); err != nil || end == nil || len(end) != 0 {
		t.Fatalf("%q, %v", end, err)
	}
	if err := Finish(c); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Next(nil); !errors.Is(err, ErrServer) {
		t.Fatalf("challenge after the end: %v", err)
	}
}

var vectorVerifier = sync.OnceValue(func() Verifier {
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	salted, err := saltedPassword("pencil", salt, 4096)
	if err != nil {
		panic(err)
	}
	v := Verifier{Account: "user", Salt: salt, Iterations: 4096}
	v.Keys = keys(salted)
	return v
})

// vectorServer has answered the RFC's first message with the RFC's second one.
func vectorServer(t *testing.T) *scramServer {
	t.Helper()
	a := &Authenticator{Accounts: house{verifiers: map[string]Verifier{"user": vectorVerifier()}}}
	s := start(t, a, SCRAMSHA256, plainChannel).(*scramServer)
	challenge, done, err := s.Next(t.Context(), []byte(clientFirstText))
	if err != nil || done {
		t.Fatalf("%q, %v, %v", challenge, done, err)
	}
	s.nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	if want := strings.Replace(string(challenge), "r="+mustFirst(t, challenge).nonce, "r="+s.nonce, 1); want != serverFirstText {
		t.Fatalf("got %q", challenge)
	}
	s.challenge = serverFirstText
	return s
}

func mustFirst(t *testing.T, challenge []byte) serverFirst {
	t.Helper()
	m, err := parseServerFirst(string(challenge))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestVectorServer(t *testing.T) {
	s := vectorServer(t)
	final, done, err := s.Next(t.Context(), []byte(clientFinalText))
	if err != nil || done || string(final) != serverFinalText {
		t.Fatalf("%q, %v, %v", final, done, err)
	}
	if _, done, err := s.Next(t.Context(), []byte{}); err != nil || !done || s.Identity() != "user" {
		t.Fatalf("%v, %v, as %q", done, err, s.Identity())
	}
	if _, done, err := s.Next(t.Context(), []byte{}); err == nil || done {
		t.Fatal("goes on after the end")
	}
	s = vectorServer(t)
	s.Next(t.Context(), []byte(clientFinalText))
	if _, done, err := s.Next(t.Context(), []byte("x")); !errors.Is(err, ErrMalformed) || done || s.Identity() != "" {
		t.Fatalf("last response not empty: %v, %v, as %q", done, err, s.Identity())
	}
}

// A message cut anywhere is refused by whoever reads it, and so is one with an octet changed.
func TestMutilated(t *testing.T) {
	mutilate := func(whole string, try func(message string) error) {
		for n := range len(whole) {
			if try(whole[:n]) == nil {
				t.Errorf("cut to %q: accepted", whole[:n])
			}
			changed := []byte(whole)
			changed[n] ^= 1
			if try(string(changed)) == nil {
				t.Errorf("changed to %q: accepted", changed)
			}
		}
	}
	mutilate(clientFinalText, func(m string) error {
		_, _, err := vectorServer(t).Next(t.Context(), []byte(m))
		return err
	})
	ready := vectorClient()
	ready.Start()
	ready.Next([]byte(serverFirstText))
	mutilate(serverFinalText, func(m string) error {
		c := *ready
		_, err := c.Next([]byte(m))
		return errors.Join(err, Finish(&c))
	})
	mutilate(serverFirstText, func(m string) error { // what it accepts leads to a proof that the server refuses
		c := vectorClient()
		c.Start()
		final, err := c.Next([]byte(m))
		if err != nil {
			return err
		}
		s := vectorServer(t)
		_, _, err = s.Next(t.Context(), final)
		return err
	})
}

func TestOddMessages(t *testing.T) {
	for _, m := range []string{
		"", "n", "n,", "n,,", "x,,n=a,r=b", "n,,n=a", "n,,r=b,n=a", "n,,n=,r=b", "n,,n=a,r=", "n,,N=a,r=b", "n,a,n=a,r=b", "n,a=,n=a,r=b",
		"n,,m=x,n=a,r=b",     // RFC 5802 §5.1: mandatory extension
		"n,,n=a,r=b,m=x",     // the same elsewhere
		"n,,n=a=2c,r=b",      // escapes are upper case
		"n,,n=a=,r=b",        // RFC 5802 §5.1: "=" without 2C or 3D
		"n,,n=a,r=b,",        // trailing comma
		"n,,n=a,r=b,x",       // extension without value
		"n,,n=a,r=b,1=x",     // extension whose name is not a letter
		"n,,n=a\x00,r=b",     // NUL
		"n,,n=\xff,r=b",      // not UTF-8
		"n,,n=a,r=b\xc3\xa4", // nonce is visible ASCII
		"n,,n=a,r=b c",
		"p=,,n=a,r=b", "p=tls_x,,n=a,r=b", "p,,n=a,r=b", "y=,,n=a,r=b", "F,n,,n=a,r=b",
		strings.Repeat("n", MaxMessage+1),
	} {
		if _, _, err := start(t, newAuthenticator(), SCRAMSHA256, plainChannel).Next(t.Context(), []byte(m)); !errors.Is(err, ErrMalformed) {
			t.Errorf("client-first %.40q: %v", m, err)
		}
	}
	for _, m := range []string{"n,,n=\x07,r=b", "n,,n=\u00ad,r=b"} { // RFC 5802 §5.1: names that SASLprep refuses
		if _, _, err := start(t, newAuthenticator(), SCRAMSHA256, plainChannel).Next(t.Context(), []byte(m)); !errors.Is(err, ErrCredentials) {
			t.Errorf("client-first %q: %v", m, err)
		}
	}
	if m, err := parseClientFirst("n,a=x=2Cy,n=a=3Db=2C=3D,r=b,x=ignored,y=z"); err != nil || m.username != "a=b,=" || m.authzid != "x,y" || m.nonce != "b" {
		t.Errorf("%+v, %v", m, err)
	}
	for _, m := range []string{
		"", "c=biws", "c=biws,p=AAAA", "r=x,c=biws,p=AAAA", "c=biws,r=x", "c=biws,r=x,p=AA\nAA", "c=bi\r\nws,r=x,p=AAAA", "c=biws,r=x,p=AAA",
		"c=biws,r=x,p=AAB=", "c=biws,r=x,p=AAAA,x=y", "m=x,c=biws,r=x,p=AAAA", "c=biws,r=x,m=y,p=AAAA", "c=,r=x,p=AAAA", "c=biws,r=x,,p=AAAA",
	} {
		if _, err := parseClientFinal(m); err == nil {
			t.Errorf("client-final %q: accepted", m)
		}
	}
	for _, m := range []string{
		"", "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", // no server nonce
		"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"m=x,r=rOprNGfwEbeRWgbNEkqO%x,s=AAAA,i=4096",
		"r=rOprNGfwEbeRWgbNEkqO%x,s=,i=4096",
		"r=rOprNGfwEbeRWgbNEkqO%x,s=AAAA,i=4095",
		"r=rOprNGfwEbeRWgbNEkqO%x,s=AAAA,i=04096",
		"r=rOprNGfwEbeRWgbNEkqO%x,s=AAAA,i=+4096",
		"r=rOprNGfwEbeRWgbNEkqO%x,s=AAAA,i=99999999999999999999",
		"r=rOprNGfwEbeRWgbNEkqO%x,s=AAAA,i=1000001",
		"r=rOprNGfwEbeRWgbNEkqO%x,s=" + strings.Repeat("AAAA", 400) + ",i=4096",
		"r=rOprNGfwEbeRWgbNEkqO%x,i=4096,s=AAAA",
		"e=other-error",
	} {
		c := vectorClient()
		c.Start()
		if _, err := c.Next([]byte(m)); !errors.Is(err, ErrServer) {
			t.Errorf("server-first %.60q: %v", m, err)
		}
	}
	c := vectorClient()
	c.Start()
	c.Next([]byte(serverFirstText))
	if _, err := c.Next([]byte("e=invalid-proof")); !errors.Is(err, ErrCredentials) || Finish(c) == nil {
		t.Errorf("server-final with an error: %v", err)
	}
}

// A server that does not know the account cannot pass for one that does.
func TestWrongServer(t *testing.T) {
	a := newAuthenticator()
	h := house{verifiers: map[string]Verifier{}}
	v := newHouse().verifiers["keeper"]
	v.ServerKey = make([]byte, 32)
	h.verifiers["keeper"] = v
	a.Accounts = h
	c := SCRAM("keeper", keeperPassword, Channel{}, false)
	if err := converse(t, c, start(t, a, SCRAMSHA256, plainChannel)); !errors.Is(err, ErrServer) || Finish(c) == nil {
		t.Error(err)
	}
}

func TestAuthorizationIdentity(t *testing.T) {
	for authzid, want := range map[string]error{"a=keeper": nil, "a=keeper@light.example": nil, "a=clinic": ErrCredentials, "a=nobody": ErrCredentials} {
		c := SCRAM("keeper", keeperPassword, Channel{}, false).(*scramClient)
		c.header = "n," + authzid + ","
		s := start(t, newAuthenticator(), SCRAMSHA256, plainChannel)
		if err := converse(t, c, s); !errors.Is(err, want) || (s.Identity() == "keeper") != (want == nil) {
			t.Errorf("%s: %v, as %q", authzid, err, s.Identity())
		}
	}
}

// RFC 5802 §6, RFC 9266 §3.
func TestChannelBinding(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		near, far := handshake(t, version, "")
		elsewhere, _ := handshake(t, version, "")
		want := map[uint16]string{tls.VersionTLS12: "tls-unique", tls.VersionTLS13: "tls-exporter"}[version]
		if b, ok := near.binding(); !ok || b.name != want {
			t.Errorf("TLS %x: %s, %v", version, b.name, ok)
		}
		s := start(t, newAuthenticator(), SCRAMSHA256Plus, far)
		if err := converse(t, SCRAM("keeper", keeperPassword, elsewhere, true), s); !errors.Is(err, ErrCredentials) {
			t.Errorf("TLS %x: somebody in the middle: %v", version, err)
		}
		flags := []struct{ mechanism, flag string }{
			{SCRAMSHA256, "y"}, // we offered PLUS: somebody hid it
			{SCRAMSHA256, "p=" + want},
			{SCRAMSHA256Plus, "n"},
			{SCRAMSHA256Plus, "y"},
			{SCRAMSHA256Plus, "p=tls-server-end-point"},
			{SCRAMSHA256Plus, "p=tls-unknown"},
		}
		for _, f := range flags {
			s := start(t, newAuthenticator(), f.mechanism, far)
			if _, _, err := s.Next(t.Context(), []byte(f.flag+",,n=keeper,r=abc")); !errors.Is(err, ErrCredentials) {
				t.Errorf("TLS %x: %v: %v", version, f, err)
			}
		}
		// Where PLUS is not allowed, a client that could bind is right to say "y".
		a := newAuthenticator()
		a.Allowed = []string{SCRAMSHA256}
		if err := converse(t, SCRAM("keeper", keeperPassword, near, false), start(t, a, SCRAMSHA256, far)); err != nil {
			t.Errorf("TLS %x: honest y: %v", version, err)
		}
	}
	if _, ok := (Channel{TLS: &tls.ConnectionState{Version: tls.VersionTLS13}}).binding(); ok {
		t.Error("a handshake that is not complete binds")
	}
}

// Another implementation, as client and as server.
func TestOracle(t *testing.T) {
	near, far := handshake(t, tls.VersionTLS13, "")
	theirs := func(ch Channel) scram.ChannelBinding {
		if ch.TLS == nil {
			return scram.ChannelBinding{}
		}
		cb, err := scram.NewTLSExporterBinding(ch.TLS)
		if err != nil {
			t.Fatal(err)
		}
		return cb
	}
	for _, user := range []struct{ name, password string }{{"keeper", keeperPassword}, {"clinic", clinicPassword}, {"a=b,c", keeperPassword}} {
		for _, ch := range []struct{ near, far Channel }{{Channel{}, plainChannel}, {near, far}} {
			mechanism := newAuthenticator().Mechanisms(ch.far)[0]
			client, err := scram.SHA256.NewClient(user.name, user.password, "")
			if err != nil {
				t.Fatal(err)
			}
			talk := client.NewConversation()
			if mechanism == SCRAMSHA256Plus {
				talk = client.NewConversationWithChannelBinding(theirs(ch.near))
			}
			s := start(t, newAuthenticator(), mechanism, ch.far)
			challenge, done := []byte{}, false
			for !done && err == nil {
				var response string
				if response, err = talk.Step(string(challenge)); err == nil {
					challenge, done, err = s.Next(t.Context(), []byte(response))
				}
			}
			if err != nil || !talk.Valid() {
				t.Errorf("%s by their client: %v, valid %v", mechanism, err, talk.Valid())
			}

			server, err := scram.SHA256.NewServer(func(name string) (scram.StoredCredentials, error) {
				v := newHouse().verifiers[name]
				return scram.StoredCredentials{
					KeyFactors: scram.KeyFactors{Salt: string(v.Salt), Iters: v.Iterations}, StoredKey: v.StoredKey, ServerKey: v.ServerKey,
				}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			answer := server.NewConversation()
			if mechanism == SCRAMSHA256Plus {
				answer = server.NewConversationWithChannelBindingRequired(theirs(ch.far))
			}
			c := SCRAM(user.name, user.password, ch.near, mechanism == SCRAMSHA256Plus)
			response, err := c.Start()
			for err == nil && !answer.Done() {
				var challenge string
				if challenge, err = answer.Step(string(response)); err == nil {
					response, err = c.Next([]byte(challenge))
				}
			}
			if err != nil || !answer.Valid() || Finish(c) != nil {
				t.Errorf("%s at their server: %v, valid %v", mechanism, err, answer.Valid())
			}
		}
	}
}

func FuzzSCRAMMessages(f *testing.F) {
	f.Add(clientFirstText)
	f.Add("p=tls-exporter,a=x,n=a=2C,r=b,x=y")
	f.Add(serverFirstText)
	f.Add(clientFinalText)
	f.Add(serverFinalText)
	f.Add("e=other-error,x=y")
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := parseClientFirst(s); err == nil {
			if m.format() != s || !strings.HasPrefix(s, string(m.header)) || m.nonce == "" || m.username == "" {
				t.Fatalf("%q became %+v", s, m)
			}
			if !strings.Contains(m.bare, "n="+escape(m.username)+",r=") {
				t.Fatalf("%q: user %q", s, m.username)
			}
		}
		if m, err := parseServerFirst(s); err == nil && !strings.HasPrefix(s, m.format()) {
			t.Fatalf("%q became %q", s, m.format())
		}
		if m, err := parseClientFinal(s); err == nil && m.format() != s {
			t.Fatalf("%q became %q", s, m.format())
		}
		if m, err := parseServerFinal(s); err == nil && !strings.HasPrefix(s, m.format()) {
			t.Fatalf("%q became %q", s, m.format())
		}
	})
}

// An account has several passwords under one salt: each logs in by each mechanism that does not need the password itself, and the server
// proves that it knows the one that was used.
func TestApps(t *testing.T) {
	v, err := NewVerifier("keeper", keeperPassword, minIterations)
	if err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{"telephone", "printer"} {
		k, err := v.KeysOf(password)
		if err != nil {
			t.Fatal(err)
		}
		v.Apps = append(v.Apps, k)
	}
	near, far := handshake(t, tls.VersionTLS13, "")
	a := &Authenticator{Accounts: house{verifiers: map[string]Verifier{"keeper": v}}}
	for _, mechanism := range []string{SCRAMSHA256Plus, PLAIN, LOGIN, SCRAMSHA256} {
		if mechanism == SCRAMSHA256 { // over TLS the binding would be missed
			near, far = Channel{}, plainChannel
		}
		for password, ok := range map[string]bool{keeperPassword: true, "telephone": true, "printer": true, "other": false} {
			c, err := Choose([]string{mechanism}, near, Credentials{Username: "keeper", Password: password})
			if err != nil {
				t.Fatal(err)
			}
			s := start(t, a, mechanism, far)
			if err := converse(t, c, s); ok != (err == nil) || ok && (Finish(c) != nil || s.Identity() != "keeper") {
				t.Errorf("%s with %q: %v, %v", mechanism, password, err, Finish(c))
			}
		}
	}
}

// TestRandomSecret: a secret that nobody can guess may be hashed once; a client that has no such secret does not let a server ask for that. Who asks for
// a name that is not there sees the count of those that are.
func TestRandomSecret(t *testing.T) {
	const secret = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	v, err := NewRandomVerifier("join:one", secret)
	if err != nil || v.Iterations != 1 {
		t.Fatal(v.Iterations, err)
	}
	a := &Authenticator{Accounts: invitations{house{verifiers: map[string]Verifier{"join:one": v}}}, Allowed: All()}
	for _, c := range []struct {
		cred Credentials
		want error
	}{
		{Credentials{Username: "join:one", Password: secret, Random: true}, nil},
		{Credentials{Username: "join:one", Password: secret}, ErrServer},
		{Credentials{Username: "join:one", Password: "wrong", Random: true}, ErrCredentials},
		{Credentials{Username: "join:two", Password: secret, Random: true}, ErrCredentials},
		{Credentials{Username: "join:two", Password: secret}, ErrServer},
	} {
		client, err := Choose([]string{SCRAMSHA256}, Channel{}, c.cred)
		if err != nil {
			t.Fatal(err)
		}
		if err := converse(t, client, start(t, a, SCRAMSHA256, plainChannel)); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.cred, err, c.want)
		}
	}
}

// invitations knows how often the secrets of those that are not there would have been hashed.
type invitations struct{ house }

func (i invitations) Verifier(ctx context.Context, name string) (Verifier, error) {
	v, err := i.house.Verifier(ctx, name)
	if err != nil {
		v = Verifier{Iterations: RandomIterations}
	}
	return v, err
}
