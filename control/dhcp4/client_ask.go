package dhcp4

import (
	"context"
	"net/netip"
	"time"
)

// Ask asks once what there is to know on a link, until ctx ends; it closes the wire. A host with an address asks by DHCPINFORM (RFC 2131 §4.4.3);
// one without reads what a server would offer it, and does not take the address.
func Ask(ctx context.Context, w ClientWire, own netip.Addr) (Binding, error) {
	defer w.Close()
	packets, failed, done := make(chan []byte), make(chan error, 1), make(chan struct{})
	defer close(done)
	go func() { failed <- receivePackets(w, packets, done) }()
	c := NewClient(ClientOptions{Hardware: w.Hardware()}, Binding{}, time.Now())
	c.state = Selecting
	out, answer := c.ask(own)
	for {
		timer := time.NewTimer(max(time.Until(c.due), 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return Binding{}, ctx.Err()
		case err := <-failed:
			timer.Stop()
			return Binding{}, err
		case b := <-packets:
			var p Packet
			if p.Parse(b) == nil && c.mine(&p) && p.Type() == answer {
				timer.Stop()
				return c.told(&p), nil
			}
		case now := <-timer.C:
			b, _ := out.Packet.AppendTo(nil, DefaultSize, false)
			if err := w.Send(b, out); err != nil {
				return Binding{}, err
			}
			c.due = now.Add(c.backOff())
			c.tries++
		}
		timer.Stop()
	}
}

// ask is the one message of Ask, to be sent at once, and the type of its answer.
func (c *Client) ask(own netip.Addr) (out *Sent, answer MessageType) {
	kind, answer := Inform, Ack
	if !own.IsValid() {
		kind, answer = Discover, Offer
	}
	p := c.packet(kind)
	c.wishes(p)
	if kind == Inform {
		p.CIAddr = own
		p.Set(ParameterRequestList, wanted[:len(wanted)-3]) // RFC 2131 §4.4.3: nothing about a lease
	}
	c.due = time.Time{}
	return &Sent{Packet: p, From: own}, answer
}

// told is what an answer says beside an address.
func (c *Client) told(p *Packet) Binding {
	b := c.read(p)
	server, _ := p.Addr(ServerIdentifier)
	return Binding{Server: server, Routers: b.Routers, Routes: b.Routes, DNS: b.DNS, Domain: b.Domain, SMTP: b.SMTP, POP3: b.POP3}
}
