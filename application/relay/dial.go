package relay

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"bothy/application/queue"
	"bothy/application/relay/dane"
	"bothy/application/sasl"
	"bothy/application/smtp"
)

// hop is one server to try.
type hop struct {
	name      string // for people
	address   string // to dial
	tls       string // one of the modes of Config.TLS, tlsDANE or tlsEncrypted
	demand    string // who wants that
	sni       string // the name its certificate is asked for, and has where tls is "required"
	records   []dane.Record
	names     []string // for those
	trial     bool     // an MTA-STS policy is in testing: note whether it would hold
	smarthost bool     // or another server that the configuration names
	username  string   // to log in with; empty: no login by password
	password  string
	external  bool     // show it our certificate
	pins      []string // of its key; none: its name is to be proved
	lmtp      bool
	strict    bool // for mail whose sender requires TLS
}

func (h hop) login() bool { return h.username != "" || h.external }

// session is an open connection to a next hop, ready for a message.
type session struct {
	client *smtp.Client
	conn   *smtp.Conn
	remote string
	limits limits
	known  bool        // we have logged in
	strict bool        // fit for mail whose sender requires TLS (RFC 8689 §4.2.1)
	loose  bool        // fit for mail whose sender does not mind alone (RFC 8689 §4.1)
	spent  bool        // it takes no more recipients
	sent   int         // transactions
	mailed bool        // MAIL was taken in one of them
	second bool        // a server preferred to this one could not be used
	opened time.Time   // when
	origin smtp.Origin // who the server was told is behind the transactions
}

// full reports whether the server takes no further transaction in this session (RFC 9422 §4.1).
func (s *session) full() bool { return s.spent || s.limits.mails > 0 && s.sent >= s.limits.mails }

const quitTimeout = 2 * time.Second // nothing is lost without the reply to QUIT

// quit takes leave (RFC 5321 §4.1.1.10). The connection is still to be closed.
func (s *session) quit() {
	ctx, cancel := context.WithTimeout(context.Background(), quitTimeout)
	defer cancel()
	s.client.Quit(ctx)
}

// hops are the servers that take lane's mail, the preferred first.
func (set *settings) hops(lane queue.Lane) []string {
	if lane.Kind() == "smarthost" && len(set.smarthosts) > 0 && lane.Name() == set.smarthosts[0] {
		return set.smarthosts
	}
	return []string{lane.Name()}
}

// hop is what the configuration says of the server at address.
func (set *settings) hop(address string) hop {
	h := hop{name: address, address: address, tls: set.ViaTLS, demand: "relay.tls", smarthost: true}
	if host, _, err := net.SplitHostPort(address); err == nil {
		h.name = host
	}
	h.sni = h.name
	if slices.Contains(set.smarthosts, address) {
		h.tls, h.username, h.password, h.external = set.TLS, set.Username, set.Password, len(set.tls.Certificates) > 0
		h.pins = set.Pins
	}
	own := set.NextHops[address]
	h.lmtp = own.Protocol == protocolLMTP
	h.tls = cmp.Or(own.TLS, h.tls)
	if len(own.Pins) > 0 {
		h.pins = own.Pins
	}
	if own.Username != "" {
		h.username, h.password = own.Username, own.Password
	}
	return h
}

// connectHops opens a session with the first server that can be used, those not known to be ill before the others.
func (r *Relay) connectHops(ctx context.Context, set *settings, addresses []string, strict bool) (*session, *failure) {
	var t tally
	for _, address := range r.health.order(addresses, r.o.Now(), set.DialTimeout) {
		h := set.hop(address)
		if strict {
			h = h.strictly()
		}
		s, f := r.open(ctx, set, h)
		if f == nil {
			r.health.well(address)
			s.second = address != addresses[0]
			return s, nil
		}
		t.add(f.ours().final(strict))
		if ctx.Err() != nil {
			break
		}
		if len(addresses) > 1 && !strict {
			r.health.ill(address, r.o.Now())
			r.o.Log.Warn("smarthost passed over", "address", address, "reply", f.reply.Error())
		}
	}
	return nil, t.result()
}

// errHandshake wraps what broke a TLS handshake.
var errHandshake = errors.New("TLS handshake")

// open connects to h and brings the session to where MAIL may be sent.
func (r *Relay) open(ctx context.Context, set *settings, h hop) (*session, *failure) {
	s, err := r.prepare(ctx, set, h)
	if err != nil && errors.Is(err, errHandshake) && h.tls == tlsOpportunistic && !h.implicitTLS() && ctx.Err() == nil {
		h.tls = tlsNone // RFC 7435 §3: a broken offer of encryption is no worse than none
		s, err = r.prepare(ctx, set, h)
	}
	if err == nil {
		return s, nil
	}
	f := new(failure)
	if reply := (smtp.Reply{}); errors.As(err, &f) {
		return nil, f
	} else if errors.As(err, &reply) {
		return nil, &failure{reply: reply, remote: h.name}
	}
	f = later(4, 2, "%s ended the session before it began: %v", h.name, err)
	f.silent = true
	return nil, f
}

