package test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bothy/test/peer"
)

// TestCrowd: 5,000 connections from one address. As many as one may have are served, the rest are told to come back (RFC 5321 §3.8), and
// whoever else comes is served as if they were not there. Loopback has an address for everybody.
func TestCrowd(t *testing.T) {
	const crowd, most = 5000, 500
	listen := peer.FreePort(t)
	s := startServer(t, fmt.Sprintf("hostname = \"mx.light.example\"\n[smtp]\nlisten = [%q]\n[route]\nvia = {\"far.example\" = \"127.0.0.1:1\"}\nrelay_from = [\"127.0.0.99/32\"]\n", listen))
	peer.WaitPort(t, listen)
	before := resident(t, s.Process.Pid)

	call := func(from string) (net.Conn, error) { return dialFrom(t.Context(), from, listen) }
	greeted := make(chan net.Conn, crowd)
	var refused, other atomic.Int32
	var busy sync.WaitGroup
	next := make(chan bool, crowd)
	for range crowd {
		next <- true
	}
	close(next)
	for range 50 {
		busy.Go(func() {
			for range next {
				conn, err := call("127.0.0.66")
				if err != nil {
					other.Add(1)
					continue
				}
				conn.SetDeadline(time.Now().Add(waitDelivery))
				line, _ := bufio.NewReader(conn).ReadString('\n')
				switch {
				case strings.HasPrefix(line, "220 "):
					greeted <- conn
					continue
				case strings.HasPrefix(line, "421 4.7.0 "):
					refused.Add(1)
				default:
					other.Add(1)
				}
				conn.Close()
			}
		})
	}
	served, slowest := 0, time.Duration(0)
	over := make(chan struct{})
	go func() { busy.Wait(); close(over) }()
	for done := false; !done; {
		select {
		case <-over:
			done = true // and once more with all of them there
		default:
		}
		began := time.Now()
		conn, err := call("127.0.0.99")
		if err != nil {
			t.Fatal(err)
		}
		c := &session{conn, bufio.NewReader(conn)}
		c.SetDeadline(time.Now().Add(waitDelivery))
		c.expect(t, "220")
		c.say(t, "250", "EHLO a.example")
		c.say(t, "250", "MAIL FROM:<aunt@elsewhere.example>")
		c.say(t, "250", "RCPT TO:<bob@far.example>")
		c.say(t, "354", "DATA")
		c.say(t, "250", "Subject: hello\r\n\r\nhello\r\n.")
		c.say(t, "221", "QUIT")
		conn.Close()
		served, slowest = served+1, max(slowest, time.Since(began))
	}
	if n := len(greeted); n != most || int(refused.Load()) != crowd-most {
		t.Errorf("%d served, %d told to come back, %d otherwise", n, refused.Load(), other.Load())
	}
	grown := resident(t, s.Process.Pid) - before
	close(greeted)
	for conn := range greeted {
		conn.Close()
	}
	peer.Eventually(t, waitDelivery, "room for that address again", func() bool {
		conn, err := call("127.0.0.66")
		if err != nil {
			return false
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(waitDelivery))
		line, _ := bufio.NewReader(conn).ReadString('\n')
		return strings.HasPrefix(line, "220 ")
	})
	if grown > 256<<20 { // with the race detector's share
		t.Errorf("the process has grown by %d octets", grown)
	}
	shown(t, "%d at once: %d served, %d told to come back; %d messages of others meanwhile, the slowest in %v", crowd, most, refused.Load(), served, slowest.Round(time.Millisecond))
}

// resident is what a process has in memory, in octets.
func resident(t *testing.T, pid int) (octets int64) {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Skip(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(content), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
