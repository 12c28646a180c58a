//go:build dhcp

package dhcp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bothy/control/dhcp4"
	"bothy/control/lease"
	"bothy/test/peer"
)

// setup is what the server that this program becomes in its namespace is told.
type setup struct {
	Config dhcp4.Config
	Mail   dhcp4.Mail
	Dir    string
	Quiet  bool // it logs warnings alone, and that it is ready
}

const asServer = "BOTHY_TEST_DHCP4"

// TestMain is a server, or a load, when it was started as one: a namespace belongs to a process.
func TestMain(m *testing.M) {
	for name, become := range map[string]func(string) error{
		asServer: server, asServer6: become6, asLoad6: becomeLoad6,
	} {
		text := os.Getenv(name)
		if text == "" {
			continue
		}
		if err := become(text); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	os.RemoveAll(builtIn)
	os.Exit(code)
}

func server(text string) error {
	var s setup
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
	d, err := dhcp4.New(dhcp4.Options{Config: s.Config, Leases: leases, Mail: s.Mail, Log: log})
	if err != nil {
		return err
	}
	wire, err := dhcp4.Listen(s.Config.Interfaces)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return d.Run(ctx, wire)
}

// lab is a server in a namespace of its own, behind a bridge to which clients are plugged.
type lab struct {
	t   *testing.T
	dir string
	srv string // the server's namespace
	cfg setup
	log *peer.Output
	cmd *exec.Cmd

	cables  map[string]port   // by the namespace that is plugged in: where
	bridges map[string]string // by the namespace that has it
}

// port is an end of a cable.
type port struct{ ns, name string }

var labs atomic.Int32

// newLab makes the namespace; start starts the server in it.
func newLab(t *testing.T) *lab {
	t.Helper()
	peer.NeedRoot(t)
	peer.Need(t, "ip")
	l := &lab{t: t, dir: t.TempDir(), cables: map[string]port{}, bridges: map[string]string{}}
	l.srv = l.namespace("s")
	l.bridge(l.srv, "br0")
	run(t, "ip", "-n", l.srv, "addr", "add", "192.0.2.1/24", "dev", "br0")
	run(t, "ip", "-n", l.srv, "addr", "add", "192.0.2.110/24", "dev", "br0")
	l.cfg = setup{Dir: filepath.Join(l.dir, "leases"), Mail: dhcp4.Mail{
		SMTP: []netip.Addr{netip.IPv4Unspecified()}, POP3: []netip.Addr{netip.MustParseAddr("192.0.2.110")},
	}, Config: dhcp4.Config{
		Interfaces: []string{"br0"}, DefaultLease: 12 * time.Second, MinLease: 12 * time.Second, MailServers: true,
		Subnets: []dhcp4.SubnetConfig{{
			Prefix:  netip.MustParsePrefix("192.0.2.0/24"),
			Pools:   []dhcp4.PoolConfig{{First: netip.MustParseAddr("192.0.2.100"), Last: netip.MustParseAddr("192.0.2.109")}},
			Options: map[string]string{"routers": "192.0.2.1", "domain-name": "clinic.example"},
		}},
	}}
	return l
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, exit := peer.Run(t, "", name, args...)
	if exit != 0 {
		t.Fatalf("%s %s: %s", name, strings.Join(args, " "), out)
	}
	return out
}

// namespace makes a network namespace that ends with the test.
func (l *lab) namespace(name string) string {
	l.t.Helper()
	full := fmt.Sprintf("bothy%d-%d%s", os.Getpid(), labs.Add(1), name)
	if out, exit := peer.Run(l.t, "", "ip", "netns", "add", full); exit != 0 { // it needs CAP_NET_ADMIN and CAP_SYS_ADMIN
		peer.Missing(l.t, "no network namespaces can be made here: "+out)
	}
	l.t.Cleanup(func() {
		left, _ := exec.Command("ip", "netns", "pids", full).Output() // dhcpcd's helpers outlive it when it is killed
		for _, pid := range strings.Fields(string(left)) {
			if n, err := strconv.Atoi(pid); err == nil {
				syscall.Kill(n, syscall.SIGKILL)
			}
		}
		exec.Command("ip", "netns", "del", full).Run()
	})
	run(l.t, "ip", "-n", full, "link", "set", "lo", "up")
	return full
}

// plug makes a namespace whose eth0 is plugged to the bridge of another.
func (l *lab) plug(name, bridged string) string {
	l.t.Helper()
	ns, end := l.namespace(name), fmt.Sprintf("p%d", labs.Add(1))
	run(l.t, "ip", "-n", bridged, "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", ns)
	run(l.t, "ip", "-n", bridged, "link", "set", end, "master", l.bridges[bridged])
	run(l.t, "ip", "-n", bridged, "link", "set", end, "up")
	run(l.t, "ip", "-n", ns, "link", "set", "eth0", "up")
	l.cables[ns] = port{bridged, end}
	return ns
}

// bridge makes a bridge in a namespace.
func (l *lab) bridge(ns, name string) {
	l.t.Helper()
	if out, exit := peer.Run(l.t, "", "ip", "-n", ns, "link", "add", name, "type", "bridge"); exit != 0 {
		peer.Missing(l.t, "no bridges can be made here: "+out)
	}
	run(l.t, "ip", "-n", ns, "link", "set", name, "up")
	l.bridges[ns] = name
}

// cable takes the cable out of a namespace's eth0, or puts it in.
func (l *lab) cable(ns string, in bool) {
	l.t.Helper()
	state := "down"
	if in {
		state = "up"
	}
	p := l.cables[ns]
	run(l.t, "ip", "-n", p.ns, "link", "set", p.name, state)
}

// start runs the server.
func (l *lab) start() {
	l.t.Helper()
	text, err := json.Marshal(l.cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.cmd, l.log = peer.Start(l.t, "ip", "netns", "exec", l.srv, "env", asServer+"="+string(text), os.Args[0])
	l.said("ready", 1)
}

// said waits until the server has logged something n times.
func (l *lab) said(what string, n int) {
	l.t.Helper()
	peer.Eventually(l.t, 40*time.Second, fmt.Sprintf("%q, %d times, of the server", what, n), func() bool {
		return strings.Count(l.log.String(), what) >= n
	})
}

// hook is a script that writes the environment of each call, and what happened, to the returned file; and sets the address, as a
// client's own script would. reason and address name the client's variables.
func (l *lab) hook(name, reason, address string) (script, file string) {
	l.t.Helper()
	script, file = filepath.Join(l.dir, name+".sh"), filepath.Join(l.dir, name+".env")
	content := fmt.Sprintf(`#!/bin/sh
{ echo "event=%[1]s"; env; } >> %[2]s
if [ -n "%[3]s" ]; then ip addr replace %[3]s/24 dev eth0; ip link set eth0 up; else ip addr flush dev eth0; fi
exit 0
`, reason, file, address)
	if err := os.WriteFile(script, []byte(content), 0o755); err != nil {
		l.t.Fatal(err)
	}
	return script, file
}

// file writes a file of the lab.
func (l *lab) file(name, content string) string {
	l.t.Helper()
	file := filepath.Join(l.dir, name)
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		l.t.Fatal(err)
	}
	return file
}

// sees waits until a hook's file says something.
func (l *lab) sees(file, what string) {
	l.t.Helper()
	l.seesTimes(file, what, 1)
}

func (l *lab) seesTimes(file, what string, n int) {
	l.t.Helper()
	var content []byte
	defer func() {
		if l.t.Failed() {
			l.t.Logf("%s\n%s", file, content)
		}
	}()
	peer.Eventually(l.t, 40*time.Second, fmt.Sprintf("%q in %s", what, filepath.Base(file)), func() bool {
		content, _ = os.ReadFile(file)
		return bytes.Count(content, []byte(what)) >= n
	})
}

// end stops a program with a signal and waits for it. It signals more than once: dhcpcd loses signals while its hook runs.
func end(t *testing.T, cmd *exec.Cmd, sig syscall.Signal) {
	t.Helper()
	var last time.Time
	peer.Eventually(t, 20*time.Second, "the end of "+cmd.Args[len(cmd.Args)-1], func() bool {
		if time.Since(last) < 2*time.Second {
			return cmd.Process.Signal(syscall.Signal(0)) != nil
		}
		last = time.Now()
		return cmd.Process.Signal(sig) != nil
	})
}