// prepare dials, greets, encrypts and logs in. Its error is a *failure, a Reply of the server, or what broke the connection.
func (r *Relay) prepare(ctx context.Context, set *settings, h hop) (_ *session, err error) {
	nc, err := r.dial(ctx, set, h)
	if err != nil {
		return nil, err
	}
	conn := smtp.NewConn(nc)
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	s := &session{conn: conn, remote: h.name, known: h.login(), strict: h.strict, opened: r.o.Now()}
	s.client = smtp.NewClient(conn, r.o.Hostname, smtp.Timeouts{
		Greeting: set.CommandTimeout, Mail: set.CommandTimeout, Rcpt: set.CommandTimeout, DataInit: set.CommandTimeout, Command: set.CommandTimeout,
		DataBlock: set.DataTimeout, DataDone: set.DoneTimeout,
	})
	s.client.LMTP = h.lmtp
	if err := s.client.Greet(ctx); errors.Is(err, os.ErrDeadlineExceeded) { // RFC 5321 §4.5.3.2.1: not the same as no connection
		f := later(4, 2, "%s took the connection and did not greet within %v", h.name, set.CommandTimeout)
		f.silent = true
		return nil, f
	} else if err != nil {
		return nil, err
	}
	if err := r.encrypt(ctx, s, set, h); err != nil {
		return nil, err
	}
	if h.login() {
		if err := s.login(ctx, set, h); err != nil {
			return nil, err
		}
	}
	if _, offered := s.client.Has("REQUIRETLS"); h.strict && !offered { // RFC 8689 §4.2.1
		s.quit()
		return nil, unwilling(h)
	}
	s.limits = limitsOf(s.client)
	return s, nil
}

// dial opens the connection, and TLS on it where that comes first.
func (r *Relay) dial(ctx context.Context, set *settings, h hop) (net.Conn, error) {
	dialing, cancel := context.WithTimeout(ctx, set.DialTimeout)
	defer cancel()
	nc, err := r.o.Dial(dialing, "tcp", h.address)
	if err != nil {
		f := later(4, 1, "cannot reach %s: %v", h.address, err)
		f.silent, f.unreached = true, !errors.Is(err, syscall.ECONNREFUSED) // a refusal has come over the uplink
		return nil, f
	}
	if !h.implicitTLS() {
		return nc, nil
	}
	shaking, cancel := context.WithTimeout(ctx, set.DialTimeout)
	defer cancel()
	tc := tls.Client(nc, r.tlsConfig(set, h))
	if err := tc.HandshakeContext(shaking); err != nil {
		nc.Close()
		return nil, tlsFailure(h, err)
	}
	return tc, nil
}

// implicitTLS reports whether TLS comes before the greeting: RFC 8314 §3.3 gives port 465 to that.
func (h hop) implicitTLS() bool {
	_, port, _ := net.SplitHostPort(h.address)
	return h.smarthost && h.tls != tlsNone && port == "465"
}

// encrypt is STARTTLS, as far as h.tls wants it.
func (r *Relay) encrypt(ctx context.Context, s *session, set *settings, h hop) error {
	if h.tls == tlsNone || h.implicitTLS() {
		return nil
	}
	_, offered := s.client.Has("STARTTLS")
	if !offered && h.mandatory() {
		return later(7, 10, "%s does not offer STARTTLS, which is required (%s)", h.address, h.demand) // RFC 7672 §2.2, RFC 8461 §5
	}
	if !offered && h.trial {
		r.o.Log.Info("MTA-STS policy in testing would refuse a server without STARTTLS", "exchanger", h.name)
	}
	if !offered {
		return nil
	}
	shaking, cancel := context.WithTimeout(ctx, set.DialTimeout)
	defer cancel()
	err := s.client.StartTLS(shaking, r.tlsConfig(set, h))
	refused := errors.As(err, new(smtp.Reply))
	switch {
	case err == nil:
		return nil
	case refused && !h.mandatory(): // RFC 3207 §4: the client decides; the session goes on in the clear
		return nil
	case refused:
		return later(7, 10, "%s refuses STARTTLS, which is required (%s): %v", h.address, h.demand, err)
	}
	return tlsFailure(h, err)
}

func tlsFailure(h hop, err error) error {
	if !h.mandatory() {
		return fmt.Errorf("%w with %s: %w", errHandshake, h.address, err)
	}
	hint := ""
	if errors.As(err, new(x509.UnknownAuthorityError)) && h.smarthost {
		hint = "; if its authority is to be trusted, name it in ca_file"
	}
	return later(7, 5, "no verified TLS with %s, which is required (%s): %v%s", h.address, h.demand, err, hint) // RFC 3463 §3.8: X.7.5
}

// login authenticates with the best mechanism both sides have (RFC 4954 §4). Every failure passes: the operator can mend it.
func (s *session) login(ctx context.Context, set *settings, h hop) error {
	params, ok := s.client.Has("AUTH")
	if !ok {
		return later(7, 0, "%s does not offer AUTH, and there is a username for it", h.address)
	}
	offered, channel := strings.Fields(params), sasl.Channel{TLS: s.conn.TLS()}
	if channel.TLS != nil && h.tls != tlsRequired {
		// Nobody has verified who that is: only what does not show the password will do.
		offered = scramOnly(offered)
	}
	mechanism, err := sasl.Choose(offered, channel, sasl.Credentials{
		Username: h.username, Password: h.password, Certificate: channel.TLS != nil && h.external,
	})
	if err != nil {
		return later(7, 0, "no way to log in at %s: %v", h.address, err)
	}
	err = s.client.Auth(ctx, mechanism)
	if errors.As(err, new(smtp.Reply)) {
		return later(7, 8, "%s refuses the login of %q: %v", h.address, h.username, err)
	}
	return err
}

func scramOnly(offered []string) []string {
	var scram []string
	for _, name := range offered {
		if strings.HasPrefix(strings.ToUpper(name), "SCRAM-") {
			scram = append(scram, name)
		}
	}
	return scram
}
