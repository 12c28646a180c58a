package smtp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/sasl"
	"bothy/lib/transcript"
)

// clock is the time in Received fields of tests.
func clock() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600)) }

// mail is one message that a store took.
type mail struct {
	env  message.Envelope
	body string
}

// store is an Acceptor in memory.
type store struct {
	mu    sync.Mutex
	mails []mail
	err   error // refuses everything, unread
}

func (st *store) Accept(_ context.Context, env *message.Envelope, body io.Reader) error {
	if st.err != nil {
		return st.err
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.mails = append(st.mails, mail{env.Clone(), string(content)})
	return nil
}

// show is an Acceptor that says what it got: what is in the transcript is what the mailbox holds.
type show struct{}

func (show) Accept(_ context.Context, env *message.Envelope, body io.Reader) error {
	content, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("from <%s> body=%s utf8=%t size=%d submitter=%s account=%s", ascii(env.ReversePath), env.Body, env.UTF8,
		env.Size, env.Submitter, env.Account)
	if wishes := wishes(env); wishes != "" {
		text += "\n" + wishes
	}
	for _, to := range env.Recipients {
		text += fmt.Sprintf("\nto <%s>", ascii(to.Address))
		if to.Notify != 0 || to.Original != "" {
			text += fmt.Sprintf(" notify=%s original=%s", to.Notify, strings.Trim(strconv.QuoteToASCII(to.Original), `"`))
		}
	}
	for line := range strings.Lines(string(content)) {
		text += "\n" + strings.Trim(strconv.QuoteToASCII(line), `"`)
	}
	return Reply{250, [3]int{2, 0, 0}, text}
}

// judge is an Acceptor and a Policy with reasons of its own.
type judge struct{}

func (judge) Accept(_ context.Context, env *message.Envelope, body io.Reader) error {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return err
	}
	switch env.ReversePath.Local {
	case "busy":
		return Reply{450, [3]int{4, 7, 1}, "greylisted"}
	case "spam":
		return Reply{550, [3]int{5, 7, 1}, "not wanted"}
	}
	return nil
}

func (judge) Mail(context.Context, *Session, *message.Envelope) error { return nil }

func (judge) Rcpt(_ context.Context, _ *Session, _ *message.Envelope, to *message.Recipient) error {
	switch to.Address.Local {
	case "gone":
		return Reply{551, [3]int{5, 1, 6}, "User not local; please try <gone@far.example>"}
	case "other":
		return Reply{556, [3]int{5, 1, 10}, "the domain takes no mail"}
	}
	return nil
}

// wishes tells what an envelope asks for beyond delivery.
func wishes(env *message.Envelope) string {
	var words []string
	say := func(given bool, format string, values ...any) {
		if given {
			words = append(words, fmt.Sprintf(format, values...))
		}
	}
	say(env.Return != 0, "ret=%s", env.Return)
	say(env.EnvelopeID != "", "envid=%q", env.EnvelopeID)
	say(env.Priority != 0, "priority=%d", env.Priority)
	say(env.RequireTLS, "requiretls")
	say(!env.DeliverBy.At.IsZero(), "by=%s return=%t trace=%t", env.DeliverBy.At.Format(time.RFC3339), env.DeliverBy.Return, env.DeliverBy.Trace)
	say(env.Solicit != "", "solicit=%s", env.Solicit)
	say(env.TLSOptional, "tls=no")
	say(!env.HoldUntil.IsZero(), "hold=%s for=%s", env.HoldUntil.Format(time.RFC3339), env.HoldFor)
	return strings.Join(words, " ")
}

func ascii(a message.Address) string { return strings.Trim(strconv.QuoteToASCII(a.String()), `"`) }

// text returns the content of mail i without our Received field.
func (st *store) text(t *testing.T, i int) string {
	t.Helper()
	st.mu.Lock()
	defer st.mu.Unlock()
	if i >= len(st.mails) {
		t.Fatalf("%d mails, want one more", len(st.mails))
	}
	return withoutReceived(t, st.mails[i].body)
}

