package odmr

import (
	"context"

	"bothy/application/smtp"
)

// Outward is the mail of this site that waits for the provider. A call takes it along, over its own connection and before ATRN.
type Outward interface {
	// Waits reports whether there is any.
	Waits() bool
	// Hold keeps others from beginning to send it until release is called.
	Hold() (release func())
	// SendAlong sends it over a connection that has logged in, and settles each recipient by its own reply. taken counts the messages that the provider has
	// now. An error says that the connection is of no use any more; else no transaction is open.
	SendAlong(ctx context.Context, client *smtp.Client) (taken int, err error)
}

// reserve keeps what goes along for the call that is under way, or for the next one.
func (c *Customer) reserve() {
	if c.Outward == nil || !c.Config.Send {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.release == nil {
		c.release = c.Outward.Hold()
	}
}

// handBack lets others send it again.
func (c *Customer) handBack() {
	c.mu.Lock()
	release := c.release
	c.release = nil
	c.mu.Unlock()
	if release != nil {
		release()
	}
}

// linked follows the link: while it is down, what goes along is kept for the call that comes when it is up. One that is under way already takes nothing more along.
func (c *Customer) linked(up, calling bool) {
	c.mu.Lock()
	c.away = !up
	c.mu.Unlock()
	switch {
	case !up:
		c.reserve()
	case calling:
		c.handBack()
	}
}

// takes reports whether the provider takes mail on this connection: RFC 2645 §5.4 lets it have nothing but ATRN, and then it has no use for SIZE (RFC 1870 §3), the
// extension of MAIL that every server has which takes mail from strangers' software.
func takes(client *smtp.Client) bool {
	_, ok := client.Has("SIZE")
	return ok
}

// wants reports whether the call has something to take along. Behind one that was cut while it sent, none has until ATRN was answered: whatever it was that
// broke it, it does not keep mail for us away.
func (k *call) wants() bool {
	c := k.customer
	if c.Outward == nil || !k.cfg.Send {
		return false
	}
	c.mu.Lock()
	stumbled := c.stumbled
	c.mu.Unlock()
	return !stumbled && c.Outward.Waits()
}

// stumble notes whether the call was cut while it sent, or got past that.
func (k *call) stumble(cut bool) {
	k.customer.mu.Lock()
	defer k.customer.mu.Unlock()
	k.customer.stumbled = cut
}

// send is what comes between login and ATRN: mail for the provider. Behind the turn there is none.
func (k *call) send(ctx context.Context, client *smtp.Client) error {
	defer k.customer.handBack()
	if !k.along || !takes(client) {
		return nil
	}
	k.tell(Sending)
	taken, err := k.customer.Outward.SendAlong(ctx, client)
	k.mu.Lock()
	k.report.Sent = taken
	k.mu.Unlock()
	if err == nil {
		return nil
	}
	k.stumble(true)
	return refused(err, ErrUnable)
}
