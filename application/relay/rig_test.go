package relay

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/sasl"
	"bothy/application/smtp"
)

// rig is a relay at work: a real queue before it, an internet behind it.
type rig struct {
	t     *testing.T
	net   *internet
	queue *queue.Spool
	relay *Relay
	stop  func() // ends the relay and waits for it

	mu     sync.Mutex
	sent   []string // "far.example bob 250", in order
	last   string   // the last reply, in full
	failed []string // "bob@far.example 5.1.2", as the notice would say
	onward []string // "bob@far.example", that were to be told of as relayed
}

// lanes routes as package route would: home.example and work.example by the smarthost, lan.example by a server on this side of the uplink, the rest by MX.
type lanes struct{}

func (lanes) Lane(_ *message.Envelope, to *message.Recipient) queue.Lane {
	switch to.Address.Domain {
	case "home.example", "work.example":
		return "smarthost/mail.provider.example:587"
	case "lan.example":
		return "lan/192.168.1.5:25"
	}
	return queue.Lane("mx/" + to.Address.Domain)
}

// oneLane routes everything to itself.
type oneLane queue.Lane

func (l oneLane) Lane(*message.Envelope, *message.Recipient) queue.Lane { return queue.Lane(l) }

// Compose is queue.Notifier's: no notice, but noted.
func (g *rig) Compose(r *queue.Report) (*message.Envelope, io.ReadCloser) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range r.Outcomes {
		switch o.Action {
		case queue.GivenUp:
			g.failed = append(g.failed, fmt.Sprintf("%v %s", o.Recipient.Address, enhanced(o.Reply)))
		case queue.Relayed:
			g.onward = append(g.onward, o.Recipient.Address.String())
		}
	}
	return nil, nil
}

func enhanced(r smtp.Reply) string {
	return fmt.Sprintf("%d.%d.%d", r.Enhanced[0], r.Enhanced[1], r.Enhanced[2])
}

// newRig starts a relay in the present synctest bubble; it ends with the test's function when that calls stop.
func newRig(t *testing.T, n *internet, o Options, cfg Config) *rig {
	t.Helper()
	g := &rig{t: t, net: n}
	g.queue = openQueue(t, lanes{}, g)
	o.Queue, o.Dial = g.queue, n.Dial
	o.Sent = func(lane queue.Lane, _ message.ID, to message.Address, reply smtp.Reply) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.sent, g.last = append(g.sent, fmt.Sprintf("%s %s %d", lane.Name(), to.Local, reply.Code)), reply.Error()
	}
	g.relay = newRelay(t, o, cfg, "mail.provider.example:587")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- g.relay.Run(ctx) }()
	g.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	return g
}

// openQueue opens a real spool that ends with the test.
func openQueue(t *testing.T, router queue.Router, notifier queue.Notifier) *queue.Spool {
	t.Helper()
	q, err := queue.Open(t.Context(), queue.Options{
		Dir: t.TempDir(), Router: router, Notifier: notifier, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		Config: queue.Config{SegmentSize: 1 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- q.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, q.Close()); err != nil {
			t.Errorf("queue: %v", err)
		}
	})
	return q
}

// oneAccount is all the accounts of a smarthost.
type oneAccount struct{ name, password string }

func (a oneAccount) Verifier(_ context.Context, name string) (sasl.Verifier, error) {
	if name != a.name {
		return sasl.Verifier{}, sasl.ErrCredentials
	}
	return sasl.NewVerifier(a.name, a.password, 4096)
}

func (oneAccount) Certificate(context.Context, *x509.Certificate) (string, error) {
	return "", sasl.ErrCredentials
}

// accept puts a message with text for to ("bob@far.example carol@far.example") into the queue.
func (g *rig) accept(text, to string) { g.acceptAs(text, to, func(*message.Envelope) {}) }

// acceptAs is accept with something changed.
func (g *rig) acceptAs(text, to string, change func(*message.Envelope)) {
	g.t.Helper()
	g.acceptText("Subject: x\r\n\r\n"+text+"\r\n", to, change)
}

