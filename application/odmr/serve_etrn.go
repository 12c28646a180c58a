package odmr

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"bothy/application/directory"
	"bothy/application/smtp"
)

// Hosts is what a Starter asks of the accounts; directory.Directory has it.
type Hosts interface {
	Held(domain string) (account string, ok bool)
	Customer(ctx context.Context, account string) (directory.Customer, error)
}

// Starter delivers to customers whose server has an address of its own, once that has said ETRN to the relay port (RFC 1985). Mail goes to
// the host that the account names and nowhere else, so anybody may ask: the RFC knows no login. Its fields are set before first use.
type Starter struct {
	Provider  func() *Provider // the one whose configuration is in force
	Directory Hosts
	Dial      func(ctx context.Context, network, address string) (net.Conn, error) // nil: net.Dialer's
	Roots     *x509.CertPool                                                       // who vouches for hosts; nil: the system's
	Log       *slog.Logger

	once  sync.Once
	asked chan started

	mu   sync.Mutex
	last map[string]time.Time // when an account's delivery was last begun; bounded by the accounts with a host
}

// started is an account's delivery, as it was asked for.
type started struct {
	customer directory.Customer
	domains  []string
}

const (
	// startInterval is how soon ETRN is obeyed again for the same account.
	startInterval = time.Minute
	// maxStarts bounds the deliveries under way, and those that wait for their turn.
	maxStarts = 20
	// dialTimeout bounds the wait for the customer's host.
	dialTimeout = time.Minute
)

func (s *Starter) init() {
	s.once.Do(func() {
		s.asked, s.last = make(chan started, maxStarts), map[string]time.Time{}
		if s.Log == nil {
			s.Log = slog.New(slog.DiscardHandler)
		}
	})
}

// Etrn answers ETRN; it is smtp.Server's. It never says whether mail waits (RFC 1985 §5.1: 251 to 253 are for servers that want to): who
// asks is not known.
func (s *Starter) Etrn(ctx context.Context, in *smtp.Session, node string) smtp.Reply {
	s.init()
	customer, domains, ok := s.find(ctx, node)
	if !ok {
		return smtp.Reply{Code: 459, Enhanced: [3]int{4, 7, 1}, Text: "Node " + node + " not allowed: no host to deliver to is known for it"}
	}
	if s.admit(customer.Account, time.Now()) {
		select {
		case s.asked <- started{customer, domains}:
			s.Log.Info("delivery asked for", "account", customer.Account, "peer", in.Peer, "node", node)
			return smtp.Reply{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: "OK, queuing for node " + node + " started"}
		default:
		}
	}
	return smtp.Reply{Code: 458, Enhanced: [3]int{4, 3, 2}, Text: "Unable to queue messages for node " + node + ": asked too often, try again in a minute"}
}

// find returns whose mail a node is (RFC 1985 §5.3): that of a domain, behind "@" with those below it, or behind "#" all of an account's.
func (s *Starter) find(ctx context.Context, node string) (c directory.Customer, domains []string, ok bool) {
	kind, name := node[:1], strings.ToLower(node[1:])
	account := name
	if kind != "#" {
		name = strings.ToLower(strings.TrimPrefix(node, "@"))
		if account, ok = s.Directory.Held(name); !ok {
			return c, nil, false
		}
	}
	c, err := s.Directory.Customer(ctx, account)
	if err != nil || c.Host == "" {
		return c, nil, false
	}
	for _, d := range c.Domains {
		if kind == "#" || d == name || kind == "@" && strings.HasSuffix(d, "."+name) {
			domains = append(domains, d)
		}
	}
	return c, domains, len(domains) > 0
}

// admit reports whether it is time for an account again.
func (s *Starter) admit(account string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if since := now.Sub(s.last[account]); since >= 0 && since < startInterval {
		return false
	}
	s.last[account] = now
	return true
}

// Run delivers what is asked for until ctx ends; then the messages under way are finished, and it returns nil.
func (s *Starter) Run(ctx context.Context) error {
	s.init()
	var under sync.WaitGroup
	defer under.Wait()
	for range maxStarts {
		under.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case a := <-s.asked:
					if err := s.deliver(ctx, a); err != nil {
						s.Log.Warn("delivery after ETRN failed", "account", a.customer.Account, "host", a.customer.Host, "err", err)
					}
				}
			}
		})
	}
	return nil
}

// deliver sends what waits in a session that we open, in the domains' seats.
func (s *Starter) deliver(ctx context.Context, a started) error {
	p := s.Provider()
	if p.Queue == nil || !p.gather(a.domains) {
		return nil
	}
	dial := s.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	nc, err := dial(ctx, "tcp", a.customer.Host)
	if err != nil {
		return err
	}
	defer nc.Close()
	out := &session{provider: p, log: s.Log, peer: a.customer.Host, since: time.Now()}
	out.watch(nc)
	defer out.leave()
	if err := p.sessions().take(ctx, out, a.customer.Account, a.domains); err != nil {
		return err
	}
	out.customer, out.keep = a.customer, a.customer.KeepLarge
	client := smtp.NewClient(out.conn, p.Hostname, p.Config.timeouts())
	out.err = s.send(ctx, out, client, a.customer.Host)
	return out.err
}

// send greets, secures what can be secured, and sends. Any certificate will do, which is as good as DNS would tell of a mail exchanger
// (RFC 7435 §3), but for mail whose sender requires more (RFC 8689 §4.2.1): the operator has named the host, so the name is what it must prove.
func (s *Starter) send(ctx context.Context, out *session, client *smtp.Client, address string) error {
	work := context.WithoutCancel(ctx) // a message under way is finished
	if err := client.Greet(work); err != nil {
		return fmt.Errorf("odmr: no greeting: %w", err)
	}
	out.stranger = true
	if _, offered := client.Has("STARTTLS"); offered {
		host, _, _ := net.SplitHostPort(address)
		cfg := &tls.Config{ServerName: host, InsecureSkipVerify: true}
		if err := client.StartTLS(work, cfg); err != nil {
			return fmt.Errorf("odmr: STARTTLS: %w", err)
		}
		out.stranger = !proves(client.Conn.TLS(), host, s.Roots)
	}
	err := out.send(ctx, client)
	return cmp.Or(err, client.Quit(work))
}

// proves reports whether somebody who is trusted vouches for the host's certificate.
func proves(state *tls.ConnectionState, host string, roots *x509.CertPool) bool {
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: host})
	return err == nil
}
