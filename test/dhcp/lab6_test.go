//go:build dhcp

package dhcp

import (
	"context"
	"encoding/json"
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
	"bothy/test/peer"
)

// setup6 is what the DHCPv6 server that this program becomes in its namespace is told.
type setup6 struct {
	Config   dhcp6.Config
	Dir      string
	Identity string // a file
	Quiet    bool   // no log of each message
}

const asServer6 = "BOTHY_TEST_DHCP6"

func become6(text string) error {
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
	fmt.Println("ready")
	return d.Run(ctx, wire)
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
