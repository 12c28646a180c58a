package odmr

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/lib/sim"
)

// routerFunc is a queue.Router.
type routerFunc func(domain string) queue.Lane

func (f routerFunc) Lane(_ *message.Envelope, to *message.Recipient) queue.Lane {
	return f(to.Address.Domain)
}

// held are the domains that customers call for.
var held = map[string]bool{
	"example.org": true, "example.com": true, "clinic.example": true, "clinic.example.net": true, "light.example": true,
	"ward.example": true, "lonely.example": true, "twin.example": true, "twin.example.net": true,
}

func providerRouter(domain string) queue.Lane {
	if held[domain] {
		return lane(domain)
	}
	return queue.Lane("mx/" + domain)
}

func siteRouter(domain string) queue.Lane { return queue.Lane("mailbox/" + domain) }

// notices are as short as they can be.
type notices struct{}

func (notices) Compose(r *queue.Report) (*message.Envelope, io.ReadCloser) {
	var text strings.Builder
	text.WriteString("Subject: failed\r\n\r\n")
	for _, o := range r.Outcomes {
		if o.Action == queue.GivenUp {
			text.WriteString(o.Recipient.Address.String() + ": " + o.Reply.Error() + "\r\n")
		}
	}
	to := []message.Recipient{{Address: r.Envelope.ReversePath}}
	return &message.Envelope{ID: message.NewID(time.Now()), Recipients: to}, io.NopCloser(strings.NewReader(text.String()))
}

// openSpool opens a spool on a disk in memory, with segments as small as its log allows.
func openSpool(t *testing.T, disk *sim.Disk, router routerFunc) *queue.Spool {
	t.Helper()
	s, err := queue.Open(context.WithoutCancel(t.Context()), queue.Options{
		Dir: "/spool", FS: disk, Router: router, Notifier: notices{}, Config: queue.Config{SegmentSize: 16 << 10, FreeSpace: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func send(t *testing.T, s queue.Store, from, text string, to ...string) message.ID {
	t.Helper()
	env := &message.Envelope{ID: message.NewID(time.Now()), ReversePath: address(t, from)}
	if strings.ContainsFunc(text, func(r rune) bool { return r > 127 }) {
		env.Body = message.Body8Bit
	}
	for _, a := range to {
		env.Recipients = append(env.Recipients, message.Recipient{Address: address(t, a)})
	}
	if err := s.Accept(t.Context(), env, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return env.ID
}

func address(t *testing.T, s string) message.Address {
	t.Helper()
	a, err := message.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// certificate is one for localhost and provider.example, made once.
var certificate = sync.OnceValues(func() (tls.Certificate, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost", "provider.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
})

func serverTLS() *tls.Config {
	cert, _ := certificate()
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}
