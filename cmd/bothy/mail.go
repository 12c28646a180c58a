package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
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
	Name       string        `placeholder:"HOST" help:"Ask each server, by TLS, for proof that this is its name. Nothing else is said to it."`
	CA         string        `name:"ca" placeholder:"FILE" help:"Certificates that such proof may rest on. Without it: those of this machine."`
	Timeout    time.Duration `default:"10s" help:"How long to wait for an answer (${default})."`
	JSON       bool          `help:"Print JSON."`
}

func (mailDiscoverCmd) Help() string {
	return `The lists come by DHCPv4 (options 69 and 70) and by DHCPv6 (draft-cadar-dhc-dhcpv6-opt-email), best server first. That draft was never given
option codes: the network's operator has chosen some.

Whoever answers first on the link is believed, and may be anybody: never send a password to an address from here unless TLS proves that it is
the server whose name you know. That is what --name asks for; Bothy itself sends none to any address that it learnt so.

Examples:

    bothy mail discover eth0 --name mail.clinic.example --ca ca.pem
    bothy mail discover eth0 --json | jq -r '.smtp[0].address'`
}

// servers are what there is to print.
type servers struct {
	IMAP []learnt `json:"imap"`
	POP3 []learnt `json:"pop3"`
	SMTP []learnt `json:"smtp"`
}

// learnt is a server as the network names it.
type learnt struct {
	Address netip.Addr `json:"address"`
	By      string     `json:"by"`   // "DHCPv4" or "DHCPv6"
	From    string     `json:"from"` // the server that said so: its address, or its DUID
	Trust   trust      `json:"trust"`
	Why     string     `json:"why,omitempty"` // it is not proven, though asked
}

// trust is what is known of a server.
type trust string

// The three kinds.
const (
	unproven trust = "unproven" // anybody on the link may have said it
	proven   trust = "proven"   // it has shown a certificate for the name that was asked for
	failed   trust = "failed"   // it has not
)

func (c *mailDiscoverCmd) Run(ctx context.Context, g *globals, std stdio) error {
	found, err := c.find(ctx, g)
	if err == nil {
		err = c.prove(ctx, &found)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.out, found)
	}
	if len(found.IMAP)+len(found.POP3)+len(found.SMTP) == 0 {
		return exit{exitFailed, errors.New("the network names no mail servers, or under other option codes")}
	}
	rows := [][]string{{"SERVICE", "SERVER", "SAID BY", "TRUST"}}
	for _, l := range found.lists() {
		for _, s := range *l.all {
			text := string(s.Trust)
			if s.Trust == proven {
				text = "proves to be " + c.Name
			} else if s.Why != "" {
				text += ": " + s.Why
			}
			rows = append(rows, []string{l.service, s.Address.String(), s.By + " server " + s.From, text})
		}
	}
	if err := printTable(std.out, rows); err != nil || c.Name != "" {
		return err
	}
	_, err = fmt.Fprintln(std.out, "Unproven: whoever answered first on the link is believed. --name asks the servers for proof of their name.")
	return err
}

// list is the servers of one service, and the port where it speaks TLS from the start (RFC 8314 §3).
type list struct {
	service string
	port    uint16
	all     *[]learnt
}

func (s *servers) lists() []list {
	return []list{{"IMAP", 993, &s.IMAP}, {"POP3", 995, &s.POP3}, {"SMTP", 465, &s.SMTP}}
}

// prove asks each server for a certificate with the name that the operator knows. Nothing else is said to it.
func (c *mailDiscoverCmd) prove(ctx context.Context, found *servers) error {
	if c.Name == "" {
		return nil
	}
	cfg := &tls.Config{ServerName: c.Name, MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pool, err := roots(c.CA)
		if err != nil {
			return err
		}
		cfg.RootCAs = pool
	}
	var work sync.WaitGroup
	for _, l := range found.lists() {
		for i := range *l.all {
			work.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, c.Timeout)
				defer cancel()
				(*l.all)[i].prove(ctx, cfg, l.port)
			})
		}
	}
	work.Wait()
	return nil
}

// prove notes whether the server has a certificate for the name in cfg.
func (s *learnt) prove(ctx context.Context, cfg *tls.Config, port uint16) {
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", netip.AddrPortFrom(s.Address, port).String())
	if s.Trust = proven; err != nil {
		s.Trust, s.Why = failed, err.Error()
		return
	}
	conn.Close()
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

// merge has the servers of IPv6 first.
func merge(four *dhcp4.Binding, six *dhcp6.Binding) servers {
	all := servers{IMAP: []learnt{}, POP3: []learnt{}, SMTP: []learnt{}}
	add := func(to *[]learnt, by, from string, addrs []netip.Addr) {
		for _, a := range addrs {
			*to = append(*to, learnt{Address: a, By: by, From: from, Trust: unproven})
		}
	}
	if six != nil {
		for to, addrs := range map[*[]learnt][]netip.Addr{&all.IMAP: six.IMAP, &all.POP3: six.POP3, &all.SMTP: six.SMTP} {
			add(to, "DHCPv6", six.Server.String(), addrs)
		}
	}
	if four != nil {
		add(&all.POP3, "DHCPv4", four.Server.String(), four.POP3)
		add(&all.SMTP, "DHCPv4", four.Server.String(), four.SMTP)
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
