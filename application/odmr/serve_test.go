package odmr

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"bothy/application/directory"
	"bothy/application/sasl"
	"bothy/application/smtp"
	"bothy/lib/sim"
	"bothy/lib/transcript"
)

// customers is a directory in memory. The account "broken" cannot be looked up.
type customers map[string]directory.Customer

func (c customers) Customer(_ context.Context, account string) (directory.Customer, error) {
	if account == "broken" {
		return directory.Customer{}, errors.New("database is locked")
	}
	found, ok := c[account]
	if !ok {
		return found, fmt.Errorf("customer: %w", directory.ErrNotFound)
	}
	return found, nil
}

func (customers) Contact(context.Context, string, time.Time) error { return nil }

// login lets everybody in under the name they give: EXTERNAL by its initial response, CRAM-MD5 with the challenge and the
// response of RFC 2645 §6.
type login struct{ any bool } // any: whatever the digest

func (login) Mechanisms(ch sasl.Channel) []string {
	if ch.TLS == nil {
		return []string{"CRAM-MD5", "EXTERNAL"}
	}
	return []string{"EXTERNAL", "PLAIN", "CRAM-MD5"}
}

func (l login) Start(mechanism string, _ sasl.Channel) (sasl.Server, error) {
	return &loginServer{cram: mechanism == "CRAM-MD5", any: l.any}, nil
}

type loginServer struct {
	cram     bool
	any      bool
	asked    bool
	identity string
}

func (l *loginServer) Next(_ context.Context, response []byte) (challenge []byte, done bool, err error) {
	if !l.cram {
		l.identity = string(response)
		if parts := strings.Split(l.identity, "\x00"); len(parts) == 3 { // PLAIN
			l.identity = parts[1]
		}
		return nil, true, nil
	}
	if !l.asked {
		l.asked = true
		return []byte("1896.697170952@ISP.COM\n"), false, nil
	}
	user, digest, _ := strings.Cut(string(response), " ")
	if !l.any && digest != "b913a602c7eda7a495b4e6e7334d3890\n" {
		return nil, false, sasl.ErrCredentials
	}
	l.identity = user
	return nil, true, nil
}

func (l *loginServer) Identity() string { return l.identity }

// takeSeat opens a session of an account that stays alive as long as the test.
func takeSeat(t *testing.T, p *Provider, account string, domains ...string) {
	_, far := sim.Pipe(sim.Path{})
	s := &session{provider: p, log: slog.New(slog.DiscardHandler)}
	s.watch(far)
	if err := p.own.take(t.Context(), s, account, domains); err != nil {
		t.Fatal(err)
	}
	s.stage.Store(int32(StateSending))
	go func() {
		for t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
			s.wire.beat(1)
		}
	}()
}

// TestProvider plays the customer's side of each transcript; behind it stands what must be left of the mail for the
// customer's domain: nothing where the transcript takes it, all of it everywhere else.
func TestProvider(t *testing.T) {
	taken := map[string]bool{"take-mail": true, "two-line-steps": true, "long-steps": true, "twice": true, "size-552": true, "all-domains": true, "greeting-long": true, "greeting-two-lines": true, "starttls-offered-again": true}
	transcript.Run(t, "testdata/provider/*.txt", func(t *testing.T, name string) net.Conn {
		spool := openSpool(t, sim.NewDisk(), providerRouter)
		send(t, spool, "Lester.Tester@dot.foo.bar", "Subject: one\r\n\r\n.dot\r\n", "l.eva.msg@example.com")
		send(t, spool, "a@sender.example", "Subject: two\r\n\r\n.dot\r\n", "keeper@clinic.example", "keeper@light.example")
		send(t, spool, "a@sender.example", "Subject: three\r\n\r\n", "gone@ward.example", "full@ward.example", "nurse@ward.example")
		send(t, spool, "a@sender.example", "Subject: four\r\n\r\n", "a@twin.example", "b@twin.example.net", "c@light.example")
		p := &Provider{
			Hostname: "provider.example", Auth: login{}, Queue: spool,
			Directory: customers{
				"foobar.net": {Account: "foobar.net", Domains: []string{"example.org", "example.com"}},
				"clinic":     {Account: "clinic", Domains: []string{"clinic.example", "clinic.example.net"}},
				"ward":       {Account: "ward", Domains: []string{"ward.example"}},
				"twins":      {Account: "twins", Domains: []string{"twin.example", "twin.example.net"}},
				"hasty":      {Account: "hasty", Domains: []string{"clinic.example"}, MinInterval: 5 * time.Minute, LastContact: time.Now().Add(-time.Minute)},
				"busy":       {Account: "busy", Domains: []string{"busy.example"}},
				"lonely":     {Account: "lonely", Domains: []string{"lonely.example"}, EmptyTurns: true},
				"patient":    {Account: "patient", Domains: []string{"lonely.example"}, Linger: time.Hour},
				"poller":     {Account: "poller", Domains: []string{"lonely.example"}, LongPoll: 20 * time.Millisecond},
			},
		}
		takeSeat(t, p, "busy", "busy.example")
		switch {
		case strings.HasPrefix(name, "linger"):
			p.Config.NoopInterval = 5 * time.Millisecond
		case strings.HasPrefix(name, "take-mail"):
			p.Intake = &smtp.Server{Accept: spool, RequireTLS: name == "take-mail-clear"}
		case name == "network":
			p.Config.Networks = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
		case strings.Contains(name, "tls") && name != "starttls-offered-again":
			p.TLS = serverTLS()
			p.Config.RequireTLS = name == "require-tls"
		}
		near, far := sim.Pipe(sim.Path{})
		served := make(chan error, 1)
		go func() { served <- p.Serve(context.WithoutCancel(t.Context()), far) }()
		t.Cleanup(func() {
			<-served
			want := 1
			if taken[name] {
				want = 0
			}
			waiting := map[string]int{"clinic.example": want, "light.example": 2, "twin.example": 1, "twin.example.net": 1}
			switch name {
			case "subset":
				waiting["twin.example"] = 0
			case "two-domains":
				waiting["twin.example"], waiting["twin.example.net"] = 0, 0
			}
			for domain, want := range waiting {
				if _, all := spool.Waiting(lane(domain)); all != want {
					t.Errorf("%d recipients wait for %s, want %d", all, domain, want)
				}
			}
			if name == "recipients-apart" {
				if due, all := spool.Waiting(lane("ward.example")); due != 0 || all != 1 {
					t.Errorf("%d recipients are due and %d wait, want 0 and 1", due, all)
				}
				if _, all := spool.Waiting("mx/sender.example"); all != 1 {
					t.Errorf("%d notices to the sender, want 1", all)
				}
			}
			if open := p.own.All(); len(open) == 0 || open[0].Account != "busy" || len(p.own.seats) != 1 {
				t.Errorf("sessions left open: %v", open)
			}
		})
		return transcript.WithTLS(near, func(c net.Conn) *tls.Conn {
			return tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		})
	})
}
