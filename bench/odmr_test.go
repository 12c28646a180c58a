package bench

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/odmr"
	"bothy/application/queue"
	"bothy/application/sasl"
	"bothy/application/smtp"
	"bothy/lib/sim"
)

// The thin link of the measurements, each way.
const (
	thinDelay = 300 * time.Millisecond
	thinRate  = 256_000 / 8
)

// BenchmarkODMRThinLink sends 100 messages of 4 KiB over 600 ms and 256 kbit/s, and ten to a customer that offers neither PIPELINING
// nor CHUNKING.
func BenchmarkODMRThinLink(b *testing.B) {
	const count = 100
	fmt.Printf("\n%-34s %9s %12s %14s %10s\n", "600 ms, 256 kbit/s, 4 KiB", "messages", "s", "s/message", "of link")
	var each []float64
	prose := prose(b, count, messageSize)
	for _, c := range []struct {
		name            string
		n               int
		plain, compress bool
	}{{"ours", count, false, false}, {"without PIPELINING, CHUNKING", count / 10, true, false}, {"ours, compressed", count, false, true}} {
		h, name, n, plain := newHolder(b), c.name, c.n, c.plain
		for i := range n {
			h.acceptText(b, "nurse@clinic.example", prose[i])
		}
		line := h.line(b, thinDelay, thinRate)
		first, last := time.Time{}, time.Time{}
		var octets int64
		h.wrote = func(p []byte) {
			if bytes.HasPrefix(p, []byte("MAIL ")) && first.IsZero() {
				first = time.Now()
			}
			if !first.IsZero() {
				octets += int64(len(p))
			}
		}
		h.provider.Observe = func(e odmr.Event) {
			if e.What == odmr.Transferred {
				last = time.Now()
			}
		}
		if plain {
			callPlain(b, line)
		} else {
			customer := newCustomer(line, openSpool(b, "mailbox"))
			customer.Config.Compress = c.compress
			call(b, customer)
		}
		h.wait()
		took := last.Sub(first).Seconds()
		each = append(each, took/float64(n))
		fmt.Printf("%-34s %9d %12.2f %14.3f %9.0f%%\n", name, n, took, took/float64(n), 100*float64(octets)/took/thinRate)
	}
	fmt.Printf("%-34s %35.1fx\n", "pipelined against not", each[1]/each[0])
	fmt.Printf("%-34s %35.1fx\n", "compressed against not", each[0]/each[2])
	b.ReportMetric(each[0], "s/msg")
	b.ReportMetric(each[0]/each[2], "xDeflate")
	b.ReportMetric(each[1]/each[0], "xPlain")
}

// BenchmarkODMRRoundTrips counts the round trips from dialing to the first octet of mail, on a link of 600 ms: of the first call, and of one to a
// provider that is remembered.
func BenchmarkODMRRoundTrips(b *testing.B) {
	const rtt = 2 * thinDelay
	fmt.Printf("\n%-34s %12s %12s\n", "round trips to the first mail", "first call", "remembered")
	for _, external := range []bool{false, true} {
		h := newHolder(b)
		cert, roots := selfSigned(b)
		h.provider.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert}
		h.customers["clinic"] = directory.Customer{Account: "clinic", Domains: []string{"clinic.example"}}
		var arrived time.Time
		site := openSpool(b, "mailbox")
		customer := newCustomer("localhost:366", acceptor(func(ctx context.Context, env *message.Envelope, body io.Reader) error {
			first := make([]byte, 1)
			_, err := io.ReadFull(body, first)
			arrived = time.Now()
			return errors.Join(err, site.Accept(ctx, env, io.MultiReader(bytes.NewReader(first), body)))
		}))
		customer.Config.TLS, customer.TLS = "implicit", &tls.Config{RootCAs: roots}
		name := "SCRAM"
		if external {
			name, customer.Config.Username, customer.Config.Password, customer.TLS.Certificates = "EXTERNAL", "", "", []tls.Certificate{cert}
		}
		customer.Dial = func(context.Context, string, string) (net.Conn, error) {
			time.Sleep(rtt) // SYN, SYN-ACK
			near, far := sim.Pipe(sim.Path{Delay: rtt / 2})
			h.serving.Go(func() { _ = h.provider.Serve(context.Background(), tls.Server(far, h.provider.TLS)) })
			return near, nil
		}
		var trips [2]float64
		for i := range trips {
			h.accept(b, "nurse@clinic.example", 200)
			began := time.Now()
			call(b, customer)
			trips[i] = float64(arrived.Sub(began)) / float64(rtt)
		}
		h.wait()
		fmt.Printf("%-34s %12.2f %12.2f\n", name+", TLS from the first octet", trips[0], trips[1])
		b.ReportMetric(trips[1], name+"-RTT")
	}
}