// acceptText is acceptAs with a whole message.
func (g *rig) acceptText(text, to string, change func(*message.Envelope)) {
	g.t.Helper()
	time.Sleep(time.Millisecond) // the finest difference in age that the queue knows
	env := &message.Envelope{ID: message.NewID(time.Now()), ReversePath: message.Address{Local: "keeper", Domain: "light.example"}}
	for s := range strings.FieldsSeq(to) {
		address, err := message.ParseAddress(s)
		if err != nil {
			g.t.Fatal(err)
		}
		env.Recipients = append(env.Recipients, message.Recipient{Address: address})
	}
	change(env)
	if err := g.queue.Accept(g.t.Context(), env, strings.NewReader(text)); err != nil {
		g.t.Fatal(err)
	}
}

// pass lets time go by and everybody finish what they then do.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// expect compares what was told of recipients since it was last asked.
func (g *rig) expect(want string) {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if got := strings.Join(g.sent, ", "); got != want {
		g.t.Errorf("recipients got: %s; want: %s", got, want)
	}
	g.sent = nil
}

// left compares how many recipients of a lane are due and in all.
func (g *rig) left(lane queue.Lane, due, all int) {
	g.t.Helper()
	if d, a := g.queue.Waiting(lane); d != due || a != all {
		g.t.Errorf("%s: %d due of %d, want %d of %d", lane, d, a, due, all)
	}
}

// lastReply is the text of the newest reply to a recipient.
func (g *rig) lastReply() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

func (g *rig) failures() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.failed, ", ")
}

// remote is a mail server somewhere: it takes everything but what replies says otherwise for a local part, and notes it.
type remote struct {
	server smtp.Server
	mail   func(*smtp.Session) error // at MAIL
	during func() error              // while it has the message, before its reply

	secured atomic.Bool            // the last MAIL came over TLS
	account atomic.Pointer[string] // and from this account

	mu      sync.Mutex
	replies map[string]smtp.Reply
	got     []string // "first line of the body to local parts"
}

func newRemote(replies map[string]smtp.Reply) *remote {
	x := &remote{replies: replies}
	x.server = smtp.Server{Hostname: "mx.far.example", Policy: x, Accept: x, Log: slog.New(slog.DiscardHandler), Now: time.Now}
	return x
}

func (x *remote) serve(conn net.Conn) { x.server.Serve(context.Background(), smtp.NewConn(conn)) }

func (x *remote) Mail(_ context.Context, s *smtp.Session, _ *message.Envelope) error {
	if x.mail != nil {
		if err := x.mail(s); err != nil {
			return err
		}
	}
	x.secured.Store(s.Conn.TLS() != nil)
	account := s.Identity
	x.account.Store(&account)
	return nil
}

func (x *remote) Rcpt(_ context.Context, _ *smtp.Session, _ *message.Envelope, to *message.Recipient) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if reply, ok := x.replies[to.Address.Local]; ok {
		return reply
	}
	return nil
}

func (x *remote) Accept(_ context.Context, env *message.Envelope, body io.Reader) error {
	content, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if x.during != nil {
		if err := x.during(); err != nil {
			return err
		}
	}
	_, text, _ := strings.Cut(string(content), "\r\n\r\n")
	line, _, _ := strings.Cut(text, "\r\n")
	for _, to := range env.Recipients {
		line += " " + to.Address.Local
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.got = append(x.got, line)
	return nil
}

func (x *remote) identity() string { return *x.account.Load() }

// relent takes mail for local from now on.
func (x *remote) relent(local string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.replies, local)
}

// taken returns what came, and forgets it.
func (x *remote) taken() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	got := strings.Join(x.got, ", ")
	x.got = nil
	return got
}

// script is a server that says lines, one to begin with and one to each line it hears; then it closes.
func script(lines ...string) func(net.Conn) {
	return func(conn net.Conn) {
		heard := bufio.NewReader(conn)
		for i, line := range lines {
			if i > 0 {
				if _, err := heard.ReadString('\n'); err != nil {
					return
				}
			}
			if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
				return
			}
		}
	}
}

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	a.key, a.cert = nil, nil
	leaf := a.issue(t, "Test Authority")
	a.key, a.cert = leaf.PrivateKey.(*ecdsa.PrivateKey), leaf.Leaf
	a.pool.AddCert(a.cert)
	return a
}

// issue makes a certificate for name; the authority's own when it has none yet.
func (a *authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0), // a bubble begins in 2000
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage, template.DNSNames = true, true, x509.KeyUsageCertSign, nil
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// sharedTLS is a server's configuration with a certificate for whatever name.
func sharedTLS(t *testing.T, ca *authority) *tls.Config {
	t.Helper()
	return &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "what.ever.example")}}
}
