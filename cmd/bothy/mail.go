package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

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
	return `The lists come by DHCPv6 (draft-cadar-dhc-dhcpv6-opt-email), best server first. That draft was never given option codes: the network's
operator has chosen some.

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
	b, err := c.binding(ctx, g)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.out, servers{b.IMAP, b.POP3, b.SMTP})
	}
	if len(b.IMAP)+len(b.POP3)+len(b.SMTP) == 0 {
		return exit{exitFailed, errors.New("the network names no mail servers, or under other option codes")}
	}
	rows := [][]string{{"SERVICE", "SERVERS"}}
	for _, l := range []struct {
		name string
		all  []netip.Addr
	}{{"IMAP", b.IMAP}, {"POP3", b.POP3}, {"SMTP", b.SMTP}} {
		if len(l.all) > 0 {
			rows = append(rows, []string{l.name, strings.Trim(fmt.Sprint(l.all), "[]")})
		}
	}
	return printTable(std.out, rows)
}

func (c *mailDiscoverCmd) binding(ctx context.Context, g *globals) (dhcp6.Binding, error) {
	if c.Interface == "" {
		return call[dhcp6.Binding](ctx, g, http.MethodGet, "/v1/uplink/dhcp6", nil)
	}
	wire, err := dhcp6.Dial(c.Interface)
	if err != nil {
		return dhcp6.Binding{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	duid := make([]byte, 18) // nobody need know us again: RFC 9915 §23
	rand.Read(duid)
	duid[0], duid[1] = 0, 4
	b, err := dhcp6.Discover(ctx, wire, duid, dhcp6.MailConfig{IMAPCode: c.IMAPCode, POP3Code: c.POP3Code, SMTPCode: c.SMTPCode, Enterprise: c.Enterprise})
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no DHCPv6 server answered on %s within %v", c.Interface, c.Timeout)
	}
	return b, err
}
