//go:build dhcp

package dhcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bothy/control/dhcp6"
	"bothy/control/lease"
	"bothy/control/ra"
	"bothy/operational/iface"
	"bothy/test/peer"
)

// setup6 is what the DHCPv6 server that this program becomes in its namespace is told.
type setup6 struct {
	Config   dhcp6.Config
	Router   []ra.LinkConfig
	Dir      string
	Identity string        // a file
	Quiet    bool          // no log of each message
	Changed  *dhcp6.Config // what the configuration is after the first SIGHUP
}

const (
	asServer6 = "BOTHY_TEST_DHCP6"
	asClient6 = "BOTHY_TEST_DHCP6_CLIENT"
)

func server6(text string) error {
	var s setup6
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	leases, err := lease.Open(lease.Options{Dir: s.Dir})
	if err != nil {
		return err
	}
	defer leases.Close()
	level := slog.LevelDebug
	if s.Quiet {
		level = slog.LevelWarn
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: level}))
	duid, secret, err := dhcp6.Identity(s.Identity)
	if err != nil {
		return err
	}
	own := netip.IPv6Unspecified()
	mail := dhcp6.Mail{POP3: []netip.Addr{own}, SMTP: []netip.Addr{own}}
	d, err := dhcp6.New(dhcp6.Options{Config: s.Config, Leases: leases, DUID: duid, Secret: secret, Mail: mail, Log: log})
	if err != nil {
		return err
	}
	wire, err := dhcp6.Listen(s.Config.Interfaces)
	if err != nil {
		return err
	}
	failed := make(chan error, 1+len(s.Router))
	for _, l := range s.Router {
		w, err := ra.Listen(l.Interface)
		if err != nil {
			return err
		}
		go func() { failed <- (&ra.Router{Config: l, Log: log}).Run(ctx, w) }()
	}
	if !s.Quiet {
		wire = tap{wire, log}
	}
	go func() { failed <- d.Run(ctx, wire) }()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, hangup)
	fmt.Println("ready")
	for n := 0; n <= len(s.Router); {
		select {
		case err := <-failed:
			if n++; err != nil {
				return err
			}
		case <-hup:
			if err := d.Reload(*s.Changed, mail); err != nil {
				return err
			}
		}
	}
	return nil
}

// tap logs each message that comes and goes, and whether it has the mail servers' options.
type tap struct {
	dhcp6.Wire
	log *slog.Logger
}

func (w tap) Receive() ([]dhcp6.Arrival, error) {
	all, err := w.Wire.Receive()
	for _, a := range all {
		w.show("came", a.Datagram)
	}
	return all, err
}

func (w tap) Send(b []byte, to netip.AddrPort, link *dhcp6.Link) error {
	w.show("went", b)
	return w.Wire.Send(b, to, link)
}

func (w tap) show(way string, b []byte) {
	relayed := 0
	for len(b) > 38 && (dhcp6.MessageType(b[0]) == dhcp6.RelayForward || dhcp6.MessageType(b[0]) == dhcp6.RelayReply) {
		var m dhcp6.Message // behind the head of a relay's message there are options too
		if m.Parse(b[30:]) != nil {
			return
		}
		b, _ = m.Find(dhcp6.RelayMessage)
		relayed++
	}
	var m dhcp6.Message
	if m.Parse(b) != nil {
		return
	}
	oro, _ := m.Find(dhcp6.OptionRequest)
	has, asks := 0, 0
	for _, code := range []dhcp6.Code{65001, 65002, 65003} {
		if _, ok := m.Find(code); ok {
			has++
		}
		if dhcp6.Requests(oro, code) {
			asks++
		}
	}
	w.log.Info(fmt.Sprintf("%s %v asks=%d mail=%d relayed=%d", way, m.Type, asks, has, relayed))
}

// uplink6 is what our DHCPv6 client is told that this program becomes in a namespace.
type uplink6 struct {
	Config dhcp6.ClientConfig
	Dir    string
}

