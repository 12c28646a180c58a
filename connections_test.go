package site

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func at(address string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)) }

// TestConnections counts those of a service over all of its ports, and of a peer at each service by itself.
func TestConnections(t *testing.T) {
	o := new(connections)
	limits := ListenLimits{Connections: 3, PerPeer: 2}
	var leave []func()
	for _, step := range []struct {
		service, from string
		ok            bool
	}{
		{"odmr", "192.0.2.1:1", true},
		{"odmr", "192.0.2.1:2", true},
		{"odmr", "192.0.2.1:3", false}, // of one address
		{"smtp", "192.0.2.1:4", true},  // another service
		{"odmr", "[2001:db8::1]:1", true},
		{"odmr", "192.0.2.2:1", false}, // of one service
	} {
		end, ok := o.enter(step.service, at(step.from), limits)
		if ok != step.ok {
			t.Fatalf("%+v: %v", step, ok)
		}
		if ok {
			leave = append(leave, end)
		}
	}
	for _, end := range leave {
		end()
	}
	if o.all != 0 || len(o.peers) != 0 || o.services["odmr"] != 0 {
		t.Errorf("%d, %v and %v are left", o.all, o.peers, o.services)
	}
}

// TestRoom: what the open files have no room for is refused, whatever is configured, and the log says so, not more than once a minute.
func TestRoom(t *testing.T) {
	var log bytes.Buffer
	o := &connections{room: 2, log: slog.New(slog.NewTextHandler(&log, nil))}
	limits := ListenLimits{Connections: 10, PerPeer: 10}
	for i, want := range []bool{true, true, false, false} {
		if _, ok := o.enter([]string{"smtp", "odmr"}[i%2], at("192.0.2.1:1"), limits); ok != want {
			t.Errorf("connection %d: %v", i, ok)
		}
	}
	if n := strings.Count(log.String(), "limit of open files"); n != 1 {
		t.Errorf("logged %d times: %s", n, &log)
	}
}

// TestFilesFor: the limit that is named has room for what is asked, and one file fewer has not.
func TestFilesFor(t *testing.T) {
	for _, n := range []int{1, 2, 3, 100, 767, 768, 3071, 3072, 3073, 20_000, 100_000} {
		if files := filesFor(n); roomIn(files) < n || roomIn(files-1) >= n {
			t.Errorf("%d connections: %d open files, with room for %d; one fewer, for %d", n, files, roomIn(files), roomIn(files-1))
		}
	}
}

// TestRefusedBeforeTLS: one too many hears nothing where TLS comes first. A line in clear would look to it like somebody in between.
func TestRefusedBeforeTLS(t *testing.T) {
	addr, stop := startAccept(t, true, greeter(ListenLimits{Connections: 1, PerPeer: 1, Handshake: time.Second}))
	defer stop()
	first, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	second.SetReadDeadline(time.Now().Add(10 * time.Second))
	if said, err := io.ReadAll(second); len(said) > 0 || err != nil {
		t.Errorf("%q, %v", said, err)
	}
}