// selfSigned is a certificate for localhost.
func selfSigned(b *testing.B) (tls.Certificate, *x509.CertPool) {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		b.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// BenchmarkODMRPush measures from the provider's 250 to the site's, for a site that lingers.
func BenchmarkODMRPush(b *testing.B) {
	fmt.Printf("\n%-34s %9s %12s %12s %12s\n", "push to a lingering site", "messages", "p50", "p99", "max")
	for _, c := range []struct {
		name  string
		delay time.Duration
		rate  int64
		count int
	}{{"loopback", 0, 0, 1000}, {"600 ms, 256 kbit/s", thinDelay, thinRate, 20}} {
		h := newHolder(b)
		arrived := make(chan time.Time)
		site := openSpool(b, "mailbox")
		customer := newCustomer(h.line(b, c.delay, c.rate), acceptor(func(ctx context.Context, env *message.Envelope, body io.Reader) error {
			err := site.Accept(ctx, env, body)
			arrived <- time.Now()
			return err
		}))
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = customer.Run(ctx) })
		h.lingering(b, 1)
		var took []time.Duration
		for range c.count {
			h.accept(b, "nurse@clinic.example", messageSize)
			began := time.Now()
			took = append(took, (<-arrived).Sub(began))
			time.Sleep(2 * c.delay) // the reply reaches the provider
		}
		stop()
		running.Wait()
		h.wait()
		slices.Sort(took)
		p := func(q int) time.Duration { return took[(len(took)-1)*q/100] }
		fmt.Printf("%-34s %9d %12v %12v %12v\n", c.name, c.count, p(50).Round(10*time.Microsecond), p(99).Round(10*time.Microsecond), p(100).Round(10*time.Microsecond))
		if c.delay > 0 {
			fmt.Printf("%-34s %22.2f %12.2f %12.2f\n", "  in round trips", rtts(p(50)), rtts(p(99)), rtts(p(100)))
			b.ReportMetric(rtts(p(99)), "RTT@600ms")
		} else {
			b.ReportMetric(float64(p(99).Microseconds())/1000, "ms@loopback")
		}
	}
}

func rtts(d time.Duration) float64 { return float64(d) / float64(2*thinDelay) }

// BenchmarkODMRAnswer asks for mail where there is none, among a million messages of others.
func BenchmarkODMRAnswer(b *testing.B) {
	fmt.Printf("\n%-34s %12s %12s %12s\n", "453, messages of others", "p50", "p99", "max")
	for _, others := range []int{1000, 1_000_000} {
		const asks = 2000
		h := newHolder(b)
		h.customers["clinic"] = directory.Customer{Account: "clinic", Domains: []string{"clinic.example"}}
		h.fill(b, others, func(i int) string { return fmt.Sprintf("a@other%d.example", i%100_000) })
		conn, lines := login(b, h.addr, "clinic")
		var took []time.Duration
		for range asks {
			began := time.Now()
			expect(b, conn, lines, "ATRN", "453")
			took = append(took, time.Since(began))
		}
		conn.Close()
		h.wait()
		slices.Sort(took)
		fmt.Printf("%-34d %12v %12v %12v\n", others, took[asks/2], took[asks*99/100], took[asks-1])
		b.ReportMetric(float64(took[asks*99/100].Microseconds()), fmt.Sprintf("µs@p99-%d", others))
	}
}

// BenchmarkODMRFirst asks for mail where 100,000 messages wait, and takes the time from ATRN to the first of them.
func BenchmarkODMRFirst(b *testing.B) {
	h := newHolder(b)
	h.fill(b, 100_000, func(i int) string { return fmt.Sprintf("nurse%d@clinic.example", i%1000) })
	var took []time.Duration
	for range 20 {
		conn, lines := login(b, h.addr, "clinic")
		began := time.Now()
		expect(b, conn, lines, "ATRN", "250")
		expect(b, conn, lines, "220 clinic.example", "EHLO ")
		expect(b, conn, lines, "250-clinic.example\r\n250-PIPELINING\r\n250 CHUNKING", "MAIL ")
		took = append(took, time.Since(began))
		conn.Close()
		h.wait()
	}
	slices.Sort(took)
	fmt.Printf("\n%-34s %12s %12s\n", "100,000 messages wait", "p50", "max")
	fmt.Printf("%-34s %12v %12v\n", "from ATRN to the first MAIL", took[10], took[19])
	b.ReportMetric(float64(took[19].Microseconds())/1000, "ms@max")
}

