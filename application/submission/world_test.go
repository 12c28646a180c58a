package submission

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"bothy/application/checkpoint"
	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/lib/sim"
)

// house is a directory as submission sees one: light.example and foo.example are local, keeper and his people have names there.
type house struct {
	as     map[string][]string
	rights map[string]directory.Rights
}

var home = &house{as: people, rights: map[string]directory.Rights{}}

func (h *house) MaySend(account string, a message.Address) bool {
	return names(h.as).MaySend(account, a)
}
func (h *house) Chief() string { return "light.example" }
func (h *house) Local(domain string) bool {
	return slices.Contains([]string{"light.example", "foo.example", "sales.light.example", "desk.sales.light.example"}, domain)
}

func (h *house) Resolve(a message.Address) []string {
	for account, list := range h.as {
		if slices.Contains(list, a.String()) {
			return []string{account}
		}
	}
	return nil
}

func (h *house) MaySendTo(account string, a message.Address) bool {
	to := h.rights[account].SendTo
	return len(to) == 0 || slices.Contains(to, "@"+a.Domain)
}
func (h *house) Rights(account string) directory.Rights { return h.rights[account] }

func (h *house) Address(account string) (message.Address, bool) {
	a, err := message.ParseAddress(account + "@light.example")
	return a, err == nil
}

func (h *house) Certificate(_ context.Context, cert *x509.Certificate) (string, error) {
	if cert.Subject.CommonName == "keeper" {
		return "keeper", nil
	}
	return "", errors.New("no such key")
}

// with returns the house with rights of the keeper's.
func with(r directory.Rights) *house {
	return &house{as: people, rights: map[string]directory.Rights{"keeper": r}}
}

// agent is an Agent in a house; its clock stands still.
func agent(h *house, cfg Config, next smtp.Acceptor) *Agent {
	return New(Options{
		Checkpoints: checkpoints(), Tracking: true,
		Config: cfg, Hostname: "mail.light.example", Directory: h, Names: h, Permissions: h, Accounts: h, Next: next,
		Now: func() time.Time { return now },
		Canonical: func(_ context.Context, domain string) string {
			if machine, ok := strings.CutPrefix(domain, "www."); ok {
				return "mx." + machine
			}
			return domain
		},
	})
}

// checkpoints is a store on a disk in memory.
func checkpoints() *checkpoint.Store {
	s, err := checkpoint.Open(checkpoint.Options{Dir: "partial", FS: sim.NewDisk(), Accepted: func(message.TransactionKey) (t message.Transaction, id message.ID, ok bool) {
		return t, id, false
	}})
	if err != nil {
		panic(err) // nothing that is there could break
	}
	return s
}

// resumed is the test of what a client hears that comes back to a message of which two chunks had come.
func resumed(t *testing.T, codes map[string]bool) string {
	a, mail := agent(home, Config{}, &kept{}), mailFrom+" TRANSID=<1@desk.light.example>"
	chunk := "BDAT 20000\r\n" + strings.Repeat("0123456\r\n.", 2000)
	dialogue(t, a, codes, mail, rcptTo, chunk, chunk)
	return dialogue(t, a, codes, mail)
}

// session speaks with a whole server that the agent stands behind. Lines are sent one by one, each reply is read; the text after DATA is
// one line with its own line ends. It returns the last reply; codes gathers all.
func session(t *testing.T, a *Agent, codes map[string]bool, lines ...string) string {
	t.Helper()
	s := a.Server(&tls.Config{}, keeperOnly{})
	s.RequireTLS = false // sasl has tests of what TLS is for
	client, server := net.Pipe()
	ended := make(chan error, 1)
	go func() {
		defer server.Close()
		ended <- s.Serve(t.Context(), smtp.NewConn(server))
	}()
	defer func() {
		client.Close()
		<-ended
	}()
	client.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(client)
	reply := hear(t, r)
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "BDAT "): // its chunk is with it
		case strings.Contains(line, "\r\n"):
			line += "\r\n.\r\n"
		default:
			line += "\r\n"
		}
		if _, err := io.WriteString(client, line); err != nil {
			t.Fatal(err)
		}
		reply = hear(t, r)
		if codes != nil {
			codes[reply[:3]] = true
		}
	}
	return reply
}

// hear reads one reply, its lines joined with "\n".
func hear(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var lines []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%q: %v", lines, err)
		}
		lines = append(lines, strings.TrimSuffix(line, "\r\n"))
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(lines, "\n")
		}
	}
}

const login = "AUTH PLAIN AGtlZXBlcgBsYW1w"

// dialogue is a session that has said EHLO and logged in.
func dialogue(t *testing.T, a *Agent, codes map[string]bool, lines ...string) string {
	t.Helper()
	return session(t, a, codes, append([]string{"EHLO desk.light.example", login}, lines...)...)
}

// sent submits a text as the keeper and returns the header that the queue got, without our Received field, and the reply.
func sent(t *testing.T, h *house, cfg Config, text string) (header, reply string) {
	t.Helper()
	var next kept
	reply = dialogue(t, agent(h, cfg, &next), nil, "MAIL FROM:<keeper@light.example>", "RCPT TO:<doctor@hospital.example>", "DATA", text)
	if next.env == nil {
		return "", reply
	}
	passed, _, err := message.ReadHeader(strings.NewReader(next.body), 1<<20)
	if err != nil || passed.Del("Received") != 1 {
		t.Fatalf("%q: %v", next.body, err)
	}
	header = strings.TrimSuffix(string(passed.AppendTo(nil)), "\r\n\r\n")
	header = strings.ReplaceAll(header, next.env.ID.String(), "$ID")
	return header, reply
}

// guest is a session of a client who has not logged in, as policies see it.
func guest(peer string) *smtp.Session {
	return &smtp.Session{Peer: netip.MustParseAddrPort(peer)}
}

// said is the reply that a policy's error is.
func said(err error) string {
	if err == nil {
		return "250"
	}
	return err.Error()
}