func client6(text string) error {
	var u uplink6
	if err := json.Unmarshal([]byte(text), &u); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	duid, _, err := dhcp6.Identity(filepath.Join(u.Dir, "identity"))
	if err != nil {
		return err
	}
	wire, err := dhcp6.Dial(u.Config.Interface)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := dhcp6.ClientService{Config: u.Config, DUID: duid, File: filepath.Join(u.Dir, "binding"), Host: iface.Interface(u.Config.Interface), Log: log}
	c.Changed = func(b dhcp6.Binding) {
		out, err := json.Marshal(b)
		log.Info("has "+string(out), "error", errors.Join(err))
	}
	return c.Run(ctx, clientTap{wire, log})
}

// clientTap logs what our client sends.
type clientTap struct {
	dhcp6.ClientWire
	log *slog.Logger
}

func (w clientTap) Send(b []byte) error {
	w.log.Info("sends " + dhcp6.MessageType(b[0]).String())
	return w.ClientWire.Send(b)
}

// lab6 is a lab with a DHCPv6 server.
type lab6 struct {
	*lab
	cfg6 setup6
}

func newLab6(t *testing.T) *lab6 {
	t.Helper()
	l := &lab6{lab: newLab(t)}
	run(t, "ip", "-n", l.srv, "addr", "add", "2001:db8:1::1/64", "dev", "br0", "nodad")
	l.settled(l.srv, "br0")
	l.cfg6 = setup6{Dir: filepath.Join(l.dir, "leases6"), Identity: filepath.Join(l.dir, "identity"), Config: dhcp6.Config{
		Interfaces: []string{"br0"}, Preferred: 10 * time.Second, Valid: 20 * time.Second,
		DNS: []netip.Addr{netip.MustParseAddr("2001:db8:1::53")}, Search: []string{"clinic.example"},
		Mail: dhcp6.MailConfig{IMAPCode: 65001, POP3Code: 65002, SMTPCode: 65003, IMAP: []netip.Addr{netip.MustParseAddr("2001:db8:1::143"), netip.MustParseAddr("2001:db8:1::144")}},
		Subnets: []dhcp6.SubnetConfig{{
			Prefix:   netip.MustParsePrefix("2001:db8:1::/64"),
			Pools:    []dhcp6.PoolConfig{{First: netip.MustParseAddr("2001:db8:1::100"), Last: netip.MustParseAddr("2001:db8:1::1ff")}},
			Prefixes: []dhcp6.DelegationConfig{{Prefix: netip.MustParsePrefix("2001:db8:100::/48"), Length: 56}},
		}},
	}}
	return l
}

// settled waits until an interface has a link-local address that is its own.
func (l *lab) settled(ns, name string) {
	l.t.Helper()
	peer.Eventually(l.t, 20*time.Second, "a link-local address on "+name, func() bool {
		out := run(l.t, "ip", "-n", ns, "-6", "addr", "show", "dev", name, "scope", "link")
		return strings.Contains(out, "fe80") && !strings.Contains(out, "tentative")
	})
}

// plug6 is plug, with a link-local address.
func (l *lab6) plug6(name, bridged string) string {
	l.t.Helper()
	ns := l.plug(name, bridged)
	l.settled(ns, "eth0")
	return ns
}

func (l *lab6) start6() {
	l.t.Helper()
	text, err := json.Marshal(l.cfg6)
	if err != nil {
		l.t.Fatal(err)
	}
	l.cmd, l.log = peer.Start(l.t, "ip", "netns", "exec", l.srv, "env", asServer6+"="+string(text), os.Args[0])
	l.said("ready", 1)
}

// another replaces the server by one that has its leases, but is not it: clients must rebind (RFC 9915 §18.2.5).
func (l *lab6) another() {
	l.t.Helper()
	end(l.t, l.cmd, kill)
	l.cfg6.Identity += "'"
	l.start6()
}

// hook6 is hook for clients of DHCPv6.
func (l *lab6) hook6(name, reason, address string) (script, file string) {
	l.t.Helper()
	script, file = filepath.Join(l.dir, name+".sh"), filepath.Join(l.dir, name+".env")
	content := fmt.Sprintf(`#!/bin/sh
{ echo "event=%[1]s"; env; } >> %[2]s
ip link set eth0 up
if [ -n "%[3]s" ]; then ip -6 addr replace %[3]s/128 dev eth0 nodad; fi
exit 0
`, reason, file, address)
	if err := os.WriteFile(script, []byte(content), 0o755); err != nil {
		l.t.Fatal(err)
	}
	return script, file
}