func withoutReceived(t *testing.T, s string) string {
	t.Helper()
	if !strings.HasPrefix(s, "Received: ") {
		t.Fatalf("no Received field: %q", s)
	}
	for {
		_, rest, ok := strings.Cut(s, "\r\n")
		if !ok {
			t.Fatalf("unfinished Received field: %q", s)
		}
		if s = rest; !strings.HasPrefix(s, "\t") {
			return s
		}
	}
}

// people is a Policy: a local part says what becomes of its address.
type people struct{}

func (people) Mail(_ context.Context, _ *Session, env *message.Envelope) error {
	return verdict(env.ReversePath.Local)
}

func (people) Rcpt(_ context.Context, _ *Session, _ *message.Envelope, to *message.Recipient) error {
	return verdict(to.Address.Local)
}

func verdict(local string) error {
	switch local {
	case "nobody":
		return Reply{550, [3]int{5, 1, 1}, "no such mailbox"}
	case "busy":
		return Reply{450, [3]int{4, 2, 1}, "mailbox busy"}
	case "moved":
		return Reply{251, [3]int{2, 1, 5}, "will forward"}
	case "broken":
		return errors.New("database on fire")
	case "panic":
		panic("policy")
	case "bye":
		return Reply{421, [3]int{4, 7, 1}, "go away"}
	}
	return nil
}

// guard is an Authenticator: PLAIN under TLS, and TEST, which asks "who?" and takes "keeper" for an answer.
type guard struct{}

func (guard) Mechanisms(ch sasl.Channel) []string {
	if ch.TLS == nil {
		return []string{"TEST"}
	}
	return []string{"TEST", "PLAIN"}
}

func (guard) Start(mechanism string, ch sasl.Channel) (sasl.Server, error) {
	switch {
	case mechanism == "PLAIN" && ch.TLS == nil:
		return nil, sasl.ErrPlaintext
	case mechanism == "TEST", mechanism == "PLAIN":
		return &question{}, nil
	}
	return nil, sasl.ErrMechanism
}

type question struct{ identity string }

func (q *question) Next(_ context.Context, response []byte) ([]byte, bool, error) {
	switch {
	case response == nil:
		return []byte("who?"), false, nil
	case string(response) == "keeper":
		q.identity = "keeper"
		return nil, true, nil
	case string(response) == "later":
		return nil, false, errors.New("directory is away")
	case string(response) == "fast":
		return nil, false, sasl.ErrThrottled
	case string(response) == "odd":
		return nil, false, sasl.ErrMalformed
	}
	return nil, false, sasl.ErrCredentials
}

func (q *question) Identity() string { return q.identity }

// answer is the client's half of TEST.
type answer struct{ initial, say string }

func (answer) Name() string { return "TEST" }

func (a answer) Start() ([]byte, error) {
	if a.initial == "" {
		return nil, nil
	}
	return []byte(a.initial), nil
}

func (a answer) Next(challenge []byte) ([]byte, error) {
	if string(challenge) != "who?" {
		return nil, errors.New("odd question")
	}
	return []byte(a.say), nil
}

func newServer(accept Acceptor) *Server {
	return &Server{Hostname: "light.example", Policy: people{}, Accept: accept, Now: clock}
}

// testTLS is a server's TLS with a certificate for nobody; testTLSClient trusts it.
func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

var testTLSClient = &tls.Config{InsecureSkipVerify: true}

// serve runs srv on one end of a pipe and returns the other; the test waits for its end.
func serve(t testing.TB, srv *Server) net.Conn {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		_ = srv.Serve(context.Background(), NewConn(far))
	}()
	t.Cleanup(func() { near.Close(); <-done })
	return near
}