// fill accepts so many small messages.
func (h *holder) fill(b *testing.B, count int, to func(int) string) {
	b.Helper()
	var filling sync.WaitGroup
	for w := range 256 {
		filling.Go(func() {
			for i := w; i < count; i += 256 {
				h.accept(b, to(i), 200)
			}
		})
	}
	filling.Wait()
}

// holder is a provider with a spool on a disk, on a loopback port.
type holder struct {
	provider  *odmr.Provider
	spool     *queue.Spool
	sessions  *odmr.Sessions
	customers customers
	addr      string
	wrote     func([]byte) // hears of each write to a customer
	serving   sync.WaitGroup
}

func newHolder(b *testing.B) *holder {
	b.Helper()
	verifier, err := sasl.NewVerifier("", "secret", 4096)
	if err != nil {
		b.Fatal(err)
	}
	verifier.CRAMSecret = []byte("secret")
	h := &holder{spool: openSpool(b, "odmr"), sessions: new(odmr.Sessions), customers: customers{
		"clinic": {Account: "clinic", Domains: []string{"clinic.example"}, Linger: time.Hour},
	}}
	h.provider = &odmr.Provider{
		Hostname: "provider.example", Queue: h.spool, Directory: h.customers, Sessions: h.sessions,
		Auth: &sasl.Authenticator{Accounts: accounts{verifier}, Hostname: "provider.example", Allowed: sasl.All()},
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	h.addr = ln.Addr().String()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if h.wrote != nil {
				conn = wiretap{conn, h.wrote}
			}
			h.serving.Go(func() { _ = h.provider.Serve(context.Background(), conn) })
		}
	}()
	return h
}

// wait waits for the end of all sessions.
func (h *holder) wait() { h.serving.Wait() }

func (h *holder) accept(b *testing.B, to string, size int) {
	b.Helper()
	h.acceptText(b, to, "Subject: bench\r\n\r\n"+strings.Repeat(strings.Repeat("x", 62)+"\r\n", (size-18)/64))
}

func (h *holder) acceptText(b *testing.B, to, text string) {
	b.Helper()
	address, err := message.ParseAddress(to)
	if err != nil {
		b.Fatal(err)
	}
	env := &message.Envelope{ID: message.NewID(time.Now()), Recipients: []message.Recipient{{Address: address}}}
	if err := h.spool.Accept(context.Background(), env, strings.NewReader(text)); err != nil {
		b.Fatal(err)
	}
}

// prose are messages of ordinary English, out of this project's own papers.
func prose(b *testing.B, count, size int) (texts []string) {
	b.Helper()
	var all strings.Builder
	papers, _ := filepath.Glob("../docs/*.md")
	for all.Len() < count*size {
		for _, p := range papers {
			ascii := strings.Map(func(r rune) rune {
				if r > 126 {
					return '-'
				}
				return r
			}, read(b, p))
			all.WriteString(ascii)
		}
	}
	for i := range count {
		text := fmt.Sprintf("From: Nurse <nurse%d@sender.example>\nTo: nurse@clinic.example\nSubject: round %d\nMessage-ID: <%x@sender.example>\n\n", i, i, i*7919)
		texts = append(texts, strings.ReplaceAll(text+all.String()[i*size:(i+1)*size-len(text)-1]+"\n", "\n", "\r\n"))
	}
	return texts
}

