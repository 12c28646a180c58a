package sasl

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// house is the Accounts of the tests: keeper, with CRAM-MD5 and a certificate, also known by an address; and clinic, without.
type house struct {
	verifiers map[string]Verifier
	broken    error
}

const (
	keeperPassword = "tanstaaf tanstaaf"
	clinicPassword = "p=,ßword"
)

var newHouse = sync.OnceValue(func() house {
	keeper, err1 := NewVerifier("keeper", keeperPassword, minIterations)
	clinic, err2 := NewVerifier("clinic", clinicPassword, minIterations)
	if err := errors.Join(err1, err2); err != nil {
		panic(err)
	}
	keeper.CRAMSecret = []byte(keeperPassword)
	return house{verifiers: map[string]Verifier{"keeper": keeper, "keeper@light.example": keeper, "clinic": clinic, "a=b,c": keeper}}
})

func (h house) Verifier(_ context.Context, username string) (Verifier, error) {
	v, ok := h.verifiers[username]
	switch {
	case h.broken != nil:
		return v, h.broken
	case !ok:
		return v, ErrCredentials
	}
	return v, nil
}

func (h house) Certificate(_ context.Context, cert *x509.Certificate) (string, error) {
	switch {
	case h.broken != nil:
		return "", h.broken
	case cert.Subject.CommonName == "keeper.example":
		return "keeper", nil
	}
	return "", ErrCredentials
}

func newAuthenticator() *Authenticator {
	return &Authenticator{Accounts: newHouse(), Hostname: "light.example", Allowed: All()}
}

var plainChannel = Channel{Peer: netip.MustParseAddr("192.0.2.1")}

// handshake returns both ends' view of one TLS connection; the client shows a certificate for clientName, if not empty.
func handshake(t testing.TB, version uint16, clientName string) (client, server Channel) {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{certificate(t, "light.example")}, ClientAuth: tls.RequestClientCert, MaxVersion: version}
	mine := &tls.Config{InsecureSkipVerify: true, MaxVersion: version}
	if clientName != "" {
		mine.Certificates = []tls.Certificate{certificate(t, clientName)}
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	c, s := tls.Client(near, mine), tls.Server(far, config)
	failed := make(chan error, 1)
	go func() {
		err := c.Handshake()
		if err == nil {
			_, err = c.Read(make([]byte, 1)) // a TLS 1.3 server still writes tickets
		}
		failed <- err
	}()
	if err := s.Handshake(); err != nil {
		t.Fatal(err)
	}
	s.Write([]byte{0})
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	atClient, atServer := c.ConnectionState(), s.ConnectionState()
	if atServer.Version != version {
		t.Fatalf("TLS version %x", atServer.Version)
	}
	return Channel{TLS: &atClient}, Channel{TLS: &atServer, Peer: plainChannel.Peer}
}

