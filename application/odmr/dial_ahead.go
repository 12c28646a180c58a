package odmr

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"bothy/application/sasl"
	"bothy/application/smtp"
)

// memory is what a provider showed in the last call that got as far as ATRN. The next call takes it for granted, and finds out in the
// first reply whether that was right.
type memory struct {
	mechanisms []string // of AUTH, under TLS
	stranger   bool     // it does not know our certificate
}

// recall returns the provider as it was; nil: unknown, or not one that takes commands ahead.
func (c *Customer) recall() *memory {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

// remember notes what the provider offered in the call that client made, and whether it knew our certificate, where that is worth something.
func (c *Customer) remember(client *smtp.Client, stranger bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = nil
	if _, ok := client.Has(smtp.KeywordAhead); ok && client.Conn.TLS() != nil {
		c.known = &memory{offered(client), stranger}
	}
}

// forget has the next call made in the order of the RFC.
func (c *Customer) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = nil
}

// offered are the mechanisms of the EHLO reply.
func offered(client *smtp.Client) []string {
	names, _ := client.Has("AUTH")
	return strings.Fields(names)
}

// resumptions is how many TLS sessions are kept for the next calls: one provider, and its address in either family.
const resumptions = 4

// connect dials and asks for the mail: with commands ahead of their replies where the provider was seen to take them, else, or when it has
// changed, in the order of the RFC. The connection it returns is to be turned.
func (k *call) connect(ctx context.Context) (net.Conn, *smtp.Conn, error) {
	known := k.customer.recall()
	if k.along = k.wants(); k.along { // which cannot be ahead of what it is answered
		known = nil
	}
	nc, conn, err := k.ask(ctx, known)
	if errors.Is(err, smtp.ErrChanged) && ctx.Err() == nil {
		k.customer.Log.Info("the provider has changed: asked once more from the beginning", "why", err)
		k.customer.forget()
		nc, conn, err = k.ask(ctx, nil)
	}
	return nc, conn, err
}

// ask makes one connection and goes as far as the reply to ATRN.
func (k *call) ask(ctx context.Context, known *memory) (net.Conn, *smtp.Conn, error) {
	k.tell(Dialing)
	nc, err := k.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	unwatch := closeAfter(ctx, nc)
	conn := smtp.NewConn(nc)
	client := smtp.NewClient(conn, k.customer.Hostname, smtp.Timeouts{})
	if known == nil {
		err = k.request(ctx, client)
	} else {
		k.customer.handBack()
		err = k.requestAhead(ctx, client, known)
	}
	if err != nil {
		unwatch()
		nc.Close()
		return nil, nil, err
	}
	return nc, conn, nil
}

// requestAhead is request for a provider that is remembered. Nothing is sent ahead before TLS has shown who the provider is, and nothing that
// shows a password at all.
func (k *call) requestAhead(ctx context.Context, client *smtp.Client, known *memory) error {
	greeted := k.cfg.TLS != "implicit"
	if greeted {
		if err := k.greetSecurely(ctx, client, client.SecureOnly); err != nil {
			return err
		}
	}
	k.tell(LoggingIn)
	k.stranger = known.stranger
	state, err := client.Conn.Secured(ctx)
	if err != nil {
		return insecure(err)
	}
	mechanism, err := sasl.Choose(known.mechanisms, sasl.Channel{TLS: state}, k.credentials())
	if err != nil || state == nil || !isSilent(mechanism) {
		return fmt.Errorf("%w: no mechanism that may go ahead", smtp.ErrChanged)
	}
	same := func() bool {
		_, ahead := client.Has(smtp.KeywordAhead)
		return ahead && slices.Equal(offered(client), known.mechanisms)
	}
	k.tell(Asking)
	reply, err := client.Ahead(ctx, mechanism, greeted, same, atrn(k.report.Domains), k.answerTimeout())
	switch {
	case errors.Is(err, smtp.ErrChanged):
		return err
	case err != nil && k.unknown(mechanism, err):
		return fmt.Errorf("%w: it knew our certificate", smtp.ErrChanged)
	case err != nil:
		return k.leave(ctx, client, denied(err))
	}
	k.customer.evidence(true, "provider answered")
	return k.answered(ctx, client, reply)
}

// isSilent reports whether a mechanism shows nothing that a false server could use.
func isSilent(m sasl.Client) bool {
	return slices.Contains([]string{sasl.EXTERNAL, sasl.SCRAMSHA256, sasl.SCRAMSHA256Plus}, m.Name())
}

// greetSecurely greets and puts TLS on the connection with secure.
func (k *call) greetSecurely(ctx context.Context, client *smtp.Client, secure func(context.Context, *tls.Config) error) error {
	if err := client.Greet(ctx); err != nil {
		return refused(err, ErrRefused)
	}
	k.customer.evidence(true, "provider answered")
	k.tell(Securing)
	if _, ok := client.Has("STARTTLS"); !ok {
		return k.leave(ctx, client, fmt.Errorf("%w: it does not offer STARTTLS", ErrInsecure))
	}
	cfg, err := k.tls()
	if err != nil {
		return k.leave(ctx, client, err)
	}
	if err := secure(ctx, cfg); err != nil {
		return k.leave(ctx, client, insecure(err))
	}
	return nil
}
