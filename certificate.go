package site

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"bothy/lib/pin"

	"bothy/lib/file"
)

// TLSConfig names the certificate of all services.
type TLSConfig struct {
	Certificate string `doc:"PEM file with the certificate chain. Empty: a certificate signed by a CA of this site's own, made at the first start in DATA/tls."`
	Key         string `doc:"PEM file with the private key of the certificate."`
}

const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	leafLifetime = 365 * 24 * time.Hour
	leafRenewal  = 30 * 24 * time.Hour // a leaf of our own with less left is made anew
)

// certificates holds the certificate in force; a reload swaps it under running listeners.
type certificates struct {
	current atomic.Pointer[tls.Certificate]
}

// loadCertificate reads the configured certificate or makes one for host. dir is where our own CA lives.
func loadCertificate(cfg TLSConfig, dir, host string, now time.Time) (*tls.Certificate, error) {
	cert, key := cfg.Certificate, cfg.Key
	if cert == "" {
		var err error
		if cert, key, err = ownCertificate(dir, host, now); err != nil {
			return nil, fmt.Errorf("tls: make a certificate: %w", err)
		}
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return &pair, nil
}

// Key is the public key that a server with cfg shows, as package pin names it; own says that it is the server's own, which stays when its
// certificate is renewed. A certificate that is missing is made.
func Key(cfg Config, now time.Time) (key string, own bool, err error) {
	pair, err := loadCertificate(cfg.TLS, cfg.tlsDir(), cfg.Hostname, now)
	if err != nil {
		return "", false, err
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return "", false, err
	}
	return pin.Of(leaf), cfg.TLS.Certificate == "", nil
}

// server returns the TLS settings of listening services. Client certificates are asked for but not verified by chain: the
// directory knows accounts by their key (SASL EXTERNAL, RFC 4422 Appendix A).
func (c *certificates) server(askClient bool) *tls.Config {
	cfg := &tls.Config{
		MinVersion:     tls.VersionTLS12, // RFC 8996, RFC 9325 §3.1.1
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
	if askClient {
		cfg.ClientAuth = tls.RequestClientCert
	}
	return cfg
}

// client returns the TLS settings of calls in which the certificate may say who we are: the one in force then, at first the given.
func (c *certificates) client(first *tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS12,
		Certificates:         []tls.Certificate{*first}, // that there is one
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

// ownCA is the file with the CA certificate that clients are given.
func ownCA(dir string) string { return filepath.Join(dir, "ca.pem") }

// ownCertificate returns a certificate for host signed by the CA in dir, making what is missing, and what is old or for another host anew.
func ownCertificate(dir, host string, now time.Time) (certFile, keyFile string, err error) {
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if leaf, err := readCertificate(certFile); err == nil && leaf.VerifyHostname(host) == nil && leaf.NotAfter.Sub(now) > leafRenewal {
		return certFile, keyFile, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", err
	}
	ca, caKey, err := ownAuthority(dir, now)
	if err != nil {
		return "", "", err
	}
	leaf := template(host, now, leafLifetime)
	leaf.DNSNames = []string{host, "localhost"}
	leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return certFile, keyFile, issue(leaf, ca, caKey, certFile, keyFile)
}

func ownAuthority(dir string, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certFile, keyFile := ownCA(dir), filepath.Join(dir, "ca-key.pem")
	if _, err := os.Stat(certFile); errors.Is(err, fs.ErrNotExist) {
		ca := template("Bothy CA of "+dir, now, caLifetime)
		ca.IsCA, ca.BasicConstraintsValid = true, true
		ca.MaxPathLenZero = true
		ca.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		if err := issue(ca, ca, nil, certFile, keyFile); err != nil {
			return nil, nil, err
		}
	}
	ca, err := readCertificate(certFile)
	if err != nil {
		return nil, nil, err
	}
	key, err := readKey(keyFile)
	return ca, key, err
}

func template(name string, now time.Time, life time.Duration) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // the system's random source never fails (crypto/rand)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour), // clocks at a site without uplink drift
		NotAfter:     now.Add(life),
	}
}

// issue signs cert with the parent's key, or with its own when parentKey is nil, and writes both files, the key first. A key that is there
// stays: others may have pinned it (`bothy account certificate`).
func issue(cert, parent *x509.Certificate, parentKey *ecdsa.PrivateKey, certFile, keyFile string) error {
	key, err := readKey(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return err
	}
	if parentKey == nil {
		parentKey = key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, parentKey)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := file.Replace(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600); err != nil {
		return err
	}
	return file.Replace(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

func readKey(file string) (*ecdsa.PrivateKey, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM block", file)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if key, ok := key.(*ecdsa.PrivateKey); ok {
		return key, nil
	}
	return nil, fmt.Errorf("%s: not an ECDSA key", file)
}

func readCertificate(file string) (*x509.Certificate, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM block", file)
	}
	return x509.ParseCertificate(block.Bytes)
}

// renewal is how often the certificate is looked at again: our own is made anew in its last month, and others replace its files.
const renewal = 12 * time.Hour

func (s *Site) renewCertificate(ctx context.Context) error {
	tick := time.NewTicker(renewal)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		cfg := &s.current.Load().cfg
		pair, err := loadCertificate(cfg.TLS, cfg.tlsDir(), cfg.Hostname, s.env.Now())
		if err != nil {
			s.env.Log.Error("certificate not renewed; the old one stays", "err", err)
			continue
		}
		s.certs.current.Store(pair)
	}
}
