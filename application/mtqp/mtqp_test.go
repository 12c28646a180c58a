package mtqp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"
	"bothy/lib/transcript"
)

// day is when the example of RFC 3887 §4.1 arrived.
var day = time.Date(2001, 1, 1, 15, 15, 15, 0, time.FixedZone("", -5*3600))

const secret = "abcdefgh\n" // YWJjZGVmZ2gK

func to(s string) message.Recipient {
	a, err := message.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return message.Recipient{Address: a}
}

func tracked(id byte, recipients ...message.Recipient) *message.Envelope {
	hash := sha1.Sum([]byte(secret))
	return &message.Envelope{
		ID: message.ID{id}, EnvelopeID: "12345-20010101@example.com", Recipients: recipients,
		Tracking: message.Tracking{Certifier: string(hash[:]), Until: day.Add(240 * time.Hour)},
	}
}

func record(t *testing.T, file string) *Record {
	t.Helper()
	r, err := Open(t.Context(), file, 5*24*time.Hour, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// examples has the message of RFC 3887 §4.1, in a state for each kind of answer.
func examples(t *testing.T) *Record {
	r := record(t, filepath.Join(t.TempDir(), "tracking.db"))
	delivered, failed, waits, relayed, transferred := to("user1@example1.com"), to("user2@example1.com"), to("user3@example1.com"), to("user4@example1.com"), to("user5@example1.com")
	failed.Original = "rfc822;user+2B2@example1.com"
	env := tracked(1, delivered, failed, waits, relayed, transferred, to("user6@example1.com"))
	r.Track(env, nil, day)
	later := day.Add(4 * time.Hour)
	r.Track(env, []queue.Outcome{
		{Action: queue.Delivered, Recipient: delivered},
		{Action: queue.GivenUp, Recipient: failed, Remote: "example3.com", Reply: smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}}},
		{Action: queue.Delayed, Recipient: waits, Remote: "example3.com", Reply: smtp.Reply{Code: 450, Enhanced: [3]int{4, 4, 1}}},
		{Action: queue.Relayed, Recipient: relayed, Remote: "example4.com", Reply: smtp.Reply{Code: 250, Enhanced: [3]int{2, 0, 0}}},
		{Action: queue.Transferred, Recipient: transferred, Remote: "example5.com", Reply: smtp.Reply{Code: 250}},
	}, later)
	return r
}

func pair(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"example2.com"}}, &x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}}
}

func serve(t *testing.T, srv *Server) net.Conn {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		_ = srv.Serve(context.Background(), far)
	}()
	t.Cleanup(func() { near.Close(); <-done })
	return near
}

func TestTranscripts(t *testing.T) {
	config := pair(t)
	transcript.Run(t, "testdata/*.txt", func(t *testing.T, name string) net.Conn {
		srv := &Server{Hostname: "example2.com", Record: examples(t), Now: func() time.Time { return day.Add(24 * time.Hour) }}
		if strings.HasPrefix(name, "tls") {
			srv.TLS = config
		}
		return transcript.WithTLS(serve(t, srv), func(c net.Conn) *tls.Conn { return tls.Client(c, &tls.Config{InsecureSkipVerify: true}) })
	})
}

// TestAsk asks under TLS, with the secret and with another, and refuses to ask in the clear.
func TestAsk(t *testing.T) {
	srv := &Server{Hostname: "example2.com", Record: examples(t), TLS: pair(t), Now: func() time.Time { return day }}
	cfg := &tls.Config{ServerName: "example2.com", InsecureSkipVerify: true}
	const envid = "12345-20010101@example.com"
	answer, err := Ask(t.Context(), serve(t, srv), cfg, true, envid, []byte(secret))
	if err != nil || strings.Count(answer, "\r\nAction: ") != 6 || !strings.Contains(answer, "\r\nAction: transferred\r\nStatus: 2.0.0\r\nRemote-MTA: dns; example5.com\r\n") {
		t.Errorf("%v\n%s", err, answer)
	}
	if _, err := Ask(t.Context(), serve(t, srv), cfg, true, envid, []byte("abcdefgi\n")); !errors.Is(err, ErrNoInfo) {
		t.Error(err)
	}
	srv = &Server{Hostname: "example2.com", Record: srv.Record}
	if _, err := Ask(t.Context(), serve(t, srv), cfg, true, envid, []byte(secret)); err == nil || errors.Is(err, ErrNoInfo) {
		t.Error(err)
	}
}

// TestKept: RFC 3885 §3.1: what became of a message is known as long as was asked for, and longer while it is in the queue; also after a restart.
func TestKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tracking.db")
	r := record(t, file)
	done := tracked(1, to("a@example1.com"))
	r.Track(done, nil, day)
	r.Track(done, []queue.Outcome{{Action: queue.Delivered, Recipient: done.Recipients[0]}}, day)
	r.Track(tracked(2, to("b@example1.com")), nil, day)
	known := func(now time.Time, want int) {
		t.Helper()
		if err := r.sweep(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		found, err := r.Find(t.Context(), done.EnvelopeID, []byte(secret), now)
		if err != nil || len(found) != want {
			t.Errorf("%v, %d messages, want %d", err, len(found), want)
		}
	}
	known(day.Add(239*time.Hour), 2)
	r.Close()
	r = record(t, file)
	known(day.Add(239*time.Hour), 2)
	known(day.Add(241*time.Hour), 1)
	known(day.Add(1000*time.Hour), 0)
}

// FuzzSession holds that whatever a client says, each line is answered in the form of RFC 3887 §2.3, and that nothing is told without the secret.
func FuzzSession(f *testing.F) {
	f.Add("TRACK <12345-20010101@example.com> YWJjZGVmZ2gL\r\nCOMMENT x\r\nSTARTTLS example2.com\r\nQUIT\r\n")
	f.Add("track\r\n\r\nQUIT x\r\nTRACK a =\r\n\x00\r\n")
	f.Fuzz(func(t *testing.T, s string) {
		hash := sha1.Sum([]byte(secret))
		if strings.Contains(s, "YWJjZGVmZ2gK") || strings.Contains(s, hex.EncodeToString(hash[:])) || strings.Contains(s, "12345") {
			t.Skip()
		}
		b := appendDotted(nil, []byte(s+"\r\n"))
		if !strings.HasSuffix(string(b), ".\r\n") {
			t.Errorf("%q has no end", b)
		}
		for line := range strings.Lines(string(b[:len(b)-3])) {
			if line == ".\r\n" {
				t.Errorf("%q ends early", b)
			}
		}
	})
}