func TestServerTranscripts(t *testing.T) {
	config := testTLS(t)
	transcript.Run(t, "testdata/server/*.txt", func(t *testing.T, name string) net.Conn {
		srv := newServer(&store{})
		kind, _, _ := strings.Cut(name, "-")
		switch kind {
		case "submission":
			srv.Protocol, srv.Auth, srv.TLS = Submission, guard{}, config
		case "held":
			srv.Protocol, srv.Auth, srv.TLS = Held, guard{}, config
		case "auth":
			srv.Auth = guard{}
		case "starttls":
			srv.Auth, srv.TLS = guard{}, config
		case "requiretls":
			srv.Auth, srv.TLS, srv.RequireTLS = guard{}, config, true
		case "full":
			srv.Accept = &store{err: Reply{452, [3]int{4, 3, 1}, "disk full"}}
		case "fault":
			srv.Accept = &store{err: errors.New("disk on fire")}
		case "show":
			srv.Accept = show{}
		case "show_submission":
			srv.Protocol, srv.Auth, srv.Accept = Submission, guard{}, show{}
		case "show_identify":
			srv.Protocol, srv.Auth, srv.Accept, srv.TLS = Submission, guard{}, show{}, config
			srv.Identify = func(net.Conn) string { return "root" }
		case "show_starttls":
			srv.TLS, srv.Auth, srv.Accept = config, guard{}, show{}
		case "lenient":
			srv.Accept, srv.AllowBareNewlines = show{}, true
		case "strict":
			srv.Refuse8Bit = true
		case "errors":
			srv.Limits.Errors = 5
		case "recipients":
			srv.Limits.Recipients = 3
		case "refuse":
			srv.Limits.Recipients, srv.Limits.Excess = 3, "refuse"
		case "reject":
			srv.Limits.Recipients, srv.Limits.Excess = 3, "reject"
		case "verify":
			srv.Verify = func(_ context.Context, _ *Session, name string) Reply { return names[name] }
			srv.Expand = func(_ context.Context, _ *Session, name string) Reply { return names[name] }
		case "judge":
			srv.Accept, srv.Policy = judge{}, judge{}
		case "zone":
			srv.Accept, srv.ShowZone = show{}, true
			srv.Now = func() time.Time { return clock().In(time.FixedZone("CET", 3600)) }
		case "turn":
			srv.Auth = guard{}
		case "offer":
			srv.Offer, srv.Accept = everything, show{}
		case "offer_solicit":
			srv.Offer, srv.Accept = Offer{NoSoliciting: true, Unsolicited: []string{"net.example:ADV", "org.example:ADV:ADLT"}}, show{}
		case "show_solicit":
			srv.Offer, srv.Accept = Offer{NoSoliciting: true}, show{}
		case "offer_starttls":
			srv.Offer, srv.Accept, srv.TLS = everything, show{}, config
		case "offer_submission":
			srv.Protocol, srv.Auth, srv.Offer, srv.Accept = Submission, guard{}, everything, show{}
		case "offer_limits":
			srv.Offer.Limits, srv.Limits.Mails, srv.Limits.RecipientDomains = true, 3, 2
		case "etrn":
			srv.Etrn = func(_ context.Context, _ *Session, node string) Reply { return queues[node] }
		case "refusing_host":
			srv.Refusal, srv.Extensions = Reply{Code: 521, Text: "does not accept mail"}, []Extension{{Verb: "ATRN", Keyword: "ATRN", Run: turn}}
		case "refusing_peer":
			srv.Refusal = Reply{Code: 554, Text: "no mail from your network"}
		case "idle":
			srv.Limits.Idle = 5
		case "deflate":
			srv.Offer.Deflate = true
		case "small":
			srv.Limits.MessageSize = 1000
		case "checkpoint":
			srv = checkpointed(t)
		}
		if strings.Contains(name, "turn") {
			srv.Extensions = []Extension{{Verb: "ATRN", Keyword: "ATRN", Run: turn}}
		}
		return transcript.WithTLS(serve(t, srv), func(c net.Conn) *tls.Conn { return tls.Client(c, testTLSClient) })
	})
}

// everything is an Offer of all there is.
var everything = Offer{
	Tracking: true, DSN: true, BinaryMIME: true, Limits: true, RequireTLS: true, Priority: true, PriorityPolicy: "MIXER", DeliverBy: 30 * time.Second, FutureRelease: 24 * time.Hour,
}

// names is what VRFY and EXPN find.
var names = map[string]Reply{
	"keeper": {250, [3]int{2, 1, 5}, "<keeper@light.example>"},
	"moved":  {251, [3]int{2, 1, 5}, "User not local; will forward to <moved@far.example>"},
	"gone":   {551, [3]int{5, 1, 6}, "User not local; please try <gone@far.example>"},
	"nobody": {550, [3]int{5, 1, 1}, "no such mailbox"},
	"jon":    {553, [3]int{5, 1, 4}, "ambiguous: <jon.a@light.example>\n<jon.b@light.example>"},
	"bjorn":  {250, [3]int{2, 1, 5}, "<bjørn@light.example>"},
	"crew":   {250, [3]int{2, 1, 5}, "<keeper@light.example>\n<mate@light.example>"},
	"others": {252, [3]int{2, 5, 0}, "not here"},
}