// line is a link to the provider.
func (h *holder) line(b *testing.B, delay time.Duration, rate int64) string {
	b.Helper()
	l, err := sim.OpenLine("127.0.0.1:0", h.addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	l.SetDelay(delay)
	l.SetRate(rate)
	return l.Addr()
}

// lingering waits until so many sessions have nothing to do.
func (h *holder) lingering(b *testing.B, count int) {
	b.Helper()
	for until := time.Now().Add(5 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		n := 0
		for _, s := range h.sessions.All() {
			if s.State == odmr.StateLingering {
				n++
			}
		}
		if n == count {
			return
		}
		if time.Now().After(until) {
			b.Fatalf("%d of %d sessions linger", n, count)
		}
	}
}

// wiretap hears what is written.
type wiretap struct {
	net.Conn
	wrote func([]byte)
}

func (w wiretap) Write(p []byte) (int, error) {
	w.wrote(p)
	return w.Conn.Write(p)
}

// customers is a directory in memory.
type customers map[string]directory.Customer

func (c customers) Customer(_ context.Context, account string) (directory.Customer, error) {
	found, ok := c[account]
	if !ok {
		return found, directory.ErrNotFound
	}
	return found, nil
}

func (customers) Contact(context.Context, string, time.Time) error { return nil }

// accounts have one password.
type accounts struct{ verifier sasl.Verifier }

func (a accounts) Verifier(_ context.Context, username string) (sasl.Verifier, error) {
	v := a.verifier
	v.Account = username
	return v, nil
}

func (accounts) Certificate(context.Context, *x509.Certificate) (string, error) { return "clinic", nil }

type acceptor func(context.Context, *message.Envelope, io.Reader) error

func (f acceptor) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	return f(ctx, env, body)
}

// router holds every domain for one kind of lane.
type router string

func (r router) Lane(_ *message.Envelope, to *message.Recipient) queue.Lane {
	return queue.Lane(string(r) + "/" + to.Address.Domain)
}

func openSpool(b *testing.B, kind string) *queue.Spool {
	b.Helper()
	s, err := queue.Open(context.Background(), queue.Options{Dir: b.TempDir(), Router: router(kind)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func newCustomer(provider string, accept smtp.Acceptor) *odmr.Customer {
	return &odmr.Customer{Hostname: "clinic.example", Accept: accept, Config: odmr.CustomerConfig{
		Provider: provider, TLS: "none", Username: "clinic", Password: "secret", Domains: []string{"clinic.example"},
	}}
}

func call(b *testing.B, c *odmr.Customer) {
	b.Helper()
	if _, err := c.Call(context.Background(), nil); err != nil {
		b.Fatal(err)
	}
}

// login opens a session up to ATRN.
func login(b testing.TB, addr, account string) (net.Conn, *bufio.Reader) {
	b.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewReaderSize(conn, 512)
	expect(b, conn, lines, "", "220")
	expect(b, conn, lines, "EHLO clinic.example", "250")
	if _, err := io.WriteString(conn, "AUTH CRAM-MD5\r\n"); err != nil { // RFC 2645 §5.1.2: what is there without TLS
		b.Fatal(err)
	}
	line, err := lines.ReadString('\n')
	challenge, bad := base64.StdEncoding.DecodeString(strings.TrimSpace(strings.TrimPrefix(line, "334 ")))
	if err := cmp.Or(err, bad); err != nil {
		b.Fatal(err)
	}
	digest := hmac.New(md5.New, []byte("secret"))
	digest.Write(challenge)
	expect(b, conn, lines, base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s %x", account, digest.Sum(nil))), "235")
	return conn, lines
}

// expect sends a line, if there is one, and reads the reply to its last line.
func expect(b testing.TB, conn net.Conn, lines *bufio.Reader, line, code string) {
	b.Helper()
	if line != "" {
		if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
			b.Fatal(err)
		}
	}
	for {
		reply, err := lines.ReadString('\n')
		if err != nil {
			b.Fatalf("%q: %v", line, err)
		}
		if !strings.HasPrefix(reply, code) {
			b.Fatalf("%q: %q, want %s", line, reply, code)
		}
		if len(reply) < 4 || reply[3] != '-' {
			return
		}
	}
}

// callPlain takes mail as a server of 1982 does, one command at a time.
func callPlain(b *testing.B, addr string) {
	b.Helper()
	conn, lines := login(b, addr, "clinic")
	defer conn.Close()
	expect(b, conn, lines, "ATRN", "250")
	say := func(reply string) {
		if _, err := io.WriteString(conn, reply+"\r\n"); err != nil {
			b.Error(err)
		}
	}
	say("220 clinic.example")
	quiet, data := 3*time.Second, false
	for {
		_ = conn.SetReadDeadline(time.Now().Add(quiet))
		line, err := lines.ReadString('\n')
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded): // it lingers
			return
		case err != nil:
			b.Fatal(err)
		case data && line != ".\r\n":
		case line == "DATA\r\n":
			data = true
			say("354 go ahead")
		default:
			data = false
			say("250 ok")
		}
	}
}

func read(b *testing.B, file string) string {
	b.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}
