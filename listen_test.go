package site

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// greeter says one line and waits for the peer or the stop.
func greeter(limits ListenLimits) server {
	return server{
		serve: func(ctx context.Context, conn net.Conn) error {
			io.WriteString(conn, "220 hello\r\n")
			defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })()
			io.Copy(io.Discard, conn)
			io.WriteString(conn, "421 bye\r\n")
			return nil
		},
		refuse: "421 4.7.0 too many connections\r\n",
		limits: limits,
		open:   new(connections),
	}
}

func startAccept(t *testing.T, useTLS bool, srv server) (addr string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		accept(ctx, ln, func() (server, bool) { return srv, useTLS }, func() time.Duration { return 200 * time.Millisecond }, slog.New(slog.DiscardHandler))
	}()
	return ln.Addr().String(), func() {
		cancel()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("accept did not end")
		}
	}
}

func firstLine(t *testing.T, addr string) (net.Conn, string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return conn, strings.TrimSpace(line)
}

func TestPeerAboveItsLimitIsToldToComeLater(t *testing.T) {
	addr, stop := startAccept(t, false, greeter(ListenLimits{Connections: 10, PerPeer: 2}))
	defer stop()
	first, _ := firstLine(t, addr)
	firstLine(t, addr)
	if _, line := firstLine(t, addr); !strings.HasPrefix(line, "421 ") {
		t.Errorf("third connection got %q", line)
	}
	first.Close()
	for deadline := time.Now().Add(5 * time.Second); ; {
		if _, line := firstLine(t, addr); strings.HasPrefix(line, "220 ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a freed place was never given")
		}
	}
}

func TestStopTellsSessionsAndEnds(t *testing.T) {
	addr, stop := startAccept(t, false, greeter(ListenLimits{Connections: 10, PerPeer: 10}))
	conn, _ := firstLine(t, addr)
	stop()
	rest, _ := io.ReadAll(conn)
	if string(rest) != "421 bye\r\n" {
		t.Errorf("got %q", rest)
	}
}

func TestOwnCertificate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	first, err := loadCertificate(TLSConfig{}, dir, "mail.site.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var certs certificates
	certs.current.Store(first)
	if info, err := os.Stat(filepath.Join(dir, "key.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key.pem: %v %v", info, err)
	}
	srv := greeter(ListenLimits{Connections: 10, PerPeer: 10, Handshake: time.Second})
	srv.tls = certs.server(false)
	addr, stop := startAccept(t, true, srv)
	defer stop()
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(ownCA(dir))
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		t.Fatal("no CA", err)
	}
	for _, name := range []string{"mail.site.example", "localhost", "127.0.0.1"} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: name})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		conn.Close()
	}
	again, err := loadCertificate(TLSConfig{}, dir, "mail.site.example", time.Now())
	if err != nil || again.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) != 0 {
		t.Errorf("a good certificate was made anew (%v)", err)
	}
	later, err := loadCertificate(TLSConfig{}, dir, "mail.site.example", time.Now().Add(leafLifetime-leafRenewal+time.Hour))
	if err != nil || later.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) == 0 {
		t.Errorf("an old certificate was not renewed (%v)", err)
	}
	if err == nil && !first.PrivateKey.(*ecdsa.PrivateKey).Equal(later.PrivateKey) {
		t.Error("the renewed certificate has another key: who pinned the old one is locked out")
	}
}
