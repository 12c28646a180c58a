package odmr

import (
	"context"
	"io"
	"slices"

	"bothy/application/message"
	"bothy/application/smtp"
)

// receive is the customer's part of the reversed state (RFC 2645 §5.3): it greets, and takes mail for its own domains and for
// nobody else. It offers neither STARTTLS nor AUTH: both belong to the connection's first half.
func (c *call) receive(ctx context.Context, conn *smtp.Conn) error {
	server := &smtp.Server{
		Hostname: c.customer.Hostname, Protocol: smtp.Relay,
		Policy: gate{c.report.Domains, c.customer.Recipients}, Accept: c,
		Limits: c.cfg.Limits, Log: c.customer.Log, Now: c.customer.Now,
	}
	return server.Serve(ctx, conn)
}

// progressStep is how many octets of a message pass between two reports of progress.
const progressStep = 32 << 10

// Accept implements smtp.Acceptor: it counts what our queue takes.
func (c *call) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	m := &meter{r: body, call: c}
	err := c.customer.Accept.Accept(ctx, env, m)
	c.partial = 0
	if err != nil {
		return err
	}
	c.report.Messages++
	c.report.Octets += m.n
	c.tell(Receiving)
	return nil
}

// meter counts a body on its way to the disk.
type meter struct {
	r    io.Reader
	n    int64
	call *call
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.r.Read(b)
	m.n += int64(n)
	if m.n-m.call.partial >= progressStep {
		m.call.partial = m.n
		m.call.tell(Receiving)
	}
	return n, err
}

// gate is the policy of the reversed state: whoever the provider is, we relay for nobody (RFC 5321 §7.9).
type gate struct {
	domains    []string // what we asked for; none: all that are local here
	recipients Recipients
}

var (
	replyRelay   = smtp.Reply{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "we take mail for our own domains only"}
	replyUnknown = smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such recipient here"}
)

// Mail implements smtp.Policy: any sender may write to us.
func (gate) Mail(context.Context, *smtp.Session, *message.Envelope) error { return nil }

// Rcpt implements smtp.Policy.
func (g gate) Rcpt(_ context.Context, _ *smtp.Session, _ *message.Envelope, to *message.Recipient) error {
	a, _ := to.Address.ASCII() // domains are compared as A-labels
	local := g.recipients != nil && g.recipients.Local(a.Domain)
	switch {
	case a.Domain == "": // RFC 5321 §4.5.1: <Postmaster> is always served
		return nil
	case len(g.domains) > 0 && !slices.Contains(g.domains, a.Domain), len(g.domains) == 0 && !local:
		return replyRelay
	case local && len(g.recipients.Resolve(to.Address)) == 0:
		return replyUnknown
	}
	return nil
}
