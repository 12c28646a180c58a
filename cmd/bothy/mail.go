package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	site "bothy"
	"bothy/control/dhcp4"
	"bothy/control/dhcp6"
)

// mailCmd is about the mail servers of the network this host is in.
type mailCmd struct {
	Discover mailDiscoverCmd `cmd:"" help:"Ask the network where mail is: servers of IMAP, POP3 and SMTP."`
}

func (mailCmd) Help() string {
	return `Examples:

    bothy mail discover
    bothy mail discover eth0`
}

type mailDiscoverCmd struct {
	Interface  string        `arg:"" optional:"" help:"Ask on this interface now; needs root. Without it: what the running server has learnt."`
	IMAPCode   int           `name:"imap-code" default:"65001" placeholder:"CODE" help:"DHCPv6 option of the IMAP servers (${default})."`
	POP3Code   int           `name:"pop3-code" default:"65002" placeholder:"CODE" help:"DHCPv6 option of the POP3 servers (${default})."`
	SMTPCode   int           `name:"smtp-code" default:"65003" placeholder:"CODE" help:"DHCPv6 option of the SMTP servers (${default})."`
	Enterprise int           `placeholder:"NUMBER" help:"Enterprise number under which option 17 has the same lists."`
	Timeout    time.Duration `default:"10s" help:"How long to wait for an answer (${default})."`
	JSON       bool          `help:"Print JSON."`
}

func (mailDiscoverCmd) Help() string {
	return `The lists come by DHCPv4 (options 69 and 70) and by DHCPv6 (draft-cadar-dhc-dhcpv6-opt-email), best server first. That draft was never given
option codes: the network's operator has chosen some.

Whoever answers first on the link is believed, and may be anybody: never send a password to an address from here unless TLS proves that it is
the server whose name you know.

Examples:

    bothy mail discover eth0 --json | jq -r '.smtp[0]'`
}

// servers are what there is to print.
type servers struct {
	IMAP []netip.Addr `json:"imap"`
	POP3 []netip.Addr `json:"pop3"`
	SMTP []netip.Addr `json:"smtp"`
}

func (c *mailDiscoverCmd) Run(ctx context.Context, g *globals, std stdio) error {
	found, err := c.find(ctx, g)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.out, found)
	}
	if len(found.IMAP)+len(found.POP3)+len(found.SMTP) == 0 {
		return exit{exitFailed, errors.New("the network names no mail servers, or under other option codes")}
	}
	rows := [][]string{{"SERVICE", "SERVERS"}}
	for _, l := range []struct {
		name string
		all  []netip.Addr
	}{{"IMAP", found.IMAP}, {"POP3", found.POP3}, {"SMTP", found.SMTP}} {
		if len(l.all) > 0 {
			rows = append(rows, []string{l.name, strings.Trim(fmt.Sprint(l.all), "[]")})
		}
	}
	return printTable(std.out, rows)
}

// find asks the running server, or the link; IPv6 stands first.
func (c *mailDiscoverCmd) find(ctx context.Context, g *globals) (servers, error) {
	if c.Interface == "" {
		up, err := call[site.Uplink](ctx, g, http.MethodGet, "/v1/uplink", nil)
		if err != nil {
			return servers{}, err
		}
		return merge(up.DHCP4, up.DHCP6), nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	type answer struct {
		four *dhcp4.Binding
		six  *dhcp6.Binding
		err  error
	}
	answers := make(chan answer, 2)
	go func() {
		b, err := c.ask4(ctx)
		answers <- answer{four: &b, err: err}
	}()
	go func() {
		b, err := c.ask6(ctx)
		answers <- answer{six: &b, err: err}
	}()
	first := <-answers
	if first.err == nil { // the other need not answer: it gets a moment more
		patience := time.AfterFunc(otherWait, cancel)
		defer patience.Stop()
	}
	second := <-answers
	if first.err != nil && second.err != nil {
		if errors.Is(first.err, context.DeadlineExceeded) && errors.Is(second.err, context.DeadlineExceeded) {
			return servers{}, fmt.Errorf("no DHCP server answered on %s within %v", c.Interface, c.Timeout)
		}
		return servers{}, errors.Join(first.err, second.err)
	}
	return merge(cmp.Or(first.four, second.four), cmp.Or(first.six, second.six)), nil
}

// otherWait is how long the second protocol may take when the first has answered.
const otherWait = 3 * time.Second

func merge(four *dhcp4.Binding, six *dhcp6.Binding) servers {
	var all servers
	if six != nil {
		all = servers{IMAP: six.IMAP, POP3: six.POP3, SMTP: six.SMTP}
	}
	if four != nil {
		all.POP3, all.SMTP = append(all.POP3, four.POP3...), append(all.SMTP, four.SMTP...)
	}
	return all
}

// ask4 asks by DHCPv4, with the address that the interface has, if any.
func (c *mailDiscoverCmd) ask4(ctx context.Context) (dhcp4.Binding, error) {
	wire, err := dhcp4.Dial(c.Interface)
	if err != nil {
		return dhcp4.Binding{}, err
	}
	var own netip.Addr
	if port, err := net.InterfaceByName(c.Interface); err == nil {
		addrs, _ := port.Addrs() // none: it is asked without
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !own.IsValid() {
				own = p.Addr()
			}
		}
	}
	return dhcp4.Ask(ctx, wire, own)
}

func (c *mailDiscoverCmd) ask6(ctx context.Context) (dhcp6.Binding, error) {
	wire, err := dhcp6.Dial(c.Interface)
	if err != nil {
		return dhcp6.Binding{}, err
	}
	duid := make([]byte, 18) // nobody need know us again: RFC 9915 §23
	rand.Read(duid)
	duid[0], duid[1] = 0, 4
	return dhcp6.Discover(ctx, wire, duid, dhcp6.MailConfig{IMAPCode: c.IMAPCode, POP3Code: c.POP3Code, SMTPCode: c.SMTPCode, Enterprise: c.Enterprise})
}