// queues is what ETRN finds.
var queues = map[string]Reply{
	"sigurd.example":  {250, [3]int{2, 0, 0}, "OK, queuing for node sigurd.example started"},
	"@mysoft.example": {253, [3]int{2, 0, 0}, "OK, 14 pending messages for node @mysoft.example started"},
	"#uucp":           {251, [3]int{2, 0, 0}, "OK, no messages waiting for node #uucp"},
	"foo.example":     {459, [3]int{4, 0, 0}, "Node foo.example not allowed: not yours"},
}

// turn is ATRN as little as can be.
func turn(_ context.Context, s *Session, arg string) (Reply, bool) {
	switch {
	case s.Identity == "":
		return Reply{530, [3]int{5, 7, 0}, "authentication required"}, false
	case arg == "none.example":
		return Reply{453, [3]int{4, 0, 0}, "you have no mail"}, false
	}
	return Reply{250, [3]int{2, 0, 0}, "now reversing the connection"}, true
}

func TestClientServer(t *testing.T) {
	long := strings.Repeat("a line of text, not very long\r\n..dots\r\n.\r\n", 5000)
	for name, c := range map[string]struct{ drop, body string }{
		"BDAT in one flight":  {"", "Subject: x\r\n\r\nhello\r\n.\r\n..\r\n"},
		"BDAT in chunks":      {"", long},
		"BDAT in lock step":   {"PIPELINING", long},
		"DATA in one flight":  {"CHUNKING", "Subject: x\r\n\r\nhello\r\n.\r\n..\r\n"},
		"DATA, long":          {"CHUNKING", long},
		"DATA in lock step":   {"CHUNKING PIPELINING", long},
		"DATA, empty":         {"CHUNKING", ""},
		"BDAT, empty":         {"", ""},
		"DATA, no last CRLF":  {"CHUNKING", "a\r\n.b"},
		"BDAT, no last CRLF":  {"", "a\r\n.b"},
		"no extension at all": {"CHUNKING PIPELINING SIZE 8BITMIME SMTPUTF8 ENHANCEDSTATUSCODES", long},
	} {
		t.Run(name, func(t *testing.T) {
			st := &store{}
			client := NewClient(NewConn(serve(t, newServer(st))), "site.example", Timeouts{})
			if err := client.Greet(t.Context()); err != nil {
				t.Fatal(err)
			}
			for keyword := range strings.FieldsSeq(c.drop) {
				delete(client.keywords, keyword)
			}
			env := &message.Envelope{Recipients: recipients("a", "nobody", "b", "busy", "moved")}
			for i := range 2 {
				replies, err := client.Send(t.Context(), env, strings.NewReader(c.body), int64(len(c.body)))
				if err != nil {
					t.Fatal(err)
				}
				var codes []int
				for _, r := range replies {
					codes = append(codes, r.Code)
				}
				if want := []int{250, 550, 250, 450, 250}; !equal(codes, want) {
					t.Fatalf("%v, want %v", codes, want)
				}
				want := c.body
				if strings.Contains(c.drop, "CHUNKING") && want != "" && !strings.HasSuffix(want, "\r\n") {
					want += "\r\n" // RFC 5321 §4.1.1.4
				}
				if got := st.text(t, i); got != want {
					t.Fatalf("%d octets, want %d: %.100q", len(got), len(want), got)
				}
			}
			if err := client.Quit(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func recipients(locals ...string) (to []message.Recipient) {
	for _, local := range locals {
		to = append(to, message.Recipient{Address: message.Address{Local: local, Domain: "light.example"}})
	}
	return to
}

func equal(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func envelope(to []message.Recipient) *message.Envelope {
	return &message.Envelope{ReversePath: message.Address{Local: "a", Domain: "site.example"}, Recipients: to}
}
