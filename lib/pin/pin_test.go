package pin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"bothy/lib/sim"
)

// certificate is one of key, for names, valid until a time that may have passed.
func certificate(t *testing.T, key *ecdsa.PrivateKey, until time.Time) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(until.Unix()), NotBefore: until.Add(-time.Hour), NotAfter: until, DNSNames: []string{"old.example"}}
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

// TestTrust: the key decides, not its certificate, its name or its age; also where a session is resumed.
func TestTrust(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	now := certificate(t, key, time.Now().Add(time.Minute))
	old := certificate(t, key, time.Now().Add(-time.Hour))
	false_ := certificate(t, other, time.Now().Add(time.Minute))
	pins := []string{strings.Repeat("00", 32), strings.ToUpper(Of(now.Leaf))}
	cache := tls.NewLRUClientSessionCache(1)
	for _, c := range []struct {
		name string
		cert tls.Certificate
		pins []string
		ok   bool
	}{
		{"the key", now, pins, true},
		{"again", now, pins, true},
		{"an old certificate of it", old, pins, true},
		{"another key", false_, pins, false},
		{"resumed after the pin was taken away", now, pins[:1], false},
		{"no pins", now, nil, false},
	} {
		client, server := sim.Pipe(sim.Path{})
		far := make(chan error, 1)
		go func() {
			far <- tls.Server(server, &tls.Config{Certificates: []tls.Certificate{c.cert}}).Handshake()
			server.Close()
		}()
		cfg := &tls.Config{ServerName: "new.example", ClientSessionCache: cache}
		Trust(cfg, c.pins)
		err := tls.Client(client, cfg).Handshake()
		if (err == nil) != c.ok || !c.ok && c.pins != nil && !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v", c.name, err)
		}
		client.Close()
		<-far
	}
	for _, s := range []string{"", "00", strings.Repeat("zz", 32), strings.Repeat("00", 33)} {
		if _, err := Parse(s); err == nil {
			t.Errorf("%q is a pin", s)
		}
	}
	if got, err := Parse(strings.Repeat("AB:", 31) + "AB"); err != nil || got != strings.Repeat("ab", 32) {
		t.Errorf("%q, %v", got, err)
	}
}