func certificate(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	template.Subject.CommonName = name
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// converse runs an exchange as SMTP does: initial response at once if the mechanism has one, then challenges and responses.
func converse(t testing.TB, c Client, s Server) error {
	t.Helper()
	response, err := c.Start()
	if err != nil {
		return err
	}
	for range 5 {
		challenge, done, err := s.Next(t.Context(), response)
		if err != nil {
			return err
		}
		if done {
			return Finish(c)
		}
		if response, err = c.Next(challenge); err != nil {
			return err
		}
		if response == nil {
			t.Fatalf("%s: nil answers a challenge", c.Name())
		}
	}
	t.Fatalf("%s never ends", c.Name())
	return nil
}

func start(t testing.TB, a *Authenticator, mechanism string, ch Channel) Server {
	t.Helper()
	s, err := a.Start(mechanism, ch)
	if err != nil {
		t.Fatalf("%s: %v", mechanism, err)
	}
	return s
}

func TestBothHalves(t *testing.T) {
	near12, far12 := handshake(t, tls.VersionTLS12, "")
	near13, far13 := handshake(t, tls.VersionTLS13, "")
	channels := []struct {
		name      string
		near, far Channel
	}{{"plain", Channel{}, plainChannel}, {"TLS 1.2", near12, far12}, {"TLS 1.3", near13, far13}}
	for _, ch := range channels {
		clients := map[string]func(name, password string) Client{
			SCRAMSHA256:     func(n, p string) Client { return SCRAM(n, p, Channel{}, false) }, // "n"
			SCRAMSHA256Plus: func(n, p string) Client { return SCRAM(n, p, ch.near, true) },
			PLAIN:           Plain,
			LOGIN:           Login,
			CRAMMD5:         CRAM,
		}
		for _, mechanism := range newAuthenticator().Mechanisms(ch.far) {
			try := func(username, password, account string, want error) {
				t.Helper()
				c, s := clients[mechanism](username, password), start(t, newAuthenticator(), mechanism, ch.far)
				if c.Name() != mechanism {
					t.Errorf("%s: client of %s", mechanism, c.Name())
				}
				if err := converse(t, c, s); !errors.Is(err, want) || s.Identity() != account {
					t.Errorf("%s, %s, %q %q: %v, is %q", ch.name, mechanism, username, password, err, s.Identity())
				}
			}
			try("keeper", keeperPassword, "keeper", nil)
			try("keeper@light.example", keeperPassword, "keeper", nil)
			try("a=b,c", keeperPassword, "keeper", nil)
			try("keeper", clinicPassword, "", ErrCredentials)
			try("nobody", keeperPassword, "", ErrCredentials)
			if mechanism == CRAMMD5 {
				try("clinic", clinicPassword, "", ErrCredentials) // has not opted in
			} else {
				try("clinic", clinicPassword, "clinic", nil)
			}
		}
	}
}

func TestMechanisms(t *testing.T) {
	_, far12 := handshake(t, tls.VersionTLS12, "")
	_, certified := handshake(t, tls.VersionTLS13, "keeper.example")
	bare := Channel{TLS: &tls.ConnectionState{Version: tls.VersionTLS12}} // such as a resumed session without RFC 7627
	tests := []struct {
		allowed []string
		ch      Channel
		want    string
	}{
		{nil, plainChannel, "SCRAM-SHA-256"},
		{nil, bare, "SCRAM-SHA-256 PLAIN LOGIN"},
		{nil, far12, "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"},
		{nil, certified, "EXTERNAL SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"},
		{[]string{CRAMMD5, SCRAMSHA256, "X-OURS"}, plainChannel, "CRAM-MD5 SCRAM-SHA-256"},
		{[]string{PLAIN}, plainChannel, ""},
		{[]string{PLAIN}, far12, "PLAIN"},
	}
	for _, test := range tests {
		a := &Authenticator{Accounts: newHouse(), Allowed: test.allowed}
		if got := strings.Join(a.Mechanisms(test.ch), " "); got != test.want {
			t.Errorf("allowed %v: got %s, want %s", test.allowed, got, test.want)
		}
		for _, name := range append(All(), "", "X-OURS", "ANONYMOUS") {
			_, err := a.Start(strings.ToLower(name), test.ch)
			if listed := slices.Contains(a.Mechanisms(test.ch), name); listed != (err == nil) {
				t.Errorf("%q listed %v, but Start: %v", name, listed, err)
			} else if !listed && !errors.Is(err, ErrMechanism) && !errors.Is(err, ErrPlaintext) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	for _, name := range []string{PLAIN, LOGIN} { // RFC 4954 §6: 538
		if _, err := newAuthenticator().Start(name, plainChannel); !errors.Is(err, ErrPlaintext) {
			t.Errorf("%s in the clear: %v", name, err)
		}
	}
	if _, err := newAuthenticator().Password(t.Context(), plainChannel, "keeper", keeperPassword); !errors.Is(err, ErrPlaintext) {
		t.Errorf("password in the clear: %v", err)
	}
}

func TestExternal(t *testing.T) {
	_, keeper := handshake(t, tls.VersionTLS13, "keeper.example")
	_, stranger := handshake(t, tls.VersionTLS13, "stranger.example")
	tests := []struct {
		ch       Channel
		response string
		want     error
	}{
		{keeper, "", nil},
		{keeper, "keeper", nil},
		{keeper, "keeper@light.example", nil},
		{keeper, "clinic", ErrCredentials},
		{keeper, "nobody", ErrCredentials},
		{keeper, "kee\x00per", ErrMalformed},
		{keeper, "\xff", ErrMalformed},
		{keeper, strings.Repeat("k", MaxMessage+1), ErrMalformed},
		{stranger, "", ErrCredentials},
	}
	for _, test := range tests {
		s := start(t, newAuthenticator(), EXTERNAL, test.ch)
		if challenge, done, err := s.Next(t.Context(), nil); challenge == nil || done || err != nil {
			t.Fatalf("without an initial response: %v, %v, %v", challenge, done, err)
		}
		_, done, err := s.Next(t.Context(), []byte(test.response))
		if !errors.Is(err, test.want) || done != (test.want == nil) || done != (s.Identity() == "keeper") {
			t.Errorf("%.20q: done %v as %q, %v", test.response, done, s.Identity(), err)
		}
	}
	if err := converse(t, External(), start(t, newAuthenticator(), EXTERNAL, keeper)); err != nil {
		t.Error(err)
	}
}

// RFC 4616 §2, §4.
func TestPlainMessages(t *testing.T) {
	_, ch := handshake(t, tls.VersionTLS13, "")
	long := strings.Repeat("x", 255) // RFC 4616 §2: MUST accept up to 255 octets
	tests := []struct {
		message string
		want    error
	}{
		{"\x00keeper\x00" + keeperPassword, nil},
		{"keeper\x00keeper\x00" + keeperPassword, nil},
		{"keeper@light.example\x00keeper\x00" + keeperPassword, nil},
		{"clinic\x00keeper\x00" + keeperPassword, ErrCredentials}, // as in §4: Ursel, Kurt
		{long + "\x00" + long + "\x00" + long, ErrCredentials},
		{"\x00\x00" + keeperPassword, ErrMalformed},
		{"\x00keeper\x00", ErrMalformed},
		{"keeper\x00" + keeperPassword, ErrMalformed},
		{"\x00keeper\x00" + keeperPassword + "\x00", ErrMalformed},
		{"", ErrMalformed},
		{"\x00keeper\x00\xff", ErrMalformed},
		{"\x00keeper\x00" + strings.Repeat("x", MaxMessage), ErrMalformed},
		{"\x00keeper\x00" + strings.Repeat("x", 2000), ErrCredentials},
		{"\x00keeper\x00\x01", ErrCredentials}, // RFC 4013 §2.3
		{"\x00\u00ad\x00" + keeperPassword, ErrCredentials},
	}
	for _, test := range tests {
		s := start(t, newAuthenticator(), PLAIN, ch)
		_, done, err := s.Next(t.Context(), []byte(test.message))
		if !errors.Is(err, test.want) || done != (test.want == nil) || done != (s.Identity() == "keeper") {
			t.Errorf("%.40q: done %v as %q, %v", test.message, done, s.Identity(), err)
		}
	}
	whole := "\x00keeper\x00" + keeperPassword
	for n := range len(whole) {
		s := start(t, newAuthenticator(), PLAIN, ch)
		if _, done, err := s.Next(t.Context(), []byte(whole[:n])); done || err == nil {
			t.Errorf("cut to %q: accepted", whole[:n])
		}
	}
	s := start(t, newAuthenticator(), PLAIN, ch)
	if challenge, done, err := s.Next(t.Context(), nil); challenge == nil || len(challenge) > 0 || done || err != nil {
		t.Errorf("without an initial response: %q %v %v", challenge, done, err)
	}
	if _, done, err := s.Next(t.Context(), nil); done || !errors.Is(err, ErrMalformed) {
		t.Errorf("still without a response: %v %v", done, err)
	}
}

func TestLoginQuestions(t *testing.T) {
	_, ch := handshake(t, tls.VersionTLS13, "")
	for _, initial := range [][]byte{nil, []byte("keeper")} {
		s := start(t, newAuthenticator(), LOGIN, ch)
		challenge, _, err := s.Next(t.Context(), initial)
		if initial == nil {
			if string(challenge) != "Username:" || err != nil {
				t.Fatalf("%q, %v", challenge, err)
			}
			challenge, _, err = s.Next(t.Context(), []byte("keeper"))
		}
		if string(challenge) != "Password:" || err != nil {
			t.Fatalf("%q, %v", challenge, err)
		}
		if _, done, err := s.Next(t.Context(), []byte(keeperPassword)); !done || err != nil || s.Identity() != "keeper" {
			t.Fatalf("%v %v as %q", done, err, s.Identity())
		}
	}
	for _, bad := range []string{"", strings.Repeat("k", MaxMessage+1)} {
		s := start(t, newAuthenticator(), LOGIN, ch)
		if _, _, err := s.Next(t.Context(), []byte(bad)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.10q: %v", bad, err)
		}
	}
	c := Login("keeper", keeperPassword)
	for range 2 {
		c.Next(nil)
	}
	if _, err := c.Next(nil); !errors.Is(err, ErrServer) {
		t.Errorf("third question: %v", err)
	}
}

// An account store that cannot answer is not a wrong password: 454, and the client may come again.
func TestTemporary(t *testing.T) {
	near, far := handshake(t, tls.VersionTLS13, "keeper.example")
	state := near.TLS
	h := newHouse()
	h.broken = errors.New("disk on fire")
	a := &Authenticator{Accounts: h, Allowed: All()}
	for _, mechanism := range All() {
		if mechanism == SCRAMSHA256 {
			near = Channel{} // else the client says, rightly, that PLUS was hidden from it
		} else {
			near.TLS = state
		}
		c, err := Choose([]string{mechanism}, near, Credentials{"keeper", keeperPassword, true, true, false})
		if err != nil {
			t.Fatal(err)
		}
		if err := converse(t, c, start(t, a, mechanism, far)); !errors.Is(err, ErrTemporary) || errors.Is(err, ErrCredentials) {
			t.Errorf("%s: %v", mechanism, err)
		}
	}
}

// Nobody learns by code, salt or count which accounts exist.
func TestNoEnumeration(t *testing.T) {
	ask := func(a *Authenticator, name string) serverFirst {
		t.Helper()
		challenge, _, err := start(t, a, SCRAMSHA256, plainChannel).Next(t.Context(), []byte("n,,n="+name+",r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := parseServerFirst(string(challenge))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	a := newAuthenticator()
	v, err := NewVerifier("real", "password", 0)
	if err != nil {
		t.Fatal(err)
	}
	a.Accounts = house{verifiers: map[string]Verifier{"real": v}}
	real, ghost := ask(a, "real"), ask(a, "ghost")
	if len(real.salt) != len(ghost.salt) || real.iterations != ghost.iterations || len(real.nonce) != len(ghost.nonce) {
		t.Errorf("a ghost looks different: %+v, %+v", real, ghost)
	}
	if again := ask(a, "Ghost"); !bytes.Equal(again.salt, ghost.salt) {
		t.Error("a ghost's salt changes")
	}
	if other := ask(a, "other"); bytes.Equal(other.salt, ghost.salt) {
		t.Error("all ghosts have one salt")
	}
	b, c := newAuthenticator(), newAuthenticator()
	b.Secret, c.Secret = []byte("s"), []byte("s")
	if !bytes.Equal(ask(b, "ghost").salt, ask(c, "ghost").salt) {
		t.Error("two doors of one house make up two salts")
	}
	if bytes.Equal(ask(b, "ghost").salt, ghost.salt) {
		t.Error("the salt does not depend on the secret")
	}
	if a.Iterations = 20_000; ask(a, "ghost").iterations != 20_000 {
		t.Error("a ghost's count is not that of the house")
	}
	// The made-up verifier is no way in, not even for who knows it.
	made := a.madeUp("ghost")
	s := start(t, a, CRAMMD5, plainChannel)
	if err := converse(t, CRAM("ghost", string(made.CRAMSecret)), s); !errors.Is(err, ErrCredentials) {
		t.Errorf("ghost logs in: %v", err)
	}
}

// Nobody learns from the time that a refusal takes which accounts exist: an unknown name costs one hash of the password with as many
// iterations, like a known one, however the password comes.
func TestUnknownNamesAreHashed(t *testing.T) {
	const dear = 2 * minIterations
	v, err := NewVerifier("real", "password", dear)
	if err != nil {
		t.Fatal(err)
	}
	_, far := handshake(t, tls.VersionTLS13, "")
	var work []string
	a := &Authenticator{Accounts: house{verifiers: map[string]Verifier{"real": v}}, Iterations: dear}
	a.hash = func(v Verifier, password string) (Keys, error) {
		work = append(work, fmt.Sprintf("%s: %d octets of salt, %d iterations", password, len(v.Salt), v.Iterations))
		return v.KeysOf(password)
	}
	exchange := func(mechanism string, responses ...string) func(name string) error {
		return func(name string) error {
			s, err := a.Start(mechanism, far)
			for i := 0; err == nil && i < len(responses); i++ {
				_, _, err = s.Next(t.Context(), []byte(strings.ReplaceAll(responses[i], "NAME", name)))
			}
			return err
		}
	}
	for way, try := range map[string]func(name string) error{
		"password": func(name string) error { _, err := a.Password(t.Context(), far, name, "wrong"); return err },
		PLAIN:      exchange(PLAIN, "\x00NAME\x00wrong"),
		LOGIN:      exchange(LOGIN, "NAME", "wrong"),
	} {
		for _, name := range []string{"real", "ghost"} {
			work = nil
			if err := try(name); !errors.Is(err, ErrCredentials) {
				t.Errorf("%s of %s: %v", way, name, err)
			}
			if want := []string{fmt.Sprintf("wrong: 16 octets of salt, %d iterations", dear)}; !slices.Equal(work, want) {
				t.Errorf("%s of %s cost %q, want %q", way, name, work, want)
			}
		}
	}
}

func TestChoose(t *testing.T) {
	near13, _ := handshake(t, tls.VersionTLS13, "")
	full := Credentials{Username: "keeper", Password: "x"}
	cram := full
	cram.AllowCRAM = true
	certified := full
	certified.Certificate = true
	tests := []struct {
		offered string
		ch      Channel
		cred    Credentials
		want    string
		err     error
	}{
		{"CRAM-MD5 PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS EXTERNAL", near13, certified, EXTERNAL, nil},
		{"CRAM-MD5 PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS EXTERNAL", near13, cram, SCRAMSHA256Plus, nil},
		{"EXTERNAL SCRAM-SHA-256", Channel{}, certified, SCRAMSHA256, nil},
		{"SCRAM-SHA-256 SCRAM-SHA-256-PLUS", Channel{}, full, SCRAMSHA256, nil},
		{"scram-sha-256 plain", near13, full, SCRAMSHA256, nil},
		{"PLAIN LOGIN CRAM-MD5", near13, cram, PLAIN, nil},
		{"LOGIN", near13, full, LOGIN, nil},
		{"CRAM-MD5 PLAIN", Channel{}, cram, CRAMMD5, nil},
		{"CRAM-MD5 PLAIN", Channel{}, full, "", ErrPlaintext},
		{"LOGIN", Channel{}, full, "", ErrPlaintext},
		{"CRAM-MD5", near13, full, "", ErrMechanism},
		{"SCRAM-SHA-256-PLUS", Channel{}, full, "", ErrMechanism},
		{"GSSAPI", near13, full, "", ErrMechanism},
		{"", near13, full, "", ErrMechanism},
		{"PLAIN", near13, Credentials{Username: "keeper"}, "", ErrMechanism},
		{"PLAIN", near13, Credentials{Password: "x"}, "", ErrMechanism},
		{"EXTERNAL", near13, Credentials{Certificate: true}, EXTERNAL, nil},
	}
	for _, test := range tests {
		c, err := Choose(strings.Fields(test.offered), test.ch, test.cred)
		if !errors.Is(err, test.err) || err == nil && c.Name() != test.want {
			t.Errorf("%s: %v, %v; want %s", test.offered, c, err, test.want)
		}
	}
	// RFC 5802 §6: the flag tells the server what this side saw.
	for offered, want := range map[string]string{"SCRAM-SHA-256": "y,,", "SCRAM-SHA-256-PLUS": "p=tls-exporter,,"} {
		c, err := Choose([]string{offered}, near13, full)
		if err != nil {
			t.Fatal(err)
		}
		if first, err := c.Start(); err != nil || !strings.HasPrefix(string(first), want) {
			t.Errorf("%s: %q, %v", offered, first, err)
		}
	}
	if c, err := Choose([]string{SCRAMSHA256}, Channel{}, full); err != nil {
		t.Error(err)
	} else if first, _ := c.Start(); !strings.HasPrefix(string(first), "n,,") {
		t.Errorf("without TLS: %q", first)
	}
}

func TestNewVerifier(t *testing.T) {
	for _, bad := range []struct {
		password   string
		iterations int
	}{{"", 0}, {"x\x00", 0}, {"x", 4095}, {"x", maxIterations + 1}, {strings.Repeat("x", maxSecretBytes+1), 0}} {
		if _, err := NewVerifier("a", bad.password, bad.iterations); err == nil {
			t.Errorf("%.10q, %d: accepted", bad.password, bad.iterations)
		}
	}
	v, err := NewVerifier("a", "I\u00adX", 0) // RFC 4013 §3
	if err != nil || v.Iterations != DefaultIterations || !v.Check("IX") || v.Check("ix") || v.Check("") {
		t.Errorf("%+v, %v", v, err)
	}
}

func BenchmarkLogin(b *testing.B) {
	near, far := handshake(b, tls.VersionTLS13, "")
	v, err := NewVerifier("keeper", "password", 0)
	if err != nil {
		b.Fatal(err)
	}
	v.CRAMSecret = []byte("password")
	a := &Authenticator{Accounts: house{verifiers: map[string]Verifier{"keeper": v}}, Allowed: All()}
	for _, mechanism := range []string{PLAIN, CRAMMD5} {
		b.Run(mechanism, func(b *testing.B) {
			for b.Loop() {
				c, _ := Choose([]string{mechanism}, near, Credentials{"keeper", "password", false, true, false})
				if err := converse(b, c, start(b, a, mechanism, far)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("SCRAM, server alone", func(b *testing.B) { // the proof is wrong, which costs the same
		for b.Loop() {
			s := start(b, a, SCRAMSHA256, far)
			challenge, _, err := s.Next(b.Context(), []byte("n,,n=keeper,r=abc"))
			if err != nil {
				b.Fatal(err)
			}
			nonce, _, _ := strings.Cut(string(challenge), ",")
			if _, _, err = s.Next(b.Context(), fmt.Appendf(nil, "c=biws,%s,p=%s=", nonce, strings.Repeat("A", 43))); !errors.Is(err, ErrCredentials) {
				b.Fatal(err)
			}
		}
	})
}
