package smtp

import (
	"context"
	"net/netip"
	"slices"
	"strings"
)

// Origin is who sent a message to this side's border: what a server behind it cannot see any more. The zero Origin is nobody known.
type Origin struct {
	Addr netip.Addr
	Helo string
}

// unavailable is what XCLIENT says of what is not known.
const unavailable = "[UNAVAILABLE]"

// XClient tells a server that offers XCLIENT, which it does to those it trusts, who is behind the transactions that follow, so that its checks and
// its log are of that one. It must not be called within a transaction. A refusal is a Reply, after which all is as before. The command is Postfix's
// (XCLIENT_README): attributes it does not list are not sent, values are xtext, the reply is a greeting, and EHLO comes again.
func (c *Client) XClient(ctx context.Context, o Origin) error {
	offered := strings.Fields(strings.ToUpper(c.keywords["XCLIENT"]))
	b := []byte("XCLIENT")
	add := func(name, value string) {
		if slices.Contains(offered, name) {
			b = appendXtext(append(append(append(b, ' '), name...), '='), value)
		}
	}
	address, helo := unavailable, unavailable
	if o.Addr.IsValid() {
		address = o.Addr.Unmap().WithZone("").String()
		if o.Addr.Unmap().Is6() {
			address = "IPV6:" + address
		}
	}
	if o.Helo != "" {
		helo = o.Helo
	}
	add("NAME", unavailable)
	add("ADDR", address)
	add("HELO", helo)
	defer context.AfterFunc(ctx, c.Conn.interrupt())()
	r, err := c.command(ctx, string(b), c.Timeouts.Command)
	switch {
	case err != nil:
		return err
	case !r.Positive():
		return r
	case r.Code != 220:
		return c.outOfStep("XCLIENT", r)
	}
	return c.hello(ctx)
}
